"""Publications: complete trees, made current in one step."""

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.manifest import Entry, parse_manifest
from pulp_hooks.hosts.file_mirror.publication import Publications
from pulp_hooks.hosts.file_mirror.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    for name in ("objects", "temporary", "publications"):
        (tmp_path / name).mkdir()
    return Store(tmp_path / "objects", tmp_path / "temporary")


@pytest.fixture
def publications(tmp_path: Path, store: Store) -> Publications:
    """Return the publications of that store."""
    assert store
    return Publications(tmp_path / "publications", tmp_path / "current", tmp_path / "temporary")


def stored(store: Store, **files: str) -> list[Entry]:
    """Add files to the store and return their entries; two underscores in a path stand for a slash."""
    entries = []
    for path, content in files.items():
        data = content.encode()
        entry = Entry(path.replace("__", "/"), hashlib.sha256(data).hexdigest(), len(data))
        store.add(entry, [data])
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry.path)


def test_publication_has_the_files_and_their_manifest(tmp_path: Path, store: Store, publications: Publications) -> None:
    """A publication matches its manifest and is readable by all under any umask, and `current` is a relative link."""
    entries = stored(store, a="1", sub__deep__b="2", sub__c="")
    umask = os.umask(0o077)
    try:
        publication = publications.publish(entries, store)
    finally:
        os.umask(umask)
    current = tmp_path / "current"
    assert os.readlink(current) == "publications/00000001"  # noqa: PTH115 - a str, as it is stored
    assert publications.current() == publication == tmp_path / "publications" / "00000001"
    assert (current / "sub/deep/b").read_text() == "2"
    assert parse_manifest((current / "PULP_MANIFEST").read_bytes(), "m") == entries
    modes = {
        path.relative_to(publication).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in publication.rglob("*")
    }
    assert modes == {
        "PULP_MANIFEST": 0o444,
        "a": 0o444,
        "sub": 0o755,
        "sub/c": 0o444,
        "sub/deep": 0o755,
        "sub/deep/b": 0o444,
    }
    assert stat.S_IMODE(publication.stat().st_mode) == 0o755
    assert list((tmp_path / "temporary").iterdir()) == []


def test_files_take_no_room_twice(store: Store, publications: Publications) -> None:
    """A published file is a hard link to the store."""
    (entry,) = stored(store, a="1")
    assert publications.publish([entry], store).joinpath("a").samefile(store.path(entry))


def test_file_is_copied_if_it_cannot_be_linked(
    store: Store, publications: Publications, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a hard link is not possible, the file is copied."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    entries = stored(store, a="1", sub__b="2")
    file = publications.publish(entries, store) / "sub" / "b"
    assert file.read_text() == "2"
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert file.stat().st_nlink == 1
    assert publications.holds(entries)


def test_file_missing_from_the_store_is_named(tmp_path: Path, store: Store, publications: Publications) -> None:
    """A missing file is named, and nothing becomes current."""
    with pytest.raises(MirrorError, match="file 'sub/gone' cannot be published: No such file or directory"):
        publications.publish([Entry("sub/gone", "0" * 64, 1)], store)
    assert publications.current() is None
    assert list((tmp_path / "publications").iterdir()) == []


def test_repository_may_be_empty(store: Store, publications: Publications) -> None:
    """Without files the manifest is empty."""
    publication = publications.publish([], store)
    assert [file.name for file in publication.iterdir()] == ["PULP_MANIFEST"]
    assert publications.holds([])


def test_holds_is_true_for_exactly_the_same_files(store: Store, publications: Publications) -> None:
    """`holds` compares every path, checksum and size, and requires complete files."""
    entries = stored(store, a="1", b="22")
    assert not publications.holds(entries)
    publication = publications.publish(entries, store)
    assert publications.holds(entries)
    assert not publications.holds(entries[:1])
    assert not publications.holds([])
    (publication / "b").unlink()
    assert not publications.holds(entries)
    (publication / "b").write_text("3")
    assert not publications.holds(entries)
    (publication / "b").unlink()
    (publication / "b").symlink_to("a")
    assert not publications.holds(entries)


def test_current_and_previous_publication_are_kept(tmp_path: Path, store: Store, publications: Publications) -> None:
    """The previous publication is kept for its readers, and older ones are removed."""
    for content in "1234":
        publications.publish(stored(store, a=content), store)
        publications.tidy()
    assert sorted(path.name for path in (tmp_path / "publications").iterdir()) == ["00000003", "00000004"]
    assert (tmp_path / "publications/00000003/a").read_text() == "3"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_publication_that_never_became_current_is_removed(
    tmp_path: Path, store: Store, publications: Publications
) -> None:
    """A publication after the current one is removed, and the previous one is kept."""
    for content in "12":
        publications.publish(stored(store, a=content), store)
    (tmp_path / "publications" / "00000003").mkdir()
    publications.tidy()
    assert sorted(path.name for path in (tmp_path / "publications").iterdir()) == ["00000001", "00000002"]


@pytest.mark.parametrize("link", ["folder", "elsewhere", "dangling"])
def test_current_that_is_not_a_link_is_left_alone(
    tmp_path: Path, store: Store, publications: Publications, link: str
) -> None:
    """If `current` is not a link, nothing is removed."""
    publications.publish(stored(store, a="1"), store)
    current = tmp_path / "current"
    current.unlink()
    if link == "folder":
        current.mkdir()
    else:
        current.symlink_to("/" if link == "elsewhere" else "publications/00000009")
    publications.tidy()
    assert publications.current() is None
    assert (tmp_path / "publications/00000001/a").read_text() == "1"


def test_reader_never_misses_a_file(tmp_path: Path, store: Store, publications: Publications) -> None:
    """While publications change, each file under `current` can always be opened, and is complete."""
    publications.publish(stored(store, a="old " * 100, sub__b="old " * 100), store)
    stop = threading.Event()
    seen: set[bytes] = set()
    trouble: list[OSError] = []

    def loop() -> None:
        while not stop.is_set():
            for path in ("a", "sub/b", "PULP_MANIFEST"):
                try:
                    content = (tmp_path / "current" / path).read_bytes()
                except OSError as error:
                    trouble.append(error)
                else:
                    if path != "PULP_MANIFEST":
                        seen.add(content)

    readers = [threading.Thread(target=loop) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(60):
            word = "new " if turn % 2 == 0 else "old "
            publications.publish(stored(store, a=word * 100, sub__b=word * 100), store)
            publications.tidy()
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert trouble == []
    assert seen == {b"new " * 100, b"old " * 100}
