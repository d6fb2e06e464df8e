"""Spans and metrics of OpenTelemetry, where it is installed; names follow its conventions for messaging."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import Span, SpanKind, Tracer

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


@cache
def _instruments() -> _Instruments | None:
    """Give the instruments; nothing where OpenTelemetry is not installed."""
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415 - it is looked for once, when it is first used
    except ImportError:
        return None

    def is_traced() -> bool:
        """Tell whether the program has set up who takes the spans; to make them for nobody is not free."""
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

    meter = metrics.get_meter("pulp_hooks")
    return _Instruments(
        trace.get_tracer("pulp_hooks"),
        meter.create_counter("pulp_hooks.events", "{event}", "Events that were fired"),
        meter.create_histogram("pulp_hooks.attempt.duration", "s", "How long listeners take, by how it ended"),
        trace.SpanKind.PRODUCER,
        trace.SpanKind.CONSUMER,
        is_traced,
    )


def firing(event_type: str, event_id: str) -> AbstractContextManager[object]:
    """Give a block around the firing of an event: a span, and one more event that is counted."""
    instruments = _instruments()
    if instruments is None:
        return _NOTHING
    instruments.events.add(1, {"messaging.destination.name": event_type})
    if not instruments.is_traced():
        return _NOTHING
    attributes = _SYSTEM | {
        "messaging.operation.type": "send",
        "messaging.destination.name": event_type,
        "messaging.message.id": event_id,
    }
    return instruments.tracer.start_as_current_span(
        f"send {event_type}", kind=instruments.producer, attributes=attributes
    )


def attempting(event_type: str, event_id: str, listener: str, number: int) -> "AbstractContextManager[Span | None]":
    """Give a block around an attempt to deliver an event: a span, in which the listener may make its own."""
    instruments = _instruments()
    if instruments is None or not instruments.is_traced():
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


def failed(span: "Span | None", error: str) -> None:
    """Mark the span of an attempt as failed."""
    if span is not None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - it is installed

        span.set_status(StatusCode.ERROR, error)


def attempted(listener: str, status: str, seconds: float) -> None:
    """Measure an attempt that is over."""
    instruments = _instruments()
    if instruments is not None:
        instruments.attempts.record(seconds, {"pulp_hooks.listener": listener, "pulp_hooks.status": status})
