"""The guard of a listener isolates the host and other listeners from it."""

import asyncio
import contextvars
import json
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks import DispatchSettings, Event, EventType, Hooks, Notifier, Outcome, Report, Settings, Status, hookimpl
from pulp_hooks.bodies.examples import EXAMPLES

STARTED = "repo-sync-started"
FINISHED = "repo-sync-finished"
BODY = {"repo_id": "pulp-f17"}
PATIENCE = 10
"""Time limit for waiting; seconds."""

FAULTS = [
    Exception("fault"),
    ExceptionGroup("fault", [ValueError("inner")]),
    StopIteration("fault"),
    SystemExit("fault"),
    GeneratorExit("fault"),
    asyncio.CancelledError("fault"),
    BaseException("fault"),
    BaseExceptionGroup("fault", [SystemExit("inner")]),
    RecursionError("fault"),
    MemoryError("fault"),
]
"""Exceptions from which a guard isolates the others."""


def listener(name: str, function: Callable[..., object], hook: str = "repo_sync_started") -> ModuleType:
    """Return a plugin with one function."""
    plugin = ModuleType(name)
    plugin.__dict__[hook] = hookimpl(function)
    return plugin


def fire(hooks: Hooks) -> Report:
    """Fire without a running event loop."""
    return hooks.fire(STARTED, BODY)


def fire_inside_a_loop(hooks: Hooks) -> Report:
    """Fire in a thread with a running event loop."""

    async def main() -> Report:
        return hooks.fire(STARTED, BODY)

    return asyncio.run(main())


def fire_in_a_thread(hooks: Hooks) -> Report:
    """Fire outside of the main thread."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(hooks.fire, STARTED, BODY).result(PATIENCE)


def afire(hooks: Hooks) -> Report:
    """Fire from a coroutine."""
    return asyncio.run(hooks.afire(STARTED, BODY))


every_way = pytest.mark.parametrize(
    "way", [fire, fire_inside_a_loop, fire_in_a_thread, afire], ids=lambda w: w.__name__
)
Way = Callable[[Hooks], Report]


# Isolation.


@every_way
@pytest.mark.parametrize("kind", ["plain", "async", "coroutine of plain"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_listener_that_raises_stops_no_other_and_does_not_leave_fire(way: Way, kind: str, fault: BaseException) -> None:
    """Whatever a listener raises, the others are called, `fire` returns, and the outcome has the error."""
    called: list[str] = []

    def plain() -> None:
        raise fault

    async def awaited() -> None:
        await asyncio.sleep(0)
        raise fault

    async def good() -> None:
        called.append("d")

    bad = {"plain": plain, "async": awaited, "coroutine of plain": lambda: awaited()}[kind]  # noqa: PLW0108 - a plain function
    plugins = [
        listener("a", lambda: called.append("a")),
        listener("b", bad),
        listener("c", lambda: called.append("c")),
        listener("d", good),
    ]
    report = way(Hooks(plugins))
    assert sorted(called) == ["a", "c", "d"]
    assert [outcome.listener for outcome in report.outcomes] == ["a", "b", "c", "d"]
    (failure,) = report.failures
    # Python itself turns a StopIteration that leaves a coroutine into a RuntimeError.
    coroutine_stopped = kind != "plain" and isinstance(fault, StopIteration)
    expected = RuntimeError if coroutine_stopped else type(fault)
    assert (failure.error or "").partition(":")[0] == expected.__name__


@every_way
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_keyboard_interrupt_propagates(way: Way, kind: str) -> None:
    """`KeyboardInterrupt` propagates out of `fire`, so Ctrl-C still works."""

    def plain() -> None:
        raise KeyboardInterrupt

    async def awaited() -> None:
        raise KeyboardInterrupt

    hooks = Hooks([listener("a", plain if kind == "plain" else awaited)])
    with pytest.raises(KeyboardInterrupt):
        way(hooks)
    hooks.close()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_ctrl_c_during_a_listener_interrupts_fire(kind: str) -> None:
    """SIGINT during a listener in the main thread propagates out of `fire` as `KeyboardInterrupt`."""

    def plain() -> None:
        signal.raise_signal(signal.SIGINT)

    async def awaited() -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(PATIENCE)

    with pytest.raises(KeyboardInterrupt):
        Hooks([listener("a", plain if kind == "plain" else awaited)]).fire(STARTED, BODY)


@every_way
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, GeneratorExit], ids=lambda error: error.__name__)
def test_exception_that_cannot_be_shown_stops_no_other(way: Way, error: type[BaseException]) -> None:
    """An exception whose `str` and `repr` raise is a failure with the name of its type."""

    class SilentError(Exception):
        def __str__(self) -> str:
            raise error

        __repr__ = __str__

    def fails() -> None:
        raise SilentError

    report = way(Hooks([listener("a", fails), listener("b", lambda: None)]))
    assert [(outcome.listener, outcome.error) for outcome in report.outcomes] == [("a", "SilentError"), ("b", None)]


@every_way
def test_async_listener_that_cancels_its_own_task_fails_alone(way: Way) -> None:
    """A listener that cancels its own task fails; the host's task continues."""
    called: list[str] = []

    async def cancels() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(0)

    async def good() -> None:
        called.append("b")

    report = way(Hooks([listener("a", cancels), listener("b", good)]))
    assert [outcome.error for outcome in report.outcomes] == ["CancelledError", None]
    assert called == ["b"]


