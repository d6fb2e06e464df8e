"""A rolling change: while hosts and workers have different settings, those of the host apply to its events."""

import json
import logging
import time
from typing import Any

import pytest
from sqlalchemy import update

from pulp_hooks import Hooks, hookimpl
from pulp_hooks.journal import schema
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.queue import Queue
from pulp_hooks.journal.replay import Missed
from pulp_hooks.worker.attempts import Ending
from pulp_hooks.worker.schedule import pause_elsewhere
from tests.worker.conftest import Host, Listener
from tests.worker.test_worker import STARTED, Until, fire, settle

DAY = 86_400.0
OLDER = type("Listener", (), {"repo_sync_finished": hookimpl(lambda _: None)})


def age(hooks: Hooks, seconds: float) -> None:
    """Make everything in the journal older."""
    assert hooks.journal is not None
    with hooks.journal.backend.writing("age it") as connection:
        connection.execute(update(schema.delivery).values(created=schema.delivery.c.created - seconds))


def change(hooks: Hooks, **members: Any) -> None:  # noqa: ANN401 - any JSON
    """Change members of all stored events, as if another release had written them."""
    assert hooks.journal is not None
    with hooks.journal.backend.writing("change it") as connection:
        for row in connection.execute(schema.event.select()).all():
            content = json.dumps(json.loads(row.content) | members).encode()
            connection.execute(update(schema.event).where(schema.event.c.id == row.id).values(content=content))


