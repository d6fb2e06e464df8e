"""Procrastinate on PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks.peers import job
from benchmarks.postgresql import url_of


def app_of(connector: type[PsycopgConnector | SyncPsycopgConnector], folder: Path) -> App:
    """Return an app that has a schema of its own, with the job as its task."""
    app = App(connector=connector(conninfo=url_of(folder.name)))
    app.task(name="do")(job.do)
    return app


@contextmanager
def firing(folder: Path) -> Iterator[Callable[[str], object]]:
    """Yield what fires."""
    with app_of(SyncPsycopgConnector, folder).open() as app:
        app.schema_manager.apply_schema()
        task = app.configure_task("do")
        yield lambda content: task.defer(content=content)


def work(folder: Path) -> None:
    """Work."""
    app_of(PsycopgConnector, folder).run_worker(concurrency=1)


if __name__ == "__main__":
    job.run(firing, work)
