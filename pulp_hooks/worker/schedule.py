"""The pauses between attempts."""

import random
from collections.abc import Sequence

from pulp_hooks.delivery_control import RetryLater

_JITTER = 0.2
"""Random variation of a pause, so that deliveries that failed together are not retried together."""

_LONGEST_REQUEST = 86_400.0
"""Longest pause that a listener may request; seconds."""

_SHORTEST_ELSEWHERE, _LONGEST_ELSEWHERE = 1.0, 300.0
"""Bounds of the pause after this worker could not make a delivery; it grows with the delivery's age."""


def next_pause(attempts: int, retry_seconds: Sequence[float]) -> float | None:
    """Return the pause until the next attempt, varied by up to a fifth; null after the last attempt."""
    if attempts > len(retry_seconds):
        return None
    return retry_seconds[attempts - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not for security


def pause_elsewhere(age_seconds: float, retry_seconds: Sequence[float]) -> float | None:
    """Return the pause until a worker claims a delivery that this one cannot make; null past the end of its schedule.

    Hosts and workers are restarted one after the other. Until all have the same plugins and settings, the delivery
    waits for another worker or for a restart of this one, at most as long as failures would be retried.
    """
    if age_seconds > sum(retry_seconds):
        return None
    return min(max(age_seconds / 2, _SHORTEST_ELSEWHERE), _LONGEST_ELSEWHERE)


def requested_pause(control: RetryLater) -> float | None:
    """Return the pause that a listener requested, at most a day; null if it is not a number of seconds."""
    after = getattr(control, "after", None)
    if isinstance(after, bool) or not isinstance(after, int | float) or not after >= 0:
        return None
    # Minimum first: an integer may be too large for a float.
    return float(min(after, _LONGEST_REQUEST))
