"""The PostgreSQL server of a journal: how it is connected to, asked for the time, and listened to."""

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.sqlite_file import READS
from pulp_hooks.journal.urls import HARMLESS

_POOL_SIZE, CONNECTIONS = 5, 15
"""How many connections of a process stay open, and how many there are at most."""

_PREPARED_AFTER = 5
"""How often a statement is used before it is prepared: psycopg's default."""

_BEGINNING = "pulp_hooks_beginning"
"""Key of what is known of a connection: the statement that begins each transaction, where there is a pooler."""


def postgresql_engine(url: URL, name: str, busy_seconds: float) -> Engine:
    """Give what connects to the server.

    Args:
        url: URL of the database.
        name: What it is called in messages.
        busy_seconds: How long to wait for others that have locked something, and for a server that cannot be reached,
            unless the URL says so.

    Raises:
        JournalError: psycopg is not installed.
    """
    # A worker must hear soon that the server is not there.
    seconds = max(2, int(busy_seconds))
    options = {
        "connect_timeout": seconds,
        "keepalives_idle": seconds // 2,
        "keepalives_interval": seconds // 2,
        "tcp_user_timeout": 1000 * seconds,
    }
    waiting = {option: value for option, value in options.items() if option not in url.query}
    # An engine shows its URL, and hides of it only the password before the host.
    hidden = {option: value for option, value in url.query.items() if option not in HARMLESS}
    try:
        _check_options(url, name)
        engine = create_engine(
            url.difference_update_query(hidden),
            connect_args={**waiting, **hidden, "prepare_threshold": None},
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_size=_POOL_SIZE,
            max_overflow=CONNECTIONS - _POOL_SIZE,
            pool_timeout=busy_seconds,
        )
    except ImportError:
        raise JournalError(
            f"the journal {name} could not be opened: psycopg is not installed; install pulp-hooks[postgresql]"
        ) from None
    event.listen(engine, "connect", lambda connection, record: _set_up(connection, record, busy_seconds))
    event.listen(engine, "begin", _begin)
    return engine


def _check_options(url: URL, name: str) -> None:
    from psycopg.pq import Conninfo  # noqa: PLC0415 - for those who have PostgreSQL

    # The driver takes options of its own as well, which text cannot express.
    known = [option.keyword.decode() for option in Conninfo.get_defaults()]
    for option in url.query:
        if option not in known:
            nearest = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "fix: use the connection parameters of libpq"
            # The option may be part of a password that was not escaped.
            raise JournalError(
                f"the journal {name} could not be opened: its URL has an option that PostgreSQL does not know; {hint}"
            )


def _set_up(connection: Any, record: ConnectionPoolEntry, busy_seconds: float) -> None:  # noqa: ANN401 - psycopg may not be installed
    """Limit how long a connection waits for others' locks, unless the server does, and prepare statements.

    A pooler such as PgBouncer may run each transaction on another connection to the server, where prepared statements
    are missing and settings of the session stay behind for others. It is recognized by the process that it names,
    which is none of the server's. Without one, prepared statements save a third of the time of an event.
    """
    limit = f"{max(1, int(1000 * busy_seconds))}ms"
    setting = "current_setting('lock_timeout')"
    limiting = f"set_config('lock_timeout', CASE {setting} WHEN '0' THEN '{limit}' ELSE {setting} END, %s)"
    query = f"SELECT {limiting}, pg_backend_pid()".replace("%s", "pg_backend_pid() <> %s")
    _, process = connection.execute(query, [connection.info.backend_pid]).fetchone()
    connection.commit()
    if process == connection.info.backend_pid:
        connection.prepare_threshold = _PREPARED_AFTER
    else:
        record.info[_BEGINNING] = "SELECT " + limiting.replace("%s", "true")


def begin(connection: PoolProxiedConnection, cursor: DBAPICursor) -> None:
    """Limit how long the transaction waits for others' locks, where the connection could not be set up for that."""
    beginning = connection.info.get(_BEGINNING)
    if beginning is not None:
        cursor.execute(beginning)


def _begin(connection: Connection) -> None:
    # Readers wait for nobody.
    if not connection.get_execution_options().get(READS, False):
        begin(connection.connection, connection.connection.cursor())


def is_pooled(connection: PoolProxiedConnection) -> bool:
    """Return whether a connection is one to a pooler, which may use another one to the server for each transaction."""
    return _BEGINNING in connection.info


def driver_failures() -> tuple[type[Exception], ...]:
    """Give what the driver raises, once it is loaded."""
    from psycopg import Error  # noqa: PLC0415 - for those who have PostgreSQL

    return (Error,)


def server_time(connection: Connection) -> float:
    """Give the time of the server, in seconds since 1970."""
    query = "SELECT extract(epoch FROM clock_timestamp())::float8"
    moment: float = connection.exec_driver_sql(query).scalar_one()
    return moment


@contextmanager
def listening(engine: Engine, channel: str) -> Iterator[Callable[[float], bool] | None]:
    """Listen to a channel for the name of the journal's schema, on a connection of its own.

    Yields a function that waits so many seconds at most, and returns whether it was heard; null behind a pooler, which
    would leave the listening to a connection of others.
    """
    connection = engine.raw_connection()
    try:
        if is_pooled(connection):
            yield None
            return
        driver: Any = connection.driver_connection
        connection.detach()
        driver.autocommit = True
        (schema,) = driver.execute("SELECT current_schema()").fetchone()
        driver.execute(f"LISTEN {channel}")
        yield lambda seconds: schema in [told.payload for told in driver.notifies(timeout=seconds, stop_after=1)]
    finally:
        connection.close()
