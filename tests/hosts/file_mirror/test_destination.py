"""DEST: what is refused before anything is written or fired, and the lock."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import mirror

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Recorder, Repository

Refused = Callable[[Path, Path], str]


@pytest.fixture
def refused(hooks: Hooks, recorder: "Recorder", tmp_path: Path) -> Refused:
    """Give a function that tries to mirror, sees that nothing was written or fired, and gives the message."""

    def attempt(source: Path, dest: Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(MirrorError) as caught:
            mirror(source, dest, hooks, repo_id="repo")
        assert recorder.events == []
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return attempt


def test_file_in_place_of_dest_is_refused(repository: "Repository", dest: Path, refused: Refused) -> None:
    """A file is no place for a mirror."""
    dest.touch()
    assert "is a file" in refused(repository.folder, dest)


def test_folder_with_other_things_is_refused(repository: "Repository", dest: Path, refused: Refused) -> None:
    """Somebody's home is not turned into a mirror."""
    dest.mkdir()
    (dest / "precious").touch()
    assert "is not empty and not a mirror" in refused(repository.folder, dest)


@pytest.mark.parametrize("place", [".", "sub", "sub/new", ".."])
def test_dest_that_overlaps_source_is_refused(repository: "Repository", refused: Refused, place: str) -> None:
    """A mirror never contains itself."""
    (repository.folder / "sub").mkdir()
    assert "one is in the other" in refused(repository.folder, repository.folder / place)


def test_dest_that_overlaps_source_through_a_link_is_refused(
    repository: "Repository", refused: Refused, tmp_path: Path
) -> None:
    """Links do not hide that they are the same."""
    (tmp_path / "link").symlink_to(repository.folder)
    assert "one is in the other" in refused(repository.folder, tmp_path / "link" / "sub")


def test_its_own_publication_is_no_source(repository: "Repository", dest: Path, hooks: Hooks) -> None:
    """A mirror's `current` is inside of it."""
    mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)
    with pytest.raises(MirrorError, match="one is in the other"):
        mirror(dest / "current", dest, hooks, repo_id="repo")


def test_dest_that_cannot_be_made_is_refused(repository: "Repository", tmp_path: Path, refused: Refused) -> None:
    """What the system says is in the message."""
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(repository.folder, tmp_path / "file" / "sub")


def test_dangling_link_in_place_of_dest_is_refused(repository: "Repository", dest: Path, refused: Refused) -> None:
    """Nobody knows what a link to nowhere was to be."""
    dest.symlink_to("nowhere")
    assert "cannot be used" in refused(repository.folder, dest)


def test_empty_folder_is_taken(repository: "Repository", dest: Path, hooks: Hooks) -> None:
    """A folder made beforehand, with the modes that its owner wants, is kept as it is."""
    dest.mkdir(mode=0o700)
    mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)
    assert dest.stat().st_mode & 0o777 == 0o700


def test_second_run_says_that_there_is_a_first(
    repository: "Repository", dest: Path, hooks: Hooks, recorder: "Recorder", tmp_path: Path
) -> None:
    """Another process that holds the lock keeps this one out; when it is gone, this one goes on."""
    repository.write({"a": "1"})
    code = """
import sys
from pulp_hooks.hooks import Hooks
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.hosts.file_mirror import mirror

class Waiting:
    @hookimpl
    def repo_sync_started(self):
        print("running", flush=True)
        sys.stdin.readline()

mirror(sys.argv[1], sys.argv[2], Hooks([Waiting()]), repo_id="first")
"""
    command = [sys.executable, "-c", code, str(repository.folder), str(dest)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "running\n"
        before = sorted(dest.rglob("*"))
        with pytest.raises(MirrorError, match=f"another run is using DEST '{dest}'"):
            mirror(repository.folder, dest, hooks, repo_id="second", allow_shrink=True)
        assert recorder.events == []
        assert sorted(dest.rglob("*")) == before
        first.communicate("go on\n")
    assert first.returncode == 0
    assert mirror(repository.folder, dest, hooks, repo_id="second", allow_shrink=True).publish_result == "skipped"
    mirror(repository.folder, tmp_path / "other", hooks, repo_id="other", allow_shrink=True)


def test_second_thread_is_kept_out_too(repository: "Repository", dest: Path, hooks: Hooks) -> None:
    """The lock holds within a process as well."""
    messages: list[str] = []

    class Bar:
        def start(self, total_bytes: int) -> None:
            assert total_bytes == 0
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

        def advance(self, new_bytes: int) -> None:
            raise AssertionError(new_bytes)

    def second() -> None:
        with pytest.raises(MirrorError) as caught:
            mirror(repository.folder, dest, hooks, repo_id="second", allow_shrink=True)
        messages.append(str(caught.value))

    mirror(repository.folder, dest, hooks, repo_id="first", progress=Bar(), allow_shrink=True)
    assert len(messages) == 1
    assert "another run is using DEST" in messages[0]


def test_lock_is_free_after_a_failure(dest: Path, hooks: Hooks, repository: "Repository", tmp_path: Path) -> None:
    """A run that fails keeps nobody out."""
    for _ in range(2):
        with pytest.raises(MirrorError, match="cannot be read"):
            mirror(tmp_path / "nowhere", dest, hooks, repo_id="repo")
    mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)


@pytest.mark.parametrize("damage", ["nonsense", "another checksum", "cut", "empty", "no mark", "folder"])
def test_damaged_memory_of_the_last_sync_is_named(
    repository: "Repository", dest: Path, hooks: Hooks, recorder: "Recorder", damage: str
) -> None:
    """Counts that compare with what never was are not reported; the message says how to go on."""
    repository.write({"a": "1", "b#": "2"})
    mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)
    synced = dest / "SYNCED_MANIFEST"
    text = synced.read_text()
    synced.unlink()
    if damage == "folder":
        synced.mkdir()
    else:
        another = text.replace(text[5], "e" if text[5] == "d" else "d", 1)
        texts = {"nonsense": damage, "another checksum": another, "cut": text[:-10], "empty": ""}
        synced.write_text(texts.get(damage, text.replace("# ", "")))
    with pytest.raises(MirrorError, match=f"^'{dest}/SYNCED_MANIFEST' is damaged; fix: remove it"):
        mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)
    assert recorder.synced["result"] == "failed"
    assert (dest / "current" / "a").read_text() == "1"
    synced.rmdir() if damage == "folder" else synced.unlink()
    assert mirror(repository.folder, dest, hooks, repo_id="repo").added_count == 2
