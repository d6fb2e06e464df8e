"""Interrupted transfers: resumed, restarted or refused, but never mixed."""

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
    """Serves a body, and closes the connection in the middle of the requested bytes, or at a given place."""

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
    """Mirror a repository with one file, and return its published content."""
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
def test_interrupted_file_is_resumed(web: "WebServer", run: Callable[[], bytes], framing: str) -> None:
    """With ranges no byte is sent twice, however the end of the body is marked."""
    web.answers["/a"] = answer = Dropping(CONTENT, drops=2)
    answer.framing = framing
    assert run() == CONTENT
    half = len(CONTENT) // 2
    assert ranges(web, "/a") == [(None, None), (f"bytes={half}-", '"1"'), (f"bytes={half + half // 2}-", '"1"')]


def test_file_is_restarted_without_ranges(web: "WebServer", run: Callable[[], bytes]) -> None:
    """If the server ignores the range, the whole file is sent again."""
    web.answers["/a"] = Dropping(CONTENT, ranges=False)
    assert run() == CONTENT


def test_file_without_validator_is_resumed(web: "WebServer", run: Callable[[], bytes]) -> None:
    """A file may be resumed without a validator, because its checksum is verified."""
    web.answers["/a"] = Dropping(CONTENT, etag=None)
    assert run() == CONTENT
    assert ranges(web, "/a")[1] == (f"bytes={len(CONTENT) // 2}-", None)


@pytest.mark.parametrize("etag", ['"2"', '"1"', None, 'W/"1"'])
@pytest.mark.parametrize("takes_ranges", [True, False])
def test_changed_file_is_downloaded_whole(
    web: "WebServer", run: Callable[[], bytes], etag: str | None, *, takes_ranges: bool
) -> None:
    """If the file changed, nothing of the old version is used, even if the server hides the change."""
    old = bytes(reversed(CONTENT))
    answer = Dropping(old, etag='"1"' if etag else None, ranges=takes_ranges)

    def change() -> None:
        answer.body, answer.etag = CONTENT, etag

    answer.change = change
    web.answers["/a"] = answer
    assert run() == CONTENT


@pytest.mark.parametrize("content_range", ["bytes 0-9/10240", "bytes 5120-10239/99999", "bytes */10240", "nonsense"])
def test_wrong_range_is_refused(web: "WebServer", run: Callable[[], bytes], content_range: str) -> None:
    """After a partial response that does not fit, the whole file is requested."""
    web.answers["/a"] = answer = Dropping(CONTENT)
    answer.content_range = content_range
    assert run() == CONTENT
    assert ranges(web, "/a")[-1] == (None, None)


def test_file_that_became_shorter_is_named(web: "WebServer", run: Callable[[], bytes]) -> None:
    """After a 416 the whole file is downloaded, and refused because it does not match the manifest."""
    answer = Dropping(CONTENT)

    def change() -> None:
        answer.body = b"short"

    answer.change = change
    web.answers["/a"] = answer
    with pytest.raises(MirrorError, match=r"file 'a' .*it changed while it was downloaded|has 5 bytes"):
        run()


def test_lasting_interruptions_are_an_error(web: "WebServer", run: Callable[[], bytes]) -> None:
    """After the last try the run fails and names the file."""
    web.answers["/a"] = Dropping(CONTENT, drops=1000)
    with pytest.raises(MirrorError, match=r"^file 'a' of source .*: the server closed the connection$"):
        run()
    assert len(ranges(web, "/a")) == 3


@pytest.mark.parametrize("etag", ['"1"', None])
def test_manifest_is_resumed(web: "WebServer", run: Callable[[], bytes], repository: "Repository", etag: str) -> None:
    """A manifest is resumed only if the server confirms its version, otherwise restarted."""
    manifest = (repository.folder / "PULP_MANIFEST").read_bytes()
    web.answers["/PULP_MANIFEST"] = Dropping(manifest, etag=etag)
    assert run() == CONTENT
    assert ranges(web, "/PULP_MANIFEST")[1] == ((f"bytes={len(manifest) // 2}-", etag) if etag else (None, None))


@pytest.mark.parametrize("etag", ['"2"', None])
@pytest.mark.parametrize("takes_ranges", [True, False])
def test_pieces_of_a_changed_manifest_are_not_mixed(web: "WebServer", etag: str | None, *, takes_ranges: bool) -> None:
    """If the manifest changed, the new one is used, even if it has the same length."""
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
    """Send these headers and this body, and close the connection."""

    def send(handler: SimpleHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.0 200 OK\r\n{headers}\r\n".encode() + body)
        handler.close_connection = True

    return send


@pytest.mark.parametrize(
    "headers", ["", "Connection: close\r\n", "Content-Length: x\r\n", "Transfer-Encoding: gzip, chunked\r\n"]
)
def test_manifest_without_a_length_is_refused(web: "WebServer", headers: str) -> None:
    """A manifest without a length may be truncated, and is refused."""
    web.answers["/PULP_MANIFEST"] = raw(headers, f"a,{'a' * 64},1\n".encode())
    with open_source(web.url) as source, pytest.raises(MirrorError, match=r"PULP_MANIFEST: .*has no length.* fix: "):
        source.entries()


def test_file_without_a_length_is_accepted(web: "WebServer", run: Callable[[], bytes]) -> None:
    """A file without a length is accepted, because size and checksum are verified."""
    web.answers["/a"] = raw("", CONTENT)
    assert run() == CONTENT


def test_compressed_manifest_is_refused(web: "WebServer") -> None:
    """A compressed manifest was not requested, and is refused."""
    body = f"a,{'a' * 64},1\n".encode()
    web.answers["/PULP_MANIFEST"] = raw(f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n", body)
    with open_source(web.url) as source, pytest.raises(MirrorError, match=r"PULP_MANIFEST: .* compressed"):
        source.entries()


def test_web_page_in_place_of_a_manifest_is_refused(web: "WebServer") -> None:
    """A web page with status 200 is not a manifest."""
    body = b"<!DOCTYPE html>\n<p>Please log in.</p>\n"
    web.answers["/PULP_MANIFEST"] = raw(f"Content-Length: {len(body)}\r\n", body)
    with open_source(web.url) as source, pytest.raises(MirrorError, match="line 1"):
        source.entries()
