"""A process that forks: a child is refused what it inherited, and neither waits for its parent nor harms it."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

HOST = """
import asyncio, contextlib, gc, os, sys, threading
from pulp_hooks import ClosedError, EventType, Hooks, hookimpl

class Desk:
    @hookimpl
    def repo_sync_started(self): pass

hooks = Hooks({"Desk": Desk()}, journal=sys.argv[1] if len(sys.argv) > 1 else None)
def fire(number=1, hooks=hooks):
    for _ in range(number):
        hooks.repo_sync_started(repo_id="zoo")
fire()
def refused(call):
    try:
        call()
    except ClosedError as error:
        assert "belong to the parent process" in str(error), error
        assert "fix: create Hooks after the fork" in str(error), error
    else:
        raise AssertionError("not refused")
def wait(child):
    assert os.waitpid(child, 0)[1] == 0
"""

EVERY_CALL = """
ids = {"importer_id": "i", "importer_type_id": "i"}
with hooks, hooks.sync("zoo", **ids) as sync:
    child = os.fork()
    if not child:
        refused(fire)
        refused(lambda: asyncio.run(hooks.afire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})))
        refused(lambda: hooks.sync("zoo", **ids))
        refused(lambda: hooks.publish("zoo", distributor_id="d", distributor_type_id="d"))
        refused(lambda: hooks.worker())
        refused(lambda: sync.__exit__(None, None, None))
        hooks.close()
        hooks.close()
        os._exit(0)
    wait(child)
    fire()
"""

JOURNAL_AND_WORKER = """
from pulp_hooks.event import Event
worker, journal = hooks.worker(), hooks.journal
event = hooks.repo_sync_started(repo_id="zoo").event
with worker:
    child = os.fork()
    if not child:
        for call in (worker.start, worker.run, worker.run_once, journal.check):
            refused(call)
        refused(lambda: worker.deliver_one(event.id, "Desk"))
        refused(lambda: journal.append(event, ["Desk"]))
        refused(lambda: Hooks({"Desk": Desk()}, journal=journal).repo_sync_started(repo_id="zoo"))
        worker.request_stop()
        assert worker.stop()
        journal.close()
        os._exit(0)
    wait(child)
    fire()
"""

FINALIZERS = """
class Witness:
    def __init__(self): self.owner = os.getpid()
    def __del__(self, write=os.write, getpid=os.getpid):
        if getpid() != self.owner:
            write(1, b"finalized in the child\\n")

hooks.journal.backend.witness = Witness()
def descriptors():
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found
child = os.fork()
if not child:
    kept = {name for name in descriptors() if "journal.db" in name or "socket" in name}
    assert kept
    hooks.close()
    del hooks, fire
    gc.collect()
    assert kept <= descriptors()
    # At the end of the interpreter everything else is finalized.
    sys.exit(0)
wait(child)
fire(5)
"""

HELD = """
held, over, seen = threading.Event(), threading.Event(), []
def write():
    with hooks.journal.backend.writing("go on"):
        held.set()
        over.wait()
writer = threading.Thread(target=write)
writer.start()
held.wait()
def profile(frame, event, _):
    if event == "call" and "pulp_hooks" in frame.f_code.co_filename:
        seen.append(frame.f_code.co_qualname)
sys.setprofile(profile)
child = os.fork()
sys.setprofile(None)
if not child:
    refused(fire)
    os._exit(0)
wait(child)
assert not over.is_set()
over.set()
writer.join()
assert seen == [], seen
fire()
"""

THREADS_FIRE = """
over, fired = threading.Event(), []
def work():
    while not over.is_set():
        fire()
        fired.append(1)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(5):
    child = os.fork()
    if not child:
        refused(fire)
        sys.stdout = None
        sys.exit(0)
    wait(child)
over.set()
for thread in threads: thread.join()
print(1 + len(fired))
"""

NEW_HOOKS = """
hooks.close()
child = os.fork()
with Hooks({"Desk": Desk()}, journal=sys.argv[1]) as own:
    fire(5, own)
    if child:
        wait(child)
"""


def run(code: str, *arguments: object) -> str:
    """Run a host, and return what it prints."""
    command = [sys.executable, "-c", HOST + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def events(tmp_path: Path) -> int:
    """Return how many events are in the journal; fail for a damaged file."""
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (number,) = connection.execute("SELECT count(*) FROM pulp_hooks_event").fetchone()
    return int(number)


@pytest.mark.parametrize("has_journal", [False, True])
def test_child_is_refused_hooks_that_it_inherited(sqlite_url: str, tmp_path: Path, *, has_journal: bool) -> None:
    """Every call says to create Hooks after the fork, except for `close`, which does nothing; the parent goes on."""
    run(EVERY_CALL, *([sqlite_url] if has_journal else []))
    assert not has_journal or events(tmp_path) == 4


def test_child_is_refused_a_journal_and_a_worker_that_it_inherited(url: str) -> None:
    """Neither would have its threads or its connections there; to stop and to close them does nothing."""
    run(JOURNAL_AND_WORKER, url)


def test_child_finalizes_no_connection_of_its_parent(url: str) -> None:
    """Neither the garbage collector nor the end of the interpreter closes what the parent goes on with."""
    assert run(FINALIZERS, url) == ""


def test_fork_does_not_wait_for_a_thread_that_writes(sqlite_url: str, tmp_path: Path) -> None:
    """It completes while another thread holds the write lock, and runs no code of this package in the parent."""
    run(HELD, sqlite_url)
    assert events(tmp_path) == 2


def test_fork_while_threads_fire_loses_nothing(sqlite_url: str, tmp_path: Path) -> None:
    """No child hangs, and every event of the parent is stored."""
    fired = int(run(THREADS_FIRE, sqlite_url))
    assert events(tmp_path) == fired


def test_each_process_may_create_hooks_after_the_fork(sqlite_url: str, tmp_path: Path) -> None:
    """A parent that closed its own before is followed by hooks in both processes, on one journal."""
    run(NEW_HOOKS, sqlite_url)
    assert events(tmp_path) == 11
