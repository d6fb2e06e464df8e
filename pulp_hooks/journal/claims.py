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


class Claims:
    """Gives deliveries to workers and takes their results."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(  # noqa: PLR0913 - each is one fact about what is to be claimed
        self,
        name: str,
        limit: int,
        lease_seconds: float,
        limits: Limits = NO_LIMITS,
        *,
        event_id: str | None = None,
        now: float | None = None,
    ) -> list[Claim]:
        """Claim deliveries of a listener that are due, those that are due longest before the others.

        A claim that is not finished when its lease ends comes due again, and is then given alone: whoever held it may
        have died of it, and is not to take others along. Disabled listeners have nothing to claim.

        Args:
            name: The listener.
            limit: How many at most.
            lease_seconds: How long no other worker may claim them.
            limits: What holds for all workers together.
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
            statement = _claiming(ordered=limits.ordered, one=event_id is not None)
            rows = connection.execute(statement, values if event_id is None else values | {"of_event": event_id}).all()
            rows = _apart(connection, name, rows, now)
            paced(connection, name, len(rows), limits, now)
        claims = [_claim(row, name, lease) for row in rows]
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
        with self._database.writing("record what was delivered") as connection:
            ours = self._held_by_us(connection, [result.claim for result in ordered])
            kept = [result for result in ordered if _key(result.claim) in ours]
            if kept:
                record(connection, kept, now)
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
                due = connection.execute(_next(ordered=limits.ordered), {"name": name}).scalar()
                if due is not None:
                    pace = due if limits.per_second is None else next_pace(connection, name, limits.per_second, now)
                    found[name] = Due(due, max(due, pace))
        return found

    def unsent(
        self, name: str, limit: int, resend_seconds: float, limits: Limits = NO_LIMITS, *, now: float | None = None
    ) -> list[str]:
        """Give deliveries of a listener that could be claimed and for which a message is to be sent, and note it.

        That is so when none was sent since the delivery came due, or when the last one seems to be lost.

        Args:
            name: The listener.
            limit: How many at most.
            resend_seconds: After so long a message counts as lost.
            limits: What holds for the listener; no more messages are asked for than they let be claimed now.
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
            rows = connection.execute(_sending(ordered=limits.ordered), values).all()
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
    """Give the ways to what may be claimed; each finds others.

    Where order is kept these are the heads of the lanes, and what was stored without a lane. The heads are found lane
    by lane: who looked at what is due, one by one, would look at all that waits behind heads that cannot be claimed.
    """
    waiting = (*_OF_LISTENER, delivery.c.due.is_not(None))
    if not ordered:
        return [_Way(waiting)]
    lanes = _lanes()
    heads = select(_head(lanes.c.lane)).select_from(lanes)
    return [
        _Way((*waiting, delivery.c.lane.is_(None))),
        # With a sum no database is led to look through the index of what is due.
        _Way((*_OF_LISTENER, delivery.c.event_id.in_(heads)), delivery.c.due + 0.0),
    ]


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
        alone = or_(delivery.c.lane.is_(None), delivery.c.event_id == _head(delivery.c.lane))
        chosen = _chosen([_Way((*that, alone) if ordered else that)])
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
            content.label("content"),
            case((delivery.c.attempts > 1, recorded.scalar_subquery()), else_=0).label("recorded"),
        )
    )


def _claim(row: Any, name: str, lease: str) -> Claim:  # noqa: ANN401 - a row of the above
    facts = (row.content, row.tries, row.attempts, row.created)
    return Claim(row.event_id, name, lease, *facts, is_suspect=_is_suspect(row))


def _is_suspect(row: Any) -> bool:  # noqa: ANN401 - a row of the above
    return bool(row.attempts - 1 > row.recorded)


def _apart(connection: Connection, name: str, rows: Sequence[Any], now: float) -> Sequence[Any]:
    """Give of what was claimed one delivery alone of which an earlier attempt has left nothing, or else all."""
    suspects = [row for row in rows if _is_suspect(row)]
    if not suspects:
        return rows
    suspect = min(suspects, key=lambda row: (row.created, row.event_id))
    others = [
        {"of_event": row.event_id, "of_listener": name, "new_state": State.WAITING.value, "new_due": now}
        for row in rows
        if row is not suspect
    ]
    if others:
        connection.execute(_RELEASE, others)
    return [suspect]


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


@cache
def _next(*, ordered: bool) -> Select[Any]:
    dues = [select(func.min(way.due).label("due")).where(*way.conditions) for way in _ways(ordered=ordered)]
    return select(func.min(union_all(*dues).subquery("dues").c.due))


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
