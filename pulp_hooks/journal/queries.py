"""Queries on a journal: pages of events and deliveries, one delivery with its attempts, statistics."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Executable, Select, and_, func, select, tuple_, union_all

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.backend import Backend, JournalPart
from pulp_hooks.journal.schema import UNFINISHED, State, attempt, delivery, event, listener

_T = TypeVar("_T")

_BACKLOG = 1000
"""How many unfinished deliveries of a listener are sorted for a page without a look at so many newest events first."""

_BATCH = 500
"""How many rows are read at a time where the repository is compared in Python."""

_PERCENTS = 50, 99


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries and events are wanted; a part that is null or empty lets all pass.

    Attributes:
        states: States of the delivery.
        listener: Name of the listener.
        event_type: ID of the event type.
        repo_id: Glob that the repository's id matches.
        since: Time of the first event; seconds since 1970.
        until: Time after the last event.
    """

    states: Collection[State] = ()
    listener: str | None = None
    event_type: str | None = None
    repo_id: str | None = None
    since: float | None = None
    until: float | None = None


ALL = Filter()
"""Lets all pass."""


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """A part of a list.

    Attributes:
        items: The items, newest first.
        next: What to pass as `before` for the next page; null on the last one.
    """

    items: tuple[_T, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery.

    Attributes:
        event_id: Identifier of the event.
        listener: Name of the listener.
        type: ID of the event type.
        repo_id: The repository.
        time: When the event was stored; seconds since 1970.
        state: The state.
        attempts: How many attempts were begun.
        due: When the next attempt is due, or while a worker has it, when the lease ends; null if there is none.
        claimed: Whether a worker has it.
        finished: When it was delivered or given up.
        error: What went wrong last.
    """

    event_id: str
    listener: str
    type: str
    repo_id: str
    time: float
    state: State
    attempts: int
    due: float | None
    claimed: bool
    finished: float | None
    error: str | None

    @property
    def id(self) -> str:
        """Identifier of the delivery: that of the event, a slash, and the listener."""
        return f"{self.event_id}/{self.listener}"


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """An attempt.

    Attributes:
        number: From 1 on.
        started: When it began; seconds since 1970. Null, as is the next, when nothing was recorded of it.
        seconds: How long it took.
        status: How it ended.
        error: What went wrong.
        traceback: Of the error, without secrets.
        detail: JSON that the listener wants shown of the attempt.
    """

    number: int
    started: float | None
    seconds: float | None
    status: str
    error: str | None
    traceback: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event.

    Attributes:
        id: Its identifier.
        type: ID of the event type.
        repo_id: The repository.
        time: When it was stored; seconds since 1970.
        deliveries: How many of its deliveries are in which state.
    """

    id: str
    type: str
    repo_id: str
    time: float
    deliveries: dict[State, int]


@dataclass(slots=True)
class Statistics:
    """Figures of one listener.

    Attributes:
        listener: Its name.
        pending: Deliveries of which no attempt has failed so far.
        retrying: Deliveries whose last attempt failed.
        held: Deliveries on hold until the listener is enabled.
        delivered: Deliveries that the listener took.
        dead: Deliveries that were given up.
        skipped: Deliveries that the listener does not take any more.
        oldest_seconds: Age of the oldest pending or retrying delivery.
        p50_seconds: Half of the attempts took at most that long.
        p99_seconds: 99 of 100 attempts took at most that long.
        disabled: Why the listener is disabled; null while it is enabled.
    """

    listener: str
    pending: int = 0
    retrying: int = 0
    held: int = 0
    delivered: int = 0
    dead: int = 0
    skipped: int = 0
    oldest_seconds: float | None = None
    p50_seconds: float | None = None
    p99_seconds: float | None = None
    disabled: str | None = None


class Queries(JournalPart):
    """The part of the journal that lists what is in a journal."""

    def events(self, wanted: Filter = ALL, limit: int = 50, before: str | None = None) -> Page[StoredEvent]:
        """Return a page of events, newest first.

        Args:
            wanted: Which ones; states and listener are not looked at.
            limit: How many at most.
            before: `next` of the page before.
        """
        e = event.c
        with self.backend.reading("list events") as connection:
            query: Any = select(e.number, e.id, e.type, e.repo_id, e.time)
            query = query.where(
                *_of_events(wanted), *in_window(self.backend, connection, wanted.since, wanted.until, e.number)
            ).order_by(e.number.desc())
            if before is not None:
                query = query.where(e.number < _number_of(connection, before))
            rows = list(_matching(connection, query, wanted.repo_id, limit + 1))
            page = rows[:limit]
            counted = select(delivery.c.event, delivery.c.state, func.count().label("count"))
            counted = counted.where(delivery.c.event.in_([row.number for row in page]))
            counts: dict[int, dict[State, int]] = {}
            for row in connection.execute(counted.group_by(delivery.c.event, delivery.c.state)):
                counts.setdefault(row.event, {})[State(row.state)] = row._mapping["count"]  # noqa: SLF001 - public: `Row.count` is a method
        found = tuple(StoredEvent(r.id, r.type, r.repo_id.decode(), r.time, counts.get(r.number, {})) for r in page)
        return Page(found, found[-1].id if len(rows) > limit else None)

    def content(self, event_id: str) -> bytes | None:
        """Return an event as JSON, byte by byte as it was stored; null when the journal does not have it."""
        with self.backend.reading("show an event") as connection:
            found = connection.execute(select(event.c.content).where(event.c.id == event_id)).scalar()
        return None if found is None else bytes(found)

    def deliveries(self, wanted: Filter = ALL, limit: int = 50, before: str | None = None) -> Page[StoredDelivery]:
        """Return a page of deliveries, those of the newest events first.

        Args:
            wanted: Which ones.
            limit: How many at most.
            before: `next` of the page before.
        """
        with self.backend.reading("list deliveries") as connection:
            conditions = [
                *_of_deliveries(wanted),
                *_of_events(wanted),
                *in_window(self.backend, connection, wanted.since, wanted.until, delivery.c.event),
            ]
            if before is not None:
                event_id, slash, name = before.rpartition("/")
                if not slash:
                    raise JournalError(
                        f"{before!r} is not the ID of a delivery; fix: pass EVENT/LISTENER, as in the list"
                    )
                place = tuple_(delivery.c.event, delivery.c.listener)
                conditions.append(place < tuple_(_number_of(connection, event_id), name))
            query = _DELIVERIES.where(*conditions)
            rows: list[Any] = []
            if wanted.listener is not None and _has_backlog(self.backend, connection, wanted.listener):
                # It takes long to sort, and has most likely enough of the newest.
                oldest = connection.execute(select(func.max(event.c.number) - _BACKLOG)).scalar() or 0
                newest = query.where(delivery.c.event > oldest).order_by(*_NEWEST_FIRST)
                rows = list(_matching(connection, newest, wanted.repo_id, limit + 1))
            if len(rows) <= limit:
                rows = list(_matching(connection, _by_index(query, wanted), wanted.repo_id, limit + 1))
        found = tuple(_delivery(row) for row in rows[:limit])
        return Page(found, found[-1].id if len(rows) > limit else None)

    def deliveries_of(self, event_id: str, name: str | None = None) -> list[StoredDelivery]:
        """Return the deliveries of an event, or the one to a listener, by name of the listener."""
        query = _DELIVERIES.where(event.c.id == event_id).order_by(delivery.c.listener)
        if name is not None:
            query = query.where(delivery.c.listener == name)
        with self.backend.reading("show a delivery") as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def attempts(self, event_id: str, name: str) -> list[StoredAttempt]:
        """Return the attempts of a delivery, oldest first, also those of which nothing was recorded."""
        a = attempt.c
        query = select(a.number, a.started, a.seconds, a.status, a.error, a.traceback, a.detail)
        query = query.join(event, event.c.number == a.event).where(event.c.id == event_id, a.listener == name)
        begun = select(delivery.c.attempts, _CLAIMED).join(event, event.c.number == delivery.c.event)
        begun = begun.where(event.c.id == event_id, delivery.c.listener == name)
        with self.backend.reading("show a delivery") as connection:
            found = {row.number: StoredAttempt(*row) for row in connection.execute(query)}
            of_delivery = connection.execute(begun).first()
        number = of_delivery.attempts - bool(of_delivery.claimed) if of_delivery else 0
        # Of the others nothing was recorded: the worker crashed, or was too late.
        return [
            found.get(place, StoredAttempt(place, None, None, "unrecorded", None)) for place in range(1, number + 1)
        ]

    def statistics(self, since: float | None = None) -> list[Statistics]:
        """Return the figures of every listener that has deliveries or is disabled, by name.

        Args:
            since: Count the seconds of attempts that began then or later; seconds since 1970.
        """
        now = self.backend.now()
        d = delivery.c
        states = select(d.listener, d.state, func.count().label("number"), func.min(d.created).label("oldest"))
        found: dict[str, Statistics] = {}
        with self.backend.reading("count") as connection:
            for row in connection.execute(states.group_by(d.listener, d.state)):
                figures = found.setdefault(row.listener, Statistics(row.listener))
                setattr(figures, row.state, row.number)
                if row.state in {State.PENDING, State.RETRYING}:
                    figures.oldest_seconds = max(figures.oldest_seconds or 0.0, now - row.oldest)
            for row in connection.execute(_percentiles(since)):
                if row.listener in found:
                    found[row.listener].p50_seconds, found[row.listener].p99_seconds = row.p50, row.p99
            disabled = select(listener.c.name, listener.c.reason).where(listener.c.disabled_at.is_not(None))
            for row in connection.execute(disabled):
                found.setdefault(row.name, Statistics(row.name)).disabled = row.reason or "by hand"
        return [found[name] for name in sorted(found)]


def _by_index(query: Select[Any], wanted: Filter) -> Any:  # noqa: ANN401 - one SELECT, or several
    """Return the query in order, that of a listener in parts that each have an index: the database merges them."""
    states = frozenset(wanted.states) or frozenset(State)
    if wanted.listener is None or states == {State.DEAD}:
        return query.order_by(*_NEWEST_FIRST)
    parts = []
    if states & UNFINISHED:
        unfinished = query.where(delivery.c.finished.is_(None))
        parts += [
            unfinished.where(delivery.c.ordering_key.is_(None)),
            unfinished.where(delivery.c.ordering_key.is_not(None)),
        ]
    if states - UNFINISHED:
        parts.append(query.where(delivery.c.finished.is_not(None)))
    merged = union_all(*parts)
    return merged.order_by(merged.selected_columns.event.desc(), merged.selected_columns.listener.desc())


def _has_backlog(backend: Backend, connection: Connection, name: str) -> bool:
    """Return whether a listener has many unfinished deliveries."""
    values = {"listener": name, "most": _BACKLOG}
    return bool(connection.exec_driver_sql(backend.sql(_UNFINISHED), values).scalar_one() >= _BACKLOG)


_UNFINISHED = """
SELECT (SELECT count(*) FROM (
    SELECT 1 FROM pulp_hooks_delivery
    WHERE listener = :listener AND finished IS NULL AND ordering_key IS NULL LIMIT :most) AS free)
+ (SELECT count(*) FROM (
    SELECT 1 FROM pulp_hooks_delivery
    WHERE listener = :listener AND finished IS NULL AND ordering_key IS NOT NULL LIMIT :most) AS ordered)
"""


def _percentiles(since: float | None) -> Executable:
    """Return the query for the percentiles of the seconds of each listener's attempts.

    Sorting the attempts is what takes long: it is done once for all percentiles.
    """
    a = attempt.c
    ranked = select(
        a.listener,
        a.seconds,
        func.row_number().over(partition_by=a.listener, order_by=a.seconds).label("place"),
        func.count().over(partition_by=a.listener).label("number"),
    )
    if since is not None:
        ranked = ranked.where(a.started >= since)
    line = ranked.subquery("line").c
    places = {percent: (line.number * percent + 99) // 100 for percent in _PERCENTS}
    seconds = [func.max(line.seconds).filter(line.place == place).label(f"p{n}") for n, place in places.items()]
    return select(line.listener, *seconds).where(line.place.in_(places.values())).group_by(line.listener)


def window(
    backend: Backend, connection: Connection, since: float | None, until: float | None
) -> tuple[int | None, int | None]:
    """Return the numbers of the first event of a time window and of the first one after it; null where it is open."""
    return _first_at(backend, connection, since), _first_at(backend, connection, until)


def _first_at(backend: Backend, connection: Connection, moment: float | None) -> int | None:
    """Return the number of the first event that was stored at that time or later, or one more than the last."""
    if moment is None:
        return None
    return connection.exec_driver_sql(backend.sql(_FIRST_AT), {"moment": moment}).scalar() or 0


# Later events have no earlier times, so the number is found by bisection; numbers may be missing. min() and max() are
# separate: in one SELECT SQLite reads a whole index for them. Measured: 182 ms at 1,000,000 events.
_FIRST_AT = """
WITH RECURSIVE part (low, high) AS (
    SELECT (SELECT min(number) FROM pulp_hooks_event), (SELECT max(number) + 1 FROM pulp_hooks_event)
    UNION ALL
    SELECT CASE WHEN middle.time < :moment THEN middle.number + 1 ELSE part.low END,
        CASE WHEN middle.time < :moment THEN part.high ELSE (part.low + part.high) / 2 END
    FROM part JOIN pulp_hooks_event AS middle
        ON middle.number = (SELECT min(number) FROM pulp_hooks_event WHERE number >= (part.low + part.high) / 2)
    WHERE part.low < part.high
)
SELECT max(low) FROM part
"""


def in_window(
    backend: Backend, connection: Connection, since: float | None, until: float | None, number: ColumnElement[int]
) -> list[ColumnElement[bool]]:
    """Return the conditions on the number of an event of a time window."""
    first, end = window(backend, connection, since, until)
    conditions = [] if first is None else [number >= first]
    return conditions if end is None else [*conditions, number < end]


def _number_of(connection: Connection, event_id: str) -> int:
    number: int | None = connection.execute(select(event.c.number).where(event.c.id == event_id)).scalar()
    if number is None:
        raise JournalError(f"event {event_id!r} not found (pruned?); fix: start again without --before")
    return number


_CLAIMED = and_(delivery.c.lease.is_not(None), delivery.c.due.is_not(None)).label("claimed")

_DELIVERIES: Select[*tuple[Any, ...]] = select(
    delivery.c.event,
    event.c.id.label("event_id"),
    delivery.c.listener,
    event.c.type,
    event.c.repo_id,
    event.c.time,
    delivery.c.state,
    delivery.c.attempts,
    delivery.c.due,
    _CLAIMED,
    delivery.c.finished,
    delivery.c.error,
).join_from(delivery, event, event.c.number == delivery.c.event)

_NEWEST_FIRST = delivery.c.event.desc(), delivery.c.listener.desc()


def _delivery(row: Any) -> StoredDelivery:  # noqa: ANN401 - a row of the above
    facts = row._asdict() | {"repo_id": row.repo_id.decode(), "claimed": bool(row.claimed), "state": State(row.state)}
    del facts["event"]
    return StoredDelivery(**facts)


def _of_deliveries(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    states = frozenset(wanted.states)
    if len(states) == 1:
        conditions.append(delivery.c.state == next(iter(states)).value)
    elif states:
        conditions.append(delivery.c.state.in_(sorted(states)))
    if states and states <= UNFINISHED:
        conditions.append(delivery.c.finished.is_(None))
    if wanted.listener is not None:
        conditions.append(delivery.c.listener == wanted.listener)
    return conditions


def _of_events(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.event_type is not None:
        conditions.append(event.c.type == wanted.event_type)
    if wanted.repo_id is not None:
        # What stands before the first wildcard is compared in the database; the byte 255 is in no text.
        beginning = _LITERAL.match(wanted.repo_id)[0].encode()  # type: ignore[index] # it matches every text
        conditions.append(event.c.repo_id.between(beginning, beginning + b"\xff"))
    return conditions


_LITERAL = re.compile(r"[^*?\[]*")


def _matching(connection: Connection, query: Any, repo_id: str | None, limit: int) -> Iterator[Any]:  # noqa: ANN401 - a SELECT of any columns
    """Yield so many rows whose repository matches; the databases' own globs differ."""
    if repo_id is None:
        yield from connection.execute(query.limit(limit))
        return
    found = 0
    with connection.execute(query, execution_options={"yield_per": _BATCH}) as rows:
        for row in rows:
            if fnmatchcase(row.repo_id.decode(), repo_id):
                yield row
                found += 1
                if found == limit:
                    return
