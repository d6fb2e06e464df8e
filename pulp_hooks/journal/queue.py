"""The queue of due deliveries: workers claim them under a lease, and finish or release what they hold.

The statements are SQL that can be read, and explained by the database. `Backend.sql` says what is in braces.
"""

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from pulp_hooks.journal.backend import Backend
from pulp_hooks.journal.claims import NO_LIMITS, Claim, Due, Limits, Result
from pulp_hooks.journal.schema import FINISHED, State
from pulp_hooks.text import clean_text

PUT_OFF_SECONDS = 1.0
"""How long a delivery that may have crashed a worker waits while another such one is attempted."""

_MAX_ERROR = 4000
"""How many bytes of an error are kept."""

_ROUNDING = 1e-6
"""Part of a token of the rate limit that may be lost in rounding."""


class Queue:
    """Claims deliveries for workers, and records their results.

    Every method raises `JournalError` when the database fails; then nothing is changed.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
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
        """Claim due deliveries of a listener, those first that are due longest.

        Whether a delivery keeps its repository's order was decided when it was stored: of those that do, only the
        first unfinished one of each repository is claimed, whatever this worker's settings say.

        A claim that is not finished when its lease ends comes due again. It is then claimed on its own, because it may
        have crashed the last worker. A disabled listener has nothing to claim.

        The first claim, and the first one after a failure to record, also tries whether a result could be recorded, so
        that no listener is called in vain.

        Args:
            name: The listener.
            limit: How many at most.
            lease_seconds: How long no other worker may claim them.
            limits: The limits over all workers together.
            ordered: Whether deliveries that keep an order are claimed too; it takes longer. See `Due.is_ordered`.
            suspects: Whether those are claimed too that may have crashed a worker; otherwise they come due again soon.
            event_id: Claim the delivery of this event only.
            now: The time, if not that of the clock once the transaction has its locks.
        """
        lease = secrets.token_hex(8)
        with self._backend.writing("give work to a worker") as connection:
            self._take_turn(connection, name, limits)
            # The lease begins when there is nothing more to wait for.
            now = self._backend.now(connection) if now is None else now
            limit = self._allowed(connection, name, limit, limits, now, lease_seconds)
            if limit < 1:
                return []
            values: dict[str, Any] = {"listener": name, "at": now, "until": now + lease_seconds, "lease": lease}
            if event_id is None:
                sql, values["most"] = _CLAIM_ORDERED if ordered else _CLAIM, limit
            else:
                sql, values["event_id"] = _CLAIM_ONE, event_id
            rows = self._all(connection, sql, values)
            rows = self._apart(connection, name, rows, now, suspects=suspects)
            self._take_tokens(connection, name, len(rows), limits, now)
            claims = [_claim(row, name, lease) for row in rows]
            if claims and not self._can_record:
                self._try_to_record(connection, claims[0], now)
                self._can_record = True
        return sorted(claims, key=lambda claim: claim.event)

    def finish(self, results: Iterable[Result], now: float | None = None) -> list[Claim]:
        """Record how attempts ended, all or none of them.

        Returns:
            The claims that were late: another worker has claimed the delivery since, or it was held or finished. Their
            results are not recorded.
        """
        now = self._backend.now() if now is None else now
        ordered = sorted(results, key=lambda result: result.claim.key)
        if not ordered:
            return []
        self._can_record = False
        with self._backend.writing("record what was delivered") as connection:
            own = self._leased(connection, [result.claim for result in ordered])
            self._record(connection, [result for result in ordered if result.claim.key in own], now)
        self._can_record = True
        return [result.claim for result in ordered if result.claim.key not in own]

    def release(self, claims: Iterable[Claim], now: float | None = None) -> list[Claim]:
        """Return claims that were not begun: they are due at once, and no attempt is counted.

        Returns:
            The claims that were late; nothing of them is changed.
        """
        now = self._backend.now() if now is None else now
        ordered = sorted(claims, key=lambda claim: claim.key)
        if not ordered:
            return []
        with self._backend.writing("take work back") as connection:
            own = self._leased(connection, ordered)
            self._put_back(connection, [claim.key for claim in ordered if claim.key in own], now)
        return [claim for claim in ordered if claim.key not in own]

    def dues(self, listeners: Mapping[str, Limits], *, now: float | None = None) -> dict[str, Due]:
        """Return when the next delivery of each listener is due, without listeners that have none.

        The limit of concurrency is not looked at.
        """
        now = self._backend.now() if now is None else now
        found = {}
        with self._backend.reading("say what is due") as connection:
            # One by one each is a look at the head of an index.
            for name, limits in listeners.items():
                (row,) = self._all(connection, _NEXT, {"listener": name})
                due = row.due
                if row.is_ordered:
                    (row_ordered,) = self._all(connection, _NEXT_ORDERED, {"listener": name})
                    due = min((d for d in (due, row_ordered.due) if d is not None), default=None)
                if due is not None:
                    until = self._token_at(connection, name, limits, now)
                    found[name] = Due(due, max(due, until), is_ordered=bool(row.is_ordered))
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
        """Mark claimable deliveries for which a message is to be sent, and return their event ids, due longest first.

        That is so when none was sent since the delivery came due, or when the last one seems to be lost.

        Args:
            name: The listener.
            limit: How many at most.
            resend_seconds: After so long a message counts as lost.
            limits: As for `claim`, like `ordered` and `now`: no more is marked than they let be claimed now.
            ordered: As for `claim`.
            now: As for `claim`.
        """
        with self._backend.writing("say what is to be sent") as connection:
            self._take_turn(connection, name, limits)
            now = self._backend.now(connection) if now is None else now
            limit = self._allowed(connection, name, limit, limits, now, math.inf)
            if limit < 1:
                return []
            values = {"listener": name, "at": now, "lost": now - resend_seconds, "most": limit}
            rows = self._all(connection, _SEND_ORDERED if ordered else _SEND, values)
        return [row.event_id for row in sorted(rows, key=lambda row: (row.due, row.event))]

    def not_sent(self, name: str, event_ids: Sequence[str]) -> None:
        """Take back that messages were sent for deliveries of a listener."""
        with self._backend.writing("say what was not sent") as connection:
            self._each(connection, _NOT_SENT, [{"listener": name, "event_id": event_id} for event_id in event_ids])

    # Statements

    def _all(self, connection: Connection, sql: str, values: Mapping[str, Any]) -> Sequence[Any]:
        return connection.exec_driver_sql(self._backend.sql(sql), values).all()

    def _each(self, connection: Connection, sql: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            connection.exec_driver_sql(self._backend.sql(sql), list(rows))

    def _leased(self, connection: Connection, claims: Sequence[Claim]) -> set[tuple[int, str]]:
        """Return the keys of the claims that still hold their lease, and lock them."""
        wanted = {claim.key: claim.lease for claim in claims}
        numbers = ", ".join(str(number) for number in sorted({claim.event for claim in claims}))
        rows = connection.exec_driver_sql(self._backend.sql(_LEASES).replace("NUMBERS", numbers))
        return {(row.event, row.listener) for row in rows if wanted.get((row.event, row.listener)) == row.lease}

    def _put_back(self, connection: Connection, keys: Iterable[tuple[int, str]], due: float) -> None:
        disabled = disabled_listeners(self._backend, connection)
        rows = [
            {
                "event": event,
                "listener": listener,
                "held": State.HELD.value if listener in disabled else None,
                "due": None if listener in disabled else due,
            }
            for event, listener in keys
        ]
        self._each(connection, _PUT_BACK, rows)

    def _record(self, connection: Connection, results: Sequence[Result], now: float) -> None:
        disabled = disabled_listeners(self._backend, connection)
        self._each(connection, _FINISH, [_finished(result, disabled, now) for result in results])
        self._each(connection, _ATTEMPT, [_attempted(result) for result in results if result.is_attempt])
        self._note_failing(connection, results)

    def _note_failing(self, connection: Connection, results: Iterable[Result]) -> None:
        """Keep since when each listener has failed without a success."""
        since: dict[str, float] = {}
        succeeded = set()
        for result in sorted(results, key=lambda result: result.started + result.seconds):
            name = result.claim.listener
            if result.state is State.DELIVERED:
                succeeded.add(name)
                since.pop(name, None)
            elif result.is_failure and result.is_attempt:
                since.setdefault(name, result.started + result.seconds)
        self._each(connection, _SUCCEEDING, [{"listener": name} for name in sorted(succeeded)])
        self._each(connection, _FAILING, [{"listener": name, "since": at} for name, at in sorted(since.items())])

    def _try_to_record(self, connection: Connection, claim: Claim, now: float) -> None:
        """Record a result and roll it back: only that may need a right, or room in a table, that is missing."""
        savepoint = connection.begin_nested()
        try:
            self._record(connection, [Result(claim, State.RETRYING, now, 0.0, "failed", due=now)], now)
        finally:
            savepoint.rollback()

    def _apart(
        self, connection: Connection, name: str, rows: Sequence[Any], now: float, *, suspects: bool
    ) -> Sequence[Any]:
        """Return one delivery alone that may have crashed a worker, or all others; put the rest back."""
        found = [row for row in rows if _is_suspect(row)]
        if not found:
            return rows
        if suspects:
            one = min(found, key=lambda row: row.event)
            kept, back, due = [one], [row for row in rows if row is not one], now
        else:
            kept, back, due = [row for row in rows if not _is_suspect(row)], found, now + PUT_OFF_SECONDS
        self._put_back(connection, [(row.event, name) for row in back], due)
        return kept

    # Limits over all workers. The rate is a token bucket, stored as the time until which all tokens are used up. A
    # bucket that was left alone holds one second's worth, and one token at least.

    def _take_turn(self, connection: Connection, name: str, limits: Limits) -> None:
        """Wait for bulk changes, and if there are limits, lock the listener until the transaction ends."""
        self._backend.share_deliveries(connection)
        if limits != NO_LIMITS:
            self._all(connection, _USED_UNTIL_LOCKED, {"listener": name})

    def _allowed(  # noqa: PLR0913, PLR0917 - each is one fact about the claim
        self, connection: Connection, name: str, wanted: int, limits: Limits, now: float, lease_seconds: float
    ) -> int:
        """Return how many deliveries the holder of the listener's lock may claim."""
        if limits.concurrency is not None:
            # Others may have claimed a moment later than this one looked at the clock; no lease ends much later.
            values = {"listener": name, "at": now, "latest": now + 2 * lease_seconds}
            (row,) = self._all(connection, _CLAIMED, values)
            wanted = min(wanted, limits.concurrency - row.claimed)
        if limits.per_second is not None:
            tokens = (now - self._used_until(connection, name, limits.per_second, now)) * limits.per_second
            wanted = min(wanted, math.floor(tokens + _ROUNDING))
        return wanted

    def _take_tokens(self, connection: Connection, name: str, claimed: int, limits: Limits, now: float) -> None:
        if limits.per_second is not None and claimed:
            until = self._used_until(connection, name, limits.per_second, now) + claimed / limits.per_second
            self._each(connection, _USE, [{"listener": name, "until": until}])

    def _token_at(self, connection: Connection, name: str, limits: Limits, now: float) -> float:
        """Return when there is a token in the bucket; 0 if there is no limit."""
        if limits.per_second is None:
            return 0.0
        return self._used_until(connection, name, limits.per_second, now) + 1 / limits.per_second

    def _used_until(self, connection: Connection, name: str, per_second: float, now: float) -> float:
        rows = self._all(connection, _USED_UNTIL, {"listener": name})
        full = now - max(1.0, 1 / per_second)
        used: list[float] = [row.paced_until for row in rows if row.paced_until is not None]
        return max([full, *used])


