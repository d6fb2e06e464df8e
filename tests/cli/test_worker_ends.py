"""How `pulp-hooks worker` ends, whatever listeners do: real processes, and listeners that freeze, linger and hang."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[[str, str], None]
Working = Callable[..., Any]

SETTINGS = """
[journal]
url = "sqlite:///journal.db"
busy_seconds = 20
[delivery]
timeout_seconds = 0.3
retry_seconds = []
"""

HURRY = """
import sys
import pulp_hooks.cli.worker as command
import pulp_hooks.worker.worker as worker
from pulp_hooks.cli import main

worker.SLACK_SECONDS, worker.MOST_LOST = 0.6, 2
command._CLOSING_SECONDS = 0.5
main()
"""
"""Runs the command with short leases: a freeze is one after half a second, and two more than the schedule are many."""

FREEZING = """
import ctypes, re
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    with open("calls", "a") as calls:
        calls.write(body["repo_id"] + "\\n")
    if body["repo_id"] == "backtracks":
        re.match("(a+)+$", "a" * 64 + "!")
    if body["repo_id"] == "sleeps":
        ctypes.PyDLL(None).sleep(60)
"""

OTHER = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    pass
"""

LINGERING = """
import threading, time
from pulp_hooks import hookimpl

def linger():
    time.sleep(600)

@hookimpl
def repo_sync_started(body):
    threading.Thread(target=linger, name="left behind", daemon=False).start()
    print("heard", flush=True)
"""

HANGING = """
import threading
from pulp_hooks import Notifier

class Pager(Notifier):
    def notify(self, event):
        print("heard", flush=True)

    def close(self):
        print("closing", flush=True)
        threading.Event().wait(600)
"""


@pytest.fixture
def folder(tmp_path: Path, run: Run) -> Path:
    """Return the working directory of the commands, with settings that have a journal."""
    del run
    folder = tmp_path / "work"
    (folder / "pulp-hooks.toml").write_text(SETTINGS)
    return folder


@pytest.fixture
def fire(run: Run, folder: Path) -> Callable[[str], None]:
    """Fire the start of a repository's sync."""
    del folder

    def fire(repo_id: str) -> None:
        done = run("fire", "repo-sync-started", "--body", "-", text=json.dumps({"repo_id": repo_id}))
        assert done.returncode == 0, done.stderr

    return fire


@pytest.fixture
def working(folder: Path, environment: dict[str, str]) -> Working:
    """Run a worker while a block lasts; its first argument may be a redirection of a shell."""

    @contextmanager
    def working(*arguments: str, redirected: str = "") -> Iterator[subprocess.Popen[str]]:
        command = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", HURRY, "worker", *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True) as worker:
            try:
                yield worker
            finally:
                worker.kill()

    return working


def states(folder: Path) -> Counter[tuple[str, str]]:
    """Count the deliveries by listener and state."""
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return Counter(connection.execute("SELECT listener, state FROM pulp_hooks_delivery").fetchall())


@pytest.mark.parametrize("repo_id", ["backtracks", "sleeps"])
@pytest.mark.parametrize("arguments", [[], ["--once"]])
def test_frozen_worker_ends_with_a_traceback(
    repo_id: str, arguments: list[str], install: Install, fire: Callable[[str], None], working: Working
) -> None:
    """A listener that keeps the interpreter's lock, busy or idle, ends its worker and is named; SIGTERM could not."""
    install("desk", FREEZING)
    fire(repo_id)
    with working(*arguments) as worker:
        _, said = worker.communicate(timeout=30)
    assert worker.returncode == 1
    assert "Timeout (0:00:00.500000)!" in said
    assert 'desk_module.py", line' in said


def test_frozen_worker_ends_although_standard_error_is_closed(
    install: Install, fire: Callable[[str], None], working: Working, folder: Path
) -> None:
    """The traceback goes nowhere, and least of all into a file that has the number of standard error."""
    install("desk", FREEZING)
    fire("sleeps")
    with working(redirected="2>&-") as worker:
        worker.communicate(timeout=30)
    assert worker.returncode == 1
    assert states(folder) == {("desk", "pending"): 1}


def test_event_that_freezes_every_worker_is_given_up_and_the_others_are_delivered(
    install: Install, fire: Callable[[str], None], working: Working, folder: Path
) -> None:
    """A service manager starts the worker again each time; in the end one delivery is dead, and all else is made."""
    install("desk", FREEZING)
    install("other", OTHER)
    for repo_id in ("a", "backtracks", "b"):
        fire(repo_id)
    ends = []
    while any(state in {"pending", "retrying"} for _, state in states(folder)):
        with working() as worker:
            while worker.poll() is None and any(state in {"pending", "retrying"} for _, state in states(folder)):
                time.sleep(0.05)
            worker.terminate()
            worker.communicate(timeout=30)
        ends.append(worker.returncode)
    assert states(folder) == {("desk", "delivered"): 2, ("desk", "dead"): 1, ("other", "delivered"): 3}
    assert ends == [1] * (1 + 2) + [0]
    # Those that were under way beside it may have been made twice.
    assert Counter((folder / "calls").read_text().split())["backtracks"] == 1 + 2


def test_worker_that_waits_for_a_locked_file_is_not_frozen(
    install: Install, fire: Callable[[str], None], working: Working, folder: Path
) -> None:
    """To wait for a database lets other threads run, however long it takes."""
    install("desk", OTHER)
    fire("a")
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as connection, working() as worker:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(2.5)
        assert worker.poll() is None
        connection.execute("ROLLBACK")
        while states(folder) != {("desk", "delivered"): 1}:
            assert worker.poll() is None
            time.sleep(0.05)
        worker.terminate()
        worker.communicate(timeout=30)
    assert worker.returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--once"]])
def test_thread_that_a_listener_left_behind_keeps_no_worker(
    arguments: list[str], install: Install, fire: Callable[[str], None], working: Working, folder: Path
) -> None:
    """After the grace time and a little more the worker ends, and says what was still running and where."""
    install("desk", LINGERING)
    fire("a")
    with working("--grace", "0.5", *arguments) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "heard\n"
        if not arguments:
            while states(folder) != {("desk", "delivered"): 1}:
                time.sleep(0.05)
            worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert "after 1 s thread 'left behind' is still running, in linger (" in said
    assert "desk_module.py, line 6); the process ends without it" in said
    assert states(folder) == {("desk", "delivered"): 1}


@pytest.mark.parametrize("arguments", [[], ["--once"]])
def test_notifier_that_hangs_when_it_is_closed_keeps_no_worker(
    arguments: list[str], install: Install, working: Working, folder: Path
) -> None:
    """The end is bounded, and what hangs is named."""
    install("pager", HANGING)
    (folder.parent / "packages" / "pager_dist-1.0.dist-info" / "entry_points.txt").write_text(
        "[pulp_hooks]\npager = pager_module:Pager\n"
    )
    (folder / "pulp-hooks.toml").write_text(SETTINGS + '[[listeners]]\nname = "night"\nnotifier = "pager"\n')
    with working("--grace", "0.5", *arguments) as worker:
        if not arguments:
            while not (folder / "journal.db").exists():
                time.sleep(0.05)
            worker.send_signal(signal.SIGTERM)
        out, said = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert "closing" in out
    assert "pager_module.py" in said or "night" in said
