"""An HTTP client that retries, resumes, follows redirects, and sends a password only to its own server.

The retry and redirect loops of urllib3 are not used, because they log whole URLs (a signed URL in a redirect is a
secret), sleep through `close()`, and follow redirects from https to http.
"""

import base64
import hashlib
import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.connections import Connections, TooSlowError
from pulp_hooks.hosts.file_mirror.files import CHUNK_BYTES
from pulp_hooks.hosts.file_mirror.transfers import MIN_SPEED, ChangedError

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
RETRY_SECONDS = (0.2, 0.5, 1.0)  # waits between four tries
MAX_RETRY_AFTER_SECONDS = 10  # longest wait that a server may ask for
MAX_REDIRECTS = 5

_FRESH_TRIES_BYTES = 2**20  # after this many bytes without an interruption, a transfer has all its tries again
_DRAINED_BYTES = 2**16  # an unwanted body up to this size is read, so that its connection can be reused
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_STATUS_HINTS: dict[tuple[str, int], str] = {
    ("server", http.client.UNAUTHORIZED): "; fix: add a user name and password as in https://user:password@host/",
    ("proxy", http.client.PROXY_AUTHENTICATION_REQUIRED): (
        "; fix: set http_proxy or https_proxy to http://user:password@host:port"
    ),
}
_REASONS: dict[type[HTTPError], str] = {
    ConnectTimeoutError: f"no connection within {CONNECT_SECONDS:g} seconds",
    ReadTimeoutError: f"the server sent nothing for {READ_SECONDS:g} seconds",
    SSLError: "no secure connection: {}",
    ProtocolError: "the server closed the connection",
}


