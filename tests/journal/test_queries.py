"""Tests of what an operator reads: that it is right, whichever way it is looked for, and that it is cheap."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, func, select
from sqlalchemy import event as events

from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.journal import queries
from pulp_hooks.journal.claims import Result
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.queries import ALL, Filter, StoredDelivery
from pulp_hooks.journal.schema import State, attempt, delivery
from pulp_hooks.journal.schema import event as schema_event

Make = Callable[..., Event]
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def filled(journal: Journal, new_event: Make) -> Journal:
    """Return a journal of forty events for three listeners, stored two at a time; old ones are dead or retrying."""
    for number in range(40):
        event = new_event(f"r[{number % 3}]", 1000.0, f"e{number:02}")
        journal.append(event, ["a", "b", "old"] if number < 5 else ["a", "b"], now=1000.0 + number // 2)
    d = delivery.c
    with journal.backend.writing("fill") as connection:
        change = delivery.update()
        connection.execute(change.where(d.event < 4).values(state="dead", due=None, finished=1.0, error="x"))
        connection.execute(change.where(d.event == 5, d.listener != "b").values(state="retrying", error="again"))
    return journal


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take six unfinished deliveries of a listener for many, and look in the newest six events first."""
    monkeypatch.setattr(queries, "_BACKLOG", 6)


