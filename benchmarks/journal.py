"""The journal beside plain sqlite3: firing into it, delivering from it, many processes at once, and a million rows."""

import contextlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy.exc import OperationalError

from benchmarks.measuring import Figure, at_least, at_most
from benchmarks.plain import insert, plain
from benchmarks.postgresql import schema
from pulp_hooks import EventType, Hooks, hookimpl
from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.journal.claims import Result
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.schema import State
from pulp_hooks.journal.sqlite_file import Synchronous

_BODIES = {
    EventType.REPO_SYNC_STARTED: EXAMPLES[EventType.REPO_SYNC_STARTED],
    EventType.REPO_SYNC_FINISHED: EXAMPLES[EventType.REPO_SYNC_FINISHED] | {"details": {"log": "x" * 512}},
}
_ROUNDS = 5
_EVENTS = 4000
_P99_MS = 25
_LONGEST_MS = 2000

_FIRING = """
import sys, time
from pulp_hooks import EventType, Hooks, hookimpl

class Desk:
    @hookimpl
    def repo_sync_started(self): pass

with Hooks({"Desk": Desk()}, journal=sys.argv[1]) as hooks:
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        began = time.perf_counter()
        hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})
        print(time.perf_counter() - began)
"""

_PLAIN_FIRING = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
connection.execute("PRAGMA synchronous = NORMAL")
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO event VALUES (?)", (b"x" * 260,))
    connection.execute("COMMIT")
    print(time.perf_counter() - began)
"""

_WORKING = """
import sys, time
from pulp_hooks import Hooks, hookimpl

class Desk:
    @hookimpl
    def repo_sync_started(self): time.sleep(0.01)

with Hooks({"Desk": Desk()}, journal=sys.argv[1]) as hooks:
    worker = hooks.worker(threads_per_listener=1)
    print("ready", flush=True)
    sys.stdin.readline()
    worker.run_once()
"""


class Listener:
    """A listener that does nothing."""

    @hookimpl
    def repo_sync_started(self) -> None:
        """Do nothing."""

    @hookimpl
    def repo_sync_finished(self) -> None:
        """Do nothing."""


def measure() -> Iterator[Figure]:
    """Measure the journal."""
    for synchronous in Synchronous:
        for event_type in _BODIES:
            yield from _fire_and_deliver(event_type, synchronous)
    yield from _processes()
    yield from _a_million()
    yield from _workers()


def _fire_and_deliver(event_type: EventType, synchronous: Synchronous) -> Iterator[Figure]:
    """Fire and deliver one event at a time, beside plain INSERT and COMMIT of the same bytes in the same rounds."""
    fired, delivered = [], []
    body = _BODIES[event_type]
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(f"sqlite:///{folder}/journal.db", synchronous=synchronous)
        hooks = Hooks({"Listener": Listener()}, journal=journal)
        content = hooks.fire(event_type, body).event.to_json().encode()
        floors = plain(Path(folder) / "plain.db", synchronous)
        for _ in range(_ROUNDS):
            floor = _seconds(lambda: insert(floors, content))
            fired.append(floor / _seconds(lambda: hooks.fire(event_type, body)))
            worker = hooks.worker(threads_per_listener=1)
            began = time.perf_counter()
            worker.run_once()
            delivered.append(floor * worker.tally.total() / (time.perf_counter() - began))
        floors.close()
        hooks.close()
        journal.close()
    what = f"{event_type} of {len(content)} bytes, {synchronous}"
    fire_bar = {Synchronous.NORMAL: 0.2, Synchronous.FULL: 0.6}[synchronous]
    for done, ratios, bar in (("fire", fired, fire_bar), ("deliver", delivered, 0.2)):
        yield at_least(f"{done} {what} / INSERT and COMMIT", statistics.median(ratios), bar)


def _seconds(action: Callable[[], object]) -> float:
    """Return how long one of many takes."""
    began = time.perf_counter()
    for _ in range(_EVENTS):
        action()
    return (time.perf_counter() - began) / _EVENTS


def _processes() -> Iterator[Figure]:
    """Fire in 8 processes at one file, and insert in 8 processes into another one."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(f"sqlite:///{folder}/journal.db")
        journal.open()
        journal.close()
        floors = plain(Path(folder) / "plain.db", Synchronous.NORMAL)
        for what, code, target in (
            ("fire", _FIRING, f"sqlite:///{folder}/journal.db"),
            ("INSERT and COMMIT", _PLAIN_FIRING, f"{folder}/plain.db"),
        ):
            times, failed = _together(code, target, 8, 1000)
            p50, p99, most = (times[int(len(times) * part)] * 1000 for part in (0.5, 0.99, 0.999999))
            shown = f"{p50:.2f}, {p99:.1f}, {most:.0f} ms, {failed} failed"
            bar = what == "fire"
            yield Figure(
                f"8 processes: {what}: p50, p99, longest",
                shown,
                f"<= {_P99_MS} ms" if bar else "",
                not bar or (p99 <= _P99_MS and most <= _LONGEST_MS and not failed),
            )
        floors.close()


