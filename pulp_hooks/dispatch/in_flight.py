"""Events in flight: the listeners are closed after the last event in flight has been dispatched."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import NamedTuple, ParamSpec, TypeVar

from pulp_hooks.errors import ClosedError

_P = ParamSpec("_P")
_T = TypeVar("_T")

_inside: ContextVar[frozenset[int]] = ContextVar("pulp_hooks_inside", default=frozenset())
"""Numbers of the events in flight that the running code belongs to, also in other threads and tasks."""

_numbers = count()

_LOOK_SECONDS = 0.005
"""How often `close` checks whether other threads have events in flight."""


class _InFlight(NamedTuple):
    """One event in flight.

    Attributes:
        thread: Identifier of the thread that fired it.
        loop: The event loop on which it was fired; null outside of coroutines.
    """

    thread: int
    loop: asyncio.AbstractEventLoop | None

    def is_lost(self) -> bool:
        """Return whether its loop was closed, so that its dispatch can never finish."""
        return self.loop is not None and self.loop.is_closed()

    def is_paused(self) -> bool:
        """Return whether its loop is not running, so that its dispatch may never finish."""
        return self.loop is not None and not self.loop.is_running()


class EventsInFlight:
    """The events in flight of one host; closes the listeners once, after the last of them.

    An exception from a signal handler may arrive between any two bytecodes. So there is no context manager here, whose
    `__exit__` it could skip, and no lock. Instead an event is added to a dictionary before the check for `close`, and
    removed at the start of a `finally` block; each step is one call in C.
    """

    def __init__(self, close_listeners: Callable[[], None]) -> None:
        self._close_listeners = close_listeners
        self._events: dict[int, _InFlight] = {}
        self._closing = False
        # The thread that pops the item closes the listeners.
        self._open = [True]

    def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function that dispatches an event, in a copy of the caller's context, and return what it returns.

        Raises:
            ClosedError: `close` was called.
        """
        number = next(_numbers)
        try:
            self._events[number] = _InFlight(threading.get_ident(), None)
            self.refuse_when_closed()
            return self._context(number).run(work, *args, **kwargs)
        finally:
            self._events.pop(number, None)
            if self._closing:
                self._close_at_last()

    async def run_async(self, work: Callable[[Callable[[], Context]], Awaitable[_T]]) -> _T:
        """Await a function that dispatches an event, and return what it returns.

        Args:
            work: The function. Its argument is a function that returns the context for the listeners.

        Raises:
            ClosedError: `close` was called.
        """
        number = next(_numbers)
        try:
            self._events[number] = _InFlight(threading.get_ident(), asyncio.get_running_loop())
            self.refuse_when_closed()
            return await work(lambda: self._context(number))
        finally:
            self._events.pop(number, None)
            if self._closing:
                self._close_at_last()

    @staticmethod
    def _context(number: int) -> Context:
        """Return a copy of the caller's context, marked as belonging to this event."""
        context = copy_context()
        context.run(_inside.set, _inside.get() | {number})
        return context

    def close(self) -> None:
        """Refuse new events, wait for those of other threads, and close the listeners.

        A call from a listener, or on a loop with an event in flight, does not wait: it would wait for itself. The
        listeners are then closed at the end of that event.
        """
        self._closing = True
        own, mine = threading.get_ident(), _inside.get()
        while any(
            event.thread != own and number not in mine and not event.is_paused()
            for number, event in tuple(self._events.items())
        ):
            time.sleep(_LOOK_SECONDS)
        self._close_at_last()

    def refuse_when_closed(self) -> None:
        """Raise `ClosedError` if `close` was called, except in code that belongs to an event in flight."""
        if self._closing and not _inside.get() & self._events.keys():
            raise ClosedError("these Hooks are closed; fix: fire before close(), or inside the `with` block")

    def _close_at_last(self) -> None:
        if not all(event.is_lost() for event in tuple(self._events.values())):
            return
        try:
            self._open.pop()
        except IndexError:
            return
        self._close_listeners()
