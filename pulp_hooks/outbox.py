"""The outbox of a host: events are stored in the journal instead of dispatched to the listeners."""

import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pulp_hooks import telemetry
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.dispatch.outcomes import Outcome, Report, Status
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.frames import calls_under_way
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import JournalSettings

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from pulp_hooks.journal.journal import Journal

_T = TypeVar("_T")

_log = safe_logger(__name__)


class Outbox:
    """Stores events in a journal, and applies `on_error` to those that the journal cannot take.

    Args:
        settings: Settings of the journal.
        journal: The host's own journal, if it has one open.
    """

    def __init__(self, settings: JournalSettings, journal: "Journal | None" = None) -> None:
        self._settings = settings
        self._journal = journal
        self._is_own = journal is None
        self._making = threading.Lock()

    @property
    def journal(self) -> "Journal":
        """The journal.

        Raises:
            JournalError: The journal cannot be opened.
        """
        if self._making.locked() and calls_under_way(_JOURNAL, self):
            raise JournalError(
                "the journal cannot be used here: it was called while this thread was opening it; "
                "fix: do not fire events in signal handlers, __del__ methods or logging handlers"
            )
        with self._making:
            if self._journal is None:
                self._journal = open_journal(self._settings)
            return self._journal

    def put(
        self,
        event: Event,
        guards: Sequence[Guard],
        connection: "Connection | None",
        ordered: Collection[str],
        *,
        may_be_stored: bool,
    ) -> Report | None:
        """Store an event with a delivery for each listener.

        Args:
            event: The event.
            guards: The guards of its listeners.
            connection: The host's own connection, to commit the event with the host's work.
            ordered: Names of the listeners that get the events of one repository in order.
            may_be_stored: Whether the event may have been stored by an earlier call.

        Returns:
            The report; null if the journal cannot take the event and it is to be dispatched directly.

        Raises:
            JournalError: The journal cannot take the event, and it is not to be dispatched directly. If the event may
                be stored, the error has its `event_id`.
        """
        hooks = {guard.listener: guard.hook for guard in guards}
        try:
            # Without the lock, which protects the first use only.
            journal = self._journal or self.journal
            trace_context = telemetry.trace_context()
            is_new = journal.append(event, hooks, connection, ordered=ordered, trace_context=trace_context)
        except JournalError as error:
            if may_be_stored:
                error.event_id = event.id
            # Workers would deliver an event that is stored a second time.
            if self._settings.on_error == "raise" or connection is not None or error.event_id is not None:
                raise
            _log.error("event %s is dispatched directly and not stored: %s", event.id, error)
            return None
        if not is_new:
            return Report(event, (), is_duplicate=True)
        return Report(event, tuple([Outcome(*item, Status.QUEUED, 0.0) for item in hooks.items()]))

    def close(self) -> None:
        """Close the connections to the journal, unless it is the host's own."""
        if self._is_own and self._journal is not None:
            self._journal.close()


_JOURNAL = cast("property", Outbox.__dict__["journal"]).fget.__code__  # type: ignore[union-attr] # it has a getter


def run_sync_of(connection: "AsyncConnection") -> "Callable[[Callable[[Connection], _T]], Awaitable[_T]]":
    """Return the method of a host's asynchronous connection that calls a function with a synchronous one.

    Raises:
        JournalError: It is not an asynchronous connection.
    """
    run_sync: Callable[[Callable[[Connection], _T]], Awaitable[_T]] | None = getattr(connection, "run_sync", None)
    if run_sync is None:
        raise JournalError(
            f"connection must be an SQLAlchemy AsyncConnection, not {type(connection).__name__}; fix: pass the "
            "connection of `async with engine.begin() as connection`, or `await session.connection()`"
        )
    return run_sync


def open_journal(settings: JournalSettings) -> "Journal":
    """Return the journal of the settings; its database is opened at the first use.

    Raises:
        JournalError: The settings or the URL are invalid, or a package that the journal needs is not installed.
    """
    if settings.fault:
        raise JournalError(f"no event is accepted: {settings.fault}; fix: run `pulp-hooks check`")
    try:
        # Only hosts with a journal pay for importing SQLAlchemy.
        from pulp_hooks.journal.journal import Journal  # noqa: PLC0415
        from pulp_hooks.journal.sqlite_file import Synchronous  # noqa: PLC0415
    except ImportError as error:
        raise JournalError(
            f"a journal is configured, and {error.name} is not installed; fix: install pulp-hooks[journal]"
        ) from error
    options: dict[str, Any] = {
        "synchronous": Synchronous(settings.synchronous),
        "busy_seconds": settings.busy_seconds,
    }
    return Journal(settings.url, **options)
