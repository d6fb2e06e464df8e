"""Forks of the process: what other threads are in the midst of has to be over when the process is copied."""

import os
import threading
from collections.abc import Callable
from weakref import WeakSet

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


os.register_at_fork(
    before=lambda: _each(ForkGate.shut),
    after_in_parent=lambda: _each(ForkGate.open),
    after_in_child=lambda: _each(ForkGate.renew),
)
