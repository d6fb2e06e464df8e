"""The attempt in which a listener is called: which one it is, and the detail of the one before it."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import JsonValue
    from pulp_hooks.event import Event


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One attempt of a delivery, for the listener that is called in it.

    Attributes:
        number: Which attempt of the delivery this is, from 1 on.
        step: Which attempt it is on the retry schedule, from 1 on; a replay starts the schedule again.
        previous_detail: The detail that the listener attached to the last earlier attempt that recorded one, without
            secrets and under the size cap; null if there is none, or if the last earlier attempt succeeded, so that a
            replayed delivery starts anew. A copy of your own.
    """

    number: int = 1
    step: int = 1
    previous_detail: "dict[str, JsonValue] | None" = field(default=None, repr=False, hash=False)


def current_attempt(event: "Event") -> DeliveryAttempt:
    """Return the attempt in which a listener is called with this event.

    Call it in the listener's own call: threads that the listener starts do not know it. Without a journal, every
    attempt is the first one.

    Args:
        event: The event that the listener received.
    """
    event_id, attempt = _current.get()
    return attempt if event_id == event.id else _FIRST


def begin_attempt(event_id: str, attempt: DeliveryAttempt) -> None:
    """Make this the current attempt for the rest of the calling context, which has to be a copy."""
    _current.set((event_id, attempt))


_FIRST = DeliveryAttempt()

# With the event's id: a listener may itself fire another event, whose listeners are called in this context too.
_current: ContextVar[tuple[str | None, DeliveryAttempt]] = ContextVar("pulp_hooks_attempt", default=(None, _FIRST))
