"""DEST: the folder that a mirror lives in, and the lock that keeps a second run out of it.

.lock            held by a run
.temporary/      whatever is not complete; emptied when a run begins
SYNCED_MANIFEST  what the last successful sync brought
objects/         the store
publications/    the trees to be served
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
    """The parts of a mirror's folder.

    Args:
        folder: The folder.

    Attributes:
        store: Its files.
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
        """Make the folders, and remove what a run that was killed has left over.

        Raises:
            OSError: The disk is full or broken.
        """
        if self._temporary.exists():
            shutil.rmtree(self._temporary)
        for folder in (self._temporary, self._objects, self._publications):
            make_folder(folder)
        self.publications.tidy()

    def synced(self) -> list[Entry]:
        """Give the entries of the last successful sync in order of path; none before the first.

        Raises:
            MirrorError: The file that they are kept in is damaged; with it, the counts would be wrong.
            OSError: It cannot be read.
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
                f"{str(self._synced)!r} is damaged; fix: remove it, and the next sync counts every path as added"
            )
        return parse_manifest(lines, repr(str(self._synced)))

    def set_synced(self, entries: Sequence[Entry]) -> None:
        """Keep the entries of a successful sync, in one step; their files are safe on the disk first.

        Args:
            entries: Those of its manifest.

        Raises:
            OSError: The disk is full or broken.
        """
        self.store.settle()
        new = self._temporary / self._synced.name
        write_file(new, _with_checksum(format_manifest(entries)))
        new.replace(self._synced)
        sync_folder(self._folder)


def _with_checksum(lines: bytes) -> bytes:
    """Return the lines of a manifest and a comment that shows whether they are whole."""
    return lines + f"# SHA-256 of the lines above: {hashlib.sha256(lines).hexdigest()}\n".encode()


@contextmanager
def open_destination(folder: Path, source: Path | None) -> Iterator[Destination]:
    """Give the mirror in a folder, which is made when it is missing, while no other run uses it.

    Args:
        folder: DEST.
        source: The folder that is to be mirrored, if it is one of this machine.

    Raises:
        MirrorError: The folder cannot hold a mirror, or another run uses it; nothing was changed.
    """
    try:
        # Imported when used: it is in the extra of those who mirror.
        from filelock import FileLock, Timeout  # noqa: PLC0415 - said above
    except ModuleNotFoundError as error:
        raise MirrorError("a mirror needs filelock: pip install 'pulp-hooks[mirror]'") from error
    try:
        _refuse_unfit(folder, source)
        for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
            make_folder(missing)
        lock = FileLock(folder / _LOCK, timeout=0).acquire()
    except Timeout:
        raise MirrorError(f"another run is using DEST {str(folder)!r}; start this one when it has ended") from None
    except OSError as error:
        raise MirrorError(f"DEST {str(folder)!r} cannot be used: {error}") from error
    with lock:
        yield Destination(folder)


def _refuse_unfit(folder: Path, source: Path | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise MirrorError(f"DEST {str(folder)!r} is a file: give a folder, or a name that is free")
    if source is not None:
        ours, theirs = Path(os.path.realpath(folder)), Path(os.path.realpath(source))
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            raise MirrorError(
                f"DEST {str(folder)!r} and SOURCE {str(source)!r} are the same folder, or one is in the other"
            )
    if folder.is_dir() and not (folder / _LOCK).exists() and any(folder.iterdir()):
        raise MirrorError(
            f"DEST {str(folder)!r} is not empty and holds no mirror: give an empty folder, or a name that is free"
        )
