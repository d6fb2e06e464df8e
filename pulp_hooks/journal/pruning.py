"""Forgetting what was finished long ago."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import BindParameter, ColumnElement, Delete, Integer, and_, bindparam, delete, func, or_, select, tuple_

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.reasons import is_full
from pulp_hooks.journal.tables import State, delivery, event

_LOT = 1000
"""How many rows one transaction deletes, so that nobody who writes waits for long."""

_MOST: BindParameter[int] = bindparam("most", type_=Integer)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was forgotten.

    Attributes:
        deliveries: Deliveries, each with its attempts.
        events: Events that had no delivery left.
    """

    deliveries: int
    events: int


def prunable(database: Database, *, delivered_before: float, dead_before: float) -> int:
    """Give how many deliveries `prune` would forget.

    Raises:
        JournalError: The database failed.
    """
    with database.reading("count what is old") as connection:
        query = select(func.count()).select_from(delivery).where(_old(delivered_before, dead_before))
        return connection.execute(query).scalar_one()


def prune(
    database: Database,
    *,
    delivered_before: float,
    dead_before: float,
    progress: Callable[[int], None] | None = None,
) -> Pruned:
    """Forget deliveries that were delivered or given up before these times, and old events without deliveries.

    What waits or is held is never forgotten.

    Args:
        database: The journal's.
        delivered_before: When what is forgotten was delivered at the latest; seconds since 1970.
        dead_before: When what is forgotten was given up at the latest.
        progress: Called with how many deliveries more were forgotten.

    Raises:
        JournalError: The database failed; what was forgotten until then stays so.
    """
    old = _old(delivered_before, dead_before)
    key = tuple_(delivery.c.event_id, delivery.c.listener)
    lot = select(delivery.c.event_id, delivery.c.listener).where(old).limit(_MOST).with_for_update(skip_locked=True)
    orphans = (
        select(event.c.id)
        .where(
            event.c.time < delivered_before,
            ~select(delivery.c.event_id).where(delivery.c.event_id == event.c.id).exists(),
        )
        .limit(_MOST)
    )
    # The conditions are said twice: meanwhile a replay may have made a delivery wait again.
    deliveries = _all(database, delete(delivery).where(key.in_(lot), old), progress)
    return Pruned(deliveries, _all(database, delete(event).where(event.c.id.in_(orphans))))


def _old(delivered_before: float, dead_before: float) -> ColumnElement[bool]:
    return or_(
        and_(delivery.c.state == State.DELIVERED.value, delivery.c.finished < delivered_before),
        and_(delivery.c.state == State.DEAD.value, delivery.c.finished < dead_before),
    )


def _all(database: Database, statement: Delete, progress: Callable[[int], None] | None = None) -> int:
    deleted, most = 0, _LOT
    while True:
        try:
            with database.writing("prune") as connection:
                count = connection.execute(statement, {"most": most}).rowcount
        except JournalError as error:
            if not is_full(error) or most == 1:
                raise
            # SQLite writes what it deletes to its log first, and there is room for fewer rows.
            most = max(1, most // 10)
            continue
        deleted += count
        if progress:
            progress(count)
        if count < most:
            return deleted
