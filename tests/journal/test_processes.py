"""Tests of a journal that many processes use at once, and of processes that are killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pulp_hooks.event import Event
from pulp_hooks.journal.claim import NO_LIMITS, Limits
from pulp_hooks.journal.claims import Claims
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.listeners import Listeners
from pulp_hooks.journal.replay import Finished, Replay
from pulp_hooks.journal.results import Result
from pulp_hooks.journal.tables import State

FIRE = """
import sys
from dataclasses import replace
from pulp_hooks.event import Event
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.journal import Journal
event, journal = Event.from_json(sys.argv[2]), Journal(sys.argv[1])
for _ in range(int(sys.argv[3])):
    event = replace(event, id=new_id())
    journal.append(event, ["a", "b"])
    print(event.id, flush=True)
"""

WORK = """
import sys
from pulp_hooks.journal.claims import Claims
from pulp_hooks.journal.results import Result
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.tables import State
claims = Claims(Journal(sys.argv[1]).database)
print("ready", flush=True)
sys.stdin.readline()
while lot := claims.claim("a", 7, 60):
    late = claims.finish([Result(claim, State.DELIVERED, 1.0, 1.0, "done") for claim in lot])
    print(*[claim.event_id for claim in lot], *["late" for _ in late], flush=True)
"""


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process of its own."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_host_loses_nothing_that_append_returned(
    sqlite_url: str, tmp_path: Path, new_event: Callable[..., Event]
) -> None:
    """In 8 rounds a firing process is killed: each event it had reported is there with both deliveries."""
    acknowledged: set[str] = set()
    for place in range(8):
        with started(FIRE, sqlite_url, new_event().to_json(), "1000000") as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(0.02 * place)
            os.kill(process.pid, signal.SIGKILL)
            # The last line may be cut off in the middle.
            lines = (first + process.stdout.read()).split("\n")[:-1]
            acknowledged.update(lines)
    assert len(acknowledged) > 8
    connection = sqlite3.connect(tmp_path / "journal.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    stored = dict(connection.execute("SELECT id, content FROM event"))
    deliveries = connection.execute("SELECT event_id FROM delivery GROUP BY event_id HAVING count(*) = 2").fetchall()
    connection.close()
    assert acknowledged <= set(stored)
    assert {row[0] for row in deliveries} == set(stored)
    assert all(json.loads(content)["id"] == event_id for event_id, content in stored.items())


def test_eight_processes_append_to_one_new_file(
    sqlite_url: str, tmp_path: Path, new_event: Callable[..., Event]
) -> None:
    """All of them open and create it at once; no one is told that the database is locked."""
    processes = [started(FIRE, sqlite_url, new_event().to_json(), "100") for _ in range(8)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [errors for _output, errors in outputs] == [""] * 8
    assert [process.returncode for process in processes] == [0] * 8
    connection = sqlite3.connect(tmp_path / "journal.db")
    stored = connection.execute("SELECT id FROM event").fetchall()
    connection.close()
    assert {row[0] for row in stored} == set("".join(output for output, _errors in outputs).split())
    assert len(stored) == 800


def test_four_workers_claim_each_delivery_once(journal: Journal, url: str, new_event: Callable[..., Event]) -> None:
    """Of 600 deliveries none is claimed twice and none is left."""
    events = [new_event() for _ in range(600)]
    for event in events:
        journal.append(event, ["a"])
    processes = [started(WORK, url) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=60) for process in processes]
    assert [errors for _output, errors in outputs] == [""] * 4
    claimed = "".join(output for output, _errors in outputs).split()
    assert sorted(claimed) == sorted(event.id for event in events)


def test_commands_on_many_deliveries_and_workers_never_wait_in_a_circle(
    journal: Journal, new_event: Callable[..., Event]
) -> None:
    """While workers run, some within limits, an operator disables, enables and replays: no one fails by a deadlock."""
    for _ in range(400):
        journal.append(new_event(), ["a"])
    claims, listeners, replay = Claims(journal.database), Listeners(journal.database), Replay(journal.database)
    deadline = time.monotonic() + 2

    def work(limits: Limits = NO_LIMITS) -> None:
        claims.unsent("a", 50, 0, limits)
        lot = claims.claim("a", 50, 60, limits)
        claims.finish([Result(claim, State.WAITING, 1.0, 1.0, "again", due=time.time()) for claim in lot])

    def switch() -> None:
        listeners.disable("a", "test")
        listeners.enable("a", 1e6)

    def repeat(action: Callable[[], object]) -> int:
        times = 0
        while time.monotonic() < deadline:
            action()
            times += 1
        return times

    def work_within_limits() -> None:
        work(Limits(concurrency=100, per_second=1e6))

    workers = [work, work_within_limits, work_within_limits]
    actions = [*workers, switch, lambda: claims.dues({"a": NO_LIMITS}), lambda: replay.many(Finished("a"))]
    with ThreadPoolExecutor(len(actions)) as pool:
        assert all(pool.map(repeat, actions))
