"""The facade that a host uses: `Hooks` fires events at the listeners it knows."""

import asyncio
import difflib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from pulp_hooks import telemetry
from pulp_hooks.bodies.serializer import BodySerializer
from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.direct import run_in_turn, run_together
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.dispatch.in_flight import EventsInFlight
from pulp_hooks.dispatch.outcomes import Report
from pulp_hooks.dispatch.registry import Registry
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event, check_id, check_source
from pulp_hooks.event_types import EventType
from pulp_hooks.firing_methods import FiringMethods
from pulp_hooks.foreign_code import call_foreign
from pulp_hooks.forks import OwnProcess
from pulp_hooks.identifiers import new_id
from pulp_hooks.operations import PublishOperation, SyncOperation
from pulp_hooks.outbox import Outbox
from pulp_hooks.plugins.listeners import Listener
from pulp_hooks.plugins.loading import load_in_hand, load_installed
from pulp_hooks.problems import Problem
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import DEFAULTS, JournalSettings, Settings
from pulp_hooks.settings.reading import read_settings
from pulp_hooks.text import one_line

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pulp_hooks.journal.journal import Journal
    from pulp_hooks.worker.worker import Worker

_log = safe_logger(__name__)

_CLOSE_SECONDS = 10.0
"""How long `close` waits for one listener."""


