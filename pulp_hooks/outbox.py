"""The outbox of a host: events go into the journal, and not to the listeners."""

import threading
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.dispatch.outcomes import Outcome, Report, Status
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.frames import calls_under_way
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import JournalSettings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pulp_hooks.journal.journal import Journal

_log = safe_logger(__name__)


class Outbox:
    """Puts events into a journal, and says what becomes of those that it cannot take.

    Args:
        settings: Where the journal is, and what is done when it cannot take an event.
        journal: The journal, when the host has one in hand.
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
            JournalError: There can be no such journal.
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
        self, event: Event, guards: Sequence[Guard], connection: "Connection | None", ordered: Collection[str]
    ) -> Report | None:
        """Store an event with a delivery for each listener.

        Args:
            event: The event.
            guards: The guards of those who are to have it.
            connection: The host's own connection, for the event to be committed with the host's work.
            ordered: Names of the listeners that are to have the events of one repository in their order.

        Returns:
            The report; null if the journal cannot take the event and it is to be dispatched directly.

        Raises:
            JournalError: The journal cannot take the event, and it is not to be dispatched directly; or the event may
                be stored, and the error has its `event_id`.
        """
        hooks = {guard.listener: guard.hook for guard in guards}
        try:
            # Past the lock, which is there for the first use.
            journal = self._journal or self.journal
            is_new = journal.append(event, list(hooks), connection, ordered=ordered)
        except JournalError as error:
            # An event that may be stored must not be dispatched as well: the workers would deliver it a second time.
            if self._settings.on_error == "raise" or connection is not None or error.event_id is not None:
                raise
            _log.error("event %s is dispatched directly, nothing keeps it: %s", event.id, error)
            return None
        if not is_new:
            return Report(event, (), is_duplicate=True)
        return Report(event, tuple([Outcome(*item, Status.QUEUED, 0.0) for item in hooks.items()]))

    def close(self) -> None:
        """Close the connections to the journal, unless it is the host's own."""
        if self._is_own and self._journal is not None:
            self._journal.close()


_JOURNAL = cast("property", Outbox.__dict__["journal"]).fget.__code__  # type: ignore[union-attr] # it has a getter


def open_journal(settings: JournalSettings) -> "Journal":
    """Give the journal of the settings; its database is opened at the first use.

    Raises:
        JournalError: The settings have a fault, the URL is wrong, or what the journal needs is not installed.
    """
    if settings.fault:
        raise JournalError(f"no event is accepted: {settings.fault}; fix: run `pulp-hooks check`")
    try:
        # SQLAlchemy is paid for by those who have a journal.
        from pulp_hooks.journal.journal import Journal  # noqa: PLC0415
        from pulp_hooks.journal.sqlite_file import Synchronous  # noqa: PLC0415
    except ImportError as error:
        raise JournalError(
            f"a journal is configured, and {error.name} is not installed: install pulp-hooks[journal]"
        ) from error
    options: dict[str, Any] = {
        "synchronous": Synchronous(settings.synchronous),
        "busy_seconds": settings.busy_seconds,
    }
    return Journal(settings.url, **options)
