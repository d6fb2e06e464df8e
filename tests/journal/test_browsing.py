"""Tests of what an operator reads: that it is right, whichever way it is looked for, and that it is cheap."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event as events
from sqlalchemy import func, select

from pulp_hooks.event import Event
from pulp_hooks.journal import browsing as module
from pulp_hooks.journal.queries import Filter, one_state
from pulp_hooks.journal.queue import Queue
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.claims import Result
from pulp_hooks.journal.statistics import statistics
from pulp_hooks.journal.schema import State, attempt, delivery

Make = Callable[..., Event]


@pytest.fixture
def filled(journal: Journal, new_event: Make) -> Journal:
    """Give a journal of forty events for three listeners, two events in each moment; old ones are dead or failing."""
    for number in range(40):
        event = new_event(f"r[{number % 3}]", 1000.0 + number // 2, f"e{number:02}")
        journal.append(event, ["a", "b", "old"] if number < 5 else ["a", "b"])
    d = delivery.c
    with journal.backend.writing("fill") as connection:
        change = delivery.update()
        connection.execute(change.where(d.event_id < "e03").values(state="dead", due=None, finished=1.0, error="x"))
        connection.execute(change.where(d.event_id == "e04", d.listener != "b").values(error="again"))
    return journal


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page be looked for in the newest six events first."""
    monkeypatch.setattr(module, "_OLDEST", module._OLDEST.offset(6))


@pytest.fixture
def plans(filled: Journal) -> Iterator[list[str]]:
    """Give, on SQLite, the plan of each statement as it is executed."""
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


def _matches(line: Any, wanted: Filter) -> bool:  # noqa: ANN401 - a line
    """Tell whether a delivery is asked for, by the meaning of the filter."""
    state = "failing" if line.state == "waiting" and line.error else line.state
    return (
        (not wanted.states or line.state in wanted.states or state in wanted.states)
        and wanted.listener in {None, line.listener}
        and wanted.event_type in {None, line.type}
        and (wanted.repo_id is None or line.repo_id == "r[1]")
        and (wanted.since is None or line.time >= wanted.since)
        and (wanted.until is None or line.time < wanted.until)
    )


@pytest.mark.usefixtures("few")
def test_every_filter_gives_the_same_pages_as_the_whole_list_holds(filled: Journal) -> None:
    """Whether the newest events have enough of what is asked for, or few old ones have it: each is there once."""
    browsing = Browsing(filled.backend)
    everything = browsing.deliveries(Filter(), 1000)
    assert [(x.time, x.event_id, x.listener) for x in everything] == sorted(
        ((x.time, x.event_id, x.listener) for x in everything), reverse=True
    )
    assert len(everything) == 85
    choices = itertools.product(
        [(), ("dead",), ("failing",), ("waiting",), ("failing", "dead")],
        [None, "a", "old"],
        [None, "r[[]1]", "*1]"],
        [(None, None), (None, 1001.0), (1001.0, 1015.0)],
        [None, "repo-sync-started"],
    )
    for states, listener, repo_id, (since, until), event_type in choices:
        wanted = Filter(states, listener, event_type, repo_id, since, until)
        found, before = [], None
        while page := browsing.deliveries(wanted, 7, before):
            found += page
            before = page[-1].id
        assert found == [line for line in everything if _matches(line, wanted)], wanted


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("before", [None, "e20/a"])
@pytest.mark.parametrize("wanted", [Filter(), Filter(("waiting",)), Filter(listener="a"), Filter(until=1015.0)])
def test_page_is_read_off_the_times_of_the_events(
    filled: Journal, plans: list[str], wanted: Filter, before: str | None
) -> None:
    """A million deliveries are not sorted for the fifty newest."""
    assert len(filled.deliveries(wanted, 5, before)) == 5
    first = plans[-1].partition(";")[0]
    assert "event USING INDEX ix_event_time" in first
    # Behind a place the index is entered there, and not at its end.
    assert ("time<?" in first) == (before is not None or wanted.until is not None)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("state", ["waiting", "failing"])
def test_what_waits_for_one_listener_is_found_by_what_is_due(filled: Journal, plans: list[str], state: str) -> None:
    """Few old deliveries are not looked for in all of them."""
    filled.deliveries(Filter((state,), "old"), 50)
    assert "delivery USING INDEX delivery_due (listener=?" in plans[-1]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_events_behind_a_place_are_read_off_their_times(filled: Journal, plans: list[str]) -> None:
    """The pages at the end cost what the first one does."""
    assert filled.events(Filter(), 1, "e20")[0].id == "e19"
    assert any("SEARCH event USING INDEX ix_event_time (time<?)" in plan for plan in plans)


def test_listeners_are_those_that_something_is_due_for_or_happened_to(
    filled: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the newest events are named, and of the others those that wait or have failed."""
    monkeypatch.setattr(module, "_RECENT", 2)
    browsing = Browsing(filled.backend)
    assert browsing.listeners() == ["a", "b", "old"]
    assert [browsing.knows(name) for name in ("a", "old", "nobody")] == [True, True, False]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_listeners_are_named_without_a_look_at_every_delivery(filled: Journal, plans: list[str]) -> None:
    """Each completion in a shell asks for them."""
    filled.listeners()
    assert [plan for plan in plans if "SCAN delivery" in plan.replace("SCAN delivery USING", "")] == []


def test_what_is_stored_meanwhile_is_in_no_part_of_what_is_read(filled: Journal, new_event: Make) -> None:
    """The figures and lists, of several SELECTs, agree with each other; the next reader is not bound by that."""
    count = select(func.count()).select_from(delivery)
    with one_state(filled.backend, "look") as connection:
        before = connection.execute(count).scalar_one()
        filled.append(new_event(), ["a"])
        assert connection.execute(count).scalar_one() == before
    with filled.backend.reading("look") as connection:
        assert connection.execute(count).scalar_one() == before + 1
        filled.append(new_event(), ["a"])
        assert connection.execute(count).scalar_one() == before + (1 if filled.backend.is_sqlite else 2)


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
