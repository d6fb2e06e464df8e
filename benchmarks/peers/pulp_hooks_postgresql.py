"""pulp_hooks on PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import job
from benchmarks.peers.pulp_hooks_both import firing_into, work_on
from benchmarks.postgresql import url_of


@contextmanager
def firing(folder: Path) -> Iterator[Callable[[str], object]]:
    """Yield what fires."""
    with firing_into(url_of(folder.name)) as fire:
        yield fire


def work(folder: Path) -> None:
    """Work."""
    work_on(url_of(folder.name))


if __name__ == "__main__":
    job.run(firing, work)
