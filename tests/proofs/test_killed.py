"""What dies loses nothing: hosts and workers are killed without a word, at moments that nobody has chosen."""

import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, select

from pulp_hooks.journal import schema
from pulp_hooks.worker.attempts import MOST_LOST
from tests.proofs.conftest import Start, kill, until

ROUNDS = 25

FIRE = """
import sys
from pulp_hooks import Hooks, hookimpl

class Desk:
    @hookimpl
    def repo_sync_started(self, body): pass

class Board(Desk): pass

with Hooks({"Desk": Desk(), "Board": Board()}, journal=sys.argv[1]) as hooks:
    for number in range(int(sys.argv[2])):
        event = hooks.repo_sync_started(repo_id=f"r-{number % 7}").event
        print(event.id, flush=True)
"""

WORK = """
import os, signal, sys, time
import pulp_hooks.worker.worker as module
from pulp_hooks import DeliverySettings, Hooks, Settings, hookimpl

url, calls, seconds, dies, slack, threads = sys.argv[1:]
module.SLACK_SECONDS = float(slack)

class Desk:
    @hookimpl
    def repo_sync_started(self, event):
        with open(calls, "a") as file:
            file.write(f"{event.id} {time.time()}\\n")
        time.sleep(float(seconds))
        if dies == "behind":
            os.kill(os.getpid(), signal.SIGKILL)

class Board(Desk): pass

listeners = {"Desk": Desk()} if dies != "both" else {"Desk": Desk(), "Board": Board()}
settings = Settings(delivery=DeliverySettings(timeout_seconds=1.0))
with Hooks(listeners, settings=settings, journal=url) as hooks:
    print("ready", flush=True)
    with hooks.worker(threads_per_listener=int(threads)):
        time.sleep(120)
"""


POISONED = WORK.replace(
    "        time.sleep(float(seconds))\n",
    "        if event.body['repo_id'] == 'r-3':\n            os._exit(9)\n",
).replace("timeout_seconds=1.0", "timeout_seconds=0.5, retry_seconds=()")


def calls(file: Path) -> list[tuple[str, float]]:
    """Return id and time of each call of the listener."""
    if not file.exists():
        return []
    return [(line.split()[0], float(line.split()[1])) for line in file.read_text().splitlines()]


def states(url: str) -> Counter[str]:
    """Count the deliveries by their states."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = Counter(connection.execute(select(schema.delivery.c.state)).scalars())
    engine.dispose()
    return found


def test_killed_host_loses_no_event_that_fire_returned(sqlite_url: str, tmp_path: Path, start: Start) -> None:
    """In 25 rounds a firing process is killed: each event that it reported is there with both deliveries."""
    reported: set[str] = set()
    for place in range(ROUNDS):
        host = start(FIRE, sqlite_url, 1_000_000)
        assert host.stdout is not None
        reported.add(host.stdout.readline().strip())
        time.sleep(random.Random(place).uniform(0, 0.15))  # noqa: S311 - any moment will do
        kill(host)
        reported |= {line.strip() for line in host.stdout if line.endswith("\n")}
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = {event_id for (event_id,) in connection.execute("SELECT id FROM pulp_hooks_event")}
        complete = {
            event_id
            for (event_id,) in connection.execute(
                "SELECT id FROM pulp_hooks_event JOIN pulp_hooks_delivery ON event = number"
                " WHERE state = 'pending' GROUP BY id HAVING count(*) = 2"
            )
        }
    assert len(reported) > 10 * ROUNDS
    assert reported - stored == set()
    assert stored == complete


def test_delivery_of_a_killed_worker_is_made_again_when_its_lease_ends(url: str, tmp_path: Path, start: Start) -> None:
    """Killed in mid-attempt, with another worker there: the second attempt comes within the lease and 2 seconds."""
    lease = 3.0
    host = start(FIRE, url, 1)
    host.wait()
    file = tmp_path / "calls"
    first = start(WORK, url, file, 60, "never", lease - 1.0, 1)
    until(lambda: calls(file))
    kill(first)
    start(WORK, url, file, 0, "never", lease - 1.0, 1)
    until(lambda: states(url)["delivered"] == 1)
    (one, claimed), (again, repeated) = calls(file)
    assert one == again
    assert lease - 1.0 < repeated - claimed < lease + 2.0


def test_worker_killed_behind_a_success_delivers_again_with_the_same_id(url: str, tmp_path: Path, start: Start) -> None:
    """What was not recorded is made a second time: at least once, and a receiver can tell by the event's id."""
    host = start(FIRE, url, 1)
    host.wait()
    file = tmp_path / "calls"
    first = start(WORK, url, file, 0, "behind", 0.5, 1)
    first.wait()
    assert states(url)["delivered"] == 0
    start(WORK, url, file, 0, "never", 0.5, 1)
    until(lambda: states(url)["delivered"] == 1)
    assert len({event_id for event_id, _ in calls(file)}) == 1
    assert len(calls(file)) == 2


def test_workers_killed_again_and_again_leave_nothing_behind(sqlite_url: str, tmp_path: Path, start: Start) -> None:
    """Hosts fire and workers are killed at any moment; in the end every delivery is made, none is stuck."""
    hosts = [start(FIRE, sqlite_url, 150) for _ in range(2)]
    file = tmp_path / "calls"
    for place in range(6):
        worker = start(WORK, sqlite_url, file, 0.002, "both", 0.2, 3)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(random.Random(place).uniform(0.05, 0.4))  # noqa: S311 - any moment will do
        kill(worker)
    for host in hosts:
        host.wait()
    start(WORK, sqlite_url, file, 0, "both", 0.2, 3)
    until(lambda: states(sqlite_url) == {"delivered": 600})
    assert len({event_id for event_id, _ in calls(file)}) == 300


def test_event_that_ends_every_worker_is_given_up_and_harms_no_other(url: str, tmp_path: Path, start: Start) -> None:
    """What dies of it is started again and again: the others are delivered once, and it is dead in the end."""
    start(FIRE.replace(', "Board": Board()', ""), url, 14).wait()
    file = tmp_path / "calls"
    deaths = 0
    while states(url)["pending"]:
        worker = start(POISONED, url, file, 0, "never", 0.1, 2)
        until(lambda worker=worker: worker.poll() is not None or not states(url)["pending"])  # type: ignore[misc]
        deaths += worker.poll() == 9
        kill(worker)
    assert states(url) == {"delivered": 12, "dead": 2}
    assert max(Counter(event_id for event_id, _ in calls(file)).values()) <= 1 + MOST_LOST
    assert MOST_LOST < deaths < 2 * (2 + MOST_LOST)