class Hooks(FiringMethods):
    """Fires events at listeners. Any number of threads may use one object, and any number of objects one process.

    A forked child creates its own: what it inherited raises `ClosedError`, except for `close`, which does nothing.

    `Hooks(plugins=[...])` knows just the objects in hand, `Hooks.discover()` the installed listeners too.

    Args:
        plugins: Modules, objects with hook implementations, and notifiers.
        source: URI of the host, shown to listeners; by default made of the machine's name.
        slow_seconds: A listener's call that takes longer is logged; seconds.
        max_body_bytes: Size cap of a body as JSON in UTF-8; over it `details`, then `summary`, are truncated.
        journal: URL of a journal, or a journal: events are kept there, and workers deliver them.

    Attributes:
        listeners: Every listener found, loaded or not, in the order of their names.
        problems: Everything that is wrong with the settings and with what is installed.

    Raises:
        PluginError: Something is wrong with one of the plugins in hand.
        EventError: `source` can be no URI.
        JournalError: There can be no such journal.
    """

    def __init__(
        self,
        plugins: Sequence[object] = (),
        *,
        source: str | None = None,
        slow_seconds: float = DEFAULTS.slow_seconds,
        max_body_bytes: int = DEFAULTS.max_body_bytes,
        journal: "str | Journal | None" = None,
    ) -> None:
        self._own = OwnProcess("these Hooks")
        self._source = check_source(f"pulp-hooks://{socket.gethostname()}" if source is None else source)
        self._serializer = BodySerializer(max_body_bytes)
        self._slow_seconds = slow_seconds
        self._in_flight = EventsInFlight(self._close_listeners)
        self._settings = DEFAULTS
        self._workers: WeakSet[Worker] = WeakSet()
        self._outbox = None if journal is None else _outbox_of(journal)
        self._listen(load_in_hand(plugins), [])

    @classmethod
    def discover(
        cls,
        settings: str | os.PathLike[str] | None = None,
        *,
        source: str | None = None,
        plugins: Sequence[object] = (),
        journal: "str | Journal | None" = None,
    ) -> Self:
        """Load the installed plugins and the listeners that the settings configure.

        What is wrong with any of them is logged, is among the `problems`, and stops neither the others nor the host.

        Args:
            settings: Path of the settings file. Without it the one that `PULP_HOOKS_SETTINGS` names, else
                `pulp-hooks.toml` in the working directory, where there is one.
            source: URI of the host, shown to listeners.
            plugins: Listeners of the host's own, beside the installed ones.
            journal: URL of a journal, or a journal, in place of the one that the settings have.

        Raises:
            PluginError: Something is wrong with one of the plugins in hand.
            EventError: `source` can be no URI.
            JournalError: There can be no such journal as `journal` says.
        """
        read = read_settings(settings)
        limits: dict[str, Any] = {"slow_seconds": read.slow_seconds, "max_body_bytes": read.max_body_bytes}
        hooks = cls(plugins, source=source, journal=journal, **limits)
        installed, problems = load_installed(read)
        hooks._settings = read
        if journal is None and read.journal is not None:
            hooks._outbox = Outbox(read.journal)
            problems.extend(hooks._problems_of_journal(read))
        listeners = [*installed, *hooks.listeners]
        problems.extend(_nobodys_deliveries(read, [listener.name for listener in listeners]))
        hooks._listen(listeners, problems)
        for problem in problems:
            _log.warning("%s", problem)
        return hooks

    def _listen(self, listeners: Sequence[Listener], problems: Sequence[Problem]) -> None:
        loaded = list(_distinct(listener for listener in listeners if listener.implementations))
        others = [listener for listener in listeners if not listener.implementations]
        self.listeners: tuple[Listener, ...] = tuple(sorted([*others, *loaded], key=lambda listener: listener.name))
        self.problems: tuple[Problem, ...] = tuple(problems)
        self._registry = Registry(loaded, self._slow_seconds)

    def fire(
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        *,
        call_report: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        connection: "Connection | None" = None,
    ) -> Report:
        """Fire an event, and return when every listener has been called, or when the journal has taken the event.

        Args:
            event_type: The event type, by any of its names.
            body: The body, as the specification shows it; `_ns` and `id` may be left out.
            call_report: The task in which the event happens.
            event_id: Identifier of the event, where the host has one. The journal takes no event twice: when it knows
                the id, nothing happens, and `is_duplicate` of the report is true.
            connection: The host's own SQLAlchemy connection to the database of the journal: the event is committed
                with the host's work, or not at all.

        Returns:
            What became of the event at each listener. What a listener raises is in there, and raised nowhere.

        Raises:
            UnknownEventTypeError: There is no such event type.
            BodyError: The body is not what the event type demands; no listener was called.
            EventError: `call_report` is neither an object nor null, or `event_id` can be no identifier.
            JournalError: The journal could not take the event; or there is none, and `connection` was given.
            ClosedError: `close` was called before, or the parent process created this.
        """
        self._own.check()
        event = self._event(event_type, body, call_report, event_id)
        guards = self._registry.guards(event)
        if self._outbox is None and not guards and connection is None:
            self._in_flight.refuse_when_closed()
            return Report(event, ())
        return self._in_flight.run(self._dispatch, event, guards, connection)

    def _dispatch(self, event: Event, guards: Sequence[Guard], connection: "Connection | None") -> Report:
        span = telemetry.begin_fire(event.type.value, event.id)
        try:
            report = self._keep(event, guards, connection)
            if report is None:
                report = Report(event, tuple(run_in_turn(guards, Original(event))))
        except BaseException as error:
            telemetry.end_fire(span, event.type.value, error)
            raise
        telemetry.end_fire(span, event.type.value)
        return report

    async def afire(
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        *,
        call_report: Mapping[str, Any] | None = None,
        event_id: str | None = None,
    ) -> Report:
        """Fire an event from a coroutine: as `fire`, without holding up the event loop.

        `async def` implementations are awaited together on the caller's loop; the others run in a thread, one after
        the other. With a journal, that is written in a thread.
        """
        self._own.check()
        event = self._event(event_type, body, call_report, event_id)

        async def dispatch(inside: Callable[[], Context]) -> Report:
            guards = self._registry.guards(event)
            context = inside()
            span = context.run(telemetry.begin_fire, event.type.value, event.id)

            def keep() -> Report | None:
                # The thread goes on when the caller is canceled.
                return context.run(self._in_flight.run, self._keep, event, guards, None)

            try:
                report = None
                if self._outbox is not None:
                    report = await asyncio.get_running_loop().run_in_executor(None, keep)
                if report is None:
                    original = Original(event)
                    report = Report(event, tuple(await run_together(guards, original, self._in_flight.run, context)))
            except BaseException as error:
                telemetry.end_fire(span, event.type.value, error)
                raise
            telemetry.end_fire(span, event.type.value)
            return report

        return await self._in_flight.run_async(dispatch)

    def _keep(self, event: Event, guards: Sequence[Guard], connection: "Connection | None") -> Report | None:
        """Put an event into the journal; give nothing where it is to be dispatched directly."""
        if self._outbox is not None:
            names = [guard.listener for guard in guards]
            ordered = [name for name in names if self._settings.delivery_of(name).ordered]
            return self._outbox.put(event, guards, connection, ordered)
        if connection is not None:
            raise JournalError("a connection is given, and there is no journal: add [journal] to the settings")
        return None

    @property
    def journal(self) -> "Journal | None":
        """The journal that keeps the events; null where listeners are called directly.

        Raises:
            JournalError: One is configured, and there can be no such journal.
        """
        return None if self._outbox is None else self._outbox.journal

    def worker(self, *, threads: int = 4) -> "Worker":
        """Give a worker that delivers what the journal keeps to the listeners, in threads of this process.

        It begins with `start`, or with a `with` block, and ends with `stop`, with the block, or when this is closed.

        Args:
            threads: How many attempts of one listener run at the same time.

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

        worker = Worker(journal, self._registry, self._settings, threads=threads)
        self._workers.add(worker)
        return worker

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
        self, repo_id: str, *, importer_id: str, importer_type_id: str, call_report: Mapping[str, Any] | None = None
    ) -> SyncOperation:
        """Give a `with` (or `async with`) block around the sync of a repository.

        `repo-sync-started` is fired on entry, `repo-sync-finished` exactly once on every way out: with the result
        `success`, `failed` after `fail("message")`, `error` with an exception, which goes on, or `canceled` by Ctrl-C
        or the cancellation of the task.

        Args:
            repo_id: Identifier of the repository.
            importer_id: Identifier of what syncs it.
            importer_type_id: Kind of what syncs it.
            call_report: The task in which the sync happens.

        Raises:
            BodyError: On entry for a wrong identifier, before anything is fired; on the way out of a block without an
                exception of its own for a wrong count, with which `finished` went out as an `error`.
            ClosedError: The block was entered before, `close` was called, or the parent process created this.
        """
        self._own.check()
        return SyncOperation(self, repo_id, importer_id, importer_type_id, call_report)

    def publish(
        self,
        repo_id: str,
        *,
        distributor_id: str,
        distributor_type_id: str,
        call_report: Mapping[str, Any] | None = None,
    ) -> PublishOperation:
        """Give a `with` (or `async with`) block around the publish of a repository.

        As `sync`, with `repo-publish-started` and `repo-publish-finished`; `skip("reason")` makes the result
        `skipped`.

        Args:
            repo_id: Identifier of the repository.
            distributor_id: Identifier of what publishes it.
            distributor_type_id: Kind of what publishes it.
            call_report: The task in which the publish happens.

        Raises:
            BodyError: For a wrong identifier, before anything is fired.
            ClosedError: The block was entered before, `close` was called, or the parent process created this.
        """
        self._own.check()
        return PublishOperation(self, repo_id, distributor_id, distributor_type_id, call_report)

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

    def _problems_of_journal(self, settings: Settings) -> Iterator[Problem]:
        """Give what is wrong with the journal of the settings beyond what reading them has found."""
        if settings.journal is None or settings.journal.fault:
            return
        try:
            _ = self.journal
        except JournalError as error:
            yield Problem(str(settings.path), f"journal: {error}", "correct the url; until then no event is accepted")

    def _close_listeners(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        for listener in reversed(self.listeners):
            if listener.close:
                _close_in_time(listener, listener.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _event(
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        report: Mapping[str, Any] | None,
        event_id: str | None,
    ) -> Event:
        known = event_type if isinstance(event_type, EventType) else EventType(event_type)
        return Event(
            id=new_id() if event_id is None else check_id(event_id),
            type=known,
            time=datetime.now(UTC),
            source=self._source,
            body=self._serializer.serialize(known, body),
            call_report=self._serializer.serialize_call_report(report),
        )


def _close_in_time(listener: Listener, close: Callable[[], None]) -> None:
    """Close a listener in a thread of its own, which is left to itself when that does not end."""

    def run() -> None:
        try:
            result = call_foreign(close)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            interruptions.append(error)
        else:
            if result is not None:
                failures.append(result.error)

    failures: list[BaseException] = []
    interruptions: list[BaseException] = []
    thread = threading.Thread(
        target=copy_context().run, args=(run,), name=f"pulp_hooks closing {listener.name}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # the interpreter is shutting down, and starts no more threads
        run()
    else:
        thread.join(_CLOSE_SECONDS)
        if thread.is_alive():
            _log.error(
                "listener %s is not closed after %g s, and is left behind; fix: end its close()",
                *(listener.name, _CLOSE_SECONDS),
            )
    for error in interruptions:
        raise error
    for error in failures:
        _log.error("listener %s could not be closed: %s", listener.name, one_line(error, listener.secrets))


def _outbox_of(journal: "str | Journal") -> Outbox:
    if not isinstance(journal, str):
        return Outbox(JournalSettings(""), journal)
    outbox = Outbox(JournalSettings(journal))
    _ = outbox.journal  # what is wrong with the host's own URL is told at once
    return outbox


def _nobodys_deliveries(settings: Settings, names: Sequence[str]) -> Iterator[Problem]:
    """Give a problem for each table of `[delivery.listeners]` that is of no listener."""
    for name in settings.deliveries:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            remedy = f"did you mean {nearest[0]!r}?" if nearest else "`pulp-hooks listeners` shows them"
            yield Problem(str(settings.path), f"delivery.listeners.{name}: no listener has this name", remedy)


def _distinct(listeners: Iterable[Listener]) -> Iterator[Listener]:
    taken: set[str] = set()
    for listener in listeners:
        name, number = listener.name, 1
        while name in taken:
            number += 1
            name = f"{listener.name}-{number}"
        taken.add(name)
        yield listener if name == listener.name else replace(listener, name=name)