def _together(code: str, target: str, number: int, events: int) -> tuple[list[float], int]:
    """Run a program in several processes at the same time; give the times that they print, sorted."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(  # noqa: S603 - this Python, with a program of this file
                    [sys.executable, "-c", code, target, str(events)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for _ in range(number)
        ]
        time.sleep(2)
        _let_go(processes)
        times = sorted(float(line) for process in processes for line in process.communicate()[0].splitlines())
    return times, sum(process.returncode != 0 for process in processes)


def _let_go(processes: list["subprocess.Popen[str]"]) -> None:
    """Let programs that wait for a line begin."""
    for process in processes:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        process.stdin.write("\n")
        process.stdin.flush()


def _a_million() -> Iterator[Figure]:
    """Claim and finish among a thousand stored deliveries, and among a million, most of which are finished or wait."""
    with tempfile.TemporaryDirectory() as folder:
        costs = {}
        for stored in (1000, 1_000_000):
            journal = Journal(f"sqlite:///{folder}/{stored}.db")
            _fill(journal, Path(folder) / f"{stored}.db", stored)
            costs[stored] = _claim_and_finish(journal)
            journal.close()
    yield at_most("claim and finish, 1,000,000 stored deliveries / 1,000", costs[1_000_000] / costs[1000], 1.5)


def _fill(journal: Journal, path: Path, stored: int) -> None:
    journal.open()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        numbers = range(1, stored + 1)
        connection.executemany(
            "INSERT INTO pulp_hooks_event (number, id, type, time, repo_id, content)"
            " VALUES (?, ?, 'repo-sync-started', ?, x'7a6f6f', ?)",
            ((n, f"old-{n:08}", float(n), b"x" * 260) for n in numbers),
        )
        connection.executemany(
            "INSERT INTO pulp_hooks_delivery (event, listener, state, due, step, attempts, created, finished)"
            " VALUES (?, 'Listener', ?, ?, 1, 1, ?, ?)",
            (
                (n, "retrying", 4e9 + n, float(n), None)
                if n % 3 == 0
                else (n, ("delivered", "dead")[n % 2], None, float(n), float(n))
                for n in numbers
            ),
        )
        connection.commit()


def _claim_and_finish(journal: Journal) -> float:
    """Return the median seconds of claiming and finishing 50 deliveries."""
    hooks, claims, seconds = Hooks({"Listener": Listener()}, journal=journal), journal.queue, []
    for _ in range(40):
        for _ in range(50):
            hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})
        began = time.perf_counter()
        claimed = claims.claim("Listener", 50, 60)
        claims.finish([Result(claim, State.DELIVERED, began, 0.0, "succeeded") for claim in claimed])
        seconds.append(time.perf_counter() - began)
    hooks.close()
    return statistics.median(seconds)


def _workers() -> Iterator[Figure]:
    """Deliver on PostgreSQL to a listener that waits 10 ms, with one worker process of one thread and with four."""
    what = "PostgreSQL, a listener of 10 ms: 4 workers of one thread / 1"
    seconds = {}
    try:
        for number in (1, 4):
            with schema(f"benchmark_{uuid.uuid4().hex}") as url:
                hooks = Hooks({"Desk": Listener()}, journal=url)
                for _ in range(1600):
                    hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})
                hooks.close()
                seconds[number] = _worked(url, number)
    except OperationalError as error:
        yield Figure(what, f"no server: {type(error).__name__}")
        return
    yield at_least(what, seconds[1] / seconds[4], 3.5)


def _worked(url: str, number: int) -> float:
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(  # noqa: S603 - this Python, with a program of this file
                    [sys.executable, "-c", _WORKING, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(number)
        ]
        for process in processes:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            process.stdout.readline()
        began = time.perf_counter()
        _let_go(processes)
        for process in processes:
            process.wait()
        return time.perf_counter() - began
