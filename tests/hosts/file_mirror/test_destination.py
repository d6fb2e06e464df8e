"""DEST: refusals before anything is written or fired, and the lock."""

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
    """Return a function that tries to mirror, checks that nothing was written or fired, and returns the message."""

    def attempt(source: Path, dest: Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(MirrorError) as caught:
            mirror(source, dest, hooks, repo_id="repo")
        assert recorder.events == []
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return attempt


def test_file_in_place_of_dest_is_refused(repository: "Repository", dest: Path, refused: Refused) -> None:
    """A file as DEST is refused."""
    dest.touch()
    assert "is a file" in refused(repository.folder, dest)


def test_folder_with_other_files_is_refused(repository: "Repository", dest: Path, refused: Refused) -> None:
    """A folder with other files is not turned into a mirror."""
    dest.mkdir()
    (dest / "precious").touch()
    assert "is not empty and not a mirror" in refused(repository.folder, dest)


@pytest.mark.parametrize("place", [".", "sub", "sub/new", ".."])
def test_dest_that_overlaps_source_is_refused(repository: "Repository", refused: Refused, place: str) -> None:
    """DEST may not be inside SOURCE, nor SOURCE inside DEST."""
    (repository.folder / "sub").mkdir()
    assert "one contains the other" in refused(repository.folder, repository.folder / place)


def test_dest_that_overlaps_source_through_a_link_is_refused(
    repository: "Repository", refused: Refused, tmp_path: Path
) -> None:
    """Overlapping folders are recognized through links."""
    (tmp_path / "link").symlink_to(repository.folder)
    assert "one contains the other" in refused(repository.folder, tmp_path / "link" / "sub")


def test_its_own_publication_is_refused_as_source(repository: "Repository", dest: Path, hooks: Hooks) -> None:
    """A mirror's `current` is inside DEST and is refused as SOURCE."""
    mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)
    with pytest.raises(MirrorError, match="one contains the other"):
        mirror(dest / "current", dest, hooks, repo_id="repo")


def test_dest_that_cannot_be_made_is_refused(repository: "Repository", tmp_path: Path, refused: Refused) -> None:
    """The message has the system's reason."""
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(repository.folder, tmp_path / "file" / "sub")


def test_dangling_link_as_dest_is_refused(repository: "Repository", dest: Path, refused: Refused) -> None:
    """A dangling link as DEST is refused."""
    dest.symlink_to("nowhere")
    assert "cannot be used" in refused(repository.folder, dest)


def test_empty_folder_is_taken(repository: "Repository", dest: Path, hooks: Hooks) -> None:
    """An empty folder is used, and its modes are kept."""
    dest.mkdir(mode=0o700)
    mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)
    assert dest.stat().st_mode & 0o777 == 0o700


def test_second_run_is_refused_while_the_first_runs(
    repository: "Repository", dest: Path, hooks: Hooks, recorder: "Recorder", tmp_path: Path
) -> None:
    """A second run fails while another process holds the lock, and works afterwards."""
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


def test_second_thread_is_refused_too(repository: "Repository", dest: Path, hooks: Hooks) -> None:
    """The lock also holds between threads of a process."""
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
    """A failed run releases the lock."""
    for _ in range(2):
        with pytest.raises(MirrorError, match="cannot be read"):
            mirror(tmp_path / "nowhere", dest, hooks, repo_id="repo")
    mirror(repository.folder, dest, hooks, repo_id="repo", allow_shrink=True)


@pytest.mark.parametrize("damage", ["nonsense", "another checksum", "cut", "empty", "no mark", "folder"])
def test_damaged_manifest_of_the_last_sync_is_named(
    repository: "Repository", dest: Path, hooks: Hooks, recorder: "Recorder", damage: str
) -> None:
    """If `SYNCED_MANIFEST` is damaged, the run fails, and the message says how to fix it."""
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
