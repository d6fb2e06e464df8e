"""Connections to one endpoint: to addresses that were checked, kept open between events, with one deadline for all."""

import io
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, cast

from pulp_hooks_http.addresses import Address, AddressRefusedError, Network, is_allowed, is_inside, resolve
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

_CONNECT_SECONDS = 5.0
_MOST_KEPT = 8
_KEEP_SECONDS = 30.0
"""Servers close connections that are idle for longer."""

MAX_RESPONSE_BYTES = 4096
"""How much of a response is read."""

_PIECE = 65_536
_SWITCHING = 101


@dataclass(frozen=True, slots=True)
class Response:
    """What an endpoint answered.

    Attributes:
        status: The status code.
        reason: The reason phrase.
        headers: The headers, in their order.
        body: The start of the body, as it was sent.
        address: The address that answered, with its port.
    """

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to an endpoint.

    Attributes:
        method: The method.
        target: Path and query.
        headers: The headers, `Host` included.
        content: The body.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes


class SendError(Exception):
    """A request that got no response."""


class Endpoint:
    """A server, to which any number of threads may send requests.

    Args:
        host: Its name or address.
        port: Its port.
        context: How TLS is verified; null for plain HTTP, which is only spoken to addresses in `allow`.
        allow: Networks that may be connected to besides the internet.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, allow: Sequence[Network]) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._allow = allow
        # Appending to a list and popping from it need no lock, which an interrupted thread could leave locked.
        self._kept: list[_Connection] = []

    def send(self, request: Request, seconds: float) -> Response:
        """Send a request, and return the response.

        Args:
            request: The request.
            seconds: How long all of it may take: name service, connection, TLS, request and response.

        Raises:
            AddressRefusedError: The host has no address that may be connected to.
            SendError: There was no response, or it was cut off or too slow.
        """
        deadline = time.monotonic() + seconds
        kept = self._take()
        if kept is not None:
            try:
                return self._exchange(kept, request, deadline)
            except SendError:
                # The server may have closed the connection at the same time.
                if kept.has_received or time.monotonic() >= deadline:
                    raise
        return self._exchange(self._connect(deadline), request, deadline)

    def close(self) -> None:
        """Close the connections that were kept."""
        while self._kept:
            self._kept.pop().close()

    def _take(self) -> "_Connection | None":
        while self._kept:
            try:
                kept = self._kept.pop()
            except IndexError:  # another thread was quicker
                break
            if kept.is_usable:
                return kept
            kept.close()
        return None

    def _connect(self, deadline: float) -> "_Connection":
        """Connect to the first address that may be connected to and answers."""
        patience = min(deadline, time.monotonic() + _CONNECT_SECONDS)
        try:
            addresses = resolve(self._host, patience - time.monotonic())
        except OSError as error:
            raise SendError(f"{self._host} has no address: {error.strerror or error}") from error
        allowed = [address for address in addresses if self._may_connect(address)]
        if not allowed:
            raise AddressRefusedError(
                f"{self._host} has no address that may be connected to; fix: if it is meant to be inside of your "
                "network, add its network to `allow`"
            )
        failure: Exception | None = None
        for address in allowed:
            if failure is not None and time.monotonic() >= patience:
                break
            try:
                return self._connect_to(address, patience)
            except (OSError, HTTPError) as error:
                failure = error
        raise SendError(f"{self._host} cannot be connected to: {_said(failure)}") from failure

    def _may_connect(self, address: Address) -> bool:
        return is_inside(address, self._allow) if self._context is None else is_allowed(address, self._allow)

    def _connect_to(self, address: Address, deadline: float) -> "_Connection":
        host, port = str(address), self._port
        plain = HTTPConnection(host, port, timeout=max(0.001, deadline - time.monotonic()))
        plain.response_class = _FinalResponse
        try:
            plain.connect()
            if self._context is not None:
                # The handshake has what connecting has left of the time.
                cast("Any", plain.sock).settimeout(max(0.001, deadline - time.monotonic()))
                plain.sock = cast("Any", self._context.wrap_socket(cast("Any", plain.sock), server_hostname=self._host))
        except BaseException:
            plain.close()
            raise
        return _Connection(plain, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _exchange(self, connection: "_Connection", request: Request, deadline: float) -> Response:
        is_kept = False
        try:
            response = connection.exchange(request, deadline)
            is_kept = connection.is_reusable and len(self._kept) < _MOST_KEPT
        except (TimeoutError, UrllibTimeoutError) as error:
            raise SendError("no complete response came in time") from error
        except (OSError, HTTPError, HTTPException, ValueError) as error:
            raise SendError(f"the connection failed: {_said(error)}") from error
        finally:
            if not is_kept:
                connection.close()
        self._kept.append(connection)
        return response


class _Connection:
    """An open connection, for one request at a time.

    Attributes:
        has_received: Whether a part of the response to the last request has come.
        is_reusable: Whether the last response was read to its end, and the server keeps the connection.
    """

    def __init__(self, connection: HTTPConnection, address: str) -> None:
        self._connection = connection
        self._address = address
        self._used = time.monotonic()
        self.is_reusable = False
        self._socket = _TimedSocket(connection.sock)
        connection.sock = cast("Any", self._socket)

    @property
    def has_received(self) -> bool:
        return self._socket.has_received

    @property
    def is_usable(self) -> bool:
        """Whether the connection is young enough, and the server has neither closed it nor said more than it should."""
        pending = getattr(self._socket.plain, "pending", int)
        is_young = time.monotonic() - self._used < _KEEP_SECONDS
        return is_young and not pending() and self._connection.is_connected

    def close(self) -> None:
        self._connection.close()

    def exchange(self, request: Request, deadline: float) -> Response:
        """Send a request, and return the response.

        Raises:
            OSError, HTTPError, HTTPException: There was none, or it was invalid.
        """
        self.is_reusable = False
        self._socket.begin(deadline)
        connection = self._connection
        connection.request(
            request.method,
            request.target,
            body=request.content,
            headers=request.headers,
            preload_content=False,
            decode_content=False,
        )
        self._socket.flush()
        response = connection.getresponse()
        # Compressed content stays compressed: a few bytes could become gigabytes.
        body = b""
        while piece := response.read(MAX_RESPONSE_BYTES + 1 - len(body), decode_content=False):
            body += piece
        self._used = time.monotonic()
        is_final = response.status != _SWITCHING
        self.is_reusable = is_final and len(body) <= MAX_RESPONSE_BYTES and connection.sock is not None
        headers = list(response.headers.items())
        return Response(response.status, response.reason or "", headers, body[:MAX_RESPONSE_BYTES], self._address)


class _FinalResponse(HTTPResponse):
    """A response after those that are only interim, such as 103 (RFC 9110, section 15.2).

    The standard library skips 100 alone, and would take the final response for that to the next request.
    """

    def begin(self) -> None:
        """Read status and headers."""
        super().begin()
        while 100 < self.status < 200 and self.status != _SWITCHING:  # noqa: PLR2004 - the interim ones
            self.headers = self.msg = cast("Any", None)
            super().begin()


class _TimedSocket:
    """A socket of which no wait goes beyond the deadline of the request.

    A timeout of a socket begins anew with each byte, so that a server could keep a request busy for hours.

    What is sent is kept until `flush`: the headers and the body of a request are then one record of TLS, not two.
    """

    def __init__(self, plain: Any) -> None:  # noqa: ANN401 - a socket, with TLS or without
        self.plain = plain
        self.has_received = False
        self._deadline = 0.0
        self._unsent = bytearray()

    def begin(self, deadline: float) -> None:
        """Begin a request with this deadline."""
        self._deadline = deadline
        self.has_received = False

    def settimeout(self, _seconds: float | None) -> None:
        """Keep the deadline, whatever timeout a library sets."""

    def limit(self) -> None:
        """Let the next wait last until the deadline.

        Raises:
            TimeoutError: It has passed.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.plain.settimeout(left)

    def makefile(self, *_args: object, **_options: object) -> io.BufferedReader:
        """Return a file to read the response from."""
        return io.BufferedReader(_TimedReader(self))

    def sendall(self, content: bytes) -> None:
        """Keep the content until `flush`."""
        self._unsent += content

    def flush(self) -> None:
        """Send everything that was kept."""
        rest, self._unsent = memoryview(self._unsent), bytearray()
        while rest:
            self.limit()
            rest = rest[self.plain.send(rest[:_PIECE]) :]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a socket has
        return getattr(self.plain, name)


class _TimedReader(io.RawIOBase):
    """Reads from a socket, each time within the deadline."""

    def __init__(self, timed: _TimedSocket) -> None:
        self._timed = timed
        self._file = timed.plain.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - a buffer
        self._timed.limit()
        number: int | None = self._file.readinto(buffer)
        self._timed.has_received |= bool(number)
        return number

    def close(self) -> None:
        self._file.close()
        super().close()


def _said(error: BaseException | None) -> str:
    """Return what the operating system or OpenSSL said, without what the libraries have wrapped around it."""
    while error is not None and (error.__cause__ or error.__context__) is not None:
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
