"""Folders and files that survive a power cut, with modes that let a web server read them."""

import os
import stat
from pathlib import Path
from typing import IO

CHUNK_BYTES = 2**18  # read or received at once
FOLDER_MODE = 0o755
FILE_MODE = 0o444  # files of a mirror are never changed in place


def make_folder(folder: Path) -> None:
    """Make a folder that everybody may read, whatever the umask. An existing folder is left as it is.

    Raises:
        OSError: The folder cannot be made, or its name is taken by a file.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(FOLDER_MODE)


def is_whole(file: Path, size: int) -> bool:
    """Return whether a path is a regular file (not a link) of this size.

    Raises:
        OSError: The path does not exist.
    """
    status = file.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def write_file(file: Path, data: bytes) -> None:
    """Write a new read-only file and flush it to the disk.

    Raises:
        OSError: The file cannot be written. The error names it.
    """
    try:
        with file.open("xb") as stream:
            stream.write(data)
            seal(stream)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def seal(stream: IO[bytes]) -> None:
    """Make a fully written file read-only and flush it to the disk."""
    stream.flush()
    os.fchmod(stream.fileno(), FILE_MODE)
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
