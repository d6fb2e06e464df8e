"""The database of a journal: transactions in it, its time, and what is said when it fails."""

import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, PoolProxiedConnection, TwoPhaseTransaction
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pulp_hooks.errors import JournalError
from pulp_hooks.forks import OwnProcess, keep_in_children
from pulp_hooks.frames import calls_under_way
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.creation import check_new, is_journal, journal_identity, prepare, prepare_within
from pulp_hooks.journal.postgresql_server import begin, driver_failures, listening, postgresql_engine, server_time
from pulp_hooks.journal.reasons import reason
from pulp_hooks.journal.sqlite_file import READS, SqliteFile, Synchronous, roll_back
from pulp_hooks.journal.urls import journal_url, shown
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import raised_by_signal_handler
from pulp_hooks.text import one_line

_log = safe_logger(__name__)

_BREAKS = re.compile(r"\s*(\\[nt])+\s*")

_T = TypeVar("_T")

_MOST_KEPT = 8
"""How many connections to a SQLite file are kept for events; as many threads may fire at a time without opening one."""

_MINUTE = 60.0

_QUICK_SECONDS = 1.0
"""An answer of the server that took longer does not replace what is known of its time."""


AUTOCOMMIT = (
    "the connection is in AUTOCOMMIT, so the event would not be committed together with the host's work; "
    "fix: use a connection with transactions, or fire without connection"
)
"""What is said of a host's connection in which each statement is a transaction of its own."""