def disabled_listeners(backend: Backend, connection: Connection) -> set[str]:
    """Return the names of all listeners that are disabled."""
    return set(connection.exec_driver_sql(backend.sql(_DISABLED)).scalars())


def _claim(row: Any, name: str, lease: str) -> Claim:  # noqa: ANN401 - a row of one of the statements
    facts = (row.event, row.event_id, name, lease, bytes(row.content), row.step, row.attempts, row.created)
    is_ordered = row.ordering_key is not None
    suspect, detail = _is_suspect(row), row.previous_detail
    return Claim(*facts, row.trace_context, is_suspect=suspect, is_ordered=is_ordered, previous_detail=detail)


def _is_suspect(row: Any) -> bool:  # noqa: ANN401 - a row of one of the statements
    return bool(row.attempts - 1 > row.recorded)


def _finished(result: Result, disabled: set[str], now: float) -> dict[str, object]:
    is_finished = result.state in FINISHED
    is_held = not is_finished and result.claim.listener in disabled
    return {
        "event": result.claim.event,
        "listener": result.claim.listener,
        "state": (State.HELD if is_held else result.state).value,
        "due": None if is_held else result.due,
        "finished": now if is_finished else None,
        "error": _kept(result.error),
        "unused_step": 0 if result.uses_step and result.is_attempt else 1,
        "no_attempt": 0 if result.is_attempt else 1,
    }


