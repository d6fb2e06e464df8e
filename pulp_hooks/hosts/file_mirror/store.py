"""The content-addressed store: each file once, named by its checksum."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.files import CHUNK_BYTES, is_whole, make_folder, seal, sync_folder
from pulp_hooks.hosts.file_mirror.manifest import Entry, shown


class Store:
    """Files named by the SHA-256 of their content (`ab/abcdef…`). Several threads may add files at once.

    Args:
        folder: The folder of the files.
        temporary: A folder on the same file system for unfinished files.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self._folder = folder
        self._temporary = temporary
        self._changed: set[Path] = set()
        self._verified: set[tuple[object, ...]] = set()

    def path(self, entry: Entry) -> Path:
        """Return the path of an entry's file, whether it exists or not."""
        return self._folder / entry.sha256[:2] / entry.sha256

    def has(self, entry: Entry) -> bool:
        """Return whether the file of an entry exists, has its size, and is not a link. The file is not read."""
        try:
            return is_whole(self.path(entry), entry.size)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_intact(self, file: Path, entry: Entry, read: Callable[[int], object] = lambda _: None) -> bool:
        """Return whether a file has the checksum of an entry.

        A file that this run has read or written is read again only if it was touched since.

        Args:
            file: The file of the entry, in the store or in a publication.
            entry: An entry of a manifest.
            read: Called with the size of each chunk read, in bytes.
        """
        try:
            with open(file, "rb", opener=_open_no_link) as stream:
                status = os.fstat(stream.fileno())
                identity = _identity(status, entry)
                if not stat.S_ISREG(status.st_mode):
                    return False
                if identity in self._verified:
                    return True
                digest = hashlib.sha256()
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
                    read(len(chunk))
        except OSError:  # an unreadable file has to be replaced too
            return False
        if digest.hexdigest() != entry.sha256:
            return False
        self._verified.add(identity)
        return True

    def verify(self, entry: Entry) -> None:
        """Raise unless the file of an entry is intact.

        Raises:
            MirrorError: The file is damaged.
            OSError: The file is missing.
        """
        file = self.path(entry)
        file.lstat()
        if not self.is_intact(file, entry):
            raise MirrorError(
                f"file {shown(entry.path)} cannot be published: {str(file)!r} is damaged; "
                "fix: run the mirror again to download it"
            )

    def add(self, entry: Entry, chunks: Iterable[bytes]) -> None:
        """Add the file of an entry. It becomes visible once it is complete and verified.

        Raises:
            MirrorError: The content has another size or checksum, or the file cannot be written. The message names the
                file; nothing of it is kept.
        """
        target = self.path(entry)
        try:
            with self._temporary_file() as stream:
                copy_verified(chunks, stream, entry)
                seal(stream)
                make_folder(target.parent)
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                Path(stream.name).replace(target)
                self._verified.add(_identity(os.fstat(stream.fileno()), entry))
        except FileExistsError as error:
            raise MirrorError(
                f"file {shown(entry.path)} cannot be stored: {str(target.parent)!r} is not a folder; fix: remove it"
            ) from error
        except OSError as error:
            raise MirrorError(
                f"file {shown(entry.path)} cannot be written to {str(self._folder)!r}: {error.strerror}"
            ) from error
        self._changed.add(target.parent)

    def settle(self) -> None:
        """Flush the names of all added files to the disk."""
        for folder in self._changed:
            sync_folder(folder)
        sync_folder(self._folder)
        self._changed.clear()

    def remove_unreferenced(self, referenced: Collection[str]) -> None:
        """Remove unreferenced files. If one cannot be removed, the next run tries again."""
        for file in self._folder.glob(f"??/{'[0-9a-f]' * 64}"):
            if file.name not in referenced:
                with suppress(OSError):
                    file.unlink()

    @contextmanager
    def _temporary_file(self) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile(dir=self._temporary, delete=False) as stream:
            try:
                yield stream
            finally:
                Path(stream.name).unlink(missing_ok=True)  # missing after success


def _open_no_link(path: str, flags: int) -> int:
    # O_NONBLOCK: do not wait for a writer if it is a pipe.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _identity(status: os.stat_result, entry: Entry) -> tuple[object, ...]:
    # Unlike the mtime, the ctime cannot be set back.
    return entry.sha256, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def copy_verified(chunks: Iterable[bytes], stream: IO[bytes], entry: Entry) -> None:
    """Write the content of a file to a stream, and check its size and checksum.

    Args:
        chunks: The content. Reading stops once it is longer than the entry's size.
        stream: The stream.
        entry: The entry of the file.

    Raises:
        MirrorError: The content has another size or checksum.
    """
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > entry.size:
            raise MirrorError(f"file {shown(entry.path)} is longer than its {entry.size} bytes in the manifest")
        digest.update(chunk)
        stream.write(chunk)
    if size < entry.size:
        raise MirrorError(f"file {shown(entry.path)} has {size} bytes, but {entry.size} in the manifest")
    if digest.hexdigest() != entry.sha256:
        raise MirrorError(
            f"file {shown(entry.path)} has the SHA-256 {digest.hexdigest()}, but {entry.sha256} in the manifest"
        )
