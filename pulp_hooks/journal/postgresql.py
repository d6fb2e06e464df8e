"""The journal in a PostgreSQL database: any number of machines, one clock, and workers that are woken."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.backend import WRITERS, Backend, raise_interruption
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.opening import READS, check_names, check_version, create, is_journal
from pulp_hooks.journal.schema import PREFIX
from pulp_hooks.journal.urls import HARMLESS
from pulp_hooks.text import did_you_mean

_CONNECTIONS = 15
"""Connections of a process, at most: those that events are fired through, and those for everything else."""

_POOL_SIZE = 5
"""How many of those for everything else stay open."""

_CREATION_LOCK = 0x70756C70
"""Number of the advisory lock under which one process at a time creates or upgrades the tables."""

_CHANNEL = "pulp_hooks"
"""The channel of NOTIFY that workers listen to; the message is the schema, as a database may hold several journals."""

_MINUTE = 60.0

_QUICK_SECONDS = 1.0
"""An answer of the server that took longer does not replace what is known of its time."""

_TABLES = re.compile(rf"(?<![\w.\"]){PREFIX}(event|delivery|attempt|listener|journal|version)\b")

_PARAMETERS = re.compile(r"(?<!:):(\w+)")

WAKING = (
    f"""CREATE FUNCTION {{schema}}.{PREFIX}wake() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('{_CHANNEL}', TG_TABLE_SCHEMA); RETURN NULL; END $$""",
    f"""CREATE TRIGGER {PREFIX}wake AFTER INSERT ON {{schema}}.{PREFIX}delivery
    FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}.{PREFIX}wake()""",
)
"""Whoever stores a delivery, a host within its own transaction too, wakes the workers of all machines."""

_CLOCK = "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"
_NOW = f"coalesce(CAST(:now AS DOUBLE PRECISION), {_CLOCK})"
_HERE = f"WHERE EXISTS (SELECT 1 FROM {PREFIX}journal WHERE id = :of_journal AND current_database() = :of_database)"

_PREPARED_AFTER = 5
"""How often a statement is used before it is prepared: psycopg's default."""

_BEGINNING = "pulp_hooks_beginning"
"""Key of what is known of a connection: the statement that begins each transaction, where there is a pooler."""


def _engine(url: URL, name: str, busy_seconds: float, **pool: Any) -> Engine:  # noqa: ANN401 - what SQLAlchemy takes
    """Return what connects to the server.

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
            **pool,
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
            remedy = "fix: use the connection parameters of libpq"
            hint = did_you_mean(option, known, remedy, form="did you mean {}?")
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


def _limit_waiting(connection: PoolProxiedConnection, cursor: DBAPICursor) -> None:
    """Limit how long the transaction waits for others' locks, where the connection could not be set up for that."""
    beginning = connection.info.get(_BEGINNING)
    if beginning is not None:
        cursor.execute(beginning)


def _begin(connection: Connection) -> None:
    # Readers wait for nobody.
    if not connection.get_execution_options().get(READS, False):
        _limit_waiting(connection.connection, connection.connection.cursor())


def _is_pooled(connection: PoolProxiedConnection) -> bool:
    """Return whether a connection is one to a pooler, which may use another one to the server for each transaction."""
    return _BEGINNING in connection.info


