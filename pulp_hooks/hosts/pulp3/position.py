"""How far a server has been watched: a cursor and the tasks around it, stored in a file that survives a crash."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from pulp_hooks.errors import PulpError
from pulp_hooks.hosts.pulp3.tasks import time_of

WIDE_OVERLAP = timedelta(seconds=120)
"""How far before the cursor finished tasks are looked for from time to time."""

_KEPT = 2 * WIDE_OVERLAP
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


@dataclass(slots=True)
class Position:
    """How far a server has been watched, by the times that the server itself has shown.

    Attributes:
        cursor: The greatest finishing time seen; null before the first look.
        reported: Finishing times of the tasks reported, by their UUIDs, as far as they can be shown again.
        running: UUIDs of the tasks that were running at the last look, and whether their started event was fired.
    """

    cursor: datetime | None = None
    reported: dict[str, datetime] = field(default_factory=dict)
    running: dict[str, bool] = field(default_factory=dict)

    def report(self, task: str, finished: datetime) -> None:
        """Note that the events of a finished task have been fired."""
        self.reported[task] = finished
        self.running.pop(task, None)

    def advance(self, finished: datetime) -> None:
        """Move the cursor, if this is a later time."""
        if self.cursor is None or finished > self.cursor:
            self.cursor = finished

    def prune(self) -> None:
        """Drop the reported tasks that are too old to be shown again."""
        if self.cursor is not None:
            oldest = self.cursor - _KEPT
            self.reported = {task: time for task, time in self.reported.items() if time >= oldest}


class StateFolder:
    """The folder with a file for the position in each server. One process at a time may use it.

    Args:
        folder: Path of the folder; it is created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Return a context manager in which no other process uses the folder.

        Raises:
            PulpError: Another process uses it, or it cannot be created.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self._folder / ".lock", timeout=0).acquire()
        except Timeout:
            raise PulpError(
                f"another watcher uses the state folder {self._folder}; fix: stop it, or pass another --state"
            ) from None
        except OSError as error:
            raise PulpError(f"the state folder {self._folder} cannot be used: {error.strerror}") from None
        with lock:
            yield

    def load(self, name: str) -> Position:
        """Return the position in a server; that of a first start if there is none.

        Raises:
            PulpError: The file cannot be read.
        """
        path = self._path(name)
        try:
            stored = json.loads(path.read_bytes())
            cursor = None if stored["cursor"] is None else _time(stored["cursor"])
            reported = {str(task): _time(time) for task, time in stored["reported"].items()}
            return Position(cursor, reported, {str(task): bool(fired) for task, fired in stored["running"].items()})
        except FileNotFoundError:
            return Position()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not what a watcher stores"
            raise PulpError(
                f"the state file {path} cannot be read: {reason}; "
                "fix: delete it, and pass --since with the time from which on events are missing"
            ) from None

    def save(self, name: str, position: Position) -> None:
        """Store the position in a server; after a crash the file is the old one or the new one.

        Raises:
            PulpError: The file cannot be written.
        """
        path = self._path(name)
        new = path.with_suffix(".new")
        stored = {
            "cursor": position.cursor and position.cursor.isoformat(),
            "reported": {task: time.isoformat() for task, time in position.reported.items()},
            "running": position.running,
        }
        try:
            with new.open("w", encoding="ascii") as file:
                file.write(json.dumps(stored))
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise PulpError(f"the state file {path} cannot be written: {error.strerror}") from None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _time(text: object) -> datetime:
    time = time_of(text)
    if time is None or not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise ValueError(text)
    return time
