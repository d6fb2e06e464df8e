"""An attempt: from a claimed delivery to the listener and to the result to record."""

import json
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from pulp_hooks import telemetry
from pulp_hooks.bodies.types import JsonValue
from pulp_hooks.delivery_attempt import DeliveryAttempt, begin_attempt
from pulp_hooks.delivery_control import DisableListener, PermanentFailure, RetryLater
from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.dispatch.outcomes import Outcome, Status
from pulp_hooks.event import Event, read_stored
from pulp_hooks.journal.claims import Claim, Limits, Result
from pulp_hooks.journal.schema import State
from pulp_hooks.settings.model import DeliverySettings
from pulp_hooks.text import one_line
from pulp_hooks.worker.schedule import next_pause, pause_elsewhere, requested_pause

_MOST_ATTEMPTS = 100
"""From this attempt on the schedule applies, whatever pause the listener requests."""

MOST_LOST = 5
"""Attempts allowed beyond the schedule when earlier ones left no record (worker crash)."""

SLACK_SECONDS = 30.0
"""Time by which a lease exceeds the time limit of an attempt."""


class Ending(StrEnum):
    """How an attempt ended.

    Attributes:
        SUCCEEDED: The listener returned.
        FAILED: It raised.
        TIMED_OUT: It exceeded the time limit, and was abandoned.
        INTERRUPTED: The worker was stopped during the call; the delivery is due again at once.
        UNWANTED: In this worker the listener does not take the event: its plugins or settings differ from the host's.
        UNREADABLE: This worker cannot read the stored event, perhaps because the host is newer.
        LOST: Too many earlier attempts left no record: their workers crashed, perhaps because of this delivery.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    INTERRUPTED = "interrupted"
    UNWANTED = "unwanted"
    UNREADABLE = "unreadable"
    LOST = "lost"


_UNWANTED = (
    "in this worker the listener does not take this event; fix: give host and worker the same plugins and settings"
)

NOT_CALLED = frozenset({Ending.UNWANTED, Ending.UNREADABLE})
"""Endings without a call; a worker with other plugins or settings, or of a newer release, may make the call."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has ended.

    Attributes:
        claim: The claimed delivery.
        ending: How it ended.
        began: Start; elapsed time of the worker's clock.
        seconds: Duration; seconds.
        error: The error, on one line; null on success.
        outcomes: The outcomes of the listener's implementations.
    """

    claim: Claim
    ending: Ending
    began: float
    seconds: float
    error: str | None = None
    outcomes: tuple[Outcome, ...] = ()

    @property
    def disables(self) -> bool:
        """Whether the listener raised `DisableListener`."""
        return any(isinstance(outcome.control, DisableListener) for outcome in self.outcomes)

    @property
    def refuses(self) -> bool:
        """Whether every failure is a `PermanentFailure`, so that the delivery is never retried."""
        failed = [outcome for outcome in self.outcomes if outcome.status is Status.FAILED]
        return bool(failed) and all(isinstance(outcome.control, PermanentFailure) for outcome in failed)

    @property
    def is_failure(self) -> bool:
        """Whether this is a failure of the listener, not of the event or the worker."""
        return self.ending in {Ending.FAILED, Ending.TIMED_OUT} and not self.refuses


def attempt(claim: Claim, guards_of: Callable[[Event], Sequence[Guard]], began: float, most_attempts: int) -> Attempt:
    """Call the listener with the stored event, and return the attempt, whatever the listener raises."""
    started = time.perf_counter()
    if claim.step > most_attempts:
        lost = f"at least {MOST_LOST} attempts left no record; the delivery may crash its workers"
        return Attempt(claim, Ending.LOST, began, 0.0, lost)
    try:
        event = read_stored(claim.content)
    except ValueError as error:
        return Attempt(claim, Ending.UNREADABLE, began, 0.0, one_line(error))
    guards = [guard for guard in guards_of(event) if guard.listener == claim.listener]
    if not guards:
        return Attempt(claim, Ending.UNWANTED, began, 0.0, _UNWANTED)
    original = Original(event)
    context = copy_context()
    context.run(begin_attempt, event.id, DeliveryAttempt(claim.attempts, claim.step, _detail_in(claim.previous_detail)))
    span = context.run(
        telemetry.begin_attempt, event.type.value, event.id, claim.listener, claim.attempts, claim.trace_context
    )
    try:
        outcomes = tuple([context.run(guard.run, original) for guard in guards])
        errors = [outcome.error or "failed" for outcome in outcomes if outcome.status is Status.FAILED]
    except KeyboardInterrupt as error:
        # Raised by the listener itself: Ctrl-C reaches the main thread only.
        outcomes, errors = (), [one_line(error, guards[0].secrets)]
    text = "; ".join(errors) or None
    telemetry.end_attempt(span, text)
    ending = Ending.FAILED if text else Ending.SUCCEEDED
    return Attempt(claim, ending, began, time.perf_counter() - started, text, outcomes)


def _detail_in(text: str | None) -> dict[str, JsonValue] | None:
    """Return a recorded detail; null if there is none, or if it is damaged."""
    try:
        detail: object = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, JsonValue]", detail) if isinstance(detail, dict) else None


def limits_of(settings: DeliverySettings) -> Limits:
    """Return the limits of a listener, which hold over all workers."""
    return Limits(settings.global_concurrency, settings.global_rate_per_second)


def result_of(ended: Attempt, settings: DeliverySettings, *, started: float, now: float) -> Result:
    """Return the result to record for an attempt, with the next state of its delivery.

    Args:
        ended: The attempt.
        settings: Schedule and limits of the listener.
        started: Start of the attempt; the journal's time.
        now: Current time; the journal's time.
    """
    state, due, counted = _next(ended, settings, now)
    return Result(
        ended.claim,
        state,
        started,
        ended.seconds,
        ended.ending.value,
        ended.error,
        due,
        uses_step=counted,
        is_attempt=ended.ending not in NOT_CALLED or state is not State.PENDING,
        is_failure=ended.is_failure,
        traceback="\n".join(outcome.traceback for outcome in ended.outcomes if outcome.traceback) or None,
        detail=next((json.dumps(outcome.detail) for outcome in ended.outcomes if outcome.detail is not None), None),
    )


def _next(  # noqa: PLR0911 - one for each next state
    ended: Attempt, settings: DeliverySettings, now: float
) -> tuple[State, float | None, bool]:
    if ended.ending is Ending.SUCCEEDED:
        return State.DELIVERED, None, True
    if ended.ending in NOT_CALLED:
        pause = pause_elsewhere(now - ended.claim.created, settings.retry_seconds)
        if pause is not None:
            return State.PENDING, now + pause, False
        return (State.SKIPPED if ended.ending is Ending.UNWANTED else State.DEAD), None, True
    if ended.ending is Ending.INTERRUPTED or ended.disables:
        # The journal holds it while the listener is disabled.
        return State.PENDING, now, False
    if ended.ending is Ending.LOST or ended.refuses:
        return State.DEAD, None, True
    controls = [outcome.control for outcome in ended.outcomes if outcome.status is Status.FAILED]
    pauses = [requested_pause(control) for control in controls if isinstance(control, RetryLater)]
    requested = [pause for pause in pauses if pause is not None]
    if requested and ended.claim.attempts < _MOST_ATTEMPTS:
        return State.RETRYING, now + max(requested), False
    pause = next_pause(ended.claim.step, settings.retry_seconds)
    return (State.DEAD, None, True) if pause is None else (State.RETRYING, now + pause, True)
