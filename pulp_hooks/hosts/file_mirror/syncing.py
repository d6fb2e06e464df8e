"""The sync of a mirror: what the source has comes into the store, and the counts of the event say what changed."""

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
    """What a sync has done.

    Attributes:
        entries: What the repository has now, in order of path.
        added: Paths that were not there before.
        updated: Paths that have another checksum than before.
        removed: Paths that are gone.
        downloaded_files: Files that had to be fetched; those with the same content count once.
        downloaded_bytes: Their bytes.
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
    """Bring what a source has into a mirror, and tell the operation what was done.

    Args:
        source: The source.
        destination: The mirror.
        operation: The sync that is under way.
        progress: Hears how far the downloads are.
        allow_shrink: Accept a source that is empty, or lost more than half of its files since the last sync.
        verify: Read every stored file again, even if there is nothing to publish.

    Raises:
        MirrorError: A file cannot be had or stored, the manifest is wrong, or the source shrank; what was synced before
            stays.
        OSError: The disk is full or broken.
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
        # What enters a publication was read before: a stored file can be damaged without a change of its size.
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
    """Refuse what a cut manifest or an unmounted disk looks like."""
    if after and 2 * len(after) >= len(before):
        return
    now = f"lists {len(after)} files" if after else "is empty"
    had = f"it had {len(before)} at the last sync" if before else "nothing was ever synced from it"
    raise MirrorError(
        f"source {name} {now}, and {had}; fix: check the source, "
        "or pass --allow-shrink (in a program: allow_shrink=True) if this is right"
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
