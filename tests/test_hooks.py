"""The facade: firing, typed methods, order of listeners, reports, closing, and threads."""

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, Unpack, get_type_hints

import pytest

from pulp_hooks import (
    BodyError,
    ClosedError,
    DispatchSettings,
    Event,
    EventError,
    EventType,
    Hooks,
    Notifier,
    PluginError,
    Settings,
    Status,
    UnknownEventTypeError,
    hookimpl,
)
from pulp_hooks.bodies import types
from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.dispatch import in_flight
from pulp_hooks.firing_methods import FireOptions

STARTED = "repo-sync-started"
BODY = {"repo_id": "pulp-f17"}
PATIENCE = 10
"""Seconds after which a test gives up on something that never comes."""


def listener(
    name: str,
    function: Callable[..., object],
    hook: str = "repo_sync_started",
    *,
    tryfirst: bool = False,
    trylast: bool = False,
) -> ModuleType:
    """Make a plugin of one function."""
    plugin = ModuleType(name)
    plugin.__dict__[hook] = hookimpl(tryfirst=tryfirst, trylast=trylast)(function)
    return plugin


def nothing() -> None:
    """Do nothing."""


class Noting(Notifier):
    """A notifier that records in a list what happens to it.

    Args:
        name: Name of the listener.
        notes: Where it notes `name: notified` and `name: closed`.
        during: What it does while it is notified.
    """

    def __init__(self, name: str, notes: list[str], during: Callable[[], object] = nothing) -> None:
        super().__init__({})
        self.__name__ = name
        self._notes = notes
        self._during = during

    def notify(self, event: Event) -> None:
        """Record an event."""
        del event
        self._during()
        self._notes.append(f"{self.__name__}: notified")

    def close(self) -> None:
        """Record the end."""
        self._notes.append(f"{self.__name__}: closed")


def wait_until_closing(hooks: Hooks) -> None:
    """Return once `close` was called, even if it is still waiting: no event can be fired any more."""
    deadline = datetime.now(UTC) + timedelta(seconds=PATIENCE)
    while datetime.now(UTC) < deadline:
        try:
            hooks.fire("repo-publish-started", {"repo_id": "pulp-f17", "distributor_id": "yum"})
        except ClosedError:
            return
    pytest.fail("nobody called close")


def run_alone(script: str) -> str:
    """Run a script in a process of its own, with a time limit, and return its output."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE / 2, check=True).stdout


# Firing.


@pytest.mark.parametrize("name", ["repo-sync-started", "repo_sync_started", "repo.sync.start"])
def test_fire_takes_every_name_of_an_event_type(name: str) -> None:
    """Type ID, hook name and wire name fire the same event."""
    report = Hooks([listener("a", nothing)]).fire(name, BODY)
    assert report.event.type is EventType.REPO_SYNC_STARTED
    assert [outcome.listener for outcome in report.outcomes] == ["a"]


def test_fire_calls_only_the_hook_of_the_event_type() -> None:
    """A listener of another event type is not called."""
    called: list[str] = []
    hooks = Hooks(
        [
            listener("a", lambda: called.append("sync"), "repo_sync_started"),
            listener("b", lambda: called.append("publish"), "repo_publish_started"),
        ]
    )
    hooks.fire(STARTED, BODY)
    assert called == ["sync"]


def test_fire_refuses_an_unknown_event_type_and_calls_nobody() -> None:
    """An unknown event type raises in the host, and the message suggests the nearest name."""
    called: list[None] = []
    hooks = Hooks([listener("a", lambda: called.append(None))])
    with pytest.raises(UnknownEventTypeError, match="repo-sync-started"):
        hooks.fire("repo-sync-startet", BODY)
    assert not called


@pytest.mark.parametrize("body", [{}, {"repo_id": 7}, {"repo_id": "x", "more": 1}, "pulp-f17", None])
def test_fire_refuses_a_wrong_body_and_calls_nobody(body: dict[str, object]) -> None:
    """An invalid body raises in the host, with or without listeners."""
    called: list[None] = []
    with pytest.raises(BodyError, match="repo-sync-started"):
        Hooks([listener("a", lambda: called.append(None))]).fire(STARTED, body)
    with pytest.raises(BodyError, match="repo-sync-started"):
        Hooks().fire(STARTED, body)
    assert not called


def test_event_tells_when_and_where_it_was_fired() -> None:
    """The envelope has an id, the time in UTC, the source and the serialized body."""
    before = datetime.now(UTC)
    event = Hooks(source="https://pulp.example/f17").fire(STARTED, BODY).event
    assert re.fullmatch(r"[0-9a-f]{24}", event.id)
    assert before <= event.time <= datetime.now(UTC)
    assert event.time.utcoffset() == timedelta(0)
    assert event.source == "https://pulp.example/f17"
    assert event.body == BODY
    assert event.call_report is None


def test_events_have_ids_of_their_own() -> None:
    """Two events with the same body have different ids."""
    hooks = Hooks()
    assert hooks.fire(STARTED, BODY).event.id != hooks.fire(STARTED, BODY).event.id


def test_source_names_the_machine_by_default() -> None:
    """Without a source the machine's name is used, and a source that is not a URI is refused."""
    assert Hooks().fire(STARTED, BODY).event.source.startswith("pulp-hooks://")
    with pytest.raises(EventError, match="source"):
        Hooks(source="not a URI")