@pytest.fixture
def plans(filled: Journal) -> Iterator[list[str]]:
    """Return, on SQLite, the plan of each statement as it is executed."""
    found: list[str] = []

    def explain(connection: Any, _cursor: object, statement: str, parameters: Any, *_: object) -> None:  # noqa: ANN401
        if statement.startswith("SELECT"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.append("; ".join(row[3] for row in cursor.fetchall()))

    engine = filled.backend.open()
    events.listen(engine, "before_cursor_execute", explain)
    yield found
    events.remove(engine, "before_cursor_execute", explain)


def _matches(found: StoredDelivery, wanted: Filter) -> bool:
    """Return whether a delivery is wanted, by the meaning of the filter."""
    return (
        (not wanted.states or found.state in wanted.states)
        and wanted.listener in {None, found.listener}
        and wanted.event_type in {None, found.type}
        and (wanted.repo_id is None or found.repo_id == "r[1]")
        and (wanted.since is None or found.time >= wanted.since)
        and (wanted.until is None or found.time < wanted.until)
    )


@pytest.mark.usefixtures("few")
def test_pages_of_every_filter_hold_each_matching_delivery_once(filled: Journal) -> None:
    """Whether the newest events have enough of what is wanted, or few old ones have it."""
    everything = filled.deliveries(limit=1000).items
    assert [(x.event_id, x.listener) for x in everything] == sorted(
        ((x.event_id, x.listener) for x in everything), reverse=True
    )
    assert len(everything) == 85
    choices = itertools.product(
        [(), (State.DEAD,), (State.RETRYING,), (State.PENDING,), (State.RETRYING, State.DEAD)],
        [None, "a", "old"],
        [None, "r[[]1]", "*1]"],
        [(None, None), (None, 1001.0), (1001.0, 1015.0), (5000.0, None), (None, 5.0)],
        [None, "repo-sync-started"],
    )
    for states, listener, repo_id, (since, until), event_type in choices:
        wanted = Filter(states, listener, event_type, repo_id, since, until)
        found: list[StoredDelivery] = []
        before = None
        while True:
            page = filled.deliveries(wanted, 7, before)
            found += page.items
            before = page.next
            if before is None:
                break
        assert found == [one for one in everything if _matches(one, wanted)], wanted


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("before", [None, "e20/a"])
@pytest.mark.parametrize("wanted", [ALL, Filter([State.PENDING]), Filter(until=1015.0)])
def test_page_of_deliveries_is_read_off_their_key(
    filled: Journal, plans: list[str], wanted: Filter, before: str | None
) -> None:
    """A million deliveries are not sorted for the fifty newest."""
    assert len(filled.deliveries(wanted, 5, before).items) == 5
    assert plans[-1].startswith(("SEARCH pulp_hooks_delivery USING PRIMARY KEY", "SCAN pulp_hooks_delivery;"))
    assert "TEMP B-TREE" not in plans[-1]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_newest_dead_letters_are_read_off_an_index_of_their_own(filled: Journal, plans: list[str]) -> None:
    """Few of them are not looked for in a million deliveries."""
    assert len(filled.deliveries(Filter([State.DEAD]), 50).items) == 9
    assert "pulp_hooks_delivery USING INDEX pulp_hooks_delivery_dead" in plans[-1]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("states", [(), (State.PENDING,), (State.RETRYING,), (State.DELIVERED,)])
def test_deliveries_of_a_rare_listener_are_found_by_indexes(
    filled: Journal, plans: list[str], states: tuple[State, ...]
) -> None:
    """Few old ones are not looked for in a million deliveries."""
    filled.deliveries(Filter(states, "old"), 50)
    assert "pulp_hooks_delivery_" in plans[-1]
    assert "SCAN pulp_hooks_delivery;" not in plans[-1]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("states", [(State.DELIVERED,), (State.DELIVERED, State.DEAD), (State.SKIPPED,)])
def test_finished_deliveries_of_a_listener_are_read_off_an_index_of_their_own(
    filled: Journal, plans: list[str], states: tuple[State, ...]
) -> None:
    """A million of them are neither sorted nor looked for in a million events."""
    filled.deliveries(Filter(states, "a"), 5)
    assert "SEARCH pulp_hooks_delivery USING INDEX pulp_hooks_delivery_finished (listener=?)" in plans[-1]
    assert "TEMP B-TREE" not in plans[-1]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_time_window_is_found_without_a_query_for_each_step(filled: Journal, plans: list[str]) -> None:
    """The page is the only SELECT: each edge of the window is one statement, which walks the numbers."""
    assert len(filled.deliveries(Filter(since=1004.0, until=1006.0), 50).items) == 8
    assert len(plans) == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_later_page_of_events_costs_what_the_first_one_does(filled: Journal, plans: list[str]) -> None:
    """The pages are read off the numbers of the events."""
    assert filled.events(ALL, 1, "e20").items[0].id == "e19"
    assert any("SEARCH pulp_hooks_event USING INTEGER PRIMARY KEY (rowid<?)" in plan for plan in plans)


@given(
    times=st.lists(st.floats(0, 100), max_size=12),
    edges=st.tuples(st.floats(-1, 101), st.floats(-1, 101)),
    gap=st.sets(st.integers(0, 11)),
)
@settings(max_examples=60, deadline=None)
def test_time_window_is_exactly_the_events_stored_in_it(
    times: list[float], edges: tuple[float, float], gap: set[int]
) -> None:
    """However the clock went, and whatever was pruned: the times of events never decrease."""
    since, until = edges
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(f"sqlite:///{folder}/journal.db")
        body: Any = {"repo_id": "zoo"}
        for number, moment in enumerate(times):
            event = Event(id=f"e{number:02}", type=EventType.REPO_SYNC_STARTED, time=NOW, source="urn:x", body=body)
            journal.append(event, [], now=moment)
        with journal.backend.writing("prune some") as connection:
            connection.execute(schema_event.delete().where(schema_event.c.id.in_([f"e{number:02}" for number in gap])))
        latest = list(itertools.accumulate(times, max))
        expected = [f"e{n:02}" for n, moment in enumerate(latest) if since <= moment < until and n not in gap]
        found = journal.events(Filter(since=since, until=until), 100).items
        assert [one.id for one in reversed(found)] == expected
        journal.close()


def test_listeners_are_all_that_ever_had_a_delivery(filled: Journal) -> None:
    """Also those of a host's own transaction; nobody else is."""
    engine = create_engine(filled.backend._url)
    with engine.begin() as connection:
        filled.append(
            Event(id="x", type=EventType.REPO_SYNC_STARTED, time=NOW, source="urn:x", body={"repo_id": "zoo"}),
            ["c"],
            connection,
        )
    engine.dispose()
    assert [known.name for known in filled.listeners()] == ["a", "b", "c", "old"]


def test_what_is_stored_meanwhile_is_in_no_part_of_what_is_read(filled: Journal, new_event: Make) -> None:
    """The figures and lists, of several SELECTs, agree with each other."""
    count = select(func.count()).select_from(delivery)
    with filled.backend.reading("look") as connection:
        before = connection.execute(count).scalar_one()
        filled.append(new_event(), ["a"])
        assert connection.execute(count).scalar_one() == before
    with filled.backend.reading("look") as connection:
        assert connection.execute(count).scalar_one() == before + 1


def test_percentiles_are_those_of_each_listener(journal: Journal, new_event: Make) -> None:
    """Of 200 attempts the 100th and the 198th, of one attempt that one, and of none nothing."""
    for number in range(200):
        journal.append(new_event(event_id=f"e{number:03}"), ["a"])
    journal.append(new_event(event_id="z"), ["b", "c"])
    claims = journal.queue
    lot = [*claims.claim("a", 200, 60), *claims.claim("b", 1, 60)]
    claims.finish([Result(x, State.DELIVERED, 1.0 + n, float(n + 1), "succeeded") for n, x in enumerate(lot)])
    with journal.backend.reading("look") as connection:
        assert len(connection.execute(attempt.select()).all()) == 201
    found = [(x.listener, x.delivered, x.p50_seconds, x.p99_seconds) for x in journal.statistics()]
    assert found == [("a", 200, 100.0, 198.0), ("b", 1, 201.0, 201.0), ("c", 0, None, None)]
    assert journal.statistics(since=101.0)[0].p50_seconds == 150.0
