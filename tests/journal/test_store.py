"""Tests of appending, claiming, finishing, holding, replaying and pruning, in both databases."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import IntegrityError

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal import replay as replays
from pulp_hooks.journal import schema
from pulp_hooks.journal.claims import NO_LIMITS, Claim, Due, Limits, Result
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.listeners import Renamed
from pulp_hooks.journal.queue import Queue
from pulp_hooks.journal.replay import Finished, Missed
from pulp_hooks.journal.retention import Pruned
from pulp_hooks.journal.schema import State

Make = Callable[..., Event]


def dues(claims: Queue, **listeners: Limits) -> dict[str, float]:
    """Return when the next delivery of each listener can be claimed."""
    return {name: due.claimable for name, due in claims.dues(listeners).items()}


def count(journal: Journal, table: str) -> int:
    """Return how many rows a table has."""
    with journal.backend.reading("count") as connection:
        return connection.execute(select(func.count()).select_from(getattr(schema, table))).scalars().one()


def states(journal: Journal) -> dict[tuple[str, str], str]:
    """Return the state of every delivery."""
    delivery = schema.delivery.c
    query = select(schema.event.c.id, delivery.listener, delivery.state).join(schema.event)
    with journal.backend.reading("look") as connection:
        return {(row.id, row.listener): row.state for row in connection.execute(query)}


def delivered(claim: Claim) -> Result:
    """Return the result of an attempt that went well."""
    return Result(claim, State.DELIVERED, started=1.0, seconds=0.5, status="done")


def failed(claim: Claim, due: float, error: str = "no") -> Result:
    """Return the result of an attempt that is to be made again."""
    return Result(claim, State.RETRYING, started=1.0, seconds=0.5, status="failed", error=error, due=due)


def dead(claim: Claim) -> Result:
    """Return the result of the last attempt."""
    return Result(claim, State.DEAD, started=1.0, seconds=0.5, status="failed", error="no")


def test_append_stores_the_event_once_and_a_delivery_for_each_listener(journal: Journal, new_event: Make) -> None:
    """An event id seen before stores nothing; a listener named twice has one delivery."""
    event = new_event()
    assert journal.append(event, ["a", "b", "a"], now=10)
    assert not journal.append(event, ["a", "c"], now=11)
    assert states(journal) == {(event.id, "a"): "pending", (event.id, "b"): "pending"}
    assert count(journal, "event") == 1


@pytest.mark.parametrize("repo_id", ["zoo", "a\0b", "\U0001f600" * 2500])
def test_claim_gives_the_bytes_that_were_stored(journal: Journal, new_event: Make, repo_id: str) -> None:
    """Whatever the repository's id holds, and however long it is, the event comes back byte for byte."""
    event = new_event(repo_id)
    journal.append(event, ["a"], now=10)
    (claim,) = journal.queue.claim("a", 5, 30, now=10)
    assert claim.content == event.to_json().encode()
    assert (claim.event_id, claim.step, claim.attempts, claim.created) == (event.id, 1, 1, 10)


def test_claimed_delivery_comes_due_again_only_when_its_lease_ends(journal: Journal, new_event: Make) -> None:
    """The claim of a worker that died is claimed again, with another lease and the next numbers."""
    journal.append(new_event(), ["a"], now=10)
    claims = journal.queue
    (first,) = claims.claim("a", 5, 30, now=10)
    assert claims.claim("a", 5, 30, now=39.9) == []
    assert min(dues(claims, a=NO_LIMITS, b=NO_LIMITS).values()) == 40
    (second,) = claims.claim("a", 5, 30, now=40)
    assert (second.step, second.attempts) == (2, 2)
    assert second.lease != first.lease


@pytest.mark.parametrize("late", [delivered, dead, lambda claim: failed(claim, 99)])
def test_late_worker_changes_nothing_and_is_told(
    journal: Journal, new_event: Make, late: Callable[[Claim], Result]
) -> None:
    """The result of a worker whose lease another one has now is not recorded; neither does it give anything back."""
    journal.append(new_event(), ["a"], now=10)
    claims = journal.queue
    (first,) = claims.claim("a", 5, 30, now=10)
    (second,) = claims.claim("a", 5, 30, now=50)
    assert claims.finish([late(first)], now=51) == [first]
    assert claims.release([first], now=51) == [first]
    assert states(journal) == {(first.event_id, "a"): "pending"}
    assert count(journal, "attempt") == 0
    assert claims.finish([delivered(second)], now=52) == []
    assert claims.finish([late(first), delivered(second)], now=53) == [first, second]
    assert states(journal) == {(first.event_id, "a"): "delivered"}
    assert count(journal, "attempt") == 1