def _attempted(result: Result) -> dict[str, object]:
    return {
        "event": result.claim.event,
        "listener": result.claim.listener,
        "number": result.claim.attempts,
        "started": result.started,
        "seconds": result.seconds,
        "status": result.status,
        "error": _kept(result.error),
        "traceback": _text(result.traceback),
        "detail": _text(result.detail),
    }


def _text(text: str | None) -> str | None:
    """Return text that both databases take."""
    return None if text is None else clean_text(text).replace("\0", "\ufffd")


def _kept(error: str | None) -> str | None:
    """Return the part of an error that is kept."""
    text = _text(error)
    return None if text is None else text.encode()[:_MAX_ERROR].decode(errors="ignore")


_IS_ENABLED = """
    NOT EXISTS (SELECT 1 FROM pulp_hooks_listener WHERE name = :listener AND disabled_at IS NOT NULL)"""

# What keeps no order: the head of the index of due deliveries.
_FREE = f"""
free AS (
    SELECT event, due FROM pulp_hooks_delivery
    WHERE listener = :listener AND finished IS NULL AND ordering_key IS NULL AND due <= :at
      AND {_IS_ENABLED}
      FILTER
    ORDER BY due, event
    LIMIT :most
    {{skip_locked}}
)"""

# What keeps an order: the first unfinished delivery of each repository, if it is due; held ones count as unfinished.
# The repositories are found key by key in the index of ordered deliveries.
_KEYS = """
keys (ordering_key) AS (
    SELECT min(ordering_key) FROM pulp_hooks_delivery
    WHERE listener = :listener AND finished IS NULL AND ordering_key IS NOT NULL
    UNION ALL
    SELECT (SELECT min(d.ordering_key) FROM pulp_hooks_delivery d
            WHERE d.listener = :listener AND d.finished IS NULL AND d.ordering_key > keys.ordering_key)
    FROM keys WHERE keys.ordering_key IS NOT NULL
),
firsts (event) AS (
    SELECT (SELECT min(d.event) FROM pulp_hooks_delivery d
            WHERE d.listener = :listener AND d.finished IS NULL AND d.ordering_key = keys.ordering_key)
    FROM keys WHERE keys.ordering_key IS NOT NULL
)"""

