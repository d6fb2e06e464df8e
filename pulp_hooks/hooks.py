"""The facade that a host uses: `Hooks` fires events at the listeners it knows."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from weakref import WeakSet

from pulp_hooks import telemetry
from pulp_hooks.bodies.serializer import BodySerializer
from pulp_hooks.dispatch.copies import Original, TrackedId
from pulp_hooks.dispatch.direct import run_in_turn, run_together
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.dispatch.in_flight import EventsInFlight
from pulp_hooks.dispatch.outcomes import Report
from pulp_hooks.dispatch.registry import Registry
from pulp_hooks.errors import JournalError, SettingsError
from pulp_hooks.event import Event, check_id, check_source
from pulp_hooks.event_types import EventType
from pulp_hooks.firing_methods import FiringMethods
from pulp_hooks.forks import OwnProcess
from pulp_hooks.identifiers import new_id
from pulp_hooks.operations import Operation, PublishOperation, SyncOperation
from pulp_hooks.outbox import Outbox, open_journal, run_sync_of
from pulp_hooks.plugins.closing import close_listener
from pulp_hooks.plugins.listeners import Kind, Listener
from pulp_hooks.plugins.loading import Loader, load_in_hand
from pulp_hooks.problems import Problem
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import DEFAULTS, JournalSettings, Settings
from pulp_hooks.settings.reading import ReadSettings, read_settings
from pulp_hooks.text import did_you_mean
from pulp_hooks.trial_events import event_for_test, found_for_test

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from pulp_hooks.journal.journal import Journal
    from pulp_hooks.worker.worker import Worker

_log = safe_logger(__name__)


class Hooks(FiringMethods):
    """Fires events at listeners. Any number of threads may use one object, and any number of objects one process.

    A forked child creates its own: what it inherited raises `ClosedError`, except for `close`, which does nothing.

    `Hooks({"mail": listener})` knows just the objects in hand, `Hooks.discover()` the installed listeners too.

    Args:
        listeners: Modules, objects with hook implementations, and notifiers, by their names. Without a journal a
            sequence will do, whose objects are named by their classes.
        settings: The settings; those of the installed plugins and of configured listeners are for `discover`.
        source: URI of the host, shown to listeners; by default made of the machine's name.
        journal: A journal, or its URL, in place of that of the settings: events are kept there, and workers deliver
            them.

    Attributes:
        listeners: Every listener found, loaded or not, in the order of their names.
        problems: Everything that is wrong with the settings and with what is installed.

    Raises:
        PluginError: Something is wrong with one of the objects in hand or its name.
        SettingsError: `settings` has plugins to block, or configured listeners.
        EventError: `source` can be no URI.
        JournalError: The URL of the journal is wrong, or what the journal needs is not installed.
    """

    def __init__(
        self,
        listeners: Mapping[str, object] | Sequence[object] = (),
        *,
        settings: Settings = DEFAULTS,
        source: str | None = None,
        journal: "str | Journal | None" = None,
    ) -> None:
        if settings.listeners or settings.plugins.block:
            raise SettingsError(
                "settings of installed plugins do nothing in Hooks(...): listeners and plugins.block; "
                "fix: use Hooks.discover(settings=...)"
            )
        self._set_up(ReadSettings(settings=settings), None, listeners, source, journal)
        _ = self.journal  # what is wrong with the host's own URL is raised at once

    @classmethod
    def discover(
        cls,
        settings: str | os.PathLike[str] | Settings | None = None,
        *,
        source: str | None = None,
        listeners: Mapping[str, object] | Sequence[object] = (),
        journal: "str | Journal | None" = None,
    ) -> Self:
        """Load the installed plugins and the listeners that the settings configure.

        What is wrong with any of them is logged, is among the `problems`, and stops neither the others nor the host.
        With a journal the notifiers of configured listeners are not built: their events are queued by name and filter.

        Args:
            settings: Path of the settings file, or settings. By default the file that `PULP_HOOKS_SETTINGS` names,
                else `pulp-hooks.toml` in the working directory, if it exists.
            source: URI of the host, shown to listeners.
            listeners: Listeners of the host's own, as for `Hooks`, beside the installed ones.
            journal: A journal, or its URL, in place of that of the settings.

        Raises:
            PluginError: Something is wrong with one of the objects in hand, or its name is that of another listener.
            EventError: `source` can be no URI.
            JournalError: The URL in `journal` is wrong, or what the journal needs is not installed.
        """
        read = read_settings(settings)
        hooks = cls.__new__(cls)
        hooks._set_up(read, Loader(read), listeners, source, journal)  # noqa: SLF001 - an object of this class
        return hooks

    def _set_up(
        self,
        read: ReadSettings,
        installed: Loader | None,
        listeners: Mapping[str, object] | Sequence[object],
        source: str | None,
        journal: "str | Journal | None",
    ) -> None:
        self._own = OwnProcess("these Hooks")
        self._source = check_source(f"pulp-hooks://{socket.gethostname()}" if source is None else source)
        read = _with_journal(read, journal)
        self._settings = read.settings
        self._serializer = BodySerializer(self._settings.dispatch.max_body_bytes)
        self._in_flight = EventsInFlight(self._close_listeners)
        self._workers: WeakSet[Worker] = WeakSet()
        self._outbox = _outbox_of(read, journal)
        self._installed = installed
        self._is_built = False
        self._building = threading.Lock()
        others = installed.listeners if installed else []
        taken = [listener.name for listener in others if listener.kind is not Kind.NOTIFIER]
        self._in_hand = load_in_hand(listeners, taken, has_journal=self._outbox is not None)
        found = sorted([*others, *self._in_hand], key=attrgetter("name"))
        self._recipients = [listener for listener in found if listener.kind is not Kind.NOTIFIER]
        self._own_problems = list(_nobodys_deliveries(read, [listener.name for listener in found]))
        if isinstance(journal, str) and not read.fault:
            _ = self.journal
        elif journal is None and installed is not None:
            self._own_problems += self._problems_of_journal(read)
        self._list_listeners()
        for problem in self.problems:
            _log.warning("%s", problem)
        if self._outbox is None or self._outbox.dispatches:
            self.build_notifiers()

    def build_notifiers(self) -> None:
        """Build the notifiers of the configured listeners, unless that is done; what is wrong is in `problems`.

        Without a journal `discover` does so, and with one `worker`: a host that only queues events needs no
        configuration of listeners, and no secrets.
        """
        with self._building:
            if self._is_built:
                return
            known = set(self.problems)
            if self._installed is not None:
                self._installed.build()
            self._list_listeners()
            self._is_built = True
        for problem in self.problems:
            if problem not in known:
                _log.warning("%s", problem)

    def _list_listeners(self) -> None:
        installed = self._installed
        found = [*(installed.listeners if installed else ()), *self._in_hand]
        self.listeners: tuple[Listener, ...] = tuple(sorted(found, key=attrgetter("name")))
        self.problems: tuple[Problem, ...] = (*(installed.problems if installed else ()), *self._own_problems)
        loaded = [listener for listener in self.listeners if listener.implementations]
        self._registry = Registry(loaded, self._settings.dispatch.slow_seconds)

    def fire(  # noqa: PLR0913 - each option by its name
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        *,
        call_report: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        operation_id: str | None = None,
        caused_by: str | None = None,
        source: str | None = None,
        connection: "Connection | None" = None,
    ) -> Report:
        """Fire an event, and return when every listener has been called, or when the journal has taken the event.

        Args:
            event_type: The event type, by any of its names.
            body: The body, as the specification shows it; `_ns` and `id` may be left out.
            call_report: The task in which the event happens.
            event_id: Identifier of the event, where the host has one. The journal takes no event twice: if it knows
                the id, nothing happens, and `is_duplicate` of the report is true.
            operation_id: Identifier of the sync or publish that the event belongs to.
            caused_by: The `operation_id` of the operation that caused this one.
            source: URI of the server that the event comes from, where one host fires the events of several.
            connection: The host's own SQLAlchemy connection to the database of the journal: the event is committed
                with the host's work, or not at all.

        Returns:
            The outcome of the event at each listener. Exceptions of listeners are in there, and not raised.

        Raises:
            UnknownEventTypeError: There is no such event type.
            BodyError: The body is not what the event type demands; no listener was called.
            EventError: `call_report` is neither an object nor null, or an identifier or `source` is invalid.
            JournalError: The journal could not take the event; or there is none, and `connection` was given.
            ClosedError: `close` was called before, or the parent process created this.
        """
        self._own.check()
        event = self._event(event_type, body, call_report, event_id, operation_id, caused_by, source)
        guards = self._registry.guards(event) if self._outbox is None else []
        if self._outbox is None and not guards and connection is None:
            self._in_flight.refuse_when_closed()
            return Report(event, ())
        return self._in_flight.run(self._dispatch, event, guards, connection, event_id)

    def _dispatch(
        self, event: Event, guards: Sequence[Guard], connection: "Connection | None", event_id: str | None
    ) -> Report:
        span = telemetry.begin_fire(event.type.value, event.id)
        try:
            report = self._keep(event, connection, event_id)
            if report is None:
                guards = guards if self._outbox is None else self._registry.guards(event)
                report = Report(event, tuple(run_in_turn(guards, Original(event, event_id))))
        except BaseException as error:
            telemetry.end_fire(span, event.type.value, error)
            raise
        telemetry.end_fire(span, event.type.value)
        return report

    async def afire(  # noqa: PLR0913 - each option by its name
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        *,
        call_report: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        operation_id: str | None = None,
        caused_by: str | None = None,
        source: str | None = None,
        connection: "AsyncConnection | None" = None,
    ) -> Report:
        """Fire an event from a coroutine: as `fire`, without blocking the event loop.

        `async def` implementations are awaited together on the caller's loop; the others run in a thread, one after
        the other. With a journal, that is written in a thread, or with `connection`, an SQLAlchemy `AsyncConnection`,
        in the host's own transaction.
        """
        self._own.check()
        event = self._event(event_type, body, call_report, event_id, operation_id, caused_by, source)

        def keep(connection: "Connection | None") -> Report | None:
            return self._keep(event, connection, event_id)

        async def dispatch(inside: Callable[[], Context]) -> Report:
            context = inside()
            span = context.run(telemetry.begin_fire, event.type.value, event.id)

            def in_thread() -> Report | None:
                # The thread continues when the caller is canceled.
                return context.run(self._in_flight.run, keep, None)

            try:
                report = None
                if connection is not None:
                    report = await run_sync_of(connection)(keep)
                elif self._outbox is not None:
                    report = await asyncio.get_running_loop().run_in_executor(None, in_thread)
                if report is None:
                    guards, original = self._registry.guards(event), Original(event, event_id)
                    report = Report(event, tuple(await run_together(guards, original, self._in_flight.run, context)))
            except BaseException as error:
                telemetry.end_fire(span, event.type.value, error)
                raise
            telemetry.end_fire(span, event.type.value)
            return report

        return await self._in_flight.run_async(dispatch)

    def _keep(self, event: Event, connection: "Connection | None", event_id: str | None) -> Report | None:
        """Store an event in the journal; return null if it is to be dispatched directly."""
        if self._outbox is not None:
            may_be_stored = event_id.may_be_stored if isinstance(event_id, TrackedId) else event_id is not None
            return self._outbox.put(event, self._recipients, connection, self._settings, may_be_stored=may_be_stored)
        if connection is not None:
            raise JournalError("a connection is given, and there is no journal; fix: add [journal] to the settings")
        return None

    @property
    def journal(self) -> "Journal | None":
        """The journal that keeps the events; null where listeners are called directly.

        Raises:
            JournalError: One is configured, and there can be no such journal.
        """
        return None if self._outbox is None else self._outbox.journal

    def worker(self, *, threads_per_listener: int = 4) -> "Worker":
        """Return a worker that delivers what the journal keeps to the listeners, in threads of this process.

        It begins with `start`, or with a `with` block, and ends with `stop`, with the block, or when this is closed.

        Args:
            threads_per_listener: Most attempts of each listener that run in this worker at the same time.

        Raises:
            JournalError: There is no journal.
            ClosedError: `close` was called before, or the parent process created this.
        """
        self._own.check()
        self._in_flight.refuse_when_closed()
        journal = self.journal
        if journal is None:
            raise JournalError("there is no journal to work on: add [journal] with a url to the settings")
        from pulp_hooks.worker.worker import Worker  # noqa: PLC0415 - SQLAlchemy, for those who have a journal

        self.build_notifiers()
        worker = Worker(journal, self._registry, self._settings, threads_per_listener=threads_per_listener)
        self._workers.add(worker)
        return worker

    def test(self, listener: str, event_type: EventType | str | None = None) -> Report:
        """Send one example event to this listener only, past its filters and the journal, and return what it did.

        The event is marked as a test: its `id` begins with `test-`, and the repository is `pulp-hooks-test`.

        Args:
            listener: Name of the listener.
            event_type: The event type; by default the first one that the listener receives.

        Raises:
            PluginError: There is no such listener, it cannot be used, or it does not receive this event type.
            UnknownEventTypeError: There is no such event type.
            ClosedError: `close` was called before, or the parent process created this.
        """
        self._own.check()
        self.build_notifiers()
        tested = found_for_test(self.listeners, listener)
        event = event_for_test(tested, None if event_type is None else EventType(event_type), self._source)
        guards = Registry([replace(tested, wants=None)], self._settings.dispatch.slow_seconds).guards(event)
        return Report(event, tuple(self._in_flight.run(run_in_turn, guards, Original(event))))

    def validate(self, event_type: EventType | str, body: Mapping[str, Any], *, partial: bool = False) -> None:
        """Check a body without firing it.

        Args:
            event_type: The event type, by any of its names.
            body: The body.
            partial: Whether fields may be missing.

        Raises:
            UnknownEventTypeError: There is no such event type.
            BodyError: `fire` would refuse the body.
        """
        self._serializer.validate(EventType(event_type), body, partial=partial)

    def sync(
        self,
        repo_id: str,
        *,
        importer_id: str,
        importer_type_id: str,
        call_report: Mapping[str, Any] | None = None,
        caused_by: Operation | str | None = None,
    ) -> SyncOperation:
        """Return a `with` (or `async with`) block around the sync of a repository.

        `repo-sync-started` is fired on entry, `repo-sync-finished` exactly once on every way out: with the result
        `success`, `failed` after `fail("message")`, `error` with an exception, which propagates, or `canceled` by
        Ctrl-C or the cancellation of the task.

        Args:
            repo_id: Identifier of the repository.
            importer_id: Identifier of the importer, which syncs it.
            importer_type_id: Kind of the importer.
            call_report: The task in which the sync happens.
            caused_by: The operation that caused this one, or its id.

        Raises:
            BodyError: On entry for an invalid identifier, before anything is fired; on the way out of a block without
                an exception of its own for an invalid count, with which `finished` was fired as an `error`.
            EventError: On entry for an invalid `caused_by` or `call_report`, before anything is fired.
            ClosedError: The block was entered before, `close` was called, or the parent process created this.
        """
        self._own.check()
        ids = {"repo_id": repo_id, "importer_id": importer_id, "importer_type_id": importer_type_id}
        return SyncOperation(self, ids, call_report, caused_by)

    def publish(
        self,
        repo_id: str,
        *,
        distributor_id: str,
        distributor_type_id: str,
        call_report: Mapping[str, Any] | None = None,
        caused_by: Operation | str | None = None,
    ) -> PublishOperation:
        """Return a `with` (or `async with`) block around the publish of a repository.

        As `sync`, with `repo-publish-started` and `repo-publish-finished`; `skip("reason")` makes the result
        `skipped`.

        Args:
            repo_id: Identifier of the repository.
            distributor_id: Identifier of the distributor, which publishes it.
            distributor_type_id: Kind of the distributor.
            call_report: The task in which the publish happens.
            caused_by: The operation that caused this one, such as the sync before an automatic publish, or its id.

        Raises:
            BodyError: For an invalid identifier, before anything is fired.
            EventError: On entry for an invalid `caused_by` or `call_report`, before anything is fired.
            ClosedError: The block was entered before, `close` was called, or the parent process created this.
        """
        self._own.check()
        ids = {"repo_id": repo_id, "distributor_id": distributor_id, "distributor_type_id": distributor_type_id}
        return PublishOperation(self, ids, call_report, caused_by)

    def close(self) -> None:
        """Close the notifiers, once the events that are on their way have reached their listeners.

        Closing twice is harmless. What a notifier raises is logged. A listener that calls this does not wait for
        itself: the notifiers are closed when the event that it was called for has reached the others.

        Workers of this are stopped first. In a forked child it does nothing: the listeners are the parent's.
        """
        if self._own.is_parent:
            return
        stopped = [worker.stop() for worker in tuple(self._workers)]
        if not all(stopped):
            threading.Thread(target=self.close, name="pulp_hooks closing").start()
            return
        self._in_flight.close()

    def _problems_of_journal(self, read: ReadSettings) -> Iterator[Problem]:
        """Yield what is wrong with the journal of the settings beyond what reading them has found."""
        if read.fault or read.journal_fault:
            return
        try:
            _ = self.journal
        except JournalError as error:
            yield Problem(read.origin, f"journal: {error}", "correct the url; until then no event is accepted")

    def _close_listeners(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        for listener in reversed(self.listeners):
            if listener.close:
                close_listener(listener, listener.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _event(  # noqa: PLR0913, PLR0917 - what an event is made of
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        report: Mapping[str, Any] | None,
        event_id: str | None,
        operation_id: str | None,
        caused_by: str | None,
        source: str | None,
    ) -> Event:
        known = event_type if isinstance(event_type, EventType) else EventType(event_type)
        return Event(
            id=new_id() if event_id is None else check_id(event_id),
            type=known,
            time=datetime.now(UTC),
            source=self._source if source is None else check_source(source),
            body=self._serializer.serialize(known, body),
            call_report=self._serializer.serialize_call_report(report),
            operation_id=None if operation_id is None else check_id(operation_id, "operation_id"),
            caused_by=None if caused_by is None else check_id(caused_by, "caused_by"),
        )


def _with_journal(read: ReadSettings, journal: "str | Journal | None") -> ReadSettings:
    """Return the settings with the journal that a host passes in place of theirs."""
    if journal is None:
        return read
    url = journal if isinstance(journal, str) else journal.name
    own = read.settings.journal
    settings = replace(read.settings, journal=replace(own, url=url) if own else JournalSettings(url))
    return replace(read, settings=settings, journal_fault=None)


def _outbox_of(read: ReadSettings, journal: "str | Journal | None") -> Outbox | None:
    """Return an outbox for the journal; null without one. If no event is accepted, its journal raises that."""
    settings = read.settings.journal
    if settings is None and not read.fault and not read.journal_fault:
        return None

    def opening() -> "Journal":
        usable = cast("JournalSettings", read.journal())
        return open_journal(usable) if journal is None or isinstance(journal, str) else journal

    on_error = settings.on_error if settings and not read.fault else "raise"
    return Outbox(opening, on_error, is_own=journal is None or isinstance(journal, str))


def _nobodys_deliveries(read: ReadSettings, names: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for each name of `[delivery.listeners]` that no listener has."""
    for name in read.settings.delivery_by_listener:
        if name not in names:
            remedy = did_you_mean(name, names, "`pulp-hooks listeners` shows them")
            yield Problem(read.origin, f"delivery.listeners.{name}: no listener has this name", remedy)
