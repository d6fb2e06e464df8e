"""Huey on SQLite, every commit waiting for the disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huey import SqliteHuey

from benchmarks.peers import job

huey = SqliteHuey(filename="huey.db", fsync=True)


do: Any = huey.task()(job.do)


@contextmanager
def firing(_: Path) -> Iterator[Callable[[str], object]]:
    """Yield what fires."""
    yield do


def work(_: Path) -> None:
    """Work."""
    huey.create_consumer(workers=1, periodic=False, max_delay=0.1).run()


if __name__ == "__main__":
    job.run(firing, work)
