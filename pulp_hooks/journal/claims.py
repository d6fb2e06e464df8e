"""The life of a delivery: it is claimed under a lease, and finished by whoever holds the lease."""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Select, bindparam, func, insert, select, tuple_, update

from pulp_hooks.journal.database import Database, insert_new, lock_deliveries
from pulp_hooks.journal.journal import disabled_listeners, is_disabled
from pulp_hooks.journal.tables import State, attempt, delivery, event, listener
from pulp_hooks.text import clean_text

_MAX_ERROR = 4000
"""How many bytes of an error are kept."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that one worker alone may make until the lease ends.

    Attributes:
        event_id: Identifier of the event.
        listener: Name of the listener.
        lease: Token that only the holder of this claim has.
        content: The event, as it was stored.
        tries: Which try this is since the event was fired or replayed, from 1 on.
        attempts: Which attempt of all this is, from 1 on.
        created: When the delivery was stored.
    """

    event_id: str
    listener: str
    lease: str
    content: bytes
    tries: int
    attempts: int
    created: float


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended.

    Attributes:
        claim: What was attempted.
        state: `DELIVERED`; `DEAD` when it is given up; `WAITING` when it is to be tried again.
        started: When the attempt began.
        seconds: How long it took.
        status: One word on how it ended.
        error: What went wrong; its first 4 kB are kept.
        due: When to try again, for `WAITING`.
    """

    claim: Claim
    state: State
    started: float
    seconds: float
    status: str
    error: str | None = None
    due: float | None = None

    def __post_init__(self) -> None:
        if self.state is State.HELD or (self.state is State.WAITING) != (self.due is not None):
            raise ValueError("a result is delivered or dead, or waiting with the time when it is due")


class Claims:
    """Gives deliveries to workers and takes their results."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self, name: str, limit: int, lease_seconds: float, *, ordered: bool = False, now: float | None = None
    ) -> list[Claim]:
        """Claim deliveries of a listener that are due, those that are due longest before the others.

        A claim that is not finished when its lease ends comes due again. Disabled listeners have nothing to claim.

        Args:
            name: The listener.
            limit: How many at most.
            lease_seconds: How long no other worker may claim them.
            ordered: Claim only the first unfinished delivery of each repository.
            now: The time, if not that of the clock.

        Raises:
            JournalError: The database failed; nothing is claimed.
        """
        now = time.time() if now is None else now
        lease = secrets.token_hex(8)
        values = {"name": name, "now": now, "until": now + lease_seconds, "token": lease, "most": limit}
        with self._database.writing("give work to a worker") as connection:
            rows = connection.execute(_CLAIM_ORDERED if ordered else _CLAIM, values).all()
        claims = [Claim(row.event_id, name, lease, row.content, row.tries, row.attempts, row.created) for row in rows]
        return sorted(claims, key=lambda claim: (claim.created, claim.event_id))

    def finish(self, results: Iterable[Result], now: float | None = None) -> list[Claim]:
        """Record how attempts ended, all or none of them.

        Returns:
            The claims that were late: another worker has claimed the delivery since, or it was held or finished. Their
            results are not recorded.

        Raises:
            JournalError: The database failed; nothing is recorded.
        """
        now = time.time() if now is None else now
        ordered = sorted(results, key=lambda result: (result.claim.event_id, result.claim.listener))
        if not ordered:
            return []
        with self._database.writing("record what was delivered") as connection:
            ours = self._held_by_us(connection, [result.claim for result in ordered])
            kept = [result for result in ordered if _key(result.claim) in ours]
            if kept:
                disabled = disabled_listeners(connection)
                connection.execute(_FINISH, [_finished(result, disabled, now) for result in kept])
                connection.execute(insert(attempt), [_attempted(result) for result in kept])
                _note_failing(connection, kept)
        return [result.claim for result in ordered if _key(result.claim) not in ours]

    def release(self, claims: Iterable[Claim], now: float | None = None) -> list[Claim]:
        """Give back claims that were not begun: they are due at once, and no try is counted.

        Returns:
            The claims that were late; of them nothing is changed.

        Raises:
            JournalError: The database failed; nothing is given back.
        """
        now = time.time() if now is None else now
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

    def next_due(self, names: Sequence[str], *, ordered: bool = False) -> float | None:
        """Give when the next delivery of these listeners can be claimed; nothing when none waits.

        Raises:
            JournalError: The database failed.
        """
        query = _NEXT_ORDERED if ordered else _NEXT
        with self._database.reading("say what is due") as connection:
            # One by one each is a look at the head of an index.
            moments = [connection.execute(query, {"name": name}).scalar() for name in names]
        return min((moment for moment in moments if moment is not None), default=None)

    def shift(self, seconds: float) -> None:
        """Move everything that waits by a jump of the clock, leases included.

        Raises:
            JournalError: The database failed; nothing is moved.
        """
        with self._database.writing("follow the clock") as connection:
            lock_deliveries(connection)
            connection.execute(update(delivery).where(delivery.c.due.is_not(None)).values(due=delivery.c.due + seconds))

    @staticmethod
    def _held_by_us(connection: Connection, claims: Sequence[Claim]) -> set[tuple[str, str]]:
        """Give the keys of the deliveries whose lease is still that of the claim, and keep others off them."""
        wanted = {_key(claim): claim.lease for claim in claims}
        rows = connection.execute(_LEASES, {"ids": [claim.event_id for claim in claims]})
        return {(row.event_id, row.listener) for row in rows if wanted.get((row.event_id, row.listener)) == row.lease}


