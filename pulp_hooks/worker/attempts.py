"""An attempt: from what was claimed to the listener and to what is recorded."""

import json
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum

from pulp_hooks import telemetry
from pulp_hooks.delivery_control import DisableListener, PermanentFailure, RetryLater
from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.dispatch.outcomes import Outcome, Status
from pulp_hooks.event import Event, read_stored
from pulp_hooks.journal.claims import Claim, Limits, Result
from pulp_hooks.journal.schema import State
from pulp_hooks.settings.model import DeliverySettings
from pulp_hooks.text import one_line
from pulp_hooks.worker.schedule import next_pause, pause_elsewhere, wished_pause

_MOST_ATTEMPTS = 100
"""From this attempt on the schedule holds, whatever the listener asks for."""

MOST_LOST = 5
"""Attempts allowed beyond the schedule when earlier ones left no record (worker crash)."""

SLACK_SECONDS = 30.0
"""How much longer a lease is than the time limit of an attempt."""


class Ending(StrEnum):
    """How an attempt ended.

    Attributes:
        SUCCEEDED: The listener returned.
        FAILED: It raised.
        TIMED_OUT: It took longer than the time limit, and was abandoned.
        INTERRUPTED: The worker was stopped meanwhile; the delivery is due again at once.
        UNWANTED: The listener, as this worker has it, does not take the event: the worker is older than the host.
        UNREADABLE: This worker cannot read the stored event, which may come from a newer host.
        LOST: Too many earlier attempts left no record: their workers crashed, perhaps because of this delivery.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    INTERRUPTED = "interrupted"
    UNWANTED = "unwanted"
    UNREADABLE = "unreadable"
    LOST = "lost"


_UNWANTED = "the listener does not take this event in this worker, whose plugins or settings differ from the host's"

NOT_CALLED = frozenset({Ending.UNWANTED, Ending.UNREADABLE})
"""The listener was not called, and a worker with other plugins or settings, or of a newer release, may call it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has ended.

    Attributes:
        claim: What was attempted.
        ending: How it ended.
        began: When it began; elapsed time of the worker's clock.
        seconds: How long it took.
        error: What went wrong.
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
        """Whether the listener has asked to be disabled."""
        return any(isinstance(outcome.control, DisableListener) for outcome in self.outcomes)

    @property
    def refuses(self) -> bool:
        """Whether the listener has asked never to have this event again."""
        failed = [outcome for outcome in self.outcomes if outcome.status is Status.FAILED]
        return bool(failed) and all(isinstance(outcome.control, PermanentFailure) for outcome in failed)

    @property
    def is_failure(self) -> bool:
        """Whether this says something of the listener, and not of the event or of the worker."""
        return self.ending in {Ending.FAILED, Ending.TIMED_OUT} and not self.refuses


def attempt(claim: Claim, guards_of: Callable[[Event], Sequence[Guard]], began: float, most_tries: int) -> Attempt:
    """Call the listener with the stored event; whatever it raises is in the attempt.

    Args:
        claim: What is to be delivered.
        guards_of: Returns the guards of all listeners that an event is for.
        began: Elapsed time of the worker's clock.
        most_tries: Most tries, including those that left no record.
    """
    started = time.perf_counter()
    if claim.step > most_tries:
        lost = f"{MOST_LOST} attempts or more left no record; the delivery may crash its workers"
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
    span = context.run(
        telemetry.begin_attempt, event.type.value, event.id, claim.listener, claim.attempts, claim.trace_context
    )
    try:
        outcomes = tuple([context.run(guard.run, original) for guard in guards])
        errors = [outcome.error or "it failed" for outcome in outcomes if outcome.status is Status.FAILED]
    except KeyboardInterrupt as error:
        # It is the listener's own: the one of the keyboard reaches the main thread only.
        outcomes, errors = (), [one_line(error, guards[0].secrets)]
    text = "; ".join(errors) or None
    telemetry.end_attempt(span, text)
    ending = Ending.FAILED if text else Ending.SUCCEEDED
    return Attempt(claim, ending, began, time.perf_counter() - started, text, outcomes)


def limits_of(settings: DeliverySettings) -> Limits:
    """Return the limits of a listener over all workers."""
    return Limits(settings.global_concurrency, settings.global_rate_per_second)


def result_of(ended: Attempt, settings: DeliverySettings, *, started: float, now: float) -> Result:
    """Decide what follows an attempt.

    Args:
        ended: The attempt.
        settings: How the deliveries of this listener are made.
        started: When the attempt began; the journal's time.
        now: The journal's time.
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


def _next(  # noqa: PLR0911 - one for each way to go on
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
        # Of a listener that is disabled it is held until the listener is enabled.
        return State.PENDING, now, False
    if ended.ending is Ending.LOST or ended.refuses:
        return State.DEAD, None, True
    controls = [outcome.control for outcome in ended.outcomes if outcome.status is Status.FAILED]
    asked = [wished_pause(control) for control in controls if isinstance(control, RetryLater)]
    wishes = [pause for pause in asked if pause is not None]
    if wishes and ended.claim.attempts < _MOST_ATTEMPTS:
        return State.RETRYING, now + max(wishes), False
    pause = next_pause(ended.claim.step, settings.retry_seconds)
    return (State.DEAD, None, True) if pause is None else (State.RETRYING, now + pause, True)
