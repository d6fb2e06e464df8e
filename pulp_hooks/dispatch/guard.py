"""The guard of a listener: it calls the listener, and isolates the host and other listeners from its failures."""

import asyncio
import decimal
import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias, cast

from pulp_hooks import forks
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
"""How to call a listener with its private copies, by the names of its arguments."""

# Looking up an enum member takes as long as copying a context.
_SUCCEEDED = Status.SUCCEEDED


class Guard:
    """Calls one listener's implementation of one hook.

    It passes private copies, awaits `async def` implementations, measures the time, and returns an outcome whatever
    the implementation raises. Only `KeyboardInterrupt` (so Ctrl-C still works) and exceptions raised by the host's own
    signal handlers propagate. Each call runs in a copy of the caller's context. A process forked in a call ends with
    the call. Callers log failures, because they know whether a retry follows.

    Args:
        listener: Name of the listener.
        event_type: The event type of the hook.
        function: The implementation, called with its arguments by position.
        arguments: Their names: `body`, `event`, both or neither.
        slow_seconds: Duration above which a call is logged as slow; seconds.
        secrets: Strings to redact in outcomes.

    Attributes:
        hook: Name of the hook.
        is_async: Whether the implementation is an `async def`.
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
        """Call the implementation and return the outcome; an `async def` one runs on a private event loop.

        Raises:
            BaseException: Ctrl-C, or an exception raised by a signal handler of the host.
        """
        context = copy_context()
        arithmetic = _DECIMAL.get(None)
        if arithmetic is not None:
            # A copied context shares the `decimal` context, which is mutable.
            context.run(decimal.setcontext, arithmetic.copy())
        process = forks.process
        detail = None
        started = perf_counter()
        try:
            result = context.run(self._call, original)
            if result is not None:
                detail = context.run(_settled, result, self.secrets)
        except BaseException as error:  # noqa: BLE001 - SystemExit must not leave the listener either
            raised = [error]
        else:
            seconds = perf_counter() - started
            if process is not forks.process:
                end_child(None)
            if seconds > self._slow_seconds:
                self._log_slow(original.event, seconds)
            return Outcome(self.listener, self.hook, _SUCCEEDED, seconds, None, detail)
        # Popped, not kept in a variable: the traceback refers to this frame, and both would form a reference cycle.
        return self._failed(raised.pop(), original.event, process, perf_counter() - started)

    async def run_async(self, original: Original, is_canceled: Callable[[], bool]) -> Outcome:
        """Await the `async def` implementation on the caller's event loop, and return the outcome.

        Raises:
            asyncio.CancelledError: The caller was canceled, not the listener.
            GeneratorExit: The event loop was closed during the call.
            BaseException: Ctrl-C, or an exception raised by a signal handler of the host.
        """
        arithmetic = _DECIMAL.get(None)
        if arithmetic is not None:
            decimal.setcontext(arithmetic.copy())
        process = forks.process
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
                # The loop was closed, and this coroutine with it: nothing awaits an outcome.
                raise
            raised = [error]
        else:
            seconds = perf_counter() - started
            if seconds > self._slow_seconds:
                self._log_slow(original.event, seconds)
            return Outcome(self.listener, self.hook, _SUCCEEDED, seconds, None, detail)
        return self._failed(raised.pop(), original.event, process, perf_counter() - started)

    def _failed(self, error: BaseException, event: Event, process: object, seconds: float) -> Outcome:
        """Return the outcome of a call that raised. Call this outside of the `except` block."""
        if process is not forks.process:
            end_child(error)
        interruption = interruption_in(error, sys.exc_info()[1])
        if interruption is not None:
            raise interruption
        if seconds > self._slow_seconds:
            self._log_slow(event, seconds)
        text, detail = one_line(error, self.secrets), detail_of_error(error, self.secrets)
        control, is_all = control_in(error)
        if is_all:
            # Raised on purpose: its traceback has no value, and would keep frames alive.
            return Outcome(self.listener, self.hook, Status.FAILED, seconds, text, detail, control=control)
        traceback, shown = traceback_of(error, text, self.secrets)
        return Outcome(self.listener, self.hook, Status.FAILED, seconds, text, detail, traceback, control, [shown])

    def _log_slow(self, event: Event, seconds: float) -> None:
        _log.warning("listener %s was slow in %s, event %s: %.3f s", self.listener, self.hook, event.id, seconds)


def _settled(result: object, secrets: Sequence[str]) -> "dict[str, JsonValue] | None":
    """Return the detail in the result of a plain function; an awaitable result is awaited first."""
    if inspect.isawaitable(result):
        result = run_to_end(_in_this_process(result))
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("the listener returned a generator, which is never run; fix: remove the yield")
    return None if result is None else detail_of(result, secrets)


async def _in_this_process(awaitable: Awaitable[object]) -> object:
    """Await something; a child process forked meanwhile ends here, before it continues its copy of the event loop."""
    process = forks.process
    try:
        result = await awaitable
    except BaseException as error:
        if process is not forks.process:
            end_child(error)
        raise
    if process is not forks.process:
        end_child(None)
    return result


def _decimal_variable() -> "ContextVar[decimal.Context | None]":
    """Return the variable that holds the `decimal` context; unlike `getcontext`, reading it does not create one."""
    context = Context()
    context.run(decimal.getcontext)
    return next(iter(context))


_DECIMAL = _decimal_variable()
