"""What a worker gets from the queue, and what it gives back."""

from dataclasses import dataclass

from pulp_hooks.journal.schema import State


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that one worker alone may attempt until the lease ends.

    Attributes:
        event: Number of the event in the journal.
        event_id: Identifier of the event.
        listener: Name of the listener.
        lease: Token that only the holder of this claim has.
        content: The event, as it was stored.
        step: Which attempt this is on the retry schedule since the event was fired or replayed, from 1 on.
        attempts: Which attempt of all this is, from 1 on.
        created: When the delivery was stored; seconds since 1970.
        trace_context: The span in which the event was fired, as `traceparent` of W3C Trace Context; null if unknown.
        is_suspect: Whether nothing was recorded of an earlier attempt: it may have crashed its worker.
        is_ordered: Whether the delivery keeps its repository's order, as was decided when it was stored.
        previous_detail: The detail of the last earlier attempt that has one, as JSON; null if there is none, or if the
            last earlier attempt succeeded.
    """

    event: int
    event_id: str
    listener: str
    lease: str
    content: bytes
    step: int
    attempts: int
    created: float
    trace_context: str | None = None
    is_suspect: bool = False
    is_ordered: bool = False
    previous_detail: str | None = None

    @property
    def key(self) -> tuple[int, str]:
        """What identifies the delivery."""
        return self.event, self.listener


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended.

    Attributes:
        claim: What was attempted.
        state: A finished state, `RETRYING` with `due`, or `PENDING` with `due` when no attempt has failed.
        started: When the attempt began; seconds since 1970.
        seconds: How long it took.
        status: One word on how it ended.
        error: What went wrong; its first 4 kB are kept.
        due: When to try again; seconds since 1970.
        uses_step: Whether this attempt uses up a step of the retry schedule; what is no attempt uses up none.
        is_attempt: Whether the listener was called, or the delivery given up. Otherwise no attempt is recorded.
        is_failure: Whether an attempt that did not succeed counts among those for which a listener is disabled.
        traceback: Of the error.
        detail: JSON that the listener wants shown of the attempt.
    """

    claim: Claim
    state: State
    started: float
    seconds: float
    status: str
    error: str | None = None
    due: float | None = None
    uses_step: bool = True
    is_attempt: bool = True
    is_failure: bool = True
    traceback: str | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.state is State.HELD or (self.state in {State.PENDING, State.RETRYING}) != (self.due is not None):
            raise ValueError("a result is finished, or has the time when the next attempt is due")


@dataclass(frozen=True, slots=True)
class Due:
    """When the next delivery of a listener is due.

    Attributes:
        due: When it is due; seconds since 1970.
        claimable: When the listener's rate lets it be claimed; not before it is due.
        is_ordered: Whether any of the listener's unfinished deliveries keep their repository's order.
    """

    due: float
    claimable: float
    is_ordered: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for the deliveries of a listener, over all workers together.

    Attributes:
        concurrency: How many are claimed at the same time, at most.
        per_second: How many are claimed in each second, at most, after a burst of one second's worth.
    """

    concurrency: int | None = None
    per_second: float | None = None


NO_LIMITS = Limits()
