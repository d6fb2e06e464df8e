"""Jumps of the clock: what waits moves with the clock, so that it stays as far away as it was.

Deliveries are due at a time of day. Were nothing done, a clock that is set a day ahead would make everything due at
once, and one that is set back would leave everything waiting for a day.
"""

import os
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, select, true, update

from pulp_hooks.journal.database import Database
from pulp_hooks.journal.statements import insert_new, lock_deliveries
from pulp_hooks.journal.tables import clock, delivery, listener

_TOLERANCE = 60.0
"""By how many seconds a clock may be corrected without anything being done."""


def follow_clock(database: Database) -> float:
    """Find out whether the clock has jumped since anybody last asked, and if so move everything that waits.

    How far the journal's clock is ahead of the time since the machine was started is kept in the journal. Whoever finds
    that it has changed moves what waits, and the known values of all machines, in one transaction: it is done once.

    Args:
        database: The journal's.

    Returns:
        By how many seconds everything was moved; mostly 0.

    Raises:
        JournalError: The database failed; nothing is moved.
    """
    machine = _machine()
    if machine is None:
        return 0.0
    now = database.now(measured=True)
    ahead = now - database.clock.elapsed()
    with database.reading("look at the clock") as connection:
        known = _known(connection, machine)
    if known is not None and abs(ahead - known) <= _TOLERANCE:
        return 0.0
    with database.writing("follow the clock") as connection:
        lock_deliveries(connection)
        known = _known(connection, machine)
        if known is None:
            if database.is_sqlite:
                # One machine has the file; what is there is of its former starts.
                connection.execute(delete(clock))
            connection.execute(insert_new(connection.dialect.name, clock), {"machine": machine, "ahead": ahead})
            return 0.0
        jump = ahead - known
        if abs(jump) <= _TOLERANCE:
            return 0.0
        _move(connection, jump, now)
        connection.execute(update(clock).values(ahead=clock.c.ahead + jump))
    return jump


def _move(connection: Connection, jump: float, now: float) -> None:
    # What was stored after a jump ahead is right; nothing that was stored before it can be as young as that.
    stored_before: ColumnElement[bool] = delivery.c.created <= now - jump if jump > 0 else true()
    waiting = update(delivery).where(delivery.c.due.is_not(None), stored_before)
    connection.execute(waiting.values(due=delivery.c.due + jump))
    if jump < 0:
        # The order of a repository's events is that of their storing, also with those that come now.
        later = update(delivery).where(delivery.c.finished.is_(None), delivery.c.created > now)
        connection.execute(later.values(created=delivery.c.created + jump))
    for column in (listener.c.paced_until, listener.c.failing_since):
        connection.execute(update(listener).where(column.is_not(None)).values({column: column + jump}))


def _known(connection: Connection, machine: str) -> float | None:
    return connection.execute(select(clock.c.ahead).where(clock.c.machine == machine)).scalar()


def _machine() -> str | None:
    """Give what stands for this start of this machine, in which the elapsed time has one beginning, where one knows."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
    try:
        # Containers may count their time from another moment, where the kernel is not older than that.
        return f"{boot} {os.readlink('/proc/self/ns/time')}"  # noqa: PTH115 - it is no path
    except OSError:
        return boot
