"""Other systems beside pulp_hooks: how fast they fire and deliver, and what `kill -9` in the middle of a job loses.

Each has a program of its own here. One process fires, one event per commit or confirm; one worker does one job at a
time. All keep what was fired through a power cut, as far as the disk keeps its promises.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from benchmarks.measuring import Figure
from benchmarks.peers import job
from benchmarks.plain import plain_seconds
from benchmarks.postgresql import schema
from pulp_hooks.journal.sqlite_file import Synchronous

_FIRED = 1000
_PATIENCE_SECONDS = 45.0
_JOB_SECONDS = 3.0
_KILLED_AFTER = 0.5
_HERE = Path(__file__).parents[2]


@contextlib.contextmanager
def _queue(name: str) -> Iterator[None]:
    from benchmarks.peers.celery_rabbitmq import clean  # noqa: PLC0415 - Celery takes a while to be imported

    clean(Path(name))
    try:
        yield
    finally:
        clean(Path(name))


_SYSTEMS: dict[str, Callable[[str], AbstractContextManager[object]]] = {
    "pulp_hooks_sqlite": nullcontext,
    "pulp_hooks_postgresql": schema,
    "huey_sqlite": nullcontext,
    "celery_rabbitmq": _queue,
    "procrastinate_postgresql": schema,
    "dbos_sqlite": nullcontext,
}


def measure() -> Iterator[Figure]:
    """Measure one system after the other."""
    for system, prepared in _SYSTEMS.items():
        for measured in (_speeds, _killed):
            name = f"benchmark_{uuid.uuid4().hex}"
            try:
                with tempfile.TemporaryDirectory() as parent, prepared(name):
                    folder = Path(parent) / name
                    folder.mkdir()
                    yield from measured(system, folder)
            except OSError as error:
                yield Figure(f"{system}: {measured.__name__.strip('_')}", f"no server: {type(error).__name__}")


def _speeds(system: str, folder: Path) -> Iterator[Figure]:
    floor = plain_seconds(job.content().encode(), Synchronous.FULL, _FIRED)
    fired = float(_run(system, folder, "fire", _FIRED).communicate()[0].splitlines()[-1]) / (_FIRED - 1)
    yield _speed(f"{system}: fire", fired, floor)
    done = folder / job.DONE
    with _working(system, folder):
        _until(lambda: _size(done) > 0)
        began, first = time.perf_counter(), _size(done)
        _until(lambda: _size(done) >= _FIRED)
        delivered = (time.perf_counter() - began) / (_FIRED - first)
    yield _speed(f"{system}: deliver", delivered, floor)


def _speed(what: str, seconds: float, floor: float) -> Figure:
    return Figure(f"{what}, one second; / INSERT and COMMIT", f"{1 / seconds:,.0f}; {floor / seconds:.3f} x")


def _killed(system: str, folder: Path) -> Iterator[Figure]:
    _run(system, folder, "fire", 1).communicate()
    begun = folder / job.BEGUN
    with _working(system, folder, JOB_SECONDS=str(_JOB_SECONDS)):
        _until(lambda: _size(begun) > 0)
        time.sleep(_KILLED_AFTER)
    killed = time.perf_counter()
    with _working(system, folder, JOB_SECONDS=str(_JOB_SECONDS)):
        _until(lambda: _size(begun) > 1, _PATIENCE_SECONDS)
        again = time.perf_counter() - killed
    shown = f"after {again:.1f} s" if _size(begun) > 1 else f"not in {_PATIENCE_SECONDS:.0f} s"
    yield Figure(f"{system}: a job in whose midst the worker is killed is begun again", shown)


@contextlib.contextmanager
def _working(system: str, folder: Path, **variables: str) -> Iterator[None]:
    """Run a worker during a block, and kill it afterwards with all that it has started."""
    worker = _run(system, folder, "work", **variables)
    try:
        yield
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.communicate()


def _run(system: str, folder: Path, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
    command, *rest = map(str, arguments)
    with (folder / "log").open("a") as log:
        return subprocess.Popen(  # noqa: S603 - this Python, with a program of this folder
            [sys.executable, "-m", f"{__name__}.{system}", command, str(folder), *rest],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_HERE), "PYTHONWARNINGS": "ignore", **variables},
            stdout=subprocess.PIPE if command == "fire" else log,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until something holds, or the time is over."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
