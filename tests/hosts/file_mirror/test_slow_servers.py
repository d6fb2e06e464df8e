"""Servers that send so slowly that a run would never end."""

import time
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts import connections
from pulp_hooks.hosts.file_mirror.manifest import Entry
from pulp_hooks.hosts.file_mirror.sources import open_source

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import WebServer

ENTRY = Entry("a", "0" * 64, 1000)
SLOW = "the server sent fewer than 1000 bytes per second for 0.3 seconds; fix: try later, or lower --min-speed$"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SPEED_SECONDS", 0.3)


class Dribble:
    """Sends a response one byte at a time, from its headers or from its body on."""

    def __init__(self, web: "WebServer", *, slow_head: bool = False, status: bytes = b"200 OK") -> None:
        self.web = web
        self.slow_head = slow_head
        self.status = status

    def __call__(self, handler: SimpleHTTPRequestHandler) -> None:
        """Answer a request."""
        head = b"HTTP/1.1 " + self.status + b"\r\nLocation: /b\r\nContent-Length: 1000\r\n\r\n"
        if not self.slow_head:
            handler.wfile.write(head)
            head = b""
        for byte in head + b"#" * 1000:
            if self.web.released.wait(0.01):
                break
            handler.wfile.write(bytes([byte]))


@pytest.mark.parametrize("slow_head", [True, False])
@pytest.mark.parametrize("path", ["/PULP_MANIFEST", "/a"])
def test_slow_server_is_an_error(web: "WebServer", path: str, *, slow_head: bool) -> None:
    """Headers and bodies of manifest and files must reach the minimum speed."""
    web.answers[path] = Dribble(web, slow_head=slow_head)
    with open_source(web.url) as source:
        if path == "/a":
            with pytest.raises(MirrorError, match=SLOW), source.open(ENTRY) as chunks:
                list(chunks)
        else:
            with pytest.raises(MirrorError, match=SLOW):
                source.entries()


def test_slow_body_of_a_redirect_is_not_read(web: "WebServer") -> None:
    """A slow body of a redirect does not delay the file."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"abcd")

    web.answers["/a"] = Dribble(web, status=b"302 Found")
    web.answers["/b"] = answer
    with open_source(web.url) as source, source.open(ENTRY) as chunks:
        assert next(chunks) == b"abcd"


def test_minimum_speed_can_be_set(web: "WebServer") -> None:
    """A lower limit accepts a server that the default refuses, and 0 accepts any."""
    web.answers["/a"] = Dribble(web)
    for speed in (0, 10):
        with open_source(web.url, speed) as source, source.open(Entry("a", "0" * 64, 1000)) as chunks:
            begin = time.monotonic()
            while time.monotonic() - begin < 0.6:
                assert next(chunks)


def test_slow_reader_does_not_count(web: "WebServer") -> None:
    """Only the time spent waiting for the server counts."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(10):
            handler.wfile.write(b"x" * 100)

    web.answers["/a"] = answer
    with open_source(web.url) as source, source.open(ENTRY) as chunks:
        total = len(next(chunks))
        time.sleep(0.5)
        assert total + sum(map(len, chunks)) == 1000
