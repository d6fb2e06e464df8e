"""Requests to the REST API of a Pulp 3 server, in a session."""

import base64
import json
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from pulp_hooks.errors import PulpError
from pulp_hooks.hosts.connections import Connections
from pulp_hooks.settings.model import PulpSettings
from pulp_hooks.text import printable, shortened_repr

OLDEST_VERSION = (3, 33)
"""The first release whose lists take the filter `q`."""

_FIRST_WITH_SESSIONS = (3, 70)

CONNECT_SECONDS = 5.0
READ_SECONDS, _LONGEST_READ_SECONDS = 3.0, 60.0
"""How long to wait for an answer. A hanging request is given up soon, and a server that is slow has more time."""

_MIN_SPEED = 1000
"""Bytes per second; a server that sends its answers drop by drop is given up."""

MOST_BYTES = 2**27
_SESSION = "sessionid"
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_REASONS: dict[type[Exception], str] = {
    ConnectTimeoutError: f"no connection within {CONNECT_SECONDS:g} seconds",
    ProtocolError: "the connection was closed",
}
DEFAULT_DOMAIN = "default"
_PORTS = {"http": 80, "https": 443}


class NotShownError(PulpError):
    """The server does not have what was asked for, or the user may not see it."""


class _PassingError(PulpError):
    """A failure that may be over with the next request."""


class PulpClient:
    """Asks one domain of one server. It logs in when it needs to, and once more if its session has ended.

    A password costs the server 220 ms of CPU with each request, a session does not.

    Args:
        settings: The server, with its password resolved.
        domain: Name of the domain.

    Attributes:
        name: What messages call the server: its name, and `@` with that of the domain unless it is the default one.
        time: The server's time, from the head of its latest answer; null if it does not tell.
    """

    def __init__(self, settings: PulpSettings, domain: str) -> None:
        self.name = settings.name if domain == DEFAULT_DOMAIN else f"{settings.name}@{domain}"
        self.time: datetime | None = None
        self._root = api_root(settings.url)
        self._api = f"{self._root}api/v3/"
        self._domain = domain
        self._password = _basic(settings.username, settings.password)
        self._authorization: dict[str, str] | None = None
        self._has_sessions = False
        self._read_seconds = READ_SECONDS
        self._connections = Connections(
            urllib3.Timeout(connect=CONNECT_SECONDS),
            _MIN_SPEED,
            PulpError,
            ca_certs=settings.ca_path,
            cert_file=settings.client_certificate,
            key_file=settings.client_key,
        )

    def connect(self) -> dict[str, Any]:
        """Check version and domain of the server, log in, and return the server's status.

        Raises:
            PulpError: The server does not answer, is too old, has no such domain, or refuses the user.
        """
        try:
            status: dict[str, Any] = self._read(self._ask("GET", f"{self._root}api/v3/status/", {}))
        except NotShownError:
            raise _error("shows no status page", "check the URL") from None
        version = core_version(status)
        if version is None:
            raise _error("is not a Pulp 3 server: its status names no version of `core`", "check the URL")
        if _numbers(version) < OLDEST_VERSION:
            oldest = ".".join(map(str, OLDEST_VERSION))
            raise _error(f"has pulpcore {version}, which is too old", f"upgrade it to {oldest} or later")
        self._has_sessions = _numbers(version) >= _FIRST_WITH_SESSIONS
        if status.get("domain_enabled"):
            self._api = f"{self._root}{self._domain}/api/v3/"
        elif self._domain != DEFAULT_DOMAIN:
            raise _error(
                f"has no domains, so none named {self._domain!r}", "remove `domains` from its settings, or --domain"
            )
        self._log_in()
        return status

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON that the server answers a GET request with.

        Args:
            path: Path below the API root, such as `tasks/`; or an absolute one, such as an href of the server.
            parameters: Parameters of the query.

        Raises:
            NotShownError: The server does not have it, or the user may not see it.
            PulpError: The server does not answer, refuses the user, or its answer is not JSON.
        """
        url = self._absolute(path) if path.startswith("/") else f"{self._api}{path}"
        if parameters:
            url = f"{url}?{urlencode(parameters)}"
        try:
            return self._get(url)
        except _PassingError:
            # Most failures hit one request. To repeat it alone is cheaper than to look anew after a pause.
            return self._get(url)

    def _get(self, url: str) -> Any:  # noqa: ANN401 - any JSON
        had_session = self._authorization is not None
        if not had_session:
            self._log_in()
        response = self._ask("GET", url, self._authorization or {})
        if response.status in _REFUSED and had_session:
            # The session has ended, or an upgrade of the server has ended all sessions.
            self._log_in()
            response = self._ask("GET", url, self._authorization or {})
        return self._read(response)

    def clock_difference(self) -> float | None:
        """Return how far the server's clock is ahead, in seconds; 0 within a second, null if the server does not tell.

        Raises:
            PulpError: The server does not answer.
        """
        before = time.time()
        self._ask("GET", f"{self._root}api/v3/status/", {})
        after = time.time()
        if self.time is None:
            return None
        date = self.time.timestamp()
        # The head of an answer has whole seconds, and the answer was made at some time between the two.
        return max(0.0, date - after) or min(0.0, date + 1 - before)

    def close(self) -> None:
        """Close the connections."""
        self._connections.clear()

    def _log_in(self) -> None:
        self._authorization = {}
        if not self._password:
            return
        response = self._ask("POST", f"{self._api}login/", self._password)
        if response.status in _REFUSED:
            self._authorization = None
            raise _wrong_password()
        if response.status == HTTPStatus.NOT_FOUND and self._has_sessions:
            self._authorization = None
            raise _error(f"has no domain {self._domain!r}", "check `domains`, or --domain")
        if response.status == HTTPStatus.NOT_FOUND:
            self._authorization = self._password
            return
        self._read(response)
        session = _cookie(response.headers.getlist("Set-Cookie"))
        self._authorization = {"Cookie": f"{_SESSION}={session}"} if session else self._password

    def _ask(self, method: str, url: str, headers: Mapping[str, str]) -> "_Answer":
        """Return the answer to a request.

        Raises:
            PulpError: There is none, or it is too long.
        """
        manager = self._connections.manager(url, self.name)
        headers = {"Accept": "application/json", **headers}
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=self._read_seconds)
        began = time.monotonic()
        try:
            response = manager.request(
                method, url, headers=headers, timeout=timeout, preload_content=False, redirect=False
            )
            try:
                body = response.read(MOST_BYTES)
                is_whole = len(body) < MOST_BYTES
            finally:
                # A connection whose answer was read to its end is in the pool by now, and stays open.
                response.close()
        except SSLError as error:
            raise _error(f"has no secure connection: {printable(str(error))}", "check `url` and `ca_path`") from None
        except ReadTimeoutError:
            waited, self._read_seconds = self._read_seconds, min(2 * self._read_seconds, _LONGEST_READ_SECONDS)
            raise _error(f"does not answer: nothing came for {waited:g} seconds", kind=_PassingError) from None
        except (HTTPError, OSError, ValueError) as error:
            raise _error(f"does not answer: {_reason(error)}", kind=_PassingError) from None
        self._read_seconds = max(READ_SECONDS, 2 * (time.monotonic() - began))
        self.time = _date(response.headers)
        if not is_whole:
            raise _error(f"sent an answer of more than {MOST_BYTES} bytes")
        return _Answer(response.status, response.headers, body)

    def _read(self, answer: "_Answer") -> Any:  # noqa: ANN401 - any JSON
        status = answer.status
        if status == HTTPStatus.NOT_FOUND:
            raise NotShownError("the server does not have it (404)")
        if status in _REFUSED and not self._password:
            raise _error(f"asks who you are ({status})", "set `username` and `password`")
        if status == HTTPStatus.UNAUTHORIZED:
            # Servers without sessions check the password with each request.
            raise _wrong_password()
        if status in _REFUSED:
            raise NotShownError(
                f"the server refuses the user ({status}); fix: see its rights by `pulp-hooks watch --check`"
            )
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            # A query may have a secret in it.
            place = printable(answer.headers.get("Location", "").partition("?")[0])
            raise _error(f"redirects to {shortened_repr(place)}", "set `url` to where the server is")
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise _error(f"answers with status {status}", kind=_PassingError)
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise _error(
                "does not answer with JSON", "check the URL, and the server's log", kind=_PassingError
            ) from None

    def _absolute(self, path: str) -> str:
        parts = urlsplit(self._root)
        return f"{parts.scheme}://{parts.netloc}{path}"


def results(answer: object) -> list[dict[str, Any]]:
    """Return the rows of a list that a server answers with; without those that have no href.

    Raises:
        PulpError: It is not a list.
    """
    rows = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise PulpError("the server does not answer with a list; fix: check the URL")
    # One row that is none must not hold up the others.
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("pulp_href"), str)]


def _error(what: str, fix: str | None = None, *, kind: type[PulpError] = PulpError) -> PulpError:
    return kind(f"the server {what}" + (f"; fix: {fix}" if fix else ""))


def _wrong_password() -> PulpError:
    return _error("refuses the user name or the password", "check `username` and `password`")


def _reason(error: Exception) -> str:
    """Return why a request failed, without the error's own text, which has names of Python objects in it."""
    cause = error.__cause__
    if isinstance(error, NewConnectionError) and isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    return printable(str(cause or error))


