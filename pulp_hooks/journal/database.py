"""The database of a journal: how it is opened and spoken to, and what is said when that fails."""

import os
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    Insert,
    PoolProxiedConnection,
    Table,
    Update,
    create_engine,
    event,
    inspect,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from pulp_hooks.errors import JournalError
from pulp_hooks.journal import tables
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.reasons import reason
from pulp_hooks.text import REDACTED, one_line

_READS = "pulp_hooks_reads"
"""Execution option of a connection that only reads, and so need not wait for those that write."""

_WAITS = "pulp_hooks_waits"
"""Key of what is known of a connection: how long SQLite itself waits for others; seconds."""

_LOOKS = 0.0002, 0.002
"""Between these numbers of seconds lies the pause before the next look whether somebody else still writes."""

_LOG_PAGES = 4000
"""How long the write-ahead log grows before SQLite carries it over into the file; pages of 4 KiB.

By default a thousand, which a fire of a few pages reaches so often that it pays for pages that the next one changes.
"""

_MINUTE = 60.0

_LOCK = 0x70756C70
"""Number of PostgreSQL's advisory lock under which one process at a time creates the tables."""

_NETWORK_FILE_SYSTEMS = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|coda|davfs|glusterfs|lustre|gpfs|ocfs2|beegfs|"
    r"fuse\.(sshfs|glusterfs\w*|rclone|s3fs|davfs2?|ceph|ceph-fuse|juicefs|gcsfuse|smbnetfs)"
)


class Synchronous(StrEnum):
    """How far SQLite waits for the disk.

    Attributes:
        NORMAL: What was committed survives the death of every process, but the last moments not that of the machine.
        FULL: What was committed also survives a power cut; each commit waits for the disk.
    """

    NORMAL = "NORMAL"
    FULL = "FULL"


