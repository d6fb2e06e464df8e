"""pulp_hooks on SQLite, every commit waiting for the disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import job
from benchmarks.peers.pulp_hooks_both import firing_into, work_on

_URL = "sqlite:///journal.db"


@contextmanager
def firing(_: Path) -> Iterator[Callable[[str], object]]:
    """Yield what fires."""
    with firing_into(_URL) as fire:
        yield fire


def work(_: Path) -> None:
    """Work."""
    work_on(_URL)


if __name__ == "__main__":
    job.run(firing, work)