class CommitLostError(Exception):
    """The connection was lost during a commit: the server may have committed the transaction, or not.

    Attributes:
        result: What the function returned that had done the work.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result


class Database:
    """The database of a journal, opened at the first use.

    Attributes:
        name: The URL without secrets.
        clock: The clock of this machine.
        busy_seconds: How long to wait for others that have locked something, and for a server that does not answer.
        is_sqlite: Whether it is a SQLite file.

    Raises:
        JournalError: The URL is none of a SQLite file or of PostgreSQL.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: Synchronous = Synchronous.NORMAL,
        busy_seconds: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._url = journal_url(url)
        self.name, self._secrets = shown(self._url)
        self.busy_seconds = busy_seconds
        self.clock = clock
        self._ahead: tuple[float, float] | None = None
        self._identity: dict[str, str] | None = None
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._file = SqliteFile(self._url, self.name, synchronous, busy_seconds) if self.is_sqlite else None
        self._failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, sqlite3.Error)
        self._kept: list[tuple[Engine, PoolProxiedConnection]] = []
        self._own = OwnProcess("these Hooks and their journal")
        keep_in_children(self)

    @property
    def path(self) -> Path | None:
        """The SQLite file; null with PostgreSQL."""
        return self._file.path if self._file else None

    @contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """Open a write transaction; commit on success, roll back on error.

        Raises:
            JournalError: The database failed; `doing` says in the message what was not done.
        """
        with self.errors(doing), self.open().begin() as connection:
            yield connection

    def write(self, doing: str, work: Callable[[Any], _T]) -> _T:
        """Call a function with a cursor of the driver, in a write transaction, and return what it returns.

        This costs half as much as `writing`. It is not a context manager, so that the transaction belongs to one frame:
        what a signal handler raises, between whichever two bytecodes, leaves no transaction open.

        Raises:
            CommitLostError: The connection was lost during the commit.
            JournalError: The database failed; `doing` says in the message what was not done.
        """
        connection = None
        done: list[_T] = []
        try:
            engine, connection = self._take()
            cursor = connection.cursor()
            if self._file:
                self._file.keep_room(connection)
                self._file.begin_immediate(connection, cursor, on_busy=self._refuse_itself)
            else:
                begin(connection, cursor)
            # The driver of PostgreSQL begins the transaction, and the pool rolls back what was not committed.
            done.append(work(cursor))
            connection.commit()
        except BaseException as error:
            is_lost = bool(done) and _is_closed(connection)
            if connection is not None:
                self._drop(connection, error)
            # A host's handler of signals may raise an OSError, as TimeoutError is one.
            if isinstance(error, self._failures) and not raised_by_signal_handler(error):
                said = self._failure(doing, error)
                raise (CommitLostError(said, done[0]) if is_lost else JournalError(said)) from error
            raise
        self._give_back(engine, connection)
        return done[0]

    def _drop(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """Give a connection up after a failure."""
        if self.is_sqlite:
            roll_back(connection)
        if not isinstance(error, self._failures) or _is_closed(connection):
            # It was interrupted in whatever it did, or is broken: the pool would try to roll back, and log a traceback.
            connection.invalidate()
        connection.close()

    def _take(self) -> tuple[Engine, PoolProxiedConnection]:
        """Give a connection, one that is kept if there is one: to have one of the pool costs as much as an insert."""
        engine = self.open()
        while self._kept:
            with suppress(IndexError):  # another thread was quicker
                kept = self._kept.pop()
                if kept[0] is engine:
                    return kept
                kept[1].close()
        return engine, self._file.connect() if self._file else engine.raw_connection()

    def _give_back(self, engine: Engine, connection: PoolProxiedConnection) -> None:
        """Keep a connection to SQLite, which cannot have gone away when it is next used."""
        if self.is_sqlite and len(self._kept) < _MOST_KEPT:
            self._kept.append((engine, connection))
        else:
            connection.close()

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """Give a connection that reads one state of the journal, and does not wait for those that write.

        Raises:
            JournalError: The database failed; `doing` says in the message what was not done.
        """
        with (
            self.errors(doing),
            self.open().connect().execution_options(**{READS: True}) as connection,
        ):
            yield connection

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Make every error of the database a `JournalError`.

        Raises:
            JournalError: The block raised an error of the database.
        """
        try:
            yield
        except self._failures as error:
            if raised_by_signal_handler(error):
                raise
            raise JournalError(self._failure(doing, error)) from error

    def _failure(self, doing: str, error: BaseException) -> str:
        origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
        # PostgreSQL's messages have several lines.
        said = _BREAKS.sub(" ", one_line(origin, self._secrets))
        return f"the journal {self.name} could not {doing}: {reason(origin)} ({said})"

    def open(self) -> Engine:
        """Give the engine; the first call opens the database, and creates the tables where there are none.

        Raises:
            JournalError: The database cannot be opened, or is none of this version's journals.
        """
        self._own.check()
        engine = self._engine
        if engine is not None and self._is_in_place():
            return engine
        if self._opening.locked() and calls_under_way(_OPEN, self):
            raise self._interrupted("opening it")
        with self._opening, self.errors("be opened"):
            if self._engine is not None and not self._is_in_place():
                _log.warning("the file of the journal %s was removed or replaced; it is opened anew", self.name)
                self._close()
            if self._engine is None:
                engine = self._connected()
                try:
                    prepare(engine, self.name)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _refuse_itself(self) -> None:
        """Raise `JournalError` in a thread that would wait for a transaction of its own."""
        if calls_under_way(_WRITE, self) > 1:
            raise self._interrupted("writing to it")

    def _interrupted(self, doing: str) -> JournalError:
        return JournalError(
            f"the journal {self.name} cannot be used here: it was called while this thread was {doing}; "
            "fix: do not fire events in signal handlers, __del__ methods or logging handlers"
        )

    def check_connection(self, connection: object) -> None:
        """Check that something can be a host's connection to this database, in a transaction that events can join.

        Raises:
            JournalError: It is not an SQLAlchemy connection, it leads to another kind of database, or it is in
                AUTOCOMMIT or a two-phase transaction.
        """
        self._own.check()
        if not isinstance(connection, Connection):
            kinds = [kind.__name__ for kind in type(connection).__mro__]
            remedy = next((_CONNECTIONS[kind] for kind in kinds if kind in _CONNECTIONS), _CONNECTIONS["Engine"])
            raise JournalError(f"connection must be an SQLAlchemy Connection, not {kinds[0]}; fix: {remedy}")
        if connection.closed:
            raise JournalError("the connection is closed; fix: fire the event before the end of its block")
        if (connection.dialect.name == "sqlite") != self.is_sqlite:
            raise JournalError(f"the connection is to {connection.dialect.name}, and the journal is {self.name}")
        if isinstance(connection.get_transaction(), TwoPhaseTransaction):
            raise JournalError(
                "the connection is in a two-phase transaction, which PostgreSQL cannot prepare once an event has been "
                "stored in it (NOTIFY); fix: use an ordinary transaction, or fire without connection after the commit"
            )
        if getattr(connection.connection.dbapi_connection, "autocommit", False) is True:
            raise JournalError(AUTOCOMMIT)

    def identity(self) -> dict[str, str]:
        """Return the name of the PostgreSQL database and the id of the journal in it; a copy has the same id.

        Raises:
            JournalError: The database failed.
        """
        if self._identity is None:
            with self.reading("tell its id") as connection:
                self._identity = journal_identity(connection)
        return self._identity

    def check_identity(self, connection: Connection) -> None:
        """Check that a host's connection leads to this journal, in PostgreSQL.

        Raises:
            JournalError: It leads to another journal.
        """
        self._identity, known = None, self._identity
        if journal_identity(connection) != self.identity() or known != self._identity:
            raise JournalError(
                f"the connection leads to another journal than {self.name}, in another database or schema; fix: "
                "connect to the database of the journal, with the same search_path"
            )

    def join(self, connection: Connection) -> None:
        """See to it that events can be stored in the transaction of a host's connection.

        The tables of a new SQLite journal are created in there: meanwhile nobody else may write.

        Raises:
            JournalError: It is a connection to another file, or the database is no journal of this version.
        """
        if self._file is None:
            self.open()
            return
        self._file.check_connection(connection)
        if self._engine is None:
            prepare_within(connection, self.name)

    def is_there(self) -> bool:
        """Return whether the journal exists, without creating it or changing a database of another program.

        Raises:
            JournalError: The database cannot be opened.
        """
        if self._file and not self._file.path.exists():
            return False
        with self._looking() as connection:
            return is_journal(connection)

    def check_place(self) -> None:
        """Check that a journal that does not exist can be created, without creating it.

        Raises:
            JournalError: The folder, the file or the schema does not allow it.
        """
        if self._file:
            self._file.check_folder()
            for path in (self._file.path.parent, self._file.path):
                if path.exists() and not os.access(path, os.W_OK):
                    raise JournalError(f"the journal {self.name} cannot be created: {path} is not writable")
            if not self._file.path.exists():
                return
        with self._looking() as connection:
            check_new(connection, self.name)

    @contextmanager
    def trial(self) -> Iterator[Connection]:
        """Open a write transaction that is rolled back in any case.

        Raises:
            JournalError: The database failed.
        """
        with self.errors("take events"), self.open().connect() as connection:
            if self._file:
                # SQLite asks the disk for room when it commits, which a trial does not.
                self._file.keep_room(connection.connection)
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    @contextmanager
    def _looking(self) -> Iterator[Connection]:
        """Open a connection to what is there, which leaves it as it is."""
        self._own.check()
        with self.errors("be opened"):
            engine = self._file.looking_engine() if self._file else self._connected()
            try:
                with engine.connect().execution_options(**{READS: True}) as connection:
                    yield connection
            finally:
                engine.dispose()

    @contextmanager
    def listening(self, channel: str) -> Iterator[Callable[[float], bool] | None]:
        """Listen to a channel of PostgreSQL for the name of the journal's schema, on a connection of its own.

        Yields a function that waits so many seconds at most, and returns whether it was heard; null behind a pooler.

        Raises:
            JournalError: The server cannot be reached or has gone away.
        """
        with self.errors("listen"), listening(self.open(), channel) as heard:
            yield heard

    def now(self, within: Connection | None = None, *, measured: bool = False) -> float:
        """Give the journal's time, in seconds since 1970: of PostgreSQL the server's, so that all machines agree.

        The server is asked at most once a minute; in between its time goes on with the elapsed time.

        Args:
            within: The connection that the caller holds, if any: to wait for a second one while holding a first one
                would be a deadlock, when all are in use.
            measured: Whether the server is asked in any case.

        Raises:
            JournalError: The server did not answer.
        """
        if self.is_sqlite:
            return self.clock.time()
        elapsed = self.clock.elapsed()
        if measured or self._ahead is None or elapsed - self._ahead[1] > _MINUTE:
            with self.reading("tell the time") if within is None else nullcontext(within) as connection:
                asked = self.clock.elapsed()
                moment = server_time(connection)
            elapsed = self.clock.elapsed()
            # An answer that was held up on its way may tell of any moment in between.
            if self._ahead is None or elapsed - asked <= _QUICK_SECONDS:
                self._ahead = moment - (asked + elapsed) / 2, elapsed
        return self._ahead[0] + elapsed

    def close(self) -> None:
        """Close every connection; the next use opens the database again. In a forked child it does nothing."""
        if self._own.is_parent:
            return
        with self._opening:
            self._close()

    def _close(self) -> None:
        while self._kept:
            self._kept.pop()[1].close()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _is_in_place(self) -> bool:
        return self._file is None or self._file.is_in_place()

    def _connected(self) -> Engine:
        if self._file:
            return self._file.engine()
        engine = postgresql_engine(self._url, self.name, self.busy_seconds)
        self._failures = (*self._failures, *driver_failures())
        return engine


def _is_closed(connection: PoolProxiedConnection | None) -> bool:
    """Return whether the driver knows that a connection to a server is gone; false for SQLite."""
    return connection is not None and bool(getattr(connection.driver_connection, "closed", False))


_SYNC = "await {0}.run_sync(lambda {1}: hooks.fire(..., connection={1}{2}))"

_CONNECTIONS = {
    "Engine": "pass the connection of `with engine.begin() as connection`",
    "Session": "pass session.connection()",
    "scoped_session": "pass session.connection()",
    "AsyncConnection": _SYNC.format("connection", "sync", ""),
    "AsyncSession": _SYNC.format("session", "sync", ".connection()"),
    "async_scoped_session": _SYNC.format("session", "sync", ".connection()"),
    "AsyncEngine": _SYNC.format("connection", "sync", ""),
}
"""How to come by a connection, by the type of what was given instead."""


_OPEN, _WRITE = Database.open.__code__, Database.write.__code__
