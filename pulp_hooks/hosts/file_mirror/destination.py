"""DEST: the folder of a mirror, and the lock that keeps a second run out of it.

.lock            lock held by a run
.temporary/      unfinished files; emptied at the start of a run
SYNCED_MANIFEST  manifest of the last successful sync
objects/         the store
publications/    the publications
current          link to the current publication: the root for a web server
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.files import make_folder, sync_folder, write_file
from pulp_hooks.hosts.file_mirror.manifest import Entry, format_manifest, parse_manifest
from pulp_hooks.hosts.file_mirror.publication import Publications
from pulp_hooks.hosts.file_mirror.store import Store

_LOCK = ".lock"


class Destination:
    """The folder of a mirror.

    Attributes:
        store: The store of its files.
        publications: Its publications.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary = folder / ".temporary"
        self._objects = folder / "objects"
        self._publications = folder / "publications"
        self._synced = folder / "SYNCED_MANIFEST"
        self.store = Store(self._objects, self._temporary)
        self.publications = Publications(self._publications, folder / "current", self._temporary)

    def prepare(self) -> None:
        """Make the folders, and remove leftovers of a killed run."""
        if self._temporary.exists():
            shutil.rmtree(self._temporary)
        for folder in (self._temporary, self._objects, self._publications):
            make_folder(folder)
        self.publications.tidy()

    def synced(self) -> list[Entry]:
        """Return the entries of the last successful sync, in order of path; none before the first sync.

        Raises:
            MirrorError: `SYNCED_MANIFEST` is damaged, so the counts would be wrong.
            OSError: `SYNCED_MANIFEST` cannot be read.
        """
        try:
            kept = self._synced.read_bytes()
        except FileNotFoundError:
            return []
        except IsADirectoryError:
            kept = b""
        lines = kept.rpartition(b"#")[0]
        if kept != _with_checksum(lines):
            raise MirrorError(
                f"{str(self._synced)!r} is damaged; fix: remove it (the next sync counts every path as added)"
            )
        return parse_manifest(lines, repr(str(self._synced)))

    def set_synced(self, entries: Sequence[Entry]) -> None:
        """Store the entries of a successful sync in one atomic step, after flushing their files to the disk."""
        self.store.settle()
        new = self._temporary / self._synced.name
        write_file(new, _with_checksum(format_manifest(entries)))
        new.replace(self._synced)
        sync_folder(self._folder)


def _with_checksum(lines: bytes) -> bytes:
    """Return the lines of a manifest, followed by a comment with their checksum."""
    return lines + f"# SHA-256 of the lines above: {hashlib.sha256(lines).hexdigest()}\n".encode()


@contextmanager
def open_destination(folder: Path, source: Path | None) -> Iterator[Destination]:
    """Yield the mirror in a folder, locked against other runs. The folder is made if missing.

    Args:
        folder: DEST.
        source: The folder to mirror, or `None` if the source is not a local folder.

    Raises:
        MirrorError: The folder cannot be used for a mirror, or another run uses it; nothing was changed.
    """
    try:
        # Imported here, because it is installed only with the extra `mirror`.
        from filelock import FileLock, Timeout  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise MirrorError("a mirror needs filelock; fix: pip install 'pulp-hooks[mirror]'") from error
    try:
        _refuse_unfit(folder, source)
        for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
            make_folder(missing)
        lock = FileLock(folder / _LOCK, timeout=0).acquire()
    except Timeout:
        raise MirrorError(f"another run is using DEST {str(folder)!r}; fix: wait until it has ended") from None
    except OSError as error:
        raise MirrorError(f"DEST {str(folder)!r} cannot be used: {error}") from error
    with lock:
        yield Destination(folder)


def _refuse_unfit(folder: Path, source: Path | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise MirrorError(f"DEST {str(folder)!r} is a file; fix: pass a folder, or a new name")
    if source is not None:
        ours, theirs = Path(os.path.realpath(folder)), Path(os.path.realpath(source))
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            raise MirrorError(
                f"DEST {str(folder)!r} and SOURCE {str(source)!r} are the same folder, or one contains the other; "
                "fix: pass a DEST outside SOURCE"
            )
    if folder.is_dir() and not (folder / _LOCK).exists() and any(folder.iterdir()):
        raise MirrorError(
            f"DEST {str(folder)!r} is not empty and not a mirror; fix: pass an empty folder, or a new name"
        )