def test_source_can_be_that_of_one_event() -> None:
    """A host that fires the events of several servers names the server of each."""
    hooks = Hooks(source="https://watcher.example")
    assert hooks.fire(STARTED, BODY, source="https://pulp.example").event.source == "https://pulp.example"
    assert asyncio.run(hooks.afire(STARTED, BODY, source="https://pulp.example")).event.source == "https://pulp.example"
    assert hooks.fire(STARTED, BODY).event.source == "https://watcher.example"
    with pytest.raises(EventError, match="source"):
        hooks.fire(STARTED, BODY, source="not a URI")


def test_call_report_reaches_listeners_as_json() -> None:
    """Listeners receive the report of the host's task, converted by the rules of reports."""
    seen: list[object] = []
    hooks = Hooks([listener("a", lambda event: seen.append(event.call_report))])
    moment = datetime(2012, 7, 6, 15, 49, 11, tzinfo=UTC)
    report = hooks.fire(STARTED, BODY, call_report={"task_id": "1", "start_time": moment})
    assert seen == [{"task_id": "1", "start_time": "2012-07-06T15:49:11+00:00"}]
    assert report.event.call_report == seen[0]


def test_body_of_the_host_is_neither_changed_nor_shared() -> None:
    """Later changes of the host's body do not reach the event, and serializing does not change the body."""
    body: dict[str, Any] = {**EXAMPLES[EventType.REPO_SYNC_FINISHED], "details": {"packages": [1, 2]}}
    del body["id"]
    before = {**body, "details": {"packages": [1, 2]}}
    report = Hooks().fire("repo-sync-finished", body)
    assert body == before
    body["details"]["packages"].append(3)
    assert report.event.body["details"] == {"packages": [1, 2]}


def test_validate_checks_without_firing() -> None:
    """An invalid body is refused, fields may be missing on request, and no listener is called."""
    called: list[None] = []
    hooks = Hooks([listener("a", lambda: called.append(None))])
    hooks.validate(STARTED, BODY)
    hooks.validate("repo-sync-finished", BODY, partial=True)
    with pytest.raises(BodyError, match="importer_id"):
        hooks.validate("repo-sync-finished", BODY)
    with pytest.raises(BodyError, match="must be a string"):
        hooks.validate("repo-sync-finished", {"repo_id": 7}, partial=True)
    assert not called


def test_reports_over_the_size_limit_are_truncated() -> None:
    """Listeners receive reports truncated to the size limit of the host."""
    seen: list[Any] = []
    settings = Settings(dispatch=DispatchSettings(max_body_bytes=2000))
    hooks = Hooks([listener("a", lambda body: seen.append(body["details"]), "repo_sync_finished")], settings=settings)
    hooks.fire("repo-sync-finished", {**EXAMPLES[EventType.REPO_SYNC_FINISHED], "details": ["x" * 100] * 100})
    assert seen[0]["truncated"] is True


# Typed methods.


@pytest.mark.parametrize("event_type", EventType)
def test_typed_method_fires_the_body_of_its_event_type(event_type: EventType) -> None:
    """Each event type has a method with its hook's name, which takes the fields of the body by name."""
    seen: list[object] = []

    def record(body: object) -> None:
        seen.append(body)

    hooks = Hooks([listener("a", record, event_type.hook_name)])
    # Each field has a unique value, so that no two fields can be swapped.
    told = {"error_message": "no space", "exception": "OSError()", "traceback": ["line"], "details": {"size": 1}}
    body = {
        name: f"my {name}" if name.endswith("_id") else told.get(name, value)
        for name, value in EXAMPLES[event_type].items()
    }
    fields = {name: value for name, value in body.items() if name != "_ns"}
    report = getattr(hooks, event_type.hook_name)(**fields, call_report={"task_id": "1"})
    assert report.event.type is event_type
    assert seen == [body]
    assert report.event.call_report == {"task_id": "1"}