class Database:
    """The database of a journal, opened at the first use.

    Attributes:
        name: The URL without the password.
        clock: The clock of this machine.
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
        try:
            self._url = _checked(make_url(url))
        except (ArgumentError, ValueError):
            # What was written may hold a password, and no part of it can be told from the others.
            raise JournalError("the journal's URL cannot be read: it is like sqlite:///folder/journal.db") from None
        hidden = {name: REDACTED for name in self._url.query if "password" in name}
        self.name = self._url.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A", "*")
        self._secrets = [str(self._url.password or ""), *(str(self._url.query[name]) for name in hidden)]
        self._synchronous = synchronous
        self._busy_seconds = busy_seconds
        self.clock = clock
        self._ahead: tuple[float, float] | None = None
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, sqlite3.Error)
        self._kept: list[PoolProxiedConnection] = []
        self._inherited: list[object] = []
        self._process = os.getpid()

    @property
    def path(self) -> Path | None:
        """The SQLite file; null with PostgreSQL."""
        return Path(str(self._url.database)).absolute() if self.is_sqlite else None

    @contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """Give a connection in a transaction that is committed when the block ends well, and else undone.

        Raises:
            JournalError: The database failed; `doing` says in the message what was not done.
        """
        with self.errors(doing), self.open().begin() as connection:
            yield connection

    @contextmanager
    def cursor(self, doing: str) -> Iterator[Any]:
        """Give a cursor of the driver in a transaction, as `writing`; to execute by it costs half as much.

        Raises:
            JournalError: The database failed; `doing` says in the message what was not done.
        """
        connection = None
        try:
            connection = self._take()
            cursor = connection.cursor()
            if self.is_sqlite:
                self._begin_immediate(connection)
            # Of PostgreSQL the driver begins the transaction, and the pool rolls back what was not committed.
            yield cursor
            connection.commit()
        except BaseException as error:
            if connection is not None:
                if self.is_sqlite:
                    _roll_back(connection)
                connection.close()
            if isinstance(error, self._failures):
                raise self._failed(doing, error) from error
            raise
        self._give_back(connection)

    def _take(self) -> PoolProxiedConnection:
        """Give a connection, one that is kept if there is one: to have one of the pool costs as much as an insert."""
        engine = self.open()
        try:
            return self._kept.pop()
        except IndexError:
            return engine.raw_connection()

    def _give_back(self, connection: PoolProxiedConnection) -> None:
        """Keep a connection to SQLite, which cannot have gone away when it is next used; one of them is enough."""
        if self.is_sqlite and not self._kept:
            self._kept.append(connection)
        else:
            connection.close()

    @contextmanager
    def reading(self, doing: str) -> Iterator[Connection]:
        """Give a connection that reads one state of the journal, and does not wait for those that write.

        Raises:
            JournalError: The database failed; `doing` says in the message what was not done.
        """
        with self.errors(doing), self.open().connect().execution_options(**{_READS: True}) as connection:
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
            raise self._failed(doing, error) from error

    def _failed(self, doing: str, error: BaseException) -> JournalError:
        origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
        said = one_line(origin, self._secrets)
        return JournalError(f"the journal {self.name} could not {doing}: {reason(origin)} ({said})")

    def open(self) -> Engine:
        """Give the engine; the first call opens the database, and creates the tables where there are none.

        Raises:
            JournalError: The database cannot be opened, or is none of this version's journals.
        """
        engine = self._engine
        if engine is not None and self._process == os.getpid():
            return engine
        with self._opening, self.errors("be opened"):
            if self._process != os.getpid():
                # The connections are the parent's, which goes on with them: they are neither used nor closed here.
                self._inherited += [self._engine, self._kept]
                self._engine, self._kept, self._process = None, [], os.getpid()
            if self._engine is None:
                engine = self._sqlite() if self.is_sqlite else self._postgresql()
                try:
                    self._prepare(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    @contextmanager
    def listening(self, channel: str) -> Iterator[Callable[[float], bool]]:
        """Listen to a channel of PostgreSQL for the name of the journal's schema, on a connection of its own.

        Gives a function that waits so many seconds at most, and tells whether it was heard.

        Raises:
            JournalError: The server cannot be reached or has gone away.
        """
        with self.errors("listen"):
            connection = self.open().raw_connection()
            try:
                driver: Any = connection.driver_connection
                connection.detach()
                driver.autocommit = True
                (schema,) = driver.execute("SELECT current_schema()").fetchone()
                driver.execute(f"LISTEN {channel}")
                yield (
                    lambda seconds: schema in [told.payload for told in driver.notifies(timeout=seconds, stop_after=1)]
                )
            finally:
                connection.close()

    def now(self, *, measured: bool = False) -> float:
        """Give the journal's time, in seconds since 1970: of PostgreSQL the server's, so that all machines agree.

        The server is asked at most once a minute; in between its time goes on with the elapsed time.

        Args:
            measured: Whether the server is asked in any case.

        Raises:
            JournalError: The server did not answer.
        """
        if self.is_sqlite:
            return self.clock.time()
        elapsed = self.clock.elapsed()
        if measured or self._ahead is None or elapsed - self._ahead[1] > _MINUTE:
            with self.reading("tell the time") as connection:
                moment = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
            elapsed = self.clock.elapsed()
            self._ahead = moment - elapsed, elapsed
        return self._ahead[0] + elapsed

    def close(self) -> None:
        """Close every connection; the next use opens the database again."""
        with self._opening:
            if self._engine is not None and self._process == os.getpid():
                while self._kept:
                    self._kept.pop().close()
                self._engine.dispose()
                self._engine = None

    def _sqlite(self) -> Engine:
        path = Path(str(self._url.database)).absolute()
        if not path.parent.is_dir():
            raise JournalError(f"the journal {self.name} could not be opened: there is no folder {path.parent}")
        file_system = _file_system(path.parent.resolve())
        if _NETWORK_FILE_SYSTEMS.fullmatch(file_system):
            raise JournalError(
                f"the journal {self.name} could not be opened: {path.parent} is on a network file system "
                f"({file_system}), where SQLite loses data; put it on a local disk, or use PostgreSQL"
            )
        # SQLite would create the file for everybody to read; its companions take the mode of the file.
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        engine = create_engine(
            self._url.set(database=str(path)),
            connect_args={"timeout": self._busy_seconds, "check_same_thread": False},
            hide_parameters=True,
            paramstyle="named",
            pool_reset_on_return=None,  # every connection comes back with its transaction ended
        )
        event.listen(engine, "connect", self._set_up)
        event.listen(engine, "begin", self._begin)
        self._turn_on_write_ahead_log(engine)
        return engine

    def _set_up(self, connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions on its own: one that begins by reading fails at once when it writes.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {self._synchronous.value}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")

    def _begin(self, connection: Connection) -> None:
        # Whoever means to write says so at once, and then waits for its turn.
        if connection.get_execution_options().get(_READS, False):
            _wait_in_sqlite(connection.connection, self._busy_seconds)
            connection.connection.cursor().execute("BEGIN")
        else:
            self._begin_immediate(connection.connection)

    def _begin_immediate(self, connection: PoolProxiedConnection) -> None:
        """Begin to write as soon as nobody else does.

        SQLite's own waiting would sleep for up to 100 ms between two looks, and let late comers overtake.
        """
        _wait_in_sqlite(connection, 0)
        cursor, deadline = connection.cursor(), time.monotonic() + self._busy_seconds
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(*_LOOKS))  # noqa: S311 - nobody gains by guessing it
            else:
                return

    def _turn_on_write_ahead_log(self, engine: Engine) -> None:
        # Here SQLite does not always wait for the others that open the new file at the same time.
        deadline = time.monotonic() + self._busy_seconds
        while True:
            connection = engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return
            finally:
                connection.close()

    def _postgresql(self) -> Engine:
        # A worker must hear soon that the server is not there.
        try:
            from psycopg import Error  # noqa: PLC0415 - for those who have PostgreSQL
        except ImportError:
            raise JournalError(
                f"the journal {self.name} could not be opened: psycopg is not installed; install pulp-hooks[postgresql]"
            ) from None
        self._failures = (*self._failures, Error)
        waiting = {} if "connect_timeout" in self._url.query else {"connect_timeout": max(2, int(self._busy_seconds))}
        return create_engine(
            self._url,
            connect_args=waiting,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
        )

    def _prepare(self, engine: Engine) -> None:
        """Create the tables in a new database; refuse what is no journal of this version."""
        # A journal that is there is only read, so that it can be opened while others write.
        with engine.connect().execution_options(**{_READS: True}) as connection:
            is_new = not inspect(connection).has_table(tables.journal.name)
        if is_new:
            self._create(engine)
        with engine.connect().execution_options(**{_READS: True}) as connection:
            versions = list(connection.execute(select(tables.journal.c.version)).scalars())
        if versions != [tables.VERSION]:
            found = ", ".join(map(str, versions)) or "unknown"
            raise JournalError(
                f"the journal {self.name} could not be opened: its version is {found}, and this release of "
                f"pulp-hooks knows version {tables.VERSION}"
            )

    def _create(self, engine: Engine) -> None:
        """Create the tables, under a lock, unless another process did so meanwhile."""
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            present = set(inspect(connection).get_table_names())
            if tables.journal.name in present:
                return
            foreign = sorted(present & set(tables.metadata.tables))
            if foreign:
                raise JournalError(
                    f"the journal {self.name} could not be opened: it has tables of these names that are no "
                    f"journal's: {', '.join(foreign)}"
                )
            tables.metadata.create_all(connection, checkfirst=False)
            connection.execute(tables.journal.insert().values(version=tables.VERSION))


def _wait_in_sqlite(connection: PoolProxiedConnection, seconds: float) -> None:
    """Say how long SQLite itself waits for others, where that is not what was said before."""
    if connection.info.get(_WAITS) != seconds:
        connection.cursor().execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        connection.info[_WAITS] = seconds


def insert_new(dialect: str, table: Table) -> Insert:
    """Give the statement that inserts rows and passes over those that are there."""
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing().inline()
    return postgresql.insert(table).on_conflict_do_nothing().inline()


@cache
def driver_text(statement: Insert | Update, dialect: str) -> str:
    """Give a statement as the text that the driver of a dialect takes, with the names of its parameters.

    Args:
        statement: The statement, which lives as long as the process.
        dialect: `sqlite` or `postgresql`.
    """
    spoken: Dialect = sqlite.dialect(paramstyle="named") if dialect == "sqlite" else psycopg.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy gives it none
    return str(statement.compile(dialect=spoken))


def lock_deliveries(connection: Connection) -> None:
    """Keep others from changing deliveries until the transaction ends; it is to be the first thing in it.

    Who changes many rows without that would wait in a circle with others. SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {tables.delivery.name} IN EXCLUSIVE MODE")


def _checked(url: URL) -> URL:
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.drivername not in {"sqlite", "sqlite+pysqlite"} or url.query or url.host:
            raise JournalError("the journal's URL of a SQLite file is sqlite:///PATH, without host and options")
        if not url.database or url.database == ":memory:":
            raise JournalError("the journal's URL names no file: what is only in memory is lost with the process")
        return url
    if url.drivername in {"postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    raise JournalError("the journal's URL must begin with sqlite:/// or postgresql://")


def _roll_back(connection: PoolProxiedConnection) -> None:
    # An error of the disk may have ended the transaction already.
    with suppress(sqlite3.Error):
        connection.cursor().execute("ROLLBACK")


def _file_system(folder: Path) -> str:
    """Give the type of the file system that holds the folder; empty where the system does not tell."""
    try:
        lines = Path("/proc/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    kinds = {}
    for line in lines:
        _device, point, kind, *_ = line.split(" ")
        # Blanks and the like are written as octal numbers; a later mount hides an earlier one.
        kinds[Path(re.sub(r"\\([0-7]{3})", lambda number: chr(int(number[1], 8)), point))] = kind
    return next((kinds[parent] for parent in (folder, *folder.parents) if parent in kinds), "")
