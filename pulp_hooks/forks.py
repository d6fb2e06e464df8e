"""Forked children: what belongs to the parent is refused there at once, and is neither used nor closed."""

import os
import stat
from contextlib import suppress
from weakref import WeakSet

from pulp_hooks.errors import ClosedError

FileIdentity = tuple[int, int]
"""Device and inode of a file: the same under each of its names."""

process = object()
"""Stands for this process; a child replaces it. To compare it costs a tenth of what `os.getpid` does."""

_kept: "WeakSet[object]" = WeakSet()
_inherited: dict[int, FileIdentity] = {}
"""The files that this process inherited open, by their descriptors."""


class OwnProcess:
    """The process that created an object, which no other process may use.

    A child has none of its parent's threads, and must not use connections that its parent goes on with.

    Args:
        name: Name of the object in messages, in the plural.
    """

    __slots__ = ("_name", "_process")

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = process

    @property
    def is_parent(self) -> bool:
        """Whether the object was created before this process was forked."""
        return self._process is not process

    def check(self) -> None:
        """Check that this process created the object.

        Raises:
            ClosedError: It was created before this process was forked.
        """
        if self._process is not process:
            raise ClosedError(
                f"{self._name} belong to the parent process, which forked this one; "
                "fix: create Hooks after the fork, in each process"
            )


def keep_in_children(owner: object) -> None:
    """Keep an object, and all that it refers to, from being finalized in forked children."""
    # Imported here, as only a journal needs it; in the child it might wait for the import of a thread that is gone.
    import ctypes  # noqa: F401, PLC0415

    _kept.add(owner)


def _leak(owner: object) -> None:
    """Take a reference that is never given back.

    A child that closes a connection of its parent does harm: SQLite may take it for the last one and delete the
    write-ahead log, and a driver of PostgreSQL ends the parent's session. A finalizer does the same as a call of
    `close`. A list that refers to the connections would not be enough, because the interpreter clears all modules when
    it exits; a reference that nobody owns keeps them until the process is gone.
    """
    import ctypes  # noqa: PLC0415 - see `keep_in_children`

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


def inherited_files() -> set[FileIdentity]:
    """Return the files that the parent process had open at the fork and that are still open in this one."""
    return {identity for descriptor, identity in _inherited.items() if _regular_file(descriptor) == identity}


def _regular_file(descriptor: int) -> FileIdentity | None:
    with suppress(OSError):  # the descriptor of the list that it was read from is closed by now
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return found.st_dev, found.st_ino
    return None


def _begin_child() -> None:
    global process  # noqa: PLW0603 - there is one process
    process = object()
    for owner in tuple(_kept):
        _leak(owner)
    _inherited.clear()
    with suppress(OSError):  # a system that does not list them
        for name in os.listdir("/dev/fd"):  # noqa: PTH208 - descriptors are numbers, not paths
            if (identity := _regular_file(int(name))) is not None:
                _inherited[int(name)] = identity


os.register_at_fork(after_in_child=_begin_child)
