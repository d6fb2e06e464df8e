"""The life of a delivery: it is claimed under a lease, and finished by whoever holds the lease."""

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Double,
    Executable,
    FromClause,
    LargeBinary,
    ScalarSelect,
    Select,
    Text,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
    update,
)

from pulp_hooks.journal.claim import NO_LIMITS, Claim, Due, Limits
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.journal import disabled_listeners, is_disabled
from pulp_hooks.journal.pacing import allowed, next_pace, paced, take_turn
from pulp_hooks.journal.results import Result, record
from pulp_hooks.journal.tables import State, attempt, delivery, event

PUT_OFF_SECONDS = 1.0
"""How long a delivery that a worker may have died of waits while its next worker tries another such one."""


class Claims:
    """Gives deliveries to workers and takes their results."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._can_record = False

    def claim(  # noqa: PLR0913 - each is one fact about what is to be claimed
        self,
        name: str,
        limit: int,
        lease_seconds: float,
        limits: Limits = NO_LIMITS,
        *,
        ordered: bool = True,
        suspects: bool = True,
        event_id: str | None = None,
        now: float | None = None,
    ) -> list[Claim]:
        """Claim deliveries of a listener that are due, those that are due longest before the others.

        Whether a delivery keeps its repository's order was decided when it was stored: of those that do, only the
        first unfinished one of each repository is claimed, whatever this worker's settings say.

        A claim that is not finished when its lease ends comes due again, and is then given alone: whoever held it may
        have died of it, and is not to take others along. Disabled listeners have nothing to claim.

        The first claim, and the first one after a failure to record, also tries whether a result could be recorded:
        nobody is to be called in vain.

        Args:
            name: The listener.
            limit: How many at most.
            lease_seconds: How long no other worker may claim them.
            limits: What holds for all workers together.
            ordered: Whether deliveries that keep an order are claimed too; it takes longer. See `Due.ordered`.
            suspects: Whether those are claimed too that a worker may have died of; otherwise they come due again soon.
            event_id: Claim the delivery of this event only.
            now: The time, if not that of the clock when the database lets this be done.

        Raises:
            JournalError: The database failed; nothing is claimed.
        """
        lease = secrets.token_hex(8)
        with self._database.writing("give work to a worker") as connection:
            take_turn(connection, name, limits)
            # The lease begins when there is nothing more to wait for.
            now = self._database.now(connection) if now is None else now
            limit = allowed(connection, name, limit, limits, now, lease_seconds)
            if limit < 1:
                return []
            values = {"name": name, "now": now, "until": now + lease_seconds, "token": lease, "most": limit}
            statement = _claiming(ordered=ordered, one=event_id is not None)
            rows = connection.execute(statement, values if event_id is None else values | {"of_event": event_id}).all()
            rows = _apart(connection, name, rows, now, suspects=suspects)
            paced(connection, name, len(rows), limits, now)
            claims = [_claim(row, name, lease) for row in rows]
            if claims and not self._can_record:
                _try_to_record(connection, claims[0], now)
                self._can_record = True
        return sorted(claims, key=lambda claim: (claim.created, claim.event_id))

    def finish(self, results: Iterable[Result], now: float | None = None) -> list[Claim]:
        """Record how attempts ended, all or none of them.

        Returns:
            The claims that were late: another worker has claimed the delivery since, or it was held or finished. Their
            results are not recorded.

        Raises:
            JournalError: The database failed; nothing is recorded.
        """
        now = self._database.now() if now is None else now
        ordered = sorted(results, key=lambda result: (result.claim.event_id, result.claim.listener))
        if not ordered:
            return []
        self._can_record = False
        with self._database.writing("record what was delivered") as connection:
            ours = self._held_by_us(connection, [result.claim for result in ordered])
            kept = [result for result in ordered if _key(result.claim) in ours]
            if kept:
                record(connection, kept, now)
        self._can_record = True
        return [result.claim for result in ordered if _key(result.claim) not in ours]

    def release(self, claims: Iterable[Claim], now: float | None = None) -> list[Claim]:
        """Give back claims that were not begun: they are due at once, and no try is counted.

        Returns:
            The claims that were late; of them nothing is changed.

        Raises:
            JournalError: The database failed; nothing is given back.
        """
        now = self._database.now() if now is None else now
        ordered = sorted(claims, key=_key)
        if not ordered:
            return []
        with self._database.writing("take work back") as connection:
            ours = self._held_by_us(connection, ordered)
            disabled = disabled_listeners(connection)
            rows = [
                {
                    **_where(claim),
                    "new_state": (State.HELD if claim.listener in disabled else State.WAITING).value,
                    "new_due": None if claim.listener in disabled else now,
                }
                for claim in ordered
                if _key(claim) in ours
            ]
            if rows:
                connection.execute(_RELEASE, rows)
        return [claim for claim in ordered if _key(claim) not in ours]

    def dues(self, listeners: Mapping[str, Limits], *, now: float | None = None) -> dict[str, Due]:
        """Give when the next delivery of each listener is due, without those for which nothing waits.

        Whether others have as many claimed as may be at the same time is not looked at.

        Args:
            listeners: The listeners, and what holds for them.
            now: The time, if not that of the clock.

        Raises:
            JournalError: The database failed.
        """
        now = self._database.now() if now is None else now
        found = {}
        with self._database.reading("say what is due") as connection:
            # One by one each is a look at the head of an index.
            for name, limits in listeners.items():
                ordered, due = connection.execute(_NEXT, {"name": name}).one()
                if ordered:
                    due = connection.execute(_NEXT_IN_ORDER, {"name": name}).scalar()
                if due is not None:
                    pace = due if limits.per_second is None else next_pace(connection, name, limits.per_second, now)
                    found[name] = Due(due, max(due, pace), ordered=bool(ordered))
        return found

    def unsent(  # noqa: PLR0913 - each is one fact about what is to be sent
        self,
        name: str,
        limit: int,
        resend_seconds: float,
        limits: Limits = NO_LIMITS,
        *,
        ordered: bool = True,
        now: float | None = None,
    ) -> list[str]:
        """Give deliveries of a listener that could be claimed and for which a message is to be sent, and note it.

        That is so when none was sent since the delivery came due, or when the last one seems to be lost.

        Args:
            name: The listener.
            limit: How many at most.
            resend_seconds: After so long a message counts as lost.
            limits: What holds for the listener; no more messages are asked for than they let be claimed now.
            ordered: Whether deliveries that keep an order are looked at too, as for `claim`.
            now: The time, if not that of the clock.

        Returns:
            The identifiers of the events, those that are due longest first.

        Raises:
            JournalError: The database failed; nothing is noted.
        """
        with self._database.writing("say what is to be sent") as connection:
            take_turn(connection, name, limits)
            now = self._database.now(connection) if now is None else now
            limit = allowed(connection, name, limit, limits, now, math.inf)
            if limit < 1:
                return []
            values = {"name": name, "now": now, "lost": now - resend_seconds, "most": limit}
            rows = connection.execute(_sending(ordered=ordered), values).all()
        return [row.event_id for row in sorted(rows, key=lambda row: (row.due, row.event_id))]

    def not_sent(self, name: str, event_ids: Sequence[str]) -> None:
        """Take back that messages were sent for deliveries of a listener.

        Raises:
            JournalError: The database failed; the messages count as sent.
        """
        with self._database.writing("say what was not sent") as connection:
            chosen = (delivery.c.listener == name, delivery.c.event_id.in_(event_ids))
            connection.execute(update(delivery).where(*chosen).values(sent=None))

    @staticmethod
    def _held_by_us(connection: Connection, claims: Sequence[Claim]) -> set[tuple[str, str]]:
        """Give the keys of the deliveries whose lease is still that of the claim, and keep others off them."""
        wanted = {_key(claim): claim.lease for claim in claims}
        rows = connection.execute(_LEASES, {"ids": [claim.event_id for claim in claims]})
        return {(row.event_id, row.listener) for row in rows if wanted.get((row.event_id, row.listener)) == row.lease}


_NAME = bindparam("name", type_=Text)


def _key(claim: Claim) -> tuple[str, str]:
    return claim.event_id, claim.listener


def _where(claim: Claim) -> dict[str, object]:
    return {"of_event": claim.event_id, "of_listener": claim.listener}


# Of the parameter, not of the column: so PostgreSQL asks once, and not with a join of the whole backlog.
_OF_LISTENER = (delivery.c.listener == _NAME, ~is_disabled(_NAME))


@dataclass(frozen=True, slots=True)
class _Way:
    """Conditions by which deliveries are found that may be claimed when they are due."""

    conditions: Sequence[ColumnElement[bool]]
    due: ColumnElement[float] = delivery.c.due


def _ways(*, ordered: bool) -> list[_Way]:
    """Return the ways to what may be claimed; no two find the same delivery.

    One finds what was stored without a lane, the other the heads of the lanes. The heads are found lane by lane: a
    look at what is due, one by one, would look at everything that waits after heads that cannot be claimed. For a
    listener without lanes the second would find nothing, and take three times as long with PostgreSQL.
    """
    free = _Way((*_OF_LISTENER, delivery.c.due.is_not(None), delivery.c.lane.is_(None)))
    if not ordered:
        return [free]
    lanes = _lanes()
    heads = select(_head(lanes.c.lane)).select_from(lanes)
    # With a sum no database is led to look through the index of what is due.
    return [free, _Way((*_OF_LISTENER, delivery.c.event_id.in_(heads)), delivery.c.due + 0.0)]


def _unfinished(other: FromClause) -> list[ColumnElement[bool]]:
    return [other.c.listener == _NAME, other.c.finished.is_(None)]


def _lanes() -> CTE:
    """Give the lanes in which something is unfinished; each is found by a look at the index, behind the one before."""
    lanes = select(literal(b"", LargeBinary).label("lane")).cte("lanes", recursive=True)
    other = delivery.alias("following")
    following = select(other.c.lane).where(*_unfinished(other), other.c.lane > lanes.c.lane).order_by(other.c.lane)
    return lanes.union_all(select(following.limit(1).scalar_subquery()).where(lanes.c.lane.is_not(None)))


def _head(lane: ColumnElement[bytes]) -> ScalarSelect[str]:
    """Give the first unfinished delivery of a lane, which alone may be claimed; held ones count too."""
    other = delivery.alias("first")
    first = select(other.c.event_id).where(*_unfinished(other), other.c.lane == lane)
    return first.order_by(other.c.created, other.c.event_id).limit(1).scalar_subquery()


def _chosen(ways: Sequence[_Way], *conditions: ColumnElement[bool]) -> Select[Any]:
    """Give the query for the deliveries that are due longest, and keep others off them."""
    # As a common table expression each choice is made once, whatever plan the database follows.
    found = [
        select(delivery.c.event_id, delivery.c.due)
        .where(*way.conditions, way.due <= bindparam("now", type_=Double), *conditions)
        .order_by(way.due, delivery.c.event_id)
        .limit(bindparam("most"))
        .with_for_update(of=delivery, skip_locked=True)
        .cte(f"found_{place}")
        for place, way in enumerate(ways)
    ]
    line = union_all(*[select(one.c.event_id, one.c.due) for one in found]).subquery("line")
    return select(line.c.event_id).order_by(line.c.due, line.c.event_id).limit(bindparam("most"))


@cache
def _claiming(*, ordered: bool, one: bool) -> Executable:
    if one:
        that = (*_OF_LISTENER, delivery.c.event_id == bindparam("of_event"))
        first = or_(delivery.c.lane.is_(None), delivery.c.event_id == _head(delivery.c.lane))
        chosen = _chosen([_Way((*that, first))])
    else:
        chosen = _chosen(_ways(ordered=ordered))
    content = select(event.c.content).where(event.c.id == delivery.c.event_id).scalar_subquery()
    # Behind RETURNING SQLAlchemy writes columns for SQLite without the table's name; these would be those of `attempt`.
    of_event, of_listener = literal_column("delivery.event_id", Text), literal_column("delivery.listener", Text)
    recorded = select(func.count()).where(attempt.c.event_id == of_event, attempt.c.listener == of_listener)
    return (
        update(delivery)
        .where(delivery.c.listener == bindparam("name"), delivery.c.event_id.in_(chosen))
        .values(
            due=bindparam("until"),
            lease=bindparam("token"),
            tries=delivery.c.tries + 1,
            attempts=delivery.c.attempts + 1,
        )
        .returning(
            delivery.c.event_id,
            delivery.c.tries,
            delivery.c.attempts,
            delivery.c.created,
            delivery.c.lane.is_not(None).label("ordered"),
            content.label("content"),
            case((delivery.c.attempts > 1, recorded.scalar_subquery()), else_=0).label("recorded"),
        )
    )


def _claim(row: Any, name: str, lease: str) -> Claim:  # noqa: ANN401 - a row of the above
    facts = (row.content, row.tries, row.attempts, row.created)
    return Claim(row.event_id, name, lease, *facts, is_suspect=_is_suspect(row), is_ordered=bool(row.ordered))


def _is_suspect(row: Any) -> bool:  # noqa: ANN401 - a row of the above
    return bool(row.attempts - 1 > row.recorded)


def _try_to_record(connection: Connection, claim: Claim, now: float) -> None:
    """Record a result and roll it back: a role may lack a right, or a table may have no room, that only this needs."""
    savepoint = connection.begin_nested()
    try:
        record(connection, [Result(claim, State.WAITING, now, 0.0, "failed", due=now)], now)
    finally:
        savepoint.rollback()


def _apart(connection: Connection, name: str, rows: Sequence[Any], now: float, *, suspects: bool) -> Sequence[Any]:
    """Return one delivery alone of which an earlier attempt left nothing, or all others; give the rest back."""
    found = [row for row in rows if _is_suspect(row)]
    if not found:
        return rows
    if suspects:
        one = min(found, key=lambda row: (row.created, row.event_id))
        kept, back, due = [one], [row for row in rows if row is not one], now
    else:
        kept, back, due = [row for row in rows if not _is_suspect(row)], found, now + PUT_OFF_SECONDS
    released = [
        {"of_event": row.event_id, "of_listener": name, "new_state": State.WAITING.value, "new_due": due}
        for row in back
    ]
    if released:
        connection.execute(_RELEASE, released)
    return kept


@cache
def _sending(*, ordered: bool) -> Executable:
    unsent = or_(
        delivery.c.sent.is_(None), delivery.c.sent < delivery.c.due, delivery.c.sent <= bindparam("lost", type_=Double)
    )
    chosen = _chosen(_ways(ordered=ordered), unsent)
    return (
        update(delivery)
        .where(delivery.c.listener == bindparam("name"), delivery.c.event_id.in_(chosen))
        .values(sent=bindparam("now"))
        .returning(delivery.c.event_id, delivery.c.due)
    )


def _next(*, ordered: bool) -> Select[Any]:
    dues = [select(func.min(way.due).label("due")).where(*way.conditions) for way in _ways(ordered=ordered)]
    return select(func.min(union_all(*dues).subquery("dues").c.due))


_HAS_LANES = select(literal(1)).where(*_unfinished(delivery), delivery.c.lane.is_not(None)).exists()

# Only where there are no lanes: otherwise this would look through everything that has one.
_NEXT = select(_HAS_LANES.label("ordered"), case((~_HAS_LANES, _next(ordered=False).scalar_subquery())).label("due"))
_NEXT_IN_ORDER = _next(ordered=True)


_LEASES = (
    select(delivery.c.event_id, delivery.c.listener, delivery.c.lease)
    .where(delivery.c.event_id.in_(bindparam("ids", expanding=True)), delivery.c.lease.is_not(None))
    .order_by(delivery.c.event_id, delivery.c.listener)
    .with_for_update()
)

_RELEASE = (
    update(delivery)
    .where(delivery.c.event_id == bindparam("of_event"), delivery.c.listener == bindparam("of_listener"))
    .values(
        state=bindparam("new_state"),
        due=bindparam("new_due"),
        lease=None,
        sent=None,
        tries=delivery.c.tries - 1,
        attempts=delivery.c.attempts - 1,
    )
)
