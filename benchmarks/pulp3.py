"""The watcher on 16 simulated Pulp 3 servers of 1,400 repositories, each synced and published every ten minutes.

`python -m benchmarks.pulp3 MINUTES SERVERS` measures another slice of the day than `python -m benchmarks pulp3` does.
"""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import urllib3

from benchmarks.measuring import Figure, show
from benchmarks.simulated_pulp.__main__ import PASSWORD, USER
from benchmarks.simulated_pulp.ledger import Ledger
from benchmarks.simulated_pulp.tasks import LIFETIME, SECOND, SERVERS, SKEW, Fleet, numbered
from benchmarks.simulated_pulp.watching import watch
from pulp_hooks.event import Event, read_stored

_SEED, _FAULTS = 11, 0.01
_SLICE_MINUTES = 12
_INTERVAL = 5
_RESTART = 600 * SECOND
_SINCE_SECONDS = 300
"""How far back the watcher begins, so that it knows most repositories when it is measured."""

_WARM_UP_SECONDS, _MEASURED_SECONDS = 300, 90
_MIB = 2**20
_LOOK_UPS = {"repositories", "remotes", "publications"}


def measure() -> Iterator[Figure]:
    """Measure a slice of a day in simulated time, and some minutes in real time."""
    yield from slice_of_a_day(_SLICE_MINUTES, SERVERS)
    yield from real_time()


def slice_of_a_day(minutes: int, servers: int) -> Iterator[Figure]:
    """Compare the events that were fired with those that were due, over a slice in simulated time."""
    with tempfile.TemporaryDirectory() as folder:
        watched = watch(_SEED, servers, minutes * 60 * SECOND, _FAULTS, _RESTART, Path(folder))
    what = f"pulp3: {minutes} simulated minutes of {servers} servers,"
    ledgers = [one.ledger for one in watched]
    restarts, events = sum(one.restarts for one in watched), sum(one.events for one in ledgers)
    yield _none(f"{what} {restarts} restarts: lost of {events:,} events", sum(one.lost for one in ledgers))
    yield _none(f"{what} events stored twice, or not due", sum(one.surplus for one in ledgers))
    yield _none(f"{what} tasks with events out of order", sum(one.disordered for one in ledgers))
    yield _none(f"{what} fired twice by one process", sum(one.repeated for one in watched))
    dropped = sum(one.dropped for one in watched)
    yield Figure(f"{what} fired again after a kill, and dropped by the journal", f"{dropped:,}")
    requests, looks = sum((one.client.requests for one in watched), Counter[str]()), sum(one.looks for one in watched)
    others = sum(number for path, number in requests.items() if path not in _LOOK_UPS) / looks
    yield Figure(f"{what} requests per look besides look-ups", f"{others:.2f}", "<= 1.1", others <= 1.1)  # noqa: PLR2004 - the bar
    yield Figure(f"{what} look-ups per look", f"{requests.total() / looks - others:.2f}")


def real_time() -> Iterator[Figure]:
    """Measure the command beside the servers, each in a process of its own, over HTTP on loopback."""
    with tempfile.TemporaryDirectory() as name, _servers() as (fleet, urls):
        folder = Path(name)
        (folder / "pulp-hooks.toml").write_text(_settings(urls), encoding="ascii")
        since = datetime.now(UTC).timestamp() - _SINCE_SECONDS
        environment = os.environ | {"PULP_PASSWORD": PASSWORD}
        command = [str(shutil.which("pulp-hooks")), "watch", "--since", datetime.fromtimestamp(since, UTC).isoformat()]
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log, env=environment) as process,  # noqa: S603 - our own code
        ):
            try:
                warm_up = _warm_up(folder, process)
                begin, requests = _Usage.of(process.pid), _requests(urls)
                samples = []
                for _ in range(_MEASURED_SECONDS):
                    time.sleep(1)
                    samples.append(_memory(process.pid))
                end, requests = _Usage.of(process.pid), _requests(urls) - requests
            finally:
                process.terminate()
        events = _events(folder)
    seconds = end.time - begin.time
    share = (end.cpu - begin.cpu) / seconds
    what = f"pulp3: {seconds:.0f} s of {SERVERS} servers in real time,"
    yield Figure(f"{what} seconds to catch up with {_SINCE_SECONDS}", f"{warm_up:.0f} s")
    yield Figure(f"{what} CPU of the watcher, of one core", f"{share:.1%}", "<= 25 %", share <= 0.25)  # noqa: PLR2004 - the bar
    most = max(samples) / _MIB
    yield Figure(f"{what} most memory", f"{most:.0f} MiB", "<= 150 MiB", most <= 150)  # noqa: PLR2004 - the bar
    third = len(samples) // 3
    growth = statistics.mean(samples[-third:]) / statistics.mean(samples[:third]) - 1
    yield Figure(f"{what} growth of memory", f"{growth:+.1%}", "<= 5 %", growth <= 0.05)  # noqa: PLR2004 - the bar
    others = sum(number for path, number in requests.items() if path not in _LOOK_UPS) / (seconds / _INTERVAL) / SERVERS
    yield Figure(f"{what} requests per tick and server besides look-ups", f"{others:.2f}", "<= 1.1", others <= 1.1)  # noqa: PLR2004 - the bar
    yield Figure(
        f"{what} look-ups per tick and server", f"{requests.total() / (seconds / _INTERVAL) / SERVERS - others:.2f}"
    )
    taken = sorted(_seconds_taken(fleet, events, begin.time, end.time))
    p99 = taken[int(len(taken) * 0.99)]
    yield Figure(f"{what} p99 from task end to event", f"{p99:.1f} s", f"<= {_INTERVAL + 1} s", p99 <= _INTERVAL + 1)
    yield Figure(f"{what} median from task end to event", f"{statistics.median(taken):.1f} s")
    ledgers = _compared(fleet, events, int(since * SECOND), int(end.time * SECOND) - 2 * LIFETIME)
    total = sum(one.events for one in ledgers)
    yield _none(f"{what} lost of {total:,} events", sum(one.lost for one in ledgers))
    yield _none(f"{what} events stored twice, or not due", sum(one.surplus for one in ledgers))


