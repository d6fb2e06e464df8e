"""Forgetting what was finished long ago."""

from dataclasses import dataclass

from sqlalchemy import Delete, and_, delete, or_, select, tuple_

from pulp_hooks.journal.database import Database
from pulp_hooks.journal.tables import State, delivery, event

_LOT = 1000
"""How many rows one transaction deletes, so that nobody who writes waits for long."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was forgotten.

    Attributes:
        deliveries: Deliveries, each with its attempts.
        events: Events that had no delivery left.
    """

    deliveries: int
    events: int


def prune(database: Database, *, delivered_before: float, dead_before: float) -> Pruned:
    """Forget deliveries that were delivered or given up before these times, and old events without deliveries.

    What waits or is held is never forgotten.

    Raises:
        JournalError: The database failed; what was forgotten until then stays so.
    """
    old = or_(
        and_(delivery.c.state == State.DELIVERED.value, delivery.c.finished < delivered_before),
        and_(delivery.c.state == State.DEAD.value, delivery.c.finished < dead_before),
    )
    key = tuple_(delivery.c.event_id, delivery.c.listener)
    lot = select(delivery.c.event_id, delivery.c.listener).where(old).limit(_LOT).with_for_update(skip_locked=True)
    orphans = (
        select(event.c.id)
        .where(
            event.c.time < delivered_before,
            ~select(delivery.c.event_id).where(delivery.c.event_id == event.c.id).exists(),
        )
        .limit(_LOT)
    )
    # The conditions are said twice: meanwhile a replay may have made a delivery wait again.
    deliveries = _all(database, delete(delivery).where(key.in_(lot), old))
    return Pruned(deliveries, _all(database, delete(event).where(event.c.id.in_(orphans))))


def _all(database: Database, statement: Delete) -> int:
    deleted = 0
    while True:
        with database.writing("forget what is old") as connection:
            count = connection.execute(statement).rowcount
        deleted += count
        if count < _LOT:
            return deleted
