"""The journal as a host sees it: events go in."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Insert,
    LargeBinary,
    Text,
    bindparam,
    case,
    cast,
    delete,
    extract,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.database import AUTOCOMMIT, CommitLostError, Database
from pulp_hooks.journal.sqlite_file import Synchronous
from pulp_hooks.journal.statements import driver_text, insert_new
from pulp_hooks.journal.tables import State, attempt, delivery, event, journal, listener

_DOING = "take the event"
"""What messages say that the journal could not do."""

_RETRY_SECONDS = 0.1
"""Pause before an event is stored again whose commit was lost."""


class Journal:
    """Takes events, each with one delivery for every listener that is to have it.

    Attributes:
        database: Where they are kept.

    Raises:
        JournalError: The URL is none of a SQLite file or of PostgreSQL.
    """

    def __init__(self, url: str, *, synchronous: Synchronous = Synchronous.NORMAL, busy_seconds: float = 10.0) -> None:
        self.database = Database(url, synchronous=synchronous, busy_seconds=busy_seconds)
        self._subscribers: list[tuple[int, Callable[[], None]]] = []

    def append(
        self,
        appended: Event,
        listeners: Sequence[str],
        connection: Connection | None = None,
        now: float | None = None,
        *,
        ordered: Collection[str] = (),
    ) -> bool:
        """Store an event and its deliveries, all or nothing; deliveries to disabled listeners are held.

        Args:
            appended: The event.
            listeners: Names of the listeners that are to have it.
            connection: The host's own connection to the same database: the event is committed with the host's work.
            now: The time, if not that of the clock.
            ordered: Those of the listeners that are to have the events of one repository in their order, which is that
                of the calls, whatever the clock does.

        Returns:
            False when there is an event of this id already; then nothing is stored.

        Raises:
            JournalError: The event could not be stored. Nothing of it is, unless the error has its `event_id`.
        """
        if connection is not None:
            self.database.check_connection(connection)
        dialect = "sqlite" if self.database.is_sqlite else "postgresql"
        # The server looks at its clock itself: so its time is right, and there is one for all machines.
        created = self.database.now() if now is None and self.database.is_sqlite else now
        repo_id = str(appended.body["repo_id"]).encode()
        row = {
            "id": appended.id,
            "type": appended.type.value,
            "time": appended.time.timestamp(),
            "repo_id": repo_id,
            "content": appended.to_json().encode(),
        }
        rows = [
            {
                "event_id": appended.id,
                "listener": name,
                "lane": lane(repo_id) if name in ordered else None,
                "created": created,
            }
            for name in dict.fromkeys(listeners)
        ]
        if connection is not None:
            return self._store_within(connection, dialect, row, rows)
        work = partial(_stored, dialect=dialect, row=row, rows=rows)
        try:
            is_new = self.database.write(_DOING, work)
        except CommitLostError as error:
            is_new = bool(error.result)
            if is_new:
                self._store_again(work, appended.id, error)
        if is_new:
            self._wake()
        return is_new

    def _wake(self) -> None:
        for process, wake in tuple(self._subscribers):
            # The threads of those who subscribed before a fork are the parent's.
            if process == os.getpid():
                wake()

    def _store_within(
        self, connection: Connection, dialect: str, row: dict[str, Any], rows: Sequence[dict[str, Any]]
    ) -> bool:
        """Store an event and its deliveries in a host's transaction; return false if there is an event of its id."""
        with self._within(connection, _DOING) as transaction:
            if dialect == "sqlite":
                found = transaction.execute(_EVENTS[dialect].returning(event.c.id), row).first()
            else:
                found = transaction.execute(_EVENT_HERE, row | self.database.identity()).first()
                if found is None:
                    self.database.check_identity(transaction)
            if found is None:
                return False
            for statement, lot in _lots(dialect, rows):
                transaction.execute(statement, lot)
        return True

    def _store_again(self, work: Callable[[Any], bool], event_id: str, lost: CommitLostError) -> None:
        """Store an event whose commit may or may not have reached the server; that it is there already is fine.

        The server decides: an insert waits for a transaction of the lost connection that is still open.

        Raises:
            JournalError: It is still unknown after `busy_seconds` whether the event is stored.
        """
        error: Exception = lost
        deadline = time.monotonic() + self.database.busy_seconds
        while True:
            try:
                self.database.write(_DOING, work)
            except JournalError as another:
                error = another
            else:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(_RETRY_SECONDS)
        unknown = JournalError(
            f"the event may be stored: the connection was lost during the commit, and then {error}; "
            f"fix: fire again with event_id={event_id!r}"
        )
        unknown.event_id = event_id
        raise unknown from error

    def check(self) -> None:
        """Check that events can be stored and delivered; nothing is created, and what is written is rolled back.

        Raises:
            JournalError: Something of that is not possible.
        """
        if not self.database.is_there():
            self.database.check_place()
            return
        dialect = "sqlite" if self.database.is_sqlite else "postgresql"
        names = {"event_id": new_id(), "listener": new_id()}
        row = {"id": names["event_id"], "type": "", "time": 0.0, "repo_id": b"", "content": b""}
        rows = [{**names, "lane": None, "created": 0.0}]
        key = {**names, "number": 1}
        with self.database.trial() as connection:
            with self.database.errors("store an event"):
                connection.execute(_EVENTS[dialect], row)
                for statement, lot in _lots(dialect, rows):
                    connection.execute(statement, lot)
            with self.database.errors("record a delivery"):
                connection.execute(update(delivery).where(delivery.c.event_id == row["id"]).values(tries=1))
                connection.execute(insert(attempt), {**key, "started": 0.0, "seconds": 0.0, "status": ""})
            with self.database.errors("keep what it knows of listeners"):
                connection.execute(insert(listener), {"name": names["listener"]})
                connection.execute(update(listener).where(listener.c.name == names["listener"]).values(reason=""))
            with self.database.errors("prune"):
                for table, column in ((delivery, delivery.c.event_id), (event, event.c.id)):
                    connection.execute(delete(table).where(column == row["id"]))

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after each event that is stored here; give what ends that."""
        subscriber = (os.getpid(), wake)
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def close(self) -> None:
        """Close every connection to the database; the next use opens it again."""
        self.database.close()

    @contextmanager
    def _within(self, connection: Connection, doing: str) -> Iterator[Connection]:
        """Give the host's connection within a savepoint: it undoes our part alone, and commits nothing."""
        with self.database.errors(doing):
            if connection.dialect.name == "sqlite":
                # The driver begins no transaction at a savepoint, and the end of an outermost savepoint would commit.
                _ = connection.get_transaction() or connection.begin()
                driver = connection.connection.driver_connection
                if driver is not None and not driver.in_transaction:
                    if driver.isolation_level is None:
                        raise JournalError(AUTOCOMMIT)
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
            with connection.begin_nested():
                self.database.join(connection)
                yield connection


