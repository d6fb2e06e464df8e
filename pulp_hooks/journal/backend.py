"""What the journal needs of a database: transactions, SQL in its dialect, its time, and errors in words.

`sqlite` and `postgresql` are the two implementations. Nothing else in the journal asks which one it has.
"""

import re
import sqlite3
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, TypeVar

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pulp_hooks.errors import JournalError
from pulp_hooks.forks import OwnProcess, keep_in_children
from pulp_hooks.frames import calls_under_way
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.host_connections import check_host_connection
from pulp_hooks.journal.opening import READS, is_journal
from pulp_hooks.journal.reasons import reason
from pulp_hooks.journal.urls import shown
from pulp_hooks.journal.writer_places import Place, Places
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.signals import interruption_in
from pulp_hooks.text import one_line

_log = safe_logger(__name__)

_T = TypeVar("_T")

WRITERS = 8
"""Connections that are kept for events, so that as many threads can fire without opening one."""

_BREAKS = re.compile(r"\s*(\\[nt])+\s*")


class CommitLostError(Exception):
    """The connection was lost during a commit: the server may have committed the transaction, or not.

    Attributes:
        result: What the function returned that had done the work.
    """

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result


class Backend(ABC):
    """The database of a journal, opened at the first use.

    When it fails, every method raises a `JournalError`; `doing` says in the message what was not done.

    Attributes:
        name: The URL without secrets.
        known_listeners: Listeners that surely have a row in the table of listeners.
    """

    dialect: ClassVar[str]
    """Name of the dialect in SQLAlchemy."""

    insert: ClassVar[Any]
    """SQLAlchemy's INSERT of the dialect, which can pass over rows that exist."""

    has_writers_beside: ClassVar[bool] = False
    """Whether a transaction can write while another one does; at most `WRITERS` of a process then do."""

    wakes: ClassVar[bool] = False
    """Whether `listening` tells of new deliveries of other processes."""

    def __init__(self, url: URL, busy_seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._url = url
        self.name, self._secrets = shown(url)
        self.busy_seconds = busy_seconds
        self.clock = clock
        self._failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, sqlite3.Error)
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self._kept: list[tuple[Engine, PoolProxiedConnection]] = []
        self._places = Places(WRITERS) if self.has_writers_beside else None
        self._texts: dict[str, str] = {}
        self.known_listeners: set[str] = set()
        self._process = OwnProcess("these Hooks and their journal")
        keep_in_children(self)

    # Transactions

    @contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """Open a write transaction; commit on success, roll back on error."""
        with self.errors(doing), self.open().begin() as connection:
            yield connection

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """Open a connection whose queries all see one state of the journal, and do not wait for writers."""
        with self.errors(doing), self.open().connect() as connection:
            yield self._snapshot(connection.execution_options(**{READS: True}))

    def write(self, doing: str, work: Callable[[Any], _T]) -> _T:
        """Call a function with a cursor of the driver, in a write transaction, and return what it returns.

        This costs half as much as `writing`. It is not a context manager, so that the transaction belongs to one frame:
        what a signal handler raises, between whichever two bytecodes, leaves no transaction open.

        Raises:
            CommitLostError: The connection was lost during the commit.
            BaseException: Ctrl-C, or what a signal handler of the host has raised, even if the driver has wrapped it.
        """
        handled = sys.exc_info()[1]
        connection = place = None
        done: list[_T] = []
        try:
            engine = self.open()
            place = self._places.take(self.busy_seconds) if self._places else None
            connection = self._take(engine)
            cursor = connection.cursor()
            self._begin(connection, cursor)
            done.append(work(cursor))
            connection.commit()
        except BaseException as error:
            is_lost = bool(done) and self._is_lost(connection)
            if connection is not None:
                self._drop(connection)
            # The traceback keeps this frame.
            place = None
            raise_interruption(error, handled)
            if isinstance(error, self._failures):
                said = self._failure(doing, error)
                raise (CommitLostError(said, done[0]) if is_lost else JournalError(said)) from error
            raise
        self._give_back(engine, connection, place)
        return done[0]

    def _take(self, engine: Engine) -> PoolProxiedConnection:
        """Return a connection to write with.

        To take one from SQLAlchemy's pool costs as much as an INSERT into a file, and what a signal handler raises in
        the middle of the pool's code could leave its lock held for ever.
        """
        while self._kept:
            with suppress(IndexError):  # another thread was quicker
                owner, connection = self._kept.pop()
                if owner is engine and self._is_alive(connection):
                    return connection
                self._drop(connection)
        return self._connect()

    def _give_back(self, engine: Engine, connection: PoolProxiedConnection, place: Place | None) -> None:
        if len(self._kept) < WRITERS:
            self._kept.append((engine, connection))
        else:
            connection.close()
        if self._places and place:
            self._places.give_back(place)

    @contextmanager
    def within(self, connection: Connection, doing: str) -> Iterator[Connection]:
        """Open a savepoint in the transaction of a host's connection; it undoes our part alone, and commits nothing.

        Raises:
            JournalError: The connection is not one to this journal in a transaction, or the database failed.
        """
        self._process.check()
        check_host_connection(connection, self.dialect, self.name)
        with self.errors(doing):
            self._begin_within(connection)
            with connection.begin_nested():
                self._join(connection)
                yield connection

    @contextmanager
    def trial(self) -> Iterator[Connection]:
        """Open a write transaction that is rolled back in any case."""
        with self.errors("take events"), self.open().connect() as connection:
            self._keep_room(connection.connection)
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    @contextmanager
    def migrating(self, doing: str) -> Iterator[Connection]:
        """Open a write transaction on a journal of any version."""
        self._process.check()
        with self.errors(doing):
            engine = self._migrating_engine()
            try:
                with engine.begin() as connection:
                    yield connection
            finally:
                engine.dispose()

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Raise every error of the database as a `JournalError`.

        Raises:
            JournalError: The block raised an error of the database.
            BaseException: Ctrl-C, or what a signal handler of the host has raised, even if the driver has wrapped it.
        """
        handled = sys.exc_info()[1]
        try:
            yield
        except BaseException as error:
            raise_interruption(error, handled)
            if isinstance(error, self._failures):
                raise JournalError(self._failure(doing, error)) from error
            raise

    def _failure(self, doing: str, error: BaseException) -> str:
        origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
        # PostgreSQL's messages have several lines.
        said = _BREAKS.sub(" ", one_line(origin, self._secrets))
        return f"the journal {self.name} could not {doing}: {reason(origin)} ({said})"

    # Opening and closing

    def open(self) -> Engine:
        """Return the engine; the first call opens the database, and creates the tables where there are none.

        Raises:
            JournalError: The database cannot be opened, is not a journal of a version that this release knows, or this
                object was made before the process was forked.
        """
        self._process.check()
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
                    self._engine = self._prepared(engine)
                except BaseException:
                    engine.dispose()
                    raise
            return self._engine

    def close(self) -> None:
        """Close every connection; the next use opens the database again. A forked child leaves its parent's alone."""
        if not self._process.is_parent:
            with self._opening:
                self._close()

    def _close(self) -> None:
        self.known_listeners = set()
        while self._kept:
            self._kept.pop()[1].close()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def is_there(self) -> bool:
        """Return whether the journal exists, without creating it or changing a database of another program.

        Raises:
            JournalError: The database cannot be opened.
        """
        with self.looking() as connection:
            return is_journal(connection)

    def check_place(self) -> None:
        """Check that a journal that does not exist can be created, without creating it.

        Raises:
            JournalError: The folder, the file or the schema does not allow it.
        """
        with self.looking() as connection:
            self._check_new(connection)

    @contextmanager
    def looking(self) -> Iterator[Connection]:
        """Open a connection that only reads, and leaves whatever is there as it is."""
        self._process.check()
        with self.errors("be opened"):
            engine = self._looking_engine()
            try:
                with engine.connect().execution_options(**{READS: True}) as connection:
                    yield connection
            finally:
                engine.dispose()

    def _refuse_itself(self) -> None:
        """Raise `JournalError` in a thread that would wait for a transaction of its own."""
        if calls_under_way(_WRITE, self) > 1:
            raise self._interrupted("writing to it")

    def _interrupted(self, doing: str) -> JournalError:
        return JournalError(
            f"the journal {self.name} cannot be used here: it was called while this thread was {doing}; "
            "fix: do not fire events in signal handlers, __del__ methods or logging handlers"
        )

    # SQL

    def sql(self, text: str) -> str:
        """Return a statement as the driver takes it.

        Args:
            text: The statement, with parameters as `:name`. `{now}` stands for the parameter `now`, or where that is
                null for the database's time; `{greatest}` for the function that returns the greatest of its arguments;
                `{returning}` for what an INSERT of an event returns for `stored_number`; `{locked}` for what makes a
                SELECT lock its rows, and `{skip_locked}` for what makes it also skip those that others have locked,
                where rows can be locked.
        """
        try:
            return self._texts[text]
        except KeyError:
            return self._texts.setdefault(text, self._translated(text))

    @abstractmethod
    def _translated(self, text: str) -> str:
        """Return a statement as the driver takes it."""

    @abstractmethod
    def stored_number(self, cursor: Any) -> int | None:  # noqa: ANN401 - of either driver
        """Return the number of the event that a cursor stored by an INSERT with `{returning}`; null if it did not."""

    # The next ones suit a database with one writer at a time, whose connections lead to no other journal.

    def here(self, text: str) -> str:
        """Return a statement with `WHERE true` that does nothing in another journal than this one.

        A host's connection may lead to another database that has a journal too.
        """
        return text

    def identity(self) -> dict[str, str]:
        """Return the parameters of a statement of `here`."""
        return {}

    def check_identity(self, connection: Connection) -> None:  # noqa: B027 - see above
        """Check that a host's connection leads to this journal.

        Raises:
            JournalError: It leads to another one.
        """

    def lock_deliveries(self, connection: Connection) -> None:  # noqa: B027 - see above
        """Keep others from changing deliveries until the transaction ends. Call this first in the transaction.

        Bulk updates without this lock can deadlock.
        """

    def share_deliveries(self, connection: Connection) -> None:  # noqa: B027 - see above
        """Keep `lock_deliveries` of others off until the transaction ends. Call this first in the transaction."""

    def notify(self, connection: Connection) -> None:  # noqa: B027 - see above
        """Wake the workers of all processes when the transaction is committed, where the database can."""

    def preparing_migration(self) -> tuple[str, ...]:
        """Return the statements that come before those of the revisions, in their transaction."""
        return ()

    @contextmanager
    def beside(self, connection: Connection, doing: str) -> Iterator[Connection]:  # noqa: ARG002 - of the other backend
        """Open a transaction for what does not depend on a host's; where there is one writer, this is the host's.

        Otherwise a host that takes long would keep others waiting.
        """
        yield connection

    @contextmanager
    def listening(self) -> Iterator[Callable[[float], bool] | None]:
        """Listen for new deliveries of other processes, on a connection of its own.

        Yields a function that waits so many seconds at most and returns whether there were any; null if this is not
        possible.

        Raises:
            JournalError: The server cannot be reached or has gone away.
        """
        yield None

    def now(self, within: Connection | None = None) -> float:  # noqa: ARG002 - of the other backend
        """Return the journal's time, in seconds since 1970.

        Args:
            within: The connection that the caller holds, if any: to wait for a second one while holding a first one
                could be a deadlock.

        Raises:
            JournalError: The server did not answer.
        """
        return self.clock.time()

    def stamp(self) -> float | None:
        """Return the parameter `now` of a statement with `{now}`; null where the database looks at its own clock."""
        return self.clock.time()

    # What the implementations fill in

    @abstractmethod
    def _connected(self) -> Engine: ...

    @abstractmethod
    def _prepared(self, engine: Engine) -> Engine:
        """Create the tables where there are none, check them, and return the engine for all further use."""

    @abstractmethod
    def _looking_engine(self) -> Engine: ...

    @abstractmethod
    def _migrating_engine(self) -> Engine: ...

    def _snapshot(self, connection: Connection) -> Connection:
        return connection

    @abstractmethod
    def _connect(self) -> PoolProxiedConnection:
        """Return a new connection that belongs to no pool."""

    @abstractmethod
    def _begin(self, connection: PoolProxiedConnection, cursor: Any) -> None: ...  # noqa: ANN401 - of either driver

    @abstractmethod
    def _drop(self, connection: PoolProxiedConnection) -> None:
        """Close a connection that may have been interrupted in whatever it did."""

    def _begin_within(self, connection: Connection) -> None:  # noqa: B027 - a savepoint begins the transaction
        """Begin the transaction of a host's connection."""

    def _keep_room(self, connection: PoolProxiedConnection) -> None:  # noqa: B027 - a server's disk is its own affair
        """Refuse events that would use up the space that is needed to record deliveries and to prune."""

    @abstractmethod
    def _join(self, connection: Connection) -> None: ...

    @abstractmethod
    def _check_new(self, connection: Connection) -> None: ...

    def _is_alive(self, connection: PoolProxiedConnection) -> bool:  # noqa: ARG002 - of the other backend
        """Return whether a connection that was kept can be used."""
        return True

    def _is_lost(self, connection: PoolProxiedConnection | None) -> bool:
        """Return whether the driver knows that a connection to a server is gone."""
        return connection is not None and bool(getattr(connection.driver_connection, "closed", False))

    def _is_in_place(self) -> bool:
        """Return whether the database is still the one that the engine connects to."""
        return True


class JournalPart:
    """A part of the facade `Journal`.

    Attributes:
        backend: The database.
    """

    backend: Backend


def raise_interruption(error: BaseException, handled: BaseException | None) -> None:
    """Raise what was addressed to the host and an exception has wrapped; return if there is nothing of that kind.

    A driver may turn it into an error of its own, and the host's exception may itself be an `OSError`.

    Args:
        error: What was raised.
        handled: What the caller was handling before.
    """
    interruption = interruption_in(error, handled)
    if interruption is not None:
        raise interruption


_OPEN, _WRITE = Backend.open.__code__, Backend.write.__code__
