"""How attempts ended, as it is recorded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Text, bindparam, case, func, insert, literal_column, null, update

from pulp_hooks.journal.claim import Claim
from pulp_hooks.journal.journal import disabled_listeners
from pulp_hooks.journal.statements import driver_text, insert_new
from pulp_hooks.journal.tables import State, attempt, delivery, listener
from pulp_hooks.text import clean_text

_MAX_ERROR = 4000
"""How many bytes of an error are kept."""


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
        counted: Whether this try uses up a step of the schedule.
        attempted: Whether the listener was called, or the delivery given up. Otherwise no attempt is recorded.
        failing: Whether an attempt that did not succeed counts among the failures for which a listener is disabled.
    """

    claim: Claim
    state: State
    started: float
    seconds: float
    status: str
    error: str | None = None
    due: float | None = None
    counted: bool = True
    attempted: bool = True
    failing: bool = True

    def __post_init__(self) -> None:
        if self.state is State.HELD or (self.state is State.WAITING) != (self.due is not None):
            raise ValueError("a result is delivered or dead, or waiting with the time when it is due")


def record(connection: Connection, results: Sequence[Result], now: float) -> None:
    """Record how attempts ended whose leases still hold."""
    disabled = disabled_listeners(connection)
    # By the driver: to have many rows looked through takes longer than to write them.
    dialect = connection.dialect.name
    connection.exec_driver_sql(driver_text(_FINISH, dialect), [_finished(result, disabled, now) for result in results])
    attempted = [_attempted(result) for result in results if result.attempted]
    if attempted:
        connection.exec_driver_sql(driver_text(_ATTEMPTED, dialect), attempted)
    _note_failing(connection, results)


def _finished(result: Result, disabled: set[str], now: float) -> dict[str, object]:
    waits = result.state is State.WAITING
    held = waits and result.claim.listener in disabled
    return {
        "of_event": result.claim.event_id,
        "of_listener": result.claim.listener,
        "new_state": (State.HELD if held else result.state).value,
        "new_due": None if held else result.due,
        "new_finished": None if waits else now,
        "new_error": _kept(result.error),
        "uncounted": 0 if result.counted else 1,
        "unattempted": 0 if result.attempted else 1,
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
        elif result.failing:
            since.setdefault(name, result.started + result.seconds)
    for name in sorted(succeeded):
        connection.execute(_NO_LONGER_FAILING, {"of_listener": name})
    for name, moment in sorted(since.items()):
        connection.execute(insert_new(connection.dialect.name, listener), {"name": name})
        connection.execute(_FAILING, {"of_listener": name, "since": moment})


_WAITING: ColumnElement[str] = literal_column(f"'{State.WAITING}'")
_NEW_STATE, _ERROR = bindparam("new_state", type_=Text), bindparam("new_error", type_=Text)
_FINISH = (
    update(delivery)
    .where(delivery.c.event_id == bindparam("of_event"), delivery.c.listener == bindparam("of_listener"))
    .values(
        state=_NEW_STATE,
        due=bindparam("new_due"),
        lease=null(),
        tries=delivery.c.tries - bindparam("uncounted"),
        attempts=delivery.c.attempts - bindparam("unattempted"),
        finished=bindparam("new_finished"),
        # What is tried again shows what went wrong last, also when the worker was stopped since.
        error=case((_NEW_STATE == _WAITING, func.coalesce(_ERROR, delivery.c.error)), else_=_ERROR),
    )
)

_ATTEMPTED = insert(attempt)

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
