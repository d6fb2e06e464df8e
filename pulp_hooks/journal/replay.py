"""Delivering again what was delivered or given up, or for the first time what a new listener missed."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select, tuple_, update

from pulp_hooks.event_types import EventType
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.journal import disabled_listeners, is_disabled, lane
from pulp_hooks.journal.statements import insert_new, lock_deliveries, share_deliveries
from pulp_hooks.journal.tables import State, delivery, event
from pulp_hooks.journal.waking import notify

_LOT = 1000
"""How many events are looked at, and then stored, at a time."""

_FINISHED = frozenset({State.DELIVERED, State.DEAD})


@dataclass(frozen=True, slots=True)
class Finished:
    """Which finished deliveries are replayed.

    Attributes:
        listener: Of this listener; null: of all.
        since: Time of the first event; seconds since 1970.
        until: Time after the last event.
        states: `DELIVERED`, `DEAD`, or both.
    """

    listener: str | None = None
    since: float | None = None
    until: float | None = None
    states: Collection[State] = _FINISHED

    def conditions(self) -> list[ColumnElement[bool]]:
        """Give the conditions on a delivery."""
        conditions: list[ColumnElement[bool]] = [delivery.c.state.in_([state.value for state in self.states])]
        if self.listener is not None:
            conditions.append(delivery.c.listener == self.listener)
        if self.since is not None or self.until is not None:
            conditions.append(delivery.c.event_id.in_(select(event.c.id).where(*_window(self.since, self.until))))
        return conditions


@dataclass(frozen=True, slots=True)
class Missed:
    """Which events a listener is given that was added later.

    Attributes:
        since: Time of the first event; seconds since 1970.
        until: Time after the last event.
        event_types: IDs of the event types.
        wants: Tells whether the listener's filters let an event pass, as it is stored; null: all pass.
    """

    since: float | None = None
    until: float | None = None
    event_types: Collection[str] = tuple(EventType)
    wants: Callable[[bytes], bool] | None = None


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

    def many(self, wanted: Finished, now: float | None = None) -> int:
        """Replay finished deliveries, all at once: while a million of them are, others wait for many seconds to write.

        Returns:
            How many.

        Raises:
            JournalError: The database failed; nothing is replayed.
        """
        return self._again(wanted.conditions(), now)

    def count(self, wanted: Finished) -> int:
        """Give how many deliveries `many` would replay.

        Raises:
            JournalError: The database failed.
        """
        query = select(func.count()).select_from(delivery).where(*wanted.conditions())
        with self._database.reading("count what can be replayed") as connection:
            return connection.execute(query).scalar_one()

    def to(self, name: str, missed: Missed, now: float | None = None, *, ordered: bool = False) -> int:
        """Deliver events to a listener that was added later, those that it has no delivery of.

        They are stored in lots, so that others who write get in between.

        Args:
            name: The listener.
            missed: Which events.
            now: The time, if not that of the clock.
            ordered: Whether the listener is to have the events of each repository in their order.

        Returns:
            How many deliveries were stored.

        Raises:
            JournalError: The database failed; what was stored until then stays stored, and the rest can be replayed.
        """
        now = self._database.now() if now is None else now
        stored = 0
        for rows in self._missed(name, missed):
            with self._database.writing("replay") as connection:
                # Nobody enables the listener between the look whether it is disabled and the end.
                share_deliveries(connection)
                held = name in disabled_listeners(connection)
                new = [
                    {
                        "event_id": row.id,
                        "listener": name,
                        "lane": lane(row.repo_id) if ordered else None,
                        "state": (State.HELD if held else State.WAITING).value,
                        "due": None if held else now,
                        "tries": 0,
                        "attempts": 0,
                        # They are in the order of their events: each a little later than the one before.
                        "created": now + (stored + place) * 1e-6,
                    }
                    for place, row in enumerate(rows)
                ]
                connection.execute(insert_new(connection.dialect.name, delivery), new)
            stored += len(new)
        return stored

    def count_missed(self, name: str, missed: Missed) -> int:
        """Give how many deliveries `to` would store.

        Raises:
            JournalError: The database failed.
        """
        return sum(len(rows) for rows in self._missed(name, missed))

    def _missed(self, name: str, missed: Missed) -> Iterator[Sequence[Any]]:
        """Give the events that a listener missed in lots, in the order of their times."""
        has = select(delivery.c.event_id).where(delivery.c.event_id == event.c.id, delivery.c.listener == name)
        query = (
            select(event.c.id, event.c.time, event.c.repo_id)
            .where(*_window(missed.since, missed.until), event.c.type.in_(missed.event_types), ~has.exists())
            .order_by(event.c.time, event.c.id)
            .limit(_LOT)
        )
        lot = query
        while True:
            with self._database.reading("look for what was missed") as connection:
                rows = connection.execute(lot).all()
                wanted: Sequence[Any] = rows if missed.wants is None else _wanted(connection, rows, missed.wants)
            if wanted:
                yield wanted
            if len(rows) < _LOT:
                return
            lot = query.where(tuple_(event.c.time, event.c.id) > tuple_(rows[-1].time, rows[-1].id))

    def _again(self, conditions: list[ColumnElement[bool]], now: float | None) -> int:
        now = self._database.now() if now is None else now
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
            replayed = connection.execute(again).rowcount
            notify(connection)
        return replayed


def _window(since: float | None, until: float | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(event.c.time >= since)
    if until is not None:
        conditions.append(event.c.time < until)
    return conditions


def _wanted(connection: Connection, rows: Sequence[Any], wants: Callable[[bytes], bool]) -> list[Any]:
    contents = select(event.c.id, event.c.content).where(event.c.id.in_([row.id for row in rows]))
    wanted = {row.id for row in connection.execute(contents) if wants(row.content)}
    return [row for row in rows if row.id in wanted]
