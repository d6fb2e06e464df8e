"""A method for each event type, with the fields of its body as arguments."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pulp_hooks.bodies.types import PublishResult, SyncResult
from pulp_hooks.dispatch.outcomes import Report
from pulp_hooks.event_types import EventType

if TYPE_CHECKING:
    from sqlalchemy import Connection

Timestamp = datetime | str
"""An aware `datetime`, or ISO 8601 text with an offset."""


class FireOptions(TypedDict, total=False):
    """Options of `fire` besides the event type and the body.

    Attributes:
        call_report: The task in which the event happens.
        event_id: Identifier of the event, where the host has one.
        operation_id: Identifier of the sync or publish that the event belongs to.
        caused_by: The `operation_id` of the operation that caused this one.
        source: URI of the server that the event comes from, where one host fires the events of several.
        connection: The host's own connection to the database of the journal.
    """

    call_report: Mapping[str, Any] | None
    event_id: str | None
    operation_id: str | None
    caused_by: str | None
    source: str | None
    connection: "Connection | None"


class FiringMethods(ABC):
    """Fires each event type by a method of its own."""

    @abstractmethod
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
        """Fire an event of any type."""

    def repo_sync_started(self, *, repo_id: str, **options: Unpack[FireOptions]) -> Report:
        """Fire `repo-sync-started`; see `fire`, and the specification's fields in `RepoSyncStarted`."""
        return self.fire(EventType.REPO_SYNC_STARTED, {"repo_id": repo_id}, **options)

    def repo_sync_finished(  # noqa: PLR0913 - the fields of the specification
        self,
        *,
        repo_id: str,
        importer_id: str,
        importer_type_id: str,
        started: Timestamp,
        completed: Timestamp,
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
        **options: Unpack[FireOptions],
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
        return self.fire(EventType.REPO_SYNC_FINISHED, body, **options)

    def repo_publish_started(self, *, repo_id: str, distributor_id: str, **options: Unpack[FireOptions]) -> Report:
        """Fire `repo-publish-started`; see `fire`, and the specification's fields in `RepoPublishStarted`."""
        body = {"repo_id": repo_id, "distributor_id": distributor_id}
        return self.fire(EventType.REPO_PUBLISH_STARTED, body, **options)

    def repo_publish_finished(  # noqa: PLR0913 - the fields of the specification
        self,
        *,
        repo_id: str,
        distributor_id: str,
        distributor_type_id: str,
        started: Timestamp,
        completed: Timestamp,
        result: PublishResult,
        summary: object = None,
        details: object = None,
        error_message: str | None = None,
        exception: str | None = None,
        traceback: Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002 - the specification's name
        **options: Unpack[FireOptions],
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
        return self.fire(EventType.REPO_PUBLISH_FINISHED, body, **options)
