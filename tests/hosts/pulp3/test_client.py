"""Requests to a server over real connections: sessions, TLS, and answers that are not what they should be."""

import base64
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from pulp_hooks import PulpError, PulpSettings
from pulp_hooks.hosts.pulp3 import client as client_module
from pulp_hooks.hosts.pulp3.client import NotShownError, PulpClient, api_root

PASSWORD = "s3cret-canary-of-the-watcher"  # noqa: S105 - of a server in this test
BASIC = "Basic " + base64.b64encode(f"watcher:{PASSWORD}".encode()).decode()
STATUS = {"versions": [{"component": "core", "version": "3.123.1"}], "domain_enabled": False}


class Server(ThreadingHTTPServer):
    """A server with a session, whose answers a test can replace.

    Attributes:
        session: The valid session.
        asked: Method, path and headers of each request.
        answers: Functions that answer certain paths in place of the server.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.session = "first"
        self.has_login = True
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[str, Callable[[Handler], None]] = {}
        self.scheme = "http"

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def paths(self) -> list[str]:
        """Return the paths of all requests, without the API root."""
        return [path.partition("/api/v3/")[2].partition("?")[0] for _, path, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Answers as a server of Pulp does."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        path = self.path.partition("/api/v3/")[2].partition("?")[0]
        if path in self.server.answers:
            self.server.answers[path](self)
        elif path == "status/":
            self.send(200, STATUS)
        elif path == "login/":
            if not self.server.has_login:
                self.send(404, {})
            elif self.headers["Authorization"] != BASIC:
                self.send(401, {"detail": "Invalid username/password."})
            else:
                cookie = f"sessionid={self.server.session}; HttpOnly; Path=/; SameSite=Lax"
                self.send(201, {"username": "watcher"}, **{"Set-Cookie": cookie})
        elif self.headers["Authorization"] not in {None, BASIC}:
            self.send(401, {"detail": "Invalid username/password."})
        elif f"sessionid={self.server.session}" != self.headers["Cookie"] and self.headers["Authorization"] != BASIC:
            self.send(403, {"detail": "Authentication credentials were not provided."})
        else:
            self.send(200, {"results": []})

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def send(self, status: int, content: object, **headers: str) -> None:
        """Send JSON, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response_only(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve in a thread."""
    thread = threading.Thread(target=partial(server.serve_forever, 0.01))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on loopback."""
    with serving(Server()) as server:
        yield server


@contextmanager
def connected(server: Server, domain: str = "default", **settings: Any) -> Iterator[PulpClient]:  # noqa: ANN401 - of any type
    """Return a client for a server."""
    values = {"username": "watcher", "password": PASSWORD} | settings
    client = PulpClient(PulpSettings(name="pulp", url=server.url, **values), domain)
    try:
        yield client
    finally:
        client.close()


def test_logs_in_once(server: Server) -> None:
    """The password is sent once; all other requests have the session."""
    with connected(server) as client:
        client.connect()
        for _ in range(3):
            client.get("tasks/", {"limit": "1"})
    assert server.paths() == ["status/", "login/", "tasks/", "tasks/", "tasks/"]
    assert [path for _, path, headers in server.asked if "Authorization" in headers] == ["/pulp/api/v3/login/"]


def test_logs_in_again_when_the_session_has_ended(server: Server) -> None:
    """After a restart or upgrade of the server the watcher goes on with a new session."""
    with connected(server) as client:
        client.connect()
        server.session = "second"
        assert client.get("tasks/") == {"results": []}
    assert server.paths() == ["status/", "login/", "tasks/", "login/", "tasks/"]


def test_server_without_sessions_gets_the_password_each_time(server: Server) -> None:
    """Servers before 3.70 have no login."""
    server.has_login = False
    server.answers["status/"] = lambda handler: handler.send(
        200, {"versions": [{"component": "core", "version": "3.69.4"}]}
    )
    with connected(server) as client:
        client.connect()
        assert client.get("tasks/") == {"results": []}


def test_wrong_password_is_said(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The error names neither password, and no log has the right one, its encoded form or the session."""
    caplog.set_level(logging.DEBUG)
    wrong = {"password": "wrong-canary"}
    with connected(server, **wrong) as client, pytest.raises(PulpError, match="refuses") as error:
        client.connect()
    with connected(server) as client:
        client.connect()
        client.get("tasks/")
        told = f"{caplog.text}{error.value!r}{client!r}{vars(error.value)}"
    for secret in (PASSWORD, "wrong-canary", BASIC, "sessionid", server.session):
        assert secret not in told


def test_wrong_password_is_said_without_sessions(server: Server) -> None:
    """Servers before 3.70 refuse it with the first request that needs a user: not as an object they do not show."""
    server.has_login = False
    server.answers["status/"] = lambda handler: handler.send(
        200, {"versions": [{"component": "core", "version": "3.49.72"}]}
    )
    with connected(server, password="wrong") as client:  # noqa: S106 - of a server in this test
        client.connect()
        with pytest.raises(PulpError, match="refuses the user name or the password") as error:
            client.get("tasks/")
    assert not isinstance(error.value, NotShownError)


def test_user_who_may_not_is_said(server: Server) -> None:
    """A 403 that a new session does not change is an error, after one more try."""
    server.answers["tasks/"] = lambda handler: handler.send(403, {"detail": "no"})
    with connected(server) as client:
        client.connect()
        with pytest.raises(PulpError, match="refuses the user"):
            client.get("tasks/")
    assert server.paths().count("tasks/") == 2


def test_server_that_wants_a_user_is_said(server: Server) -> None:
    """Without a user name the error says which keys are missing."""
    with connected(server, username=None, password=None) as client, pytest.raises(PulpError, match="username"):
        client.get("tasks/")


@pytest.mark.parametrize(
    ("status", "match"),
    [
        ({"versions": [{"component": "core", "version": "3.32.9"}]}, "3.32.9.*upgrade it to 3.33"),
        ({"versions": [{"component": "core", "version": "2.21.5"}]}, "2.21.5"),
        ({"versions": []}, "not a Pulp 3 server"),
        ({"api_version": "2"}, "not a Pulp 3 server"),
        (["no", "object"], "not a Pulp 3 server"),
        (b"<html>Welcome to nginx!</html>", "JSON"),
    ],
)
def test_unsupported_server_is_refused(server: Server, status: object, match: str) -> None:
    """The error names the version, or says that this is not Pulp."""
    server.answers["status/"] = lambda handler: handler.send(200, status)
    with connected(server) as client, pytest.raises(PulpError, match=match):
        client.connect()


def test_domain_has_its_own_paths(server: Server) -> None:
    """With domains the API of each has a path of its own."""
    server.answers["status/"] = lambda handler: handler.send(200, STATUS | {"domain_enabled": True})
    with connected(server, "team-a") as client:
        client.connect()
        client.get("tasks/")
    assert [path for _, path, _ in server.asked] == [
        "/pulp/api/v3/status/",
        "/pulp/team-a/api/v3/login/",
        "/pulp/team-a/api/v3/tasks/",
    ]


def test_unknown_domain_is_said(server: Server) -> None:
    """The server answers 404 to everything in a domain that it does not have."""
    server.answers["status/"] = lambda handler: handler.send(200, STATUS | {"domain_enabled": True})
    server.has_login = False
    with connected(server, "team-x") as client, pytest.raises(PulpError, match="no domain 'team-x'"):
        client.connect()


def test_domain_of_a_server_without_domains_is_refused(server: Server) -> None:
    """Otherwise the tasks of all repositories would be taken for those of the domain."""
    with connected(server, "team-a") as client, pytest.raises(PulpError, match="team-a"):
        client.connect()


def _cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"results": [')
    handler.close_connection = True


def _close(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


FAULTS: dict[str, tuple[Callable[[Handler], None], str]] = {
    "html": (lambda handler: handler.send(502, b"<html>Bad Gateway"), "status 502"),
    "html with 200": (lambda handler: handler.send(200, b"<html>Maintenance"), "JSON"),
    "truncated JSON": (lambda handler: handler.send(200, b'{"results": ['), "JSON"),
    "deep JSON": (lambda handler: handler.send(200, b"[" * 100_000), "JSON"),
    "truncated body": (_cut, "answer"),
    "closed": (_close, "closed"),
    "redirect": (lambda handler: handler.send(302, b"", Location="https://elsewhere.example/?a=b"), "elsewhere"),
    "redirect to nowhere": (lambda handler: handler.send(302, b"", Location="http://[::"), "redirects"),
    "refused filter": (lambda handler: handler.send(400, {"errors": ["Invalid Filter: 'q'"]}), "status 400"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_unusable_answer_is_an_error_and_the_next_request_works(server: Server, fault: str) -> None:
    """Whatever a server or a proxy before it sends, the client says so and stays usable."""
    answer, match = FAULTS[fault]
    with connected(server) as client:
        client.connect()
        server.answers["tasks/"] = answer
        with pytest.raises(PulpError, match=match):
            client.get("tasks/")
        del server.answers["tasks/"]
        assert client.get("tasks/") == {"results": []}


def test_endless_answer_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot fill the memory."""
    monkeypatch.setattr(client_module, "MOST_BYTES", 2**20)

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        try:
            while True:
                handler.wfile.write(b" " * 2**16)
        except OSError:
            pass

    server.answers["tasks/"] = endless
    with connected(server) as client:
        client.connect()
        with pytest.raises(PulpError, match="more than 1048576 bytes"):
            client.get("tasks/")


def test_silent_server_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts the request and says nothing is an error, not a wait without end."""
    monkeypatch.setattr(client_module, "READ_SECONDS", 0.2)
    over = threading.Event()

    def wait(_: Handler) -> None:
        over.wait(30)

    server.answers["tasks/"] = wait
    with connected(server) as client:
        client.connect()
        with pytest.raises(PulpError, match="nothing came"):
            client.get("tasks/")
    over.set()


@pytest.mark.parametrize("fault", ["html", "truncated JSON", "truncated body", "closed"])
def test_request_that_fails_once_is_repeated(server: Server, fault: str) -> None:
    """What may be over with the next request is not an error yet."""

    def once(handler: Handler) -> None:
        del server.answers["tasks/"]
        FAULTS[fault][0](handler)

    with connected(server) as client:
        client.connect()
        server.answers["tasks/"] = once
        assert client.get("tasks/") == {"results": []}


def test_slow_server_gets_more_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that was too short is followed by a longer one, so that a server that is always slow is watched too."""

    def slowly(handler: Handler) -> None:
        threading.Event().wait(0.5)
        with suppress(OSError):
            handler.send(200, {"results": []})

    server.answers["tasks/"] = slowly
    with connected(server) as client:
        client.connect()
        monkeypatch.setattr(client_module, "READ_SECONDS", 0.1)
        client.get("repositories/")
        failures = 0
        while failures < 10:
            try:
                client.get("tasks/")
                break
            except PulpError:
                failures += 1
    assert 0 < failures < 10


@pytest.mark.parametrize("status", [403, 404])
def test_missing_or_hidden_object_is_its_own_error(server: Server, status: int) -> None:
    """What was deleted, or what the user may not see, is told from a server that fails."""
    server.answers["publications/file/file/x/"] = lambda handler: handler.send(status, {"detail": "no"})
    with connected(server) as client:
        client.connect()
        with pytest.raises(NotShownError):
            client.get("/pulp/api/v3/publications/file/file/x/")


@pytest.fixture
def authority() -> trustme.CA:
    """An authority that no system trusts."""
    return trustme.CA()


@contextmanager
def secure(authority: trustme.CA, host: str = "127.0.0.1", *, wants_client: bool = False) -> Iterator[Server]:
    """Serve over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    server = Server()
    server.scheme = "https"
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield server


def test_certificates_are_verified(authority: trustme.CA, tmp_path: Path) -> None:
    """An unknown authority and a wrong host are refused; a known authority is accepted."""
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with secure(authority) as server:
        with connected(server, ca_path=str(trusted)) as client:
            client.connect()
        with connected(server) as client, pytest.raises(PulpError, match="secure connection"):
            client.connect()
    with (
        secure(authority, "other.example") as server,
        connected(server, ca_path=str(trusted)) as client,
        pytest.raises(PulpError, match="secure connection"),
    ):
        client.connect()
    assert not any("Authorization" in headers for _, _, headers in server.asked)


def test_client_certificate_stands_for_a_user(authority: trustme.CA, tmp_path: Path) -> None:
    """With a client certificate no user name is needed, and no login is made."""
    trusted, own = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(trusted))
    certificate = authority.issue_cert("watcher")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(own))
    with secure(authority, wants_client=True) as server:
        server.answers["tasks/"] = lambda handler: handler.send(200, {"results": []})
        names: dict[str, Any] = {"username": None, "password": None, "ca_path": str(trusted)}
        with connected(server, **names, client_certificate=str(own)) as client:
            client.connect()
            assert client.get("tasks/") == {"results": []}
        with connected(server, **names) as client, pytest.raises(PulpError):
            client.connect()
    assert server.paths() == ["status/", "tasks/"]


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("https://Pulp.Example.org", "https://pulp.example.org/pulp/"),
        ("https://pulp.example.org:443/", "https://pulp.example.org/pulp/"),
        ("HTTP://pulp.example.org:80/pulp/", "http://pulp.example.org/pulp/"),
        ("https://pulp.example.org/pulp/api/v3/", "https://pulp.example.org/pulp/"),
        ("https://pulp.example.org:8443/content", "https://pulp.example.org:8443/content/"),
        ("https://[2001:DB8::1]:24817", "https://[2001:db8::1]:24817/pulp/"),
    ],
)
def test_url_of_a_server_has_one_spelling(url: str, root: str) -> None:
    """Two watchers that spell the URL differently fire events with the same ids."""
    assert api_root(url) == root


def test_clocks_are_compared(server: Server) -> None:
    """The head of an answer has the time of the server, in whole seconds."""

    def answer(seconds: float) -> Callable[[Handler], None]:
        return lambda handler: handler.send(200, STATUS, Date=formatdate(time.time() + seconds, usegmt=True))

    with connected(server) as client:
        for ahead in (0, 500, -500):
            server.answers["status/"] = answer(ahead)
            assert round(client.clock_difference() or 0, -2) == ahead
        server.answers["status/"] = lambda handler: handler.send(200, STATUS, Date="today")
        assert client.clock_difference() is None