_HEADS = f"""
heads AS (
    SELECT event, due FROM pulp_hooks_delivery
    WHERE listener = :listener AND event IN (SELECT event FROM firsts) AND due <= :at
      AND {_IS_ENABLED}
      FILTER
    ORDER BY due, event
    LIMIT :most
    {{skip_locked}}
)"""

_LINE = """
line AS (
    SELECT event FROM (SELECT event, due FROM free UNION ALL SELECT event, due FROM heads) AS both_kinds
    ORDER BY due, event
    LIMIT :most
)"""

_ONE = f"""
line AS (
    SELECT event FROM pulp_hooks_delivery AS one
    WHERE listener = :listener AND event = (SELECT number FROM pulp_hooks_event WHERE id = :event_id)
      AND finished IS NULL AND due <= :at
      AND {_IS_ENABLED}
      AND (ordering_key IS NULL OR event = (
          SELECT min(d.event) FROM pulp_hooks_delivery d
          WHERE d.listener = :listener AND d.finished IS NULL AND d.ordering_key = one.ordering_key))
    {{skip_locked}}
)"""

_CLAIMING = """
UPDATE pulp_hooks_delivery
SET due = :until, lease = :lease, step = step + 1, attempts = attempts + 1
WHERE listener = :listener AND event IN (SELECT event FROM LINE)
RETURNING event, step, attempts, created, ordering_key,
    (SELECT id FROM pulp_hooks_event WHERE number = pulp_hooks_delivery.event) AS event_id,
    (SELECT content FROM pulp_hooks_event WHERE number = pulp_hooks_delivery.event) AS content,
    (SELECT trace_context FROM pulp_hooks_event WHERE number = pulp_hooks_delivery.event) AS trace_context,
    CASE WHEN attempts > 1 THEN (
        SELECT count(*) FROM pulp_hooks_attempt
        WHERE pulp_hooks_attempt.event = pulp_hooks_delivery.event
          AND pulp_hooks_attempt.listener = pulp_hooks_delivery.listener) ELSE 0 END AS recorded,
    CASE WHEN attempts > 1 THEN (
        SELECT CASE WHEN status <> 'succeeded' THEN detail END FROM pulp_hooks_attempt
        WHERE pulp_hooks_attempt.event = pulp_hooks_delivery.event
          AND pulp_hooks_attempt.listener = pulp_hooks_delivery.listener
          AND (detail IS NOT NULL OR status = 'succeeded')
        ORDER BY number DESC LIMIT 1) END AS previous_detail
"""

