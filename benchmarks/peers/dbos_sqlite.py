"""DBOS on SQLite, every commit waiting for the disk."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dbos import DBOS, DBOSClient

from benchmarks.peers import job

_URL = "sqlite:///dbos.db"
_QUEUE = "peer"


@DBOS.workflow(name="do")
def do(content: str) -> None:
    """Do the job."""
    job.do(content)


@contextmanager
def firing(_: Path) -> Iterator[Callable[[str], object]]:
    """Yield what fires."""
    launch()
    DBOS.destroy()
    client = DBOSClient(system_database_url=_URL)
    yield lambda content: client.enqueue({"queue_name": _QUEUE, "workflow_name": "do"}, content)
    client.destroy()


def work(_: Path) -> None:
    """Work."""
    launch()
    threading.Event().wait()


def launch() -> None:
    """Create the tables where there are none, and begin to work."""
    DBOS(config={"name": "peer", "system_database_url": _URL, "log_level": "ERROR"})
    DBOS.launch()
    DBOS.register_queue(_QUEUE, worker_concurrency=1, polling_interval_sec=0.01)


if __name__ == "__main__":
    job.run(firing, work)
