"""The outbox of a host: events are stored in the journal instead of dispatched to the listeners."""

import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pulp_hooks import telemetry
from pulp_hooks.dispatch.outcomes import Outcome, Report, Status
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.frames import calls_under_way
from pulp_hooks.plugins.listeners import Listener
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import JournalSettings, Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from pulp_hooks.journal.journal import Journal

_T = TypeVar("_T")

_log = safe_logger(__name__)


class Outbox:
    """Stores events in a journal, and applies `on_error` to those that the journal cannot take.

    Args:
        opening: Opens the journal, or returns the host's own, at the first use.
        on_error: What to do with an event that the journal cannot take: `raise`, or `dispatch` it directly.
        is_own: Whether `close` closes the journal.
    """

    def __init__(self, opening: "Callable[[], Journal]", on_error: str = "raise", *, is_own: bool = True) -> None:
        self._opening = opening
        self._on_error = on_error
        self._is_own = is_own
        self._journal: Journal | None = None
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
                self._journal = self._opening()
            return self._journal

    @property
    def dispatches(self) -> bool:
        """Whether an event that the journal cannot take is dispatched directly."""
        return self._on_error == "dispatch"

    def put(
        self,
        event: Event,
        recipients: Sequence[Listener],
        connection: "Connection | None",
        settings: Settings,
        *,
        may_be_stored: bool,
    ) -> Report | None:
        """Store an event with a delivery for each listener that takes it.

        Args:
            event: The event.
            recipients: The listeners, in the order of the outcomes. A broken one gets no delivery, and an outcome that
                says why.
            connection: The host's own connection, to commit the event with the host's work.
            settings: Which listeners get the events of one repository in order.
            may_be_stored: Whether the event may have been stored by an earlier call.

        Returns:
            The report; null if the journal cannot take the event and it is to be dispatched directly.

        Raises:
            JournalError: The journal cannot take the event, and it is not to be dispatched directly. If the event may
                be stored, the error has its `event_id`.
        """
        takers = [listener for listener in recipients if listener.fault or listener.takes(event)]
        names = [listener.name for listener in takers if not listener.fault]
        try:
            # Without the lock, which protects the first use only.
            journal = self._journal or self.journal
            ordered = [name for name in names if settings.delivery_of(name).ordered]
            trace_context = telemetry.trace_context()
            is_new = journal.append(event, names, connection, ordered=ordered, trace_context=trace_context)
        except JournalError as error:
            if may_be_stored:
                error.event_id = event.id
            # Workers would deliver an event that is stored a second time.
            if not self.dispatches or connection is not None or error.event_id is not None:
                raise
            _log.error("event %s is dispatched directly and not stored: %s", event.id, error)
            return None
        if not is_new:
            return Report(event, (), is_duplicate=True)
        return Report(event, tuple([_outcome(event, listener) for listener in takers]))

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
    try:
        # Only hosts with a journal pay for importing SQLAlchemy.
        from pulp_hooks.journal.journal import Journal  # noqa: PLC0415
        from pulp_hooks.journal.sqlite_file import Synchronous  # noqa: PLC0415
    except ImportError as error:
        raise JournalError(
            f"a journal is configured, and {error.name} is not installed; fix: install pulp-hooks[journal]"
        ) from error
    options: dict[str, Any] = {
        "schema": settings.schema,
        "synchronous": Synchronous(settings.synchronous),
        "busy_seconds": settings.busy_seconds,
    }
    return Journal(settings.url, **options)


def _outcome(event: Event, listener: Listener) -> Outcome:
    hook = event.type.hook_name
    if listener.fault is None:
        return Outcome(listener.name, hook, Status.QUEUED, 0.0)
    _log.error(
        "event %s is not queued for listener %s: %s; fix: run `pulp-hooks check`",
        *(event.id, listener.name, listener.fault),
    )
    return Outcome(listener.name, hook, Status.NOT_QUEUED, 0.0, listener.fault)
