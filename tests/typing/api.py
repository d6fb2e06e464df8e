"""Code of plugin authors and hosts that is never run: mypy and pyright check that it is typed as it should be.

A line with `type: ignore` is a mistake that type checkers have to find; where they do not, the comment is reported as
unused.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import assert_type

from marshmallow import fields
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from pulp_hooks import BodyError, Event, EventType, Hooks, Notifier, Outcome, PermanentFailure, Report, Status, hookimpl
from pulp_hooks.bodies.types import (
    Body,
    JsonValue,
    PublishResult,
    RepoPublishFinished,
    RepoPublishStarted,
    RepoSyncFinished,
    RepoSyncStarted,
    SyncResult,
)
from pulp_hooks.operations import PublishOperation, SyncOperation

# What a plugin author writes.


@hookimpl
def repo_sync_started(body: RepoSyncStarted) -> None:
    """Take the body only."""
    assert_type(body["repo_id"], str)
    body["distributor_id"]  # type: ignore[typeddict-item]


@hookimpl(tryfirst=True)
def repo_sync_finished(body: RepoSyncFinished, event: Event) -> None:
    """Take both arguments."""
    assert_type(body["result"], SyncResult)
    assert_type(body["added_count"], int | None)
    assert_type(body["traceback"], list[str] | None)
    assert_type(body["details"], JsonValue)
    assert_type(event.id, str)
    assert_type(event.type, EventType)
    assert_type(event.time, datetime)
    assert_type(event.body, Body)
    assert_type(event.call_report, dict[str, JsonValue] | None)
    assert_type(event.operation_id, str | None)
    assert_type(event.caused_by, str | None)
    assert_type(event.type.wire_name, str)
    print(body["result"] == "skipped")  # type: ignore[comparison-overlap] # noqa: T201 - never run
    event.id = "another"  # type: ignore[misc]
    body["added_count"] + 1  # type: ignore[operator]


@hookimpl(trylast=True)
async def repo_publish_started(event: Event, body: RepoPublishStarted) -> None:
    """Take both in the other order, in a coroutine."""
    assert_type(body["distributor_id"], str)
    assert_type(event.to_json(), str)


class Listener:
    """A plugin that is an object."""

    @hookimpl
    def repo_publish_finished(self, body: RepoPublishFinished) -> None:
        """Take the body only."""
        assert_type(body["result"], PublishResult)

    @hookimpl(specname="repo_sync_started")
    def count(self) -> None:
        """Take neither argument."""


assert_type(Listener().count(), None)
repo_sync_started({"repository": "pulp-f17"})  # type: ignore[typeddict-item]
hookimpl(tryfirst="yes")  # type: ignore[call-overload]


class Printer(Notifier):
    """A notifier with configuration."""

    class Config(Notifier.Config):
        """What it takes."""

        prefix = fields.String(load_default="")

    def notify(self, event: Event) -> None:
        """Forward an event."""
        print(self.config["prefix"], event.body["repo_id"])  # noqa: T201 - never run

    def close(self) -> None:
        """Let go of nothing."""


class AsyncPrinter(Notifier):
    """A notifier that is awaited."""

    async def notify(self, event: Event) -> dict[str, object]:
        """Forward an event from a coroutine, and show what came of it."""
        assert_type(event.source, str)
        return {"status": 204}


class Mute(Notifier):
    """A notifier that lacks the one method that it must have."""


class Wrong(Notifier):
    """A notifier that takes the body where the event is due."""

    def notify(self, event: RepoSyncStarted) -> None:  # type: ignore[override]
        """Forward nothing."""


PermanentFailure("gone", detail={"status": 410})
PermanentFailure("gone", detail="410")  # type: ignore[arg-type]
Mute({})  # type: ignore[abstract]

# What a host writes.


def host() -> None:
    """Fire events and read the reports."""
    with Hooks([Listener(), Printer({}), AsyncPrinter({})], source="https://pulp.example") as hooks:
        assert_type(hooks, Hooks)
        report = hooks.fire("repo-sync-started", {"repo_id": "pulp-f17"})
        assert_type(report, Report)
        assert_type(report.event, Event)
        assert_type(report.outcomes, tuple[Outcome, ...])
        assert_type(report.failures, tuple[Outcome, ...])
        assert_type(report.outcomes[0].status, Status)
        assert_type(report.outcomes[0].seconds, float)
        assert_type(report.outcomes[0].error, str | None)
        assert_type(report.outcomes[0].traceback, str | None)
        assert_type(report.outcomes[0].detail, Mapping[str, JsonValue] | None)
        assert_type(report.is_duplicate, bool)
        report.outcomes[0].error = None  # type: ignore[misc]
        assert_type(hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "f17"}, call_report={"task_id": "1"}), Report)
        assert_type(hooks.repo_sync_started(repo_id="pulp-f17"), Report)
        assert_type(hooks.repo_publish_started(repo_id="pulp-f17", distributor_id="yum_distributor"), Report)
        hooks.repo_sync_finished(
            repo_id="pulp-f17",
            importer_id="yum_importer",
            importer_type_id="yum_importer",
            started=datetime.now(UTC),
            completed="2012-07-06T15:49:14Z",
            result="success",
            traceback=("a", "b"),
        )
        hooks.repo_publish_finished(
            repo_id="pulp-f17",
            distributor_id="yum_distributor",
            distributor_type_id="yum_distributor",
            started=datetime.now(UTC),
            completed=datetime.now(UTC),
            result="skipped",
        )
        hooks.fire("repo-sync-started")  # type: ignore[call-arg]
        hooks.fire("repo-sync-started", ["pulp-f17"])  # type: ignore[arg-type]
        hooks.repo_sync_started("pulp-f17")  # type: ignore[call-arg]
        hooks.repo_sync_started(repo="pulp-f17")  # type: ignore[call-arg]
        hooks.repo_publish_started(repo_id="pulp-f17")  # type: ignore[call-arg]
        hooks.repo_sync_finished(
            repo_id="pulp-f17",
            importer_id="yum_importer",
            importer_type_id="yum_importer",
            started=0,  # type: ignore[arg-type]
            completed=datetime.now(UTC),
            result="skipped",  # type: ignore[arg-type]
        )
    Hooks([], "https://pulp.example")  # type: ignore[arg-type,call-arg]
    assert_type(Hooks.discover("pulp-hooks.toml", source="https://pulp.example", listeners=[Listener()]), Hooks)


def operations(hooks: Hooks, connection: Connection) -> None:
    """Wrap a sync and a publish."""
    with hooks.sync("pulp-f17", importer_id="yum_importer", importer_type_id="yum_importer") as sync:
        assert_type(sync, SyncOperation)
        sync.added_count = 3
        sync.removed_count = None
        sync.summary = {"packages": 3}
        sync.fail("no space")
        sync.added_count = "3"  # type: ignore[assignment]
        sync.skip("nothing new")  # type: ignore[attr-defined]
        assert_type(sync.id, str)
        assert_type(sync.succeed(connection=connection), None)
        sync.succeed()  # type: ignore[call-arg]
        sync.id = "another"  # type: ignore[misc]
    with hooks.publish("pulp-f17", distributor_id="yum", distributor_type_id="yum", caused_by=sync) as publish:
        assert_type(publish, PublishOperation)
        publish.skip("nothing new")
        publish.added_count = 3  # type: ignore[attr-defined]
    hooks.sync("pulp-f17", importer_id="yum", importer_type_id="yum", caused_by=sync.id)
    hooks.sync("pulp-f17", importer_id="yum", importer_type_id="yum", caused_by=7)  # type: ignore[arg-type]
    hooks.repo_sync_started(
        repo_id="pulp-f17", operation_id=sync.id, caused_by=publish.id, source="https://p", connection=connection
    )
    hooks.sync("pulp-f17")  # type: ignore[call-arg]
    hooks.sync("pulp-f17", "yum_importer", "yum_importer")  # type: ignore[call-arg]


def reads_behind_the_block(hooks: Hooks) -> int:
    """Return inside a `with` block: it swallows no exception, so nothing is due behind it."""
    with hooks.sync("pulp-f17", importer_id="yum_importer", importer_type_id="yum_importer"):
        return 1


async def coroutine(hooks: Hooks, connection: AsyncConnection) -> None:
    """Fire and wrap from a coroutine."""
    assert_type(await hooks.afire("repo-sync-started", {"repo_id": "pulp-f17"}), Report)
    async with hooks.sync("pulp-f17", importer_id="yum_importer", importer_type_id="yum_importer") as sync:
        assert_type(sync, SyncOperation)
        assert_type(await sync.asucceed(connection=connection), None)
        sync.succeed(connection=connection)  # type: ignore[arg-type]
    assert_type(await hooks.afire("repo-sync-started", {"repo_id": "f17"}, connection=connection), Report)
    async with hooks.publish("pulp-f17", distributor_id="yum", distributor_type_id="yum") as publish:
        assert_type(publish, PublishOperation)
    print(hooks.afire("repo-sync-started", {"repo_id": "pulp-f17"}).outcomes)  # type: ignore[attr-defined] # noqa: T201 - never run


def handles(error: BodyError) -> None:
    """Read what is wrong with a body."""
    assert_type(error.event_type, str)
    assert_type(error.errors[0].field, str)
