"""The content-addressed store: every file once, under its checksum."""

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
    """Files by the SHA-256 of what they hold: `ab/abcdef…`; threads may add to it at the same time.

    Args:
        folder: Where they lie.
        temporary: A folder on the same file system for what is not complete.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self._folder = folder
        self._temporary = temporary
        self._changed: set[Path] = set()
        self._verified: set[tuple[object, ...]] = set()

    def path(self, entry: Entry) -> Path:
        """Give where the file of an entry lies, or would lie.

        Args:
            entry: An entry of a manifest.
        """
        return self._folder / entry.sha256[:2] / entry.sha256

    def has(self, entry: Entry) -> bool:
        """Return whether the file of an entry is there in its full size, and is no link; it is not read.

        Args:
            entry: An entry of a manifest.
        """
        try:
            return is_whole(self.path(entry), entry.size)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_intact(self, file: Path, entry: Entry, read: Callable[[int], object] = lambda _: None) -> bool:
        """Return whether a file holds what an entry says, by its checksum.

        A file that this run has read or written already is read again only if somebody touched it since.

        Args:
            file: The file of the entry, here or in a publication.
            entry: An entry of a manifest.
            read: Called with the number of bytes of each chunk that was read.
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
        except OSError:  # a file that cannot be read is as good as lost
            return False
        if digest.hexdigest() != entry.sha256:
            return False
        self._verified.add(identity)
        return True

    def verify(self, entry: Entry) -> None:
        """Make sure that the file of an entry is what the entry says.

        Args:
            entry: An entry of a manifest.

        Raises:
            MirrorError: It is damaged.
            OSError: It is missing.
        """
        file = self.path(entry)
        file.lstat()
        if not self.is_intact(file, entry):
            raise MirrorError(
                f"file {shown(entry.path)} cannot be published: {str(file)!r} is damaged; "
                "fix: run the mirror again, which downloads it again"
            )

    def add(self, entry: Entry, chunks: Iterable[bytes]) -> None:
        """Take in the file of an entry; it is seen when it is complete and right, and not before.

        Args:
            entry: What the file has to be.
            chunks: What it is; not asked for more once it is longer than the entry says.

        Raises:
            MirrorError: It has another size or checksum, or cannot be written; says the path. Nothing of it is left.
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
        """Bring the names of all files added to the disk.

        Raises:
            OSError: The disk refused.
        """
        for folder in self._changed:
            sync_folder(folder)
        sync_folder(self._folder)
        self._changed.clear()

    def remove_unreferenced(self, referenced: Collection[str]) -> None:
        """Remove the files that nothing needs; one that cannot be removed stays for the next time.

        Args:
            referenced: The checksums of those to be kept.
        """
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
                Path(stream.name).unlink(missing_ok=True)  # it is missing when all went well


def _open_no_link(path: str, flags: int) -> int:
    # A pipe is not waited for.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _identity(status: os.stat_result, entry: Entry) -> tuple[object, ...]:
    # The time of the last change of the inode cannot be set back, unlike the time of the last write.
    return entry.sha256, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def copy_verified(chunks: Iterable[bytes], stream: IO[bytes], entry: Entry) -> None:
    """Write what a file holds to a stream.

    Args:
        chunks: What the file holds; not asked for more once it is longer than the entry says.
        stream: Where it goes.
        entry: What the file has to be.

    Raises:
        MirrorError: It has another size or checksum.
    """
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > entry.size:
            raise MirrorError(f"file {shown(entry.path)} is longer than the {entry.size} bytes that the manifest says")
        digest.update(chunk)
        stream.write(chunk)
    if size < entry.size:
        raise MirrorError(f"file {shown(entry.path)} has {size} bytes, and {entry.size} by the manifest")
    if digest.hexdigest() != entry.sha256:
        raise MirrorError(
            f"file {shown(entry.path)} has the SHA-256 {digest.hexdigest()}, and {entry.sha256} by the manifest"
        )
