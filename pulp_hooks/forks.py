"""Forks of the process: other threads finish what they are doing first, and the child knows what it inherited."""

import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

FileIdentity = tuple[int, int]
"""Device and inode of a file: the same under each of its names."""

_PATIENCE_SECONDS = 10.0
"""How long a fork waits for other threads."""


_LOOK_SECONDS = 0.001
"""How long a thread sleeps before it looks again whether a fork is over, or whether others are."""


class ForkGate:
    """Keeps the process from forking while other threads are in a `passage`.

    A passage counts as long as its object lives, which the frame of the `with` block holds. So an exception of a signal
    handler, which may arrive between any two bytecodes, leaves no passage behind that is never left.

    Args:
        close: Called before a fork, if nobody is in a passage.
        renew: Called after a fork in the new process, which has none of the other threads.
    """

    def __init__(self, close: Callable[[], None], renew: Callable[[], None]) -> None:
        self._close = close
        self._renew = renew
        # Not a Condition: an exception inside its `__enter__`, which is Python code, would leave it locked for ever.
        self._lock = threading.RLock()
        self._passages: WeakSet[Passage] = WeakSet()
        self._is_shut = False
        _gates.add(self)

    def passage(self) -> "Passage":
        """Return a context manager around a block that no fork of another thread interrupts."""
        return Passage(self)

    def enter(self, passage: "Passage") -> None:
        """Count a passage, as soon as no other thread is about to fork."""
        while True:
            with self._lock:
                # A thread that is inside already may go on until it leaves.
                if not self._is_shut or self.is_inside():
                    self._passages.add(passage)
                    return
            time.sleep(_LOOK_SECONDS)

    def leave(self, passage: "Passage") -> None:
        """Count a passage no longer."""
        with self._lock:
            self._passages.discard(passage)

    def is_inside(self) -> bool:
        """Return whether the calling thread is in a passage."""
        me = threading.get_ident()
        with self._lock:
            return any(passage.thread == me for passage in self._passages)

    def shut(self) -> None:
        """Let nobody in, wait until no other thread is inside, and call `close` unless this thread is inside."""
        me = threading.get_ident()
        with self._lock:
            self._is_shut = True
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with self._lock:
                inside = {passage.thread for passage in self._passages}
            if not inside:
                self._close()
            if inside <= {me}:
                return
            time.sleep(_LOOK_SECONDS)

    def open(self) -> None:
        """Let everybody in again."""
        self._is_shut = False

    def renew(self) -> None:
        """Let everybody in, in a new process that has no other thread."""
        self._lock = threading.RLock()
        self._passages = WeakSet()
        self._is_shut = False
        self._renew()


class Passage:
    """One `with` block behind a gate.

    Attributes:
        thread: The thread that is inside.
    """

    __slots__ = ("__weakref__", "_gate", "thread")

    def __init__(self, gate: ForkGate) -> None:
        self._gate = gate
        self.thread = threading.get_ident()

    def __enter__(self) -> None:
        self._gate.enter(self)

    def __exit__(self, *_: object) -> None:
        self._gate.leave(self)


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


class OwnProcess:
    """Placeholder."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._process = os.getpid()

    def is_own(self) -> bool:
        return self._process == os.getpid()

    def check(self) -> None:
        pass
