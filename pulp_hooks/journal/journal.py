"""The journal: one facade for hosts, workers and commands."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal import appending
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.listeners import Listeners
from pulp_hooks.journal.opening import Upgrade
from pulp_hooks.journal.postgresql import PostgresqlBackend
from pulp_hooks.journal.queries import Queries
from pulp_hooks.journal.queue import Queue
from pulp_hooks.journal.replay import Replay
from pulp_hooks.journal.retention import Retention
from pulp_hooks.journal.sqlite import SqliteBackend
from pulp_hooks.journal.sqlite_file import Synchronous
from pulp_hooks.journal.urls import journal_url
from pulp_hooks.safe_logger import safe_logger

_log = safe_logger(__name__)

_LOOK_SECONDS = 0.5
"""How often a thread that listens for new deliveries looks whether it is to end."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
"""How long it waits before it connects again to a server that went away; it grows."""


class Journal(Queries, Replay, Listeners, Retention):
    """Stores events with a delivery for each listener, and all that becomes of them.

    The database is opened at the first use. Every method but `close` raises `JournalError` when the database fails;
    then nothing is changed, unless the method says otherwise. Its bases have what lists, replays, changes listeners and
    prunes.

    Args:
        url: URL of a SQLite file or of a PostgreSQL database.
        synchronous: How far SQLite waits for the disk.
        busy_seconds: How long to wait for a lock, and for a server that does not answer.
        schema: Schema of the tables in a PostgreSQL database; null: the first one of the search path.
        clock: The clock of this machine.

    Raises:
        JournalError: The URL is not one of a SQLite file or of PostgreSQL.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: Synchronous = Synchronous.NORMAL,
        busy_seconds: float = 10.0,
        schema: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        parsed = journal_url(url)
        if parsed.get_backend_name() == "sqlite":
            if schema is not None:
                raise JournalError("a SQLite file has no schemas; fix: remove `schema` from [journal]")
            self.backend = SqliteBackend(parsed, busy_seconds, synchronous, clock)
        else:
            self.backend = PostgresqlBackend(parsed, busy_seconds, schema, clock)
        # For workers: it is not part of the public API, nor is the database.
        self.queue = Queue(self.backend)
        self._subscribers: list[Callable[[], None]] = []

    @property
    def name(self) -> str:
        """The URL without secrets."""
        return self.backend.name

    @property
    def is_file(self) -> bool:
        """Whether it is in a file of this machine, which a forked child must not inherit open."""
        return isinstance(self.backend, SqliteBackend)

    def __repr__(self) -> str:
        return f"<Journal {self.name}>"

    # The database

    def open(self) -> None:
        """Open the database, and create the tables where there are none."""
        self.backend.open()

    def close(self) -> None:
        """Close every connection to the database; the next use opens it again."""
        self.backend.close()

    def exists(self) -> bool:
        """Return whether the journal exists, without creating it or changing a database of another program."""
        return self.backend.is_there()

    def check(self) -> None:
        """Check that events can be stored and delivered.

        Nothing is created, and what is written is rolled back.
        """
        appending.check(self.backend)

    def upgrade(self, *, dry_run: bool = False) -> Upgrade:
        """Change the tables to the schema version of this release.

        Hosts and workers of the release before it can go on meanwhile, unless the release notes say otherwise.

        Args:
            dry_run: Change nothing.

        Returns:
            The versions before and after, and the SQL that was, or would be executed.
        """
        from pulp_hooks.journal.upgrading import upgrade  # noqa: PLC0415 - Alembic, for those who upgrade

        return upgrade(self.backend, dry_run=dry_run)

    def now(self) -> float:
        """Return the journal's time, in seconds since 1970: of PostgreSQL the server's, else this machine's."""
        return self.backend.now()

    # Events go in

    def append(  # noqa: PLR0913 - each is one fact about what is stored
        self,
        event: Event,
        listeners: Iterable[str],
        connection: Connection | None = None,
        *,
        ordered: Collection[str] = (),
        trace_context: str | None = None,
        now: float | None = None,
    ) -> bool:
        """Store an event with a delivery for each listener, all or nothing; those of disabled listeners are held.

        Args:
            event: The event.
            listeners: Names of the listeners.
            connection: The host's own connection to the same database: the event is committed with the host's work.
            ordered: Those of the listeners that get the events of one repository in the order of these calls.
            trace_context: The span in which the event is fired, as `traceparent` of W3C Trace Context.
            now: The time, if not that of the clock; seconds since 1970.

        Returns:
            False when there is an event of this id already; then nothing is stored.

        Raises:
            JournalError: The event could not be stored. Nothing of it is, unless the error has its `event_id`.
        """
        is_new = appending.append(
            self.backend, event, listeners, connection, ordered=ordered, trace_context=trace_context, now=now
        )
        if is_new and connection is None:
            for wake in tuple(self._subscribers):
                wake()
        return is_new

    @contextmanager
    def subscribed(self, wake: Callable[[], None]) -> Iterator[None]:
        """Return a context manager in which a function is called after each new delivery.

        Deliveries that this object stores count, and where the database can tell, those of all processes.

        Args:
            wake: The function. It may be called more often, from any thread.
        """
        self._subscribers.append(wake)
        over = threading.Event()
        thread = threading.Thread(target=self._listen, args=(wake, over), name="pulp_hooks waking", daemon=True)
        if self.backend.wakes:
            thread.start()
        try:
            yield
        finally:
            over.set()
            self._subscribers.remove(wake)
            if thread.is_alive():
                thread.join(2 * _LOOK_SECONDS)

    def _listen(self, wake: Callable[[], None], over: threading.Event) -> None:
        pause = 0.0
        while not over.wait(pause):
            try:
                with self.backend.listening() as heard:
                    if heard is None:
                        _log.info("the journal %s is behind a pooler; workers look once a second", self.name)
                        return
                    # Deliveries that were stored while nobody listened.
                    wake()
                    pause = 0.0
                    while not over.is_set():
                        if heard(_LOOK_SECONDS):
                            wake()
            except JournalError as error:
                pause = min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)
                _log.info("%s; retrying in %.1f s", error, pause)
