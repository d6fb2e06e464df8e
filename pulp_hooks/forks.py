"""Forks of the process: other threads finish what they are doing first, and the child knows what it inherited."""

import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

FileIdentity = tuple[int, int]
"""Device and inode of a file: the same under each of its names."""

_PATIENCE_SECONDS = 10.0
"""How long a fork waits for other threads."""


class ForkGate:
    """A block that other threads may be in at any time, but not while the process forks.

    Args:
        close: Called before a fork, if nobody is in the block.
        renew: Called behind a fork in the new process, which has none of the other threads.
    """

    def __init__(self, close: Callable[[], None], renew: Callable[[], None]) -> None:
        self._close = close
        self._renew = renew
        self._state = threading.Condition()
        self._inside: dict[int, int] = {}
        self._is_shut = False
        _gates.add(self)

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._state:
            # Who is in already may go on to where it leaves.
            while self._is_shut and me not in self._inside:
                self._state.wait()
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        with self._state:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                if self._is_shut:
                    self._state.notify_all()

    def shut(self) -> None:
        """Let nobody in, wait until nobody else is inside, and call `close`, unless somebody still is."""
        me = threading.get_ident()
        with self._state:
            self._is_shut = True
            self._state.wait_for(lambda: not self._inside.keys() - {me}, _PATIENCE_SECONDS)
            if not self._inside:
                self._close()

    def open(self) -> None:
        """Let everybody in again."""
        with self._state:
            self._is_shut = False
            self._state.notify_all()

    def renew(self) -> None:
        """Let everybody in, in a process in which nobody else is."""
        self._state = threading.Condition()
        self._inside = {}
        self._is_shut = False
        self._renew()


_gates: WeakSet[ForkGate] = WeakSet()


def _each(action: Callable[[ForkGate], None]) -> None:
    for gate in tuple(_gates):
        action(gate)


_inherited: dict[int, FileIdentity] = {}
"""The files that this process has from its parent, by their descriptors."""


def inherited_files() -> set[FileIdentity]:
    """Return the files that the parent process had open at the fork and that are still open in this one."""
    return {identity for descriptor, identity in _inherited.items() if _regular_file(descriptor) == identity}


def _regular_file(descriptor: int) -> FileIdentity | None:
    with suppress(OSError):  # the descriptor of the list that it was read from is closed by now
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return found.st_dev, found.st_ino
    return None


def _note_inherited() -> None:
    _inherited.clear()
    with suppress(OSError):  # a system that does not list them
        for name in os.listdir("/dev/fd"):  # noqa: PTH208 - descriptors are numbers, not paths
            if (identity := _regular_file(int(name))) is not None:
                _inherited[int(name)] = identity


def _begin_child() -> None:
    _note_inherited()
    _each(ForkGate.renew)


os.register_at_fork(
    before=lambda: _each(ForkGate.shut), after_in_parent=lambda: _each(ForkGate.open), after_in_child=_begin_child
)
