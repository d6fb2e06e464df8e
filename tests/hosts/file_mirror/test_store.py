"""The store: its files are always complete and verified."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.manifest import Entry
from pulp_hooks.hosts.file_mirror.store import Store


def entry_of(content: bytes, path: str = "sub/file") -> Entry:
    """Return the entry of a file."""
    return Entry(path, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Return the folder for unfinished files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path, temporary: Path) -> Store:
    """Return an empty store."""
    folder = tmp_path / "objects"
    folder.mkdir()
    return Store(folder, temporary)


def everything(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("content", [b"", b"abcd", os.urandom(300_000)])
def test_file_is_stored_by_its_checksum_readable_for_everybody(store: Store, tmp_path: Path, content: bytes) -> None:
    """Stored files are readable by everybody and writable by nobody, under any umask."""
    entry = entry_of(content)
    assert not store.has(entry)
    umask = os.umask(0o077)
    try:
        store.add(entry, [content[:2], content[2:]])
    finally:
        os.umask(umask)
    store.settle()
    file = tmp_path / "objects" / entry.sha256[:2] / entry.sha256
    assert store.path(entry) == file
    assert store.has(entry)
    assert file.read_bytes() == content
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755
    assert everything(tmp_path) == [file]


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([b"abcX"], "file 'sub/file' has the SHA-256 .*, but 88d4.* in the manifest"),
        ([b"ab", b"c"], "file 'sub/file' has 3 bytes, but 4 in the manifest"),
        ([], "file 'sub/file' has 0 bytes, but 4 in the manifest"),
        ([b"abcde"], "file 'sub/file' is longer than its 4 bytes in the manifest"),
    ],
)
def test_wrong_file_is_refused_and_removed(store: Store, tmp_path: Path, chunks: list[bytes], message: str) -> None:
    """A file that does not match its entry leaves nothing behind."""
    with pytest.raises(MirrorError, match=f"^{message}$"):
        store.add(entry_of(b"abcd"), chunks)
    assert everything(tmp_path) == []


def test_file_that_grows_too_long_is_not_read_further(store: Store) -> None:
    """An endless file does not fill the disk."""
    asked = 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"xxx"

    with pytest.raises(MirrorError, match="is longer than its 4 bytes"):
        store.add(entry_of(b"abcd"), endless())
    assert asked == 2


def test_source_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """If a transfer fails, the temporary file is removed."""

    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(entry_of(b"abcd"), broken())
    assert everything(tmp_path) == []


def test_missing_folder_is_named_with_the_file(store: Store, temporary: Path) -> None:
    """An error of the system names the file."""
    temporary.rmdir()
    with pytest.raises(
        MirrorError, match=r"file 'sub/file' cannot be written to .*/objects': No such file or directory"
    ):
        store.add(entry_of(b"abcd"), [b"abcd"])


def test_file_of_another_size_is_replaced(store: Store) -> None:
    """A truncated file is downloaded again."""
    entry = entry_of(b"abcd")
    store.add(entry, [b"abcd"])
    store.path(entry).chmod(0o644)
    store.path(entry).write_bytes(b"ab")
    assert not store.has(entry)
    store.add(entry, [b"abcd"])
    assert store.has(entry)


def test_unreferenced_files_are_removed(store: Store) -> None:
    """Only referenced files are kept, and files that are not the store's."""
    kept, dropped = entry_of(b"kept"), entry_of(b"dropped")
    for entry, content in ((kept, b"kept"), (dropped, b"dropped")):
        store.add(entry, [content])
    strange = store.path(kept).with_name("strange")
    strange.touch()
    store.remove_unreferenced({kept.sha256})
    assert strange.exists()
    assert store.has(kept)
    assert not store.has(dropped)
