"""Listeners in the journal: those of a disabled one have their deliveries on hold until it is enabled."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, case, delete, func, or_, select, update

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.backend import Backend
from pulp_hooks.journal.schema import State, delivery, listener


@dataclass(frozen=True, slots=True)
class StoredListener:
    """What the journal knows of a listener.

    Attributes:
        name: Its name.
        disabled_at: When it was disabled; seconds since 1970; null while it is enabled.
        reason: Why it was disabled.
        failing_since: When the first attempt failed after the last success.
    """

    name: str
    disabled_at: float | None
    reason: str | None
    failing_since: float | None


@dataclass(frozen=True, slots=True)
class Renamed:
    """What a renaming changed.

    Attributes:
        moved: Deliveries that have the new name now.
        deleted: Deliveries of events that both names had one of.
    """

    moved: int
    deleted: int


def known(backend: Backend) -> list[StoredListener]:
    """Return every listener that ever had a delivery, or was disabled, by name."""
    columns = (listener.c.name, listener.c.disabled_at, listener.c.reason, listener.c.failing_since)
    with backend.reading("list the listeners") as connection:
        rows = connection.execute(select(*columns).order_by(listener.c.name)).all()
    return [StoredListener(*row) for row in rows]


def disable(backend: Backend, name: str, reason: str, now: float | None) -> int:
    """Disable a listener; see `Journal.disable`."""
    now = backend.now() if now is None else now
    with backend.writing("disable a listener") as connection:
        backend.lock_deliveries(connection)
        connection.execute(backend.insert(listener).values(name=name).on_conflict_do_nothing())
        enabled = update(listener).where(listener.c.name == name, listener.c.disabled_at.is_(None))
        connection.execute(enabled.values(disabled_at=now, reason=reason))
        unclaimed = or_(delivery.c.lease.is_(None), delivery.c.due <= now)
        hold = update(delivery).where(delivery.c.due.is_not(None), unclaimed)
        hold = hold.values(state=State.HELD.value, due=None, lease=None)
        held = select(func.count()).select_from(delivery).where(delivery.c.state == State.HELD.value)
        for part in _unfinished(name):
            connection.execute(hold.where(*part))
        return sum(connection.execute(held.where(*part)).scalar_one() for part in _unfinished(name))


def enable(backend: Backend, name: str, per_second: float, now: float | None) -> int:
    """Enable a listener; see `Journal.enable`."""
    if per_second <= 0:
        raise ValueError("per_second must be more than 0")
    now = backend.now() if now is None else now
    with backend.writing("enable a listener") as connection:
        backend.lock_deliveries(connection)
        enabled = update(listener).where(listener.c.name == name, listener.c.disabled_at.is_not(None))
        changed = connection.execute(enabled.values(disabled_at=None, reason=None, failing_since=None)).rowcount
        stopped: ColumnElement[bool] = delivery.c.state == State.HELD.value
        if changed:
            # There may also be what a worker had claimed that then crashed.
            stopped = or_(stopped, delivery.c.due <= now)
        place = func.row_number().over(order_by=delivery.c.event)
        line = (
            select(delivery.c.event, place.label("place"))
            .where(delivery.c.listener == name, delivery.c.finished.is_(None), stopped)
            .subquery("line")
        )
        resume = (
            update(delivery)
            .where(delivery.c.listener == name, delivery.c.event == line.c.event)
            .values(
                state=case((delivery.c.error.is_(None), State.PENDING.value), else_=State.RETRYING.value),
                due=now + (line.c.place - 1) / per_second,
                lease=None,
            )
        )
        count = connection.execute(resume).rowcount
        backend.notify(connection)
    return count


def rename(backend: Backend, old: str, new: str) -> Renamed:
    """Move the deliveries of a listener to another name; see `Journal.rename`."""
    with backend.writing("rename a listener") as connection:
        backend.lock_deliveries(connection)
        states = connection.execute(select(listener).where(listener.c.name.in_([old, new]))).all()
        stored = {row.name: row for row in states}
        if old not in stored:
            raise JournalError(f"the journal has no listener {old!r}; run `pulp-hooks stats` for those it has")
        claimed = select(delivery.c.event).where(delivery.c.listener == old, delivery.c.lease.is_not(None))
        if connection.execute(claimed.limit(1)).first():
            raise JournalError(
                f"a worker is delivering to {old!r}; fix: stop the workers that know it, wait until its leases end, "
                "and run the command again"
            )
        deleted = _delete_twins(connection, old, new)
        moved = connection.execute(update(delivery).where(delivery.c.listener == old).values(listener=new)).rowcount
        connection.execute(delete(listener).where(listener.c.name == old))
        connection.execute(backend.insert(listener).values(name=new).on_conflict_do_nothing())
        before = stored[old]
        if before.disabled_at is not None:
            still_enabled = update(listener).where(listener.c.name == new, listener.c.disabled_at.is_(None))
            connection.execute(still_enabled.values(disabled_at=before.disabled_at, reason=before.reason))
        if connection.execute(select(listener.c.disabled_at).where(listener.c.name == new)).scalar() is not None:
            hold = update(delivery).where(delivery.c.due.is_not(None), delivery.c.lease.is_(None))
            for part in _unfinished(new):
                connection.execute(hold.where(*part).values(state=State.HELD.value, due=None))
        backend.notify(connection)
    return Renamed(moved, deleted)


def _delete_twins(connection: Connection, old: str, new: str) -> int:
    """Keep one of two deliveries of an event: a finished one, else that of the new name. Return how many went."""
    other = delivery.alias("other")
    twin = select(other.c.event).where(other.c.event == delivery.c.event, other.c.lease.is_(None))
    finished_old = twin.where(other.c.listener == old, other.c.finished.is_not(None))
    of_new = delete(delivery).where(
        delivery.c.listener == new,
        delivery.c.finished.is_(None),
        delivery.c.lease.is_(None),
        finished_old.exists(),
    )
    deleted = connection.execute(of_new).rowcount
    same = select(other.c.event).where(other.c.event == delivery.c.event, other.c.listener == new)
    return deleted + connection.execute(delete(delivery).where(delivery.c.listener == old, same.exists())).rowcount


def _unfinished(name: str) -> list[list[ColumnElement[bool]]]:
    """Return the conditions of a listener's unfinished deliveries, in parts that each have an index."""
    both = [delivery.c.listener == name, delivery.c.finished.is_(None)]
    return [[*both, delivery.c.ordering_key.is_(None)], [*both, delivery.c.ordering_key.is_not(None)]]
