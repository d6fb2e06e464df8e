"""Spans and metrics of OpenTelemetry, where it is installed; names follow its conventions for messaging.

Whatever OpenTelemetry, or what a program has plugged into it, raises is logged once; nobody else feels it.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import raised_by_signal_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import Span, SpanKind, Tracer

# It is a problem with what is installed, and logged where a host looks for those.
_log = safe_logger("pulp_hooks.hooks")

_NOTHING: AbstractContextManager[None] = nullcontext()
_SYSTEM = {"messaging.system": "pulp_hooks"}


class _Instruments(NamedTuple):
    """What is measured with."""

    tracer: "Tracer"
    events: "Counter"
    attempts: "Histogram"
    producer: "SpanKind"
    consumer: "SpanKind"
    is_traced: "Callable[[], bool]"


class _Harmless(AbstractContextManager[None]):
    """A block around each call into OpenTelemetry: whatever that raises ends here, but for the host's signal handlers.

    Attributes:
        is_told: Whether it was logged that it has raised something.
    """

    is_told = False

    def __exit__(self, _: object, error: BaseException | None, trace: "TracebackType | None") -> bool:
        if error is None or not issubclass(type(error), Exception) or raised_by_signal_handler(error):
            return False
        if not self.is_told:
            self.is_told = True
            _log.warning("OpenTelemetry raised %s, which is logged this once", type(error).__name__, exc_info=error)
        return True


_HARMLESS = _Harmless()


class _Span(AbstractContextManager["Span | None"]):
    """A block with a span around it.

    Args:
        begin: Gives the block of OpenTelemetry.
        succeeded: Called when this block has ended without an exception.
    """

    def __init__(
        self,
        begin: "Callable[[], AbstractContextManager[Span | None]]",
        succeeded: "Callable[[], object]" = lambda: None,
    ) -> None:
        self._begin = begin
        self._succeeded = succeeded
        self._begun: AbstractContextManager[Span | None] = _NOTHING

    def __enter__(self) -> "Span | None":
        with _HARMLESS:
            block = self._begin()
            span = block.__enter__()
            self._begun = block
            return span
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        with _HARMLESS:
            self._begun.__exit__(kind, error, trace)
        if error is None:
            with _HARMLESS:
                self._succeeded()


class _Counting(AbstractContextManager[None]):
    """A block at whose good end an event is counted.

    Args:
        events: Counts them.
        event_type: ID of the event type.
    """

    __slots__ = ("_event_type", "_events")

    def __init__(self, events: "Counter", event_type: str) -> None:
        self._events = events
        self._event_type = event_type

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            with _HARMLESS:
                self._events.add(1, {"messaging.destination.name": self._event_type})


@cache
def _instruments() -> _Instruments | None:
    """Give the instruments; nothing where OpenTelemetry is not installed, or cannot give them."""
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415 - it is looked for once, when it is first used
    except ImportError:
        return None

    def is_traced() -> bool:
        """Tell whether the program has set up who takes the spans; to make them for nobody is not free."""
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

    with _HARMLESS:
        meter = metrics.get_meter("pulp_hooks")
        return _Instruments(
            trace.get_tracer("pulp_hooks"),
            meter.create_counter("pulp_hooks.events", "{event}", "Events that were fired"),
            meter.create_histogram("pulp_hooks.attempt.duration", "s", "How long listeners take, by how it ended"),
            trace.SpanKind.PRODUCER,
            trace.SpanKind.CONSUMER,
            is_traced,
        )
    return None


def firing(event_type: str, event_id: str) -> AbstractContextManager[object]:
    """Give a block around the firing of an event: a span, and one more event that is counted at its good end."""
    instruments = _instruments()
    if instruments is None:
        return _NOTHING

    traced = False
    with _HARMLESS:
        traced = instruments.is_traced()
    if not traced:
        return _Counting(instruments.events, event_type)

    def begin() -> "AbstractContextManager[Span | None]":
        attributes = _SYSTEM | {
            "messaging.operation.type": "send",
            "messaging.destination.name": event_type,
            "messaging.message.id": event_id,
        }
        return instruments.tracer.start_as_current_span(
            f"send {event_type}", kind=instruments.producer, attributes=attributes
        )

    return _Span(begin, lambda: instruments.events.add(1, {"messaging.destination.name": event_type}))


def attempting(event_type: str, event_id: str, listener: str, number: int) -> "AbstractContextManager[Span | None]":
    """Give a block around an attempt to deliver an event: a span, in which the listener may make its own."""
    instruments = _instruments()
    if instruments is None:
        return _NOTHING

    def begin() -> "AbstractContextManager[Span | None]":
        if not instruments.is_traced():
            return _NOTHING
        attributes: Mapping[str, str | int] = _SYSTEM | {
            "messaging.operation.type": "process",
            "messaging.destination.name": event_type,
            "messaging.message.id": event_id,
            "pulp_hooks.listener": listener,
            "pulp_hooks.attempt": number,
        }
        return instruments.tracer.start_as_current_span(
            f"process {event_type}", kind=instruments.consumer, attributes=attributes
        )

    return _Span(begin)


def failed(span: "Span | None", error: str) -> None:
    """Mark the span of an attempt as failed."""
    if span is not None:
        with _HARMLESS:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 - it is installed

            span.set_status(StatusCode.ERROR, error)


def attempted(listener: str, status: str, seconds: float) -> None:
    """Measure an attempt that is over."""
    instruments = _instruments()
    if instruments is not None:
        with _HARMLESS:
            instruments.attempts.record(seconds, {"pulp_hooks.listener": listener, "pulp_hooks.status": status})
