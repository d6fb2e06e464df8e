"""From the tasks of a Pulp 3 server to events."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pulp_hooks.event_types import EventType
from pulp_hooks.hosts.pulp3.lookups import Lookups
from pulp_hooks.hosts.pulp3.tasks import Kind, Reference, Task, reference, time_of

_RESULTS = {"completed": "success", "canceled": "canceled"}
_VERBATIM = "publish_verbatim"


@dataclass(frozen=True, slots=True, kw_only=True)
class PulpEvent:
    """An event that a task on a server stands for, as arguments of `Hooks.fire`.

    Attributes:
        event_type: The event type.
        body: The body.
        event_id: Derived from server, operation and event type: the same from every watcher, and after a restart.
        operation_id: UUID of the task; of a publish within another task that of the task and that of the publication.
        caused_by: The `operation_id` of the sync that published; null for a publish on its own.
        call_report: The task as the server shows it.
        source: URL of the server.
    """

    event_type: EventType
    body: Mapping[str, Any] = field(repr=False)
    event_id: str
    operation_id: str
    caused_by: str | None
    call_report: Mapping[str, Any] = field(repr=False)
    source: str


class EventMaker:
    """Makes the events of one server.

    Args:
        source: URL of the server.
        lookups: Answers what a task only refers to.
    """

    def __init__(self, source: str, lookups: Lookups) -> None:
        self._source = source
        self._lookups = lookups

    def started(self, task: Task) -> Iterator[PulpEvent]:
        """Yield the started event of a running task, if it is a sync or a publish of a known repository."""
        repository = self._lookups.repository_of(task)
        if repository is not None and task.kind is Kind.SYNC:
            yield self._sync_started(task, repository)
        elif repository is not None and task.kind is Kind.PUBLISH:
            yield self._publish_started(task, repository, task.id, None)

    def finished(self, task: Task) -> Iterator[PulpEvent]:
        """Yield all events of a finished task: started, finished, and those of what it published by the way.

        A task that never ran has none. The started event is yielded again if the task was seen running before.
        """
        repository = self._lookups.repository_of(task)
        if repository is None or task.started is None or task.finished is None:
            return
        yield from self.started(task)
        if task.kind is Kind.SYNC:
            yield self._sync_finished(task, repository, task.started, task.finished)
        if task.kind is Kind.PUBLISH:
            yield self._publish_finished(task, repository, task.id, None, (task.started, task.finished))
        elif task.state == "completed":
            # A repository with autopublish, or a mirror, is published within the task that makes the version.
            caused_by = task.id if task.kind is Kind.SYNC else None
            for href in task.publications:
                found = reference(href)
                operation_id = f"{task.id}:{found.id}" if found else task.id
                shown = self._lookups.publication(href)
                times = time_of(shown.get("pulp_created")), time_of(shown.get("pulp_last_updated"))
                started, finished = times[0] or task.started, times[1] or task.finished
                yield self._publish_started(task, repository, operation_id, caused_by)
                yield self._publish_finished(task, repository, operation_id, caused_by, (started, finished))

    def _sync_started(self, task: Task, repository: Reference) -> PulpEvent:
        body = {"repo_id": self._lookups.name(repository)}
        return self._event(EventType.REPO_SYNC_STARTED, body, task, task.id, None)

    def _sync_finished(self, task: Task, repository: Reference, started: datetime, finished: datetime) -> PulpEvent:
        remote = self._lookups.remote_of(task)
        summary = self._lookups.content_summary(task)
        body = {
            "repo_id": self._lookups.name(repository),
            # A sync without a remote is not known; should there be one, its repository stands for it.
            "importer_id": self._lookups.remote_name(remote) if remote else repository.id,
            "importer_type_id": (remote or repository).model,
            "added_count": _count(summary.get("added")),
            # Content is immutable: a changed file is one added and one removed.
            "updated_count": 0,
            "removed_count": _count(summary.get("removed")),
            **_outcome(task, started, finished, task.id),
        }
        return self._event(EventType.REPO_SYNC_FINISHED, body, task, task.id, None)

    def _publish_started(
        self, task: Task, repository: Reference, operation_id: str, caused_by: str | None
    ) -> PulpEvent:
        body = {"repo_id": self._lookups.name(repository), "distributor_id": _distributor(task, repository)}
        return self._event(EventType.REPO_PUBLISH_STARTED, body, task, operation_id, caused_by)

    def _publish_finished(
        self,
        task: Task,
        repository: Reference,
        operation_id: str,
        caused_by: str | None,
        times: tuple[datetime, datetime],
    ) -> PulpEvent:
        distributor = _distributor(task, repository)
        body = {
            "repo_id": self._lookups.name(repository),
            "distributor_id": distributor,
            "distributor_type_id": distributor,
            **_outcome(task, *times, operation_id),
        }
        return self._event(EventType.REPO_PUBLISH_FINISHED, body, task, operation_id, caused_by)

    def _event(
        self, event_type: EventType, body: Mapping[str, Any], task: Task, operation_id: str, caused_by: str | None
    ) -> PulpEvent:
        return PulpEvent(
            event_type=event_type,
            body=body,
            event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._source}#{operation_id}:{event_type.value}")),
            operation_id=operation_id,
            caused_by=caused_by,
            call_report=task.shown,
            source=self._source,
        )


def _outcome(task: Task, started: datetime, finished: datetime, identifier: str) -> dict[str, Any]:
    """Return the fields that the bodies of both finished events have."""
    shown = task.shown
    error = shown.get("error")
    error = error if isinstance(error, Mapping) else {}
    reports = [one for one in _list(shown, "progress_reports") if isinstance(one, Mapping)]
    created = _list(shown, "created_resources")
    trace = error.get("traceback")
    message = error.get("description", error.get("reason"))
    # A lost worker or a killed child has a reason; what the task itself raised has a description.
    failed = "error" if "reason" in error and "description" not in error else "failed"
    return {
        "id": identifier,
        "started": started,
        "completed": finished,
        "result": _RESULTS.get(task.state, failed),
        "summary": {str(one.get("code")): one.get("done") for one in reports} or None,
        "details": {"progress_reports": reports, "created_resources": created} if reports or created else None,
        "exception": _text(error.get("error_code")),
        "error_message": _text(message),
        "traceback": trace.splitlines() if isinstance(trace, str) and trace else None,
    }


def _list(shown: Mapping[str, Any], key: str) -> list[Any]:
    value = shown.get(key)
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _count(summary: object) -> int:
    """Return the sum over all content types of one part of a content summary."""
    types = summary.values() if isinstance(summary, Mapping) else ()
    counts = [one.get("count") for one in types if isinstance(one, Mapping)]
    return sum(count for count in counts if isinstance(count, int))


def _distributor(task: Task, repository: Reference) -> str:
    """Return what stands for the distributor, which Pulp 3 does not have: `file.publication`."""
    verbatim = "verbatim" if task.name.rpartition(".")[2] == _VERBATIM else ""
    return f"{repository.plugin}.{verbatim}publication"
