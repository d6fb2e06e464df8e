"""What a listener raises to say what is to follow. Whatever else it raises means: try again, as the schedule says."""

import math
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from pulp_hooks.foreign_code import call_foreign
from pulp_hooks.signals import members_of


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


def control_in(error: BaseException) -> tuple[Steering | None, bool]:
    """Return what an exception asks of the journal, also from within groups, and whether it says nothing else.

    In a group, `Disable` counts before all others; `PermanentFailure` counts when no other exception is in there, and
    of several `RetryLater` the one with the longest pause. What a subclass asks for is returned as one of the three:
    its own methods and attributes may raise.
    """
    members = list(_leaves(error))
    controls = [_plain(member) for member in members if issubclass(type(member), Steering)]
    is_all = len(controls) == len(members)
    for control in controls:
        if isinstance(control, Disable):
            return control, is_all
    later = [control for control in controls if isinstance(control, RetryLater)]
    if later:
        return max(later, key=_seconds), is_all
    return (controls[0] if controls and is_all else None), is_all


def _leaves(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        members = members_of(found)
        waiting += reversed(members)
        if not members:
            yield found


def _plain(error: BaseException) -> Steering:
    """Return a control without the frames that it was raised in, which are not to be kept alive."""
    kind = next((kind for kind in (Disable, RetryLater, PermanentFailure) if issubclass(type(error), kind)), Steering)
    if type(error) is kind:
        return error.with_traceback(None)
    plain = kind.__new__(kind, *_arguments_of(error))
    if isinstance(plain, RetryLater):
        after = call_foreign(lambda: getattr(error, "after", None))
        # What is not a number asks for no pause, and leaves it to the schedule.
        plain.after = after if type(after) is float or type(after) is int else math.nan
    return plain


def _seconds(control: RetryLater) -> float:
    after: object = vars(control).get("after")
    return after if (type(after) is float or type(after) is int) and after >= 0 else 0.0


_arguments_of = BaseException.__dict__["args"].__get__
