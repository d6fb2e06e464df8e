"""Folders as sources: with a manifest or scanned, and never through a link."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.folder_source import FolderSource
from pulp_hooks.hosts.file_mirror.manifest import Entry

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Repository

EMPTY_SHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def source(repository: "Repository") -> FolderSource:
    """Return the repository's folder as a source."""
    return FolderSource("NAME", repository.folder)


@pytest.fixture(params=["scanned", "listed"])
def listing(request: pytest.FixtureRequest, repository: "Repository") -> Callable[[str], None]:
    """Return a function that adds a path to the manifest, or does nothing, so that the folder is scanned."""

    def into_manifest(path: str) -> None:
        if request.param == "listed":
            repository.list_files(f"{path},{EMPTY_SHA},0")

    return into_manifest


def test_scan_finds_every_file_in_order_of_path(repository: "Repository", source: FolderSource) -> None:
    """Files of all folders, even hidden or empty ones, have checksum and size; empty folders are ignored."""
    repository.write({"b": "", "a/é ,%": "", ".hidden": "", "a-b": "", "Z": "abc"})
    (repository.folder / "empty").mkdir()
    entries = source.entries()
    assert [entry.path for entry in entries] == [".hidden", "Z", "a-b", "a/é ,%", "b"]
    assert entries[0] == Entry(".hidden", EMPTY_SHA, 0)
    assert entries[1] == Entry("Z", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3)


def test_files_missing_from_the_manifest_are_ignored(repository: "Repository", source: FolderSource) -> None:
    """Files missing from the manifest are ignored."""
    repository.write({"listed": "x"})
    repository.list_files()
    repository.write({"other": "y"})
    assert [entry.path for entry in source.entries()] == ["listed"]


def test_file_comes_in_chunks(repository: "Repository", source: FolderSource) -> None:
    """Files are read in chunks, never as a whole."""
    content = os.urandom(600_000)
    repository.write({"a/b": content})
    (entry,) = source.entries()
    with source.open(entry) as chunks:
        read = list(chunks)
    assert b"".join(read) == content
    assert len(read) > 1


@pytest.mark.parametrize("name", ["a\\b", "C:x", "a\nb", "a\x85b", os.fsdecode(b"caf\xe9")])
def test_scanned_name_that_is_not_allowed_in_a_manifest_is_refused(
    repository: "Repository", source: FolderSource, name: str
) -> None:
    """The error has the name, on one line."""
    (repository.folder / name).touch()
    with pytest.raises(MirrorError, match="of source NAME: not allowed in a manifest: a path must") as caught:
        source.entries()
    assert repr(name) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("target", ["inside", "/etc/passwd", "nowhere"])
def test_link_to_a_file_is_refused(
    repository: "Repository", source: FolderSource, listing: Callable[[str], None], target: str
) -> None:
    """A symbolic link to a file is refused wherever it leads, and the message names it."""
    repository.write({"inside": ""})
    (repository.folder / "link").symlink_to(target)
    listing("link")
    with pytest.raises(MirrorError, match="file 'link' of source NAME: 'link' is a symbolic link"):
        source.entries()


@pytest.mark.parametrize("target", [".", "..", "/etc", "real"])
def test_link_to_a_folder_is_refused(
    repository: "Repository", source: FolderSource, listing: Callable[[str], None], target: str
) -> None:
    """A link to a folder is refused, whichever component of the path it is."""
    repository.write({"real/passwd": ""})
    (repository.folder / "sub").mkdir()
    (repository.folder / "sub" / "link").symlink_to(target)
    listing("sub/link/passwd")
    with pytest.raises(MirrorError, match=r"file 'sub/link(/passwd)?' of source NAME: 'link' is a symbolic link"):
        source.entries()


def test_file_replaced_by_a_link_is_refused(repository: "Repository", source: FolderSource) -> None:
    """A file replaced by a link between listing and reading is refused."""
    repository.write({"a": "x"})
    (entry,) = source.entries()
    (repository.folder / "a").unlink()
    (repository.folder / "a").symlink_to("/etc/passwd")
    with pytest.raises(MirrorError, match="'a' is a symbolic link"), source.open(entry):
        pass


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_special_file_is_refused_without_waiting(
    repository: "Repository", source: FolderSource, listing: Callable[[str], None], kind: str
) -> None:
    """Pipes and devices are never opened."""
    place = repository.folder / "special"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        try:
            os.mknod(place, 0o020666, os.makedev(1, 5))  # /dev/zero never ends
        except PermissionError:
            pytest.skip("only root makes device files")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            # The name is short, because that of a socket is limited to about 100 bytes.
            descriptor = os.open(repository.folder, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{descriptor}/special")
            os.close(descriptor)
    listing("special")
    with pytest.raises(MirrorError, match="file 'special' of source NAME: it is not a regular file"):
        source.entries()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_manifest_that_is_not_a_regular_file_is_refused(
    repository: "Repository", source: FolderSource, kind: str, tmp_path: Path
) -> None:
    """The manifest must also be a regular file."""
    manifest = repository.folder / "PULP_MANIFEST"
    if kind == "link":
        manifest.symlink_to(tmp_path)
    elif kind == "folder":
        manifest.mkdir()
    else:
        os.mkfifo(manifest)
    with pytest.raises(MirrorError, match="file 'PULP_MANIFEST' of source NAME: "):
        source.entries()


def test_listed_file_that_is_missing_is_named(repository: "Repository", source: FolderSource) -> None:
    """A listed file that does not exist is an error at once."""
    repository.list_files(f"sub/gone,{EMPTY_SHA},0")
    with pytest.raises(MirrorError, match="file 'sub/gone' of source NAME: it cannot be read: No such file"):
        source.entries()


def test_listed_folder_is_named(repository: "Repository", source: FolderSource) -> None:
    """A listed folder is an error."""
    (repository.folder / "sub").mkdir()
    repository.list_files(f"sub,{EMPTY_SHA},0")
    with pytest.raises(MirrorError, match="file 'sub' of source NAME: it is not a regular file"):
        source.entries()


def test_hostile_manifest_names_line_and_source(repository: "Repository", source: FolderSource) -> None:
    """A path outside the folder is refused before any file is opened."""
    (repository.folder / "PULP_MANIFEST").write_text(f"../x,{EMPTY_SHA},0\n")
    with pytest.raises(MirrorError, match=r"PULP_MANIFEST of source NAME, line 1, path '\.\./x': a path must not"):
        source.entries()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """A missing folder is an error that names the source."""
    with pytest.raises(MirrorError, match=r"^source NAME cannot be read: No such file or directory"):
        FolderSource("NAME", tmp_path / "nowhere").entries()


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """A file in place of the folder is an error that names the source."""
    (tmp_path / "file").touch()
    with pytest.raises(MirrorError, match=r"^source NAME cannot be read: Not a directory"):
        FolderSource("NAME", tmp_path / "file").entries()


def test_source_may_be_a_link(repository: "Repository", tmp_path: Path) -> None:
    """SOURCE itself may be a link: only links below it are under foreign control."""
    repository.write({"a": ""})
    (tmp_path / "link").symlink_to(repository.folder)
    assert [entry.path for entry in FolderSource("NAME", tmp_path / "link").entries()] == ["a"]
