"""The mirror as a whole: its publications and its events."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hooks import Hooks
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.hosts.file_mirror import MirrorResult, mirror
from pulp_hooks.hosts.file_mirror.manifest import parse_manifest

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Recorder, Repository, Serve, WebServer

FOUR = ["repo-sync-started", "repo-sync-finished", "repo-publish-started", "repo-publish-finished"]
Run = Callable[..., MirrorResult]


@pytest.fixture
def run(repository: "Repository", dest: Path, hooks: Hooks) -> Run:
    """Return a function that mirrors the repository's folder."""

    def run_mirror(**options: object) -> MirrorResult:
        return mirror(repository.folder, dest, hooks, repo_id="repo", **options)  # type: ignore[arg-type]

    return run_mirror


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_first_run_fires_four_events_with_true_counts(
    repository: "Repository", dest: Path, recorder: "Recorder", run: Run
) -> None:
    """The first run adds all files, and the events have source, counts and publication."""
    repository.write({"a": "1", "sub/b": "22", "sub/copy of b": "22"})
    result = run()
    assert recorder.types == FOUR
    assert recorder.body("repo-sync-started")["repo_id"] == "repo"
    synced = recorder.synced
    assert synced["result"] == "success"
    assert (synced["importer_id"], synced["importer_type_id"]) == ("file_importer", "file_importer")
    assert (synced["added_count"], synced["updated_count"], synced["removed_count"]) == (3, 0, 0)
    seconds = synced["summary"].pop("seconds")
    assert 0 <= seconds < 60
    assert synced["summary"] == {"files": 3, "bytes": 5, "downloaded_files": 2, "downloaded_bytes": 3}
    assert synced["details"] == {
        "source": str(repository.folder),
        "added": ["a", "sub/b", "sub/copy of b"],
        "updated": [],
        "removed": [],
    }
    published = recorder.published
    assert published["result"] == "success"
    assert (published["distributor_id"], published["distributor_type_id"]) == ("file_distributor", "file_distributor")
    assert (published["summary"]["files"], published["summary"]["bytes"]) == (3, 5)
    assert published["details"] == {"publication": "00000001", "path": str(dest / "publications" / "00000001")}
    assert result == MirrorResult(
        repo_id="repo",
        sync_result="success",
        added_count=3,
        updated_count=0,
        removed_count=0,
        files=3,
        bytes=5,
        downloaded_files=2,
        downloaded_bytes=3,
        seconds=result.seconds,
        publish_result="success",
        publication=dest / "publications" / "00000001",
    )
    published_files = tree(dest / "current")
    published_files.pop("PULP_MANIFEST")
    assert published_files == tree(repository.folder)


def test_events_name_the_sync_as_the_cause_of_the_publish(
    repository: "Repository", recorder: "Recorder", run: Run
) -> None:
    """The events pair started with finished, and name the sync as the cause of the publish."""
    repository.write({"a": "1"})
    run()
    sync, publish = recorder.events[0].operation_id, recorder.events[2].operation_id
    found = [(event.operation_id, event.caused_by) for event in recorder.events]
    assert found == [(sync, None), (sync, None), (publish, sync), (publish, sync)]
    assert None not in {sync, publish}


def test_unchanged_source_is_not_published_again(recorder: "Recorder", repository: "Repository", run: Run) -> None:
    """A sync without changes has counts of zero and downloads nothing, and its publish is skipped."""
    repository.write({"a": "1"})
    first = run()
    second = run()
    assert recorder.types == FOUR * 2
    assert recorder.synced["result"] == "success"
    assert [recorder.synced[f"{what}_count"] for what in ("added", "updated", "removed")] == [0, 0, 0]
    assert recorder.synced["summary"]["downloaded_files"] == 0
    assert recorder.synced["summary"]["files"] == 1
    assert recorder.published["result"] == "skipped"
    assert recorder.published["details"]["publication"] == "00000001"
    assert (second.publish_result, second.publication) == ("skipped", first.publication)


