"""When a delivery that failed is tried again."""

import random
from collections.abc import Sequence

from pulp_hooks.delivery_control import RetryLater

_JITTER = 0.2
"""Part by which a pause is varied, so that deliveries that failed together do not come back together."""

_LONGEST_WISH = 86_400.0
"""Longest pause that a listener may ask for; seconds."""


_SHORTEST_ELSEWHERE, _LONGEST_ELSEWHERE = 1.0, 300.0
"""Pause before a delivery that this worker cannot make is offered again; it grows with the delivery's age."""


def next_pause(tries: int, retry_seconds: Sequence[float]) -> float | None:
    """Return the pause until the next try, varied by a fifth; null after the last one.

    Args:
        tries: How many tries there were.
        retry_seconds: The pauses between tries.
    """
    if tries > len(retry_seconds):
        return None
    return retry_seconds[tries - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - nobody gains by guessing it


def pause_elsewhere(age_seconds: float, retry_seconds: Sequence[float]) -> float | None:
    """Return the pause before a delivery that this worker cannot make is offered again; None when that is over.

    Hosts and workers are restarted one after the other: until all run with the same plugins and settings, the delivery
    waits for another worker, or for this one's restart. It waits no longer than failures would be retried for.

    Args:
        age_seconds: How long ago the delivery was stored.
        retry_seconds: The pauses between tries.
    """
    if age_seconds > sum(retry_seconds):
        return None
    return min(max(age_seconds / 2, _SHORTEST_ELSEWHERE), _LONGEST_ELSEWHERE)


def wished_pause(control: RetryLater) -> float | None:
    """Return the pause that a listener asked for, at most a day; null if it is not a number of seconds."""
    after = getattr(control, "after", None)
    if isinstance(after, bool) or not isinstance(after, int | float) or not after >= 0:
        return None
    # An integer may have more digits than a float can have.
    return float(min(after, _LONGEST_WISH))
