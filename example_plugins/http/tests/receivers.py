"""A real HTTP server, with or without TLS, whose answers a test chooses."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Received:
    """A request, as it was received."""

    line: str
    headers: dict[str, str]
    content: bytes


Answer = Callable[[socket.socket, Received], None]


def answering(status: str = "204 No Content", content: bytes = b"", **headers: str) -> Answer:
    """Return an answer with this status, content and headers; a blank in a name is written as `_`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    answer = "\r\n".join([*lines, "", ""]).encode() + content
    return lambda connection, _: connection.sendall(answer)


@dataclass
class Receiver:
    """A server on loopback.

    Attributes:
        answers: What it does with the next requests, in turn; the last one stays.
        requests: What it has received.
        connections: How many connections were made to it, TLS included.
    """

    context: ssl.SSLContext | None = None
    answers: list[Answer] = field(default_factory=lambda: [answering()])
    requests: list[Received] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, path: str = "/hook", host: str = "localhost") -> str:
        """Return the URL of a path."""
        return f"{'https' if self.context else 'http'}://{host}:{self.port}{path}"

    def close(self) -> None:
        """Close every connection."""
        # Only a shutdown wakes a thread that waits for a connection.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(plain)
            thread = threading.Thread(target=self._serve, args=(plain,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain:
            if self.context is None:
                self._converse(plain)
            else:
                with self.context.wrap_socket(plain, server_side=True) as secure:
                    self._open.append(secure)
                    self._converse(secure)

    def _converse(self, connection: socket.socket) -> None:
        self.connections += 1
        with connection.makefile("rb") as incoming:
            while line := incoming.readline():
                headers = {}
                while (header := incoming.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                content = incoming.read(int(headers.get("content-length", 0)))
                received = Received(line.decode().strip(), headers, content)
                self.requests.append(received)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                answer(connection, received)


@dataclass
class Authority:
    """A certification authority of the tests.

    Attributes:
        path: File with its certificate.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.ca = trustme.CA()
        self.path = str(self.folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.path)

    def context(self, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """Return what a server needs; by default with a certificate for localhost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (certificate or self.ca.issue_cert("localhost")).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return a new certification authority."""
    return Authority(tmp_path)


@pytest.fixture
def receiving() -> Iterator[Callable[[ssl.SSLContext | None], Receiver]]:
    """Return a function that starts a server."""
    started: list[Receiver] = []

    def start(context: ssl.SSLContext | None) -> Receiver:
        started.append(Receiver(context))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


@pytest.fixture
def receiver(receiving: Callable[[ssl.SSLContext | None], Receiver], authority: Authority) -> Receiver:
    """Return a server with TLS and a valid certificate."""
    return receiving(authority.context())
