"""Transfers that break off in the middle: continued, started anew, or refused, and never spliced."""

import re
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import mirror
from pulp_hooks.hosts.file_mirror.sources import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.file_mirror.conftest import Answer, Repository, WebServer

CONTENT = bytes(range(256)) * 40
MANY = 20  # lines of the manifest


class Dropping:
    """Serves a body and drops the connection: after half of what was asked for, or where it is told to."""

    def __init__(self, body: bytes, *, drops: int = 1, etag: str | None = '"1"', ranges: bool = True) -> None:
        self.body = body
        self.drops = drops
        self.etag = etag
        self.ranges = ranges
        self.content_range: str | None = None
        self.framing = "length"
        self.change: Callable[[], None] = lambda: None

    def __call__(self, handler: SimpleHTTPRequestHandler) -> None:
        """Answer a request."""
        asked = re.fullmatch("bytes=([0-9]+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.ranges and handler.headers.get("If-Range") in {None, self.etag} else 0
        if start >= len(self.body):
            handler.send_error(416)
            return
        rest = self.body[start:]
        handler.send_response(206 if start else 200)
        if self.framing == "length":
            handler.send_header("Content-Length", str(len(rest)))
        elif self.framing == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
        if start:
            whole = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            handler.send_header("Content-Range", self.content_range or whole)
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        sent = rest[: len(rest) // 2] if self.drops else rest
        if self.framing == "chunked":
            handler.wfile.write(f"{len(sent):x}\r\n".encode() + sent + (b"\r\n" if self.drops else b"\r\n0\r\n\r\n"))
        else:
            handler.wfile.write(sent)
        if self.drops or self.framing == "close":
            self.drops -= self.drops > 0
            handler.close_connection = True
            self.change()


@pytest.fixture
def run(repository: "Repository", web: "WebServer", dest: "Path", hooks: Hooks) -> Callable[[], bytes]:
    """Mirror a repository with one file, and return what was published of it."""
    repository.write({"a": CONTENT})
    repository.list_files()

    def mirrored() -> bytes:
        mirror(web.url, dest, hooks, repo_id="repo")
        return (dest / "current" / "a").read_bytes()

    return mirrored


def ranges(web: "WebServer", path: str) -> list[tuple[str | None, str | None]]:
    """Return the headers `Range` and `If-Range` of each request for a path."""
    return [(headers.get("Range"), headers.get("If-Range")) for asked, headers in web.requests if asked == path]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_file_goes_on_where_it_broke_off(web: "WebServer", run: Callable[[], bytes], framing: str) -> None:
    """A server that takes ranges sends nothing twice, however it marks the end of a body."""
    web.answers["/a"] = answer = Dropping(CONTENT, drops=2)
    answer.framing = framing
    assert run() == CONTENT
    half = len(CONTENT) // 2
    assert ranges(web, "/a") == [(None, None), (f"bytes={half}-", '"1"'), (f"bytes={half + half // 2}-", '"1"')]


def test_file_starts_anew_without_ranges(web: "WebServer", run: Callable[[], bytes]) -> None:
    """A server that ignores the range sends the whole file again."""
    web.answers["/a"] = Dropping(CONTENT, ranges=False)
    assert run() == CONTENT


def test_file_without_validator_is_continued(web: "WebServer", run: Callable[[], bytes]) -> None:
    """The manifest has the checksum of a file, which proves the whole."""
    web.answers["/a"] = Dropping(CONTENT, etag=None)
    assert run() == CONTENT
    assert ranges(web, "/a")[1] == (f"bytes={len(CONTENT) // 2}-", None)


@pytest.mark.parametrize("etag", ['"2"', '"1"', None, 'W/"1"'])
@pytest.mark.parametrize("takes_ranges", [True, False])
def test_file_that_changed_meanwhile_is_downloaded_whole(
    web: "WebServer", run: Callable[[], bytes], etag: str | None, *, takes_ranges: bool
) -> None:
    """What came before the drop is of an older version: nothing of it is left, even if the server hides that."""
    old = bytes(reversed(CONTENT))
    answer = Dropping(old, etag='"1"' if etag else None, ranges=takes_ranges)

    def change() -> None:
        answer.body, answer.etag = CONTENT, etag

    answer.change = change
    web.answers["/a"] = answer
    assert run() == CONTENT


@pytest.mark.parametrize("content_range", ["bytes 0-9/10240", "bytes 5120-10239/99999", "bytes */10240", "nonsense"])
def test_wrong_range_is_not_taken(web: "WebServer", run: Callable[[], bytes], content_range: str) -> None:
    """A partial answer that does not fit is left, and the whole file is asked for."""
    web.answers["/a"] = answer = Dropping(CONTENT)
    answer.content_range = content_range
    assert run() == CONTENT
    assert ranges(web, "/a")[-1] == (None, None)


def test_file_that_shrank_meanwhile_is_named(web: "WebServer", run: Callable[[], bytes]) -> None:
    """The server answers 416: what it has now is downloaded, and refused since the manifest says otherwise."""
    answer = Dropping(CONTENT)

    def change() -> None:
        answer.body = b"short"

    answer.change = change
    web.answers["/a"] = answer
    with pytest.raises(MirrorError, match=r"file 'a' .*it changed while it was downloaded|has 5 bytes"):
        run()


def test_lasting_drops_are_an_error(web: "WebServer", run: Callable[[], bytes]) -> None:
    """After the last try the run fails, and names the file."""
    web.answers["/a"] = Dropping(CONTENT, drops=1000)
    with pytest.raises(MirrorError, match=r"^file 'a' of source .*: the server closed the connection$"):
        run()
    assert len(ranges(web, "/a")) == 3


@pytest.mark.parametrize("etag", ['"1"', None])
def test_manifest_is_continued(web: "WebServer", run: Callable[[], bytes], repository: "Repository", etag: str) -> None:
    """A manifest is retried as well, by range only if the server vouches for the version."""
    manifest = (repository.folder / "PULP_MANIFEST").read_bytes()
    web.answers["/PULP_MANIFEST"] = Dropping(manifest, etag=etag)
    assert run() == CONTENT
    assert ranges(web, "/PULP_MANIFEST")[1] == ((f"bytes={len(manifest) // 2}-", etag) if etag else (None, None))


@pytest.mark.parametrize("etag", ['"2"', None])
@pytest.mark.parametrize("takes_ranges", [True, False])
def test_manifest_that_changed_meanwhile_is_not_spliced(
    web: "WebServer", etag: str | None, *, takes_ranges: bool
) -> None:
    """The entries are those of the new manifest, although as long as the old one."""
    old, new = ("".join(f"{number:02},{letter * 64},1\n" for number in range(MANY)).encode() for letter in ("a", "b"))
    answer = Dropping(old, etag='"1"' if etag else None, ranges=takes_ranges)

    def change() -> None:
        answer.body, answer.etag = new, etag

    answer.change = change
    web.answers["/PULP_MANIFEST"] = answer
    with open_source(web.url) as source:
        assert {entry.sha256 for entry in source.entries()} == {"b" * 64}
        assert len(source.entries()) == MANY


def raw(headers: str, body: bytes) -> "Answer":
    """Answer with these headers and this body, and hang up."""

    def send(handler: SimpleHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.0 200 OK\r\n{headers}\r\n".encode() + body)
        handler.close_connection = True

    return send


@pytest.mark.parametrize(
    "headers", ["", "Connection: close\r\n", "Content-Length: x\r\n", "Transfer-Encoding: gzip, chunked\r\n"]
)
def test_manifest_without_an_end_is_refused(web: "WebServer", headers: str) -> None:
    """A manifest that may have been cut at the end of a line is not taken for the whole."""
    web.answers["/PULP_MANIFEST"] = raw(headers, f"a,{'a' * 64},1\n".encode())
    with open_source(web.url) as source, pytest.raises(MirrorError, match=r"PULP_MANIFEST: .*has no length.* fix: "):
        source.entries()


def test_file_without_an_end_is_taken(web: "WebServer", run: Callable[[], bytes]) -> None:
    """Size and checksum prove that a file is complete."""
    web.answers["/a"] = raw("", CONTENT)
    assert run() == CONTENT


def test_compressed_manifest_is_refused(web: "WebServer") -> None:
    """It was not asked for, and would read as nonsense."""
    body = f"a,{'a' * 64},1\n".encode()
    web.answers["/PULP_MANIFEST"] = raw(f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n", body)
    with open_source(web.url) as source, pytest.raises(MirrorError, match=r"PULP_MANIFEST: .* compressed"):
        source.entries()


def test_page_in_place_of_a_manifest_is_refused(web: "WebServer") -> None:
    """A web page with status 200 is no manifest."""
    body = b"<!DOCTYPE html>\n<p>Please log in.</p>\n"
    web.answers["/PULP_MANIFEST"] = raw(f"Content-Length: {len(body)}\r\n", body)
    with open_source(web.url) as source, pytest.raises(MirrorError, match="line 1"):
        source.entries()
