"""What an operator reads in a journal: deliveries with their attempts, and events."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, literal_column, or_, select, tuple_

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.tables import State, attempt, delivery, event, listener

FAILING = "failing"
"""Besides the states: what waits after a failed attempt."""

_LOT = 500

_NEWEST = 10_000
"""In the deliveries of so many events, the newest ones, a page is looked for first; that takes some milliseconds."""

_RECENT = 1000
"""The listeners of so many events, the newest ones, are known without looking further."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries and events are asked for; a part that is null lets all pass.

    Attributes:
        states: States of the delivery, or `FAILING`.
        listener: Name of the listener.
        event_type: ID of the event type.
        repo_id: Glob that the repository's id matches.
        since: Time of the first event; seconds since 1970.
        until: Time after the last event.
    """

    states: Collection[str] = ()
    listener: str | None = None
    event_type: str | None = None
    repo_id: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """A delivery as it is listed.

    Attributes:
        event_id: Identifier of the event.
        listener: Name of the listener.
        type: ID of the event type.
        repo_id: The repository.
        time: When the event was fired; seconds since 1970.
        state: Where the delivery stands.
        attempts: How many attempts were begun.
        due: When it is to be made, or while a worker has it, when the lease ends.
        claimed: Whether a worker has it.
        finished: When it was delivered or given up.
        error: What went wrong last.
    """

    event_id: str
    listener: str
    type: str
    repo_id: str
    time: float
    state: str
    attempts: int
    due: float | None
    claimed: bool
    finished: float | None
    error: str | None

    @property
    def id(self) -> str:
        """Identifier of the delivery."""
        return f"{self.event_id}/{self.listener}"


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """An attempt as it is listed.

    Attributes:
        number: From 1 on.
        started: When it began; seconds since 1970. Null, as is the next, when nothing was recorded of it.
        seconds: How long it took.
        status: How it ended, in a word.
        error: What went wrong.
    """

    number: int
    started: float | None
    seconds: float | None
    status: str
    error: str | None


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event as it is listed.

    Attributes:
        id: Its identifier.
        type: ID of the event type.
        repo_id: The repository.
        time: When it was fired; seconds since 1970.
        deliveries: How many deliveries of it are in which state.
    """

    id: str
    type: str
    repo_id: str
    time: float
    deliveries: dict[str, int]


@contextmanager
def one_state(database: Database, doing: str) -> Iterator[Connection]:
    """Give a connection whose SELECTs all see the journal as it was at the first of them.

    Args:
        database: The journal's.
        doing: What is not done when the database fails.

    Raises:
        JournalError: The database failed.
    """
    with database.reading(doing) as connection:
        if not database.is_sqlite:  # which knows nothing else
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


