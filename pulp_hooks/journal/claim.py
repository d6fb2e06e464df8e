"""A delivery in the hands of a worker, and what stands before that."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that one worker alone may make until the lease ends.

    Attributes:
        event_id: Identifier of the event.
        listener: Name of the listener.
        lease: Token that only the holder of this claim has.
        content: The event, as it was stored.
        tries: Which try this is since the event was fired or replayed, from 1 on.
        attempts: Which attempt of all this is, from 1 on.
        created: When the delivery was stored.
        is_suspect: Whether nothing is known of an earlier attempt: whoever made it may have died of it.
        is_ordered: Whether the delivery keeps its repository's order, as was decided when it was stored.
    """

    event_id: str
    listener: str
    lease: str
    content: bytes
    tries: int
    attempts: int
    created: float
    is_suspect: bool = False
    is_ordered: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """When the next delivery of a listener is to be made.

    Attributes:
        due: When it is due.
        claimable: When the listener's rate lets it be claimed; not before it is due.
        ordered: Whether any of the listener's unfinished deliveries keep their repository's order.
    """

    due: float
    claimable: float
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for the deliveries of a listener, over all workers.

    Attributes:
        concurrency: So many at most are claimed at the same time.
        per_second: So many at most are claimed in each second, after a burst of one second's worth.
    """

    concurrency: int | None = None
    per_second: float | None = None


NO_LIMITS = Limits()