def test_changes_are_counted_as_they_are(recorder: "Recorder", repository: "Repository", dest: Path, run: Run) -> None:
    """Added, updated and removed paths are counted and listed; a renamed file is not downloaded again."""
    repository.write({"same": "0", "changed": "1", "gone": "2", "old name": "3", "sub/gone too": "4"})
    run()
    repository.write({"changed": "11", "new": "5"})
    (repository.folder / "old name").rename(repository.folder / "new name")
    (repository.folder / "gone").unlink()
    (repository.folder / "sub" / "gone too").unlink()
    result = run()
    assert recorder.synced["details"] == {
        "source": str(repository.folder),
        "added": ["new", "new name"],
        "updated": ["changed"],
        "removed": ["gone", "old name", "sub/gone too"],
    }
    assert (result.added_count, result.updated_count, result.removed_count) == (2, 1, 3)
    assert [recorder.synced[f"{what}_count"] for what in ("added", "updated", "removed")] == [2, 1, 3]
    assert (result.downloaded_files, result.downloaded_bytes) == (2, 3)
    assert result.publication == dest / "publications" / "00000002"
    assert sorted(tree(dest / "current")) == ["PULP_MANIFEST", "changed", "new", "new name", "same"]
    assert len(tree(dest / "objects")) == 4  # unreferenced files are removed


@pytest.mark.parametrize("kind", ["folder", "scanned folder", "file url", "http", "http manifest"])
def test_every_kind_of_source_gives_the_same_publication(
    repository: "Repository", web: "WebServer", dest: Path, hooks: Hooks, kind: str
) -> None:
    """A folder, a file URL and a web server give the same publication, also with unusual names."""
    names = [
        "plain",
        "with space",
        "100%",
        "a#b",
        "a?b",
        "a,b,c",
        "ü/日本/…",
        ".hidden",
        "a+b&c;d=e",
        "quo'te\"s",
        "%41",
    ]
    repository.write({name: name for name in names})
    expected = tree(repository.folder)
    if kind != "scanned folder":
        repository.list_files()
    source = {
        "file url": repository.folder.as_uri(),
        "http": web.url,
        "http manifest": f"{web.url}/PULP_MANIFEST",
    }.get(kind, str(repository.folder))
    result = mirror(source, dest, hooks, repo_id="repo")
    published = tree(dest / "current")
    entries = parse_manifest(published.pop("PULP_MANIFEST"), "m")
    assert published == expected
    assert [entry.path for entry in entries] == sorted(names)
    assert result.files == len(names)


def test_publication_can_be_mirrored(repository: "Repository", hooks: Hooks, tmp_path: Path, serve: "Serve") -> None:
    """`current` can be mirrored through a web server or as a folder."""
    repository.write({"a": "1", "ü/b c": "2"})
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    mirror(repository.folder, first, hooks, repo_id="first")
    mirror(serve(first / "current").url, second, hooks, repo_id="second")
    mirror(second / "current", third, hooks, repo_id="third")
    assert tree(third / "current") == tree(first / "current")


def test_empty_repository_is_published(recorder: "Recorder", dest: Path, run: Run) -> None:
    """A repository without files has a publication, and the second publish is skipped."""
    result = run(allow_shrink=True)
    assert (result.files, result.bytes, result.publish_result) == (0, 0, "success")
    assert tree(dest / "current") == {"PULP_MANIFEST": b""}
    assert run(allow_shrink=True).publish_result == "skipped"
    assert recorder.types == FOUR * 2


def test_repository_may_become_empty(repository: "Repository", dest: Path, run: Run) -> None:
    """When the last file is removed, an empty publication replaces the old one."""
    repository.write({"a": "1"})
    run()
    (repository.folder / "a").unlink()
    assert run(allow_shrink=True).removed_count == 1
    assert tree(dest / "current") == {"PULP_MANIFEST": b""}


def test_thousand_small_files_over_http(
    repository: "Repository", web: "WebServer", dest: Path, hooks: Hooks, recorder: "Recorder"
) -> None:
    """A thousand files are downloaded over a few connections, each once."""
    repository.write({f"{number % 10}/{number}": f"{number}" for number in range(1000)})
    repository.list_files()
    result = mirror(web.url, dest, hooks, repo_id="repo")
    assert (result.added_count, result.downloaded_files) == (1000, 1000)
    assert len(web.paths) == len(set(web.paths)) == 1001
    assert tree(dest / "current").keys() == tree(repository.folder).keys()
    assert len(recorder.synced["details"]["added"]) == 1000