class Browsing:
    """Reads a journal; changes nothing, and keeps nobody waiting."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def deliveries(self, wanted: Filter, limit: int, before: str | None = None) -> list[DeliveryLine]:
        """Give deliveries, the newest events first.

        Args:
            wanted: Which ones.
            limit: How many at most.
            before: Identifier of a delivery: those behind it in this order are given.

        Raises:
            JournalError: The database failed, or does not know the event of `before`.
        """
        window, conditions = _window(wanted), _conditions(wanted)
        with one_state(self._database, "list deliveries") as connection:
            if before is not None:
                event_id, _, name = before.rpartition("/")
                moment = _time_of(connection, event_id)
                window.append(event.c.time <= moment)
                place = tuple_(event.c.time, event.c.id, delivery.c.listener)
                conditions.append(place < tuple_(moment, event_id, name))
            by_events = self._by_events.where(*window, *conditions).order_by(event.c.time.desc(), *_WITHIN_A_MOMENT)
            oldest = connection.execute(_OLDEST.where(*window)).scalar()
            if oldest is not None:
                newest = by_events.where(event.c.time >= oldest)
                rows = list(_matching(connection, newest, wanted.repo_id, limit))
                if len(rows) == limit:
                    return [_line(row) for row in rows]
            # What is not frequent there is looked for in the deliveries, where the time of an event has no index.
            by_deliveries = _DELIVERIES.where(*window, *conditions).order_by(_SORTED_TIME.desc(), *_WITHIN_A_MOMENT)
            rest = by_deliveries if wanted.repo_id is None else by_events
            return [_line(row) for row in _matching(connection, rest, wanted.repo_id, limit)]

    @property
    def _by_events(self) -> Any:  # noqa: ANN401 - a SELECT
        """Give the query that begins with the events, and so can end as soon as it has enough."""
        return _BY_EVENTS_OF_SQLITE if self._database.is_sqlite else _DELIVERIES

    def deliveries_of(self, event_id: str, name: str | None = None) -> list[DeliveryLine]:
        """Give the deliveries of one event, or the one to the listener of this name.

        Raises:
            JournalError: The database failed.
        """
        query = _DELIVERIES.where(event.c.id == event_id).order_by(delivery.c.listener)
        if name is not None:
            query = query.where(delivery.c.listener == name)
        with self._database.reading("show a delivery") as connection:
            return [_line(row) for row in connection.execute(query)]

    def attempts_of(self, event_id: str, name: str) -> list[AttemptLine]:
        """Give the attempts of a delivery to the listener of this name, the first one first.

        Raises:
            JournalError: The database failed.
        """
        a = attempt.c
        query = select(a.number, a.started, a.seconds, a.status, a.error)
        query = query.where(a.event_id == event_id, a.listener == name).order_by(a.number)
        with self._database.reading("show a delivery") as connection:
            return [AttemptLine(*row) for row in connection.execute(query)]

    def content_of(self, event_id: str) -> bytes | None:
        """Give an event as it is stored; nothing when the journal does not know it.

        Raises:
            JournalError: The database failed.
        """
        with self._database.reading("show an event") as connection:
            return connection.execute(select(event.c.content).where(event.c.id == event_id)).scalar()

    def events(self, wanted: Filter, limit: int, before: str | None = None) -> list[EventLine]:
        """Give events, the newest first.

        Args:
            wanted: Which ones; states and listener are not looked at.
            limit: How many at most.
            before: Identifier of an event: those behind it in this order are given.

        Raises:
            JournalError: The database failed, or does not know the event of `before`.
        """
        query: Any = select(event.c.id, event.c.type, event.c.repo_id, event.c.time)
        query = query.where(*_window(wanted), *_conditions(wanted))
        with one_state(self._database, "list events") as connection:
            if before is not None:
                moment = _time_of(connection, before)
                # Of a pair no index can tell where it begins.
                query = query.where(event.c.time <= moment, tuple_(event.c.time, event.c.id) < tuple_(moment, before))
            order = (event.c.time.desc(), event.c.id.desc())
            rows = list(_matching(connection, query.order_by(*order), wanted.repo_id, limit))
            counted = select(delivery.c.event_id, delivery.c.state, func.count().label("number"))
            counted = counted.where(delivery.c.event_id.in_([row.id for row in rows]))
            counts: dict[str, dict[str, int]] = {}
            for row in connection.execute(counted.group_by(delivery.c.event_id, delivery.c.state)):
                counts.setdefault(row.event_id, {})[row.state] = row.number
        return [EventLine(row.id, row.type, row.repo_id.decode(), row.time, counts.get(row.id, {})) for row in rows]

    def listeners(self) -> list[str]:
        """Give the names of listeners, in order, without looking at every delivery.

        Those are the ones that had one of the newest events, that something is due for, or that have failed or were
        disabled once; `knows` knows the others too.

        Raises:
            JournalError: The database failed.
        """
        newest = select(event.c.id).order_by(event.c.time.desc()).limit(_RECENT)
        recent = select(delivery.c.listener).where(delivery.c.event_id.in_(newest)).distinct()
        with self._database.reading("list the listeners") as connection:
            names = {*connection.execute(recent).scalars(), *connection.execute(select(listener.c.name)).scalars()}
            names.update(_awaited(connection))
        return sorted(names)

    def knows(self, name: str) -> bool:
        """Tell whether a listener has deliveries; takes long when it has none.

        Raises:
            JournalError: The database failed.
        """
        query = select(delivery.c.listener).where(delivery.c.listener == name).limit(1)
        with self._database.reading("look for a listener") as connection:
            return connection.execute(query).first() is not None


def _awaited(connection: Connection) -> Iterator[str]:
    """Give the names of the listeners that something is due for: a step in the index for each."""
    first = select(func.min(delivery.c.listener)).where(delivery.c.due.is_not(None))
    name = connection.execute(first).scalar()
    while name is not None:
        yield name
        name = connection.execute(first.where(delivery.c.listener > name)).scalar()


_COLUMNS: Any = select(
    delivery.c.event_id,
    delivery.c.listener,
    event.c.type,
    event.c.repo_id,
    event.c.time,
    delivery.c.state,
    delivery.c.attempts,
    delivery.c.due,
    and_(delivery.c.lease.is_not(None), delivery.c.due.is_not(None)).label("claimed"),
    delivery.c.finished,
    delivery.c.error,
)
_DELIVERIES = _COLUMNS.join_from(delivery, event, event.c.id == delivery.c.event_id)

# SQLite, which does not know how often a value occurs, would sort all deliveries for the first page. With the plus it
# cannot look an event up by its id, and has to begin with the events, in the order of their times.
_BY_EVENTS_OF_SQLITE = _COLUMNS.join_from(event, delivery, delivery.c.event_id == literal_column("+event.id"))

_OLDEST = select(event.c.time).order_by(event.c.time.desc()).offset(_NEWEST).limit(1)

_WITHIN_A_MOMENT = event.c.id.desc(), delivery.c.listener.desc()
_SORTED_TIME = event.c.time + delivery.c.attempts * 0.0
"""The time of an event as no table and no index has it: only the deliveries that were found can be sorted by it."""


def _line(row: Any) -> DeliveryLine:  # noqa: ANN401 - a row of the above
    values = row._asdict()
    return DeliveryLine(**values | {"repo_id": row.repo_id.decode(), "claimed": bool(row.claimed)})


def _window(wanted: Filter) -> list[ColumnElement[bool]]:
    window: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        window.append(event.c.time >= wanted.since)
    if wanted.until is not None:
        window.append(event.c.time < wanted.until)
    return window


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.states:
        states = [state for state in wanted.states if state != FAILING]
        failing = and_(delivery.c.state == State.WAITING.value, delivery.c.error.is_not(None))
        among = delivery.c.state.in_(states)
        conditions.append(or_(among, failing) if FAILING in wanted.states else among)
        if wanted.listener is not None and {*wanted.states} <= {FAILING, State.WAITING.value}:
            # All that waits is due some time, and what is due has an index, by listener.
            conditions.append(delivery.c.due.is_not(None))
    if wanted.listener is not None:
        conditions.append(delivery.c.listener == wanted.listener)
    if wanted.event_type is not None:
        conditions.append(event.c.type == wanted.event_type)
    if wanted.repo_id is not None:
        # What stands before the first wildcard is compared in the database; the byte 255 is in no text.
        beginning = _LITERAL.match(wanted.repo_id)[0].encode()  # type: ignore[index] # it matches every text
        conditions.append(event.c.repo_id.between(beginning, beginning + b"\xff"))
    return conditions


_LITERAL = re.compile(r"[^*?\[]*")


def _matching(
    connection: Connection,
    query: Any,  # noqa: ANN401 - a SELECT of any columns
    repo_id: str | None,
    limit: int,
) -> Iterator[Any]:
    """Give so many rows whose repository matches; the databases' own globs differ."""
    if repo_id is None:
        yield from connection.execute(query.limit(limit))
        return
    found = 0
    with connection.execute(query, execution_options={"yield_per": _LOT}) as rows:
        for row in rows:
            if fnmatchcase(row.repo_id.decode(), repo_id):
                yield row
                found += 1
                if found == limit:
                    return


def _time_of(connection: Connection, event_id: str) -> float:
    moment: float | None = connection.execute(select(event.c.time).where(event.c.id == event_id)).scalar()
    if moment is None:
        raise JournalError(f"there is no event {event_id!r} to go on behind; it may have been forgotten: begin anew")
    return moment
