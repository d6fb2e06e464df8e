"""Web servers as sources: redirects, passwords, retries, and interrupted transfers."""

import base64
import logging
import socket
import threading
import time
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.http_source import HttpSource
from pulp_hooks.hosts.file_mirror.manifest import Entry
from pulp_hooks.hosts.file_mirror.sources import open_source

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Answer, Repository, WebServer

ENTRY = Entry("a", "0" * 64, 4)


def answer(status: int, body: bytes = b"", **headers: str) -> "Answer":
    """Return a reply with a status; an underscore in a header's name stands for a hyphen."""

    def send(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def in_turn(*answers: "Answer") -> "Answer":
    """Return a reply that uses these replies one after the other."""
    left = iter(answers)

    def answer_next(handler: SimpleHTTPRequestHandler) -> None:
        next(left)(handler)

    return answer_next


def read(url: str) -> bytes:
    """Return the content of the file `a` of a source."""
    with open_source(url) as source, source.open(ENTRY) as chunks:
        return b"".join(chunks)


def failure(url: str) -> str:
    """Return the message of a failed read."""
    with pytest.raises(MirrorError) as caught:
        read(url)
    assert caught.value.__cause__ is None  # the text of a cause may contain a secret
    return str(caught.value)


@pytest.mark.parametrize("ending", ["", "/", "/PULP_MANIFEST"])
def test_files_are_next_to_the_manifest(repository: "Repository", web: "WebServer", ending: str) -> None:
    """The URL of the folder, with or without a slash, and the URL of the manifest are equivalent."""
    repository.write({"repo/a": "abcd"})
    (repository.folder / "repo" / "PULP_MANIFEST").write_text(f"a,{'0' * 64},4\n")
    with open_source(f"{web.url}/repo{ending}") as source:
        assert source.entries() == [ENTRY]
        with source.open(ENTRY) as chunks:
            assert b"".join(chunks) == b"abcd"
    assert web.paths == ["/repo/PULP_MANIFEST", "/repo/a"]


@pytest.mark.parametrize("path", ["a b", "é/ü", "100%", "%41", "a#b", "a?b=c", "a,b", "a+b", "a&b;c", "…/~", "a:b@c"])
def test_every_name_survives_the_url(repository: "Repository", web: "WebServer", path: str) -> None:
    """Names are percent-encoded, and the server receives exactly the name in the manifest."""
    repository.write({path: "abcd"})
    with open_source(web.url) as source, source.open(Entry(path, "0" * 64, 4)) as chunks:
        assert b"".join(chunks) == b"abcd"


def test_bare_percent_sign_in_the_url_is_encoded(repository: "Repository", web: "WebServer") -> None:
    """A bare percent sign in SOURCE is encoded, and the URLs of its files are right."""
    repository.write({"100%/a b": "abcd"})
    with open_source(f"{web.url}/100%/") as source, source.open(Entry("a b", "0" * 64, 4)) as chunks:
        assert b"".join(chunks) == b"abcd"


def test_body_is_not_decoded(web: "WebServer") -> None:
    """No content encoding is requested, and one applied by the server is not decoded."""
    web.answers["/a"] = answer(200, b"\x1f\x8b not gzip", Content_Encoding="gzip")
    assert read(web.url) == b"\x1f\x8b not gzip"
    assert web.requests[0][1]["Accept-Encoding"] == "identity"


def test_chunked_body_is_read(web: "WebServer") -> None:
    """A body in chunks is read without a known length."""

    def send(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")

    web.answers["/a"] = send
    assert read(web.url) == b"abcd"


def test_one_connection_serves_many_files(repository: "Repository", web: "WebServer") -> None:
    """Connections are reused, also after redirects."""
    connections: set[object] = set()

    def send(handler: SimpleHTTPRequestHandler) -> None:
        connections.add(handler.client_address)
        answer(302, b"moved", Location="/b")(handler)

    repository.write({"b": "abcd"})
    web.answers["/a"] = send
    with open_source(web.url) as source:
        for _ in range(3):
            with source.open(ENTRY) as chunks:
                assert b"".join(chunks) == b"abcd"
    assert len(connections) == 1


@pytest.mark.parametrize("status", [204, 206, 304, 400, 403, 404, 410, 501])
def test_status_is_named_with_the_file(web: "WebServer", status: int) -> None:
    """A status other than 200 is an error with file, source and status, and is not retried."""
    web.answers["/a"] = answer(status)
    assert failure(web.url).startswith(f"file 'a' of source {web.url}: the server responded with {status} ")
    assert len(web.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_failure_is_retried(repository: "Repository", web: "WebServer", status: int) -> None:
    """A status such as 503 is retried."""
    repository.write({"a": "abcd"})
    web.answers["/a"] = in_turn(answer(status, b"wait"), answer(status), SimpleHTTPRequestHandler.do_GET)
    assert read(web.url) == b"abcd"


def test_lasting_failure_is_an_error(web: "WebServer") -> None:
    """After the last try, the error has the status."""
    web.answers["/a"] = answer(503)
    assert failure(web.url) == f"file 'a' of source {web.url}: the server responded with 503 Service Unavailable"
    assert len(web.requests) == 3


def test_retry_after_is_followed(repository: "Repository", web: "WebServer") -> None:
    """`Retry-After` in seconds is followed, up to a limit."""
    repository.write({"a": "abcd"})
    web.answers["/a"] = in_turn(answer(429, Retry_After="1"), SimpleHTTPRequestHandler.do_GET)
    begin = time.monotonic()
    assert read(web.url) == b"abcd"
    assert time.monotonic() - begin >= 1


@pytest.mark.parametrize("asked", ["", "-1", "soon", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 5000])
def test_invalid_retry_after_is_ignored(repository: "Repository", web: "WebServer", asked: str) -> None:
    """An invalid or huge `Retry-After` is ignored."""
    repository.write({"a": "abcd"})
    web.answers["/a"] = in_turn(answer(429, Retry_After=asked), SimpleHTTPRequestHandler.do_GET)
    assert read(web.url) == b"abcd"


def test_connection_closed_before_the_response_is_retried(repository: "Repository", web: "WebServer") -> None:
    """If the server closes a kept connection, the request is retried."""

    def hang_up(handler: SimpleHTTPRequestHandler) -> None:
        handler.close_connection = True

    repository.write({"a": "abcd"})
    web.answers["/a"] = in_turn(hang_up, SimpleHTTPRequestHandler.do_GET)
    assert read(web.url) == b"abcd"


def test_refused_connection_is_named(web: "WebServer") -> None:
    """A refused connection is an error with file and source."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert failure(url) == f"file 'a' of source {url}: no connection: Connection refused"
    assert web.requests == []


def test_unknown_host_is_named() -> None:
    """A host that does not resolve is an error with file and source."""
    url = "http://user:secret@nowhere.invalid"
    assert failure(url).startswith("file 'a' of source http://nowhere.invalid: no connection: ")


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.invalid", "é" * 64, "host:99999", "ho st"])
def test_invalid_host_is_named(host: str) -> None:
    """A host name that the resolver refuses is a `MirrorError`."""
    with pytest.raises(MirrorError):
        read(f"http://{host}/")


def test_server_without_tls_is_named(web: "WebServer") -> None:
    """TLS to a server without TLS is a `MirrorError`."""
    url = web.url.replace("http:", "https:")
    assert failure(url).startswith(f"file 'a' of source {url}: ")


def test_stall_in_the_body_ends_at_the_time_limit(web: "WebServer") -> None:
    """A server that stops sending is an error after the time limit."""

    def stall(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"ab")
        web.released.wait()

    web.answers["/a"] = stall
    assert failure(web.url).startswith(f"file 'a' of source {web.url}: the server sent nothing for ")


def test_stall_before_the_response_ends_at_the_time_limit(web: "WebServer") -> None:
    """A server that never responds is an error after the time limit, and is not retried."""

    def stall(_: SimpleHTTPRequestHandler) -> None:
        web.released.wait()

    web.answers["/a"] = stall
    assert failure(web.url).startswith(f"file 'a' of source {web.url}: the server sent nothing for ")
    assert len(web.requests) == 1


@pytest.mark.parametrize("headers", [{"Content_Length": "9"}, {"Transfer_Encoding": "chunked", "Content_Length": "9"}])
def test_connection_closed_in_the_body_is_named(web: "WebServer", headers: dict[str, str]) -> None:
    """A connection closed before the end of the body is an error."""

    def cut(handler: SimpleHTTPRequestHandler) -> None:
        answer(200, b"4\r\na", **headers)(handler)
        handler.close_connection = True

    web.answers["/a"] = cut
    assert failure(web.url) == f"file 'a' of source {web.url}: the server closed the connection"


def test_response_that_is_not_http_is_an_error(web: "WebServer") -> None:
    """A response that is not HTTP is an error."""

    def garble(handler: SimpleHTTPRequestHandler) -> None:
        handler.wfile.write(b"\0\xff" * 100 + b"\r\n\r\n")
        handler.close_connection = True

    web.answers["/a"] = garble
    assert failure(web.url) == f"file 'a' of source {web.url}: the server closed the connection"


def test_close_ends_a_stalled_transfer_at_once(web: "WebServer", monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the source ends waiting transfers at once, and prevents new ones."""
    monkeypatch.setattr("pulp_hooks.hosts.file_mirror.http_client.READ_SECONDS", 60)
    reading = threading.Event()
    failed: list[str] = []

    def stall(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"ab")
        web.released.wait()

    def wait_for_data(source: HttpSource) -> None:
        try:
            with source.open(ENTRY) as chunks:
                for _ in chunks:
                    reading.set()
        except MirrorError as error:
            failed.append(str(error))

    web.answers["/a"] = stall
    source = HttpSource(web.url)
    thread = threading.Thread(target=wait_for_data, args=[source])
    thread.start()
    assert reading.wait(10)
    source.close()
    thread.join(5)
    assert failed == [f"file 'a' of source {web.url}: the server closed the connection"]
    with pytest.raises(MirrorError, match="the transfer was stopped"), source.open(ENTRY):
        pass


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed(repository: "Repository", web: "WebServer", status: int) -> None:
    """Relative and absolute redirects are followed, also to another server."""
    repository.write({"b": "abcd"})
    web.answers["/a"] = answer(status, Location="x/../c")
    web.answers["/c"] = answer(status, Location=f"{web.url.replace('127.0.0.1', 'localhost')}/b?signature=1#part")
    web.answers["/b?signature=1"] = answer(200, b"abcd")
    assert read(web.url) == b"abcd"
    assert web.paths == ["/a", "/c", "/b?signature=1"]


def test_endless_redirect_is_an_error(web: "WebServer") -> None:
    """A redirect loop ends after a few redirects."""
    web.answers["/a"] = answer(302, Location="/a")
    assert failure(web.url) == f"file 'a' of source {web.url}: more than 5 redirects"


@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("ftp://host/x", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("http://[x/", "an invalid URL"),
        ("http://host:port/", "an invalid URL"),
    ],
)
def test_redirect_to_a_local_file_is_refused(web: "WebServer", location: str, rule: str) -> None:
    """Redirects to local files are refused."""
    web.answers["/a"] = answer(302, Location=location)
    assert rule in failure(web.url)


def test_password_is_sent_to_its_own_server_only(
    repository: "Repository", web: "WebServer", serve: Callable[[Path], "WebServer"]
) -> None:
    """Basic authentication is sent to the host and port of SOURCE only; credentials in a redirect are ignored."""
    repository.write({"b": "abcd"})
    other = serve(repository.folder)
    other.answers["/elsewhere"] = answer(302, Location=f"{other.url.replace('//', '//other:word@')}/b")
    web.answers["/a"] = answer(302, Location="/here")
    web.answers["/here"] = answer(302, Location=f"{other.url}/elsewhere")
    assert read(web.url.replace("//", "//us%20er:se%C3%A9cret@")) == b"abcd"
    expected = f"Basic {base64.b64encode('us er:seécret'.encode()).decode()}"
    assert [headers.get("Authorization") for _, headers in web.requests] == [expected, expected]
    assert [headers.get("Authorization") for _, headers in other.requests] == [None, None]


def test_password_is_not_sent_to_another_name_of_the_server(repository: "Repository", web: "WebServer") -> None:
    """Hosts are compared by name, not by address, because a name may later resolve elsewhere."""
    repository.write({"b": "abcd"})
    web.answers["/a"] = answer(302, Location=f"{web.url.replace('127.0.0.1', 'localhost')}/b")
    assert read(web.url.replace("//", "//user:secret@")) == b"abcd"
    assert ["Authorization" in headers for _, headers in web.requests] == [True, False]


@pytest.mark.parametrize("status", [401, 404, 503])
def test_no_message_or_log_record_has_a_secret(web: "WebServer", caplog: pytest.LogCaptureFixture, status: int) -> None:
    """No message or log record has the password or a signed URL, whatever fails."""
    caplog.set_level(logging.INFO)
    web.answers["/a"] = answer(302, Location="/signed?token=secret")
    web.answers["/signed?token=secret"] = answer(status)
    message = failure(web.url.replace("//", "//user:secret@"))
    assert "secret" not in message
    assert "user:secret" not in message
    assert "secret" not in caplog.text
    assert ("https://user:password@host/" in message) == (status == 401)


def test_trusted_certificate_is_accepted(
    repository: "Repository", secure_web: "WebServer", certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates are verified against those trusted by the system."""
    repository.write({"a": "abcd"})
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert read(secure_web.url) == b"abcd"


def test_untrusted_certificate_is_refused(secure_web: "WebServer") -> None:
    """An untrusted certificate is an error with file and source, and the request is not sent."""
    message = failure(secure_web.url.replace("//", "//user:secret@"))
    assert message.startswith(f"file 'a' of source {secure_web.url}: no secure connection: ")
    assert "secret" not in message
    assert secure_web.requests == []


def test_redirect_from_https_to_http_is_refused(
    web: "WebServer", secure_web: "WebServer", certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redirects from https to http are refused."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure_web.answers["/a"] = answer(302, Location=f"{web.url}/a")
    assert failure(secure_web.url).endswith(": the server redirects from https to http, which is not safe")
    assert web.requests == []


def test_redirect_from_http_to_https_is_followed_without_the_password(
    repository: "Repository",
    web: "WebServer",
    secure_web: "WebServer",
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redirects from http to https are followed, without the password."""
    repository.write({"b": "abcd"})
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    web.answers["/a"] = answer(302, Location=f"{secure_web.url}/b")
    assert read(web.url.replace("//", "//user:secret@")) == b"abcd"
    assert "Authorization" not in secure_web.requests[0][1]


def test_too_large_manifest_is_refused(web: "WebServer", monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest is read up to the limit only."""
    monkeypatch.setattr("pulp_hooks.hosts.file_mirror.manifest.MAX_MANIFEST_BYTES", 1000)
    web.answers["/PULP_MANIFEST"] = answer(200, b"\n" * 1001)
    with pytest.raises(MirrorError, match="PULP_MANIFEST: a manifest must not be larger than 1000 bytes"):
        HttpSource(web.url).entries()