class PostgresqlBackend(Backend):
    """A journal in a PostgreSQL database."""

    dialect: ClassVar[str] = "postgresql"
    insert: ClassVar[Any] = staticmethod(postgresql.insert)
    has_writers_beside: ClassVar[bool] = True
    wakes: ClassVar[bool] = True

    def __init__(self, url: URL, busy_seconds: float, schema: str | None, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(url, busy_seconds, clock)
        self._schema = schema
        self._unpooled: Engine
        self._identity: dict[str, str] = {}
        self._ahead: tuple[float, float] | None = None

    def _connected(self) -> Engine:
        engine = _engine(
            self._url,
            self.name,
            self.busy_seconds,
            pool_pre_ping=True,
            pool_size=_POOL_SIZE,
            max_overflow=_CONNECTIONS - WRITERS - _POOL_SIZE,
            pool_timeout=self.busy_seconds,
        )
        self._unpooled = _engine(self._url, self.name, self.busy_seconds, poolclass=NullPool)
        from psycopg import Error  # noqa: PLC0415 - for those who have PostgreSQL

        self._failures = (*self._failures, Error)
        return engine

    def _looking_engine(self) -> Engine:
        engine = self._connected()
        with engine.connect() as connection:
            return self._in_schema(engine, connection)

    def _migrating_engine(self) -> Engine:
        return self._looking_engine()

    def _in_schema(self, engine: Engine, connection: Connection) -> Engine:
        """Return the engine with the names of tables in the journal's schema, whatever the search path is later."""
        if self._schema is None:
            self._schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
        return engine.execution_options(schema_translate_map={None: self._schema})

    def _prepared(self, engine: Engine) -> Engine:
        with engine.connect() as connection:
            engine = self._in_schema(engine, connection)
        with engine.connect().execution_options(**{READS: True}) as connection:
            is_new = not is_journal(connection)
        if is_new:
            with engine.begin() as connection:
                self._create(connection)
        with engine.connect().execution_options(**{READS: True}) as connection:
            check_version(connection, self.name)
            self._identity = self._identity_at(connection)
        # SQLAlchemy makes the first connection of an engine under a lock, for which an event that is fired in the
        # middle of it (in a signal handler, a `__del__` method) would wait for ever.
        self._kept.append((engine, self._connect()))
        return engine

    def _create(self, connection: Connection) -> None:
        """Create the tables, unless another process was quicker."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})")
        if is_journal(connection):
            return
        self._check_new(connection)
        create(connection)
        for statement in WAKING:
            connection.exec_driver_sql(statement.format(schema=_quoted(self._schema)))

    def _check_new(self, connection: Connection) -> None:
        check_names(connection, self.name)
        if self._schema is None:
            why = "no schema of the search_path exists; fix: create it, or correct the search_path"
            raise JournalError(f"the journal {self.name} cannot be created: {why}")
        exists, may_create, read_only = connection.exec_driver_sql(
            "SELECT to_regnamespace(%(schema)s) IS NOT NULL,"
            " coalesce(has_schema_privilege(to_regnamespace(%(schema)s), 'CREATE'), false),"
            " current_setting('transaction_read_only') = 'on'",
            {"schema": _quoted(self._schema)},
        ).one()
        why = ""
        if not exists:
            why = f"there is no schema {self._schema}; fix: CREATE SCHEMA {_quoted(self._schema)}"
        elif read_only:
            why = "the server is read-only; fix: use the primary server, or correct default_transaction_read_only"
        elif not may_create:
            why = f"the user may not create tables in the schema {self._schema}; fix: GRANT CREATE ON SCHEMA "
            why += str(self._schema)
        if why:
            raise JournalError(f"the journal {self.name} cannot be created: {why}")

    # Transactions

    def _connect(self) -> PoolProxiedConnection:
        return self._unpooled.raw_connection()

    def _is_alive(self, connection: PoolProxiedConnection) -> bool:
        handled = sys.exc_info()[1]
        try:
            return self._unpooled.dialect.do_ping(connection.driver_connection)  # type: ignore[arg-type]
        except self._failures as error:
            raise_interruption(error, handled)
            return False

    def _begin(self, connection: PoolProxiedConnection, cursor: Any) -> None:  # noqa: ANN401 - psycopg may not be installed
        # The driver begins the transaction with the first statement.
        _limit_waiting(connection, cursor)

    def _drop(self, connection: PoolProxiedConnection) -> None:
        # The pool would try to roll back, and log a traceback.
        connection.invalidate()
        connection.close()

    def _snapshot(self, connection: Connection) -> Connection:
        return connection.execution_options(isolation_level="REPEATABLE READ")

    def _join(self, connection: Connection) -> None:
        """Open the journal: its tables are created in a transaction of its own."""
        self.open()

    # SQL

    def _translated(self, text: str) -> str:
        text = text.format(
            now=_NOW,
            greatest="greatest",
            returning="RETURNING number",
            skip_locked="FOR UPDATE SKIP LOCKED",
            locked="FOR UPDATE",
        )
        text = _TABLES.sub(lambda found: f"{_quoted(self._schema)}.{found[0]}", text)
        return _PARAMETERS.sub(r"%(\1)s", text)

    def stored_number(self, cursor: Any) -> int | None:  # noqa: ANN401 - as the other backend takes it
        """Return what the statement returned."""
        row = cursor.fetchone()
        return None if row is None else row[0]

    def here(self, text: str) -> str:
        """Return the statement with a condition on the name of the database, and the id of the journal in it.

        A copy of the database has the same id.
        """
        return text.replace("WHERE true", _HERE)

    def identity(self) -> dict[str, str]:
        """Return the name of the database and the id of the journal."""
        return self._identity

    def check_identity(self, connection: Connection) -> None:
        """Compare the name of the database and the id of the journal."""
        if self._identity_at(connection) != self._identity:
            with self.reading("tell its id") as own:
                self._identity = self._identity_at(own)
            raise JournalError(
                f"the connection leads to another journal than {self.name}, in another database; fix: connect to the "
                "database of the journal"
            )

    def _identity_at(self, connection: Connection) -> dict[str, str]:
        found = connection.exec_driver_sql(self.sql(f"SELECT current_database(), id FROM {PREFIX}journal")).one()
        return {"of_database": found[0], "of_journal": found[1]}

    @contextmanager
    def beside(self, connection: Connection, doing: str) -> Iterator[Connection]:
        """Open a transaction of our own."""
        with self.writing(doing) as own:
            yield own

    def now(self, within: Connection | None = None) -> float:
        """Return the server's time, so that all machines agree.

        The server is asked at most once a minute; in between its time goes on with the elapsed time of this machine.
        """
        elapsed = self.clock.elapsed()
        if self._ahead is None or elapsed - self._ahead[1] > _MINUTE:
            with self.reading("tell the time") if within is None else nullcontext(within) as connection:
                asked = self.clock.elapsed()
                moment: float = connection.exec_driver_sql(f"SELECT {_CLOCK}").scalar_one()
            elapsed = self.clock.elapsed()
            # The answer may be of any moment since it was asked for. It counts as the first one: what is due by the
            # server's clock must not be overlooked by a worker that makes one pass.
            if self._ahead is None or elapsed - asked <= _QUICK_SECONDS:
                self._ahead = moment - asked, elapsed
        return self._ahead[0] + elapsed

    def stamp(self) -> float | None:
        """Return null: the server looks at its clock itself, so that there is one for all machines."""
        return None

    def lock_deliveries(self, connection: Connection) -> None:
        """Lock the table against changes by others."""
        connection.exec_driver_sql(self.sql(f"LOCK TABLE {PREFIX}delivery IN EXCLUSIVE MODE"))

    def share_deliveries(self, connection: Connection) -> None:
        """Lock the table against `lock_deliveries`.

        Taken only when a delivery is changed, after another lock, this could deadlock with those who lock all.
        """
        connection.exec_driver_sql(self.sql(f"LOCK TABLE {PREFIX}delivery IN ROW EXCLUSIVE MODE"))

    def notify(self, connection: Connection) -> None:
        """Wake the workers of all machines when the transaction is committed."""
        connection.exec_driver_sql(f"SELECT pg_notify('{_CHANNEL}', %(schema)s)", {"schema": self._schema})

    def preparing_migration(self) -> tuple[str, ...]:
        """Let one process at a time upgrade; the revisions name tables without a schema."""
        return (
            f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})",
            f"SET LOCAL search_path TO {_quoted(self._schema)}",
        )

    @contextmanager
    def listening(self) -> Iterator[Callable[[float], bool] | None]:
        """Listen for NOTIFY on a connection of its own; yield null behind a pooler, which would share it."""
        with self.errors("listen"):
            connection = self.open().raw_connection()
            try:
                if _is_pooled(connection):
                    yield None
                    return
                driver: Any = connection.driver_connection
                connection.detach()
                driver.autocommit = True
                driver.execute(f"LISTEN {_CHANNEL}")
                yield (
                    lambda seconds: (
                        self._schema in [told.payload for told in driver.notifies(timeout=seconds, stop_after=1)]
                    )
                )
            finally:
                connection.close()


def _quoted(name: str | None) -> str:
    """Return an identifier as SQL writes it."""
    return '"' + (name or "").replace('"', '""') + '"'