@pytest.mark.parametrize("event_type", EventType)
def test_typed_method_takes_exactly_the_fields_of_the_body(event_type: EventType) -> None:
    """The parameters are keyword-only and exactly the fields of the body; fields that every host knows are required."""
    method = getattr(Hooks, event_type.hook_name)
    parameters = dict(inspect.signature(method).parameters)
    del parameters["self"]
    assert get_type_hints(method)["options"] == Unpack[FireOptions]
    assert parameters.pop("options").kind is inspect.Parameter.VAR_KEYWORD
    fire = inspect.signature(Hooks.fire).parameters
    assert FireOptions.__annotations__.keys() == fire.keys() - {"self", "event_type", "body"}
    body = get_type_hints(getattr(types, event_type.body_name))
    assert parameters.keys() == body.keys() - {"_ns"}
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    known = {"repo_id", "importer_id", "importer_type_id", "distributor_id", "distributor_type_id"}
    assert required == body.keys() & (known | {"started", "completed", "result"})


def test_typed_method_fills_in_what_the_host_leaves_out() -> None:
    """Fields that a host may omit become null, and the result gets an id."""
    body = (
        Hooks()
        .repo_publish_finished(
            repo_id="pulp-f17",
            distributor_id="yum_distributor",
            distributor_type_id="yum_distributor",
            started=datetime(2012, 7, 6, 15, 53, 41, tzinfo=UTC),
            completed="2012-07-06T17:53:43+02:00",
            result="success",
        )
        .event.body
    )
    empty = dict.fromkeys(["summary", "details", "error_message", "exception", "traceback"])
    assert body == {
        **EXAMPLES[EventType.REPO_PUBLISH_FINISHED],
        **empty,
        "id": body["id"],
    }
    assert re.fullmatch(r"[0-9a-f]{24}", str(body["id"]))


def test_typed_method_refuses_what_fire_refuses() -> None:
    """A typed method validates like `fire`."""
    with pytest.raises(BodyError, match="repo_id"):
        Hooks().repo_sync_started(repo_id="")


# Order, and what is called.


def test_listeners_are_called_in_the_order_of_their_names() -> None:
    """The order in which plugins are passed does not matter."""
    called: list[str] = []
    plugins = [listener(name, lambda name=name: called.append(name)) for name in "cadb"]
    report = Hooks(plugins).fire(STARTED, BODY)
    assert called == ["a", "b", "c", "d"]
    assert [outcome.listener for outcome in report.outcomes] == called


def test_tryfirst_and_trylast_come_before_names() -> None:
    """`tryfirst` listeners are called first and `trylast` listeners last, whatever their names."""
    plugins = [
        listener("a", lambda: None, trylast=True),
        listener("b", lambda: None),
        listener("c", lambda: None),
        listener("d", lambda: None, tryfirst=True),
    ]
    report = Hooks(plugins).fire(STARTED, BODY)
    assert [outcome.listener for outcome in report.outcomes] == ["d", "b", "c", "a"]


@pytest.mark.parametrize("option", ["tryfirst", "trylast"])
def test_listeners_for_the_same_place_are_called_in_the_order_of_their_names(option: str) -> None:
    """Several `tryfirst` or `trylast` listeners are called in the order of their names."""
    first, last = option == "tryfirst", option == "trylast"
    plugins = [listener(name, nothing, tryfirst=first, trylast=last) for name in "bca"]
    report = Hooks(plugins).fire(STARTED, BODY)
    assert [outcome.listener for outcome in report.outcomes] == ["a", "b", "c"]


def test_plugins_of_the_same_name_are_all_called_under_different_names() -> None:
    """Two objects with the same name get different names by a number."""
    report = Hooks([listener("a", nothing), listener("a", nothing), listener("a-2", nothing)]).fire(STARTED, BODY)
    names = [outcome.listener for outcome in report.outcomes]
    assert names[:2] == ["a", "a-2"]
    assert len(set(names)) == 3


