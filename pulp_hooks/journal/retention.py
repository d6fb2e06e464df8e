"""Retention: deleting finished deliveries that are old, and events without any."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, tuple_

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.backend import Backend, JournalPart
from pulp_hooks.journal.queries import window
from pulp_hooks.journal.reasons import is_full
from pulp_hooks.journal.schema import State, delivery, event

_BATCH = 1000
"""How many events one transaction looks at, so that no writer waits long."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was deleted.

    Attributes:
        deliveries: Deliveries, each with its attempts.
        events: Events that had no delivery left.
    """

    deliveries: int
    events: int


class Retention(JournalPart):
    """The part of the journal that prunes a journal."""

    def prune(
        self, *, delivered_before: float, dead_before: float, progress: Callable[[int], None] | None = None
    ) -> Pruned:
        """Delete finished deliveries that are old, with their attempts, and old events without deliveries.

        They are deleted in batches, so that other writers get their turn. After an error those that were deleted stay
        so. Unfinished deliveries are never deleted.

        Args:
            delivered_before: Delete what was delivered or skipped earlier; seconds since 1970.
            dead_before: Delete what was given up earlier.
            progress: Called with how many more deliveries were deleted.
        """
        before, size = max(delivered_before, dead_before), _BATCH
        deliveries = events = first = 0
        while (end := _end_of_batch(self.backend, first, before, size)) is not None:
            try:
                with self.backend.writing("prune") as connection:
                    deleted, orphans = _prune_batch(connection, (first, end), delivered_before, dead_before)
            except JournalError as error:
                if not is_full(error) or size == 1:
                    raise
                # SQLite writes what it deletes to its log first, and there is room for fewer rows.
                size = max(1, size // 10)
                continue
            first = end
            deliveries += deleted
            events += orphans
            if progress and deleted:
                progress(deleted)
        return Pruned(deliveries, events)

    def count_prunable(self, *, delivered_before: float, dead_before: float) -> int:
        """Return how many deliveries `prune` would delete."""
        with self.backend.reading("count what is old") as connection:
            _, end = window(self.backend, connection, None, max(delivered_before, dead_before))
            query = select(func.count()).select_from(delivery).where(delivery.c.event < end)
            return connection.execute(query.where(_old(delivered_before, dead_before))).scalar_one()


def _end_of_batch(backend: Backend, first: int, before: float, size: int) -> int | None:
    """Return the number after so many events that were stored before a time; null when there are no more."""
    with backend.reading("look for what is old") as connection:
        _, end = window(backend, connection, None, before)
        batch = select(event.c.number).where(event.c.number >= first, event.c.number < end)
        batch = batch.order_by(event.c.number).limit(size)
        last = connection.execute(select(func.max(batch.subquery().c.number))).scalar()
    return None if last is None else last + 1


def _prune_batch(
    connection: Connection, numbers: tuple[int, int], delivered_before: float, dead_before: float
) -> tuple[int, int]:
    """Delete what is old of a range of events, and return how many deliveries and events that were."""
    first, end = numbers
    old = and_(delivery.c.event >= first, delivery.c.event < end, _old(delivered_before, dead_before))
    found = select(delivery.c.event, delivery.c.listener).where(old).with_for_update(skip_locked=True)
    # The condition is said twice: meanwhile a replay may have made a delivery due again.
    deleted = connection.execute(delete(delivery).where(tuple_(delivery.c.event, delivery.c.listener).in_(found), old))
    left = select(delivery.c.event).where(delivery.c.event == event.c.number)
    orphans = delete(event).where(
        event.c.number >= first, event.c.number < end, event.c.time < delivered_before, ~left.exists()
    )
    return deleted.rowcount, connection.execute(orphans).rowcount


def _old(delivered_before: float, dead_before: float) -> ColumnElement[bool]:
    done = delivery.c.state.in_([State.DELIVERED.value, State.SKIPPED.value])
    return or_(
        and_(done, delivery.c.finished < delivered_before),
        and_(delivery.c.state == State.DEAD.value, delivery.c.finished < dead_before),
    )
