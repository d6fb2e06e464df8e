"""A process that forks while it has a SQLite journal open: SQLite's own locks would not survive that."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

HOST = """
import os, sys, threading, time
from pulp_hooks import Hooks, JournalError, forks, hookimpl

class Desk:
    @hookimpl
    def repo_sync_started(self): pass

hooks = Hooks({"Desk": Desk()}, journal=sys.argv[1])
def fire(number):
    for _ in range(number):
        hooks.repo_sync_started(repo_id="zoo")
fire(1)
"""

PARENT_CLOSES = """
child = os.fork()
if not child:
    fire(5)
    while os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    fire(5)
    os._exit(0)
time.sleep(0.5)
fire(1)
hooks.close()
os.unlink(sys.argv[2])
assert os.waitpid(child, 0)[1] == 0
"""

THREADS_FIRE = """
over = threading.Event()
fired = []
def work():
    while not over.is_set():
        fire(1)
        fired.append(1)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
children = []
for _ in range(15):
    children.append(os.fork())
    if not children[-1]:
        fire(5)
        os._exit(0)
deadline = time.monotonic() + 30
while children and time.monotonic() < deadline:
    children = [child for child in children if os.waitpid(child, os.WNOHANG) == (0, 0)]
over.set()
for thread in threads: thread.join()
assert not children, "some hang"
print(1 + 15 * 5 + len(fired))
"""

IN_USE = """
forks._PATIENCE_SECONDS = 0.2
with hooks.journal.backend.writing("go on"):
    child = os.fork()
    if not child:
        for host in (hooks, Hooks({"Desk": Desk()}, journal=sys.argv[1])):
            try:
                host.repo_sync_started(repo_id="zoo")
            except JournalError as error:
                print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def run(code: str, *arguments: object) -> str:
    """Run a host, and give what it prints."""
    command = [sys.executable, "-c", HOST + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def events(tmp_path: Path) -> int:
    """Count the events of the journal."""
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (number,) = connection.execute("SELECT count(*) FROM event").fetchone()
    return int(number)


def test_child_loses_nothing_when_its_parent_closes_the_journal(sqlite_url: str, tmp_path: Path) -> None:
    """What a daemon fires after the process that has started it has ended is in the file."""
    open_file = tmp_path / "open"
    open_file.touch()
    run(PARENT_CLOSES, sqlite_url, open_file)
    assert events(tmp_path) == 12


def test_fork_while_threads_fire_keeps_nobody_waiting(sqlite_url: str, tmp_path: Path) -> None:
    """No child hangs or finds the file locked, and every event of all processes is stored."""
    fired = int(run(THREADS_FIRE, sqlite_url))
    assert events(tmp_path) == fired


def test_child_of_a_process_in_the_midst_of_a_transaction_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    """Its events would be lost without an error; other hooks on the same file in that process are refused as well."""
    said = run(IN_USE, sqlite_url)
    assert said.count("SQLite does not survive that") == 2
    assert events(tmp_path) == 1
