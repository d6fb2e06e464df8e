"""Tests of what the journal reads: what it costs to claim does not grow with what waits, in both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from pulp_hooks.journal import schema
from pulp_hooks.journal.claims import NO_LIMITS
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.queue import Queue
from pulp_hooks.journal.schema import State

_FEW, _MANY = 400, 4000

Key = Callable[[int], int | None]

_READ = text(
    "SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class"
    " WHERE relkind IN ('r', 'i') AND relname LIKE 'pulp_hooks_delivery%'"
    " AND relnamespace = current_schema()::regnamespace"
)


def fill(journal: Journal, name: str, number: int, key: Key) -> None:
    """Store deliveries of a listener that are due, each with the ordering key that is given for its place."""
    events, deliveries = [], []
    for place in range(number):
        identifier = f"{name}{place:06d}"
        number = place + (1 if name == "few" else _FEW + 1)
        moment = 1000.0 + place
        event_row = {"number": number, "id": identifier, "type": "x", "time": moment}
        events.append(event_row | {"repo_id": b"zoo", "content": b"{}"})
        pending = {"event": number, "listener": name, "ordering_key": key(place), "state": State.PENDING.value}
        deliveries.append(pending | {"due": moment, "created": moment})
    with journal.backend.writing("fill it") as connection:
        connection.execute(schema.event.insert(), events)
        connection.execute(schema.delivery.insert(), deliveries)


def count_reads(engine: Engine) -> list[int]:
    """Have counted what is read of deliveries: rows and entries of indexes by PostgreSQL, steps by SQLite."""
    counts: list[int] = []

    def count_steps(connection: Any, _record: object) -> None:  # noqa: ANN401 - it is the driver's
        connection.set_progress_handler(lambda: counts.append(10), 10)

    def look(connection: Connection) -> None:
        counts.append(int(connection.execute(_READ).scalar_one()))

    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", count_steps)
    else:
        event.listen(engine, "commit", look)
        event.listen(engine, "rollback", look)
    return counts


def growth(url: str, use: Callable[[Queue, str], object], key: Key = lambda _: None) -> float:
    """Return how much more is read for a listener for which ten times as much waits."""
    journal, read = Journal(url), []
    numbers = {"few": _FEW, "many": _MANY}
    for name, number in numbers.items():
        fill(journal, name, number, key)
    with journal.backend.writing("analyze it") as connection:
        connection.exec_driver_sql("ANALYZE")
    counts = count_reads(journal.backend.open())
    for name in numbers:
        # Of PostgreSQL a session may count what it did before as well.
        journal.backend.open().dispose()
        counts.clear()
        use(journal.queue, name)
        read.append(sum(counts))
    journal.close()
    return read[1] / read[0]


@pytest.mark.parametrize(
    "use",
    [
        lambda claims, name: claims.claim(name, 1, 30, now=1e6, ordered=False),
        lambda claims, name: claims.unsent(name, 1, 30, now=1e6, ordered=False),
        lambda claims, name: claims.dues({name: NO_LIMITS}, now=1e6),
    ],
    ids=["claim", "unsent", "dues"],
)
def test_to_claim_reads_no_more_when_more_waits(url: str, use: Callable[[Queue, str], object]) -> None:
    """Only the head of the line is looked at."""
    assert growth(url, use) < 2
