"""The facade that a host uses: `Hooks` fires events at the listeners it knows."""

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from pulp_hooks.bodies.serializer import BodySerializer
from pulp_hooks.bodies.types import PublishResult, SyncResult
from pulp_hooks.event import Event, check_source
from pulp_hooks.event_types import EventType
from pulp_hooks.firings import Firings
from pulp_hooks.guard import Original, run_together
from pulp_hooks.identifiers import new_id
from pulp_hooks.operations import PublishOperation, SyncOperation
from pulp_hooks.outcomes import Report
from pulp_hooks.plugins.listeners import Listener
from pulp_hooks.plugins.loading import load_in_hand, load_installed
from pulp_hooks.plugins.relay import Relay
from pulp_hooks.problems import Problem
from pulp_hooks.settings.model import DEFAULTS
from pulp_hooks.settings.reading import read_settings
from pulp_hooks.text import one_line

_log = logging.getLogger(__name__)

Moment = datetime | str
"""An aware `datetime`, or ISO 8601 text with an offset."""


class Hooks:
    """Fires events at listeners. Any number of threads may use one object, and any number of objects one process.

    `Hooks(plugins=[...])` knows just the objects in hand, `Hooks.discover()` the installed listeners too.

    Args:
        plugins: Modules, objects with hook implementations, and notifiers.
        source: URI of the host, shown to listeners; by default made of the machine's name.
        slow_seconds: A listener's call that takes longer is logged; seconds.
        max_body_bytes: Size cap of a body as JSON in UTF-8; over it `details`, then `summary`, are truncated.

    Attributes:
        listeners: Every listener found, loaded or not, in the order of their names.
        problems: Everything that is wrong with the settings and with what is installed.

    Raises:
        PluginError: Something is wrong with one of the plugins in hand.
        EventError: `source` can be no URI.
    """

    def __init__(
        self,
        plugins: Sequence[object] = (),
        *,
        source: str | None = None,
        slow_seconds: float = DEFAULTS.slow_seconds,
        max_body_bytes: int = DEFAULTS.max_body_bytes,
    ) -> None:
        self._source = check_source(f"pulp-hooks://{socket.gethostname()}" if source is None else source)
        self._serializer = BodySerializer(max_body_bytes)
        self._slow_seconds = slow_seconds
        self._firings = Firings(self._close_listeners)
        self._listen(load_in_hand(plugins), [])

    @classmethod
    def discover(
        cls,
        settings: str | os.PathLike[str] | None = None,
        *,
        source: str | None = None,
        plugins: Sequence[object] = (),
    ) -> Self:
        """Load the installed plugins and the listeners that the settings configure.

        What is wrong with any of them is logged, is among the `problems`, and stops neither the others nor the host.

        Args:
            settings: Path of the settings file. Without it the one that `PULP_HOOKS_SETTINGS` names, else
                `pulp-hooks.toml` in the working directory, where there is one.
            source: URI of the host, shown to listeners.
            plugins: Listeners of the host's own, beside the installed ones.

        Raises:
            PluginError: Something is wrong with one of the plugins in hand.
            EventError: `source` can be no URI.
        """
        read = read_settings(settings)
        hooks = cls(plugins, source=source, slow_seconds=read.slow_seconds, max_body_bytes=read.max_body_bytes)
        installed, problems = load_installed(read)
        hooks._listen([*installed, *hooks.listeners], problems)
        for problem in problems:
            _log.warning("%s", problem)
        return hooks

    def _listen(self, listeners: Sequence[Listener], problems: Sequence[Problem]) -> None:
        loaded = list(_distinct(listener for listener in listeners if listener.implementations))
        others = [listener for listener in listeners if not listener.implementations]
        self.listeners: tuple[Listener, ...] = tuple(sorted([*others, *loaded], key=lambda listener: listener.name))
        self.problems: tuple[Problem, ...] = tuple(problems)
        self._relay = Relay(loaded, self._slow_seconds)

    def fire(
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        *,
        call_report: Mapping[str, Any] | None = None,
    ) -> Report:
        """Fire an event, and return when every listener has been called.

        Args:
            event_type: The event type, by any of its names.
            body: The body, as the specification shows it; `_ns` and `id` may be left out.
            call_report: The task in which the event happens.

        Returns:
            What became of the event at each listener. What a listener raises is in there, and raised nowhere.

        Raises:
            UnknownEventTypeError: There is no such event type.
            BodyError: The body is not what the event type demands; no listener was called.
            EventError: `call_report` is neither an object nor null.
            ClosedError: `close` was called before.
        """
        event = self._event(event_type, body, call_report)
        guards = self._relay.guards(event)
        if not guards:
            self._firings.refuse_when_closed()
            return Report(event, ())
        with self._firings.hold():
            original = Original(event)
            return Report(event, tuple([guard.run(original) for guard in guards]))

    async def afire(
        self,
        event_type: EventType | str,
        body: Mapping[str, Any],
        *,
        call_report: Mapping[str, Any] | None = None,
    ) -> Report:
        """Fire an event from a coroutine: as `fire`, without holding up the event loop.

        `async def` implementations are awaited together on the caller's loop; the others run in a thread, one after
        the other.
        """
        event = self._event(event_type, body, call_report)
        with self._firings.hold():
            guards = self._relay.guards(event)
            return Report(event, tuple(await run_together(guards, Original(event), self._firings.hold)))

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

    def repo_sync_started(self, *, repo_id: str, call_report: Mapping[str, Any] | None = None) -> Report:
        """Fire `repo-sync-started`; see `fire`, and the specification's fields in `RepoSyncStarted`."""
        return self.fire(EventType.REPO_SYNC_STARTED, {"repo_id": repo_id}, call_report=call_report)

    def repo_sync_finished(  # noqa: PLR0913 - the fields of the specification
        self,
        *,
        repo_id: str,
        importer_id: str,
        importer_type_id: str,
        started: Moment,
        completed: Moment,
        result: SyncResult,
        added_count: int | None = None,
        updated_count: int | None = None,
        removed_count: int | None = None,
        summary: object = None,
        details: object = None,
        error_message: str | None = None,
        exception: str | None = None,
        traceback: Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002 - the specification's name
        call_report: Mapping[str, Any] | None = None,
    ) -> Report:
        """Fire `repo-sync-finished`; see `fire`, and the specification's fields in `RepoSyncFinished`."""
        body = {
            "repo_id": repo_id,
            "importer_id": importer_id,
            "importer_type_id": importer_type_id,
            "started": started,
            "completed": completed,
            "result": result,
            "added_count": added_count,
            "updated_count": updated_count,
            "removed_count": removed_count,
            "summary": summary,
            "details": details,
            "error_message": error_message,
            "exception": exception,
            "traceback": traceback,
            "id": id,
        }
        return self.fire(EventType.REPO_SYNC_FINISHED, body, call_report=call_report)

    def repo_publish_started(
        self, *, repo_id: str, distributor_id: str, call_report: Mapping[str, Any] | None = None
    ) -> Report:
        """Fire `repo-publish-started`; see `fire`, and the specification's fields in `RepoPublishStarted`."""
        body = {"repo_id": repo_id, "distributor_id": distributor_id}
        return self.fire(EventType.REPO_PUBLISH_STARTED, body, call_report=call_report)

    def repo_publish_finished(  # noqa: PLR0913 - the fields of the specification
        self,
        *,
        repo_id: str,
        distributor_id: str,
        distributor_type_id: str,
        started: Moment,
        completed: Moment,
        result: PublishResult,
        summary: object = None,
        details: object = None,
        error_message: str | None = None,
        exception: str | None = None,
        traceback: Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002 - the specification's name
        call_report: Mapping[str, Any] | None = None,
    ) -> Report:
        """Fire `repo-publish-finished`; see `fire`, and the specification's fields in `RepoPublishFinished`."""
        body = {
            "repo_id": repo_id,
            "distributor_id": distributor_id,
            "distributor_type_id": distributor_type_id,
            "started": started,
            "completed": completed,
            "result": result,
            "summary": summary,
            "details": details,
            "error_message": error_message,
            "exception": exception,
            "traceback": traceback,
            "id": id,
        }
        return self.fire(EventType.REPO_PUBLISH_FINISHED, body, call_report=call_report)

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
            ClosedError: The block was entered before, or `close` was called.
        """
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
            ClosedError: The block was entered before, or `close` was called.
        """
        return PublishOperation(self, repo_id, distributor_id, distributor_type_id, call_report)

    def close(self) -> None:
        """Close the notifiers, once the events that are on their way have reached their listeners.

        Closing twice is harmless. What a notifier raises is logged. A listener that calls this does not wait for
        itself: the notifiers are closed when the event that it was called for has reached the others.
        """
        self._firings.close()

    def _close_listeners(self) -> None:
        for listener in reversed(self.listeners):
            if listener.close:
                try:
                    listener.close()
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - a foreign close may raise anything, and the others want theirs
                    _log.error("listener %s could not be closed: %s", listener.name, one_line(error, listener.secrets))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _event(self, event_type: EventType | str, body: Mapping[str, Any], report: Mapping[str, Any] | None) -> Event:
        known = event_type if isinstance(event_type, EventType) else EventType(event_type)
        return Event(
            id=new_id(),
            type=known,
            time=datetime.now(UTC),
            source=self._source,
            body=self._serializer.serialize(known, body),
            call_report=self._serializer.serialize_call_report(report),
        )


def _distinct(listeners: Iterable[Listener]) -> Iterator[Listener]:
    taken: set[str] = set()
    for listener in listeners:
        name, number = listener.name, 1
        while name in taken:
            number += 1
            name = f"{listener.name}-{number}"
        taken.add(name)
        yield listener if name == listener.name else replace(listener, name=name)
