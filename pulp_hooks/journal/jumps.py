"""Jumps of the clock: what waits moves with the clock, so that it stays as far away as it was.

Deliveries are due at a time of day. Were nothing done, a clock that is set a day ahead would make everything due at
once, and one that is set back would leave everything waiting for a day.
"""

import os
from pathlib import Path

from sqlalchemy import Connection, delete, or_, select, update

from pulp_hooks.journal.database import Database
from pulp_hooks.journal.statements import insert_new, lock_deliveries
from pulp_hooks.journal.tables import clock, delivery, listener

TOLERANCE_SECONDS = 60.0
"""By how many seconds a clock may be corrected without anything being done."""

_DRIFT_SECONDS = 1.0
"""By how many seconds what is known of a machine may be wrong before it is written down anew."""


def follow_clock(database: Database) -> float:
    """Find out whether the clock has jumped since anybody last asked, and if so move everything that waits.

    How far the journal's clock is ahead of the time since the machine was started is kept in the journal. Whoever finds
    that it has changed moves what waits, and makes all other machines look anew, in one transaction: it is done once.

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
    with database.reading("look at the clock") as connection:
        known = _known(connection, machine)
    # The clock is looked at last: a jump that another follows in between must not look like one the other way round.
    ahead = _ahead(database)
    if known is not None and abs(ahead - known) <= _DRIFT_SECONDS:
        return 0.0
    with database.writing("follow the clock") as connection:
        if known is not None and abs(ahead - known) <= TOLERANCE_SECONDS:
            # Small changes must not add up to a jump; what another has written meanwhile is newer.
            drifted = update(clock).where(clock.c.machine == machine, clock.c.ahead == known)
            connection.execute(drifted.values(ahead=ahead))
            return 0.0
        lock_deliveries(connection)
        return _follow(connection, database, machine)


def _follow(connection: Connection, database: Database, machine: str) -> float:
    known, ahead = _known(connection, machine), _ahead(database, connection)
    now = ahead + database.clock.elapsed()
    jump = 0.0 if known is None else ahead - known
    if known is not None and abs(jump) <= TOLERANCE_SECONDS:
        return 0.0
    if jump:
        _move(connection, jump, now)
    if jump or database.is_sqlite:
        # A machine that does not see the jump, as only this one's elapsed time has gone wrong, must not undo it: who is
        # not known begins with the clock as it is. SQLite's file has one machine; the others are its former starts.
        connection.execute(delete(clock).where(clock.c.machine != machine))
    connection.execute(insert_new(connection.dialect.name, clock), {"machine": machine, "ahead": ahead})
    connection.execute(update(clock).where(clock.c.machine == machine).values(ahead=ahead))
    _call_back(connection, now)
    return jump


def _move(connection: Connection, jump: float, now: float) -> None:
    moved = {column: column + jump for column in (delivery.c.due, delivery.c.sent)}
    if jump > 0:
        # What was fired after a jump ahead is right; nothing that was stored before it can be as young as that. What
        # was tried was claimed by somebody who had followed all jumps before this one.
        stored_before = or_(delivery.c.created <= now - jump, delivery.c.attempts > 0)
        connection.execute(update(delivery).where(delivery.c.due.is_not(None), stored_before).values(moved))
    else:
        # The order of a repository's events is that of their storing: it stays when all of them move alike, and who
        # stores the next one puts it behind them.
        moved[delivery.c.created] = delivery.c.created + jump
        connection.execute(update(delivery).where(delivery.c.finished.is_(None)).values(moved))
    for column in (listener.c.paced_until, listener.c.failing_since):
        connection.execute(update(listener).where(column.is_not(None)).values({column: column + jump}))


def _call_back(connection: Connection, now: float) -> None:
    """Make due what was fired by a clock that was ahead for a while; nobody has tried it, nor put it off."""
    fired = (delivery.c.attempts == 0, delivery.c.due <= delivery.c.created)
    connection.execute(update(delivery).where(delivery.c.due > now, *fired).values(due=now))


def _known(connection: Connection, machine: str) -> float | None:
    return connection.execute(select(clock.c.ahead).where(clock.c.machine == machine)).scalar()


def _ahead(database: Database, within: Connection | None = None) -> float:
    return database.now(within, measured=True) - database.clock.elapsed()


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
