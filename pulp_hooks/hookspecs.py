"""The hook specifications, one for each event type.

An implementation takes `body`, `event`, both or neither, by these names. It may be a plain function or `async def`.
Its return value is ignored. An exception is recorded and does not affect other listeners.
"""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import RepoPublishFinished, RepoPublishStarted, RepoSyncFinished, RepoSyncStarted
    from pulp_hooks.event import Event

PROJECT_NAME = "pulp_hooks"
"""Name of the pluggy project and of the entry point group."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)
"""Decorator that marks a function as the implementation of the hook of the same name."""


@hookspec
def repo_sync_started(body: "RepoSyncStarted", event: "Event") -> None:
    """Called when a sync starts, before anything is downloaded.

    Args:
        body: `repo_id` of the repository.
        event: The event that carries the body.

    Example:
        ```python
        @hookimpl
        def repo_sync_started(body):
            print("sync of", body["repo_id"])
        ```
    """


@hookspec
def repo_sync_finished(body: "RepoSyncFinished", event: "Event") -> None:
    """Called when a sync has ended with success, failure, an error or cancellation.

    Args:
        body: The result of the sync, for example `result` (how it ended) and `added_count` (new units).
        event: The event that carries the body.

    Example:
        ```python
        @hookimpl
        def repo_sync_finished(body):
            if body["result"] != "success":
                print(body["repo_id"], body["error_message"])
        ```
    """


@hookspec
def repo_publish_started(body: "RepoPublishStarted", event: "Event") -> None:
    """Called when a publish starts, whether on its own or automatically after a sync.

    Args:
        body: `repo_id` of the repository and `distributor_id` of the distributor.
        event: The event that carries the body.

    Example:
        ```python
        @hookimpl
        def repo_publish_started(body, event):
            print(event.time, body["distributor_id"])
        ```
    """


@hookspec
def repo_publish_finished(body: "RepoPublishFinished", event: "Event") -> None:
    """Called when a publish has ended with success, failure, an error or cancellation, or was skipped.

    Args:
        body: The result of the publish, for example `result` (how it ended).
        event: The event that carries the body.

    Example:
        ```python
        @hookimpl
        async def repo_publish_finished(body):
            if body["result"] == "success":
                await purge_cache(body["repo_id"])
        ```
    """
