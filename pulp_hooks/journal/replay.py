"""Delivering again what was delivered or given up, or for the first time what a new listener missed."""

import time
from collections.abc import Collection

from sqlalchemy import ColumnElement, and_, case, select, update

from pulp_hooks.journal.database import Database, insert_new, lock_deliveries
from pulp_hooks.journal.journal import disabled_listeners, is_disabled, lane
from pulp_hooks.journal.tables import State, delivery, event

_FINISHED = frozenset({State.DELIVERED, State.DEAD})


class Replay:
    """Makes finished deliveries wait again; their tries are counted anew, their attempts go on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def one(self, event_id: str, name: str, now: float | None = None) -> bool:
        """Replay one delivery.

        Returns:
            False when there is no such delivery, or it is not finished.

        Raises:
            JournalError: The database failed; nothing is replayed.
        """
        return bool(self._again([delivery.c.event_id == event_id, delivery.c.listener == name], now))

    def many(
        self,
        name: str | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        states: Collection[State] = _FINISHED,
        now: float | None = None,
    ) -> int:
        """Replay the finished deliveries of a listener or of all, of the events of a time window, of some states.

        Args:
            name: The listener; by default all.
            since: Time of the first event.
            until: Time after the last event.
            states: `DELIVERED`, `DEAD`, or both.
            now: The time, if not that of the clock.

        Returns:
            How many.

        Raises:
            JournalError: The database failed; nothing is replayed.
        """
        conditions: list[ColumnElement[bool]] = [delivery.c.state.in_([state.value for state in states])]
        if name is not None:
            conditions.append(delivery.c.listener == name)
        if since is not None or until is not None:
            conditions.append(delivery.c.event_id.in_(select(event.c.id).where(*_window(since, until))))
        return self._again(conditions, now)

    def to(self, name: str, *, since: float | None = None, until: float | None = None, now: float | None = None) -> int:
        """Deliver the events of a time window to a listener that was added later, where it has no delivery of them.

        Returns:
            How many deliveries were stored.

        Raises:
            JournalError: The database failed; nothing is stored.
        """
        now = time.time() if now is None else now
        has = select(delivery.c.event_id).where(delivery.c.event_id == event.c.id, delivery.c.listener == name)
        missed = select(event.c.id, event.c.repo_id, event.c.time).where(*_window(since, until), ~has.exists())
        with self._database.writing("replay") as connection:
            held = name in disabled_listeners(connection)
            stored = 0
            found = connection.execute(missed.order_by(event.c.time, event.c.id))
            # Created anew, they are in the order of their events: each a little later than the one before.
            for rows in found.partitions(1000):
                new = [
                    {
                        "event_id": row.id,
                        "listener": name,
                        "lane": lane(row.repo_id),
                        "state": (State.HELD if held else State.WAITING).value,
                        "due": None if held else now,
                        "tries": 0,
                        "attempts": 0,
                        "created": now + (stored + place) * 1e-6,
                    }
                    for place, row in enumerate(rows)
                ]
                stored += len(new)
                connection.execute(insert_new(connection.dialect, delivery), new)
        return stored

    def _again(self, conditions: list[ColumnElement[bool]], now: float | None) -> int:
        now = time.time() if now is None else now
        disabled = is_disabled(delivery.c.listener)
        again = (
            update(delivery)
            .where(and_(*conditions), delivery.c.finished.is_not(None))
            .values(
                state=case((disabled, State.HELD.value), else_=State.WAITING.value),
                due=case((disabled, None), else_=now),
                lease=None,
                tries=0,
                finished=None,
                error=None,
            )
        )
        with self._database.writing("replay") as connection:
            lock_deliveries(connection)
            return connection.execute(again).rowcount


def _window(since: float | None, until: float | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(event.c.time >= since)
    if until is not None:
        conditions.append(event.c.time < until)
    return conditions
