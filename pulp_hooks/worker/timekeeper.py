"""The journal's time, as a worker knows it between its looks at the journal."""

import time

from pulp_hooks.journal.database import Database
from pulp_hooks.journal.jumps import TOLERANCE_SECONDS, follow_clock
from pulp_hooks.safe_logger import safe_logger

_log = safe_logger("pulp_hooks.worker")

_LOOK_SECONDS = 1.0
"""How often is looked whether the clock has jumped."""


class Timekeeper:
    """Knows the journal's time, and has what waits moved when the clock jumps.

    Args:
        database: The journal's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ahead = 0.0
        self._look_due = 0.0

    def now(self) -> float:
        """Give the journal's time without asking the journal."""
        return time.monotonic() + self._ahead

    def look(self) -> float:
        """Look at the journal's time, and give it.

        Raises:
            JournalError: The journal failed.
        """
        self._ahead = self._measured()
        return self.now()

    def follow(self) -> None:
        """Find out whether the clock has jumped, at least when the time is not what it should be.

        Raises:
            JournalError: The journal failed.
        """
        ahead = self._measured()
        if time.monotonic() >= self._look_due or abs(ahead - self._ahead) > TOLERANCE_SECONDS:
            jumped = follow_clock(self._database)
            self._look_due = time.monotonic() + _LOOK_SECONDS
            if jumped:
                _log.warning("the clock has jumped by %.0f s; what waits is moved with it", jumped)
            ahead = self._measured()
        # Only now, when all that is in the journal is of the same time.
        self._ahead = ahead

    def _measured(self) -> float:
        return self._database.now() - time.monotonic()