class _Answer(NamedTuple):
    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes


def api_root(url: str) -> str:
    """Return the URL of a server's API root, with a slash at its end, in one spelling.

    Without a path it is `/pulp/`, the default of Pulp.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port and parts.port != _PORTS[parts.scheme] else ""
    path = parts.path.rstrip("/").removesuffix("/api/v3") or "/pulp"
    return f"{parts.scheme}://{host}{port}{path}/"


def core_version(status: Mapping[str, Any]) -> str | None:
    """Return the version of pulpcore that the status of a server names; null if it names none."""
    return component_versions(status).get("core")


def component_versions(status: Mapping[str, Any]) -> dict[str, str]:
    """Return the version of each component that the status of a server names."""
    versions = status.get("versions") if isinstance(status, Mapping) else None
    found = [one for one in versions if isinstance(one, Mapping)] if isinstance(versions, list) else []
    return {str(one.get("component")): str(one.get("version")) for one in found}


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _basic(username: str | None, password: object) -> dict[str, str]:
    if username is None:
        return {}
    credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def _cookie(headers: list[str]) -> str | None:
    """Return the session that these `Set-Cookie` headers set; null if none does."""
    for header in headers:
        try:
            cookie = SimpleCookie(header)
        except CookieError:
            continue
        if _SESSION in cookie:
            return cookie[_SESSION].coded_value
    return None
