"""The outbox of a host: events go into the journal, and not to the listeners."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.frames import calls_under_way
from pulp_hooks.outcomes import Outcome, Report, Status
from pulp_hooks.plugins.listeners import Listener
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import JournalSettings, Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pulp_hooks.journal.journal import Journal

_log = safe_logger(__name__)


class Outbox:
    """Puts events into a journal, and decides what happens to those that it cannot take.

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
            JournalError: There can be no such journal.
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
    ) -> Report | None:
        """Store an event with a delivery for each listener that takes it.

        Args:
            event: The event.
            recipients: The listeners, in the order of the outcomes. A broken one gets no delivery, and an outcome that
                says why.
            connection: The host's own connection, for the event to be committed with the host's work.
            settings: Which listeners get the events of one repository in their order.

        Returns:
            The report, without outcomes when the journal knows the event's id already. Nothing when the journal
            cannot take the event and it is to be dispatched directly.

        Raises:
            JournalError: The journal cannot take the event, and it is not to be dispatched directly; or the event may
                be stored, and the error has its `event_id`.
        """
        takers = [listener for listener in recipients if listener.fault or listener.takes(event)]
        names = [listener.name for listener in takers if not listener.fault]
        try:
            # Past the lock, which is there for the first use.
            journal = self._journal or self.journal
            ordered = [name for name in names if settings.delivery_of(name).ordered]
            is_new = journal.append(event, names, connection, ordered=ordered)
        except JournalError as error:
            # An event that may be stored must not be dispatched as well: the workers would deliver it a second time.
            if not self.dispatches or connection is not None or error.event_id is not None:
                raise
            _log.error("event %s is dispatched directly, nothing keeps it: %s", event.id, error)
            return None
        return Report(event, tuple([_outcome(event, listener) for listener in takers]) if is_new else ())

    def close(self) -> None:
        """Close the connections to the journal, unless it is the host's own."""
        if self._is_own and self._journal is not None:
            self._journal.close()


_JOURNAL = cast("property", Outbox.__dict__["journal"]).fget.__code__  # type: ignore[union-attr] # it has a getter


def open_journal(settings: JournalSettings) -> "Journal":
    """Return the journal of the settings; its database is opened at the first use.

    Raises:
        JournalError: The URL is wrong, or what the journal needs is not installed.
    """
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


def _outcome(event: Event, listener: Listener) -> Outcome:
    hook = event.type.hook_name
    if listener.fault is None:
        return Outcome(listener.name, hook, Status.QUEUED, 0.0)
    _log.error(
        "event %s is not queued for listener %s: %s; fix: run `pulp-hooks check`",
        *(event.id, listener.name, listener.fault),
    )
    return Outcome(listener.name, hook, Status.NOT_QUEUED, 0.0, listener.fault)
