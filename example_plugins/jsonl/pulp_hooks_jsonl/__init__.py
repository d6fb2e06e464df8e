"""A notifier for pulp_hooks: appends each event to a file, as one line of JSON."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from marshmallow import fields
from marshmallow.validate import Length

from pulp_hooks import Event, Notifier


class JsonLines(Notifier):
    """Appends each event to the file `path`; any number of threads and processes may use one file.

    Between two events it holds neither a descriptor nor a lock, so there is nothing to close, and a process may fork
    at any time.

    Raises:
        OSError: The file cannot be opened, or is no regular one; the message has its path.
    """

    class Config(Notifier.Config):
        """`path` of the file; a relative one is relative to the working directory at the start of the host."""

        path = fields.String(
            required=True,
            validate=Length(min=1, error="must not be empty"),
            error_messages={"required": "is missing", "invalid": "must be text"},
        )

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._path = Path(config["path"]).absolute()
        # What is wrong with the path is said now, by `pulp-hooks check` too, and not when events are lost already.
        with _locked(self._path):
            if not self._path.is_file():
                raise OSError(f"{self._path} is no regular file")

    def notify(self, event: Event) -> None:
        """Append the event."""
        line = event.to_json().encode() + b"\n"
        with _locked(self._path) as descriptor:
            _append(descriptor, line)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Yield a descriptor of the file at this path, made if need be, which nobody else writes to in this block.

    It is opened anew each time: a descriptor that was kept would be shared, lock included, with forked processes, and
    would go on writing to a file that was rotated away.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if _is_at(path, descriptor):
                    yield descriptor
                    return
            finally:
                # Closing would not do: a process that was forked in the meantime has the descriptor and its lock too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether this is still the file at that path, and was not rotated away while we waited for the lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _append(descriptor: int, line: bytes) -> None:
    """Write the whole line or nothing."""
    size = os.fstat(descriptor).st_size
    # What a killed writer has left behind becomes a line of its own.
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    rest = memoryview(b"\n" + line if torn else line)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.ftruncate(descriptor, size)
        raise