class HttpClient:
    """Downloads files from one server and from those it redirects to; thread-safe.

    Args:
        url: A URL on the server. Its user name and password are sent only to its scheme, host and port.
        min_speed: Minimum speed of a server in bytes per second. 0 means no limit.
    """

    def __init__(self, url: str, min_speed: int = MIN_SPEED) -> None:
        self._origin = _origin(url)
        self._authorization = _authorization(url)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._responses: set[urllib3.BaseHTTPResponse] = set()
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._connections = Connections(timeout, min_speed, MirrorError)

    @contextmanager
    def get(self, url: str, what: str, size: int | None = None) -> Iterator[Iterator[bytes]]:
        """Request a file and yield an iterator of its chunks. Interrupted transfers are resumed.

        Args:
            url: URL of the file.
            what: Name of the file for messages.
            size: Size of the file, if the caller knows it and verifies the content. Otherwise the server must send the
                size or chunks, and a transfer is resumed only if the server confirms that the file is the same version.

        Raises:
            MirrorError: The file cannot be downloaded, its transfer was interrupted too often, or the client was
                closed.
            ChangedError: The file changed between two pieces. A `MirrorError` raised by the caller in this block
                becomes this error if it may be due to such a change.
        """
        transfer = _Transfer(self, url, what, size)
        try:
            yield transfer.chunks()
        except MirrorError as error:
            if transfer.spliced:
                raise ChangedError(str(error)) from None
            raise
        finally:
            transfer.end()

    def close(self) -> None:
        """Stop all transfers. Threads waiting for data fail, and new requests are refused."""
        self._closed.set()
        with self._lock:
            for response in self._responses:
                with suppress(ValueError, RuntimeError, OSError):  # it has just ended
                    response.shutdown()
        self._connections.clear()

    def wait(self, seconds: float) -> bool:
        """Wait before another try; return `False` if the client was closed."""
        return not self._closed.wait(seconds)

    def ask(self, url: str, what: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Return the response to a request, after redirects and retries. Its body is not read yet.

        Raises:
            MirrorError: The server did not respond, or the client was closed.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask_patiently(url, what, headers)
            location = response.get_redirect_location()
            if not location:
                return response
            self.let_go(response, drain=True)
            url = _redirected(url, location, what)
        raise MirrorError(f"{what}: more than {MAX_REDIRECTS} redirects")

    def let_go(self, response: urllib3.BaseHTTPResponse, *, drain: bool = False) -> None:
        """Close a response.

        Args:
            response: The response.
            drain: Read a short body to its end first, so that the connection can be reused.
        """
        if drain and response.length_remaining is not None and response.length_remaining <= _DRAINED_BYTES:
            response.drain_conn()
        with self._lock:
            self._responses.discard(response)
        response.close()  # after a complete read, the connection is back in the pool and stays open

    def _ask_patiently(self, url: str, what: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        waits = iter(RETRY_SECONDS)
        while True:
            wait = next(waits, None)
            try:
                response = self._ask_once(url, what, headers)
            except HTTPError as error:
                # Retry only if the connection failed, or was closed before a response.
                cause = error.original_error if isinstance(error, ProxyError) else error
                if wait is None or not isinstance(cause, ConnectTimeoutError | ProtocolError):
                    raise MirrorError(f"{what}: {_explained(error)}") from None
            else:
                if wait is None or response.status not in _PASSING_STATUSES:
                    return response
                wait = _retry_after(response) or wait
                self.let_go(response, drain=True)
            self.wait(wait)

    def _ask_once(self, url: str, what: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        headers = {"Accept-Encoding": "identity", **headers}
        if _origin(url) == self._origin:
            headers |= self._authorization
        if not self._closed.is_set():
            response = self._connections.manager(url, what).request(
                "GET", url, headers=headers, preload_content=False, decode_content=False, redirect=False
            )
            with self._lock:
                self._responses.add(response)
            if not self._closed.is_set():
                return response
            self.let_go(response)
        raise MirrorError(f"{what}: the transfer was stopped")


class _Transfer:
    """The transfer of one file, over one or more requests.

    Attributes:
        spliced: Whether the bytes of several responses were joined without proof that they belong together.
    """

    def __init__(self, client: HttpClient, url: str, what: str, size: int | None) -> None:
        self.spliced = False
        self._client = client
        self._url = url
        self._what = what
        self._size = size
        self._received = 0
        self._digest = hashlib.sha256()  # of the bytes received: a response from the start must begin with them
        self._validator: dict[str, str] = {}
        self._response = self._checked(client.ask(url, what, {}))
        self._total = self._promised()

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file until it is complete."""
        try:
            yield from self._chunks()
        except MirrorError:
            self.spliced = False  # the transfer failed, not the check of the content
            raise

    def _chunks(self) -> Iterator[bytes]:
        waits = iter(RETRY_SECONDS)
        progress = 0
        broken = False
        while True:
            begin = self._received
            try:
                if broken:
                    self._continue()
                while chunk := self._response.read1(CHUNK_BYTES):
                    self._received += len(chunk)
                    self._digest.update(chunk)
                    yield chunk
                if self._total is None or self._received == self._total:
                    return
                if self._received > self._total:
                    raise ChangedError(f"{self._what}: the server sent more bytes than it announced")
                raise ProtocolError  # a truncated body without a length, or a part of the requested range
            except HTTPError as error:
                broken = True
                progress += self._received - begin
                if progress >= _FRESH_TRIES_BYTES:
                    progress, waits = 0, iter(RETRY_SECONDS)
                wait = next(waits, None)
                if wait is None or not isinstance(error, ProtocolError) or not self._client.wait(wait):
                    raise MirrorError(f"{self._what}: {_explained(error)}") from None

    def end(self) -> None:
        """Close the response. Its connection stays open if the body was read to its end."""
        self._client.let_go(self._response)

    def _checked(self, response: urllib3.BaseHTTPResponse) -> urllib3.BaseHTTPResponse:
        if response.status != http.client.OK:
            self._client.let_go(response)
            raise MirrorError(f"{self._what}: {_said(response.status)}")
        self._validator = _strong_validator(response)
        return response

    def _promised(self) -> int | None:
        """Return the length of the body, or `None` if it is sent in chunks, which mark its end."""
        headers = self._response.headers
        if headers.get("Transfer-Encoding", "").strip().lower() == "chunked":
            return None
        if self._size is None:
            problem = None
            if self._response.length_remaining is None or "Transfer-Encoding" in headers:
                problem = "has no length and may be truncated; fix: let the server send Content-Length or chunks"
            elif headers.get("Content-Encoding", "identity").lower() != "identity":
                problem = (
                    "is compressed, which was not requested; fix: turn off compression for this file on the server"
                )
            if problem:
                self.end()
                raise MirrorError(f"{self._what}: the response {problem}")
        return self._size if self._response.length_remaining is None else self._response.length_remaining

    def _continue(self) -> None:
        """Request the missing bytes, or the whole file if the server cannot resume."""
        self.end()
        # Without a validator, the pieces may be of two versions. Only a caller that verifies the content may join them.
        if self._received and (self._validator or self._size is not None):
            range_ = {"Range": f"bytes={self._received}-"}
            self._response = self._client.ask(self._url, self._what, range_ | self._validator)
            if self._response.status == http.client.PARTIAL_CONTENT and self._fits():
                self.spliced = True
                return
            if self._response.status != http.client.OK:
                self._client.let_go(self._response)
                self._response = self._client.ask(self._url, self._what, {})
        else:
            self._response = self._client.ask(self._url, self._what, {})
        self._checked(self._response)
        self._total = self._promised()
        self._skip_received()

    def _fits(self) -> bool:
        """Return whether a partial response starts where the last one stopped, in the same version of the file."""
        match = _CONTENT_RANGE.fullmatch(self._response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != self._received or int(match[2]) < self._received:
            return False
        if self._total not in {None, int(match[3])}:
            return False
        asked = self._validator.get("If-Range", "")
        if asked.startswith('"') and self._response.headers.get("ETag", asked) != asked:
            return False
        self._total = int(match[3])
        return True

    def _skip_received(self) -> None:
        """Read up to where the last response stopped, and check that these bytes are the same."""
        digest = hashlib.sha256()
        left = self._received
        while left and (chunk := self._response.read1(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if digest.digest() != self._digest.digest():
            raise ChangedError(f"{self._what}: the file changed during the download")


def _strong_validator(response: urllib3.BaseHTTPResponse) -> dict[str, str]:
    """Return the `If-Range` header for the version of a file, or nothing if no header identifies it reliably."""
    etag = response.headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):
        return {"If-Range": etag}
    modified, date = response.headers.get("Last-Modified", ""), response.headers.get("Date", "")
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        # RFC 9110, 8.8.2.2: a file may change twice within one second.
        if (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= 1:
            return {"If-Range": modified}
    return {}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _authorization(url: str) -> dict[str, str]:
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    name, _, password = user.partition(":")
    credentials = f"{unquote(name)}:{unquote(password)}".encode()
    return {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"} if at else {}


def _redirected(url: str, location: str, what: str) -> str:
    try:
        parts = urlsplit(urljoin(url, location))
        _ = parts.port  # an invalid one raises
    except ValueError:
        raise MirrorError(f"{what}: the server redirects to an invalid URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise MirrorError(f"{what}: the server redirects to a URL that is neither http nor https")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise MirrorError(f"{what}: the server redirects from https to http, which is not safe")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _retry_after(response: urllib3.BaseHTTPResponse) -> int:
    asked = response.headers.get("Retry-After", "")
    return min(int(asked), MAX_RETRY_AFTER_SECONDS) if re.fullmatch("[0-9]{1,9}", asked) else 0


def _said(status: int, who: str = "server") -> str:
    who = "proxy" if status == http.client.PROXY_AUTHENTICATION_REQUIRED else who
    name = f"{status} {http.client.responses.get(status, '')}".rstrip()
    return f"the {who} responded with {name}{_STATUS_HINTS.get((who, status), '')}"


def _explained(error: HTTPError) -> str:
    """Return why a request failed, without the error's own text, which may contain a secret."""
    proxy = " to the proxy" if isinstance(error, ProxyError) else ""
    cause: BaseException = error.original_error if isinstance(error, ProxyError) else error
    if isinstance(cause.__cause__, TooSlowError):
        return str(cause.__cause__)
    if isinstance(cause, NewConnectionError) and isinstance(cause.__cause__, OSError) and cause.__cause__.strerror:
        return f"no connection{proxy}: {cause.__cause__.strerror}"
    if proxy:
        status = re.search("Tunnel connection failed: ([0-9]{3})", str(cause))
        return _said(int(status[1]), "proxy") if status else "no connection to the proxy"
    for kind, reason in _REASONS.items():
        if isinstance(cause, kind):
            return reason.format(cause)
    return f"the request failed ({type(cause).__name__})"