@every_way
def test_async_listener_that_awaits_a_canceled_task_fails_alone(way: Way) -> None:
    """A cancellation from within a listener is its failure."""

    async def cancels() -> None:
        task = asyncio.create_task(asyncio.sleep(PATIENCE))
        await asyncio.sleep(0)
        task.cancel()
        await task

    report = way(Hooks([listener("a", cancels), listener("b", lambda: None)]))
    assert [outcome.error for outcome in report.outcomes] == ["CancelledError", None]


# Private copies.


def reported() -> dict[str, Any]:
    """Return a body with nested containers."""
    nested = {"packages": [1, [2, {"deep": [3]}]]}
    return {**EXAMPLES[EventType.REPO_SYNC_FINISHED], "traceback": ["line"], "details": nested, "summary": nested}


def spoil(body: dict[str, Any], event: Event) -> None:
    """Change every mutable part."""
    body["details"]["packages"][1][1]["deep"].append("spoilt")
    body["summary"].clear()
    body["traceback"].append("spoilt")
    body["more"] = "spoilt"
    body["repo_id"] = "spoilt"
    event.body["result"] = "spoilt"
    assert event.call_report
    event.call_report["tasks"] = "spoilt"
    object.__setattr__(event, "id", "spoilt")


async def spoil_later(event: Event, body: dict[str, Any]) -> None:
    """Change every mutable part in a coroutine."""
    spoil(body, event)


@pytest.mark.parametrize("way", ["fire", "fire_inside_a_loop", "afire"])
def test_change_by_one_listener_is_not_seen_by_others(way: str) -> None:
    """Bodies, nested containers and call reports are private copies; the report and the host keep the original."""
    seen: list[str] = []
    body, call_report = reported(), {"tasks": {"a": [1]}}
    before = json.dumps([body, call_report])

    def record(body: object, event: Event) -> None:
        seen.append(json.dumps([body, event.call_report]))
        assert event.body == body

    async def record_later(body: object, event: Event) -> None:
        await asyncio.sleep(0)
        record(body, event)

    hook = "repo_sync_finished"
    functions: list[Callable[..., object]] = [spoil, spoil_later, record, record_later, spoil, record, record_later]
    hooks = Hooks([listener(f"{number}", function, hook) for number, function in enumerate(functions)])

    async def main() -> Report:
        if way == "afire":
            return await hooks.afire(FINISHED, body, call_report=call_report)
        return hooks.fire(FINISHED, body, call_report=call_report)

    report = hooks.fire(FINISHED, body, call_report=call_report) if way == "fire" else asyncio.run(main())
    assert not report.failures
    original = json.dumps([report.event.body, report.event.call_report])
    assert seen == [original] * 4
    assert json.loads(original) == json.loads(before)
    assert json.dumps([body, call_report]) == before


