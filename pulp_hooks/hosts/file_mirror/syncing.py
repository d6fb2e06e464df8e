"""The sync of a mirror: downloads the files of the source into the store and counts the changes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.destination import Destination
from pulp_hooks.hosts.file_mirror.downloads import Downloads, Progress
from pulp_hooks.hosts.file_mirror.manifest import Entry
from pulp_hooks.hosts.file_mirror.sources import Source

if TYPE_CHECKING:
    from pulp_hooks.operations import SyncOperation


@dataclass(frozen=True, slots=True)
class Synced:
    """The result of a sync.

    Attributes:
        entries: The entries of the repository, in order of path.
        added: New paths.
        updated: Paths with a new checksum.
        removed: Removed paths.
        downloaded_files: Number of downloaded files; files with the same content count once.
        downloaded_bytes: Size of the downloaded files.
    """

    entries: Sequence[Entry]
    added: Sequence[str]
    updated: Sequence[str]
    removed: Sequence[str]
    downloaded_files: int
    downloaded_bytes: int


def sync(  # noqa: PLR0913 - the parts of a run, and its two options
    source: Source,
    destination: Destination,
    operation: "SyncOperation",
    progress: Progress | None,
    *,
    allow_shrink: bool,
    verify: bool,
) -> Synced:
    """Sync a source into a mirror, and set counts, summary and details of the operation.

    Raises:
        MirrorError: A file cannot be downloaded or stored, the manifest is invalid, or the source shrank. The previous
            sync stays in place.
    """
    started = time.monotonic()
    operation.details = {"source": source.name, "added": [], "updated": [], "removed": []}
    downloads = Downloads(source, destination.store, progress)
    held: Sequence[Entry] = []
    try:
        destination.prepare()
        held = before = destination.synced()
        entries = source.entries()
        if not allow_shrink:
            _refuse_shrunk(source.name, before, entries)
        # Verify files before they are published: a damaged file can still have the right size.
        downloads.run(entries, verify=verify or not destination.publications.holds(entries))
        destination.set_synced(entries)
        held = entries
        synced = _compared(before, entries, downloads)
        operation.added_count = len(synced.added)
        operation.updated_count = len(synced.updated)
        operation.removed_count = len(synced.removed)
        operation.details |= {"added": synced.added, "updated": synced.updated, "removed": synced.removed}
        destination.store.remove_unreferenced({entry.sha256 for entry in entries})
    finally:
        operation.summary = {
            "files": len(held),
            "bytes": sum(entry.size for entry in held),
            "seconds": round(time.monotonic() - started, 3),
            "downloaded_files": downloads.files,
            "downloaded_bytes": downloads.bytes,
        }
    return synced


def _refuse_shrunk(name: str, before: Sequence[Entry], after: Sequence[Entry]) -> None:
    """Refuse a source that looks like a truncated manifest or an unmounted disk."""
    if after and 2 * len(after) >= len(before):
        return
    now = f"lists {len(after)} files" if after else "is empty"
    had = f"it had {len(before)} at the last sync" if before else "it was never synced before"
    raise MirrorError(
        f"source {name} {now}, and {had}; fix: check the source, "
        "or pass --allow-shrink (in code: allow_shrink=True) if this is right"
    )


def _compared(before: Sequence[Entry], after: Sequence[Entry], downloads: Downloads) -> Synced:
    old = {entry.path: entry.sha256 for entry in before}
    new = {entry.path: entry.sha256 for entry in after}
    return Synced(
        entries=after,
        added=[path for path in new if path not in old],
        updated=[path for path, sha256 in new.items() if old.get(path, sha256) != sha256],
        removed=[path for path in old if path not in new],
        downloaded_files=downloads.files,
        downloaded_bytes=downloads.bytes,
    )
