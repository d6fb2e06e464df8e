"""What a Celery app needs to carry deliveries: a task that makes one, and a sweeper that sends its message.

The journal remains what counts. A message is only a hint: when it is lost, the sweeper sends another one; when it comes
twice, the second finds nothing to claim.
"""

import os
from typing import Any

from celery import Celery, signals

from pulp_hooks.celery.sweeper import Sweeper
from pulp_hooks.hooks import Hooks
from pulp_hooks.worker.worker import Worker

TASK = "pulp_hooks.deliver"
"""Name of the task; its arguments are the event's id and the listener's name, which are the name of a delivery."""


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
    workers = _OnePerProcess(settings)
    sweepers: list[Sweeper] = []

    def deliver(event_id: str, listener: str) -> str | None:
        ending = workers.here().run_one(event_id, listener)
        return ending.value if ending else None

    task: Any = app.task(deliver, name=TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)

    def send(event_id: str, listener: str) -> None:
        # The sweeper itself tries again.
        task.apply_async((event_id, listener), retry=False)

    def start(sender: Any = None, **_: object) -> None:  # noqa: ANN401 - as Celery calls it
        if sender.app is app:
            worker = workers.here()
            sweepers.append(Sweeper(worker.journal, worker.limits, send, resend_seconds))
            sweepers[-1].start()

    def stop(**_: object) -> None:
        while sweepers:
            sweepers.pop().stop()

    # Celery forgets what is connected, unless it is told to keep it.
    signals.worker_ready.connect(start, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)


class _OnePerProcess:
    """Makes the hooks and their worker at the first use in each process: neither survives a fork."""

    def __init__(self, settings: str | os.PathLike[str] | None) -> None:
        self._settings = settings
        self._made: tuple[int, Worker] | None = None

    def here(self) -> Worker:
        """Give the worker of this process."""
        if self._made is None or self._made[0] != os.getpid():
            self._made = os.getpid(), Hooks.discover(self._settings).worker()
        return self._made[1]
