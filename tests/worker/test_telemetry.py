"""OpenTelemetry: spans and metrics where it is installed, and nothing of it where it is not."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pulp_hooks import telemetry
from tests.worker.conftest import Host, Listener, Other

STARTED = "repo-sync-started"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    """Give what OpenTelemetry is told, set up as a program does."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    # A program sets these once for its life; a test has to take them back.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(trace, "get_tracer", tracers.get_tracer)
    monkeypatch.setattr(metrics, "get_meter", meters.get_meter)
    telemetry._instruments.cache_clear()
    yield spans, reader
    telemetry._instruments.cache_clear()
    meters.shutdown()
    tracers.shutdown()


def raises(_event: object) -> None:
    """Be a listener that fails."""
    raise RuntimeError("out of paper")


def test_firing_and_attempts_are_spans(host: Host, told: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> None:
    """Both name the event, so that they are found together; a failed attempt is an error."""
    hooks = host.hooks(Listener(), Other(raises), retry_seconds=())
    event_id = hooks.fire(STARTED, {"repo_id": "zoo"}).event.id
    hooks.worker(threads=1).run_once()
    sent, *processed = sorted(
        told[0].get_finished_spans(), key=lambda span: (span.name != f"send {STARTED}", span.start_time or 0)
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


def test_events_and_attempts_are_measured(host: Host, told: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> None:
    """The counter of events and the histogram of attempts tell how many there were, and how they ended."""
    hooks = host.hooks(Listener(), Other(raises), retry_seconds=())
    for _ in range(3):
        hooks.fire(STARTED, {"repo_id": "zoo"})
    hooks.worker(threads=1).run_once()
    data: Any = told[1].get_metrics_data()
    found = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert [point.value for point in found["pulp_hooks.events"]] == [3]
    counts = {
        (point.attributes["pulp_hooks.listener"], point.attributes["pulp_hooks.status"]): point.count
        for point in found["pulp_hooks.attempt.duration"]
    }
    assert counts == {("Listener", "succeeded"): 3, ("Other", "failed"): 3}


def test_nothing_is_told_where_it_is_not_installed() -> None:
    """Everything works without it."""
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from pulp_hooks import Hooks, hookimpl, telemetry\n"
        "class Listener:\n"
        "    @hookimpl\n"
        "    def repo_sync_started(self): print('heard')\n"
        "import tempfile\n"
        "with Hooks([Listener()], journal=f'sqlite:///{tempfile.mkdtemp()}/j.db') as hooks:\n"
        "    hooks.repo_sync_started(repo_id='zoo')\n"
        "    hooks.worker().run_once()\n"
        "assert telemetry._instruments() is None\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "heard\n"
