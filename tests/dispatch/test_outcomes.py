"""Outcomes: status, error, traceback, detail, and the log record of a failure."""

import asyncio
import dataclasses
import gc
import json
import logging
import pickle
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks import (
    DisableListener,
    EventType,
    Hooks,
    Notifier,
    Outcome,
    PermanentFailure,
    RetryLater,
    Status,
    hookimpl,
)
from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.details import MAX_DETAIL_BYTES
from pulp_hooks.dispatch.direct import run_in_turn
from pulp_hooks.dispatch.failures import MAX_TRACEBACK_BYTES, ListenerError
from pulp_hooks.dispatch.outcomes import Report, exception_to_log
from pulp_hooks.dispatch.registry import Registry
from pulp_hooks.plugins.notifiers import notifying
from pulp_hooks.testing import example_event
from tests.dispatch.test_hostile import ODD, kind_of, raising

BODY = {"repo_id": "zoo"}
SECRET = "hunter2-and-more"  # noqa: S105 - it must not be shown
PIN = 48151623


def listener(function: Callable[..., object], name: str = "a") -> ModuleType:
    """Return a plugin with one function."""
    plugin = ModuleType(name)
    plugin.__dict__["repo_sync_started"] = hookimpl(function)
    return plugin


def fire(hooks: Hooks) -> Report:
    """Fire without a running event loop."""
    return hooks.fire("repo-sync-started", BODY)


def afire(hooks: Hooks) -> Report:
    """Fire from a coroutine."""
    return asyncio.run(hooks.afire("repo-sync-started", BODY))


def fire_inside_a_loop(hooks: Hooks) -> Report:
    """Fire in a thread with a running event loop."""

    async def main() -> Report:
        return fire(hooks)

    return asyncio.run(main())


Way = Callable[[Hooks], Report]
every_way = pytest.mark.parametrize("way", [fire, fire_inside_a_loop, afire])


def outcome_of(function: Callable[..., object], way: Way = fire) -> Outcome:
    """Return the outcome of a listener."""
    (outcome,) = way(Hooks([listener(function)])).outcomes
    return outcome


class Told(Notifier):
    """A notifier that calls a function."""

    does: Callable[[], object]

    def notify(self, event: object) -> object:
        """Call the function."""
        del event
        return self.does()


def outcome_with_secrets(does: Callable[[], object]) -> Outcome:
    """Return the outcome of a notifier whose settings hold secrets."""
    notifier = Told({})
    notifier.does = does
    listener = notifying(notifier, "desk", secrets=(SECRET, str(PIN)))
    event = Hooks().fire("repo-sync-started", BODY).event
    (outcome,) = run_in_turn(Registry([listener], slow_seconds=60).guards(event), Original(event))
    return outcome


def raise_it(error: BaseException) -> Callable[[], object]:
    """Return a function that raises."""

    def listen() -> None:
        raise error

    return listen


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[logging.LogRecord]]:
    """Return the log records of direct dispatch; no other handler gets or keeps them."""
    kept: list[logging.LogRecord] = []
    logger = logging.getLogger("pulp_hooks.dispatch")
    monkeypatch.setattr(logger, "propagate", False)
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", kept.append)
    logger.addHandler(handler)
    yield kept
    logger.removeHandler(handler)


def formatted(record: logging.LogRecord) -> str:
    """Return a record as formatted for a log file."""
    return logging.Formatter().format(record)


# Outcomes and reports.


