"""A session with an SMTP server: over verified TLS, within a time limit, and with a record of the replies."""

import base64
import io
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MAX_BYTES = 2**20
"""How much a server may say in a session."""

_MAX_REPLY = 300
"""How many characters of a reply are kept."""

_QUIT_SECONDS = 2.0
"""How long the server may take to say goodbye, when all is done."""

_CHUNK = 2**14

_CLOSING = 421
_TOO_LARGE = 552


class Security(StrEnum):
    """How a connection is encrypted.

    Attributes:
        STARTTLS: It begins in plain text and must change to TLS before anything else.
        TLS: It begins with TLS.
        NONE: It is not.
    """

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


PORTS = {Security.STARTTLS: 587, Security.TLS: 465, Security.NONE: 25}
"""The usual port for each."""


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server, and how to speak with it.

    Attributes:
        host: Name or address; a certificate has to be valid for it.
        port: Port.
        security: How the connection is encrypted.
        context: The certificates that are trusted; null without encryption.
        login: User name and password; null to send without.
    """

    host: str
    port: int
    security: Security
    context: ssl.SSLContext | None = field(repr=False)
    login: tuple[str, str] | None = field(repr=False)


class Deadline:
    """The end of a time limit.

    Args:
        seconds: The time limit.
    """

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether it is over."""
        return monotonic() >= self._end

    def left(self) -> float:
        """Return how many seconds are left.

        Raises:
            TimeoutError: None.
        """
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError("the time limit is over")
        return left

    def shorten(self, seconds: float) -> None:
        """Let it be over after so many seconds, if not before."""
        self._end = min(self._end, monotonic() + seconds)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the server.

    Attributes:
        to: What it replies to.
        code: The code; -1 if the reply has none.
        text: The text, on one line of printable characters.
    """

    to: str
    code: int
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.to, str(self.code), self.text) if part)

    @property
    def is_permanent(self) -> bool:
        """Whether the server will never take this message for this recipient.

        What it says of the sender is about the configuration, which can be fixed, except that a message is too large.
        """
        return self.code == _TOO_LARGE or (500 <= self.code < 600 and self.to in {"RCPT", "DATA", "message"})  # noqa: PLR2004 - the codes that begin with 5


class RefusedError(Exception):
    """The server refused something.

    Attributes:
        reply: How.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class EncryptionError(Exception):
    """The server does not encrypt, or offers no way to log in."""


FAILURES = (OSError, smtplib.SMTPException, RefusedError, EncryptionError)
"""What the methods of a session raise."""


