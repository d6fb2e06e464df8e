"""The guard of a listener: it calls the listener, and isolates everybody else from whatever that does."""

import asyncio
import decimal
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias, cast

from pulp_hooks.delivery_control import control_in
from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.details import detail_of, detail_of_error
from pulp_hooks.dispatch.failures import traceback_of
from pulp_hooks.dispatch.outcomes import Outcome, Status
from pulp_hooks.event import Event
from pulp_hooks.event_loops import is_loop_running, run_to_end
from pulp_hooks.event_types import EventType
from pulp_hooks.foreign_code import end_child
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import interruption_in
from pulp_hooks.text import one_line

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import JsonValue

_log = safe_logger("pulp_hooks.dispatch")


_Function: TypeAlias = Callable[..., object]
_Call: TypeAlias = Callable[[Original], object]


def _with_body_and_event(function: _Function) -> _Call:
    def call(original: Original) -> object:
        event = original.copy()
        return function(event.body, event)

    return call


def _with_event_and_body(function: _Function) -> _Call:
    def call(original: Original) -> object:
        event = original.copy()
        return function(event, event.body)

    return call


def _with_nothing(function: _Function) -> _Call:
    def call(original: Original) -> object:
        original.is_handed_out = True
        return function()

    return call


_CALLS: dict[tuple[str, ...], Callable[[_Function], _Call]] = {
    (): _with_nothing,
    ("body",): lambda function: lambda original: function(original.body()),
    ("event",): lambda function: lambda original: function(original.copy()),
    ("body", "event"): _with_body_and_event,
    ("event", "body"): _with_event_and_body,
}
"""How to call a listener with its copies, by the names of its arguments."""

# To look up a member of an enumeration takes as long as to copy a context.
_SUCCEEDED = Status.SUCCEEDED


