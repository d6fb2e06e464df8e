"""GET from web servers: tries again where that may help, follows redirects, keeps a password to its own server.

The loops are our own rather than urllib3's: those log whole URLs (a signed one, to which a server redirects, is a
secret), sleep through `close()`, and go on from https to http.
"""

import base64
import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from pulp_hooks.errors import MirrorError

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
RETRY_SECONDS = (0.2, 0.5, 1.0)  # the waits between four tries
MAX_RETRY_AFTER_SECONDS = 10  # the longest wait that a server may ask for
MAX_REDIRECTS = 5

_CONNECTIONS = 8  # to one server, kept for the next files
_CHUNK_BYTES = 2**18
_DRAINED_BYTES = 2**16  # an unwanted body up to this size is read, so that its connection can be used again
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REASONS: dict[type[HTTPError], str] = {
    ConnectTimeoutError: f"no connection within {CONNECT_SECONDS:g} seconds",
    ReadTimeoutError: f"the server sent nothing for {READ_SECONDS:g} seconds",
    SSLError: "no secure connection: {}",
    ProtocolError: "the server cut the connection",
}


class HttpClient:
    """Reads files of one server, and of those that it redirects to; many threads may use it at once.

    Args:
        url: An address on the server; a user name and password in it are sent to its scheme, host and port alone.
    """

    def __init__(self, url: str) -> None:
        self._origin = _origin(url)
        self._authorization = _authorization(url)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._responses: set[urllib3.BaseHTTPResponse] = set()
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, timeout=timeout, retries=False)

    @contextmanager
    def get(self, url: str, what: str) -> Iterator[Iterator[bytes]]:
        """Ask for a file, and give its bytes as they come, in chunks.

        Args:
            url: Its address.
            what: How messages call it.

        Raises:
            MirrorError: The file cannot be had, its transfer broke off, or the client was closed.
        """
        response = self._follow(url, what)
        try:
            if response.status != http.client.OK:
                raise MirrorError(f"{what}: {_said(response.status)}")
            yield _chunks(response, what)
        finally:
            self._let_go(response)

    def close(self) -> None:
        """End every transfer at once: threads that wait for data go on with an error, and nothing new begins."""
        self._closed.set()
        with self._lock:
            for response in self._responses:
                with suppress(ValueError, RuntimeError, OSError):  # it has come to its end in this moment
                    response.shutdown()
        self._pool.clear()

    def _follow(self, url: str, what: str) -> urllib3.BaseHTTPResponse:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(url, what)
            location = response.get_redirect_location()
            if not location:
                return response
            self._let_go(response, drain=True)
            url = _redirected(url, location, what)
        raise MirrorError(f"{what}: more than {MAX_REDIRECTS} redirects")

    def _ask(self, url: str, what: str) -> urllib3.BaseHTTPResponse:
        waits = iter(RETRY_SECONDS)
        while True:
            wait = next(waits, None)
            try:
                response = self._ask_once(url, what)
            except HTTPError as error:
                # Worth another try is a connection that never came about, or was dropped before it gave an answer.
                if wait is None or not isinstance(error, ConnectTimeoutError | ProtocolError):
                    raise MirrorError(f"{what}: {_explained(error)}") from None  # its own text may hold a secret
            else:
                if wait is None or response.status not in _PASSING_STATUSES:
                    return response
                wait = _retry_after(response) or wait
                self._let_go(response, drain=True)
            self._closed.wait(wait)

    def _ask_once(self, url: str, what: str) -> urllib3.BaseHTTPResponse:
        headers = {"Accept-Encoding": "identity"}
        if _origin(url) == self._origin:
            headers |= self._authorization
        if not self._closed.is_set():
            response = self._pool.request(
                "GET", url, headers=headers, preload_content=False, decode_content=False, redirect=False
            )
            with self._lock:
                self._responses.add(response)
            if not self._closed.is_set():
                return response
            self._let_go(response)
        raise MirrorError(f"{what}: the transfer was stopped")

    def _let_go(self, response: urllib3.BaseHTTPResponse, *, drain: bool = False) -> None:
        if drain and response.length_remaining is not None and response.length_remaining <= _DRAINED_BYTES:
            response.drain_conn()
        with self._lock:
            self._responses.discard(response)
        response.close()  # one that was read to its end has given its connection back, which stays open


def _chunks(response: urllib3.BaseHTTPResponse, what: str) -> Iterator[bytes]:
    try:
        while chunk := response.read1(_CHUNK_BYTES):
            yield chunk
    except HTTPError as error:
        raise MirrorError(f"{what}: {_explained(error)}") from None  # its own text may hold a secret


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
        _ = parts.port  # a wrong one raises
    except ValueError:
        raise MirrorError(f"{what}: the server redirects to what is no URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise MirrorError(f"{what}: the server redirects to a URL that is neither http nor https")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise MirrorError(f"{what}: the server redirects from https to http, which is not safe")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _retry_after(response: urllib3.BaseHTTPResponse) -> int:
    asked = response.headers.get("Retry-After", "")
    return min(int(asked), MAX_RETRY_AFTER_SECONDS) if re.fullmatch("[0-9]{1,9}", asked) else 0


def _said(status: int) -> str:
    hint = (
        "; give a user name and password as in https://user:password@host/"
        if status == http.client.UNAUTHORIZED
        else ""
    )
    return f"the server answers {status} {http.client.responses.get(status, '')}".rstrip() + hint


def _explained(error: HTTPError) -> str:
    if isinstance(error, NewConnectionError) and isinstance(error.__cause__, OSError) and error.__cause__.strerror:
        return f"no connection: {error.__cause__.strerror}"
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason.format(error)
    return f"the request cannot be made ({type(error).__name__})"
