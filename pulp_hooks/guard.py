"""The guard in front of every listener: whatever the listener does, nobody else feels it."""

import asyncio
import inspect
import marshal
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pulp_hooks.event import Event
from pulp_hooks.event_loops import run_to_end
from pulp_hooks.event_types import EventType
from pulp_hooks.outcomes import Outcome, Status
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.steering import Steering
from pulp_hooks.text import one_line, redacted

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import Body

_T = TypeVar("_T")

_log = safe_logger(__name__)


class Original:
    """An event as the host fired it, of which each listener gets a copy of its own.

    Only the containers inside need copying; they are kept as bytes, which are read faster than objects are copied, and
    which nobody can change.
    """

    __slots__ = ("_call_report", "_containers", "event")

    def __init__(self, event: Event) -> None:
        self.event = event
        self._containers = _frozen({name: value for name, value in event.body.items() if type(value) in _CONTAINERS})
        self._call_report = None if event.call_report is None else _frozen(event.call_report)

    def body(self) -> "Body":
        """Give a copy of the body."""
        body: Body = self.event.body | _thawed(self._containers)
        return body

    def copy(self) -> Event:
        """Give a copy of the event."""
        call_report = None if self._call_report is None else _thawed(self._call_report)
        return self.event.with_body(self.body(), call_report)


_CONTAINERS = (dict, list)


def _frozen(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return marshal.dumps(value, 2)


def _thawed(octets: bytes) -> Any:  # noqa: ANN401 - what was frozen
    # The bytes were written a moment ago in this process: they are no input.
    return marshal.loads(octets)  # noqa: S302


def _both(original: Original) -> tuple[object, object]:
    event = original.copy()
    return event.body, event


_ARGUMENTS: dict[tuple[str, ...], Callable[[Original], tuple[object, ...]]] = {
    (): lambda _: (),
    ("body",): lambda original: (original.body(),),
    ("event",): lambda original: (original.copy(),),
    ("body", "event"): _both,
    ("event", "body"): lambda original: _both(original)[::-1],
}
"""A listener's copies, by the names of its arguments."""


class Guard:
    """Calls one listener's implementation of one hook.

    It hands over private copies, runs `async def` implementations to their end, measures the time, and makes an
    outcome of whatever the implementation raises: only `KeyboardInterrupt` passes.

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

    __slots__ = ("_arguments", "_function", "_slow_seconds", "hook", "is_async", "listener", "secrets")

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
        self._function = function
        self._arguments = _ARGUMENTS[tuple(arguments)]
        self.hook = event_type.hook_name
        self._slow_seconds = slow_seconds
        self.secrets = secrets

    def run(self, original: Original) -> Outcome:
        """Call the implementation and wait for its end; an `async def` one runs on an event loop of its own."""
        started = perf_counter()
        try:
            result = self._function(*self._arguments(original))
            if result is not None:
                _settle(result)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and its like must not leave the listener either
            return self._failed(error, original.event, perf_counter() - started)
        return self._succeeded(original.event, perf_counter() - started)

    async def run_async(self, original: Original, is_canceled: Callable[[], bool]) -> Outcome:
        """Call the `async def` implementation and await it on the caller's event loop.

        Args:
            original: The event.
            is_canceled: Tells whether it is the caller who was canceled.

        Raises:
            asyncio.CancelledError: The caller was canceled, not the listener.
        """
        started = perf_counter()
        try:
            await self._function(*self._arguments(original))  # type: ignore[misc] # `is_async` says that it gives an awaitable
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_canceled():
                raise
            return self._failed(error, original.event, perf_counter() - started)
        return self._succeeded(original.event, perf_counter() - started)

    def _succeeded(self, event: Event, seconds: float) -> Outcome:
        if seconds > self._slow_seconds:
            self._log_slow(event, seconds)
        return Outcome(self.listener, self.hook, Status.SUCCEEDED, seconds)

    def _failed(self, error: BaseException, event: Event, seconds: float) -> Outcome:
        if seconds > self._slow_seconds:
            self._log_slow(event, seconds)
        text = one_line(error, self.secrets)
        if issubclass(type(error), Steering):
            # It was raised on purpose: where is of no interest, and the frames are not to be kept alive.
            _log.warning("listener %s failed in %s, event %s: %s", self.listener, self.hook, event.id, text)
            steering = cast("Steering", error.with_traceback(None))
            return Outcome(self.listener, self.hook, Status.FAILED, seconds, text, steering)
        _log.error(
            "listener %s failed in %s, event %s: %s\n%s",
            *(self.listener, self.hook, event.id, text, redacted(_traceback(error), self.secrets)),
        )
        return Outcome(self.listener, self.hook, Status.FAILED, seconds, text)

    def _log_slow(self, event: Event, seconds: float) -> None:
        _log.warning("listener %s was slow in %s, event %s: %.3f s", self.listener, self.hook, event.id, seconds)


async def run_together(
    guards: Sequence[Guard], original: Original, hold: Callable[[], AbstractContextManager[None]]
) -> list[Outcome]:
    """Run the guards together: the `async def` ones on the caller's loop, the others in order in one thread.

    Args:
        guards: The guards.
        original: The event.
        hold: Gives a block that keeps the listeners open; a thread goes on when its caller is canceled.

    Returns:
        The outcomes, in the order of the guards.
    """
    caller = cast("asyncio.Task[object]", asyncio.current_task())
    before = caller.cancelling()
    plain = [guard for guard in guards if not guard.is_async]

    def run_plain() -> list[Outcome]:
        with hold():
            return [guard.run(original) for guard in plain]

    async def in_thread() -> list[Outcome]:
        return await asyncio.to_thread(run_plain) if plain else []

    def is_canceled() -> bool:
        return caller.cancelling() > before

    first, *others = await asyncio.gather(
        _carried(in_thread()),
        *(_carried(guard.run_async(original, is_canceled)) for guard in guards if guard.is_async),
    )
    # Raised in the caller's task: out of one of its own it would break the loop under the caller.
    for result in (first, *others):
        if isinstance(result, KeyboardInterrupt):
            raise result
    from_thread, from_loop = iter(cast("list[Outcome]", first)), iter(cast("list[Outcome]", others))
    return [next(from_loop if guard.is_async else from_thread) for guard in guards]


async def _carried(running: Awaitable[_T]) -> _T | KeyboardInterrupt:
    try:
        return await running
    except KeyboardInterrupt as interrupt:
        return interrupt


def _settle(result: object) -> None:
    """Run what a plain function returned, where that has to be run."""
    if inspect.isawaitable(result):
        run_to_end(result)
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("it returned a generator, whose code nobody runs")


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error)).rstrip()
        # A file name that cannot be decoded must not keep the line out of a log in UTF-8.
        return text.encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - a foreign exception may raise anything when it is shown
        return ""
