"""Celery on RabbitMQ: confirmed by the broker, acknowledged late."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from benchmarks.peers import job

URL = "amqp://guest:guest@127.0.0.1:5672//"
app = Celery("peer", broker=URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
)


do: Any = app.task(job.do, name="peer.do")


def use(folder: Path) -> None:
    """Take a queue that is this folder's own."""
    app.conf.task_default_queue = f"benchmark-{folder.name}"


@contextmanager
def firing(folder: Path) -> Iterator[Callable[[str], object]]:
    """Yield what fires."""
    use(folder)
    yield do.delay


def work(folder: Path) -> None:
    """Work."""
    use(folder)
    app.worker_main(["worker", "--concurrency=1", "--loglevel=ERROR", "--without-gossip", "--without-mingle"])


def clean(folder: Path) -> None:
    """Delete the queue."""
    with app.connection() as connection, connection.channel() as channel:
        channel.queue_delete(f"benchmark-{folder.name}")


if __name__ == "__main__":
    job.run(firing, work)
