"""What a Celery app needs to carry deliveries: a task that makes one, and a sweeper that sends its message.

The journal remains what counts. A message is only a hint: when it is lost, the sweeper sends another one; when it comes
twice, the second finds nothing to claim.
"""

import os
from collections.abc import Callable
from typing import Any

from celery import Celery, signals

from pulp_hooks.celery.sweeper import Sweeper
from pulp_hooks.errors import JournalError
from pulp_hooks.hooks import Hooks
from pulp_hooks.outbox import open_journal
from pulp_hooks.settings.reading import read_settings
from pulp_hooks.worker.worker import Worker

TASK = "pulp_hooks.deliver"
"""Name of the task; its arguments are the event's id and the listener's name, which are the name of a delivery."""

_REFUSAL = "pulp_hooks cannot carry deliveries: "


def carry_deliveries(
    app: Celery, settings: str | os.PathLike[str] | None = None, *, resend_seconds: float = 60.0
) -> None:
    """Let the workers of a Celery app make the deliveries of a journal.

    Call it where the app is made. Every Celery worker then runs the task, and a thread that sends messages for what is
    due. Messages are persistent and confirmed by the broker, and acknowledged when the attempt is over. What a message
    asks for that nobody can claim, because it is done or at work already, is passed over.

    Args:
        app: The app.
        settings: Path of the settings file, as for `Hooks.discover`.
        resend_seconds: After so long a message counts as lost, and another one is sent.
    """
    app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), "confirm_publish": True}

    def deliver(event_id: str, listener: str) -> str | None:
        worker, sweeper = here()
        ending = worker.run_one(event_id, listener)
        sweeper.go_on(event_id, listener, was_claimed=ending is not None)
        return ending.value if ending else None

    task: Any = app.task(deliver, name=TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)

    def send(event_id: str, listener: str) -> None:
        # The sweeper itself tries again.
        task.apply_async((event_id, listener), retry=False)

    def make() -> tuple[Worker, Sweeper]:
        worker = Hooks.discover(settings).worker()
        return worker, Sweeper(worker.journal, worker.limits, send, resend_seconds)

    here = _OnePerProcess(make)
    started: list[Sweeper] = []

    def check(sender: Any = None, **_: object) -> None:  # noqa: ANN401 - as Celery calls it
        if sender.app is app:
            _check_journal(settings)

    def start(sender: Any = None, **_: object) -> None:  # noqa: ANN401 - as Celery calls it
        if sender.app is app:
            sweeper = here()[1]
            started.append(sweeper)
            sweeper.start()

    def stop(**_: object) -> None:
        while started:
            started.pop().stop()

    # Celery forgets what is connected, unless it is told to keep it.
    signals.worker_init.connect(check, weak=False)
    signals.worker_ready.connect(start, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)


def _check_journal(settings: str | os.PathLike[str] | None) -> None:
    """Refuse to start a worker that could deliver nothing: of all else Celery would only print a traceback."""
    read = read_settings(settings)
    if read.journal is None:
        raise SystemExit(_REFUSAL + "no journal is configured: add a table [journal] with a url to the settings")
    try:
        open_journal(read.journal).close()
    except JournalError as error:
        raise SystemExit(f"{_REFUSAL}{error}") from error


class _OnePerProcess:
    """Gives what was made at the first use in this process: hooks do not survive a fork."""

    def __init__(self, make: Callable[[], tuple[Worker, Sweeper]]) -> None:
        self._make = make
        self._made: tuple[int, tuple[Worker, Sweeper]] | None = None

    def __call__(self) -> tuple[Worker, Sweeper]:
        """Give it."""
        if self._made is None or self._made[0] != os.getpid():
            self._made = os.getpid(), self._make()
        return self._made[1]
