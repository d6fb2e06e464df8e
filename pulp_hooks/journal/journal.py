"""The journal: one facade for hosts, workers and commands."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal import appending, listeners, queries, replay, retention
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.journal.listeners import Renamed, StoredListener
from pulp_hooks.journal.opening import Upgrade
from pulp_hooks.journal.postgresql import PostgresqlBackend
from pulp_hooks.journal.queries import ALL, Filter, Page, Statistics, StoredAttempt, StoredDelivery, StoredEvent
from pulp_hooks.journal.queue import Queue
from pulp_hooks.journal.replay import Finished, Missed
from pulp_hooks.journal.retention import Pruned
from pulp_hooks.journal.sqlite import SqliteBackend
from pulp_hooks.journal.sqlite_file import Synchronous
from pulp_hooks.journal.urls import journal_url
from pulp_hooks.safe_logger import safe_logger

_log = safe_logger(__name__)

_LOOK_SECONDS = 0.5
"""How often a thread that listens for new deliveries looks whether it is to end."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
"""How long it waits before it connects again to a server that went away; it grows."""


class Journal:
    """Stores events with a delivery for each listener, and all that becomes of them.

    The database is opened at the first use. Every method but `close` raises `JournalError` when the database fails;
    then nothing is changed, unless the method says otherwise.

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
            self.backend: SqliteBackend | PostgresqlBackend = SqliteBackend(parsed, busy_seconds, synchronous, clock)
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

    # What is in it

    def events(self, wanted: Filter = ALL, limit: int = 50, before: str | None = None) -> Page[StoredEvent]:
        """Return a page of events, newest first.

        Args:
            wanted: Which ones; states and listener are not looked at.
            limit: How many at most.
            before: `next` of the page before.
        """
        return queries.events(self.backend, wanted, limit, before)

    def content(self, event_id: str) -> bytes | None:
        """Return an event as JSON, byte by byte as it was stored; null when the journal does not have it."""
        return queries.content(self.backend, event_id)

    def deliveries(self, wanted: Filter = ALL, limit: int = 50, before: str | None = None) -> Page[StoredDelivery]:
        """Return a page of deliveries, those of the newest events first.

        Args:
            wanted: Which ones.
            limit: How many at most.
            before: `next` of the page before.
        """
        return queries.deliveries(self.backend, wanted, limit, before)

    def deliveries_of(self, event_id: str, listener: str | None = None) -> list[StoredDelivery]:
        """Return the deliveries of an event, or the one to a listener, by name of the listener."""
        return queries.deliveries_of(self.backend, event_id, listener)

    def attempts(self, event_id: str, listener: str) -> list[StoredAttempt]:
        """Return the attempts of a delivery, oldest first, also those of which nothing was recorded."""
        return queries.attempts(self.backend, event_id, listener)

    def statistics(self, since: float | None = None) -> list[Statistics]:
        """Return the figures of every listener that has deliveries or is disabled, by name.

        Args:
            since: Count the seconds of attempts that began then or later; seconds since 1970.
        """
        return queries.statistics(self.backend, since)

    # Delivering again

    def replay(self, event_id: str, listener: str, *, now: float | None = None) -> bool:
        """Make a finished delivery due again, with a new retry schedule; its attempts are counted on.

        Returns:
            False when there is no such delivery, or it is not finished.
        """
        return replay.replay_one(self.backend, event_id, listener, now)

    def replay_finished(self, wanted: Finished, *, now: float | None = None) -> int:
        """Make finished deliveries due again, and return how many.

        All are changed in one transaction: with a million of them other writers wait for many seconds.
        """
        return replay.replay_many(self.backend, wanted, now)

    def count_finished(self, wanted: Finished) -> int:
        """Return how many deliveries `replay_finished` would make due again."""
        return replay.count_finished(self.backend, wanted)

    def end_pauses(self, *, now: float | None = None) -> int:
        """Make every delivery due that waits for its next attempt, and return how many."""
        return replay.end_pauses(self.backend, now)

    def backfill(self, listener: str, missed: Missed, *, ordered: bool = False, now: float | None = None) -> int:
        """Store deliveries of events that a listener has none of, and return how many.

        They are stored in batches, so that other writers get their turn. After an error those that were stored stay,
        and the same call does the rest.

        Args:
            listener: Name of the listener.
            missed: Which events.
            ordered: Whether the listener gets the events of each repository in their order.
            now: The time, if not that of the clock; seconds since 1970.
        """
        return replay.backfill(self.backend, listener, missed, now, ordered=ordered)

    def count_missed(self, listener: str, missed: Missed) -> int:
        """Return how many deliveries `backfill` would store."""
        return replay.count_missed(self.backend, listener, missed)

    # Listeners

    def listeners(self) -> list[StoredListener]:
        """Return every listener that ever had a delivery or was disabled, by name."""
        return listeners.known(self.backend)

    def disable(self, listener: str, reason: str, *, now: float | None = None) -> int:
        """Disable a listener, and return how many deliveries are now on hold.

        A delivery that a worker has claimed is left to it. If the listener is disabled already, its first reason stays.
        All are changed in one transaction: with a million of them
        other writers wait for many seconds.
        """
        return listeners.disable(self.backend, listener, reason, now)

    def enable(self, listener: str, per_second: float, *, now: float | None = None) -> int:
        """Enable a listener, and return how many deliveries that were on hold are due again.

        They become due one after the other, oldest first. So do deliveries that are on hold although the listener is
        enabled: a host's transaction that began while it was disabled may have stored them.

        Args:
            listener: Name of the listener.
            per_second: How many become due in each second.
            now: The time, if not that of the clock; seconds since 1970.
        """
        return listeners.enable(self.backend, listener, per_second, now)

    def rename(self, old: str, new: str) -> Renamed:
        """Move all deliveries of a listener to another name, and return how many were moved and deleted.

        Of an event that both names have a delivery of, a finished one stays, otherwise that of the new name; the other
        one is deleted. A disabled listener stays disabled.

        Raises:
            JournalError: There is no listener of the old name, a worker is delivering to it, or the database failed.
        """
        return listeners.rename(self.backend, old, new)

    # Retention

    def prune(
        self, *, delivered_before: float, dead_before: float, progress: Callable[[int], None] | None = None
    ) -> Pruned:
        """Delete finished deliveries that are old, with their attempts, and old events without deliveries.

        They are deleted in batches, so that other writers get their turn. After an error those that were deleted stay
        so. Unfinished deliveries are never deleted.

        Args:
            delivered_before: Delete what was delivered or skipped earlier; seconds since 1970.
            dead_before: Delete what was given up earlier.
            progress: Called with how many more deliveries were deleted.
        """
        return retention.prune(self.backend, delivered_before, dead_before, progress)

    def count_prunable(self, *, delivered_before: float, dead_before: float) -> int:
        """Return how many deliveries `prune` would delete."""
        return retention.count_prunable(self.backend, delivered_before, dead_before)
