"""Exceptions that control redelivery. Any other exception is retried on the schedule."""

import math
from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from pulp_hooks.foreign_code import call_foreign
from pulp_hooks.signals import leaves_of


class DeliveryControl(Exception):  # noqa: N818 - it is an instruction
    """Base of `RetryLater`, `PermanentFailure` and `DisableListener`; raise one of these.

    Args:
        message: Reason.
        detail: Facts to show with the outcome, such as the response; see `Outcome.detail`.

    Attributes:
        detail: The detail.
    """

    detail: Mapping[str, object] | None = None

    def __init__(self, message: str = "", *, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(*([message] if message else []))
        self.detail = detail


class RetryLater(DeliveryControl):
    """Retry after a pause of your choice, without using up a step of the schedule.

    Args:
        message: Reason.
        after: Pause in seconds or as a `timedelta`; at most a day, longer ones are shortened.
        detail: Facts to show with the outcome, such as the response; see `Outcome.detail`.

    Attributes:
        after: Pause in seconds.

    Raises:
        ValueError: `after` is negative or not a number.
    """

    def __init__(
        self, message: str = "", *, after: float | timedelta, detail: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message or f"retry requested after {after}", detail=detail)
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ValueError(f"after must be a number of seconds, at least 0, got {after!r}")
        self.after = float(seconds)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return partial(RetryLater, after=self.after, detail=self.detail), self.args


class PermanentFailure(DeliveryControl):
    """Never retry this delivery: it becomes a dead letter at once."""


class DisableListener(DeliveryControl):
    """Disable this listener, because its target is gone for good; its deliveries are on hold until it is enabled."""


_KINDS = (DisableListener, RetryLater, PermanentFailure)


def control_in(error: BaseException) -> tuple[DeliveryControl | None, bool]:
    """Return the delivery control in an exception or group, and whether it contains nothing but delivery controls.

    In a group, `DisableListener` wins, then the `RetryLater` with the longest pause; `PermanentFailure` counts only if
    the group has no other exception. A subclass is converted to one of the three, because its own methods and
    attributes may raise.
    """
    members = list(leaves_of(error))
    controls = [_plain(member) for member in members if issubclass(type(member), DeliveryControl)]
    is_all = len(controls) == len(members)
    for control in controls:
        if isinstance(control, DisableListener):
            return control, is_all
    later = [control for control in controls if isinstance(control, RetryLater)]
    if later:
        return max(later, key=_seconds), is_all
    return (controls[0] if controls and is_all else None), is_all


def _plain(error: BaseException) -> DeliveryControl:
    """Return a control without its traceback, which would keep frames alive."""
    kind = next((kind for kind in _KINDS if issubclass(type(error), kind)), DeliveryControl)
    if type(error) is kind:
        return error.with_traceback(None)
    plain = kind.__new__(kind, *_arguments_of(error))
    if isinstance(plain, RetryLater):
        after = call_foreign(lambda: getattr(error, "after", None))
        # NaN means an invalid pause: the schedule applies.
        plain.after = after if type(after) is float or type(after) is int else math.nan
    return plain


def _seconds(control: RetryLater) -> float:
    after: object = vars(control).get("after")
    return after if (type(after) is float or type(after) is int) and after >= 0 else 0.0


_arguments_of = BaseException.__dict__["args"].__get__
