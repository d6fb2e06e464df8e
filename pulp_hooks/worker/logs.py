"""The log lines of deliveries: a sentence for people, and fields on the record for programs."""

import logging
from typing import Any

from pulp_hooks.journal.claims import Result
from pulp_hooks.journal.schema import State
from pulp_hooks.safe_logger import safe_logger

_log = safe_logger("pulp_hooks.worker")


_LEVELS = {State.DELIVERED: logging.INFO, State.DEAD: logging.ERROR}
_WORDS = {
    State.DELIVERED: "delivered",
    State.DEAD: "given up",
    State.SKIPPED: "skipped",
    State.HELD: "held until the listener is enabled",
}


def log_result(result: Result, exception: BaseException | None, *, is_held: bool = False) -> None:
    """Log how an attempt ended: a success as information, a dead letter as an error, the rest as a warning.

    The record has the attributes `event_id`, `delivery`, `listener`, `attempt`, `seconds`, `status`, `state`, and
    `error` and `due` (seconds since 1970) where there are any.

    Args:
        result: The attempt.
        exception: What to log as `exc_info`.
        is_held: Whether it waits for its listener, which was disabled.
    """
    state = State.HELD if is_held else result.state
    level = _LEVELS.get(state, logging.WARNING)
    if not _log.isEnabledFor(level):
        return
    claim = result.claim
    said = _WORDS.get(state, "to be tried again" if result.is_attempt else "given back for another worker")
    error = f": {result.error}" if result.error else ""
    _log.log(
        level,
        "event %s for listener %s, attempt %d, %.3f s: %s, %s%s",
        *(claim.event_id, claim.listener, claim.attempts, result.seconds, result.status, said, error),
        exc_info=exception,
        extra=_fields(result) | ({"state": state.value, "due": None} if is_held else {}),
    )


def log_late(result: Result, exception: BaseException | None) -> None:
    """Log that an attempt ended after its lease, so that another worker has the delivery, or it was finished."""
    claim = result.claim
    _log.warning(
        "event %s for listener %s, attempt %d, %.3f s: %s, too late to be recorded",
        *(claim.event_id, claim.listener, claim.attempts, result.seconds, result.status),
        exc_info=exception,
        extra=_fields(result),
    )


def _fields(result: Result) -> dict[str, Any]:
    claim = result.claim
    return {
        "event_id": claim.event_id,
        "delivery": f"{claim.event_id}/{claim.listener}",
        "listener": claim.listener,
        "attempt": claim.attempts,
        "seconds": result.seconds,
        "status": result.status,
        "state": result.state.value,
        "error": result.error,
        "due": result.due,
    }
