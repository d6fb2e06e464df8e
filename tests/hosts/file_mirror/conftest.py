"""Fixtures of the file mirror: a recording listener, a web server, and repositories in folders."""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme

from pulp_hooks import testing
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import http_client

Answer: TypeAlias = "Callable[[SimpleHTTPRequestHandler], None]"
Serve: TypeAlias = "Callable[..., WebServer]"


class Recorder(testing.Recorder):
    """A recorder whose last bodies are at hand."""

    @property
    def types(self) -> list[str]:
        """Return the type IDs of the events, in order."""
        return [event.type for event in self.events]

    def body(self, event_type: str) -> Mapping[str, Any]:
        """Return the body of the last event of a type."""
        return [event.body for event in self.events if event.type == event_type][-1]

    @property
    def synced(self) -> Mapping[str, Any]:
        """Return the body of the last finished sync."""
        return self.body("repo-sync-finished")

    @property
    def published(self) -> Mapping[str, Any]:
        """Return the body of the last finished publish."""
        return self.body("repo-publish-finished")


@dataclass
class Repository:
    """A repository in a folder."""

    folder: Path

    def write(self, files: Mapping[str, bytes | str]) -> None:
        """Write files by path."""
        for path, content in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def list_files(self, *extra: str) -> None:
        """Write a manifest of all files in the folder, and of extra lines."""
        manifest = self.folder / "PULP_MANIFEST"
        manifest.unlink(missing_ok=True)
        files = [file for file in self.folder.rglob("*") if file.is_file() and not file.is_symlink()]
        lines = [f"{file.relative_to(self.folder)},{sha256(file.read_bytes())},{file.stat().st_size}" for file in files]
        manifest.write_text("".join(f"{line}\n" for line in [*lines, *extra]))


@dataclass
class WebServer:
    """A real web server for a folder."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)  # replies by path, instead of the file
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)  # path and headers of each
    released: threading.Event = field(default_factory=threading.Event)  # a stalled reply continues when it is set

    @property
    def paths(self) -> list[str]:
        """Return the requested paths."""
        return [path for path, _ in self.requests]


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # like real servers; without it each small file takes 40 ms longer
    timeout = 10

    def __init__(self, *args: Any, web: WebServer, **kwargs: Any) -> None:  # noqa: ANN401 - as the base class has them
        self.web = web
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self.web.requests.append((self.path, dict(self.headers)))
        self.web.answers.get(self.path, SimpleHTTPRequestHandler.do_GET)(self)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass  # some tests are about clients that hang up


def sha256(content: bytes) -> str:
    """Return the checksum for a manifest."""
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def recorder() -> Recorder:
    """Return a listener that records every event."""
    return Recorder()


@pytest.fixture
def hooks(recorder: Recorder) -> Iterator[Hooks]:
    """Return hooks with that listener."""
    with Hooks([recorder]) as hooks:
        yield hooks


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Return an empty repository without a manifest."""
    folder = tmp_path / "source"
    folder.mkdir()
    return Repository(folder)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """Return the path of a mirror that does not exist yet."""
    return tmp_path / "mirror"


@pytest.fixture
def serve() -> Iterator["Serve"]:
    """Return a function that serves a folder until the test ends."""
    running: list[tuple[_Server, threading.Thread, WebServer]] = []

    def start(folder: Path, context: ssl.SSLContext | None = None) -> WebServer:
        web = WebServer("")
        server = _Server(("127.0.0.1", 0), partial(_Handler, web=web, directory=str(folder)))
        web.url = f"http://127.0.0.1:{server.server_port}"
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            web.url = f"https://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        running.append((server, thread, web))
        return web

    yield start
    for server, thread, web in running:
        web.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web(repository: Repository, serve: "Serve") -> WebServer:
    """Return a web server for the repository."""
    return serve(repository.folder)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return a certificate authority that is trusted only on request."""
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    """Return the file with the authority's certificate."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def secure_web(repository: Repository, serve: "Serve", authority: trustme.CA) -> WebServer:
    """Return an https server for the repository, certified by the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return serve(repository.folder, context)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(http_client, "READ_SECONDS", 0.5)
    monkeypatch.setattr(http_client, "RETRY_SECONDS", (0.01, 0.02))
