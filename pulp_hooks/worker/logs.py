"""Log records of deliveries: a sentence for people, and attributes for programs."""

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
    State.HELD: "on hold until the listener is enabled",
}


def log_result(result: Result, exception: BaseException | None, *, is_held: bool = False) -> None:
    """Log an attempt: INFO if it succeeded, ERROR if the delivery is dead, otherwise WARNING.

    The record has the attributes `event_id`, `delivery`, `listener`, `attempt`, `seconds`, `status`, `state`, `error`
    and `due` (seconds since 1970); the last two may be null.
    """
    state = State.HELD if is_held else result.state
    level = _LEVELS.get(state, logging.WARNING)
    if not _log.isEnabledFor(level):
        return
    claim = result.claim
    next_step = _WORDS.get(state, "will be retried" if result.is_attempt else "released for another worker")
    error = f": {result.error}" if result.error else ""
    _log.log(
        level,
        "event %s for listener %s, attempt %d, %.3f s: %s, %s%s",
        *(claim.event_id, claim.listener, claim.attempts, result.seconds, result.status, next_step, error),
        exc_info=exception,
        extra=_fields(result) | ({"state": state.value, "due": None} if is_held else {}),
    )


def log_late(result: Result, exception: BaseException | None) -> None:
    """Log an attempt that ended after its lease, when another worker had claimed or finished the delivery."""
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