class _Usage(NamedTuple):
    """What a process has used.

    Attributes:
        time: When, in seconds since 1970.
        cpu: Seconds of CPU.
    """

    time: float
    cpu: float

    @classmethod
    def of(cls, pid: int) -> "_Usage":
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return cls(time.time(), (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"))


def _memory(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _servers() -> Iterator[tuple[Fleet, list[str]]]:
    """Start the servers; yield their tasks and URLs."""
    command = [sys.executable, "-m", "benchmarks.simulated_pulp", str(_SEED), str(_FAULTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            started = json.loads(process.stdout.readline())
            yield Fleet(_SEED, started["start"]), started["urls"]
        finally:
            process.kill()


def _settings(urls: Sequence[str]) -> str:
    """Return settings with a journal, a webhook that is never sent, and all servers."""
    journal = '[journal]\nurl = "sqlite:///journal.db"\n'
    listener = '[[listeners]]\nname = "web"\nnotifier = "http"\nconfig = { url = "https://pulp.example.org/hook" }\n'
    user = f'username = "{USER}"\npassword = {{ env = "PULP_PASSWORD" }}\ninterval_seconds = {_INTERVAL}\n'
    servers = [f'[[pulp]]\nname = "pulp{number:02}"\nurl = "{url}"\n{user}' for number, url in enumerate(urls)]
    return "\n".join([journal, listener, *servers])


def _warm_up(folder: Path, process: subprocess.Popen[bytes]) -> float:
    """Wait until the watcher has caught up with all servers; return the seconds that it took."""
    began = time.time()
    while time.time() < began + _WARM_UP_SECONDS and process.poll() is None:
        time.sleep(1)
        states = [json.loads(path.read_bytes()) for path in (folder / "pulp-hooks-watch").glob("*.json")]
        cursors = [datetime.fromisoformat(state["cursor"]).timestamp() for state in states]
        if len(cursors) == SERVERS and min(cursors) > time.time() - 2 * _INTERVAL:
            return time.time() - began
    raise RuntimeError((folder / "log").read_text(encoding="utf-8"))


def _requests(urls: Sequence[str]) -> Counter[str]:
    """Return the number of requests so far, by the first part of their path."""
    return sum((Counter(urllib3.request("GET", f"{url}/requests").json()) for url in urls), Counter[str]())


def _events(folder: Path) -> list[Event]:
    """Return the events in the journal, in the order in which they were fired."""
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        rows = connection.execute("SELECT content FROM pulp_hooks_event ORDER BY number")
        return [read_stored(content) for (content,) in rows]


def _seconds_taken(fleet: Fleet, events: Sequence[Event], begin: float, end: float) -> Iterator[float]:
    """Yield the seconds from the end of each task within a time to its finished event."""
    for event in events:
        assert event.operation_id is not None  # noqa: S101 - the watcher sets it
        task = fleet.task(_server(event.operation_id), numbered(event.operation_id.partition(":")[0]))
        if "result" in event.body and begin <= task.committed / SECOND <= end - 4 * _INTERVAL:
            yield event.time.timestamp() - task.committed / SECOND


def _compared(fleet: Fleet, events: Sequence[Event], since: int, until: int) -> list[Ledger]:
    # A task that ended at the beginning is seen, or not, by the clock of its worker.
    ledgers = [Ledger(fleet, number, since - 4 * SKEW, since + 4 * SKEW) for number in range(SERVERS)]
    for event in events:
        assert event.operation_id is not None  # noqa: S101 - the watcher sets it
        result = str(event.body.get("result", ""))
        ledgers[_server(event.operation_id)].add(
            event.id, event.operation_id, event.type, str(event.body["repo_id"]), result
        )
    for ledger in ledgers:
        ledger.compare(until)
    return ledgers


def _server(operation_id: str) -> int:
    """Return the number of the server in an identifier of the simulation."""
    return int(operation_id[20:23], 16)


def _none(what: str, number: int) -> Figure:
    return Figure(what, f"{number:,}", "<= 0", number == 0)


if __name__ == "__main__":
    sys.exit(bool(show(slice_of_a_day(*map(int, sys.argv[1:])))))
