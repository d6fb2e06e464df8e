"""Folders and files that outlive a power cut, with modes that let a web server read them."""

import os
import stat
from pathlib import Path
from typing import IO

CHUNK_BYTES = 2**18  # read or received at once
FOLDER_MODE = 0o755
FILE_MODE = 0o444  # nothing in a mirror is changed in place


def make_folder(folder: Path) -> None:
    """Make a folder that everybody may read, whatever the umask says; one that is there is left as it is.

    Args:
        folder: The folder; its parent has to be there.

    Raises:
        OSError: It could not be made, or something else has its name.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(FOLDER_MODE)


def is_whole(file: Path, size: int) -> bool:
    """Return whether a regular file, and not a link to one, has a size.

    Args:
        file: The file.
        size: Its bytes.

    Raises:
        OSError: Nothing is there.
    """
    status = file.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def write_file(file: Path, data: bytes) -> None:
    """Write a new read-only file through to the disk.

    Args:
        file: The file; nothing may have its name yet.
        data: What it holds.

    Raises:
        OSError: It could not be written; says which.
    """
    try:
        with file.open("xb") as stream:
            stream.write(data)
            seal(stream)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def seal(stream: IO[bytes]) -> None:
    """Make a file that is fully written read-only, and bring it to the disk.

    Args:
        stream: The open file.

    Raises:
        OSError: The disk is full or broken.
    """
    stream.flush()
    os.fchmod(stream.fileno(), FILE_MODE)
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk.

    Args:
        folder: The folder.

    Raises:
        OSError: The disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
