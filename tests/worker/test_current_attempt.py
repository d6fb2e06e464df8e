"""A listener learns which attempt it is called in, and what the last one recorded, also in another worker."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import create_engine, update

from pulp_hooks import DeliveryAttempt, Event, Hooks, Notifier, RetryLater, current_attempt
from pulp_hooks.journal import schema
from pulp_hooks.testing import drain, example_event
from tests.worker.conftest import Host, Listener


class FailingError(Exception):
    """An exception with a detail."""

    def __init__(self, detail: Mapping[str, object] | None) -> None:
        super().__init__("no")
        self.detail = detail


class Script(Listener):
    """A listener that records its attempts, and raises one exception after the other until there is none left."""

    def __init__(self, *raised: Exception | None) -> None:
        super().__init__(self._act)
        self.attempts: list[tuple[int, int, object]] = []
        self._raised = list(raised)

    def _act(self, event: Event) -> None:
        attempt = current_attempt(event)
        self.attempts.append((attempt.number, attempt.step, attempt.previous_detail))
        error = self._raised.pop(0) if self._raised else None
        if error is not None:
            raise error


def test_each_attempt_sees_the_detail_of_the_last_one(host: Host) -> None:
    """An attempt without a detail does not hide that of an earlier one, and a requested pause uses up no step."""
    listener = Script(FailingError({"a": 1}), FailingError(None), RetryLater(after=0, detail={"b": [2]}))
    hooks = host.hooks(listener, retry_seconds=[0] * 5)
    hooks.repo_sync_started(repo_id="zoo")
    drain(hooks)
    assert listener.attempts == [(1, 1, None), (2, 2, {"a": 1}), (3, 3, {"a": 1}), (4, 3, {"b": [2]})]


def test_another_worker_sees_the_detail(host: Host) -> None:
    """The detail is read from the journal, so that it survives the process that recorded it."""
    first = host.hooks(Script(FailingError({"sent": ["a"]})))
    first.repo_sync_started(repo_id="zoo")
    first.worker().run_once()
    first.close()
    listener = Script()
    drain(host.hooks(listener))
    assert listener.attempts == [(2, 2, {"sent": ["a"]})]


def test_ordered_and_single_deliveries_see_the_detail(host: Host) -> None:
    """So does a claim in a repository's order, and one of a single delivery, as Celery makes it."""
    listener = Script(FailingError({"a": 1}), FailingError({"a": 2}))
    hooks = host.hooks(listener, retry_seconds=[0, 0], ordered=True)
    event_id = hooks.repo_sync_started(repo_id="zoo").event.id
    worker = hooks.worker()
    worker.run_once()
    while len(listener.attempts) < 3:
        worker.deliver_one(event_id, "Script")
    assert [detail for _, _, detail in listener.attempts] == [None, {"a": 1}, {"a": 2}]


def test_replay_of_a_dead_letter_sees_the_detail_and_begins_the_schedule_again(host: Host) -> None:
    """What the attempts before the replay have done is still known."""
    listener = Script(FailingError({"sent": ["a"]}))
    hooks = host.hooks(listener, retry_seconds=[])
    event_id = hooks.repo_sync_started(repo_id="zoo").event.id
    drain(hooks)
    hooks.worker().journal.replay(event_id, "Script")
    drain(hooks)
    assert listener.attempts == [(1, 1, None), (2, 1, {"sent": ["a"]})]


def test_replay_of_what_succeeded_starts_anew(host: Host) -> None:
    """An operator who replays a delivered event wants it delivered again, whatever earlier attempts recorded."""
    listener = Script(FailingError({"sent": ["a"]}))
    hooks = host.hooks(listener, retry_seconds=[0])
    event_id = hooks.repo_sync_started(repo_id="zoo").event.id
    drain(hooks)
    hooks.worker().journal.replay(event_id, "Script")
    drain(hooks)
    assert listener.attempts[-1] == (3, 1, None)


def test_damaged_detail_is_ignored(host: Host) -> None:
    """A detail that is not a JSON object costs the listener its memory, not the delivery."""
    listener = Script(*[FailingError({"a": 1}) for _ in range(3)])
    hooks = host.hooks(listener, retry_seconds=[3600] * 3)
    hooks.repo_sync_started(repo_id="zoo")
    engine = create_engine(host.url)
    for damaged in ("{", "[1]", "[" * 100_000):
        hooks.worker().run_once()
        hooks.worker().journal.end_pauses()
        with engine.begin() as connection:
            connection.execute(update(schema.attempt).values(detail=damaged))
    engine.dispose()
    drain(hooks)
    assert [detail for _, _, detail in listener.attempts] == [None] * 4
    assert host.states() == ["delivered"]


def test_event_that_a_listener_fires_is_not_in_its_attempt(host: Host) -> None:
    """Listeners of an event that is fired within an attempt are called in a first attempt."""
    inner = Script()
    nested = Hooks({"inner": inner})

    def fire_and_fail(event: Event) -> None:
        nested.repo_sync_started(repo_id="b")
        if current_attempt(event).number == 1:
            raise FailingError({"outer": True})

    outer = Listener(fire_and_fail)
    hooks = host.hooks(outer, retry_seconds=[0])
    hooks.repo_sync_started(repo_id="a")
    drain(hooks)
    assert inner.attempts == [(1, 1, None)] * 2
    nested.close()


def test_coroutine_sees_its_attempt(host: Host) -> None:
    """An `async def` runs in the context of the attempt, too."""
    seen: list[Any] = []

    class Remembering(Notifier):
        async def notify(self, event: Event) -> None:
            seen.append(current_attempt(event).previous_detail)
            if len(seen) == 1:
                raise FailingError({"a": 1})

    with Hooks({"mail": Remembering({})}, journal=host.url) as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        drain(hooks)
    assert seen == [None, {"a": 1}]


def test_without_a_journal_every_attempt_is_the_first() -> None:
    """A listener need not know how it is called."""
    listener = Script()
    with Hooks({"listener": listener}) as hooks:
        hooks.repo_sync_started(repo_id="zoo")
    assert listener.attempts == [(1, 1, None)]
    assert current_attempt(example_event("repo-sync-started")) == DeliveryAttempt(1, 1, None)


def test_detail_is_not_in_the_repr() -> None:
    """It may be long, and a repr ends up in logs."""
    assert "reply" not in repr(DeliveryAttempt(2, 2, {"reply": "no"}))
