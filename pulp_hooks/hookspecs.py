"""The four hooks that a plugin implements, one for each event type.

An implementation takes `body`, `event`, both or neither, by these names. It may be a plain function or `async def`.
What it returns is ignored; what it raises is recorded and stops nobody else.
"""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import RepoPublishFinished, RepoPublishStarted, RepoSyncFinished, RepoSyncStarted
    from pulp_hooks.event import Event

PROJECT_NAME = "pulp_hooks"
"""Name of the pluggy project, and of the group of entry points."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)
"""Marks a function as the implementation of the hook whose name it has."""


@hookspec
def repo_sync_started(body: "RepoSyncStarted", event: "Event") -> None:
    """Called when the sync of a repository begins, before anything is fetched.

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
    """Called when the sync of a repository has ended: successful, failed, broken off by an error, or canceled.

    Args:
        body: The result of the sync; `result` says how it ended, `added_count` what it brought.
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
    """Called when the publish of a repository begins, be it on its own or automatically behind a sync.

    Args:
        body: `repo_id` of the repository, and `distributor_id` of what publishes it.
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
    """Called when the publish of a repository has ended: successful, skipped, failed, by an error, or canceled.

    Args:
        body: The result of the publish; `result` says how it ended.
        event: The event that carries the body.

    Example:
        ```python
        @hookimpl
        async def repo_publish_finished(body):
            if body["result"] == "success":
                await purge_cache(body["repo_id"])
        ```
    """
