"""Recording of attempts in the journal and the log, and disabling of listeners."""

from collections import Counter
from collections.abc import Sequence
from shlex import quote

from pulp_hooks import telemetry
from pulp_hooks.dispatch.outcomes import exception_to_log
from pulp_hooks.errors import JournalError
from pulp_hooks.journal.clock import Clock
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.schema import State
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import Settings
from pulp_hooks.worker.attempts import Attempt, Ending, result_of
from pulp_hooks.worker.logs import log_late, log_result

_log = safe_logger("pulp_hooks.worker")

_HOUR = 3600


class Recorder:
    """Records attempts that have ended.

    Attributes:
        tally: Number of attempts by ending.
    """

    def __init__(self, journal: Journal, settings: Settings) -> None:
        self.tally: Counter[Ending] = Counter()
        self._journal = journal
        self._settings = settings

    def record(self, ended: Sequence[Attempt], clock: Clock) -> set[str]:
        """Record attempts, all or none, and disable listeners that requested it or have failed for too long.

        Returns:
            The names of the disabled listeners.

        Raises:
            JournalError: The journal failed.
        """
        asked = {one.claim.listener: one.error or "the listener requested it" for one in ended if one.disables}
        # Before the attempts are recorded, so that their deliveries are put on hold.
        for name, reason in asked.items():
            self._disable(name, reason)
        now = clock.time()
        ahead = now - clock.elapsed()
        results = [
            result_of(one, self._settings.delivery_of(one.claim.listener), started=one.began + ahead, now=now)
            for one in ended
        ]
        late = self._journal.queue.finish(results)
        self.tally.update(one.ending for one in ended)
        for one in ended:
            telemetry.measure_attempt(one.claim.listener, one.ending.value, one.seconds)
        for one, result in zip(ended, results, strict=True):
            exception = exception_to_log(one.outcomes)
            if result.claim in late:
                log_late(result, exception)
            else:
                is_held = result.state is State.PENDING and result.claim.listener in asked
                log_result(result, exception, is_held=is_held)
        return {*asked, *self._disable_failing({one.claim.listener for one in ended if one.is_failure}, now)}

    def _disable_failing(self, names: set[str], now: float) -> set[str]:
        too_long = set()
        try:
            for listener in self._journal.listeners() if names else ():
                limit = self._settings.delivery_of(listener.name).disable_after_hours
                since = listener.failing_since
                if listener.name not in names or listener.disabled_at is not None or since is None:
                    continue
                if now - since >= limit * _HOUR:
                    self._disable(listener.name, f"no success in {limit:g} hours of failures")
                    too_long.add(listener.name)
        except JournalError as error:
            # The attempts are recorded, and the next failure checks this again.
            _log.warning("%s", error)
        return too_long

    def _disable(self, name: str, reason: str) -> None:
        self._journal.disable(name, reason)
        _log.error(
            "listener %s is disabled; its deliveries are on hold: %s; fix: run `pulp-hooks listeners enable %s`",
            *(name, reason, quote(name)),
            extra={"listener": name, "error": reason},
        )
