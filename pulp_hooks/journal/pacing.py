"""Limits that hold for all workers together: how many at the same time, and how many in each second.

The rate is a token bucket, kept as one moment: until when all tokens are used up. A bucket that was left alone holds
one second's worth, and one token at least.
"""

import math

from sqlalchemy import Connection, bindparam, func, select, update

from pulp_hooks.journal.claim import Limits
from pulp_hooks.journal.statements import insert_new, share_deliveries
from pulp_hooks.journal.tables import delivery, listener

_ROUNDING = 1e-6
"""Part of a token that may be lost in rounding."""


def take_turn(connection: Connection, name: str, limits: Limits) -> None:
    """Wait for whoever has locked all deliveries, and keep other workers from claiming until the transaction ends.

    It is to be the first thing in the transaction, and the time is to be taken after it: nothing waits any more.
    """
    share_deliveries(connection)
    if limits.concurrency is not None or limits.per_second is not None:
        connection.execute(insert_new(connection.dialect.name, listener), {"name": name})
        connection.execute(_LOCKED, {"of_listener": name})


def allowed(  # noqa: PLR0913, PLR0917 - each is one fact about the claim
    connection: Connection, name: str, wanted: int, limits: Limits, now: float, lease_seconds: float
) -> int:
    """Give how many deliveries may be claimed by whom it is the turn."""
    if limits.concurrency is not None:
        # Others may have claimed a moment later than this one looked at the clock; far later no lease ends.
        values = {"name": name, "now": now, "latest": now + 2 * lease_seconds}
        claimed = connection.execute(_CLAIMED, values).scalar_one()
        wanted = min(wanted, limits.concurrency - claimed)
    if limits.per_second is not None:
        until = connection.execute(_READ, {"of_listener": name}).scalar()
        tokens = (now - _used_until(until, limits.per_second, now)) * limits.per_second
        wanted = min(wanted, math.floor(tokens + _ROUNDING))
    return wanted


def paced(connection: Connection, name: str, claimed: int, limits: Limits, now: float) -> None:
    """Take the tokens of what was claimed out of the bucket."""
    if limits.per_second is not None and claimed:
        until = connection.execute(_READ, {"of_listener": name}).scalar()
        used = _used_until(until, limits.per_second, now) + claimed / limits.per_second
        connection.execute(_USED, {"of_listener": name, "until": used})


def next_pace(connection: Connection, name: str, per_second: float, now: float) -> float:
    """Give when there is a token in the bucket."""
    until = connection.execute(_READ, {"of_listener": name}).scalar()
    return _used_until(until, per_second, now) + 1 / per_second


def _used_until(until: float | None, per_second: float, now: float) -> float:
    full = now - max(1.0, 1 / per_second)
    return full if until is None else max(full, until)


_READ = select(listener.c.paced_until).where(listener.c.name == bindparam("of_listener"))
_LOCKED = _READ.with_for_update()
_USED = update(listener).where(listener.c.name == bindparam("of_listener")).values(paced_until=bindparam("until"))
_CLAIMED = select(func.count()).where(
    delivery.c.listener == bindparam("name"),
    delivery.c.lease.is_not(None),
    delivery.c.due > bindparam("now"),
    delivery.c.due <= bindparam("latest"),
)
