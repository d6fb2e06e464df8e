"""Attempts that cannot be recorded: results are kept, and recording is retried until it succeeds."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine

from pulp_hooks import JournalError
from pulp_hooks.journal.clock import Clock
from pulp_hooks.worker.attempts import Attempt, Ending
from tests.worker.conftest import Host, Listener
from tests.worker.test_worker import fire, settle

Until = Callable[[Callable[[], object]], None]

_REFUSE = {
    "sqlite": [
        "CREATE TRIGGER refuse BEFORE INSERT ON pulp_hooks_attempt BEGIN SELECT RAISE(ABORT, 'not permitted'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not permitted'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON pulp_hooks_attempt FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
}
_ALLOW = {"sqlite": ["DROP TRIGGER refuse"], "postgresql": ["DROP FUNCTION refuse CASCADE"]}


def execute(host: Host, statements: dict[str, list[str]]) -> None:
    """Change the journal's tables, as an operator may."""
    engine = create_engine(host.url)
    with engine.begin() as connection:
        for statement in statements[engine.dialect.name]:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_no_listener_is_called_when_results_cannot_be_recorded(host: Host) -> None:
    """A missing privilege is found before the first call; nothing is claimed, and no attempt is counted."""
    listener = Listener()
    hooks = host.hooks(listener)
    (event_id, _) = fire(hooks, "a", "b")
    execute(host, _REFUSE)
    with pytest.raises(JournalError, match="not permitted"):
        hooks.worker().run_once()
    with pytest.raises(JournalError, match="not permitted"):
        hooks.worker().deliver_one(event_id, "Listener")
    assert listener.events == []
    assert [(one.state, one.attempts, one.lease) for one in host.deliveries()] == [("pending", 0, None)] * 2
    execute(host, _ALLOW)
    settle(host, hooks.worker())
    assert sorted(listener.repo_ids) == ["a", "b"]


def test_worker_begins_no_call_until_it_can_record_again(
    host: Host, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Waiting claims are not begun, and the kept result is recorded later: one call each."""
    gate = threading.Event()

    def does(event: Any) -> None:  # noqa: ANN401 - as pluggy has it
        if event.body["repo_id"] == "gate":
            gate.wait(20)
            execute(host, _REFUSE)
        elif gate.is_set():
            time.sleep(0.2)

    listener = Listener(does)
    hooks = host.hooks(listener)
    fire(hooks, "gate", *map(str, range(30)))
    with hooks.worker(threads_per_listener=1) as worker:
        until(lambda: worker._pools["Listener"].in_hand >= 10)
        gate.set()
        until(lambda: caplog.text.count("could not record what was delivered") >= 3)
        # Calls that began before the first failure was known have ended.
        called = len(listener.events)
        until(lambda: caplog.text.count("could not record what was delivered") >= 4)
        assert len(listener.events) == called
        execute(host, _ALLOW)
        gate.clear()
        until(lambda: host.states() == ["delivered"] * 31)
    assert len(listener.events) == 31


def test_single_run_reports_unrecorded_calls(host: Host, until: Until, caplog: pytest.LogCaptureFixture) -> None:
    """It retries for a few seconds, and reports the number of calls that will be repeated."""

    def does(_event: object) -> None:
        if len(listener.events) == 1:
            execute(host, _REFUSE)
        else:
            # It began before the first failure was known.
            until(lambda: "could not record what was delivered" in caplog.text)

    listener = Listener(does)
    hooks = host.hooks(listener)
    fire(hooks, "a", "b", "c")
    with pytest.raises(JournalError, match="2 calls of listeners could not be recorded and will be repeated"):
        hooks.worker(threads_per_listener=1).run_once()
    assert len(listener.events) == 2
    assert host.states() == ["pending"] * 3


@contextmanager
def allowed_after_a_failure(host: Host, until: Until, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Allow recording again after the first failure."""

    def allow() -> None:
        until(lambda: "could not record what was delivered" in caplog.text)
        execute(host, _ALLOW)

    thread = threading.Thread(target=allow)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("one_by_one", [False, True])
def test_single_run_continues_when_recording_recovers_in_time(
    host: Host, until: Until, caplog: pytest.LogCaptureFixture, *, one_by_one: bool
) -> None:
    """After a short failure no call is repeated."""

    def does(_event: object) -> None:
        if len(listener.events) == 1:
            execute(host, _REFUSE)

    listener = Listener(does)
    hooks = host.hooks(listener)
    ids = fire(hooks, "a", "b")
    worker = hooks.worker(threads_per_listener=1)
    with allowed_after_a_failure(host, until, caplog):
        if one_by_one:
            attempt = worker.deliver_one(ids[0], "Listener")
            assert attempt is not None
            assert attempt.ending is Ending.SUCCEEDED
        worker.run_once()
    assert (host.states(), len(listener.events)) == (["delivered"] * 2, 2)


def test_attempt_that_cannot_be_recorded_keeps_no_other_from_being_recorded(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; its delivery is claimed again after its lease, and every other one is delivered."""
    hooks = host.hooks(Listener())
    bad, *_ = fire(hooks, "a", "b", "c")
    worker = hooks.worker(threads_per_listener=1)
    record = worker._recorder.record

    def broken(ended: Sequence[Attempt], clock: Clock) -> set[str]:
        if any(one.claim.event_id == bad for one in ended):
            raise RuntimeError("a bug in this package")
        return record(ended, clock)

    monkeypatch.setattr(worker._recorder, "record", broken)
    worker.run_once()
    assert f"event {bad} for listener Listener could not be recorded" in caplog.text
    assert sorted(host.states()) == ["delivered", "delivered", "pending"]


def test_journal_that_fails_between_attempts_recorded_one_by_one_loses_none(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were not recorded yet are kept, and recorded when it is back."""
    hooks = host.hooks(Listener())
    fire(hooks, "a", "b", "c")
    worker = hooks.worker(threads_per_listener=1)
    claims = worker.journal.queue.claim("Listener", 3, 30)
    worker._ended = [Attempt(claim, Ending.SUCCEEDED, worker._clock.elapsed(), 0.0) for claim in claims]
    record, failures = worker._recorder.record, [RuntimeError("a bug"), None, JournalError("the journal is away")]

    def broken(ended: Sequence[Attempt], clock: Clock) -> set[str]:
        if failures and (failure := failures.pop(0)):
            raise failure
        return record(ended, clock)

    monkeypatch.setattr(worker._recorder, "record", broken)
    with pytest.raises(JournalError, match="the journal is away"):
        worker._record()
    assert sorted(host.states()) == ["delivered", "pending", "pending"]
    worker._record()
    assert host.states() == ["delivered"] * 3
