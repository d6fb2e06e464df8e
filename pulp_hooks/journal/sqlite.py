"""The journal in a SQLite file. One process at a time writes; readers do not wait."""

import os
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection
from sqlalchemy.dialects import sqlite

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.backend import Backend
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.host_connections import AUTOCOMMIT
from pulp_hooks.journal.opening import READS, check_names, check_version, create, is_journal
from pulp_hooks.journal.sqlite_file import SqliteFile, Synchronous, roll_back, turn_on_write_ahead_log


class SqliteBackend(Backend):
    """A journal in a SQLite file.

    Attributes:
        file: The file.
    """

    dialect: ClassVar[str] = "sqlite"
    insert: ClassVar[Any] = staticmethod(sqlite.insert)

    def __init__(self, url: URL, busy_seconds: float, synchronous: Synchronous, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(url, busy_seconds, clock)
        self.file = SqliteFile(url, self.name, synchronous, busy_seconds)

    def _connected(self) -> Engine:
        return self.file.engine()

    def _looking_engine(self) -> Engine:
        return self.file.looking_engine()

    def _migrating_engine(self) -> Engine:
        engine = self.file.engine()
        # Without it a second upgrade that looks whether it can begin may keep the first one from committing.
        turn_on_write_ahead_log(engine)
        return engine

    def _prepared(self, engine: Engine) -> Engine:
        # A journal that is there is only read, so that it can be opened while others write.
        with engine.connect().execution_options(**{READS: True}) as connection:
            is_new = not is_journal(connection)
            if is_new:
                check_names(connection, self.name)
            else:
                check_version(connection, self.name)
        turn_on_write_ahead_log(engine)
        if is_new:
            with engine.begin() as connection:
                self._create(connection)
        return engine

    def _create(self, connection: Connection) -> None:
        """Create the tables, unless another process was quicker."""
        if not is_journal(connection):
            check_names(connection, self.name)
            create(connection)
        check_version(connection, self.name)

    def is_there(self) -> bool:
        """Return whether the journal exists, without creating it or changing a database of another program."""
        return self.file.path.exists() and super().is_there()

    def check_place(self) -> None:
        """Check that the file can be created, without creating it."""
        path = self.file.path
        self.file.check_folder()
        for place in (path.parent, path):
            if place.exists() and not os.access(place, os.W_OK):
                raise JournalError(f"the journal {self.name} cannot be created: {place} is not writable")
        if path.exists():
            super().check_place()

    def _check_new(self, connection: Connection) -> None:
        check_names(connection, self.name)

    def _is_in_place(self) -> bool:
        return self.file.is_in_place()

    def _keep_room(self, connection: PoolProxiedConnection) -> None:
        self.file.keep_room(connection)

    # Transactions

    def _connect(self) -> PoolProxiedConnection:
        return self.file.connect()

    def _begin(self, connection: PoolProxiedConnection, cursor: Any) -> None:  # noqa: ANN401 - as the other backend takes it
        self.file.keep_room(connection)
        self.file.begin_immediate(connection, cursor, on_busy=self._refuse_itself)

    def _drop(self, connection: PoolProxiedConnection) -> None:
        roll_back(connection)
        connection.invalidate()
        connection.close()

    def _begin_within(self, connection: Connection) -> None:
        # The driver begins no transaction at a savepoint, and the end of an outermost savepoint would commit.
        _ = connection.get_transaction() or connection.begin()
        self.file.check_connection(connection)
        driver = connection.connection.driver_connection
        if driver is not None and not driver.in_transaction:
            if driver.isolation_level is None:
                raise JournalError(AUTOCOMMIT)
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _join(self, connection: Connection) -> None:
        """Create the tables of a new journal in the host's transaction."""
        if self._engine is None:
            self._create(connection)

    # SQL

    def _translated(self, text: str) -> str:
        return text.format(now=":now", greatest="max", returning="", skip_locked="", locked="")

    def stored_number(self, cursor: Any) -> int | None:  # noqa: ANN401 - as the other backend takes it
        """Return the key of the row, which the driver knows; RETURNING takes 4 us longer."""
        return cursor.lastrowid if cursor.rowcount else None
