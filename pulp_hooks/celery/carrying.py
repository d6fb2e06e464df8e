"""What a Celery app needs to carry deliveries: a task that makes one, and a sweeper that sends its message.

The journal remains what counts. A message is only a hint: when it is lost, the sweeper sends another one; when it comes
twice, the second finds nothing to claim.
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
"""Name of the task; its arguments are the event's id and the listener's name, which are the name of a delivery."""

_REFUSAL = "pulp_hooks cannot carry deliveries: "


def carry_deliveries(
    app: Celery, settings: str | os.PathLike[str] | Settings | None = None, *, resend_seconds: float = 60.0
) -> None:
    """Let the workers of a Celery app make the deliveries of a journal.

    Call it where the app is made. Every Celery worker then runs the task, and a thread that sends messages for what is
    due. Messages are persistent and confirmed by the broker, and acknowledged when the attempt is over. What a message
    asks for that nobody can claim, because it is done or at work already, is passed over.

    Args:
        app: The app.
        settings: Path of the settings file, or settings, as for `Hooks.discover`.
        resend_seconds: After so long a message counts as lost, and another one is sent.
    """
    app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), "confirm_publish": True}
    carrier = _Carrier(app, settings, resend_seconds)

    def deliver(event_id: str, listener: str) -> str | None:
        return carrier.deliver(event_id, listener)

    carrier.task = app.task(deliver, name=TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
    # Celery forgets what is connected, unless it is told to keep it.
    signals.worker_init.connect(carrier.check, weak=False)
    signals.worker_ready.connect(carrier.start, weak=False)
    signals.worker_shutting_down.connect(carrier.stop, weak=False)


class _Carrier:
    """What the processes of one app's workers do.

    Attributes:
        task: The task whose messages are sent.
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
        """Make a delivery, if it can be claimed; give how that ended."""
        worker, sweeper = self._here()
        # Only a process of the pool may be ended: the others, as with `--pool solo`, do more than this task.
        in_pool = self._main_process not in {None, os.getpid()}
        with ending_when_frozen(worker.frozen_seconds) if in_pool else nullcontext():
            made = worker.deliver_one(event_id, listener)
        sweeper.go_on(event_id, listener, made.claim if made else None)
        return made.ending.value if made else None

    def check(self, sender: Any = None, **_: object) -> None:  # noqa: ANN401 - as Celery calls it
        """Refuse to start a worker that could deliver nothing: of all else Celery would only print a traceback."""
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
        """Sweep, and prune the journal, in threads of the worker's first process."""
        if sender.app is self._app:
            worker, sweeper = self._here()
            # The pool forks again for a process that has ended. A child cannot use a SQLite file that it inherits open.
            os.register_at_fork(
                before=self._using.acquire, after_in_parent=self._using.release, after_in_child=self._using.release
            )
            sweeper.start(self._alone)
            worker.maintenance.start(self._alone)

    def stop(self, **_: object) -> None:
        """Sweep and prune no more."""
        if self._made is not None:
            worker, sweeper = self._made[1:]
            sweeper.stop()
            worker.maintenance.stop()

    def _here(self) -> tuple[Worker, Sweeper]:
        """Give what was made at the first use in this process: hooks do not survive a fork."""
        with self._making:
            if self._made is None or self._made[0] != os.getpid():
                worker = Hooks.discover(self._settings).worker()
                sweeper = Sweeper(worker.journal, worker.limits, self._send, self._resend_seconds)
                self._made = os.getpid(), worker, sweeper
            return self._made[1:]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Use the journal in the worker's first process, and close a SQLite file before the pool forks."""
        journal = self._here()[0].journal
        with self._using if journal.is_file else nullcontext():
            try:
                yield
            finally:
                if journal.is_file:
                    journal.close()

    def _send(self, event_id: str, listener: str) -> None:
        # The sweeper itself tries again.
        self.task.apply_async((event_id, listener), retry=False)