class Guard:
    """Calls one listener's implementation of one hook.

    It passes private copies, runs `async def` implementations to their end, measures the time, and returns an outcome
    whatever the implementation raises. Only `KeyboardInterrupt` propagates, so Ctrl-C still works, and what a signal
    handler of the host raises meanwhile. Each call has a copy of the caller's context, and a process that is forked in
    a call ends with it. Callers log failures, as they know what follows.

    Args:
        listener: Name of the listener.
        event_type: The event type whose hook this implements.
        function: The implementation, called with its arguments by position.
        arguments: Their names: `body`, `event`, both or neither.
        slow_seconds: A call that takes longer is logged; elapsed seconds.
        secrets: Texts that outcomes must not show.

    Attributes:
        listener: Name of the listener.
        hook: Name of the hook.
        is_async: Whether the implementation is an `async def`.
        secrets: Texts that outcomes must not show.
    """

    __slots__ = ("_call", "_slow_seconds", "hook", "is_async", "listener", "secrets")

    def __init__(  # noqa: PLR0913 - each is one fact about the implementation
        self,
        *,
        listener: str,
        event_type: EventType,
        function: Callable[..., object],
        arguments: Sequence[str],
        slow_seconds: float,
        secrets: Sequence[str] = (),
    ) -> None:
        self.listener = listener
        self.is_async = inspect.iscoroutinefunction(function)
        self._call = _CALLS[tuple(arguments)](function)
        self.hook = event_type.hook_name
        self._slow_seconds = slow_seconds
        self.secrets = secrets

    def run(self, original: Original) -> Outcome:
        """Call the implementation and wait for its end; an `async def` one runs on an event loop of its own.

        Raises:
            BaseException: Ctrl-C, or what a signal handler of the host has raised.
        """
        context = copy_context()
        arithmetic = _DECIMAL.get(None)
        if arithmetic is not None:
            # The copy of a context has the same object of `decimal`, which is changed in place.
            context.run(decimal.setcontext, arithmetic.copy())
        process = _process
        detail = None
        started = perf_counter()
        try:
            result = context.run(self._call, original)
            if result is not None:
                detail = context.run(_settled, result, self.secrets)
        except BaseException as error:  # noqa: BLE001 - SystemExit and its like must not leave the listener either
            raised = [error]
        else:
            seconds = perf_counter() - started
            if process is not _process:
                end_child(None)
            if seconds > self._slow_seconds:
                self._log_slow(original.event, seconds)
            return Outcome(self.listener, self.hook, _SUCCEEDED, seconds, None, detail)
        # Not a variable: the exception's traceback has this frame, and both would wait for the garbage collector.
        return self._failed(raised.pop(), original.event, process, perf_counter() - started)

    async def run_async(self, original: Original, is_canceled: Callable[[], bool]) -> Outcome:
        """Call the `async def` implementation and await it on the caller's event loop, in a task of its own.

        Args:
            original: The event.
            is_canceled: Returns whether it is the caller who was canceled.

        Raises:
            asyncio.CancelledError: The caller was canceled, not the listener.
            GeneratorExit: The event loop was closed meanwhile.
            BaseException: Ctrl-C, or what a signal handler of the host has raised.
        """
        arithmetic = _DECIMAL.get(None)
        if arithmetic is not None:
            decimal.setcontext(arithmetic.copy())
        process = _process
        detail = None
        started = perf_counter()
        try:
            result = await _in_this_process(cast("Awaitable[object]", self._call(original)))
            if result is not None:
                detail = detail_of(result, self.secrets)
        except BaseException as error:
            if issubclass(type(error), asyncio.CancelledError) and is_canceled():
                raise
            if issubclass(type(error), GeneratorExit) and not is_loop_running():
                # Its loop was closed, and then this coroutine: nobody waits for an outcome.
                raise
            raised = [error]
        else:
            seconds = perf_counter() - started
            if seconds > self._slow_seconds:
                self._log_slow(original.event, seconds)
            return Outcome(self.listener, self.hook, _SUCCEEDED, seconds, None, detail)
        return self._failed(raised.pop(), original.event, process, perf_counter() - started)

    def _failed(self, error: BaseException, event: Event, process: object, seconds: float) -> Outcome:
        """Return the outcome of a call that raised. Not to be called in an `except` block of that exception."""
        if process is not _process:
            end_child(error)
        interruption = interruption_in(error, sys.exc_info()[1])
        if interruption is not None:
            raise interruption
        if seconds > self._slow_seconds:
            self._log_slow(event, seconds)
        text, detail = one_line(error, self.secrets), detail_of_error(error, self.secrets)
        control, is_all = control_in(error)
        if is_all:
            # It was raised on purpose: where is of no interest, and its frames are not kept alive.
            return Outcome(self.listener, self.hook, Status.FAILED, seconds, text, detail, control=control)
        traceback, shown = traceback_of(error, text, self.secrets)
        return Outcome(self.listener, self.hook, Status.FAILED, seconds, text, detail, traceback, control, [shown])

    def _log_slow(self, event: Event, seconds: float) -> None:
        _log.warning("listener %s was slow in %s, event %s: %.3f s", self.listener, self.hook, event.id, seconds)


def _settled(result: object, secrets: Sequence[str]) -> "dict[str, JsonValue] | None":
    """Return the detail in what a plain function returned, which is run to its end where it has to be."""
    if inspect.isawaitable(result):
        result = run_to_end(_in_this_process(result))
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("it returned a generator, whose code nobody runs")
    return None if result is None else detail_of(result, secrets)


async def _in_this_process(awaitable: Awaitable[object]) -> object:
    """Await something, and end a child process that comes out of it, before its copy of the event loop goes on."""
    process = _process
    try:
        result = await awaitable
    except BaseException as error:
        if process is not _process:
            end_child(error)
        raise
    if process is not _process:
        end_child(None)
    return result


_process = object()
"""Stands for this process. To compare it costs a tenth of what `os.getpid` does."""


def _begin_child() -> None:
    global _process  # noqa: PLW0603 - there is one process
    _process = object()


os.register_at_fork(after_in_child=_begin_child)


def _decimal_variable() -> "ContextVar[decimal.Context | None]":
    """Return the variable in which `decimal` keeps its context; unlike `getcontext`, it tells whether there is one."""
    context = Context()
    context.run(decimal.getcontext)
    return next(iter(context))


_DECIMAL = _decimal_variable()