def test_older_worker_releases_what_its_listener_does_not_take(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """No attempt is counted, a single run ends, and a worker with the host's settings makes the delivery."""
    listener = Listener()
    newer = host.hooks(listener)
    (event_id,) = fire(newer, "a")
    before = time.time()
    older = host.hooks(OLDER()).worker()
    older.run_once()
    (delivery,) = host.deliveries()
    assert (delivery.state, delivery.lease, delivery.step, delivery.attempts) == ("pending", None, 0, 0)
    assert delivery.due is not None
    assert 0.5 < delivery.due - before < 10
    assert (host.attempts(), older.tally) == ([], {Ending.UNWANTED: 1})
    assert f"event {event_id} for listener Listener" in caplog.text
    assert "released for another worker" in caplog.text
    settle(host, newer.worker())
    assert (host.states(), host.attempts(), listener.repo_ids) == (["delivered"], [(1, "succeeded", None)], ["a"])


def test_older_worker_does_not_release_in_a_hot_loop(
    host: Host, until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older worker claims it again after seconds, not at once."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("pulp_hooks.worker.worker._POLL_SECONDS", 0.01)
    hooks = host.hooks(OLDER())
    assert hooks.journal is not None
    fire(host.hooks(Listener()), "a")
    # The clock stands still from here on, so that only a hot loop claims the delivery again.
    now, elapsed = time.time() + 0.1, SYSTEM_CLOCK.elapsed() + 0.1
    hooks.journal.now()
    hooks.journal.backend.clock = Clock(lambda: now, lambda: elapsed)
    turns: list[int] = []
    worker = hooks.worker()
    turn = worker._turn

    def noted() -> float:
        turns.append(caplog.text.count("released"))
        return turn()

    monkeypatch.setattr(worker, "_turn", noted)
    with worker:
        until(lambda: turns.count(1) > 20 or 2 in turns)
    assert caplog.text.count("released") == 1


def test_event_that_no_worker_takes_is_skipped_when_its_schedule_is_over(host: Host) -> None:
    """It waits at most as long as failures would be retried, and is listed with the reason."""
    hooks = host.hooks(OLDER(), retry_seconds=(DAY, 2 * DAY))
    fire(host.hooks(Listener()), "a")
    age(hooks, 3 * DAY - 60)
    hooks.worker().run_once()
    assert (host.states(), host.attempts()) == (["pending"], [])
    due = host.deliveries()[0].due
    assert due is not None
    assert 299 <= due - time.time() <= 301
    assert hooks.journal is not None
    with hooks.journal.backend.writing("make it due") as connection:
        connection.execute(update(schema.delivery).values(due=0.0))
    age(hooks, 120)
    hooks.worker().run_once()
    ((number, status, error),) = host.attempts()
    (delivery,) = host.deliveries()
    assert (delivery.step, delivery.attempts, delivery.error) == (1, 1, error)
    assert (host.states(), number, status) == (["skipped"], 1, "unwanted")
    assert error is not None
    assert "in this worker the listener does not take this event; fix: " in error


@pytest.mark.parametrize(
    ("age_seconds", "pause"), [(0.0, 1.0), (1.0, 1.0), (60.0, 30.0), (5000.0, 300.0), (10_001.0, None)]
)
def test_pause_before_another_worker_may_claim_grows_with_age(age_seconds: float, pause: float | None) -> None:
    """The pause grows from a second to five minutes, until the end of the schedule."""
    assert pause_elsewhere(age_seconds, (10.0, 9990.0)) == pause


def test_event_of_a_newer_release_is_released(host: Host) -> None:
    """A worker of the next release can read an event type that is unknown in this one."""
    hooks = host.hooks(Listener())
    fire(hooks, "a")
    change(hooks, type="org.pulpproject.repo.remove.start")
    worker = hooks.worker()
    worker.run_once()
    (delivery,) = host.deliveries()
    assert (delivery.state, delivery.attempts, host.attempts()) == ("pending", 0, [])
    assert worker.tally == {Ending.UNREADABLE: 1}
    age(hooks, 100 * DAY)
    assert hooks.journal is not None
    with hooks.journal.backend.writing("make it due") as connection:
        connection.execute(update(schema.delivery).values(due=0.0))
    hooks.worker().run_once()
    assert (host.states(), [status for _, status, _ in host.attempts()]) == (["dead"], ["unreadable"])


def test_single_delivery_is_released(host: Host) -> None:
    """A Celery task makes single deliveries."""
    (event_id,) = fire(host.hooks(Listener()), "a")
    attempt = host.hooks(OLDER()).worker().deliver_one(event_id, "Listener")
    assert attempt is not None
    assert attempt.ending is Ending.UNWANTED
    (delivery,) = host.deliveries()
    assert (delivery.state, delivery.attempts, host.attempts()) == ("pending", 0, [])
    assert host.hooks(OLDER()).worker().deliver_one(event_id, "Listener") is None


def test_repository_waits_for_a_released_delivery(host: Host) -> None:
    """With `ordered`, later events of the repository do not overtake one that an older worker released."""
    called: list[str] = []
    members = {"repo_sync_finished": hookimpl(lambda _, body: called.append(body["repo_id"]))}
    newer = host.hooks(type("Listener", (Listener,), members)(), ordered=True)
    fire(newer, "a")
    moment = "2026-03-02T09:30:00Z"
    names: dict[str, Any] = {"importer_id": "i", "importer_type_id": "i", "started": moment, "completed": moment}
    for repo_id in ("a", "b"):
        newer.repo_sync_finished(repo_id=repo_id, result="success", **names)
    host.hooks(type("Listener", (), members)()).worker().run_once()
    assert called == ["b"]
    assert sorted(host.states()) == ["delivered", "pending", "pending"]


@pytest.mark.parametrize("one_by_one", [False, True])
def test_ordering_keys_of_the_host_hold_in_a_worker_without_order(host: Host, *, one_by_one: bool) -> None:
    """The worker was started before `ordered` was set; a failure blocks its repository nevertheless."""

    def does(event: Any) -> None:  # noqa: ANN401 - as pluggy has it
        if event.body["repo_id"] == "a" and len(listener.events) == 1:
            raise RuntimeError("not yet")

    listener = Listener(does)
    ids = fire(host.hooks(listener, ordered=True), "a", "a", "a")
    worker = host.hooks(listener, ordered=False, retry_seconds=(30,)).worker()
    if one_by_one:
        assert [worker.deliver_one(event_id, "Listener") is None for event_id in reversed(ids)] == [True, True, False]
        assert [worker.deliver_one(event_id, "Listener") is None for event_id in ids] == [True] * 3
        host.pass_time(60)
    settle(host, worker)
    assert listener.ids == [ids[0], *ids]


def test_events_without_ordering_keys_do_not_wait_in_a_worker_with_order(host: Host) -> None:
    """The worker was restarted first; events of an older host are delivered without order."""

    def does(event: Any) -> None:  # noqa: ANN401 - as pluggy has it
        if event.id == ids[0]:
            raise RuntimeError("down")

    listener = Listener(does)
    ids = fire(host.hooks(listener, ordered=False), "a", "a")
    host.hooks(listener, ordered=True).worker().run_once()
    assert sorted(host.states()) == ["delivered", "retrying"]


def test_order_begins_while_a_worker_runs(host: Host) -> None:
    """Events stored between a worker's query and its claim are claimed in order."""
    journal = Journal(host.url)
    claims = journal.queue
    hooks = host.hooks(Listener(), ordered=True)
    assert claims.dues({}) == {}
    fire(hooks, "a", "a")
    # Its query before found no ordering keys.
    assert claims.claim("Listener", 9, 30, ordered=False) == []
    assert len(claims.claim("Listener", 9, 30)) == 1
    journal.close()


@pytest.mark.parametrize(("ordered", "claimed"), [(False, 3), (True, 1)])
def test_backfill_keeps_the_order_of_the_listener(host: Host, *, ordered: bool, claimed: int) -> None:
    """Backfill stores ordering keys by the settings of the listener, as `fire` does."""
    hooks = host.hooks()
    for _ in range(3):
        hooks.fire(STARTED, {"repo_id": "a"})
    assert hooks.journal is not None
    assert hooks.journal.backfill("new", Missed(), ordered=ordered) == 3
    assert len(Queue(hooks.journal.backend).claim("new", 9, 30)) == claimed
