"""Maintenance of the journal by a worker: pruning."""

import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.journal import Journal
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import JournalSettings

_log = safe_logger("pulp_hooks.worker")

_HOUR = 3600.0
_DAY = 86_400.0


class Maintenance:
    """Prunes a journal once an hour, in its own thread."""

    def __init__(self, journal: Journal, settings: JournalSettings) -> None:
        self._journal = journal
        self._settings = settings
        self._over = threading.Event()

    def start(self, using: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Start the thread.

        Args:
            using: Returns a context manager around each use of the journal.
        """
        threading.Thread(target=self._work, args=(using,), name="pulp_hooks pruning", daemon=True).start()

    def stop(self) -> None:
        """Stop pruning, without waiting for a run in progress."""
        self._over.set()

    def prune(self) -> None:
        """Delete finished deliveries past their retention, and events without any; log a failure."""
        try:
            now = self._journal.now()
            pruned = self._journal.prune(
                delivered_before=now - self._settings.keep_delivered_days * _DAY,
                dead_before=now - self._settings.keep_dead_days * _DAY,
            )
        except JournalError as error:
            _log.warning("%s", error)
            return
        if pruned.deliveries or pruned.events:
            _log.info("pruned %d deliveries and %d events", pruned.deliveries, pruned.events)

    def _work(self, using: Callable[[], AbstractContextManager[None]]) -> None:
        # Random, so that workers that start together do not prune together.
        pause = random.uniform(0, 60)  # noqa: S311 - not for security
        while not self._over.wait(pause):
            with using():
                self.prune()
            pause = _HOUR