def test_same_content_is_downloaded_once(repository: "Repository", web: "WebServer", dest: Path, hooks: Hooks) -> None:
    """Files with the same checksum are downloaded once."""
    repository.write(dict.fromkeys("abc", "same"))
    repository.list_files()
    result = mirror(web.url, dest, hooks, repo_id="repo")
    assert (result.files, result.downloaded_files, result.downloaded_bytes) == (3, 1, 4)
    assert len(web.paths) == 2


def test_sync_alone_publishes_nothing(repository: "Repository", recorder: "Recorder", dest: Path, run: Run) -> None:
    """Without a publish only the sync's events are fired, and the next publish downloads nothing."""
    repository.write({"a": "1"})
    result = run(publish=False)
    assert recorder.types == FOUR[:2]
    assert (result.publish_result, result.publication) == (None, None)
    assert not (dest / "current").exists()
    result = run()
    assert (result.added_count, result.downloaded_files, result.publish_result) == (0, 0, "success")
    assert (dest / "current" / "a").read_text() == "1"


def test_damaged_mirror_is_repaired(repository: "Repository", dest: Path, run: Run) -> None:
    """A truncated or missing file is downloaded and published again although the source is unchanged."""
    repository.write({"a": "1234", "b": "5"})
    run()
    (dest / "current" / "a").chmod(0o644)
    (dest / "current" / "a").write_text("12")  # hard link to the file in the store
    result = run()
    assert (result.added_count, result.downloaded_files, result.publish_result) == (0, 1, "success")
    assert (dest / "current" / "a").read_text() == "1234"


