"""Limits and retries shared by the sources and the downloads."""

from collections.abc import Callable
from typing import TypeVar

from pulp_hooks.errors import MirrorError

MIN_SPEED = 1000  # bytes per second, as in dnf
CHANGED_TRIES = 3

_Result = TypeVar("_Result")


class ChangedError(Exception):
    """A file changed on the server between pieces of its download. A new download may succeed."""


def retry_changed(read: Callable[[], _Result]) -> _Result:
    """Return the result of reading a file, and start again if the file changed meanwhile.

    Raises:
        MirrorError: The file cannot be read, or changed on every try.
    """
    reason = ""
    for _ in range(CHANGED_TRIES):
        try:
            return read()
        except ChangedError as error:
            reason = str(error)
    raise MirrorError(reason)
