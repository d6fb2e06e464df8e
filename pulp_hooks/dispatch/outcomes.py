"""What became of an event: one outcome per listener, and the report that gathers them."""

from dataclasses import dataclass, field
from enum import StrEnum

from pulp_hooks.delivery_control import DeliveryControl
from pulp_hooks.event import Event


class Status(StrEnum):
    """How a listener's call ended, or that it is still to come.

    Attributes:
        SUCCEEDED: The listener returned.
        FAILED: It raised.
        QUEUED: The journal has the event; a worker will call the listener.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    QUEUED = "queued"


@dataclass(slots=True)
class Outcome:
    """What became of one event at one listener.

    Attributes:
        listener: Name of the listener.
        hook: Name of the hook that was called.
        status: Whether the listener succeeded.
        seconds: How long it ran, in seconds of elapsed time.
        error: Type and message of what it raised, on one line and without the secrets of its settings; null on success.
        control: What it raised, if that says what is to follow.
    """

    listener: str
    hook: str
    status: Status
    seconds: float
    error: str | None = None
    control: DeliveryControl | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one event at all its listeners, in the order of the calls.

    Attributes:
        event: The event that was fired.
        outcomes: One outcome for each implementation that was called; with a journal, for each listener that will be.
    """

    event: Event
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes of the listeners that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status is Status.FAILED)