def test_results_of_one_lot_are_recorded_each_by_itself(journal: Journal, new_event: Make) -> None:
    """Of four claims one is delivered, one is dead, one waits until it is due, one is given back."""
    for place in range(4):
        journal.append(new_event(), ["a"], now=10 + place)
    claims = journal.queue
    good, lost, again, back = claims.claim("a", 5, 30, now=20)
    assert claims.finish([delivered(good), dead(lost), failed(again, 60, "\0" + "\u20ac" * 3000)], now=21) == []
    assert claims.release([back], now=22) == []
    assert sorted(states(journal).values()) == ["dead", "delivered", "pending", "retrying"]
    (returned,) = claims.claim("a", 5, 30, now=22)
    assert (returned.event_id, returned.step, returned.attempts) == (back.event_id, 1, 1)
    assert claims.finish([delivered(returned)], now=23) == []
    assert dues(claims, a=NO_LIMITS) == {"a": 60}
    (retried,) = claims.claim("a", 5, 30, now=60)
    assert (retried.event_id, retried.step) == (again.event_id, 2)
    with journal.backend.reading("look") as connection:
        errors = connection.execute(select(schema.attempt.c.error).where(schema.attempt.c.error != "no")).scalars()
        assert [len(error.encode()) for error in errors] == [3999]


def test_what_is_no_attempt_uses_up_no_step(journal: Journal, new_event: Make) -> None:
    """A delivery that is skipped without a call is as new: no step, no attempt, and no record of one."""
    journal.append(new_event(), ["a"], now=10)
    (claim,) = journal.queue.claim("a", 5, 30, now=10)
    assert journal.queue.finish([Result(claim, State.SKIPPED, 10, 0.0, "unwanted", is_attempt=False)], now=10) == []
    with journal.backend.reading("look") as connection:
        ((state, step, attempts),) = connection.execute(
            select(schema.delivery.c.state, schema.delivery.c.step, schema.delivery.c.attempts)
        )
    assert (state, step, attempts, count(journal, "attempt")) == ("skipped", 0, 0, 0)


def test_claim_takes_what_is_due_longest_and_no_more_than_asked(journal: Journal, new_event: Make) -> None:
    """The limit holds, the oldest come first, and what is due later or of another listener is left alone."""
    events = [new_event() for _ in range(5)]
    for moment, event in zip([30, 10, 20, 40, 99], events, strict=True):
        journal.append(event, ["a", "b"], now=moment)
    claims = journal.queue
    assert [claim.created for claim in claims.claim("a", 2, 30, now=50)] == [10, 20]
    assert [claim.created for claim in claims.claim("a", 9, 30, now=49)] == [30, 40]
    assert len(claims.claim("b", 9, 30, now=50)) == 4


def test_ordered_claim_takes_the_first_unfinished_of_each_repository(journal: Journal, new_event: Make) -> None:
    """A failure holds its own repository's lane and no other; the end of a delivery frees the lane."""
    for moment, repo_id in [(10, "x"), (11, "x"), (12, "y"), (13, "x")]:
        journal.append(new_event(repo_id), ["a"], now=moment, ordered={"a"})
    claims = journal.queue
    x, y = claims.claim("a", 9, 30, now=20)
    assert (x.created, y.created) == (10, 12)
    claims.finish([failed(x, 100), delivered(y)], now=21)
    assert claims.claim("a", 9, 30, now=50) == []
    assert dues(claims, a=NO_LIMITS) == {"a": 100}
    (x,) = claims.claim("a", 9, 30, now=100)
    claims.finish([dead(x)], now=101)
    (x,) = claims.claim("a", 9, 30, now=102)
    assert x.created == 11