def test_two_implementations_of_one_hook_in_one_plugin_are_both_called() -> None:
    """With `specname` a plugin can implement a hook twice, and each call has an outcome."""
    called: list[str] = []
    plugin = ModuleType("twice")
    for name in ("one", "two"):
        function = hookimpl(specname="repo_sync_started")(lambda body, name=name: called.append(name + body["repo_id"]))
        plugin.__dict__[name] = function
    report = Hooks([plugin]).fire(STARTED, BODY)
    assert sorted(called) == ["onepulp-f17", "twopulp-f17"]
    assert [(outcome.listener, outcome.status) for outcome in report.outcomes] == [("twice", Status.SUCCEEDED)] * 2


SEEN: list[tuple[str, ...]] = []
"""The arguments with which the implementations below were called, by their kinds."""


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (lambda: SEEN.append(()), ()),
        (lambda body: SEEN.append((type(body).__name__,)), ("dict",)),
        (lambda event: SEEN.append((type(event).__name__,)), ("Event",)),
        (lambda body, event: SEEN.append((type(body).__name__, type(event).__name__)), ("dict", "Event")),
        (lambda event, body: SEEN.append((type(event).__name__, type(body).__name__)), ("Event", "dict")),
    ],
    ids=["none", "body", "event", "body and event", "event and body"],
)
def test_implementation_takes_the_arguments_that_it_names(
    function: Callable[..., object], kinds: tuple[str, ...]
) -> None:
    """An implementation may take `body`, `event`, both in any order, or neither."""
    SEEN.clear()
    report = Hooks([listener("a", function)]).fire(STARTED, BODY)
    assert not report.failures
    assert [kinds] == SEEN


class Methods:
    """A plugin with one method of each kind."""

    __slots__ = ("called",)

    def __init__(self) -> None:
        self.called: list[tuple[str, object]] = []

    @hookimpl
    def repo_sync_started(self, body: types.RepoSyncStarted) -> None:
        """Record a call of a method."""
        self.called.append(("method", body["repo_id"]))

    @staticmethod
    @hookimpl
    def repo_publish_started(event: Event, body: types.RepoPublishStarted) -> None:
        """Record a call of a static method."""
        RECORD.append(("static", event.body["repo_id"], body["repo_id"]))

    @classmethod
    @hookimpl
    def repo_sync_finished(cls, body: types.RepoSyncFinished, event: Event) -> None:
        """Record a call of a class method."""
        RECORD.append((cls.__name__, event.body["repo_id"], body["repo_id"]))


RECORD: list[tuple[str, object, object]] = []


def test_methods_static_methods_and_class_methods_are_called() -> None:
    """Any kind of method of an object can implement a hook, with or without `__slots__`."""
    RECORD.clear()
    plugin = Methods()
    hooks = Hooks([plugin])
    for event_type in (EventType.REPO_SYNC_STARTED, EventType.REPO_PUBLISH_STARTED, EventType.REPO_SYNC_FINISHED):
        assert not hooks.fire(event_type, EXAMPLES[event_type]).failures
    assert plugin.called == [("method", "pulp-f17")]
    assert RECORD == [("static", "pulp-f17", "pulp-f17"), ("Methods", "pulp-f17", "pulp-f17")]


def test_notifier_in_hand_receives_every_event() -> None:
    """A notifier object receives events of all four types."""
    notes: list[str] = []
    hooks = Hooks([Noting("n", notes)])
    for event_type in EventType:
        (outcome,) = hooks.fire(event_type, EXAMPLES[event_type]).outcomes
        assert (outcome.listener, outcome.hook, outcome.status) == ("n", event_type.hook_name, Status.SUCCEEDED)
    assert notes == ["n: notified"] * 4


def test_wrong_plugin_in_hand_is_refused_at_once() -> None:
    """The constructor refuses an object without hooks, and one object passed twice."""
    plugin = listener("a", nothing)
    with pytest.raises(PluginError, match="none of the four hooks"):
        Hooks([ModuleType("empty")])
    with pytest.raises(PluginError, match="is passed twice"):
        Hooks([plugin, plugin])


# Reports.


