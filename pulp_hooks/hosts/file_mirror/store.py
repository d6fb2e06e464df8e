"""The content-addressed store: every file once, under its checksum."""

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.files import make_folder, seal, sync_folder
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

    def path(self, entry: Entry) -> Path:
        """Give where the file of an entry lies, or would lie.

        Args:
            entry: An entry of a manifest.
        """
        return self._folder / entry.sha256[:2] / entry.sha256

    def has(self, entry: Entry) -> bool:
        """Tell whether the file of an entry is there in its full size.

        Args:
            entry: An entry of a manifest.
        """
        try:
            return self.path(entry).stat().st_size == entry.size
        except FileNotFoundError:
            return False

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
                _copy(chunks, stream, entry)
                seal(stream)
                make_folder(target.parent)
                Path(stream.name).replace(target)
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


def _copy(chunks: Iterable[bytes], stream: IO[bytes], entry: Entry) -> None:
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
