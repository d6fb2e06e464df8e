"""Tests of writes that are interrupted: by signals, by calls out of the middle of another one, by a locked file."""

import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import pytest

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal.journal import Journal

Make = Callable[..., Event]

SIGNALS = """
import random, signal, sys, threading
from dataclasses import replace
from pulp_hooks.event import Event
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.journal import Journal

class Alarm(BaseException): pass

def handler(*_):
    raise Alarm

journal, event = Journal(sys.argv[1], busy_seconds=5), Event.from_json(sys.argv[2])
stored = 0

def append():
    global stored
    journal.append(replace(event, id=new_id()), ["a"])
    stored += 1

append()
signal.signal(signal.SIGALRM, handler)
kept = []
for _ in range(2000):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 5e-4))
        while True:
            append()
    except Alarm as alarm:
        # A host may keep what was raised, and with it every frame in which it was.
        kept = [*kept[-20:], alarm]
    append()
threads = [threading.Thread(target=append) for _ in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(stored)
"""


def test_signals_at_any_moment_leave_no_transaction_open(sqlite_url: str, tmp_path: Path, new_event: Make) -> None:
    """What a signal handler raises within an append keeps neither this thread nor others from the journal."""
    command = [sys.executable, "-c", SIGNALS, sqlite_url, new_event().to_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        (found,) = connection.execute("SELECT count(*) FROM pulp_hooks_event").fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    # An append that was interrupted after its commit is stored, and not counted.
    assert found >= int(done.stdout)


class _Fires:
    """Fires when it is deleted, as an object of a host may."""

    def __init__(self, append: Callable[[], object], said: list[str]) -> None:
        self._append, self._said = append, said

    def __del__(self) -> None:
        try:
            self._append()
        except JournalError as error:
            self._said.append(str(error))


def test_event_fired_while_its_thread_opens_the_journal_is_refused_at_once(sqlite_url: str, new_event: Make) -> None:
    """Waiting for the other call would never end: it is the same thread."""
    journal, said = Journal(sqlite_url), list[str]()
    backend = journal.backend
    connected = backend._connected

    def connecting() -> object:
        del_me = _Fires(lambda: journal.append(new_event(), ["a"]), said)
        del del_me
        gc.collect()
        return connected()

    backend._connected = connecting  # type: ignore[method-assign,assignment] # the moment cannot be met otherwise
    assert journal.append(new_event(), ["a"])
    assert len(said) == 1
    assert "while this thread was opening it" in said[0]
    journal.close()


def test_event_fired_in_the_middle_of_another_is_refused_at_once(sqlite_url: str, new_event: Make) -> None:
    """The first transaction has the lock, and goes on when the second is over: waiting would be for nothing."""
    journal, said = Journal(sqlite_url, busy_seconds=60), list[str]()

    def work(cursor: object) -> None:
        del cursor
        _Fires(lambda: journal.append(new_event(), ["a"]), said)
        gc.collect()

    journal.backend.open()
    journal.backend.write("write", work)
    assert len(said) == 1
    assert "while this thread was writing to it" in said[0]
    assert journal.append(new_event(), ["a"])
    journal.close()


def test_threads_that_find_the_file_locked_all_fail_for_that_reason(
    sqlite_url: str, tmp_path: Path, new_event: Make, locked_elsewhere: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """None of them waits for a connection first, and each says what the file said."""
    journal = Journal(sqlite_url, busy_seconds=0.5)
    journal.backend.open()
    said: list[str] = []

    def append() -> None:
        with pytest.raises(JournalError) as caught:
            journal.append(new_event(), ["a"])
        said.append(str(caught.value))

    with locked_elsewhere(tmp_path / "journal.db"):
        threads = [threading.Thread(target=append) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(said) == 100
    assert all("another process has locked it for too long" in one for one in said)
    journal.close()


def test_any_number_of_readers_leaves_a_connection_to_write_with(sqlite_url: str, new_event: Make) -> None:
    """No limit of connections is another thing to wait for."""
    journal = Journal(sqlite_url)
    with ExitStack() as readers:
        for _ in range(20):
            readers.enter_context(journal.backend.reading("look"))
        assert journal.append(new_event(), ["a"])
    journal.close()


def test_write_ahead_log_shrinks_when_a_long_reader_is_gone(sqlite_url: str, tmp_path: Path, new_event: Make) -> None:
    """A reader of an old state keeps the log from being reused; afterwards it is as short as ever."""
    journal = Journal(sqlite_url)
    journal.append(new_event(), ["a"])
    log = tmp_path / "journal.db-wal"
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pulp_hooks_event").fetchone()
        while log.stat().st_size < 50 * 2**20:
            journal.append(new_event("x" * 200_000), ["a"])
    for _ in range(3):
        journal.append(new_event("x" * 200_000), ["a"])
    assert log.stat().st_size <= 33 * 2**20
    journal.close()