def test_report_has_every_listener() -> None:
    """A report has the outcome of each call, and lists the failures."""

    def fails() -> None:
        raise ValueError("no space\nleft")

    report = Hooks([listener("bad", fails), listener("good", nothing)]).fire(STARTED, BODY)
    bad, good = report.outcomes
    assert (bad.listener, bad.hook, bad.status, bad.error) == (
        "bad",
        "repo_sync_started",
        Status.FAILED,
        "ValueError: no space\\nleft",
    )
    assert (good.listener, good.hook, good.status, good.error) == ("good", "repo_sync_started", Status.SUCCEEDED, None)
    assert 0 <= good.seconds < PATIENCE
    assert report.failures == (bad,)


def test_report_without_listeners_is_empty() -> None:
    """An event without listeners has an empty report."""
    report = Hooks().fire(STARTED, BODY)
    assert report.event.body == BODY
    assert report.outcomes == report.failures == ()


# Closing.


def test_close_closes_notifiers_once_in_reverse_order_and_twice_is_harmless() -> None:
    """Notifiers are closed in the reverse order of calls, and a second `close` does nothing."""
    notes: list[str] = []
    hooks = Hooks([Noting(name, notes) for name in "bca"])
    hooks.close()
    hooks.close()
    assert notes == ["c: closed", "b: closed", "a: closed"]


def test_close_by_many_threads_at_once_closes_notifiers_once() -> None:
    """Threads that call `close` at the same time close each notifier once."""
    notes: list[str] = []
    hooks = Hooks([Noting("a", notes)])
    together = threading.Barrier(8, timeout=PATIENCE)

    def close() -> None:
        together.wait()
        hooks.close()

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(close) for _ in range(8)]:
            done.result(PATIENCE)
    assert notes == ["a: closed"]


def test_with_block_closes_and_its_exception_propagates() -> None:
    """The end of a `with` block closes the hooks, also after an exception."""
    notes: list[str] = []
    with pytest.raises(LookupError, match="own"), Hooks([Noting("a", notes)]) as hooks:
        raise LookupError("own")
    assert notes == ["a: closed"]
    with pytest.raises(ClosedError):
        hooks.fire(STARTED, BODY)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, GeneratorExit, BaseException], ids=lambda e: e.__name__)