def test_what_can_be_claimed_is_what_a_look_at_every_delivery_says(journal: Journal) -> None:
    """Delivered, held, claimed and retrying, with an ordering key and without: of a key its first unfinished one."""
    chance, claims = random.Random(7), journal.queue  # noqa: S311 - no secret
    events: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for place in range(120):
        state = chance.choice([State.RETRYING, State.RETRYING, State.HELD, State.DELIVERED])
        number, key = place + 1, chance.choice([None, *range(-4, 4)])
        events.append(
            {"number": number, "id": f"{number:03}", "type": "x", "time": 1.0, "repo_id": b"", "content": b""}
        )
        due = chance.randrange(100) if state is State.RETRYING else None
        finished = 1.0 if state is State.DELIVERED else None
        row: dict[str, Any] = {"event": number, "listener": chance.choice("ab"), "ordering_key": key}
        row |= {"state": state.value, "due": due, "created": 1.0, "finished": finished}
        rows.append(row)
    with journal.backend.writing("fill it") as connection:
        connection.execute(schema.event.insert(), events)
        connection.execute(schema.delivery.insert(), rows)
    expected = []
    for row in rows:
        key = row["ordering_key"]
        same = [o for o in rows if (o["listener"], o["ordering_key"]) == ("a", key) and o["finished"] is None]
        first = min(same, key=lambda one: int(one["event"]), default=None)
        if row["listener"] == "a" and row["due"] is not None and (key is None or row is first):
            expected.append((row["due"], f"{row['event']:03}"))
    expected.sort()
    line = [event_id for moment, event_id in expected if moment <= 60]
    assert claims.dues({"a": NO_LIMITS}) == {"a": Due(expected[0][0], expected[0][0], is_ordered=True)}
    assert claims.unsent("a", 5, 30, now=60) == line[:5]
    assert claims.unsent("a", 99, 30, now=60) == line[5:]
    ids = [f"{row['event']:03}" for row in rows]
    alone = {event_id for event_id in ids if claims.claim("a", 1, 99, event_id=event_id, now=10)}
    assert alone == {event_id for moment, event_id in expected if moment <= 10}
    rest = [event_id for event_id in line if event_id not in alone]
    assert {claim.event_id for claim in claims.claim("a", 3, 99, now=60)} == set(rest[:3])
    assert {claim.event_id for claim in claims.claim("a", 99, 99, now=60)} == set(rest[3:])


def test_ordered_claim_holds_nothing_that_was_stored_without_order(journal: Journal, new_event: Make) -> None:
    """Order is kept from when it is asked for: what was fired before goes side by side, and holds up nothing."""
    for moment, ordered in [(10, ()), (11, ()), (12, {"a"}), (13, {"a"})]:
        journal.append(new_event("x"), ["a"], now=moment, ordered=ordered)
    claimed = journal.queue.claim("a", 9, 30, now=20)
    assert [claim.created for claim in claimed] == [10, 11, 12]


def test_failure_that_ends_after_a_success_counts_although_it_began_before(journal: Journal, new_event: Make) -> None:
    """The order of the ends decides since when a listener fails."""
    for moment in (10, 11):
        journal.append(new_event(str(moment)), ["a"], now=moment)
    claims = journal.queue
    slow, quick = claims.claim("a", 2, 30, now=11)
    failure = Result(
        slow, State.RETRYING, started=20.0, seconds=9.0, status="failed", error="no", due=50, is_failure=True
    )
    success = Result(quick, State.DELIVERED, started=25.0, seconds=1.0, status="done")
    assert claims.finish([success, failure], now=30) == []
    assert [known.failing_since for known in journal.listeners()] == [29.0]


def test_message_that_could_not_be_sent_is_sent_again_and_no_other(journal: Journal, new_event: Make) -> None:
    """Only that delivery counts as unsent."""
    for name in ("e1", "e2"):
        journal.append(new_event(event_id=name), ["a"], now=10)
    claims = journal.queue
    assert sorted(claims.unsent("a", 9, 60, now=11)) == ["e1", "e2"]
    claims.not_sent("a", ["e2"])
    assert claims.unsent("a", 9, 60, now=11) == ["e2"]


def test_nothing_to_record_or_release_changes_nothing(journal: Journal, new_event: Make) -> None:
    """Neither writes to the database, and what is claimed stays claimed."""
    journal.append(new_event(), ["a"], now=10)
    claims = journal.queue
    (claim,) = claims.claim("a", 1, 30, now=11)
    assert (claims.finish([], now=12), claims.release([], now=12)) == ([], [])
    assert claims.finish([delivered(claim)], now=13) == []


