"""What both ends of a transfer know: the least speed, and what to do if a file changed meanwhile."""

from collections.abc import Callable
from typing import TypeVar

from pulp_hooks.errors import MirrorError

MIN_SPEED = 1000  # bytes per second, as in dnf
CHANGED_TRIES = 3

_Result = TypeVar("_Result")


class ChangedError(Exception):
    """A file changed on the server while it was downloaded in several pieces: another try may get it whole."""


def retry_changed(read: Callable[[], _Result]) -> _Result:
    """Return the result of a read, which is tried again from the start if the file changed meanwhile.

    Args:
        read: Opens and reads the file.

    Raises:
        MirrorError: It cannot be read, or changed each time.
    """
    reason = ""
    for _ in range(CHANGED_TRIES):
        try:
            return read()
        except ChangedError as error:
            reason = str(error)
    raise MirrorError(reason)