def _stored(cursor: Any, *, dialect: str, row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> bool:  # noqa: ANN401 - of either driver
    """Store an event and its deliveries; return false when there is an event of its id."""
    cursor.execute(driver_text(_EVENTS[dialect], dialect), row)
    if cursor.rowcount == 0:
        return False
    for statement, lot in _lots(dialect, rows):
        cursor.executemany(driver_text(statement, dialect), lot)
    return True


def disabled_listeners(connection: Connection) -> set[str]:
    """Give the names of all listeners that are disabled."""
    return set(connection.execute(select(listener.c.name).where(listener.c.disabled_at.is_not(None))).scalars())


def is_disabled(name: ColumnElement[str]) -> ColumnElement[bool]:
    """Give the condition that the listener of this name is disabled."""
    return select(listener.c.name).where(listener.c.name == name, listener.c.disabled_at.is_not(None)).exists()


def lane(repo_id: bytes) -> bytes:
    """Give what stands for a repository in a delivery."""
    return blake2b(repo_id, digest_size=16).digest()


_EVENTS = {"sqlite": insert_new("sqlite", event), "postgresql": insert_new("postgresql", event)}

# The search path of a host's connection may change between two events, so each is stored only where the journal is.
_EVENT_HERE = (
    postgresql.insert(event)
    .from_select(
        [column.name for column in event.columns],
        select(*[bindparam(column.name, type_=column.type) for column in event.columns]).where(
            select(journal.c.id)
            .where(journal.c.id == bindparam("of_journal"), func.current_database() == bindparam("of_database"))
            .exists()
        ),
    )
    .on_conflict_do_nothing()
    .returning(event.c.id)
)

_NAME, _LANE = bindparam("listener", type_=Text), bindparam("lane", type_=LargeBinary)
_CLOCKS: dict[str, ColumnElement[float]] = {
    "sqlite": bindparam("created", type_=Double),
    "postgresql": func.coalesce(
        bindparam("created", type_=Double), cast(extract("epoch", func.clock_timestamp()), Double)
    ),
}

# Far more than a moment is rounded by, and nothing that anybody notices.
_STEP: ColumnElement[float] = literal_column("0.000001")


def _storing(dialect: str, *, ordered: bool) -> Insert:
    """Give the statement that stores a delivery; those that are to be made in order come behind all that wait."""
    # A listener may be disabled meanwhile, so that the database decides at the moment of storing.
    facts: list[ColumnElement[Any]] = [is_disabled(_NAME).label("disabled"), _CLOCKS[dialect].label("moment")]
    if ordered:
        newest = select(func.max(delivery.c.created)).where(
            delivery.c.listener == _NAME, delivery.c.lane == _LANE, delivery.c.finished.is_(None)
        )
        facts.append((newest.scalar_subquery() + _STEP).label("behind"))
    now = select(*facts).subquery("now")
    created = case((now.c.behind > now.c.moment, now.c.behind), else_=now.c.moment) if ordered else now.c.moment
    return insert(delivery).from_select(
        ["event_id", "listener", "lane", "state", "due", "tries", "attempts", "created"],
        select(
            bindparam("event_id", type_=Text),
            _NAME,
            _LANE,
            case(
                (now.c.disabled, literal_column(f"'{State.HELD.value}'")),
                else_=literal_column(f"'{State.WAITING.value}'"),
            ),
            case((now.c.disabled, null()), else_=now.c.moment),
            literal_column("0"),
            literal_column("0"),
            created,
        ),
        include_defaults=False,
    )


_DELIVERIES = {
    (dialect, ordered): _storing(dialect, ordered=ordered) for dialect in _CLOCKS for ordered in (False, True)
}


def _lots(dialect: str, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Insert, list[dict[str, Any]]]]:
    """Give the statements that store deliveries, each with its rows; those in any order do not pay for the others."""
    lots: dict[bool, list[dict[str, Any]]] = {}
    for row in rows:
        lots.setdefault(row["lane"] is not None, []).append(row)
    for ordered, lot in lots.items():
        yield _DELIVERIES[dialect, ordered], lot