def test_disabled_listener_has_everything_held_until_it_is_enabled(journal: Journal, new_event: Make) -> None:
    """What waited, what is fired and what fails meanwhile is held, and comes due paced, oldest first."""
    claims = journal.queue
    for moment in (10, 11):
        journal.append(new_event(), ["a", "b"], now=moment)
    (running,) = claims.claim("a", 1, 30, now=11)
    assert journal.disable("a", "it is gone", now=12) == 1
    journal.append(new_event(), ["a", "b"], now=13)
    assert claims.claim("a", 9, 30, now=1000) == []
    assert dues(claims, a=NO_LIMITS, b=NO_LIMITS) == {"b": 10}
    assert claims.finish([failed(running, 20)], now=14) == []
    assert sorted(states(journal).values()) == ["held"] * 3 + ["pending"] * 3
    known, _other = journal.listeners()
    assert (known.name, known.disabled_at, known.reason, known.failing_since) == ("a", 12, "it is gone", 1.5)
    assert journal.enable("a", 0.5, now=100) == 3
    assert journal.enable("a", 0.5, now=100) == 0
    assert [claims.claim("a", 9, 900, now=moment) != [] for moment in (100, 101, 102, 103, 104)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert {(known.disabled_at, known.failing_since) for known in journal.listeners()} == {(None, None)}


def test_claim_of_a_worker_that_died_before_its_listener_was_enabled_comes_due(
    journal: Journal, new_event: Make
) -> None:
    """A delivery that was claimed when its listener was disabled is not stuck when the worker died."""
    claims = journal.queue
    journal.append(new_event(), ["a"], now=10)
    claims.claim("a", 1, 30, now=10)
    journal.disable("a", "gone", now=11)
    assert claims.claim("a", 1, 30, now=50) == []
    assert journal.enable("a", 1, now=60) == 1
    assert len(claims.claim("a", 1, 30, now=60)) == 1


def test_failing_since_is_the_first_failure_after_the_last_success(journal: Journal, new_event: Make) -> None:
    """A success ends the time of failing, a further failure does not begin it anew."""
    claims = journal.queue
    for place in range(4):
        journal.append(new_event(), ["a"], now=place)
    seen = []
    for state, started in [(State.DEAD, 20.0), (State.DEAD, 30.0), (State.DELIVERED, 40.0), (State.DEAD, 50.0)]:
        (claim,) = claims.claim("a", 1, 30, now=started)
        error = None if state is State.DELIVERED else "no"
        claims.finish([Result(claim, state, started, 1.0, "x", error)], now=started + 1)
        seen.append([known.failing_since for known in journal.listeners()])
    assert seen == [[21], [21], [None], [51]]


def test_replay_makes_finished_deliveries_again_and_others_not(journal: Journal, new_event: Make) -> None:
    """One, a listener's, a time window's or the dead: the tries begin anew, the attempts go on."""
    claims = journal.queue
    events = [new_event() for place in range(3)]
    for place, event in enumerate(events):
        journal.append(event, ["a", "b"], now=place)
    first, second, _third = claims.claim("a", 3, 30, now=10)
    claims.finish([delivered(first), dead(second)], now=11)
    assert not journal.replay(events[2].id, "a", now=12)
    assert journal.replay(events[0].id, "a", now=12)
    (again,) = claims.claim("a", 3, 30, now=12)
    assert (again.event_id, again.step, again.attempts) == (events[0].id, 1, 2)
    claims.finish([delivered(again)], now=13)
    assert journal.replay_finished(Finished("b"), now=14) == 0
    assert journal.replay_finished(Finished("a", states=[State.DEAD], since=2), now=14) == 0
    assert journal.replay_finished(Finished(states=[State.DEAD], since=1, until=2), now=14) == 1
    assert journal.replay_finished(Finished("a"), now=14) == 1
    journal.disable("a", "gone", now=15)
    assert count(journal, "attempt") == 3


def test_replay_to_a_new_listener_gives_it_what_it_missed_in_order(
    journal: Journal, new_event: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that was added later has a delivery of each event of the window once, in the order of the events."""
    monkeypatch.setattr(replays, "_BATCH", 2)
    for place, name in enumerate("gfabed"):
        journal.append(new_event(event_id=name), ["a"], now=1000.0 + place // 2)
    claims = journal.queue
    assert (journal.count_missed("new", Missed(since=1001.0)), journal.count_missed("new", Missed())) == (4, 6)
    assert journal.backfill("new", Missed(since=1001.0), now=2000) == 4
    assert journal.backfill("new", Missed(), now=2001) == 2
    assert (journal.backfill("new", Missed(), now=2002), journal.count_missed("new", Missed())) == (0, 0)
    assert [claim.event_id for claim in claims.claim("new", 9, 30, now=2002)] == list("gfabed")


def test_replay_to_a_new_listener_lets_others_write_between_its_lots(
    journal: Journal, url: str, new_event: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lot is stored by itself, held or not as the listener is then; what a failure comes after stays stored."""
    monkeypatch.setattr(replays, "_BATCH", 2)
    for place in range(6):
        journal.append(new_event(moment=1000.0 + place, event_id=str(place)), [])
    other = Journal(url, busy_seconds=0.1)
    journal.disable("new", "not yet")
    found: list[dict[tuple[str, str], str]] = []

    def wants(_content: bytes) -> bool:
        found.append(states(other))
        if len(found) == 3:
            other.enable("new", 1)
        if len(found) == 5:
            raise RuntimeError("a filter fails")
        return True

    with pytest.raises(RuntimeError, match="a filter fails"):
        journal.backfill("new", Missed(wants=wants))
    other.close()
    assert [len(seen) for seen in found] == [0, 0, 2, 2, 4]
    assert set(found[2].values()) == {"held"}
    assert states(journal) == {(str(place), "new"): "pending" for place in range(4)}


def test_enabling_resumes_what_is_held_though_the_listener_is_enabled(journal: Journal, new_event: Make) -> None:
    """A host's transaction that began while the listener was disabled may have stored it; the rest stays as it is."""
    claims = journal.queue
    stuck, due = new_event(), new_event()
    journal.append(due, ["a"], now=5)
    journal.disable("a", "gone", now=6)
    assert journal.enable("a", 1, now=7) == 1
    journal.disable("b", "gone", now=6)
    journal.append(stuck, ["b"], now=8)
    with journal.backend.writing("break") as connection:
        connection.execute(schema.delivery.update().values(listener="a"))
    assert [claim.event_id for claim in claims.claim("a", 9, 1, now=20)] == [due.id]
    assert (journal.enable("a", 1, now=30), journal.enable("a", 1, now=30)) == (1, 0)
    # What was claimed before, and came to nothing, is given alone.
    lots = [[claim.event_id for claim in claims.claim("a", 9, 1, now=30)] for _ in range(2)]
    assert lots == [[due.id], [stuck.id]]


def test_replay_for_a_disabled_listener_is_held(journal: Journal, new_event: Make) -> None:
    """What is replayed waits with the rest until the listener is enabled."""
    event, missed = new_event(), new_event()
    journal.append(event, ["a"], now=1)
    journal.append(missed, [], now=1)
    claims = journal.queue
    claims.finish([delivered(claim) for claim in claims.claim("a", 1, 30, now=1)], now=2)
    journal.disable("a", "gone", now=3)
    assert (journal.replay_finished(Finished("a"), now=4), journal.backfill("a", Missed(), now=4)) == (1, 1)
    assert set(states(journal).values()) == {"held"}
    assert claims.claim("a", 9, 30, now=9) == []


def test_prune_forgets_old_finished_deliveries_and_events_without_any(journal: Journal, new_event: Make) -> None:
    """What waits stays whatever its age, and so does the event of anything that stays."""
    claims = journal.queue
    for moment in (10, 20, 30, 40):
        journal.append(new_event(moment=moment), ["a"], now=moment)
    journal.append(new_event(moment=1), [], now=50)
    one, two, three, _four = claims.claim("a", 9, 30, now=50)
    claims.finish([delivered(one), dead(two)], now=60)
    claims.finish([delivered(three)], now=80)
    assert journal.prune(delivered_before=70, dead_before=0) == Pruned(deliveries=1, events=2)
    assert journal.prune(delivered_before=999, dead_before=61) == Pruned(deliveries=2, events=2)
    assert list(states(journal).values()) == ["pending"]
    assert (count(journal, "event"), count(journal, "attempt")) == (1, 0)


@pytest.mark.parametrize("commits", [True, False])
def test_event_is_committed_with_the_hosts_own_work_or_not_at_all(
    journal: Journal, url: str, new_event: Make, *, commits: bool
) -> None:
    """With a connection of the host's nothing is committed by the journal, and its failure undoes its part alone."""
    journal.backend.open()
    engine = create_engine(url)
    event = new_event()
    with engine.connect() as connection:
        assert journal.append(event, ["a"], connection)
        assert count(journal, "event") == 0
        assert not journal.append(event, ["a"], connection)
        broken = "no \0 text" if connection.dialect.name == "postgresql" else 5j
        with pytest.raises(JournalError):
            journal.append(new_event(), ["a", broken], connection)  # type: ignore[list-item] # what no database takes
        (connection.commit if commits else connection.rollback)()
    engine.dispose()
    assert list(states(journal)) == ([(event.id, "a")] if commits else [])
    assert count(journal, "event") == int(commits)


def test_journal_opens_while_the_host_writes(journal: Journal, url: str, new_event: Make) -> None:
    """A host that has begun to write may be the first of its process to use a journal that is there."""
    journal.append(new_event(), ["a"])
    engine, other = create_engine(url), Journal(url, busy_seconds=0.1)
    with engine.begin() as connection:
        connection.execute(schema.listener.insert().values(name="x"))
        assert other.append(new_event(), ["a"], connection)
    engine.dispose()
    other.close()
    assert count(journal, "event") == 2


@pytest.mark.parametrize("commits", [True, False])
def test_host_that_has_written_may_be_the_first_to_use_a_new_journal(
    url: str, new_event: Make, *, commits: bool
) -> None:
    """The host's transaction keeps everybody else out, and the first event makes the journal all the same."""
    engine, journal = create_engine(url), Journal(url, busy_seconds=0.5)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE repository (name TEXT)")
        connection.exec_driver_sql("INSERT INTO repository VALUES ('zoo')")
        assert journal.append(new_event(), ["a"], connection)
        assert journal.append(new_event(), ["a"], connection)
        (connection.commit if commits else connection.rollback)()
    assert journal.append(new_event(), ["a"])
    assert count(journal, "event") == (3 if commits else 1)
    engine.dispose()
    journal.close()


def test_connection_to_another_database_is_refused(sqlite_url: str, tmp_path: Path, new_event: Make) -> None:
    """An event in a database that no worker looks at would be lost."""
    journal = Journal(sqlite_url)
    other = create_engine(f"sqlite:///{tmp_path}/other.db")
    with other.begin() as connection, pytest.raises(JournalError, match="to another database"):
        journal.append(new_event(), ["a"], connection)
    with other.connect() as connection:
        assert connection.exec_driver_sql("SELECT name FROM sqlite_master").all() == []
    with pytest.raises(JournalError, match=r"must be an SQLAlchemy Connection, not Engine; fix: .*engine\.begin"):
        journal.append(new_event(), ["a"], other)  # type: ignore[arg-type] # a mistake of a host
    other.dispose()
    journal.close()


def test_failure_in_the_middle_stores_no_half_event(journal: Journal, new_event: Make) -> None:
    """When a delivery cannot be stored, neither is the event."""
    broken = "no \0 text" if "postgresql" in journal.name else 5j
    with pytest.raises(JournalError, match="could not take the event"):
        journal.append(new_event(), ["a", broken])  # type: ignore[list-item] # what no database takes
    assert count(journal, "event") == 0


def test_event_of_a_delivery_cannot_be_deleted(journal: Journal, new_event: Make) -> None:
    """The database itself refuses to lose the event of something that waits."""
    journal.append(new_event(), ["a"])
    with pytest.raises(JournalError) as caught, journal.backend.writing("break") as connection:
        connection.execute(schema.event.delete())
    assert isinstance(caught.value.__cause__, IntegrityError)


@pytest.mark.parametrize("state", [State.HELD, State.RETRYING])
def test_result_that_says_no_end_is_refused(state: State) -> None:
    """A retry needs its time, and nobody finishes a delivery as held."""
    with pytest.raises(ValueError, match="a result is finished, or"):
        Result(Claim(1, "e", "a", "t", b"", 1, 1, 1.0), state, 1.0, 1.0, "x")


def test_enabling_at_no_rate_is_refused(journal: Journal) -> None:
    """Nothing would ever come due."""
    with pytest.raises(ValueError, match="more than 0"):
        journal.enable("a", 0)


def test_what_a_worker_may_have_died_of_is_put_off_where_it_is_not_asked_for(journal: Journal, new_event: Make) -> None:
    """The others of its listener are claimed, it comes due a second later, and nothing is counted."""
    claims = journal.queue
    journal.append(new_event("x"), ["a"], now=10)
    (lost,) = claims.claim("a", 9, 5, now=10)
    journal.append(new_event("y"), ["a"], now=11)
    (fresh,) = claims.claim("a", 9, 5, suspects=False, now=20)
    assert (fresh.created, fresh.is_suspect) == (11, False)
    assert claims.claim("a", 9, 5, now=20.5) == []
    (again,) = claims.claim("a", 9, 30, now=21)
    assert (again.event_id, again.is_suspect, again.step, again.attempts) == (lost.event_id, True, 2, 2)


def test_rename_moves_all_deliveries_with_their_attempts(journal: Journal, new_event: Make) -> None:
    """What was delivered, what is pending and what is ordered belong to the new name, which keeps its schedule."""
    events = [new_event("x") for _ in range(3)]
    for place, event in enumerate(events):
        journal.append(event, ["old"], now=place, ordered={"old"} if place else ())
    claims = journal.queue
    claims.finish([delivered(claim) for claim in claims.claim("old", 1, 30, now=0)], now=1)
    assert journal.rename("old", "new") == Renamed(moved=3, deleted=0)
    assert sorted(states(journal).values()) == ["delivered", "pending", "pending"]
    assert [known.name for known in journal.listeners()] == ["new"]
    assert [attempt.status for attempt in journal.attempts(events[0].id, "new")] == ["done"]
    assert [claim.event_id for claim in claims.claim("new", 9, 30, now=9)] == [events[1].id]


@pytest.mark.parametrize(("finished", "kept"), [("old", "delivered"), ("new", "delivered"), (None, "pending")])
def test_rename_keeps_a_finished_delivery_of_an_event_that_both_names_have(
    journal: Journal, new_event: Make, finished: str | None, kept: str
) -> None:
    """A listener does not get again what it had under its other name."""
    journal.append(new_event(), ["new", "old"], now=1)
    if finished:
        journal.queue.finish([delivered(claim) for claim in journal.queue.claim(finished, 1, 30, now=1)], now=2)
    renamed = journal.rename("old", "new")
    assert (renamed.moved + renamed.deleted, renamed.deleted) == ((2, 1) if finished == "old" else (1, 1))
    assert list(states(journal).values()) == [kept]


@pytest.mark.parametrize("exists", [True, False])
def test_renamed_listener_stays_disabled(journal: Journal, new_event: Make, *, exists: bool) -> None:
    """Its deliveries stay on hold, also those that the new name had before."""
    journal.append(new_event(), ["new", "old"] if exists else ["old"], now=1)
    journal.append(new_event(), ["old"], now=1)
    journal.disable("old", "gone", now=2)
    journal.rename("old", "new")
    assert set(states(journal).values()) == {"held"}
    assert [(known.name, known.reason) for known in journal.listeners()] == [("new", "gone")]
    assert journal.enable("new", 10, now=3) == 2


def test_rename_is_refused_while_a_worker_delivers_and_for_an_unknown_name(journal: Journal, new_event: Make) -> None:
    """A result that comes later would find nothing to record."""
    journal.append(new_event(), ["old"], now=1)
    journal.queue.claim("old", 1, 30, now=1)
    with pytest.raises(JournalError, match="a worker is delivering to 'old'; fix:"):
        journal.rename("old", "new")
    with pytest.raises(JournalError, match="no listener 'other'"):
        journal.rename("other", "new")
    assert list(states(journal)) == [(journal.events().items[0].id, "old")]


def test_first_reason_of_a_disabled_listener_stays(journal: Journal, new_event: Make) -> None:
    """Whoever disables it again is told how many deliveries are on hold in all."""
    journal.append(new_event(), ["a"], now=1)
    assert journal.disable("a", "the disk is full", now=2) == 1
    journal.append(new_event(), ["a"], now=3)
    assert journal.disable("a", "by hand", now=4) == 2
    assert [(known.disabled_at, known.reason) for known in journal.listeners()] == [(2, "the disk is full")]