@every_way
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_body_and_body_of_event_are_one_object_for_one_listener(way: Way, kind: str) -> None:
    """A listener that takes both arguments gets the same body in both."""
    same: list[bool] = []

    def plain(body: object, event: Event) -> None:
        same.append(body is event.body)

    async def awaited(event: Event, body: object) -> None:
        plain(body, event)

    assert not way(Hooks([listener("a", plain if kind == "plain" else awaited)])).failures
    assert same == [True]


def test_event_of_a_listener_equals_the_event_of_the_report() -> None:
    """The private copy has the id, type, time, source, body and call report of the fired event."""
    seen: list[Event] = []
    hooks = Hooks([listener("a", lambda event: seen.append(event), "repo_sync_finished")])  # noqa: PLW0108 - append is not a function
    report = hooks.fire(FINISHED, reported(), call_report={"task_id": "1"})
    assert seen == [report.event]
    assert seen[0] is not report.event
    assert seen[0].body["details"] is not report.event.body["details"]


# JSON as reports may hold it: every kind of value, in containers of every shape.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(details=json_values, summary=json_values, call_report=st.none() | st.dictionaries(st.text(), json_values))
def test_copy_for_a_listener_equals_the_original(
    details: object, summary: object, call_report: dict[str, Any] | None
) -> None:
    """Copying keeps values, their types and the order of keys."""
    seen: list[Event] = []
    hooks = Hooks([listener("a", lambda event: seen.append(event), "repo_sync_finished")])  # noqa: PLW0108 - append is not a function
    report = hooks.fire(FINISHED, {**reported(), "details": details, "summary": summary}, call_report=call_report)
    assert not report.failures
    assert seen[0].to_json() == report.event.to_json()


# Coroutines.


@every_way
def test_async_listener_has_finished_when_fire_returns(way: Way) -> None:
    """An `async def` implementation has finished when `fire` returns."""
    ended: list[str] = []

    async def awaited(body: dict[str, str]) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        ended.append(body["repo_id"])

    report = way(Hooks([listener("a", awaited)]))
    assert ended == ["pulp-f17"]
    assert [outcome.status for outcome in report.outcomes] == [Status.SUCCEEDED]


@every_way
def test_coroutine_that_a_plain_listener_returns_is_awaited(way: Way) -> None:
    """A coroutine returned by a plain function is awaited, and its failure counts."""
    ended: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        ended.append("worked")

    async def broken() -> None:
        raise LookupError("broken")

    def returns(coroutine: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Awaitable[None]]:
        return lambda: coroutine()  # noqa: PLW0108 - a plain function

    report = way(Hooks([listener("a", returns(work)), listener("b", returns(broken))]))
    assert ended == ["worked"]
    assert [outcome.error for outcome in report.outcomes] == [None, "LookupError: broken"]


@every_way
def test_awaitable_object_that_a_plain_listener_returns_is_awaited(way: Way) -> None:
    """Any awaitable is awaited, not only coroutines."""
    ended: list[str] = []

    class Work:
        def __await__(self) -> Generator[Any, None, None]:
            yield from asyncio.sleep(0).__await__()
            ended.append("worked")

    assert not way(Hooks([listener("a", lambda: Work())])).failures  # noqa: PLW0108 - a class is not a function
    assert ended == ["worked"]


