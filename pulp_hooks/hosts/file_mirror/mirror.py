"""The file mirror: a host that syncs a file repository, publishes it, and fires the four event types."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.destination import Destination, open_destination
from pulp_hooks.hosts.file_mirror.downloads import Progress
from pulp_hooks.hosts.file_mirror.manifest import Entry
from pulp_hooks.hosts.file_mirror.sources import open_source
from pulp_hooks.hosts.file_mirror.syncing import sync
from pulp_hooks.hosts.file_mirror.transfers import MIN_SPEED

if TYPE_CHECKING:
    from pulp_hooks.hooks import Hooks
    from pulp_hooks.operations import Operation, PublishOperation

IMPORTER = "file_importer"
DISTRIBUTOR = "file_distributor"

PublishResult = Literal["success", "skipped"]
_AnyOperation = TypeVar("_AnyOperation", bound="Operation")


@dataclass(frozen=True, slots=True)
class MirrorResult:
    """The result of a run.

    Attributes:
        repo_id: ID of the repository.
        sync_result: Result of the sync. It is always `success`: a failed sync raises.
        added_count: Number of new paths.
        updated_count: Number of paths with a new checksum.
        removed_count: Number of removed paths.
        files: Number of files in the repository.
        bytes: Size of the repository.
        downloaded_files: Number of downloaded files; files with the same content count once.
        downloaded_bytes: Size of the downloaded files.
        seconds: Duration of the run.
        publish_result: Result of the publish: `skipped` if nothing had changed, `None` with `publish=False`.
        publication: The folder of the current publication; `None` with `publish=False`.
    """

    repo_id: str
    sync_result: Literal["success"]
    added_count: int
    updated_count: int
    removed_count: int
    files: int
    bytes: int
    downloaded_files: int
    downloaded_bytes: int
    seconds: float
    publish_result: PublishResult | None
    publication: Path | None


def mirror(  # noqa: PLR0913 - source, destination, hooks, and keyword options
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    hooks: "Hooks",
    *,
    repo_id: str,
    publish: bool = True,
    progress: Progress | None = None,
    allow_shrink: bool = False,
    verify: bool = False,
    min_speed: int = MIN_SPEED,
) -> MirrorResult:
    """Sync a file repository into a folder, and publish it there.

    A run that fails or is killed leaves the previous sync and the current publication as they were. Its downloads are
    kept for the next run.

    Args:
        source: A folder's path, or an `http://`, `https://` or `file://` URL of a folder or of its `PULP_MANIFEST`.
            A folder without a manifest is scanned.
        dest: The folder of the mirror, created if missing. The root for a web server is `current` in it.
        hooks: Fires the events.
        repo_id: ID of the repository in the events.
        publish: Publish after the sync.
        progress: Receives the progress of the downloads.
        allow_shrink: Accept a source that is empty, or has fewer than half of the files of the last sync.
        verify: Read every stored file and the current publication again, and replace damaged files.
        min_speed: Minimum speed in bytes per second. The sync fails if an HTTP server stays below it for 30 seconds. 0
            means no limit.

    Raises:
        MirrorError: The sync or publish failed, after its finished event with result `failed` was fired; or, before any
            event, SOURCE or DEST is invalid, or another run uses DEST.
    """
    started = time.monotonic()
    with (
        open_source(os.fspath(source), min_speed) as opened,
        open_destination(Path(dest).absolute(), opened.folder) as destination,
    ):
        with _reported(hooks.sync(repo_id, importer_id=IMPORTER, importer_type_id=IMPORTER)) as syncing:
            synced = sync(opened, destination, syncing, progress, allow_shrink=allow_shrink, verify=verify)
        publish_result, publication = None, None
        if publish:
            publishing = hooks.publish(
                repo_id, distributor_id=DISTRIBUTOR, distributor_type_id=DISTRIBUTOR, caused_by=syncing
            )
            with _reported(publishing):
                publish_result, publication = _publish(destination, synced.entries, publishing, verify=verify)
    return MirrorResult(
        repo_id=repo_id,
        sync_result="success",
        added_count=len(synced.added),
        updated_count=len(synced.updated),
        removed_count=len(synced.removed),
        files=len(synced.entries),
        bytes=sum(entry.size for entry in synced.entries),
        downloaded_files=synced.downloaded_files,
        downloaded_bytes=synced.downloaded_bytes,
        seconds=round(time.monotonic() - started, 3),
        publish_result=publish_result,
        publication=publication,
    )


def _publish(
    destination: Destination, entries: Sequence[Entry], operation: "PublishOperation", *, verify: bool
) -> tuple[PublishResult, Path]:
    started = time.monotonic()
    publications = destination.publications
    current = publications.current()
    result: PublishResult = "success"
    if current and publications.holds(entries, destination.store if verify else None):
        result, publication = "skipped", current
        operation.skip(
            "the current publication has exactly these files, verified by checksum"
            if verify
            else "nothing has changed since the current publication"
        )
    else:
        publication = publications.publish(entries, destination.store)
        publications.tidy()
    operation.details = {"publication": publication.name, "path": str(publication)}
    operation.summary = {
        "files": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "seconds": round(time.monotonic() - started, 3),
    }
    return result, publication


@contextmanager
def _reported(operation: _AnyOperation) -> Iterator[_AnyOperation]:
    """Turn an expected error into the operation's result `failed`, and raise it after the finished event."""
    failure = None
    with operation:
        try:
            yield operation
        except MirrorError as error:
            failure = error
        except OSError as error:
            failure = MirrorError(f"cannot write to DEST: {error}")
            failure.__cause__ = error
        if failure:
            operation.fail(str(failure))
    if failure:
        raise failure
