"""A repository in a folder, listed by its `PULP_MANIFEST` or, without one, by a scan of the folder."""

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.files import CHUNK_BYTES
from pulp_hooks.hosts.file_mirror.manifest import MANIFEST_NAME, Entry, broken_rule, read_manifest, shown


class FolderSource:
    """A folder with files. Links below the folder are never followed.

    Attributes:
        name: Name for messages and events.
        folder: The folder.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Return the entries of the manifest, or of a scan; no file may be missing, a link or a special file."""
        if not os.path.lexists(self.folder / MANIFEST_NAME):
            return self._scan()
        with self._stream(MANIFEST_NAME) as stream:
            entries = read_manifest(self._chunks(stream, MANIFEST_NAME), f"{MANIFEST_NAME} of source {self.name}")
        for entry in entries:
            # Check files here, because those already in the store are not opened again.
            self._stream(entry.path).close()
        return entries

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Iterator[bytes]]:
        """Open a file and yield its bytes in chunks."""
        with self._stream(entry.path) as stream:
            yield self._chunks(stream, entry.path)

    def close(self) -> None:
        """Do nothing: reads from a folder end on their own."""

    def _scan(self) -> list[Entry]:
        files: list[str] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            for name, is_folder in self._children(folder):
                path = folder + name
                if rule := broken_rule(path):
                    raise self._refusal(path, f"not allowed in a manifest: {rule}; fix: rename it")
                if is_folder:
                    folders.append(f"{path}/")
                else:
                    files.append(path)
        return [self._measured(path) for path in sorted(files)]

    def _children(self, folder: str) -> list[tuple[str, bool]]:
        try:
            with os.scandir(self.folder / folder) as children:
                return [(child.name, child.is_dir(follow_symlinks=False)) for child in children]
        except OSError as error:
            place = f"folder {shown(folder)} of source" if folder else "source"
            raise MirrorError(f"{place} {self.name} cannot be read: {error.strerror}") from error

    def _measured(self, path: str) -> Entry:
        digest = hashlib.sha256()
        size = 0
        with self._stream(path) as stream:
            for chunk in self._chunks(stream, path):
                digest.update(chunk)
                size += len(chunk)
        return Entry(path, digest.hexdigest(), size)

    def _chunks(self, stream: io.FileIO, path: str) -> Iterator[bytes]:
        try:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
        except OSError as error:
            raise self._refusal(path, f"it cannot be read: {error.strerror}") from error

    def _stream(self, path: str) -> io.FileIO:
        """Open a regular file one component at a time, so that no link is followed, not even one just created."""
        components = path.split("/")
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for component in components[:-1]:
                    self._refuse_link(component, folder, path)
                    inner = os.open(component, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                mode = self._refuse_link(components[-1], folder, path)
                if not stat.S_ISREG(mode):
                    raise self._refusal(path, "it is not a regular file")
                # O_NONBLOCK: do not wait for a writer if it has just become a pipe.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                return io.FileIO(os.open(components[-1], flags, dir_fd=folder))
            finally:
                os.close(folder)
        except OSError as error:
            raise self._refusal(path, f"it cannot be read: {error.strerror}") from error

    def _refuse_link(self, component: str, folder: int, path: str) -> int:
        mode = os.stat(component, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise self._refusal(path, f"{shown(component)} is a symbolic link; fix: replace it with the file itself")
        return mode

    def _refusal(self, path: str, reason: str) -> MirrorError:
        return MirrorError(f"file {shown(path)} of source {self.name}: {reason}")