@every_way
def test_listener_that_returns_a_generator_fails(way: Way) -> None:
    """A returned generator would never run, so it is a failure."""

    def numbers() -> Iterator[int]:
        yield 1

    async def async_numbers() -> AsyncIterator[int]:
        yield 1

    plugins = [listener("a", lambda: numbers()), listener("b", lambda: async_numbers())]  # noqa: PLW0108 - plain functions
    report = way(Hooks(plugins))
    assert ["generator" in (outcome.error or "") for outcome in report.outcomes] == [True, True]


@every_way
def test_returned_value_is_ignored(way: Way) -> None:
    """Any other returned value is ignored."""
    report = way(Hooks([listener("a", lambda: "value"), listener("b", lambda: [1]), listener("c", lambda: False)]))
    assert [outcome.status for outcome in report.outcomes] == [Status.SUCCEEDED] * 3


def test_async_listener_runs_in_the_thread_of_the_host_where_no_loop_runs() -> None:
    """Without a running loop an `async def` listener runs on a private loop in the caller's thread."""
    threads: list[int] = []

    async def awaited() -> None:
        threads.append(threading.get_ident())

    Hooks([listener("a", awaited)]).fire(STARTED, BODY)
    assert threads == [threading.get_ident()]


def test_async_listener_runs_in_a_helper_thread_where_a_loop_runs() -> None:
    """With a running loop the private loop runs in a helper thread, which ends afterwards."""
    threads: list[threading.Thread] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def awaited() -> None:
        threads.append(threading.current_thread())
        loops.append(asyncio.get_running_loop())

    async def main() -> None:
        Hooks([listener("a", awaited)]).fire(STARTED, BODY)
        loops.append(asyncio.get_running_loop())

    asyncio.run(main())
    assert threads[0] is not threading.current_thread()
    assert not threads[0].is_alive()
    assert loops[0] is not loops[1]
    assert loops[0].is_closed()