def test_outcome_is_frozen_and_compared_without_what_only_explains_it() -> None:
    """Outcomes can be kept in sets; two attempts that failed at different lines are equal."""
    outcome = Outcome("a", "repo_sync_started", Status.FAILED, 1.0, "ValueError", {"code": 500}, "one", None)
    assert outcome == dataclasses.replace(outcome, traceback="other", control=PermanentFailure())
    assert len({outcome, dataclasses.replace(outcome, traceback="other")}) == 1
    assert "one" not in repr(outcome)
    assert not hasattr(outcome, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.status = Status.SUCCEEDED  # type: ignore[misc] # that is the fact


def test_statuses_have_one_spelling() -> None:
    """The spelling is the same in Python, JSON and tables."""
    assert [str(status) for status in Status] == ["succeeded", "failed", "queued", "not-queued"]
    assert json.dumps(list(Status)) == '["succeeded", "failed", "queued", "not-queued"]'


def test_failures_are_failed_and_not_queued_outcomes() -> None:
    """Failures are outcomes with status failed or not-queued."""
    outcomes = tuple(Outcome(status, "repo_sync_started", status, 0.0) for status in Status)
    report = Report(example_event(EventType.REPO_SYNC_STARTED), outcomes)
    assert [outcome.listener for outcome in report.failures] == ["failed", "not-queued"]
    assert not report.is_duplicate


def test_event_that_the_journal_knows_is_reported_as_a_duplicate(sqlite_url: str) -> None:
    """`is_duplicate` tells it from an event without listeners, which has no outcomes either."""
    with Hooks({"a": listener(lambda: None)}, journal=sqlite_url) as hooks:
        first, second = (hooks.fire("repo-sync-started", BODY, event_id="one") for _ in range(2))
        other = hooks.fire("repo-publish-started", {**BODY, "distributor_id": "d"})
    assert [(len(report.outcomes), report.is_duplicate) for report in (first, second, other)] == [
        (1, False),
        (0, True),
        (0, False),
    ]


# The record of a failure.


@every_way
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_failure_is_one_error_record_with_fields_and_the_exception(
    way: Way, kind: str, records: list[logging.LogRecord]
) -> None:
    """There is no other record, and error trackers get the exception with its frames."""
    error = LookupError("no such thing")

    async def later() -> None:
        raise error

    report = way(Hooks([listener(raise_it(error) if kind == "plain" else later)]))
    (record,), (outcome,) = records, report.outcomes
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[1] is error
    names = ("event_id", "listener", "hook", "status", "seconds", "error")
    assert [getattr(record, name) for name in names] == [
        report.event.id,
        "a",
        "repo_sync_started",
        "failed",
        outcome.seconds,
        "LookupError: no such thing",
    ]
    assert type(record.status) is str  # type: ignore[attr-defined] # set by `extra`


@every_way
def test_delivery_control_is_an_error_record_without_a_traceback(way: Way, records: list[logging.LogRecord]) -> None:
    """It was raised on purpose, so its traceback has no value."""
    way(Hooks([listener(raise_it(PermanentFailure("gone")))]))
    (record,) = records
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert formatted(record).endswith("PermanentFailure: gone")


def test_failure_is_logged_before_the_next_listener_is_called(records: list[logging.LogRecord]) -> None:
    """A next listener that takes long or is interrupted cannot lose the record."""
    seen: list[int] = []
    Hooks([listener(raise_it(ValueError())), listener(lambda: seen.append(len(records)), "b")]).fire(
        "repo-sync-started", BODY
    )
    assert seen == [1]


def test_exception_of_a_listener_with_secrets_is_logged_as_a_stand_in(records: list[logging.LogRecord]) -> None:
    """Log formatters and error trackers may show the local variables of every frame, and messages hold URLs."""

    def listen() -> None:
        password = SECRET
        raise ConnectionError(f"https://u:{password}@host")

    outcome = outcome_with_secrets(listen)
    (record,) = records
    assert record.exc_info
    assert isinstance(record.exc_info[1], ListenerError)
    assert record.exc_info[2] is None
    assert outcome.traceback
    assert outcome.traceback in formatted(record)
    for text in (outcome.traceback, formatted(record)):
        assert "https://u:***@host" in text
        assert ", in listen\n" in text
        assert SECRET not in text


@pytest.mark.parametrize("odd", ODD)
def test_exception_that_raises_or_lies_is_logged_all_the_same(odd: str, records: list[logging.LogRecord]) -> None:
    """Its record has a short, useful text, and can be formatted."""
    outcome = outcome_of(raise_it(ODD[odd]()))
    (record,) = records
    assert outcome.error
    text = formatted(record)
    assert outcome.error in text
    assert len(text) < 2 * MAX_TRACEBACK_BYTES
    assert (", in listen\n" in text) == (outcome.traceback is not None)


@pytest.mark.parametrize("name", ["__bool__", "__len__"])
def test_exception_that_is_false_has_a_traceback(name: str, records: list[logging.LogRecord]) -> None:
    """`logging` and `traceback` test the truth value of exceptions."""
    outcome = outcome_of(raise_it(kind_of(**{name: lambda _: 0 if name == "__len__" else False})))
    assert ", in listen\n" in formatted(records[0])
    assert ", in listen\n" in (outcome.traceback or "")


def test_exception_is_logged_once() -> None:
    """The outcome drops it then; several are one group."""
    errors = [ValueError("a"), SystemExit("b")]
    outcomes = [Outcome("a", "hook", Status.FAILED, 0.0, "error", _exceptions=[error]) for error in errors]
    assert exception_to_log(outcomes[:1]) is errors[0]
    assert exception_to_log(outcomes[:1]) is None
    outcomes = [Outcome("a", "hook", Status.FAILED, 0.0, "error", _exceptions=[error]) for error in errors]
    group = exception_to_log(outcomes)
    assert isinstance(group, BaseExceptionGroup)
    assert group.exceptions == tuple(errors)


class Resource:
    """An object that a listener holds while it runs."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Disable the garbage collector, so that only unreferenced objects without cycles are freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@every_way
@pytest.mark.parametrize("control", [False, True])
def test_what_a_failed_listener_held_is_gone_when_fire_returns(
    way: Way, *, control: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the report nor a cycle keeps its frames alive, which may hold connections and whole files."""
    logger = logging.getLogger("pulp_hooks.dispatch")
    monkeypatch.setattr(logger, "disabled", True)
    held: list[weakref.ref[Resource]] = []

    def listen() -> None:
        resource = Resource()
        held.append(weakref.ref(resource))
        raise PermanentFailure("gone") if control else ValueError("no")

    report = way(Hooks([listener(listen)]))
    assert report.failures
    assert [reference() for reference in held] == [None]


@pytest.mark.usefixtures("uncollected")
def test_what_a_failed_listener_held_is_gone_when_the_attempt_is_recorded(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds for deliveries, single ones and those in a worker's threads."""
    monkeypatch.setattr(logging.getLogger("pulp_hooks.worker"), "disabled", True)
    held: list[weakref.ref[Resource]] = []

    def listen() -> None:
        resource = Resource()
        held.append(weakref.ref(resource))
        raise ValueError("no")

    with Hooks({"a": listener(listen)}, journal=sqlite_url) as hooks:
        worker = hooks.worker()
        worker.deliver_one(hooks.fire("repo-sync-started", BODY).event.id, "a")
        hooks.fire("repo-sync-started", BODY)
        worker.run_once()
    assert [reference() for reference in held] == [None, None]


def test_failed_attempt_is_one_record_with_the_exception(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A warning while it is retried, an error when it is dead; several implementations are one group."""
    errors = [ValueError("no"), KeyError("no")]

    class Twice:
        @hookimpl(specname="repo_sync_started")
        def first(self) -> None:
            raise errors[0]

        @hookimpl(specname="repo_sync_started")
        def second(self) -> None:
            raise errors[1]

    with Hooks({"a": listener(raise_it(errors[0])), "Twice": Twice()}, journal=sqlite_url) as hooks:
        hooks.fire("repo-sync-started", BODY)
        hooks.worker().run_once()
    found = {record.__dict__["listener"]: record for record in caplog.records if record.name.startswith("pulp_hooks")}
    assert {record.levelno for record in found.values()} == {logging.WARNING}
    assert len([record for record in caplog.records if record.name.startswith("pulp_hooks")]) == 2
    assert found["a"].exc_info
    assert found["a"].exc_info[1] is errors[0]
    assert found["Twice"].exc_info
    assert isinstance(found["Twice"].exc_info[1], ExceptionGroup)


# Tracebacks.


@every_way
def test_traceback_of_a_failure_is_in_its_outcome(way: Way) -> None:
    """It is the traceback that Python prints, starting at the guard."""
    outcome = outcome_of(raise_it(LookupError("no such thing")), way)
    assert outcome.traceback
    assert outcome.traceback.startswith("Traceback (most recent call last):\n")
    assert outcome.traceback.endswith(", in listen\n    raise error\nLookupError: no such thing")


@pytest.mark.parametrize("does", [dict, raise_it(RetryLater(after=1)), raise_it(DisableListener())])
def test_success_and_delivery_control_have_no_traceback(does: Callable[[], object]) -> None:
    """Neither has an error to locate in the code."""
    assert outcome_of(lambda: does()).traceback is None  # noqa: PLW0108 - a class is not a function


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_traceback_is_capped_in_the_middle(character: str) -> None:
    """The first and the last lines stay, which show where the call began and the exception."""
    error = ValueError(f"{character * 20_000} end")
    text = outcome_of(raise_it(error)).traceback or ""
    assert MAX_TRACEBACK_BYTES - 10 <= len(text.encode()) <= MAX_TRACEBACK_BYTES
    assert text.startswith("Traceback")
    assert text.endswith(" end")


# Details.

EXCHANGE = {"request": {"method": "POST", "headers": {"A": "b"}}, "status": 503, "body": ["busy", None, 1.5, True]}


class CarryingError(Exception):
    """An exception with a detail."""

    def __init__(self, detail: object) -> None:
        super().__init__("busy")
        self.detail = detail


async def _returning(value: object) -> object:
    await asyncio.sleep(0)
    return value


def returning(value: object) -> Callable[[], Awaitable[object]]:
    """Return a coroutine function that returns a value."""

    async def listen() -> object:
        return await _returning(value)

    return listen


@every_way
@pytest.mark.parametrize(
    "listen",
    [
        lambda: EXCHANGE,
        lambda: MappingProxyType(EXCHANGE),
        returning(EXCHANGE),
        lambda: _returning(EXCHANGE),
        raise_it(CarryingError(EXCHANGE)),
        raise_it(RetryLater("busy", after=1, detail=EXCHANGE)),
        raise_it(PermanentFailure("busy", detail=EXCHANGE)),
        raise_it(DisableListener("busy", detail=EXCHANGE)),
        raise_it(ExceptionGroup("group", [ValueError(), ExceptionGroup("in", [CarryingError(EXCHANGE)])])),
    ],
    ids=["returned", "mapping", "async", "awaitable", "attribute", "later", "permanent", "disable", "group"],
)
def test_detail_is_what_a_listener_returns_or_its_exception_carries(way: Way, listen: Callable[[], object]) -> None:
    """The detail is a copy, as JSON."""
    detail = outcome_of(listen, way).detail
    assert detail == EXCHANGE
    assert type(detail) is dict
    assert detail["request"] is not EXCHANGE["request"]


@every_way
@pytest.mark.parametrize("value", ["text", 7, [1], {1}, True, b"x", object(), dict])
def test_other_values_are_ignored(way: Way, value: object) -> None:
    """Only a mapping is a detail, returned or attached to an exception."""
    assert outcome_of(lambda: value, way).detail is None
    assert outcome_of(returning(value), way).detail is None
    assert outcome_of(raise_it(CarryingError(value)), way).detail is None


def test_detail_of_a_control_survives_pickling() -> None:
    """A listener may pass it between processes."""
    for control in (RetryLater("a", after=1, detail=EXCHANGE), PermanentFailure("a", detail=EXCHANGE)):
        copy = pickle.loads(pickle.dumps(control))  # noqa: S301 - written by this test
        assert (str(copy), copy.detail) == ("a", EXCHANGE)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"body": "x" * MAX_DETAIL_BYTES}, MAX_DETAIL_BYTES + len('{"body":""}')),
        ({"body": "é" * MAX_DETAIL_BYTES}, 2 * MAX_DETAIL_BYTES + len('{"body":""}')),
        ({"rows": [[0] * 1000] * 1000}, None),
        ({"rows": range(10**9)}, 39),
    ],
)
@pytest.mark.parametrize("is_raised", [False, True])
def test_detail_over_the_cap_is_replaced_by_a_note(value: dict[str, Any], size: int | None, *, is_raised: bool) -> None:
    """It is not an error, and it takes little time, however large the detail."""
    detail: Any = outcome_of(raise_it(CarryingError(value)) if is_raised else lambda: value).detail
    if size is not None and size <= MAX_DETAIL_BYTES:
        assert detail == {"rows": {"repr": "range(0, 1000000000)"}}
        return
    assert (detail["truncated"], detail["bytes"]) == (True, size)
    assert len(json.dumps(detail)) < MAX_DETAIL_BYTES


def test_detail_of_exactly_the_cap_is_kept() -> None:
    """The cap is that of the JSON in UTF-8."""
    value = {"body": "é" * ((MAX_DETAIL_BYTES - len('{"body":""}')) // 2) + "x"}
    assert len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) == MAX_DETAIL_BYTES
    assert outcome_of(lambda: value).detail == value


VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.builds(object),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
)


@given(value=st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), VALUES))
def test_any_detail_is_json_under_the_cap(value: dict[Any, Any]) -> None:
    """Any detail can be stored and sent as JSON."""
    outcome = outcome_of(lambda: value)
    text = json.dumps(outcome.detail, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert outcome.status is Status.SUCCEEDED
    assert type(outcome.detail) is dict
    assert len(text.encode()) <= MAX_DETAIL_BYTES


class HostileMapping(Mapping[str, object]):
    """A mapping whose methods raise."""

    __getitem__ = __iter__ = __len__ = __repr__ = raising(SystemExit)


HOSTILE: dict[str, Callable[[], object]] = {
    "mapping": HostileMapping,
    "value": lambda: {"value": type("Hostile", (), {"__repr__": raising(SystemExit)})()},
    "class of a value": lambda: {"value": type("Hostile", (), {"__class__": property(raising(ValueError))})()},
    "endless": lambda: {"endless": iter(int, 1)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_detail_does_not_change_the_outcome(name: str) -> None:
    """The status and error of the call stay as they are."""
    value = HOSTILE[name]()
    returned, carried = outcome_of(lambda: value), outcome_of(raise_it(CarryingError(value)))
    assert (returned.status, carried.error) == (Status.SUCCEEDED, "CarryingError: busy")
    for outcome in (returned, carried):
        assert len(json.dumps(outcome.detail)) < MAX_DETAIL_BYTES


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_attribute_detail_that_raises_is_ignored(error: type[BaseException]) -> None:
    """The outcome has the exception of the listener, not that of its attribute."""
    odd = kind_of(detail=property(raising(error)))
    outcome = outcome_of(raise_it(odd))
    assert (outcome.error, outcome.detail) == ("OddError: odd", None)


@pytest.mark.parametrize("is_raised", [False, True])
def test_detail_shows_no_secret(*, is_raised: bool) -> None:
    """Secrets are redacted in values, keys and numbers, and in the start of a detail over the cap."""
    value = {
        "url": f"https://u:{SECRET}@host",
        "pin": PIN,
        SECRET: [{"deep": SECRET}],
        "object": Exception(SECRET),
        "count": 7,
    }
    for detail in (value, value | {"long": "x" * MAX_DETAIL_BYTES}):
        outcome = outcome_with_secrets(raise_it(CarryingError(detail)) if is_raised else lambda detail=detail: detail)  # type: ignore[misc] # a default binds it
        text = json.dumps(outcome.detail)
        assert SECRET not in text
        assert str(PIN) not in text
        assert "https://u:***@host" in text
    small: Any = outcome_with_secrets(lambda: value).detail
    assert (small["pin"], small["***"], small["count"]) == ("***", [{"deep": "***"}], 7)
