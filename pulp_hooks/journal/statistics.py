"""Figures of a journal: how each listener does."""

from dataclasses import dataclass

from sqlalchemy import Executable, func, select

from pulp_hooks.journal.browsing import one_state
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.tables import State, attempt, delivery, listener

_PERCENTS = 50, 99


@dataclass(slots=True)
class Statistics:
    """How one listener does.

    Attributes:
        listener: Its name.
        delivered: Deliveries that were made.
        waiting: Deliveries that are still to be made, those that failed included.
        failing: Deliveries that wait after a failed attempt.
        held: Deliveries that wait until the listener is enabled.
        dead: Deliveries that were given up.
        oldest_waiting_seconds: For how long the oldest of those that wait has done so.
        p50_seconds: Half of the attempts took at most that long.
        p99_seconds: 99 of 100 attempts took at most that long.
        disabled: Why the listener is disabled; null while it is enabled.
    """

    listener: str
    delivered: int = 0
    waiting: int = 0
    failing: int = 0
    held: int = 0
    dead: int = 0
    oldest_waiting_seconds: float | None = None
    p50_seconds: float | None = None
    p99_seconds: float | None = None
    disabled: str | None = None


def statistics(database: Database, since: float | None = None) -> list[Statistics]:
    """Give the figures of every listener that the journal knows, by name.

    Args:
        database: The journal's.
        since: Count the attempts that began from then on; seconds since 1970.

    Raises:
        JournalError: The database failed.
    """
    now = database.now()
    d = delivery.c
    states = select(
        d.listener,
        d.state,
        func.count().label("number"),
        func.count(d.error).label("failed"),
        func.min(d.created).label("oldest"),
    )
    found: dict[str, Statistics] = {}

    def of(name: str) -> Statistics:
        return found.setdefault(name, Statistics(name))

    with one_state(database, "count") as connection:
        for row in connection.execute(states.group_by(d.listener, d.state)):
            figures = of(row.listener)
            setattr(figures, row.state, row.number)
            if row.state == State.WAITING.value:
                figures.failing, figures.oldest_waiting_seconds = row.failed, max(0.0, now - row.oldest)
        for row in connection.execute(_percentiles(since)):
            figures = of(row.listener)
            figures.p50_seconds, figures.p99_seconds = row.p50, row.p99
        disabled = select(listener.c.name, listener.c.reason).where(listener.c.disabled_at.is_not(None))
        for row in connection.execute(disabled):
            of(row.name).disabled = row.reason or "by hand"
    return [found[name] for name in sorted(found)]


def _percentiles(since: float | None) -> Executable:
    """Give the query for the seconds of each listener's attempts that take their places behind so many of the others.

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
