"""Spans and metrics of OpenTelemetry, where it is installed; names follow its conventions for messaging.

Whatever OpenTelemetry, or what a program has plugged into it, raises is logged once and suppressed. Spans become the
current one for the rest of the calling context, which has to be a copy: nothing is left to undo.
"""

from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import raised_by_signal_handler

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import Span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_P = ParamSpec("_P")
_T = TypeVar("_T")

# It is a problem with what is installed, and logged where a host looks for those.
_log = safe_logger("pulp_hooks.hooks")

_warned: list[str] = []
"""What was raised first: it is logged, and nothing after it."""


def _suppressed(function: Callable[_P, _T]) -> Callable[_P, _T | None]:
    """Decorate a function that calls OpenTelemetry: it returns null if that raises."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if raised_by_signal_handler(error):
                raise
            if not _warned:
                _warned.append(type(error).__name__)
                _log.warning("OpenTelemetry raised %s, which is logged this once", _warned[0], exc_info=error)
            return None

    return call


class _Api(NamedTuple):
    """What is used of OpenTelemetry: two modules, and objects that are made once."""

    trace: Any
    context: Any
    propagator: "TraceContextTextMapPropagator"
    events: "Counter"
    attempts: "Histogram"


@cache
def _api() -> _Api | None:
    """Return what is used of OpenTelemetry; null where it is not installed."""
    try:
        # Looked for once, when it is first used.
        from opentelemetry import context, metrics, trace  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415
    except ImportError:
        return None
    meter = metrics.get_meter("pulp_hooks")
    return _Api(
        trace,
        context,
        TraceContextTextMapPropagator(),
        meter.create_counter("pulp_hooks.events", "{event}", "Events that were fired"),
        meter.create_histogram("pulp_hooks.attempt.duration", "s", "How long listeners take, by how it ended"),
    )


@_suppressed
def begin_fire(event_type: str, event_id: str) -> "Span | None":
    """Start the span of a fire."""
    return _begun("send", "PRODUCER", event_type, event_id)


@_suppressed
def end_fire(span: "Span | None", event_type: str, error: BaseException | None = None) -> None:
    """End the span of a fire, as an error if that raised one; otherwise count the event."""
    end_attempt(span, None if error is None else type(error).__name__)
    if error is None and (api := _api()):
        api.events.add(1, {"messaging.destination.name": event_type})


@_suppressed
def begin_attempt(
    event_type: str, event_id: str, listener: str, number: int, fired_in: str | None = None
) -> "Span | None":
    """Start the span of an attempt.

    Args:
        event_type: ID of the event type.
        event_id: Identifier of the event.
        listener: Name of the listener.
        number: Number of the attempt, from 1 on.
        fired_in: `trace_context` of the fire, to which the span is linked.
    """
    attributes: dict[str, str | int] = {"pulp_hooks.listener": listener, "pulp_hooks.attempt": number}
    return _begun("process", "CONSUMER", event_type, event_id, attributes, fired_in)


@_suppressed
def measure_attempt(listener: str, status: str, seconds: float) -> None:
    """Measure an attempt that is over."""
    if api := _api():
        api.attempts.record(seconds, {"pulp_hooks.listener": listener, "pulp_hooks.status": status})


@_suppressed
def trace_context() -> str | None:
    """Return the current span as a `traceparent` of W3C Trace Context; null if there is none."""
    carrier: dict[str, str] = {}
    if api := _api():
        api.propagator.inject(carrier)
    return carrier.get("traceparent")


def _begun(  # noqa: PLR0913, PLR0917 - each is one fact about the span
    operation: str,
    kind: str,
    event_type: str,
    event_id: str,
    attributes: Mapping[str, str | int] | None = None,
    linked: str | None = None,
) -> "Span | None":
    api = _api()
    # Without an SDK nobody takes the spans, and to make them is not free.
    if api is None or isinstance(api.trace.get_tracer_provider(), api.trace.ProxyTracerProvider):
        return None
    origin = api.propagator.extract({"traceparent": linked or ""}, api.context.Context())
    fired_in = api.trace.get_current_span(origin).get_span_context()
    span: Span = api.trace.get_tracer("pulp_hooks").start_span(
        f"{operation} {event_type}",
        kind=api.trace.SpanKind[kind],
        attributes={
            "messaging.system": "pulp_hooks",
            "messaging.operation.type": operation,
            "messaging.destination.name": event_type,
            "messaging.message.id": event_id,
            **(attributes or {}),
        },
        links=[api.trace.Link(fired_in)] if fired_in.is_valid else [],
    )
    api.context.attach(api.trace.set_span_in_context(span))
    return span


@_suppressed
def end_attempt(span: "Span | None", error: str | None) -> None:
    """End the span of an attempt, as an error if there was one."""
    api = _api()
    if span is None or api is None:
        return
    if error is not None:
        span.set_status(api.trace.StatusCode.ERROR, error)
    span.end()
