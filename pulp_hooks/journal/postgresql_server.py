"""The PostgreSQL server of a journal: how it is connected to, asked for the time, and listened to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from pulp_hooks.errors import JournalError


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
    waiting = {
        "connect_timeout": seconds,
        "keepalives_idle": seconds // 2,
        "keepalives_interval": seconds // 2,
        "tcp_user_timeout": 1000 * seconds,
    }
    try:
        engine = create_engine(
            url,
            connect_args={name: value for name, value in waiting.items() if name not in url.query},
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
        )
    except ImportError:
        raise JournalError(
            f"the journal {name} could not be opened: psycopg is not installed; install pulp-hooks[postgresql]"
        ) from None
    event.listen(engine, "connect", lambda connection, _record: _limit_waiting(connection, busy_seconds))
    return engine


def _limit_waiting(connection: Any, busy_seconds: float) -> None:  # noqa: ANN401 - psycopg may not be installed
    """Let a connection wait so long for others' locks, where nobody else has said how long."""
    query = "SELECT set_config('lock_timeout', %s, false) WHERE current_setting('lock_timeout') = '0'"
    connection.execute(query, [f"{max(1, int(1000 * busy_seconds))}ms"])
    connection.commit()


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
def listening(engine: Engine, channel: str) -> Iterator[Callable[[float], bool]]:
    """Listen to a channel for the name of the journal's schema, on a connection of its own.

    Gives a function that waits so many seconds at most, and tells whether it was heard.
    """
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        connection.detach()
        driver.autocommit = True
        (schema,) = driver.execute("SELECT current_schema()").fetchone()
        driver.execute(f"LISTEN {channel}")
        yield lambda seconds: schema in [told.payload for told in driver.notifies(timeout=seconds, stop_after=1)]
    finally:
        connection.close()
