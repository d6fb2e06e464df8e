"""Deliveries on a Celery app: a task that makes a delivery, and a sweeper that sends the messages.

The journal is the source of truth. A message is only a hint: if it is lost, the sweeper sends another; a duplicate
finds nothing to claim.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from celery import Celery, signals

from pulp_hooks.celery.sweeper import Sweeper
from pulp_hooks.errors import JournalError
from pulp_hooks.hooks import Hooks
from pulp_hooks.outbox import open_journal
from pulp_hooks.settings.model import Settings
from pulp_hooks.settings.reading import read_settings
from pulp_hooks.worker.watchdog import ending_when_frozen
from pulp_hooks.worker.worker import Worker

TASK = "pulp_hooks.deliver"
"""Name of the task. Its arguments name a delivery: the event's id and the listener's name."""

_REFUSAL = "pulp_hooks cannot carry deliveries: "


def carry_deliveries(
    app: Celery, settings: str | os.PathLike[str] | Settings | None = None, *, resend_seconds: float = 60.0
) -> None:
    """Make the deliveries of a journal in the workers of a Celery app.

    Call this where you create the app. Every Celery worker then runs the task, and a thread that sends a message for
    each due delivery. Messages are persistent, confirmed by the broker, and acknowledged after the attempt. A message
    for a delivery that is finished or already claimed does nothing.

    Args:
        app: The app.
        settings: Path of the settings file, or settings, as for `Hooks.discover`.
        resend_seconds: Age at which a message counts as lost and is sent again; seconds.
    """
    app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), "confirm_publish": True}
    carrier = _Carrier(app, settings, resend_seconds)

    def deliver(event_id: str, listener: str) -> str | None:
        return carrier.deliver(event_id, listener)

    carrier.task = app.task(deliver, name=TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
    # By default Celery keeps weak references, and these methods have no other.
    signals.worker_init.connect(carrier.check, weak=False)
    signals.worker_ready.connect(carrier.start, weak=False)
    signals.worker_shutting_down.connect(carrier.stop, weak=False)


class _Carrier:
    """The hooks, worker and sweeper of each process of one app's workers.

    Attributes:
        task: The task that makes a delivery.
    """

    task: Any

    def __init__(self, app: Celery, settings: str | os.PathLike[str] | Settings | None, resend_seconds: float) -> None:
        self._app = app
        self._settings = settings
        self._resend_seconds = resend_seconds
        self._made: tuple[int, Worker, Sweeper] | None = None
        self._main_process: int | None = None
        self._making = threading.Lock()
        self._using = threading.RLock()

    def deliver(self, event_id: str, listener: str) -> str | None:
        """Make a delivery, and return how the attempt ended; null if it cannot be claimed."""
        worker, sweeper = self._here()
        # Only a pool process may be ended. The main process, which runs the task with `--pool solo`, has other work.
        in_pool = self._main_process not in {None, os.getpid()}
        with ending_when_frozen(worker.frozen_seconds) if in_pool else nullcontext():
            made = worker.deliver_one(event_id, listener)
        sweeper.go_on(event_id, listener, made.claim if made else None)
        return made.ending.value if made else None

    def check(self, sender: Any = None, **_: object) -> None:  # noqa: ANN401 - as Celery calls it
        """Refuse to start without a usable journal. Celery would print any exception but `SystemExit` and continue."""
        if sender.app is not self._app:
            return
        self._main_process = os.getpid()
        try:
            settings = read_settings(self._settings).journal()
            if settings is None:
                raise SystemExit(f"{_REFUSAL}no journal is configured; fix: add [journal] with a url to the settings")
            open_journal(settings).close()
        except JournalError as error:
            raise SystemExit(f"{_REFUSAL}{error}") from error

    def start(self, sender: Any = None, **_: object) -> None:  # noqa: ANN401 - as Celery calls it
        """Start sweeping and pruning, in threads of the worker's main process."""
        if sender.app is self._app:
            worker, sweeper = self._here()
            # The pool replaces ended processes by forking, and a child cannot use a SQLite file that it inherits open.
            os.register_at_fork(
                before=self._using.acquire, after_in_parent=self._using.release, after_in_child=self._using.release
            )
            sweeper.start(self._alone)
            worker.maintenance.start(self._alone)

    def stop(self, **_: object) -> None:
        """Stop sweeping and pruning."""
        if self._made is not None:
            worker, sweeper = self._made[1:]
            sweeper.stop()
            worker.maintenance.stop()

    def _here(self) -> tuple[Worker, Sweeper]:
        """Return the worker and sweeper of this process, made at first use: hooks do not survive a fork."""
        with self._making:
            if self._made is None or self._made[0] != os.getpid():
                worker = Hooks.discover(self._settings).worker()
                sweeper = Sweeper(worker.journal, worker.limits, self._send, self._resend_seconds)
                self._made = os.getpid(), worker, sweeper
            return self._made[1:]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Return a context manager for the journal in the main process; on exit it closes a SQLite file."""
        journal = self._here()[0].journal
        with self._using if journal.is_file else nullcontext():
            try:
                yield
            finally:
                if journal.is_file:
                    journal.close()

    def _send(self, event_id: str, listener: str) -> None:
        # No retry by Celery: the sweeper retries.
        self.task.apply_async((event_id, listener), retry=False)
