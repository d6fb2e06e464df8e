"""The guard in front of every listener: whatever the listener does, nobody else feels it."""

import asyncio
import decimal
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from time import perf_counter
from typing import TypeAlias, TypeVar, cast

from pulp_hooks.delivery_control import control_in
from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.outcomes import Outcome, Status
from pulp_hooks.event import Event
from pulp_hooks.event_loops import is_loop_running, run_to_end
from pulp_hooks.event_types import EventType
from pulp_hooks.foreign_code import Raised, end_child
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import interruption_in
from pulp_hooks.text import one_line, redacted
from pulp_hooks.tracebacks import traceback_text

_T = TypeVar("_T")

_log = safe_logger("pulp_hooks.dispatch")


def _both(original: Original) -> tuple[object, object]:
    event = original.copy()
    return event.body, event


_Function: TypeAlias = Callable[..., object]

_CALLS: dict[tuple[str, ...], Callable[[_Function], Callable[[Original], object]]] = {
    (): lambda function: lambda _: function(),
    ("body",): lambda function: lambda original: function(original.body()),
    ("event",): lambda function: lambda original: function(original.copy()),
    ("body", "event"): lambda function: lambda original: function(*_both(original)),
    ("event", "body"): lambda function: lambda original: function(*_both(original)[::-1]),
}
"""Calls of a listener with its copies, by the names of its arguments."""


class Guard:
    """Calls one listener's implementation of one hook.

    It hands over private copies, runs `async def` implementations to their end, measures the time, and makes an
    outcome of whatever the implementation raises. Only `KeyboardInterrupt` passes, and what a signal handler of the
    host raises meanwhile. Each call has a copy of the caller's context, and a process that is forked off in a call
    ends with it.

    Args:
        listener: Name of the listener.
        event_type: The event type whose hook this implements.
        function: The implementation, called with its arguments by position.
        arguments: Their names: `body`, `event`, both or neither.
        slow_seconds: A call that takes longer is logged; elapsed seconds.
        secrets: Texts that must not appear in logs and outcomes.

    Attributes:
        listener: Name of the listener.
        hook: Name of the hook.
        is_async: Whether the implementation is an `async def`.
        secrets: Texts that must not appear in logs and outcomes.
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
        started = perf_counter()
        try:
            result = context.run(self._call, original)
            if result is not None:
                context.run(_settle, result)
        except BaseException as error:  # noqa: BLE001 - SystemExit and its like must not leave the listener either
            failure = error
        else:
            seconds = perf_counter() - started
            if process is not _process:
                end_child(None)
            if seconds > self._slow_seconds:
                self._log_slow(original.event, seconds)
            return Outcome(self.listener, self.hook, Status.SUCCEEDED, seconds)
        try:
            return self._failed(failure, original.event, process, perf_counter() - started)
        finally:
            # Its traceback holds this frame: together they would wait for the garbage collector.
            del failure

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
        started = perf_counter()
        try:
            await _in_this_process(cast("Awaitable[object]", self._call(original)))
        except BaseException as error:
            if issubclass(type(error), asyncio.CancelledError) and is_canceled():
                raise
            if issubclass(type(error), GeneratorExit) and not is_loop_running():
                # Its loop was closed, and then this coroutine: nobody waits for an outcome.
                raise
            failure = error
        else:
            seconds = perf_counter() - started
            if seconds > self._slow_seconds:
                self._log_slow(original.event, seconds)
            return Outcome(self.listener, self.hook, Status.SUCCEEDED, seconds)
        try:
            return self._failed(failure, original.event, process, perf_counter() - started)
        finally:
            del failure

    def _failed(self, error: BaseException, event: Event, process: object, seconds: float) -> Outcome:
        """Return the outcome of a call that raised. Not to be called in an `except` block of that exception."""
        if process is not _process:
            end_child(error)
        interruption = interruption_in(error, sys.exc_info()[1])
        if interruption is not None:
            raise interruption
        if seconds > self._slow_seconds:
            self._log_slow(event, seconds)
        text = one_line(error, self.secrets)
        control, is_all = control_in(error)
        if is_all:
            # It was raised on purpose: where is of no interest, and the frames are not to be kept alive.
            _log.warning("listener %s failed in %s, event %s: %s", self.listener, self.hook, event.id, text)
        else:
            _log.error(
                "listener %s failed in %s, event %s: %s\n%s",
                *(self.listener, self.hook, event.id, text, redacted(traceback_text(error), self.secrets)),
            )
        return Outcome(self.listener, self.hook, Status.FAILED, seconds, text, control)

    def _log_slow(self, event: Event, seconds: float) -> None:
        _log.warning("listener %s was slow in %s, event %s: %.3f s", self.listener, self.hook, event.id, seconds)


async def run_together(
    guards: Sequence[Guard],
    original: Original,
    hold: Callable[[Callable[[], list[Outcome]]], list[Outcome]],
    context: Context,
) -> list[Outcome]:
    """Run the guards together: the `async def` ones on the caller's loop, the others in order in one thread.

    Args:
        guards: The guards.
        original: The event.
        hold: Calls a function and keeps the listeners open meanwhile; a thread goes on when its caller is canceled.
        context: The context of the calls, of which each gets a copy.

    Returns:
        The outcomes, in the order of the guards.

    Raises:
        BaseException: Ctrl-C, or what a signal handler of the host has raised.
    """
    loop = asyncio.get_running_loop()
    caller = cast("asyncio.Task[object]", asyncio.current_task())
    before = caller.cancelling()
    plain = [guard for guard in guards if not guard.is_async]

    def run_plain() -> list[Outcome]:
        return [guard.run(original) for guard in plain]

    async def in_thread() -> list[Outcome]:
        return await loop.run_in_executor(None, lambda: context.run(hold, run_plain)) if plain else []

    def is_canceled() -> bool:
        return caller.cancelling() > before

    first, *others = await asyncio.gather(
        _carried(in_thread()),
        *(
            loop.create_task(_carried(guard.run_async(original, is_canceled)), context=context.copy())
            for guard in guards
            if guard.is_async
        ),
    )
    # Raised in the caller's task: out of one of its own it would break the loop under the caller.
    for result in (first, *others):
        if isinstance(result, Raised):
            raise result.error
    from_thread, from_loop = iter(cast("list[Outcome]", first)), iter(cast("list[Outcome]", others))
    return [next(from_loop if guard.is_async else from_thread) for guard in guards]


async def _carried(running: Awaitable[_T]) -> _T | Raised:
    try:
        return await running
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
        return Raised(error)


def _settle(result: object) -> None:
    """Run what a plain function returned, where that has to be run."""
    if inspect.isawaitable(result):
        run_to_end(_in_this_process(result))
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("it returned a generator, whose code nobody runs")


async def _in_this_process(awaitable: Awaitable[object]) -> None:
    """Await something, and end a child process that comes out of it, before its copy of the event loop goes on."""
    process = _process
    try:
        await awaitable
    except BaseException as error:
        if process is not _process:
            end_child(error)
        raise
    if process is not _process:
        end_child(None)


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
