"""Replay of finished deliveries, and backfill for listeners that were added later."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from pulp_hooks.event_types import EventType
from pulp_hooks.journal.appending import ordering_key
from pulp_hooks.journal.backend import Backend, JournalPart
from pulp_hooks.journal.queries import in_window, window
from pulp_hooks.journal.queue import disabled_listeners
from pulp_hooks.journal.schema import State, delivery, event, listener

_BATCH = 1000
"""How many events are looked at, and then stored, at a time."""

_REPLAYABLE = frozenset({State.DELIVERED, State.DEAD, State.SKIPPED})


@dataclass(frozen=True, slots=True)
class Finished:
    """Which finished deliveries are replayed.

    Attributes:
        listener: Of this listener; null: of all.
        since: Time of the first event; seconds since 1970.
        until: Time after the last event.
        states: Finished states.
    """

    listener: str | None = None
    since: float | None = None
    until: float | None = None
    states: Collection[State] = _REPLAYABLE


@dataclass(frozen=True, slots=True)
class Missed:
    """Which events a listener gets that was added later.

    Attributes:
        since: Time of the first event; seconds since 1970.
        until: Time after the last event.
        event_types: IDs of the event types.
        wants: Returns whether the listener's filters let an event pass, as it is stored; null: all pass.
    """

    since: float | None = None
    until: float | None = None
    event_types: Collection[str] = tuple(EventType)
    wants: Callable[[bytes], bool] | None = None


class Replay(JournalPart):
    """The part of the journal that replays finished deliveries, and makes those of listeners that were added later."""

    def replay(self, event_id: str, name: str, *, now: float | None = None) -> bool:
        """Make a finished delivery due again, with a new retry schedule; its attempts are counted on.

        Returns:
            False when there is no such delivery, or it is not finished.
        """
        with self.backend.writing("replay") as connection:
            number = select(event.c.number).where(event.c.id == event_id).scalar_subquery()
            return bool(
                _again(self.backend, connection, [delivery.c.event == number, delivery.c.listener == name], now)
            )

    def replay_finished(self, wanted: Finished, *, now: float | None = None) -> int:
        """Make finished deliveries due again, and return how many.

        All are changed in one transaction: with a million of them other writers wait for many seconds.
        """
        with self.backend.writing("replay") as connection:
            return _again(self.backend, connection, _conditions(self.backend, connection, wanted), now)

    def count_finished(self, wanted: Finished) -> int:
        """Return how many deliveries `replay_finished` would make due again."""
        with self.backend.reading("count what can be replayed") as connection:
            query = select(func.count()).select_from(delivery).where(*_conditions(self.backend, connection, wanted))
            return connection.execute(query).scalar_one()

    def end_pauses(self, *, now: float | None = None) -> int:
        """Make every delivery due that waits for its next attempt, and return how many."""
        backend = self.backend
        with backend.writing("end pauses") as connection:
            backend.lock_deliveries(connection)
            now = backend.now(connection) if now is None else now
            waiting = [delivery.c.due > now, delivery.c.lease.is_(None)]
            ended = connection.execute(update(delivery).where(*waiting).values(due=now)).rowcount
            backend.notify(connection)
        return ended

    def backfill(self, name: str, missed: Missed, *, ordered: bool = False, now: float | None = None) -> int:
        """Store deliveries of events that a listener has none of, and return how many.

        They are stored in batches, so that other writers get their turn. After an error those that were stored stay,
        and the same call does the rest.

        Args:
            name: Name of the listener.
            missed: Which events.
            ordered: Whether the listener gets the events of each repository in their order.
            now: The time, if not that of the clock; seconds since 1970.
        """
        now = self.backend.now() if now is None else now
        stored = 0
        for rows in _missed(self.backend, name, missed):
            with self.backend.writing("backfill") as connection:
                # Nobody may enable the listener between the look whether it is disabled and the end.
                self.backend.share_deliveries(connection)
                connection.execute(self.backend.insert(listener).values(name=name).on_conflict_do_nothing())
                held = name in disabled_listeners(self.backend, connection)
                new = [
                    {
                        "event": row.number,
                        "listener": name,
                        "ordering_key": ordering_key(row.repo_id) if ordered else None,
                        "state": (State.HELD if held else State.PENDING).value,
                        "due": None if held else now,
                        "created": now,
                    }
                    for row in rows
                ]
                connection.execute(self.backend.insert(delivery).on_conflict_do_nothing(), new)
            stored += len(new)
        return stored

    def count_missed(self, name: str, missed: Missed) -> int:
        """Return how many deliveries `backfill` would store."""
        return sum(len(rows) for rows in _missed(self.backend, name, missed))


def _missed(backend: Backend, name: str, missed: Missed) -> Iterator[Sequence[Any]]:
    """Yield the events that a listener missed in batches, in the order in which they were stored."""
    has = select(delivery.c.event).where(delivery.c.event == event.c.number, delivery.c.listener == name)
    with backend.reading("look for what was missed") as connection:
        first, end = window(backend, connection, missed.since, missed.until)
    query = (
        select(event.c.number, event.c.repo_id)
        .where(event.c.type.in_(missed.event_types), ~has.exists())
        .order_by(event.c.number)
        .limit(_BATCH)
    )
    if end is not None:
        query = query.where(event.c.number < end)
    first = first or 0
    while True:
        with backend.reading("look for what was missed") as connection:
            rows = connection.execute(query.where(event.c.number >= first)).all()
            wanted: Sequence[Any] = rows if missed.wants is None else _wanted(connection, rows, missed.wants)
        if wanted:
            yield wanted
        if len(rows) < _BATCH:
            return
        first = rows[-1].number + 1


def _wanted(connection: Connection, rows: Sequence[Any], wants: Callable[[bytes], bool]) -> list[Any]:
    contents = select(event.c.number, event.c.content).where(event.c.number.in_([row.number for row in rows]))
    wanted = {row.number for row in connection.execute(contents) if wants(row.content)}
    return [row for row in rows if row.number in wanted]


def _again(backend: Backend, connection: Connection, conditions: list[ColumnElement[bool]], now: float | None) -> int:
    backend.lock_deliveries(connection)
    now = backend.now(connection) if now is None else now
    is_held = delivery.c.listener.in_(disabled_listeners(backend, connection))
    again = (
        update(delivery)
        .where(*conditions, delivery.c.finished.is_not(None))
        .values(
            state=case((is_held, State.HELD.value), else_=State.PENDING.value),
            due=case((is_held, None), else_=now),
            lease=None,
            step=0,
            finished=None,
            error=None,
        )
    )
    replayed = connection.execute(again).rowcount
    backend.notify(connection)
    return replayed


def _conditions(backend: Backend, connection: Connection, wanted: Finished) -> list[ColumnElement[bool]]:
    states = delivery.c.state.in_([state.value for state in wanted.states])
    conditions: list[ColumnElement[bool]] = [states, delivery.c.finished.is_not(None)]
    if wanted.listener is not None:
        conditions.append(delivery.c.listener == wanted.listener)
    return conditions + in_window(backend, connection, wanted.since, wanted.until, delivery.c.event)
