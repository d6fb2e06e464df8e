"""Types of the four bodies, as listeners receive them. Importing them does not import marshmallow."""

from typing import Literal, TypeAlias, TypedDict

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""Any JSON value."""

SyncResult: TypeAlias = Literal["success", "failed", "error", "canceled"]
"""Result of a sync."""

PublishResult: TypeAlias = Literal["success", "failed", "error", "canceled", "skipped"]
"""Result of a publish; `skipped` if there was nothing new to publish."""


class RepoSyncStarted(TypedDict):
    """Body of `repo-sync-started`."""

    repo_id: str


class RepoSyncFinished(TypedDict):
    """Body of `repo-sync-finished`."""

    importer_type_id: str
    importer_id: str
    exception: str | None
    repo_id: str
    removed_count: int | None
    started: str
    _ns: Literal["repo_sync_results"]
    completed: str
    traceback: list[str] | None
    summary: JsonValue
    added_count: int | None
    error_message: str | None
    updated_count: int | None
    details: JsonValue
    id: str
    result: SyncResult


class RepoPublishStarted(TypedDict):
    """Body of `repo-publish-started`."""

    repo_id: str
    distributor_id: str


class RepoPublishFinished(TypedDict):
    """Body of `repo-publish-finished`."""

    exception: str | None
    repo_id: str
    started: str
    _ns: Literal["repo_publish_results"]
    completed: str
    traceback: list[str] | None
    distributor_type_id: str
    summary: JsonValue
    error_message: str | None
    details: JsonValue
    distributor_id: str
    id: str
    result: PublishResult


Body: TypeAlias = dict[str, JsonValue]
"""A body of any event type, for code that does not know the type."""