def test_unfinished_tasks_of_an_async_listener_are_canceled() -> None:
    """The private loop of `fire` cancels tasks that a listener started and did not await."""
    ended: list[str] = []

    async def lingers() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            ended.append("canceled")
            raise

    async def leaves() -> None:
        tasks.append(asyncio.create_task(lingers()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    assert not Hooks([listener("a", leaves)]).fire(STARTED, BODY).failures
    assert ended == ["canceled"]


@pytest.mark.parametrize("running", [False, True], ids=["no loop runs", "a loop runs"])
def test_current_event_loop_of_the_thread_is_kept(running: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The private loop of an async listener does not replace the host's current loop."""

    async def awaited() -> None:
        await asyncio.sleep(0)

    hooks = Hooks([listener("a", awaited)])

    async def fire_inside() -> None:
        hooks.fire(STARTED, BODY)

    def thread() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            if running:
                loop.run_until_complete(fire_inside())
            else:
                hooks.fire(STARTED, BODY)
            assert asyncio.get_event_loop() is loop
            assert not loop.is_closed()
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(thread).result(PATIENCE)


# Context variables.

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


@every_way
def test_context_variables_of_the_caller_are_seen_by_every_listener(way: Way) -> None:
    """Plain and async listeners, and coroutines that plain ones return, see the host's values in every thread."""
    seen: list[str] = []

    def plain() -> None:
        seen.append(request_id.get())

    async def awaited() -> None:
        await asyncio.sleep(0)
        seen.append(request_id.get())

    hooks = Hooks([listener("a", plain), listener("b", awaited), listener("c", lambda: awaited())])  # noqa: PLW0108 - a plain function

    def caller() -> None:
        if way is fire_in_a_thread:
            # A new thread starts without the context of the one that started it; the caller is inside of it.
            context = contextvars.copy_context()
            with ThreadPoolExecutor(1) as threads:
                threads.submit(context.run, fire, hooks).result(PATIENCE)
        else:
            way(hooks)

    token = request_id.set("r-1")
    try:
        caller()
    finally:
        request_id.reset(token)
    assert seen == ["r-1"] * 3


# Messages and logs.


def failing(message: str) -> Outcome:
    """Return the outcome of a listener that raises this message."""

    def fails() -> None:
        raise ValueError(message)

    (outcome,) = Hooks([listener("a", fails)]).fire(STARTED, BODY).outcomes
    return outcome


@given(message=st.text() | st.text(alphabet="\n\r\t\x1b\x00\u2028\u202e\ud800"))
def test_error_of_an_outcome_is_one_printable_line(message: str) -> None:
    """Text in an exception cannot break a line, color a terminal or change the direction of text."""
    # Hundreds of tracebacks with odd characters would flood the report of a test run.
    logging.disable(logging.CRITICAL)
    try:
        error = failing(message).error or ""
    finally:
        logging.disable(logging.NOTSET)
    assert error.startswith("ValueError")
    assert error.isprintable()


def test_error_of_an_outcome_is_short() -> None:
    """A huge message is truncated."""
    error = failing("x" * 1_000_000).error or ""
    assert error.startswith("ValueError: xxx")
    assert len(error) <= 1000


@every_way
def test_failure_is_logged_with_listener_hook_event_and_traceback(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the listener, the hook, the event and the place in the code."""

    def breaks_down() -> None:
        raise LookupError("no such thing")

    async def breaks_down_later() -> None:
        breaks_down()

    report = way(Hooks([listener("bad", breaks_down), listener("worse", breaks_down_later)]))
    messages = [caplog.handler.format(record) for record in caplog.records if record.levelno == logging.ERROR]
    for name in ("bad", "worse"):
        (message,) = [message for message in messages if f"listener {name} " in message]
        assert "repo_sync_started" in message
        assert report.event.id in message
        assert "LookupError: no such thing" in message
        assert ", in breaks_down\n" in message
    assert {record.name for record in caplog.records if record.levelno == logging.ERROR} == {"pulp_hooks.dispatch"}


def test_failure_with_an_undecodable_file_name_is_written_to_a_log_in_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lone surrogate, as in undecodable file names, does not break the host's log file."""
    log = tmp_path / "host.log"
    handler = logging.FileHandler(log, encoding="utf-8")
    guard_log = logging.getLogger("pulp_hooks.dispatch")
    # To this file only: pytest-xdist cannot send such a line between its processes.
    monkeypatch.setattr(guard_log, "propagate", False)
    guard_log.addHandler(handler)
    try:
        failing("cannot read caf\udce9.rpm")
    finally:
        guard_log.removeHandler(handler)
        handler.close()
    assert "listener a failed in repo_sync_started" in log.read_text(encoding="utf-8")


def test_logged_traceback_of_an_async_listener_has_only_its_own_error(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback has no frames or contexts of the guard's search for a running loop."""

    async def breaks_down() -> None:
        raise LookupError("no such thing")

    Hooks([listener("a", breaks_down)]).fire(STARTED, BODY)
    assert "LookupError: no such thing" in caplog.text
    assert "During handling of the above exception" not in caplog.text


def test_success_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A listener that succeeds in time is not logged."""
    caplog.set_level(logging.DEBUG, "pulp_hooks")
    Hooks([listener("a", lambda: None)]).fire(STARTED, BODY)
    assert not [record for record in caplog.records if record.name.startswith("pulp_hooks")]


# Slow listeners.


def tick(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Advance the guard's clock by this many seconds at each reading."""
    readings = count()
    monkeypatch.setattr("pulp_hooks.dispatch.guard.perf_counter", lambda: next(readings) * seconds)


def slow_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about slow listeners."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("way", [fire, fire_inside_a_loop, afire], ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", ["plain", "async", "failing"])
def test_slow_listener_is_logged_by_name(
    way: Way, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A call over the limit is a warning with listener, hook, event and seconds; the outcome has the duration."""

    async def awaited() -> None:
        await asyncio.sleep(0)

    def fails() -> None:
        raise LookupError

    functions: dict[str, Callable[..., object]] = {"plain": lambda: None, "async": awaited, "failing": fails}
    hooks = Hooks([listener("tardy", functions[kind])], settings=Settings(dispatch=DispatchSettings(slow_seconds=2.5)))
    tick(monkeypatch, 3)
    report = way(hooks)
    (warning,) = slow_warnings(caplog)
    for fact in ("tardy", "repo_sync_started", report.event.id, "3.000 s"):
        assert fact in warning
    assert report.outcomes[0].seconds == 3


def test_listener_within_the_limit_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The host sets the limit; the default is five seconds."""
    tick(monkeypatch, 4)
    Hooks([listener("a", lambda: None)]).fire(STARTED, BODY)
    Hooks([listener("a", lambda: None)], settings=Settings(dispatch=DispatchSettings(slow_seconds=4))).fire(
        STARTED, BODY
    )
    assert slow_warnings(caplog) == []
    tick(monkeypatch, 6)
    Hooks([listener("a", lambda: None)]).fire(STARTED, BODY)
    assert len(slow_warnings(caplog)) == 1


# Secrets.


LEAKY = """
from marshmallow import Schema, fields
from pulp_hooks import Notifier

class Leaky(Notifier):
    class Config(Schema):
        password = fields.String(required=True)
        token = fields.String(required=True)
        key = fields.String(required=True)

    {define} notify(self, event):
        password, token, key = self.config["password"], self.config["token"], self.config["key"]
        error = ConnectionError(f"no answer from https://u:{{password}}@host, {{token}} and {{key}}")
        error.add_note(f"tried {{password}}")
        raise error from ValueError(f"bad {{token}}")
"""

SETTINGS = """
[[listeners]]
name = "drip"
notifier = "leaky"
event_types = "*"
[listeners.config]
password = { env = "LEAKY_PASSWORD" }
token = { env = "LEAKY_TOKEN" }
key = { file = "key.pem" }
"""


@every_way
@pytest.mark.parametrize("define", ["def", "async def"])
def test_secrets_of_the_settings_are_redacted_in_outcomes_and_logs(
    way: Way, define: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Secrets from environment and files are `***` in message, cause, note and traceback of a failure.

    Of two overlapping secrets the longer one is redacted first; secrets of several lines are found too.
    """
    metadata = tmp_path / "leaky-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[pulp_hooks]\nleaky = leaky_notifier:Leaky\n", encoding="utf-8")
    (tmp_path / "leaky_notifier.py").write_text(LEAKY.format(define=define), encoding="utf-8")
    (tmp_path / "key.pem").write_text("two\nlines\n", encoding="utf-8")
    (tmp_path / "pulp-hooks.toml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LEAKY_PASSWORD", "hunter2")
    monkeypatch.setenv("LEAKY_TOKEN", "hunter22-long")
    with Hooks.discover(tmp_path / "pulp-hooks.toml") as hooks:
        report = way(hooks)
    del sys.modules["leaky_notifier"]
    errors = {outcome.listener: outcome.error for outcome in report.failures}
    assert errors["drip"] == "ConnectionError: no answer from https://u:***@host, *** and ***"
    for text in ("https://u:***@host, *** and ***", "bad ***", "tried ***"):
        assert text in caplog.text
    for secret in ("hunter2", "22-long", "two\nlines"):
        assert secret not in caplog.text


def test_notifier_may_be_async() -> None:
    """`notify` may be an `async def`."""
    notified: list[str] = []

    class Later(Notifier):
        async def notify(self, event: Event) -> None:
            await asyncio.sleep(0)
            notified.append(event.type)

    hooks = Hooks([Later({})])
    assert not hooks.fire(STARTED, BODY).failures
    assert not asyncio.run(hooks.afire(STARTED, BODY)).failures
    assert notified == [STARTED, STARTED]