def damage(file: Path) -> None:
    """Change one byte of a file in place, and keep its size and mtime."""
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.write(content)
    file.chmod(0o444)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_damaged_file_is_not_published(
    repository: "Repository", dest: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Before a new publication every stored file is verified, and damaged ones are downloaded again."""
    repository.write({"a": "1234", "b": "5"})
    run()
    damage(dest / "current" / "a")  # hard link to the file in the store
    repository.write({"c": "6"})
    result = run()
    assert (dest / "current" / "a").read_text() == "1234"
    assert (result.added_count, result.downloaded_files) == (1, 2)
    assert [record.getMessage() for record in caplog.records] == ["stored file 'a' is damaged; downloading it again"]


def test_damaged_file_missing_from_the_source_fails_the_run(
    repository: "Repository", web: "WebServer", dest: Path, hooks: Hooks
) -> None:
    """If a damaged file cannot be downloaded again, nothing is published, and the file is named."""
    repository.write({"a": "1234"})
    repository.list_files()
    mirror(web.url, dest, hooks, repo_id="repo")
    damage(dest / "current" / "a")
    repository.write({"c": "6"})
    repository.list_files()
    (repository.folder / "a").unlink()
    with pytest.raises(MirrorError, match=r"file 'a' of source .* 404"):
        mirror(web.url, dest, hooks, repo_id="repo")
    assert not (dest / "current" / "c").exists()


def test_file_damaged_between_sync_and_publish_is_not_published(repository: "Repository", dest: Path) -> None:
    """The publish fails and names the file, and the next run repairs it."""
    repository.write({"a": "1234"})

    class Damager:
        @hookimpl
        def repo_publish_started(self) -> None:
            time.sleep(0.02)  # more than the resolution of file times
            for file in dest.glob("objects/*/*"):
                damage(file)

    with (
        Hooks([Damager()]) as hooks,
        pytest.raises(MirrorError, match=r"file 'a' cannot be published: .* fix: "),
    ):
        mirror(repository.folder, dest, hooks, repo_id="repo")
    assert not (dest / "current").is_symlink()
    with Hooks() as hooks:
        assert mirror(repository.folder, dest, hooks, repo_id="repo").publish_result == "success"
    assert (dest / "current" / "a").read_text() == "1234"


@pytest.mark.parametrize("linked", [True, False])
def test_verify_repairs_what_is_published(
    repository: "Repository", dest: Path, run: Run, recorder: "Recorder", *, linked: bool
) -> None:
    """With `verify`, damaged files of an unchanged source are replaced in the store and in copies."""
    repository.write({"a": "1234", "b": "5"})
    run()
    published = dest / "current" / "a"
    if not linked:
        copy = published.with_name("copy")
        copy.write_bytes(published.read_bytes())
        copy.replace(published)
    damage(published)
    assert run().publish_result == "skipped"
    assert recorder.published["summary"]["skipped"] == "nothing has changed since the current publication"
    assert run(verify=True).publish_result == "success"
    assert (dest / "current" / "a").read_text() == "1234"
    assert run(verify=True).publish_result == "skipped"
    assert "verified by checksum" in recorder.published["summary"]["skipped"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "full folder", "pipe"])
@pytest.mark.parametrize("changed", [True, False])
def test_object_in_place_of_a_stored_file_is_replaced(  # noqa: PLR0913 - fixtures and parameters
    repository: "Repository", dest: Path, run: Run, caplog: pytest.LogCaptureFixture, *, kind: str, changed: bool
) -> None:
    """A stored object that is not a regular file is logged, downloaded again, and never published."""
    repository.write({"a": "1234"})
    run()
    (stored,) = dest.glob("objects/*/*")
    elsewhere = dest.parent / "elsewhere"
    elsewhere.write_text("1234")
    stored.unlink()
    if "folder" in kind:
        stored.mkdir()
        if kind == "full folder":
            (stored / "x").touch()
    elif kind == "pipe":
        os.mkfifo(stored)
    else:
        stored.symlink_to(elsewhere if kind == "link" else "nowhere")
    if changed:
        repository.write({"b": "5"})
    assert run().downloaded_files == 1 + changed
    assert stat.S_ISREG(stored.lstat().st_mode)
    published = dest / "current" / "a"
    assert (published.is_symlink(), published.read_text(), elsewhere.read_text()) == (False, "1234", "1234")
    assert [record.getMessage() for record in caplog.records] == ["stored file 'a' is damaged; downloading it again"]


def test_file_in_place_of_a_folder_of_the_store_is_named(repository: "Repository", dest: Path, run: Run) -> None:
    """The message says what to remove."""
    repository.write({"a": "1234"})
    run()
    (stored,) = dest.glob("objects/*/*")
    stored.unlink()
    stored.parent.rmdir()
    stored.parent.touch()
    with pytest.raises(MirrorError, match=f"^file 'a' cannot be stored: '{stored.parent}' is not a folder; fix: "):
        run()
    stored.parent.unlink()
    assert run().downloaded_files == 1


@pytest.mark.parametrize("extra", ["file", "sub/file", "folder/", "link"])
def test_verify_finds_extra_files(
    repository: "Repository", dest: Path, run: Run, caplog: pytest.LogCaptureFixture, extra: str
) -> None:
    """An extra file in the current publication is logged, and is not in the next one."""
    repository.write({"a": "1", "sub/b": "2"})
    run()
    stranger = dest.resolve() / "current" / extra
    if extra == "link":
        stranger.symlink_to("/")
    elif extra == "folder/":
        stranger.mkdir()
    else:
        stranger.touch()
    assert run().publish_result == "skipped"
    assert run(verify=True).publish_result == "success"
    assert not os.path.lexists(stranger)
    assert [record.getMessage() for record in caplog.records] == [
        f"published file '{extra.strip('/')}' is a link or not in the manifest; publishing again without it"
    ]
    assert run(verify=True).publish_result == "skipped"


def test_verify_finds_a_linked_folder(repository: "Repository", dest: Path, run: Run) -> None:
    """A folder of a publication replaced by a link is found, even if the linked files are right."""
    repository.write({"sub/b": "2"})
    run()
    folder = (dest / "current").resolve() / "sub"
    folder.rename(dest.parent / "elsewhere")
    folder.symlink_to(dest.parent / "elsewhere")
    assert run(verify=True).publish_result == "success"
    assert not (dest / "current" / "sub").is_symlink()


def test_verification_reports_its_progress(repository: "Repository", run: Run) -> None:
    """The progress of the verification adds up to its announced total."""
    repository.write({"a": "x" * 600_000, "b": "y"})
    run()

    class VerifyingBar(Bar):
        def verify(self, total_bytes: int) -> None:
            self.totals.append(total_bytes)

    bar = VerifyingBar()
    run(progress=bar, verify=True)
    assert bar.totals == [600_001, 0]
    assert sum(bar.advanced) == 600_001


@pytest.mark.parametrize("kind", ["scanned folder", "folder", "file url", "http"])
@pytest.mark.parametrize("left", [0, 3])
def test_source_that_shrank_is_refused(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    repository: "Repository", web: "WebServer", dest: Path, hooks: Hooks, recorder: "Recorder", kind: str, left: int
) -> None:
    """A source that lost most of its files is synced only on request; until then the publication stays."""
    source = {"file url": repository.folder.as_uri(), "http": web.url}.get(kind, str(repository.folder))

    def list_files() -> None:
        if kind != "scanned folder":
            repository.list_files()

    repository.write({f"{number}": "x" for number in range(7)})
    list_files()
    mirror(source, dest, hooks, repo_id="repo")
    for number in range(left, 7):
        (repository.folder / f"{number}").unlink()
    list_files()
    with pytest.raises(MirrorError, match=r"^source .* it had 7 at the last sync; fix: .*--allow-shrink") as caught:
        mirror(source, dest, hooks, repo_id="repo")
    assert (f"lists {left} files" if left else "is empty") in str(caught.value)
    assert recorder.synced["result"] == "failed"
    assert len(tree(dest / "current")) == 8
    assert mirror(source, dest, hooks, repo_id="repo", allow_shrink=True).removed_count == 7 - left
    assert len(tree(dest / "current")) == left + 1


def test_source_that_lost_half_is_synced(repository: "Repository", run: Run) -> None:
    """A source may lose half of its files."""
    repository.write({f"{number}": "x" for number in range(4)})
    run()
    for number in range(2):
        (repository.folder / f"{number}").unlink()
    assert run().removed_count == 2


def test_empty_first_source_is_refused(recorder: "Recorder", run: Run) -> None:
    """An empty source is refused at the first sync, because it looks like an unmounted disk."""
    with pytest.raises(MirrorError, match="is empty, and it was never synced before; fix: "):
        run()
    assert recorder.types == FOUR[:2]


def test_publication_is_readable_for_a_web_server(repository: "Repository", dest: Path, run: Run) -> None:
    """Everybody can enter the folders and read the files."""
    repository.write({"sub/a": "1"})
    run()
    for place in (dest, *(dest / "publications").rglob("*")):
        assert place.stat().st_mode & 0o444 == 0o444
        assert not place.is_dir() or place.stat().st_mode & 0o111 == 0o111


class Bar:
    """A progress bar that records its calls."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.advanced: list[int] = []

    def start(self, total_bytes: int) -> None:
        """Record the total."""
        self.totals.append(total_bytes)

    def advance(self, new_bytes: int) -> None:
        """Record the bytes."""
        self.advanced.append(new_bytes)


def test_progress_adds_up(repository: "Repository", run: Run) -> None:
    """The progress of the downloads adds up to its announced total, which is 0 for an unchanged source."""
    repository.write({"a": "x" * 1_000_000, "b": "y" * 10})
    bar = Bar()
    run(progress=bar)
    assert bar.totals == [1_000_010]
    assert sum(bar.advanced) == 1_000_010
    again = Bar()
    run(progress=again)
    assert (again.totals, again.advanced) == ([0], [])


def test_relative_paths_are_resolved(
    repository: "Repository", tmp_path: Path, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SOURCE and DEST may be relative; events have absolute paths."""
    repository.write({"a": "1"})
    monkeypatch.chdir(tmp_path)
    result = mirror("source", "new/nested/mirror", hooks, repo_id="repo")
    assert result.publication == tmp_path / "new/nested/mirror/publications/00000001"
