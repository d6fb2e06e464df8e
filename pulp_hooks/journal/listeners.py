"""Listeners that are disabled: what they are to have is held until they are enabled."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select, update

from pulp_hooks.journal.database import Database
from pulp_hooks.journal.statements import insert_new, lock_deliveries
from pulp_hooks.journal.tables import State, delivery, listener
from pulp_hooks.journal.waking import notify


@dataclass(frozen=True, slots=True)
class ListenerState:
    """What the journal knows of a listener.

    Attributes:
        name: Its name.
        disabled_at: When it was disabled; nothing while it is enabled.
        reason: Why it was disabled.
        failing_since: When the first attempt failed after which none succeeded.
    """

    name: str
    disabled_at: float | None
    reason: str | None
    failing_since: float | None


class Listeners:
    """Disables and enables listeners."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self) -> list[ListenerState]:
        """Give every listener that failed or was disabled once, by name.

        Raises:
            JournalError: The database failed.
        """
        with self._database.reading("list the listeners") as connection:
            rows = connection.execute(_STATES.order_by(listener.c.name)).all()
        return [ListenerState(*row) for row in rows]

    def failing_since(self, names: Collection[str]) -> dict[str, float]:
        """Give since when each of these listeners has failed without a success between, of those that fail.

        Raises:
            JournalError: The database failed.
        """
        query = select(listener.c.name, listener.c.failing_since).where(
            listener.c.name.in_(names), listener.c.failing_since.is_not(None), listener.c.disabled_at.is_(None)
        )
        with self._database.reading("say which listeners fail") as connection:
            return {row.name: row.failing_since for row in connection.execute(query)}

    def disable(self, name: str, reason: str, now: float | None = None) -> int:
        """Disable a listener: what waits is held, what a worker has claimed is left to the worker.

        All is done at once: with a million deliveries others wait for many seconds to write.

        Returns:
            How many deliveries are held that were not before.

        Raises:
            JournalError: The database failed; the listener is as it was.
        """
        now = self._database.now() if now is None else now
        with self._database.writing("disable a listener") as connection:
            lock_deliveries(connection)
            connection.execute(insert_new(connection.dialect.name, listener), {"name": name})
            connection.execute(
                update(listener)
                .where(listener.c.name == name)
                .values(disabled_at=func.coalesce(listener.c.disabled_at, now), reason=reason)
            )
            waiting = (delivery.c.listener == name, delivery.c.due.is_not(None))
            unclaimed = or_(delivery.c.lease.is_(None), delivery.c.due <= now)
            held = update(delivery).where(*waiting, unclaimed).values(state=State.HELD.value, due=None, lease=None)
            return connection.execute(held).rowcount

    def enable(self, name: str, per_second: float, now: float | None = None) -> int:
        """Enable a listener: what was held comes due again, oldest first, so many in each second.

        So does what is held although the listener is enabled: a host's transaction that began while it was disabled may
        have stored that. All is done at once: with a million deliveries others wait for many seconds to write.

        Returns:
            How many deliveries come due again.

        Raises:
            JournalError: The database failed; the listener is as it was.
        """
        if per_second <= 0:
            raise ValueError("per_second must be more than 0")
        now = self._database.now() if now is None else now
        with self._database.writing("enable a listener") as connection:
            lock_deliveries(connection)
            enabled = update(listener).where(listener.c.name == name, listener.c.disabled_at.is_not(None))
            changed = connection.execute(enabled.values(disabled_at=None, reason=None, failing_since=None)).rowcount
            stopped: ColumnElement[bool] = delivery.c.state == State.HELD.value
            if changed:
                # There may also be what a worker had claimed, and then died.
                stopped = or_(stopped, delivery.c.due <= now)
            place = func.row_number().over(order_by=(delivery.c.created, delivery.c.event_id))
            line = (
                select(delivery.c.event_id, place.label("place"))
                .where(delivery.c.listener == name, delivery.c.finished.is_(None), stopped)
                .subquery("line")
            )
            resumed = (
                update(delivery)
                .where(delivery.c.listener == name, delivery.c.event_id == line.c.event_id)
                .values(state=State.WAITING.value, due=now + (line.c.place - 1) / per_second, lease=None)
            )
            count = connection.execute(resumed).rowcount
            notify(connection)
        return count


_STATES = select(listener.c.name, listener.c.disabled_at, listener.c.reason, listener.c.failing_since)
