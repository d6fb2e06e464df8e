"""Publications: trees of files for a web server, one of which is current."""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.files import CHUNK_BYTES, is_whole, make_folder, seal, sync_folder, write_file
from pulp_hooks.hosts.file_mirror.manifest import MANIFEST_NAME, Entry, format_manifest, shown
from pulp_hooks.hosts.file_mirror.store import Store, copy_verified
from pulp_hooks.safe_logger import safe_logger

_log = safe_logger(__name__)
_ID = re.compile(r"[0-9]{8}")  # sorted by name, they are in the order in which they were made
# Errors after which a copy may succeed: other file system, too many links, hard links not supported.
_NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


class Publications:
    """The publications of a mirror, numbered in the order in which they were made.

    Args:
        folder: The folder of the publications.
        link: The link to the current publication.
        temporary: A folder on the same file system for unfinished files.
    """

    def __init__(self, folder: Path, link: Path, temporary: Path) -> None:
        self._folder = folder
        self._link = link
        self._temporary = temporary

    def current(self) -> Path | None:
        """Return the folder of the current publication, or `None` before the first."""
        try:
            publication = self._link.parent / self._link.readlink()
        except OSError:
            return None  # missing, or not a link
        return publication if publication in self._all() else None

    def holds(self, entries: Sequence[Entry], verifier: Store | None = None) -> bool:
        """Return whether the current publication lists exactly these files, each with its size.

        Args:
            entries: The entries of a manifest.
            verifier: If given, each file must also have its checksum, and no other file may exist.
        """
        current = self.current()
        try:
            return (
                current is not None
                and (current / MANIFEST_NAME).read_bytes() == format_manifest(entries)
                and (verifier is None or not _strangers(current, entries))
                and all(
                    is_whole(current / entry.path, entry.size)
                    and (verifier is None or verifier.is_intact(current / entry.path, entry))
                    for entry in entries
                )
            )
        except OSError:
            return False

    def publish(self, entries: Sequence[Entry], store: Store) -> Path:
        """Build a publication, make it current in one atomic step, and return its folder.

        Raises:
            MirrorError: A file is damaged or cannot be published. The message names it.
        """
        building = self._temporary / "publication"
        folders = sorted(
            {folder for entry in entries for folder in PurePosixPath(entry.path).parents} or {PurePosixPath()}
        )
        for folder in folders:
            make_folder(building / folder)
        for entry in {entry.sha256: entry for entry in reversed(entries)}.values():
            with _named(entry):
                store.verify(entry)
        for entry in entries:
            with _named(entry):
                _link_or_copy(store, entry, building / entry.path)
        write_file(building / MANIFEST_NAME, format_manifest(entries))
        for folder in folders:
            sync_folder(building / folder)

        number = max((int(publication.name) for publication in self._all()), default=0) + 1
        publication = building.rename(self._folder / f"{number:08d}")
        sync_folder(self._folder)
        self._make_current(publication)
        return publication

    def tidy(self) -> None:
        """Remove all publications but the current one and the one before it.

        A publication after the current one is left over from a run that was killed before making it current.
        """
        current = self.current()
        if current is None and os.path.lexists(self._link):
            return  # changed by hand: a publication may be served in another way
        kept = [publication for publication in self._all() if current and publication.name <= current.name][-2:]
        for publication in self._all():
            if publication not in kept:
                with suppress(OSError):  # the next run tries again
                    shutil.rmtree(publication.rename(self._temporary / publication.name))

    def _make_current(self, publication: Path) -> None:
        link = self._temporary / "current"
        link.symlink_to(publication.relative_to(self._link.parent))
        link.replace(self._link)
        sync_folder(self._link.parent)

    def _all(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if _ID.fullmatch(path.name))


def _strangers(publication: Path, entries: Sequence[Entry]) -> list[str]:
    """Return and log the files in a publication that are links or not in its manifest."""
    own = {PurePosixPath(entry.path) for entry in entries}
    own |= {folder for path in own for folder in path.parents} | {PurePosixPath(MANIFEST_NAME)}
    found = {path: PurePosixPath(path.relative_to(publication)) for path in publication.rglob("*")}
    strangers = sorted(str(name) for path, name in found.items() if name not in own or path.is_symlink())
    for name in strangers:
        _log.warning("published file %s is a link or not in the manifest; publishing again without it", shown(name))
    return strangers


@contextmanager
def _named(entry: Entry) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MirrorError(f"file {shown(entry.path)} cannot be published: {error.strerror}") from error


def _link_or_copy(store: Store, entry: Entry, target: Path) -> None:
    original = store.path(entry)
    try:
        target.hardlink_to(original)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        with original.open("rb") as stream, target.open("xb") as copy:
            copy_verified(iter(partial(stream.read, CHUNK_BYTES), b""), copy, entry)
            seal(copy)