class Session(smtplib.SMTP):
    """A session with a server. It is used once, and closed whatever happens.

    Args:
        server: The server.
        deadline: When it must be over, however slowly the name service and the server reply.

    Attributes:
        replies: The server's replies so far.
        tls: The version of TLS; null before encryption.
    """

    sock: socket.socket | None

    def __init__(self, server: Server, deadline: Deadline) -> None:
        # Without a name of its own `smtplib` looks up that of this machine, which may take long.
        super().__init__(local_hostname="localhost")
        self.replies: list[Reply] = []
        self.tls: str | None = None
        self._server = server
        self._deadline = deadline
        self._in_message = False
        username, password = server.login or ("", "")
        # The longest first: it contains the end of the others.
        secrets = [_plain(username, password), _base64(password), password] if password else []
        self._secrets = [secret.encode() for secret in secrets]

    @property
    def is_open(self) -> bool:
        """Whether a message can be sent."""
        return self.sock is not None

    def open(self) -> None:
        """Connect, encrypt and log in, as the server's settings say.

        Raises:
            OSError: There is no connection, no time left, or the certificate is invalid.
            smtplib.SMTPException: The server closed the connection, or replied nonsense.
            RefusedError: It refused something.
            EncryptionError: It does not offer what is required.
        """
        server = self._server
        self.sock = _connected(server.host, server.port, self._deadline)
        self.local_hostname = _own_name(self.sock)
        if server.security is Security.TLS:
            self._encrypt()
        else:
            self.file = self._reader()
        self._expect(self._reply("connect"), 220)
        self._greet()
        if server.security is Security.STARTTLS:
            if not self.has_extn("starttls"):
                raise EncryptionError(
                    "the server does not offer STARTTLS, or something on the way hides it; nothing was sent"
                )
            self._ask("STARTTLS", 220)
            self._encrypt()
            self._greet()
        if server.login is not None:
            self._log_in(*server.login)

    def deliver(self, sender: str, recipient: str, content: bytes) -> list[Reply]:
        """Send a message to one recipient, and return the server's replies to it.

        Args:
            sender: Address of the sender.
            recipient: Address of the recipient.
            content: The message, with lines that end in CR LF.

        Raises:
            RefusedError: The server refused it.
            OSError: There is no time left, or the connection failed.
            smtplib.SMTPException: The server closed the connection, or replied nonsense.
        """
        before = len(self.replies)
        if self._in_message:
            self._ask("RSET", 250)
        self._in_message = True
        size = f" SIZE={len(content)}" if self.has_extn("size") else ""
        self._ask("MAIL", 250, f"MAIL FROM:<{sender}>{size}")
        self._ask("RCPT", 250, f"RCPT TO:<{recipient}>", also=251)
        self._ask("DATA", 354)
        self.send(_LINE_DOT.sub(b"..", content) + b".\r\n")
        self._expect(self._reply("message"), 250)
        self._in_message = False
        return self.replies[before:]

    def leave(self) -> None:
        """Say goodbye, if the server is still there, and close the connection. Do not call it within a message."""
        try:
            if self.is_open:
                self._deadline.shorten(_QUIT_SECONDS)
                self.putcmd("QUIT")
                self.getreply()
        except FAILURES:
            pass  # All that mattered was confirmed before.
        finally:
            self.close()

    def send(self, s: Any) -> None:  # noqa: ANN401 - bytes or text, as in `smtplib`
        """Send bytes or ASCII text before the deadline."""
        rest = memoryview(s.encode("ascii") if isinstance(s, str) else s)
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the server closed the connection")
        while rest:
            self.sock.settimeout(self._deadline.left())
            rest = rest[self.sock.send(rest[:_CHUNK]) :]

    def _greet(self) -> None:
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        code, text = self.ehlo()
        self._keep("EHLO", code, text.split(b"\n")[0])
        if not 200 <= code < 300:  # noqa: PLR2004 - the codes that begin with 2
            code, text = self.helo()
            self._expect(self._keep("HELO", code, text), 250)

    def _log_in(self, username: str, password: str) -> None:
        """Log in by PLAIN or LOGIN, which `smtplib` can do in ASCII only; both are safe within TLS."""
        if self.tls is None:
            raise EncryptionError("the password is not sent over a connection without encryption")
        offered = self.esmtp_features.get("auth", "").upper().split()
        if "PLAIN" in offered:
            self._ask("AUTH", 235, f"AUTH PLAIN {_plain(username, password)}")
        elif "LOGIN" in offered:
            self._ask("AUTH", 334, "AUTH LOGIN")
            self._ask("AUTH", 334, _base64(username))
            self._ask("AUTH", 235, _base64(password))
        else:
            raise EncryptionError("the server offers neither AUTH PLAIN nor AUTH LOGIN")

    def _encrypt(self) -> None:
        if self.sock is None or self._server.context is None:
            raise EncryptionError("there is no connection to encrypt")
        self.sock.settimeout(self._deadline.left())
        encrypted = self._server.context.wrap_socket(
            self.sock, server_hostname=self._server.host, do_handshake_on_connect=False
        )
        self.sock = encrypted
        encrypted.do_handshake()
        self.tls = encrypted.version()
        # A new reader: what came before the encryption, from whomever, is dropped.
        self.file = self._reader()

    def _reader(self) -> io.BufferedReader:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the server closed the connection")
        return io.BufferedReader(_Reader(self.sock, self._deadline))

    def _ask(self, name: str, expected: int, line: str = "", *, also: int | None = None) -> None:
        """Send a command and check the reply; `name` is what the record calls it, as the line may be a secret."""
        self.putcmd(line or name)
        self._expect(self._reply(name), expected, also)

    def _reply(self, to: str) -> Reply:
        return self._keep(to, *self.getreply())

    def _keep(self, to: str, code: int, text: bytes) -> Reply:
        # Before the text is cut, and loses blanks and what is not ASCII.
        for secret in self._secrets:
            text = text.replace(secret, b"***")
        reply = Reply(to, code, shown_reply(text))
        self.replies.append(reply)
        return reply

    def _expect(self, reply: Reply, *codes: int | None) -> None:
        if reply.code not in codes:
            if reply.code in {_CLOSING, -1}:
                self.close()
            raise RefusedError(reply)


def shown_reply(text: bytes) -> str:
    """Return a server's text on one line of printable ASCII characters."""
    line = b" ".join(text.split())[:_MAX_REPLY].decode("ascii", "replace")
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in line)


_LINE_DOT = re.compile(rb"^\.", re.MULTILINE)
"""A dot at the start of a line; doubled, it does not end the message."""

_HOST_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


class _Reader(io.RawIOBase):
    """Reads from a socket before a deadline, and not without end."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._most = _MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self._most -= count
        if self._most < 0:
            raise OSError("the server's replies do not end")
        return count


def _connected(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Return a connection to the first of the host's addresses that answers."""
    found = _places_of(host, port, deadline)
    failure: OSError = OSError(f"{host} has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            # An address that does not answer leaves time for the others.
            sock.settimeout(deadline.left() / (len(found) - number))
            sock.connect(address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return sock
    raise failure


def _places_of(host: str, port: int, deadline: Deadline) -> list[Any]:
    """Return what `getaddrinfo` does, unless the deadline comes first."""
    answers: SimpleQueue[list[Any] | OSError] = SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)
        except UnicodeError as error:
            answers.put(OSError(f"{host} cannot be the name of a host: {error}"))

    # A lookup cannot be canceled. The program does not wait for it, not even when it ends.
    Thread(target=look_up, name="pulp_hooks_email lookup", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except Empty:
        raise TimeoutError("the name service did not answer in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _own_name(sock: socket.socket) -> str:
    """Return the name with which to greet the server: that of this machine if it is complete, or else its address."""
    name = socket.gethostname()
    if _HOST_NAME.fullmatch(name):
        return name
    address = str(sock.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _plain(username: str, password: str) -> str:
    return _base64(f"\0{username}\0{password}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
