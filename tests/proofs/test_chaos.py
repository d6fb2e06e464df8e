"""Chaos on one SQLite file: hosts, their own engines, forks, commands and workers that come, go and are killed."""

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from pulp_hooks.journal.journal import Journal
from tests.proofs.conftest import Start, start

__all__ = ["start"]

SECONDS = 60.0

HOST = """
import os, random, sys, time
from sqlalchemy import create_engine, text
from pulp_hooks import Hooks, JournalError, hookimpl
from pulp_hooks.identifiers import new_id

url, ledger = sys.argv[1:]

class Desk:
    @hookimpl
    def repo_sync_started(self): pass

class Shelf:
    @hookimpl
    def repo_sync_started(self): pass

LISTENERS = {"Desk": Desk(), "Shelf": Shelf()}

book = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, name):
    os.write(book, f"{what} {name}\\n".encode())

def fire(hooks, **options):
    name = new_id()
    note("fires", name)
    try:
        hooks.repo_sync_started(repo_id=f"zoo-{random.randrange(5)}", event_id=name, **options)
    except JournalError as error:
        note("refused", f"{name} {error}")
    else:
        if not options:
            note("accepted", name)
    return name

def host():
    first, second = Hooks(LISTENERS, journal=url), Hooks(LISTENERS, journal=url)
    own = create_engine(url)
    while True:
        fire(first)
        fire(second)
        with own.begin() as connection:
            name = fire(first, connection=connection)
            connection.execute(text("INSERT INTO host VALUES (:name)"), {"name": name})
        note("accepted", name)
        if random.random() < 0.05:
            # SQLite's locks do not survive a fork: a host closes its hooks and its own engine before.
            for opened in (first, second):
                opened.close()
            own.dispose()
            child = os.fork()
            if not child:
                with Hooks(LISTENERS, journal=url) as hooks:
                    for _ in range(5):
                        fire(hooks)
                os._exit(0)
            first, second = Hooks(LISTENERS, journal=url), Hooks(LISTENERS, journal=url)
            own = create_engine(url)
            os.waitpid(child, 0)
        if random.random() < 0.1:
            first.close()
            first = Hooks(LISTENERS, journal=url)

host()
"""

WORKER = """
import sys
from pulp_hooks import Hooks, hookimpl

class Desk:
    @hookimpl
    def repo_sync_started(self): pass

class Shelf:
    @hookimpl
    def repo_sync_started(self): pass

with Hooks({"Desk": Desk(), "Shelf": Shelf()}, journal=sys.argv[1]) as hooks:
    hooks.worker().run()
"""

COMMAND = """
import os, sys
from pulp_hooks.cli import cli
sys.stdout = open(os.devnull, "w")
while True:
    for name in ("stats", "events", "deliveries", "check"):
        cli([name, "--settings", sys.argv[1]], standalone_mode=False)
"""


def test_nothing_accepted_is_lost_in_a_minute_of_chaos(sqlite_url: str, tmp_path: Path, start: Start) -> None:
    """Every accepted event is stored with both deliveries, the host's rows with their events, and the file is sound."""
    database, ledger, settings = tmp_path / "journal.db", tmp_path / "ledger", tmp_path / "pulp-hooks.toml"
    settings.write_text(f'[journal]\nurl = "{sqlite_url}"\n')
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE host (name TEXT PRIMARY KEY)")
    # A command that came before the first host would end, as there is no journal yet.
    journal = Journal(sqlite_url)
    journal.backend.open()
    journal.close()
    programs: list[tuple[object, ...]] = [(HOST, sqlite_url, ledger)] * 2
    programs += [(WORKER, sqlite_url), (COMMAND, settings)]
    processes = [start(*map(str, program)) for program in programs]
    chance = random.Random(7)  # noqa: S311 - the same chaos in each run
    kills = Counter[int]()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(0.2, 1.5))
        place = chance.randrange(len(processes))
        assert processes[place].poll() is None, "a process has ended by itself"
        _kill(processes[place])
        processes[place] = start(*map(str, programs[place]))
        kills[place] += 1
    for process in processes:
        _kill(process)

    noted: dict[str, set[str]] = {"fires": set(), "accepted": set(), "refused": set()}
    for line in ledger.read_text().splitlines():
        what, name, *why = line.split(" ", 2)
        assert what != "refused", why
        noted[what].add(name)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        stored = {name for (name,) in connection.execute("SELECT id FROM pulp_hooks_event")}
        hosts = {name for (name,) in connection.execute("SELECT name FROM host")}
        deliveries = Counter(
            name
            for (name,) in connection.execute(
                "SELECT id FROM pulp_hooks_event JOIN pulp_hooks_delivery ON event = number"
            )
        )
    assert len(noted["accepted"]) > 500
    assert noted["accepted"] <= stored <= noted["fires"]
    assert hosts <= stored
    assert deliveries == dict.fromkeys(stored, 2)
    # A host that was killed, and a child of it, had stored one event at most without noting it.
    assert len(stored - noted["accepted"]) <= 2 * (kills[0] + kills[1] + 2)


def _kill(process: Any) -> None:  # noqa: ANN401 - a Popen
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
