"""Tests of writes that are interrupted: by signals, by calls out of the middle of another one, by a locked file."""

import gc
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from types import FrameType

import pytest
from sqlalchemy.exc import DBAPIError

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal.journal import Journal

Make = Callable[..., Event]

SIGNALS = """
import gc, random, signal, sys, threading
from dataclasses import replace
from pulp_hooks.event import Event
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.journal import Journal

class Alarm(BaseException): pass

def handler(*_):
    raise Alarm

# Python swallows what is raised in a callback of a weak reference, as SQLAlchemy has them.
gc.disable()
journal, event = Journal(sys.argv[1], busy_seconds=5), Event.from_json(sys.argv[2])
stored = 0

def append():
    global stored
    journal.append(replace(event, id=new_id()), ["a"])
    stored += 1

append()
signal.signal(signal.SIGALRM, handler)
kept = []
times, longest = (2000, 5e-4) if journal.is_file else (300, 5e-3)
for time in range(times):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(longest / 50, longest))
        for _ in range(1000):
            append()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm as alarm:
        # A host may keep what was raised, and with it every frame in which it was.
        kept = [*kept[-5:], alarm]
    append()
    if time % 10 == 0:
        # A connection that was interrupted while it was made is closed here.
        gc.collect()
threads = [threading.Thread(target=append) for _ in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(stored)
"""


def test_signals_at_any_moment_leave_no_transaction_open(url: str, new_event: Make) -> None:
    """What a signal handler raises within an append is raised as it is, and keeps nobody from the journal."""
    command = [sys.executable, "-c", SIGNALS, url, new_event().to_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    journal = Journal(url)
    with journal.backend.reading("count") as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM pulp_hooks_event").scalar_one()
        if journal.is_file:
            assert done.stderr == ""
            assert connection.exec_driver_sql("PRAGMA integrity_check").all() == [("ok",)]
    journal.close()
    # An append that was interrupted after its commit is stored, and not counted.
    assert found >= int(done.stdout)


class LimitError(Exception):
    """A time limit of the host, which a signal handler raises."""


@pytest.fixture
def limit() -> Iterator[int]:
    """Return a signal whose handler raises `LimitError`."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise LimitError

    before = signal.signal(signal.SIGUSR1, handler)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("wrapped", [sqlite3.OperationalError, DBAPIError, AssertionError])
@pytest.mark.parametrize("way", ["write", "writing", "reading"])
def test_exception_of_a_signal_handler_that_a_driver_has_wrapped_is_raised_as_it_was(
    url: str, new_event: Make, limit: int, way: str, wrapped: type[Exception]
) -> None:
    """A driver may fail in its clean-up when it is interrupted; the host waits for its own exception all the same."""
    journal = Journal(url)
    made = wrapped("statement", {}, ValueError()) if wrapped is DBAPIError else wrapped("clean-up failed")

    def work(_: object) -> None:
        try:
            signal.raise_signal(limit)
        finally:
            raise made

    def run() -> None:
        if way == "write":
            journal.backend.write("write", work)
        else:
            with getattr(journal.backend, way)("work") as connection:
                work(connection)

    with pytest.raises(LimitError):
        run()
    assert journal.append(new_event(), ["a"])
    journal.close()


def test_error_of_the_database_while_the_host_handles_its_signal_is_a_journal_error(
    sqlite_url: str, tmp_path: Path, limit: int, new_event: Make
) -> None:
    """What the host is handling already is the context of the error, and not what was raised."""
    (tmp_path / "journal.db").write_bytes(b"this is no database" * 100)
    try:
        signal.raise_signal(limit)
    except LimitError:
        with pytest.raises(JournalError):
            Journal(sqlite_url).append(new_event(), ["a"])


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


MOMENTS = """
import gc, signal, sys
from dataclasses import replace
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.journal import Journal

# Python swallows what is raised in a callback of a weak reference, as SQLAlchemy has them.
gc.disable()
journal, event = Journal(sys.argv[1], busy_seconds=5), Event.from_json(sys.argv[2])

class Boom(BaseException): pass

def append():
    assert journal.append(replace(event, id=new_id()), ["a"])

def fire(*_):
    try:
        append()
    except JournalError as error:
        assert "while this thread was" in str(error), error

def boom(*_):
    raise Boom

def outcome():
    try:
        sys.setprofile(count)
        append()
    except BaseException as error:
        return type(error)
    finally:
        sys.setprofile(None)

signal.signal(signal.SIGUSR1, {"fire": fire, "boom": boom}[sys.argv[3]])
moment, left, outcomes, step = 1, 0, set(), 1 if journal.is_file else 7
while left <= 0:
    left = moment

    def count(frame, what, _):
        global left
        left -= what == "call"
        if not left:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGUSR1)

    journal.close()
    journal.open()
    found = outcome()
    if left <= 0:
        outcomes.add(found)
    append()
    moment += step
assert moment > 50
print(*[found and found.__name__ for found in outcomes])
"""


@pytest.mark.parametrize(("handler", "outcome"), [("fire", "None"), ("boom", "Boom")])
def test_signal_at_any_call_within_the_first_append(url: str, new_event: Make, handler: str, outcome: str) -> None:
    """A handler that fires keeps nobody waiting, and what one raises is raised as it is, not as a driver's error."""
    command = [sys.executable, "-c", MOMENTS, url, new_event().to_json(), handler]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{outcome}\n"), done.stderr


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
