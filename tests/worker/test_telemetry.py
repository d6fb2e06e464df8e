"""OpenTelemetry: spans and metrics if it is installed, and no effect if it is not."""

import asyncio
import contextvars
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pulp_hooks import EventError, Hooks, JournalError, telemetry
from tests.worker.conftest import Host, Listener, Other

STARTED = "repo-sync-started"


@pytest.fixture
def exporters(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    """Return exporters of OpenTelemetry, set up as in a program."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    # A program sets these once; a test has to restore them.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(trace, "get_tracer", tracers.get_tracer)
    monkeypatch.setattr(metrics, "get_meter", meters.get_meter)
    telemetry._api.cache_clear()
    yield spans, reader
    telemetry._api.cache_clear()
    meters.shutdown()
    tracers.shutdown()


def raises(_event: object) -> None:
    """Fail as a listener."""
    raise RuntimeError("out of paper")


def _no_network(*_: object) -> None:
    raise RuntimeError("no network")


def test_firing_and_attempts_are_spans(
    host: Host, exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]
) -> None:
    """Both have the id of the event; a failed attempt is an error."""
    hooks = host.hooks(Listener(), Other(raises), retry_seconds=())
    event_id = hooks.fire(STARTED, {"repo_id": "zoo"}).event.id
    hooks.worker(threads_per_listener=1).run_once()
    sent, *processed = sorted(
        exporters[0].get_finished_spans(), key=lambda span: (span.name != f"send {STARTED}", span.start_time or 0)
    )
    assert (sent.name, sent.kind) == (f"send {STARTED}", SpanKind.PRODUCER)
    assert {span.name for span in processed} == {f"process {STARTED}"}
    attributes: Any = [dict(span.attributes or {}) for span in (sent, *processed)]
    assert {one["messaging.message.id"] for one in attributes} == {event_id}
    found = {
        one["pulp_hooks.listener"]: span.status.status_code for one, span in zip(attributes[1:], processed, strict=True)
    }
    assert found == {"Listener": StatusCode.UNSET, "Other": StatusCode.ERROR}
    assert all(one["pulp_hooks.attempt"] == 1 for one in attributes[1:])


def test_events_and_attempts_are_measured(
    host: Host, exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]
) -> None:
    """There is a counter of events, and a histogram of attempts by ending."""
    hooks = host.hooks(Listener(), Other(raises), retry_seconds=())
    for _ in range(3):
        hooks.fire(STARTED, {"repo_id": "zoo"})
    hooks.worker(threads_per_listener=1).run_once()
    data: Any = exporters[1].get_metrics_data()
    found = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert [point.value for point in found["pulp_hooks.events"]] == [3]
    counts = {
        (point.attributes["pulp_hooks.listener"], point.attributes["pulp_hooks.status"]): point.count
        for point in found["pulp_hooks.attempt.duration"]
    }
    assert counts == {("Listener", "succeeded"): 3, ("Other", "failed"): 3}


def test_event_that_the_journal_refuses_is_not_counted(
    exporters: tuple[InMemorySpanExporter, InMemoryMetricReader],
) -> None:
    """Its span is an error, and the counter of events does not change."""
    url = "sqlite:////no/folder/journal.db"
    with Hooks({"Listener": Listener()}, journal=url) as hooks, pytest.raises(JournalError):
        hooks.fire(STARTED, {"repo_id": "zoo"})
    assert [span.status.status_code for span in exporters[0].get_finished_spans()] == [StatusCode.ERROR]
    assert exporters[1].get_metrics_data() is None


class Broken(SpanProcessor):
    """A span processor that raises when a span begins or ends."""

    def __init__(self, place: str) -> None:
        self._place = place

    def on_start(self, span: object, parent_context: object = None) -> None:
        """Raise, if configured so."""
        del span, parent_context
        if self._place == "start":
            raise RuntimeError("no network")

    def on_end(self, span: object) -> None:
        """Raise, if configured so."""
        del span
        if self._place == "end":
            raise RuntimeError("no network")


@pytest.mark.usefixtures("exporters")
@pytest.mark.parametrize("place", ["start", "end", "meter"])
def test_failing_telemetry_has_no_effect_and_is_logged_once(
    place: str, host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Events are fired and delivered as without it, and exceptions and errors are unchanged."""
    if place == "meter":
        broken: Any = telemetry._api()
        monkeypatch.setattr(broken.events, "add", _no_network)
        monkeypatch.setattr(broken.attempts, "record", _no_network)
    else:
        tracers: Any = trace.get_tracer_provider()
        tracers.add_span_processor(Broken(place))
    monkeypatch.setattr(telemetry, "_warned", [])
    listener = Listener()
    hooks = host.hooks(listener, Other(raises), retry_seconds=())
    for _ in range(2):
        hooks.fire(STARTED, {"repo_id": "zoo"})
    with pytest.raises(EventError):
        hooks.fire(STARTED, {"repo_id": "zoo"}, event_id="?")
    hooks.worker(threads_per_listener=1).run_once()
    assert sorted(host.states()) == ["dead", "dead", "delivered", "delivered"]
    assert len(listener.events) == 2
    (line,) = [record for record in caplog.records if "OpenTelemetry" in record.getMessage()]
    assert line.getMessage() == "OpenTelemetry raised RuntimeError, which is logged this once"


@pytest.mark.parametrize("way", ["fire", "afire"])
def test_interruption_propagates_through_a_span_whose_end_fails(
    way: str, exporters: tuple[InMemorySpanExporter, InMemoryMetricReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interruption of the listener propagates out of `fire`."""
    del exporters
    tracers: Any = trace.get_tracer_provider()
    tracers.add_span_processor(Broken("end"))
    monkeypatch.setattr(telemetry, "_warned", [])

    def interrupt(_event: object) -> None:
        raise KeyboardInterrupt

    hooks = Hooks([Listener(interrupt)])
    ways: dict[str, Callable[[], object]] = {
        "fire": lambda: hooks.fire(STARTED, {"repo_id": "zoo"}),
        "afire": lambda: asyncio.run(hooks.afire(STARTED, {"repo_id": "zoo"})),
    }
    with pytest.raises(KeyboardInterrupt):
        ways[way]()


@pytest.mark.parametrize("way", ["fire", "afire"])
def test_span_of_a_fire_is_the_current_one_of_its_listeners_only(
    way: str, exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]
) -> None:
    """Listeners may create child spans; the host's own context does not change."""
    seen: list[str | None] = []

    def look(_event: object) -> None:
        seen.append(telemetry.trace_context())

    hooks = Hooks([Listener(look)])

    async def afire() -> None:
        await hooks.afire(STARTED, {"repo_id": "zoo"})
        assert telemetry.trace_context() is None

    if way == "fire":
        hooks.fire(STARTED, {"repo_id": "zoo"})
    else:
        asyncio.run(afire())
    assert telemetry.trace_context() is None
    (span,) = exporters[0].get_finished_spans()
    assert span.context
    assert seen == [f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"]


def test_attempt_is_linked_to_the_fire(exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> None:
    """The journal stores the trace context; an invalid one is ignored."""
    contexts: list[str | None] = []
    hooks = Hooks([Listener(lambda _event: contexts.append(telemetry.trace_context()))])
    hooks.fire(STARTED, {"repo_id": "zoo"})
    for fired_in in (contexts[0], None, "odd", "00-0-0-0"):
        begun = contextvars.copy_context().run(telemetry.begin_attempt, STARTED, "id", "a", 1, fired_in)
        telemetry.end_attempt(begun, None)
    fired, linked, *others = exporters[0].get_finished_spans()
    assert [link.context.span_id for link in linked.links] == [fired.context and fired.context.span_id]
    assert linked.parent is None
    assert [len(span.links) for span in others] == [0, 0, 0]


@pytest.mark.parametrize("is_wrong", [False, True])
def test_trace_context_is_null_without_a_span(*, is_wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an SDK, or if OpenTelemetry fails, there is no trace context to store."""
    if is_wrong:
        monkeypatch.setattr(telemetry, "_warned", [])
        monkeypatch.setattr(telemetry, "_api", _no_network)
    assert telemetry.trace_context() is None


def test_telemetry_is_optional() -> None:
    """Everything works without it."""
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from pulp_hooks import Hooks, hookimpl, telemetry\n"
        "class Listener:\n"
        "    @hookimpl\n"
        "    def repo_sync_started(self): print('heard')\n"
        "import tempfile\n"
        "with Hooks({'listener': Listener()}, journal=f'sqlite:///{tempfile.mkdtemp()}/j.db') as hooks:\n"
        "    hooks.repo_sync_started(repo_id='zoo')\n"
        "    hooks.worker().run_once()\n"
        "assert telemetry._api() is None\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "heard\n"
