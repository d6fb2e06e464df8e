"""What a listener raises to say what is to follow. Whatever else it raises means: try again, as the schedule says."""

from datetime import timedelta
from functools import partial


class Steering(Exception):  # noqa: N818 - it is an instruction
    """Base of the three below; raise one of them."""


class RetryLater(Steering):
    """Try again after so long, not when the schedule says; no step of the schedule is used up.

    Args:
        message: Why.
        after: Seconds, or a `timedelta`; at most a day counts.

    Attributes:
        after: Seconds.

    Raises:
        ValueError: `after` is negative or no number.
    """

    def __init__(self, message: str = "", *, after: float | timedelta) -> None:
        super().__init__(message or f"asked to be called again after {after}")
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ValueError(f"after must be a number of seconds from 0 up, not {after!r}")
        self.after = float(seconds)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return partial(RetryLater, after=self.after), self.args


class PermanentFailure(Steering):
    """Never try this delivery again: it becomes a dead letter at once."""


class Disable(Steering):
    """Disable this listener, as what it forwards to is gone for good; what it was to have is held."""