def _key(claim: Claim) -> tuple[str, str]:
    return claim.event_id, claim.listener


def _where(claim: Claim) -> dict[str, object]:
    return {"of_event": claim.event_id, "of_listener": claim.listener}


def _finished(result: Result, disabled: set[str], now: float) -> dict[str, object]:
    waits = result.state is State.WAITING
    held = waits and result.claim.listener in disabled
    return {
        **_where(result.claim),
        "new_state": (State.HELD if held else result.state).value,
        "new_due": None if held else result.due,
        "new_finished": None if waits else now,
        "new_error": _kept(result.error),
    }


def _attempted(result: Result) -> dict[str, object]:
    return {
        "event_id": result.claim.event_id,
        "listener": result.claim.listener,
        "number": result.claim.attempts,
        "started": result.started,
        "seconds": result.seconds,
        "status": result.status,
        "error": _kept(result.error),
    }


def _kept(error: str | None) -> str | None:
    """Give the part of an error that is kept, as text that both databases take."""
    if error is None:
        return None
    return clean_text(error).replace("\0", "\ufffd").encode()[:_MAX_ERROR].decode(errors="ignore")


def _note_failing(connection: Connection, results: Iterable[Result]) -> None:
    """Keep since when each listener has failed without a success between."""
    since: dict[str, float] = {}
    succeeded = set()
    for result in sorted(results, key=lambda result: result.started + result.seconds):
        name = result.claim.listener
        if result.state is State.DELIVERED:
            succeeded.add(name)
            since.pop(name, None)
        else:
            since.setdefault(name, result.started + result.seconds)
    for name in sorted(succeeded):
        connection.execute(_NO_LONGER_FAILING, {"of_listener": name})
    for name, moment in sorted(since.items()):
        connection.execute(insert_new(connection.dialect, listener), {"name": name})
        connection.execute(_FAILING, {"of_listener": name, "since": moment})


def _claimable(*, ordered: bool) -> list[ColumnElement[bool]]:
    """Give the conditions on a delivery that may be claimed when it is due."""
    conditions = [
        delivery.c.listener == bindparam("name"),
        delivery.c.due.is_not(None),
        ~is_disabled(delivery.c.listener),
    ]
    if ordered:
        other = delivery.alias("earlier")
        earlier = select(other.c.event_id).where(
            other.c.listener == delivery.c.listener,
            other.c.lane == delivery.c.lane,
            other.c.finished.is_(None),
            tuple_(other.c.created, other.c.event_id) < tuple_(delivery.c.created, delivery.c.event_id),
        )
        conditions.append(~earlier.exists())
    return conditions


def _claiming(*, ordered: bool) -> Executable:
    # As a common table expression the choice is made once, whatever plan the database follows.
    chosen = (
        select(delivery.c.event_id)
        .where(*_claimable(ordered=ordered), delivery.c.due <= bindparam("now"))
        .order_by(delivery.c.due, delivery.c.event_id)
        .limit(bindparam("most"))
        .with_for_update(of=delivery, skip_locked=True)
        .cte("chosen")
    )
    content = select(event.c.content).where(event.c.id == delivery.c.event_id).scalar_subquery()
    return (
        update(delivery)
        .where(delivery.c.listener == bindparam("name"), delivery.c.event_id.in_(select(chosen.c.event_id)))
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
        )
    )


def _next(*, ordered: bool) -> Select[Any]:
    return select(func.min(delivery.c.due)).where(*_claimable(ordered=ordered))


_CLAIM, _CLAIM_ORDERED = _claiming(ordered=False), _claiming(ordered=True)
_NEXT, _NEXT_ORDERED = _next(ordered=False), _next(ordered=True)

_LEASES = (
    select(delivery.c.event_id, delivery.c.listener, delivery.c.lease)
    .where(delivery.c.event_id.in_(bindparam("ids", expanding=True)), delivery.c.lease.is_not(None))
    .order_by(delivery.c.event_id, delivery.c.listener)
    .with_for_update()
)

_OURS = update(delivery).where(
    delivery.c.event_id == bindparam("of_event"), delivery.c.listener == bindparam("of_listener")
)
_FINISH = _OURS.values(
    state=bindparam("new_state"),
    due=bindparam("new_due"),
    lease=None,
    finished=bindparam("new_finished"),
    error=bindparam("new_error"),
)
_RELEASE = _OURS.values(
    state=bindparam("new_state"),
    due=bindparam("new_due"),
    lease=None,
    tries=delivery.c.tries - 1,
    attempts=delivery.c.attempts - 1,
)

_NO_LONGER_FAILING = (
    update(listener)
    .where(listener.c.name == bindparam("of_listener"), listener.c.failing_since.is_not(None))
    .values(failing_since=None)
)
_FAILING = (
    update(listener)
    .where(listener.c.name == bindparam("of_listener"), listener.c.failing_since.is_(None))
    .values(failing_since=bindparam("since"))
)