def test_failing_close_of_a_notifier_does_not_affect_the_others(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """An exception from `close` is logged with the listener's name, and the other notifiers are closed."""
    notes: list[str] = []

    class Stuck(Noting):
        def close(self) -> None:
            raise error("it sticks")

    Hooks([Noting("a", notes), Stuck("b", notes), Noting("c", notes)]).close()
    assert notes == ["c: closed", "a: closed"]
    assert "listener b could not be closed" in caplog.text


def test_nothing_can_be_fired_after_close() -> None:
    """After `close` every way of firing raises `ClosedError`, and no listener is called."""
    called: list[None] = []
    hooks = Hooks([listener("a", lambda: called.append(None))])
    hooks.close()
    with pytest.raises(ClosedError, match="closed"):
        hooks.fire(STARTED, BODY)
    with pytest.raises(ClosedError, match="closed"):
        asyncio.run(hooks.afire(STARTED, BODY))
    with pytest.raises(ClosedError, match="closed"):
        hooks.repo_sync_started(repo_id="pulp-f17")
    assert not called


def test_close_waits_for_events_that_other_threads_are_firing() -> None:
    """A notifier is closed only after an event that another thread is firing."""
    notes: list[str] = []
    reached, release = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert release.wait(PATIENCE)

    hooks = Hooks([Noting("a", notes, hold)])
    with ThreadPoolExecutor(2) as threads:
        fired = threads.submit(hooks.fire, STARTED, BODY)
        assert reached.wait(PATIENCE)
        closed = threads.submit(hooks.close)
        wait_until_closing(hooks)
        assert not closed.done()
        release.set()
        assert not fired.result(PATIENCE).failures
        closed.result(PATIENCE)
    assert notes == ["a: notified", "a: closed"]


def test_close_waits_for_an_event_on_the_running_loop_of_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """While that loop runs, the event can still finish; only then is the notifier closed."""
    notes: list[str] = []
    reached, release, looked_again = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        @hookimpl
        async def repo_sync_started(self) -> None:
            reached.set()
            await asyncio.to_thread(release.wait, PATIENCE)
            notes.append("returned")

    def pause(_seconds: float) -> None:
        looked_again.set()
        release.wait(PATIENCE)

    monkeypatch.setattr(in_flight, "time", SimpleNamespace(sleep=pause))
    hooks = Hooks({"a": Noting("a", notes), "slow": Slow()})
    with ThreadPoolExecutor(2) as threads:
        fired = threads.submit(lambda: asyncio.run(hooks.afire(STARTED, BODY)))
        assert reached.wait(PATIENCE)
        closed = threads.submit(hooks.close)
        assert looked_again.wait(PATIENCE)
        assert not closed.done()
        release.set()
        assert not fired.result(PATIENCE).failures
        closed.result(PATIENCE)
    assert notes[-1] == "a: closed"
    assert "returned" in notes


def test_close_waits_for_a_plain_listener_whose_afire_was_canceled() -> None:
    """A thread cannot be canceled, so a notifier that runs in one is closed only after it has finished."""
    notes: list[str] = []
    reached, release = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert release.wait(PATIENCE)

    hooks = Hooks([Noting("a", notes, hold)])

    async def cancel() -> None:
        firing = asyncio.create_task(hooks.afire(STARTED, BODY))
        assert await asyncio.to_thread(reached.wait, PATIENCE)
        firing.cancel()
        # Released from outside of the loop, where `afire` may wait for its thread or leave it to `close`.
        closing = threading.Thread(target=hooks.close)
        try:
            await asyncio.wait([firing], timeout=0.1)
            closing.start()
            await asyncio.to_thread(wait_until_closing, hooks)
            await asyncio.to_thread(closing.join, 0.1)
        finally:
            release.set()
            await asyncio.to_thread(closing.join, PATIENCE)
        with pytest.raises(asyncio.CancelledError):
            await firing

    asyncio.run(cancel())
    assert notes == ["a: notified", "a: closed"]


def test_close_on_the_event_loop_waits_for_an_awaited_event() -> None:
    """A notifier is closed after its last event, even if `close` and `afire` share a thread."""
    notes: list[str] = []

    async def run() -> None:
        reached, release = asyncio.Event(), asyncio.Event()

        class Awaiting(Noting):
            async def notify(self, event: Event) -> None:  # type: ignore[override] # the base class gives any object
                reached.set()
                await release.wait()
                super().notify(event)

        hooks = Hooks([Awaiting("a", notes)])
        async with asyncio.timeout(PATIENCE):
            firing = asyncio.create_task(hooks.afire(STARTED, BODY))
            await reached.wait()
            hooks.close()
            release.set()
            await firing

    asyncio.run(run())
    assert notes == ["a: notified", "a: closed"]


def test_hooks_can_be_closed_after_a_loop_that_moved_to_another_thread() -> None:
    """An `afire` may end in another thread than it started in."""
    loop = asyncio.new_event_loop()
    reached, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await release.wait()

    hooks = Hooks([listener("a", hold)])
    firing = loop.create_task(hooks.afire(STARTED, BODY))
    first = threading.Thread(target=loop.run_until_complete, args=(reached.wait(),))
    first.start()
    first.join(PATIENCE)
    release.set()
    try:
        assert not loop.run_until_complete(firing).failures
    finally:
        loop.close()
    closing = threading.Thread(target=hooks.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()


# Listeners that use the hooks they listen to.


def test_listener_may_fire_another_event() -> None:
    """A listener may fire another event, which has its own report."""
    inner: list[Any] = []
    hooks = Hooks(
        [
            listener("a", lambda: inner.append(hooks.repo_publish_started(repo_id="pulp-f17", distributor_id="yum"))),
            listener("b", nothing, "repo_publish_started"),
        ]
    )
    report = hooks.fire(STARTED, BODY)
    assert [outcome.listener for outcome in report.outcomes] == ["a"]
    assert [outcome.listener for outcome in inner[0].outcomes] == ["b"]
    hooks.close()


def test_async_listener_may_fire_and_afire_another_event() -> None:
    """An `async def` listener may fire to other `async def` listeners."""
    published: list[str] = []

    async def on_publish(body: types.RepoPublishStarted) -> None:
        await asyncio.sleep(0)
        published.append(body["distributor_id"])

    async def on_sync() -> None:
        hooks.repo_publish_started(repo_id="pulp-f17", distributor_id="fired")
        await hooks.afire("repo-publish-started", {"repo_id": "pulp-f17", "distributor_id": "awaited"})

    hooks = Hooks([listener("a", on_sync), listener("b", on_publish, "repo_publish_started")])
    assert not hooks.fire(STARTED, BODY).failures
    assert not asyncio.run(hooks.afire(STARTED, BODY)).failures
    assert published == ["fired", "awaited"] * 2
    hooks.close()


def test_listener_that_closes_its_host_does_not_wait_for_itself() -> None:
    """`close` returns within a listener, the event still reaches the others, and no other can be fired."""
    called: list[str] = []
    hooks = Hooks([listener("a", lambda: hooks.close()), listener("b", lambda: called.append("b"))])  # noqa: PLW0108 - bound later
    assert not hooks.fire(STARTED, BODY).failures
    assert called == ["b"]
    with pytest.raises(ClosedError):
        hooks.fire(STARTED, BODY)


def test_listener_that_closes_its_host_does_not_close_a_notifier_before_its_last_event() -> None:
    """A notifier called after such a listener is notified first, and then closed once."""
    notes: list[str] = []
    hooks = Hooks([listener("a", lambda: hooks.close()), Noting("b", notes)])  # noqa: PLW0108 - bound later
    assert not hooks.fire(STARTED, BODY).failures
    assert notes == ["b: notified", "b: closed"]


CLOSING = """
import asyncio, types
from pulp_hooks import Hooks, hookimpl

plugin = types.ModuleType("closer")

@hookimpl
{define} repo_sync_started():
    hooks.close()

plugin.repo_sync_started = repo_sync_started
hooks = Hooks([plugin])

async def main():
    return {fire}("repo-sync-started", {{"repo_id": "pulp-f17"}})

print(*[outcome.status for outcome in asyncio.run(main()).outcomes])
"""


@pytest.mark.parametrize(
    ("define", "fire"),
    [("def", "await hooks.afire"), ("async def", "hooks.fire"), ("async def", "await hooks.afire")],
    ids=["plain listener in afire", "async listener in fire inside a loop", "async listener in afire"],
)
def test_listener_that_closes_its_host_from_another_thread_does_not_hang(define: str, fire: str) -> None:
    """A listener in a thread of the hooks may also close them."""
    assert run_alone(CLOSING.format(define=define, fire=fire)) == "succeeded\n"


# Threads, and several hooks in one process.


def test_many_threads_may_fire_at_once() -> None:
    """Every event reaches every listener once, even if one listener raises and one changes its body."""
    threads, rounds = 8, 25
    together = threading.Barrier(threads, timeout=PATIENCE)
    seen: list[tuple[str, str]] = []

    def spoil(body: dict[str, object]) -> None:
        body["repo_id"] = "spoilt"

    async def awaited(body: types.RepoSyncStarted, event: Event) -> None:
        await asyncio.sleep(0)
        seen.append((event.id, body["repo_id"]))

    def fails() -> None:
        raise LookupError

    def plain(body: types.RepoSyncStarted, event: Event) -> None:
        seen.append((event.id, body["repo_id"]))

    plugins = [listener("a", spoil), listener("b", awaited), listener("c", fails), listener("d", plain)]
    hooks = Hooks(plugins)

    def fire(number: int) -> list[tuple[str, str]]:
        together.wait()
        fired: list[tuple[str, str]] = []
        for round_ in range(rounds):
            repo_id = f"{number}-{round_}"
            report = hooks.fire(STARTED, {"repo_id": repo_id})
            assert [outcome.listener for outcome in report.outcomes] == ["a", "b", "c", "d"]
            assert [outcome.listener for outcome in report.failures] == ["c"]
            fired.append((report.event.id, repo_id))
        return fired

    with ThreadPoolExecutor(threads) as pool:
        fired = [one for part in [pool.submit(fire, number) for number in range(threads)] for one in part.result()]
    assert Counter(seen) == Counter(fired * 2)
    assert len({event_id for event_id, _ in fired}) == threads * rounds
    hooks.close()


def test_two_hooks_in_one_process_are_independent() -> None:
    """One plugin may serve two hosts, and closing one does not affect the other."""
    called: list[str] = []
    shared = listener("shared", lambda event: called.append(event.source))
    first = Hooks(
        [shared, listener("own", nothing)],
        source="first:",
        settings=Settings(dispatch=DispatchSettings(max_body_bytes=1024)),
    )
    second = Hooks([shared], source="second:")
    first.fire(STARTED, BODY)
    first.close()
    with pytest.raises(ClosedError):
        first.fire(STARTED, BODY)
    report = second.fire(STARTED, {"repo_id": "x" * 2000})
    assert [outcome.listener for outcome in report.outcomes] == ["shared"]
    assert called == ["first:", "second:"]
    second.close()
