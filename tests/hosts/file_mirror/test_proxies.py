"""Proxies of the environment: when they are used, and what they are told."""

import base64
import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.manifest import Entry
from pulp_hooks.hosts.file_mirror.sources import open_source

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Repository, Serve, WebServer

ENTRY = Entry("a", "0" * 64, 4)
HOP_BY_HOP = {"proxy-authorization", "proxy-connection", "connection"}


class Proxy(ThreadingHTTPServer):
    """A real proxy that forwards http and tunnels https."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, target and headers of each
        self.status = 0  # reply instead of the real one
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Do not log clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        if self.server.status:
            self.send_error(self.server.status)
            return
        parts = urlsplit(self.path)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        upstream = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=10)
        with contextlib.closing(upstream):
            upstream.request("GET", parts._replace(scheme="", netloc="").geturl(), headers=headers)
            answer = upstream.getresponse()
            body = answer.read()
        self.send_response(answer.status)
        for name in ("Location", "ETag"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        if self.server.status:
            self.send_error(self.server.status)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as upstream:
            self.send_response(200)
            self.end_headers()
            other = {self.connection: upstream, upstream: self.connection}
            with selectors.DefaultSelector() as selector:
                for end in other:
                    selector.register(end, selectors.EVENT_READ)
                while ready := selector.select(10):
                    for key, _ in ready:
                        end = key.fileobj
                        assert isinstance(end, socket.socket)
                        data = end.recv(65536)
                        if not data:
                            self.close_connection = True
                            return
                        other[end].sendall(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Return a running proxy."""
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def read(url: str) -> bytes:
    """Return the content of the file `a` of a source."""
    with open_source(url) as source, source.open(ENTRY) as chunks:
        return b"".join(chunks)


@pytest.fixture
def url(repository: "Repository", web: "WebServer") -> str:
    """Return the URL of a repository with the file `a`."""
    repository.write({"a": "abcd"})
    return web.url


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_http_goes_through_the_proxy(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    """The variables work as in curl, in either case, with or without a scheme."""
    monkeypatch.setenv(name, f"{scheme}{proxy.address}")
    assert read(url) == b"abcd"
    assert [(method, target) for method, target, _ in proxy.requests] == [("GET", f"{url}/a")]


def test_upper_case_http_proxy_is_ignored_under_cgi(url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under CGI this variable may come from a client's header `Proxy`."""
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert read(url) == b"abcd"
    assert proxy.requests == []


@pytest.mark.parametrize("excluded", ["127.0.0.1", "*", "example.org, 127.0.0.1", "127.0.0.1:{port}"])
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_is_honoured(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, excluded: str, name: str
) -> None:
    """Hosts in `no_proxy` are reached directly."""
    monkeypatch.setenv("http_proxy", proxy.address)
    monkeypatch.setenv(name, excluded.format(port=urlsplit(url).port))
    assert read(url) == b"abcd"
    assert proxy.requests == []


def test_https_goes_through_a_tunnel(
    repository: "Repository",
    secure_web: "WebServer",
    certificate: Path,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy sees only the server's name and its own credentials."""
    repository.write({"a": "abcd"})
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("https_proxy", f"http://me:pr%C3%B6xy@{proxy.address}")
    assert read(secure_web.url.replace("//", "//user:secret@")) == b"abcd"
    ((method, target, headers),) = proxy.requests
    assert (method, target) == ("CONNECT", urlsplit(secure_web.url).netloc)
    assert headers["Proxy-Authorization"] == f"Basic {base64.b64encode('me:pröxy'.encode()).decode()}"
    assert "Authorization" not in headers
    assert "Proxy-Authorization" not in secure_web.requests[0][1]
    assert "Authorization" in secure_web.requests[0][1]


def test_certificate_is_checked_through_a_tunnel(
    secure_web: "WebServer", proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel does not make an untrusted certificate valid."""
    monkeypatch.setenv("https_proxy", proxy.address)
    with pytest.raises(MirrorError, match="no secure connection"):
        read(secure_web.url)
    assert secure_web.requests == []


def test_redirect_chooses_its_own_proxy(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    url: str, web: "WebServer", serve: "Serve", repository: "Repository", proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each redirect chooses its own proxy, and the password is sent to SOURCE only."""
    other = serve(repository.folder)
    target = f"{other.url.replace('127.0.0.1', 'localhost')}/a"

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    web.answers["/a"] = redirect
    monkeypatch.setenv("http_proxy", f"me:word@{proxy.address}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read(url.replace("//", "//user:secret@")) == b"abcd"
    ((_, asked, headers),) = proxy.requests
    assert asked == target
    assert "Authorization" not in headers
    assert "Proxy-Authorization" in headers
    assert "Authorization" in web.requests[0][1]
    assert "Proxy-Authorization" not in web.requests[0][1]


@pytest.mark.parametrize("secure", [True, False])
def test_proxy_that_requires_credentials_is_named(
    url: str, secure_web: "WebServer", proxy: Proxy, monkeypatch: pytest.MonkeyPatch, *, secure: bool
) -> None:
    """A 407 is an error that names the proxy and has no password."""
    proxy.status = 407
    monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy.address}")
    monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.address}")
    with pytest.raises(
        MirrorError, match="the proxy responded with 407 Proxy Authentication Required; fix: "
    ) as caught:
        read(secure_web.url if secure else url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unreachable_proxy_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The message names the proxy, not the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(MirrorError, match=r": no connection to the proxy: Connection refused$"):
            read(f"{scheme}://example.invalid")


@pytest.mark.parametrize(
    "value", ["socks5://me:secret@127.0.0.1:1080", "socks5h://127.0.0.1", "ftp://x", "http://", "http://me:secret@h:x"]
)
def test_proxy_that_cannot_be_used_is_refused(url: str, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A proxy that cannot be used is an error, and the message does not have its URL."""
    monkeypatch.setenv("all_proxy", value)
    with pytest.raises(MirrorError, match=r"the proxy of the environment is .*; fix: ") as caught:
        read(url)
    assert "secret" not in str(caught.value)
