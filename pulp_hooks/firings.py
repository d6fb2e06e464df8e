"""The events on their way: what closes the listeners waits until they have arrived."""

import threading
from collections.abc import Callable
from contextvars import ContextVar, Token

from pulp_hooks.errors import ClosedError
from pulp_hooks.forks import ForkGate

_inside: ContextVar[frozenset["Firing"]] = ContextVar("pulp_hooks_inside", default=frozenset())
"""The firings that the running code is part of, also in other threads and tasks."""


class Firings:
    """Counts the firings of one host, and closes its listeners once, when the last of them is over.

    Args:
        close_listeners: Closes them.
    """

    def __init__(self, close_listeners: Callable[[], None]) -> None:
        self._close_listeners = close_listeners
        self._state = threading.Condition()
        self._running: set[Firing] = set()
        self._closing = False
        self._closed = False
        self._gate = ForkGate(lambda: None, self._renew)

    def _renew(self) -> None:
        # A process that was forked off has one thread; what the others fired is the parent's.
        own = threading.get_ident()
        self._state = threading.Condition()
        self._running = {firing for firing in self._running if firing.thread == own}

    def hold(self) -> "Firing":
        """Give a block in which an event is on its way.

        Raises:
            ClosedError: On entry, when `close` was called before.
        """
        return Firing(self)

    def close(self) -> None:
        """Take no more firings, wait for those of others, and close the listeners.

        Listeners that call this, and a loop with an event on its way, cannot wait for themselves: what they are part
        of closes the listeners when it is over.
        """
        with self._state:
            self._closing = True
            own, mine = threading.get_ident(), _inside.get()
            self._state.wait_for(lambda: all(firing.thread == own or firing in mine for firing in self._running))
        self._close_at_last()

    def refuse_when_closed(self) -> None:
        """Raise `ClosedError` when `close` was called, except inside of a firing that is still under way."""
        if self._closing and not _inside.get() & self._running:
            raise ClosedError("these hooks are closed; fire before close(), or inside the `with` block")

    def begin(self, firing: "Firing") -> None:
        """Count a firing."""
        with self._state:
            self.refuse_when_closed()
            self._running.add(firing)

    def end(self, firing: "Firing") -> None:
        """Count it no longer."""
        with self._state:
            self._running.remove(firing)
            if not self._closing:
                return
            self._state.notify_all()
        self._close_at_last()

    def _close_at_last(self) -> None:
        with self._state:
            if self._running or self._closed:
                return
            self._closed = True
        self._close_listeners()


class Firing:
    """One event on its way, as a `with` block."""

    __slots__ = ("_firings", "_token", "thread")

    def __init__(self, firings: Firings) -> None:
        self._firings = firings
        self._token: Token[frozenset[Firing]] | None = None
        self.thread = threading.get_ident()

    def __enter__(self) -> None:
        self._firings.begin(self)
        self._token = _inside.set(_inside.get() | {self})

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _inside.reset(self._token)
        self._firings.end(self)