_SENDING = """
UPDATE pulp_hooks_delivery SET sent = :at
WHERE listener = :listener AND event IN (SELECT event FROM LINE)
RETURNING event, due, (SELECT id FROM pulp_hooks_event WHERE number = pulp_hooks_delivery.event) AS event_id
"""


def _from_line(statement: str, condition: str = "", *, ordered: bool) -> str:
    """Return a statement on the deliveries that are due longest."""
    parts = [_FREE, _KEYS, _HEADS, _LINE] if ordered else [_FREE]
    line = "line" if ordered else "free"
    return "WITH RECURSIVE" + ",".join(parts).replace("FILTER", condition) + statement.replace("LINE", line)


_CLAIM = _from_line(_CLAIMING, ordered=False)
_CLAIM_ORDERED = _from_line(_CLAIMING, ordered=True)
_CLAIM_ONE = "WITH" + _ONE + _CLAIMING.replace("LINE", "line")

_UNSENT = "AND (sent IS NULL OR sent < due OR sent <= :lost)"
_SEND = _from_line(_SENDING, _UNSENT, ordered=False)
_SEND_ORDERED = _from_line(_SENDING, _UNSENT, ordered=True)

_NOT_SENT = """
UPDATE pulp_hooks_delivery SET sent = NULL
WHERE listener = :listener AND event = (SELECT number FROM pulp_hooks_event WHERE id = :event_id)
"""

# A minimum is read off the index, while PostgreSQL may look for EXISTS in the whole table.
_NEXT = f"""
SELECT
    (SELECT min(due) FROM pulp_hooks_delivery
     WHERE listener = :listener AND finished IS NULL AND ordering_key IS NULL AND {_IS_ENABLED}) AS due,
    (SELECT min(ordering_key) FROM pulp_hooks_delivery
     WHERE listener = :listener AND finished IS NULL AND ordering_key IS NOT NULL) IS NOT NULL AS is_ordered
"""

_NEXT_ORDERED = f"""
WITH RECURSIVE {_KEYS}
SELECT min(due) AS due FROM pulp_hooks_delivery
WHERE listener = :listener AND event IN (SELECT event FROM firsts) AND {_IS_ENABLED}
"""

_LEASES = """
SELECT event, listener, lease FROM pulp_hooks_delivery
WHERE event IN (NUMBERS) AND lease IS NOT NULL
ORDER BY event, listener
{locked}
"""

_PUT_BACK = """
UPDATE pulp_hooks_delivery
SET state = coalesce(CAST(:held AS TEXT), state), due = :due, lease = NULL, sent = NULL,
    step = step - 1, attempts = attempts - 1
WHERE event = :event AND listener = :listener
"""

# What is tried again shows what went wrong last, also when the worker was stopped since; and stays `retrying`.
_FINISH = f"""
UPDATE pulp_hooks_delivery
SET state = CASE WHEN CAST(:state AS TEXT) = '{State.PENDING}' THEN state ELSE :state END,
    due = :due, lease = NULL, step = step - :unused_step, attempts = attempts - :no_attempt, finished = :finished,
    error = CASE WHEN CAST(:state AS TEXT) = '{State.DELIVERED}' THEN NULL ELSE coalesce(:error, error) END
WHERE event = :event AND listener = :listener
"""

_ATTEMPT = """
INSERT INTO pulp_hooks_attempt (event, listener, number, started, seconds, status, error, traceback, detail)
VALUES (:event, :listener, :number, :started, :seconds, :status, :error, :traceback, :detail)
"""

_SUCCEEDING = "UPDATE pulp_hooks_listener SET failing_since = NULL WHERE name = :listener AND failing_since IS NOT NULL"
_FAILING = "UPDATE pulp_hooks_listener SET failing_since = :since WHERE name = :listener AND failing_since IS NULL"
_DISABLED = "SELECT name FROM pulp_hooks_listener WHERE disabled_at IS NOT NULL"

_USED_UNTIL = "SELECT paced_until FROM pulp_hooks_listener WHERE name = :listener"
_USED_UNTIL_LOCKED = _USED_UNTIL + " {locked}"
_USE = "UPDATE pulp_hooks_listener SET paced_until = :until WHERE name = :listener"
_CLAIMED = """
SELECT count(*) AS claimed FROM pulp_hooks_delivery
WHERE listener = :listener AND lease IS NOT NULL AND due > :at AND due <= :latest
"""
