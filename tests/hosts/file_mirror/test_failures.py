"""Expected failures: the event names the file, and the current publication stays."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hooks import Hooks
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.hosts.file_mirror import mirror

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Recorder, Repository, WebServer

SHA = "a" * 64
NEW_SHA = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"  # of `new`


def wait_for(fact: Callable[[], bool]) -> None:
    """Wait until a condition holds, for at most ten seconds."""
    deadline = time.monotonic() + 10
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.005)


@pytest.fixture
def fails(dest: Path, hooks: Hooks, recorder: "Recorder") -> Callable[[str], str]:
    """Return a function that expects a mirror run to fail, checks its effects, and returns the message."""

    def attempt(source: str) -> str:
        before = {path: path.read_bytes() for path in dest.glob("current/**/*") if path.is_file()}
        synced = (dest / "SYNCED_MANIFEST").read_bytes() if before else None
        recorder.events.clear()
        with pytest.raises(MirrorError) as caught:
            mirror(source, dest, hooks, repo_id="repo")
        message = str(caught.value)
        assert recorder.types == ["repo-sync-started", "repo-sync-finished"]
        assert recorder.synced["result"] == "failed"
        assert recorder.synced["error_message"] == message
        assert (recorder.synced["exception"], recorder.synced["traceback"]) == (None, None)
        assert [recorder.synced[f"{what}_count"] for what in ("added", "updated", "removed")] == [0, 0, 0]
        assert recorder.synced["details"]["added"] == []
        assert {path: path.read_bytes() for path in dest.glob("current/**/*") if path.is_file()} == before
        assert not before or (dest / "SYNCED_MANIFEST").read_bytes() == synced
        assert list((dest / ".temporary").iterdir()) == []
        return message

    return attempt


@pytest.fixture
def published(repository: "Repository", web: "WebServer", dest: Path, hooks: Hooks) -> None:
    """Publish `a`, then change it and add `sub/b`, so that a failed run could lose the old publication."""
    repository.write({"a": "old"})
    repository.list_files()
    mirror(web.url, dest, hooks, repo_id="repo")
    repository.write({"a": "new", "sub/b": "bbbb"})
    repository.list_files()


@pytest.mark.usefixtures("published")
class TestAfterAPublication:
    """Failures of a run that follows a publication."""

    def test_missing_manifest(self, repository: "Repository", web: "WebServer", fails: Callable[[str], str]) -> None:
        """A 404 for the manifest is an error that names it."""
        (repository.folder / "PULP_MANIFEST").unlink()
        assert fails(web.url) == f"{web.url}/PULP_MANIFEST: the server responded with 404 Not Found"

    def test_missing_file(self, repository: "Repository", web: "WebServer", fails: Callable[[str], str]) -> None:
        """A 404 for a file is an error that names it."""
        (repository.folder / "sub" / "b").unlink()
        assert fails(web.url) == f"file 'sub/b' of source {web.url}: the server responded with 404 Not Found"

    def test_wrong_checksum(self, repository: "Repository", web: "WebServer", fails: Callable[[str], str]) -> None:
        """A file that no longer matches its manifest is named."""
        repository.write({"sub/b": "BBBB"})
        assert fails(web.url).startswith("file 'sub/b' has the SHA-256 ")

    def test_wrong_checksum_in_a_folder(self, repository: "Repository", fails: Callable[[str], str]) -> None:
        """As above, with a folder as source."""
        repository.write({"sub/b": "BBBB"})
        assert fails(str(repository.folder)).startswith("file 'sub/b' has the SHA-256 ")

    def test_too_short(self, repository: "Repository", web: "WebServer", fails: Callable[[str], str]) -> None:
        """A truncated file is named."""
        repository.write({"sub/b": "bb"})
        assert fails(web.url) == "file 'sub/b' has 2 bytes, but 4 in the manifest"

    def test_too_long(self, repository: "Repository", web: "WebServer", fails: Callable[[str], str]) -> None:
        """A file that is too long is named."""
        repository.write({"sub/b": "bbbbb"})
        assert fails(web.url) == "file 'sub/b' is longer than its 4 bytes in the manifest"

    def test_endless_body(self, web: "WebServer", fails: Callable[[str], str]) -> None:
        """An endless body is closed as soon as it is too long."""

        def endless(handler: SimpleHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while not web.released.is_set():
                handler.wfile.write(b"b" * 65536)

        web.answers["/sub/b"] = endless
        assert fails(web.url) == "file 'sub/b' is longer than its 4 bytes in the manifest"

    def test_cut_body(self, web: "WebServer", fails: Callable[[str], str]) -> None:
        """A server that closes the connection in the body is an error."""

        def cut(handler: SimpleHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "4")
            handler.end_headers()
            handler.wfile.write(b"bb")
            handler.close_connection = True

        web.answers["/sub/b"] = cut
        assert fails(web.url) == f"file 'sub/b' of source {web.url}: the server closed the connection"

    def test_stalled_body(self, web: "WebServer", fails: Callable[[str], str]) -> None:
        """A server that stops sending in the body is an error."""

        def stall(handler: SimpleHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "4")
            handler.end_headers()
            handler.wfile.write(b"bb")
            web.released.wait()

        web.answers["/sub/b"] = stall
        assert fails(web.url).startswith(f"file 'sub/b' of source {web.url}: the server sent nothing for ")

    def test_first_failure_stops_the_other_downloads(
        self, repository: "Repository", web: "WebServer", fails: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a failure, no thread waits for other downloads, and hardly any start."""
        monkeypatch.setattr("pulp_hooks.hosts.file_mirror.http_client.READ_SECONDS", 60)
        repository.write({f"many/{number}": str(number) for number in range(500)})
        repository.list_files()
        (repository.folder / "many" / "0").unlink()

        def stall(handler: SimpleHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "4")
            handler.end_headers()
            handler.wfile.write(b"bb")
            web.released.wait()

        web.answers["/a"] = web.answers["/sub/b"] = stall
        web.requests.clear()
        assert "file 'many/0'" in fails(web.url)
        assert len(web.requests) < 100

    def test_refused_connection(self, fails: Callable[[str], str]) -> None:
        """An unreachable server is an error."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
            assert fails(url) == f"{url}/PULP_MANIFEST: no connection: Connection refused"

    @pytest.mark.parametrize("path", ["../x", "/x", "a\\b", "C:x", "x/", "PULP_MANIFEST", "\x1b[2J", "a/b"])
    def test_hostile_manifest(
        self, repository: "Repository", web: "WebServer", fails: Callable[[str], str], path: str
    ) -> None:
        """A path that leaves the mirror, or is invalid in it, is refused before any download."""
        repository.list_files(f"{path},{SHA},1")
        web.requests.clear()
        message = fails(web.url)
        assert message.startswith(f"{web.url}/PULP_MANIFEST, line ")
        assert repr(path) in message
        assert web.paths == ["/PULP_MANIFEST"]

    def test_link_in_a_folder(self, repository: "Repository", fails: Callable[[str], str]) -> None:
        """A link is refused, and the message names it."""
        (repository.folder / "PULP_MANIFEST").unlink()
        (repository.folder / "sub" / "link").symlink_to("/etc/passwd")
        assert "file 'sub/link'" in fails(str(repository.folder))

    def test_missing_folder(self, repository: "Repository", fails: Callable[[str], str]) -> None:
        """A missing folder, as of an unmounted disk, is an error and not an empty repository."""
        shutil.rmtree(repository.folder)
        assert fails(str(repository.folder)) == f"source {repository.folder} cannot be read: No such file or directory"

    def test_no_secret_in_any_event(
        self, web: "WebServer", repository: "Repository", fails: Callable[[str], str], recorder: "Recorder"
    ) -> None:
        """No event contains user name or password."""
        (repository.folder / "sub" / "b").unlink()
        fails(web.url.replace("//", "//luser:secret@"))
        texts = [json.dumps(event.body) for event in recorder.events]
        assert not any("secret" in text or "luser" in text for text in texts)
        assert web.requests[-1][1]["Authorization"]

    def test_what_was_downloaded_is_not_downloaded_again(
        self, web: "WebServer", fails: Callable[[str], str], dest: Path, hooks: Hooks
    ) -> None:
        """After a failure the next run downloads only missing files, but counts all changes."""
        stored = dest / "objects" / NEW_SHA[:2] / NEW_SHA

        def missing_later(handler: SimpleHTTPRequestHandler) -> None:
            wait_for(stored.exists)
            handler.send_error(404)

        web.answers["/sub/b"] = missing_later
        fails(web.url)
        web.answers.clear()
        web.requests.clear()
        result = mirror(web.url, dest, hooks, repo_id="repo")
        assert web.paths == ["/PULP_MANIFEST", "/sub/b"]
        assert (result.added_count, result.updated_count, result.downloaded_files) == (1, 1, 1)
        assert (dest / "current" / "sub" / "b").read_text() == "bbbb"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1 MiB, if this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a small disk; the test with a limited file size runs everywhere")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_names_the_file(
    repository: "Repository", small_disk: Path, hooks: Hooks, recorder: "Recorder"
) -> None:
    """On a full disk the sync fails and the publication stays; with space again, the next run succeeds."""
    dest = small_disk / "mirror"
    repository.write({"a": "old"})
    mirror(repository.folder, dest, hooks, repo_id="repo")
    repository.write({"a": "new", "sub/big": os.urandom(2**21)})
    with pytest.raises(
        MirrorError, match=r"^file 'sub/big' cannot be written to .*: No space left on device$"
    ) as caught:
        mirror(repository.folder, dest, hooks, repo_id="repo")
    assert recorder.synced["result"] == "failed"
    assert recorder.synced["error_message"] == str(caught.value)
    assert (dest / "current" / "a").read_text() == "old"
    assert list((dest / ".temporary").iterdir()) == []
    repository.write({"sub/big": "small"})
    assert mirror(repository.folder, dest, hooks, repo_id="repo").added_count == 1
    assert (dest / "current" / "a").read_text() == "new"


def test_disk_that_fills_up_before_the_publish_fails_it(
    repository: "Repository", small_disk: Path, recorder: "Recorder"
) -> None:
    """If the disk is full only at the publish, the sync succeeds and the publish fails; the old publication stays."""
    dest = small_disk / "mirror"
    filler = small_disk / "filler"

    class Filler:
        @hookimpl
        def repo_publish_started(self) -> None:
            with suppress(OSError), filler.open("wb", buffering=0) as stream:
                while stream.write(b"x" * 4096):
                    pass

    repository.write({"a": "old"})
    with Hooks([recorder]) as hooks:
        mirror(repository.folder, dest, hooks, repo_id="repo")
        repository.write({"a": "new"})
        with (
            Hooks([recorder, Filler()]) as filling,
            pytest.raises(MirrorError, match=r"No space left on device: '.*PULP_MANIFEST'") as caught,
        ):
            mirror(repository.folder, dest, filling, repo_id="repo")
        assert recorder.synced["result"] == "success"
        assert recorder.published["result"] == "failed"
        assert recorder.published["error_message"] == str(caught.value)
        assert (dest / "current" / "a").read_text() == "old"
        filler.unlink()
        assert mirror(repository.folder, dest, hooks, repo_id="repo").publish_result == "success"
        assert (dest / "current" / "a").read_text() == "new"


def test_limited_file_size_names_the_file(repository: "Repository", dest: Path) -> None:
    """A limit on file sizes fails the sync like a full disk: `failed`, the file's name, no traceback."""
    repository.write({"small": "x", "sub/big": os.urandom(2**20)})
    code = """
import resource, sys
from pulp_hooks.errors import MirrorError
from pulp_hooks.hooks import Hooks
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.hosts.file_mirror import mirror

class Printer:
    @hookimpl
    def repo_sync_finished(self, body):
        print(body["result"], body["error_message"])

resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))
try:
    mirror(sys.argv[1], sys.argv[2], Hooks([Printer()]), repo_id="repo")
except MirrorError as error:
    print("raised", error)
"""
    command = [sys.executable, "-c", code, str(repository.folder), str(dest)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    message = f"file 'sub/big' cannot be written to '{dest}/objects': File too large"
    assert run.stdout.splitlines() == [f"failed {message}", f"raised {message}"]
    assert run.stderr == ""
    assert list((dest / ".temporary").iterdir()) == []
    assert not (dest / "current").is_symlink()


def test_publish_that_fails_keeps_the_old_publication(
    repository: "Repository", dest: Path, hooks: Hooks, recorder: "Recorder"
) -> None:
    """The sync succeeds, the publish has result `failed` with the reason, and the old publication stays."""
    repository.write({"a": "old"})
    mirror(repository.folder, dest, hooks, repo_id="repo")
    link = (dest / "current").readlink()
    (dest / "current").unlink()
    (dest / "current").mkdir()  # a folder in place of the link
    repository.write({"a": "new"})
    with pytest.raises(MirrorError, match="current") as caught:
        mirror(repository.folder, dest, hooks, repo_id="repo")
    assert recorder.synced["result"] == "success"
    assert recorder.published["result"] == "failed"
    assert recorder.published["error_message"] == str(caught.value)
    assert (dest / link / "a").read_text() == "old"


class Trouble(Exception):  # noqa: N818 - it stands for anything
    """An unexpected exception."""


class Bar:
    """A progress bar that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def start(self, total_bytes: int) -> None:
        """Return."""
        assert total_bytes

    def advance(self, new_bytes: int) -> None:
        """Raise."""
        assert new_bytes
        raise self.error


@pytest.mark.parametrize(
    "trouble", [(Trouble("unheard of"), "error"), (KeyboardInterrupt(), "canceled"), (SystemExit(3), "error")]
)
def test_unexpected_exception_propagates_after_the_event(
    repository: "Repository", dest: Path, hooks: Hooks, recorder: "Recorder", trouble: tuple[BaseException, str]
) -> None:
    """An unexpected exception ends the sync as `error` (Ctrl-C: `canceled`), and is raised as it is."""
    error, result = trouble
    repository.write({"a": "1", "b": "2"})
    with pytest.raises(type(error)) as caught:
        mirror(repository.folder, dest, hooks, repo_id="repo", progress=Bar(error))
    assert caught.value is error
    assert recorder.types == ["repo-sync-started", "repo-sync-finished"]
    assert recorder.synced["result"] == result
    assert list((dest / ".temporary").iterdir()) == []
    assert mirror(repository.folder, dest, hooks, repo_id="repo").added_count == 2


def test_exception_in_a_download_thread_propagates(
    repository: "Repository", dest: Path, hooks: Hooks, recorder: "Recorder", monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in a download thread is raised in the caller's thread, with its traceback in the event."""

    def explode(*_: object) -> None:
        raise Trouble("a bug")

    repository.write({"a": "1"})
    monkeypatch.setattr("pulp_hooks.hosts.file_mirror.store.Store.add", explode)
    with pytest.raises(Trouble, match="a bug"):
        mirror(repository.folder, dest, hooks, repo_id="repo")
    assert recorder.synced["result"] == "error"
    assert any("explode" in frame for frame in recorder.synced["traceback"])
