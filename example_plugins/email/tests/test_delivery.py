"""Delivery to real mail servers on loopback: each recipient has an outcome of its own, and nothing is downgraded."""

import asyncio
import base64
import datetime as dt
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pulp_hooks_email import Email

from pulp_hooks import Hooks, Outcome
from pulp_hooks.testing import drain, example_event, temporary_journal

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text(encoding="utf-8")

LOGIN = ("pulp", "päss wörd-canary")
"""What servers that ask for a login accept."""


@dataclass
class Received:
    """A message, as the server received it."""

    sender: str
    recipients: list[str]
    content: bytes
    is_encrypted: bool
    user: bytes | None

    @property
    def mail(self) -> EmailMessage:
        """The message, parsed."""
        mail = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        return mail


@dataclass
class Post:
    """A real mail server, and what it received.

    Attributes:
        port: Its port.
        inbox: The messages.
        asked: The recipients that clients named.
        replies: For each address the replies to RCPT, one after the other; then it accepts.
        data_replies: The replies to messages, one after the other; then it accepts.
        hangs: Addresses for which it never replies.
    """

    port: int = 0
    inbox: list[Received] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    replies: dict[str, list[str]] = field(default_factory=dict)
    data_replies: list[str] = field(default_factory=list)
    hangs: set[str] = field(default_factory=set)
    drops: set[str] = field(default_factory=set)

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Reply to a recipient."""
        del session, options
        self.asked.append(address)
        if address in self.hangs:
            await asyncio.Event().wait()
        if address in self.drops:
            assert server.transport is not None
            server.transport.abort()  # type: ignore[attr-defined]
        if self.replies.get(address):
            return self.replies[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        """Receive a message."""
        if self.data_replies:
            return self.data_replies.pop(0)
        assert isinstance(envelope.content, bytes)
        assert envelope.mail_from is not None
        is_encrypted = server.transport.get_extra_info("ssl_object") is not None  # type: ignore[union-attr]
        user = session.auth_data.login if isinstance(session.auth_data, LoginPassword) else None
        self.inbox.append(Received(envelope.mail_from, envelope.rcpt_tos, envelope.content, is_encrypted, user))
        return "250 2.0.0 queued as 4711"

    @property
    def recipients(self) -> list[str]:
        """Who has a message, in the order in which they were received."""
        assert all(len(received.recipients) == 1 for received in self.inbox)
        return [received.recipients[0] for received in self.inbox]


@contextmanager
def post_office(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    login: bool = False,
    **options: Any,  # noqa: ANN401 - those of aiosmtpd
) -> Iterator[Post]:
    """Yield a running server."""
    post = Post()

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        del server, session, envelope, mechanism
        assert isinstance(data, LoginPassword)
        ok = (data.login, data.password) == tuple(text.encode() for text in LOGIN)
        return AuthResult(success=ok, handled=ok, auth_data=data)

    if login:
        # aiosmtpd does not count TLS from the beginning as encryption.
        options |= {"authenticator": check, "auth_required": tls is None, "auth_require_tls": tls is None}

    connections: list[SMTP] = []

    def connection() -> SMTP:
        connections.append(
            SMTP(post, hostname="post.example", tls_context=starttls, require_starttls=starttls is not None, **options)
        )
        return connections[-1]

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(connection, "127.0.0.1", 0, ssl=tls))
    post.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield post
    finally:

        async def stop() -> None:
            server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in connections:
                if one.transport is not None:
                    one.transport.abort()  # type: ignore[attr-defined]
            # The sockets are closed in the next rounds of the loop.
            for _ in range(5):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


Script: TypeAlias = Callable[[socket.socket], object]


@contextmanager
def scripted(script: Script) -> Iterator[int]:
    """Yield the port of a server that runs the script for each connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                try:
                    script(connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        ended.set()
        # On Linux this wakes `accept`.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(20)
        assert not thread.is_alive()


@dataclass
class Authority:
    """A CA, and certificates of servers.

    Attributes:
        path: The certificate of the CA.
    """

    path: Path
    _ca: trustme.CA

    def server(self, *names: str, is_expired: bool = False) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names."""
        now = dt.datetime.now(dt.UTC)
        times: dict[str, Any] = {"not_before": now - dt.timedelta(2), "not_after": now - dt.timedelta(1)}
        certificate = self._ca.issue_cert(*names or ("127.0.0.1",), **(times if is_expired else {}))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a CA that only those know who are told."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca = trustme.CA()
    ca.cert_pem.write_to_path(path)
    return Authority(path, ca)


@pytest.fixture
def post() -> Iterator[Post]:
    """Yield a mail server without encryption."""
    with post_office() as post:
        yield post


Offices: TypeAlias = Callable[..., Post]


@pytest.fixture
def offices() -> Iterator[Offices]:
    """Yield a function that starts mail servers."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(post_office(**options))


def notifier(port: int, *addresses: str, **config: object) -> Email:
    """Return a notifier for a server on loopback, without encryption unless the test says so."""
    basis = {"host": "127.0.0.1", "port": port, "security": "none", "from": "Pulp <pulp@example.org>"}
    return Email.configured(**{**basis, "addresses": list(addresses) or ["ann@example.org"], **config})


ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"


def fire(email: Email, **changes: object) -> Outcome:
    """Fire an example event directly, and return the outcome."""
    with Hooks({"mail": email}) as hooks:
        body: dict[str, Any] = {**example_event("repo-sync-finished", **changes).body}
        (outcome,) = hooks.fire("repo-sync-finished", body).outcomes
    return outcome


def statuses(detail: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the status of each recipient in a detail."""
    assert detail is not None
    return {recipient["address"]: recipient["status"] for recipient in detail["recipients"].values()}


class Journaled:
    """A host whose events are delivered through a journal, one attempt after the other.

    Attributes:
        hooks: Its hooks.
    """

    def __init__(self, email: Email, stack: ExitStack) -> None:
        self._journal = stack.enter_context(temporary_journal())
        self._stack = stack
        self.hooks = stack.enter_context(Hooks({"mail": email}, journal=self._journal))

    def restart(self, email: Email) -> None:
        """Go on with another notifier, as a new process has it."""
        self.hooks = self._stack.enter_context(Hooks({"mail": email}, journal=self._journal))

    def attempt(self) -> dict[str, str]:
        """Make the next attempt, and return the status of each recipient."""
        self.hooks.worker().run_once()
        self._journal.end_pauses()
        return statuses(self.detail)

    def replay(self) -> None:
        """Replay the delivery."""
        (delivery,) = self._journal.deliveries().items
        assert self._journal.replay(delivery.event_id, "mail")

    @property
    def detail(self) -> dict[str, Any]:
        """The detail of the last attempt."""
        (delivery,) = self._journal.deliveries().items
        detail: dict[str, Any] = json.loads(self._journal.attempts(delivery.event_id, "mail")[-1].detail or "null")
        return detail

    @property
    def state(self) -> str:
        """The state of the delivery."""
        (delivery,) = self._journal.deliveries().items
        return str(delivery.state)


@pytest.fixture
def journaled() -> Iterator[Callable[[Email], Journaled]]:
    """Yield a function that returns a host with a journal."""
    with ExitStack() as stack:
        yield lambda email: Journaled(email, stack)


Hosts: TypeAlias = Callable[[Email], Journaled]


def test_each_address_gets_a_message_of_its_own(post: Post) -> None:
    """No message names another recipient, and the detail has the server's replies for each."""
    outcome = fire(notifier(post.port, ANN, BOB))
    assert outcome.error is None
    assert post.recipients == [ANN, BOB]
    assert [received.mail["To"] for received in post.inbox] == [ANN, BOB]
    assert {received.sender for received in post.inbox} == {"pulp@example.org"}
    assert outcome.detail is not None
    (_, second) = outcome.detail["recipients"].values()  # type: ignore[union-attr]
    assert second == {
        "address": BOB,
        "status": "sent",
        "replies": [
            "RSET 250 OK",
            "MAIL 250 OK",
            "RCPT 250 OK",
            "DATA 354 End data with <CR><LF>.<CR><LF>",
            "message 250 2.0.0 queued as 4711",
        ][1:],
    }
    assert outcome.detail["server"] == f"127.0.0.1:{post.port}"
    assert outcome.detail["replies"][0].startswith("connect 220 post.example")  # type: ignore[index, union-attr]


def test_only_the_refused_recipient_is_retried(post: Post, journaled: Hosts) -> None:
    """Greylisting delays the message of one recipient; the others have theirs, once."""
    post.replies[BOB] = ["450 4.2.0 greylisted", "451 4.7.1 still"]
    host = journaled(notifier(post.port, ANN, BOB, CAT))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "sent", BOB: "failed", CAT: "sent"}
    assert host.attempt() == {ANN: "sent", BOB: "failed", CAT: "sent"}
    host.restart(notifier(post.port, ANN, BOB, CAT))
    assert host.attempt() == {ANN: "sent", BOB: "sent", CAT: "sent"}
    assert post.recipients == [ANN, CAT, BOB]
    assert host.state == "delivered"


def test_permanent_refusal_of_one_recipient_holds_up_nobody(post: Post, journaled: Hosts) -> None:
    """A recipient refused for good is not asked again, and the delivery is dead once nobody else is left."""
    post.replies = {ANN: ["550 5.1.1 no such user"] * 3, BOB: ["450 4.2.0 greylisted"]}
    host = journaled(notifier(post.port, ANN, BOB, CAT))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "refused", BOB: "failed", CAT: "sent"}
    assert host.state == "retrying"
    assert host.attempt() == {ANN: "refused", BOB: "sent", CAT: "sent"}
    assert host.state == "dead"
    assert post.asked == [ANN, BOB, CAT, BOB]
    assert next(iter(host.detail["recipients"].values()))["error"] == "RCPT 550 5.1.1 no such user"


def test_replay_tries_refused_recipients_again(post: Post, journaled: Hosts) -> None:
    """The operator who replays a dead letter has made the address known; nobody else gets the message again."""
    post.replies[BOB] = ["550 5.1.1 no such user"]
    host = journaled(notifier(post.port, ANN, BOB))
    host.hooks.repo_sync_started(repo_id="zoo")
    host.attempt()
    assert host.state == "dead"
    host.replay()
    assert host.attempt() == {ANN: "sent", BOB: "sent"}
    assert post.recipients == [ANN, BOB]
    assert host.state == "delivered"


def test_replay_while_the_server_is_down_is_retried(post: Post, journaled: Hosts) -> None:
    """A recipient that was refused before the replay counts as refused again only when the server has said so."""
    post.replies[BOB] = ["550 5.1.1 no such user"]
    host = journaled(notifier(post.port, ANN, BOB))
    host.hooks.repo_sync_started(repo_id="zoo")
    host.attempt()
    host.replay()
    with scripted(lambda connection: connection.sendall(b"554 closed\r\n")) as port:
        host.restart(notifier(port, ANN, BOB))
        assert host.attempt() == {ANN: "sent", BOB: "not tried"}
    assert host.state == "retrying"
    host.restart(notifier(post.port, ANN, BOB))
    assert host.attempt() == {ANN: "sent", BOB: "sent"}
    assert post.recipients == [ANN, BOB]


def test_replay_of_a_delivered_event_sends_it_again(post: Post, journaled: Hosts) -> None:
    """Everybody gets the message again, with the Message-ID of the first."""
    post.replies[BOB] = ["450 4.2.0 greylisted"]
    host = journaled(notifier(post.port, ANN, BOB))
    host.hooks.repo_sync_started(repo_id="zoo")
    host.attempt()
    host.attempt()
    host.replay()
    host.attempt()
    assert post.recipients == [ANN, BOB, ANN, BOB]
    ids = [received.mail["Message-ID"] for received in post.inbox]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("reply", "state"), [("554 5.6.0 spam", "dead"), ("452 4.3.1 no space", "retrying"), ("421 closing", "retrying")]
)
def test_refusal_of_a_message_is_its_recipients(post: Post, journaled: Hosts, reply: str, state: str) -> None:
    """What a server says after the data is about that message, and the next one is sent all the same."""
    post.data_replies = [reply]
    host = journaled(notifier(post.port, ANN, BOB))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "refused" if state == "dead" else "failed", BOB: "sent"}
    assert host.state == state


def test_recipient_whose_connection_is_dropped_costs_the_others_nothing(post: Post, journaled: Hosts) -> None:
    """The others get their messages over a new connection."""
    post.drops = {ANN}
    host = journaled(notifier(post.port, ANN, BOB, CAT))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "failed", BOB: "sent", CAT: "sent"}
    post.drops = set()
    host.attempt()
    assert post.recipients == [BOB, CAT, ANN]


def test_recipient_for_whom_the_server_hangs_comes_last_next_time(post: Post, journaled: Hosts) -> None:
    """One that uses up the whole timeout keeps nobody from the message for ever."""
    post.hangs = {ANN}
    host = journaled(notifier(post.port, ANN, BOB, CAT, timeout=2))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "failed", BOB: "not tried", CAT: "not tried"}
    host.restart(notifier(post.port, ANN, BOB, CAT, timeout=5))
    assert host.attempt() == {ANN: "failed", BOB: "sent", CAT: "sent"}
    assert "the timeout of 5 s is over" in host.detail["recipients"][next(iter(host.detail["recipients"]))]["error"]
    post.hangs = set()
    assert host.attempt() == {ANN: "sent", BOB: "sent", CAT: "sent"}
    assert post.recipients == [BOB, CAT, ANN]


def test_message_that_is_too_large_is_refused_for_good(offices: Offices, journaled: Hosts) -> None:
    """A retry would not make it smaller, and the server is told its size before it is sent."""
    post = offices(data_size_limit=2000)
    host = journaled(notifier(post.port))
    host.hooks.repo_sync_started(repo_id="x" * 3000)
    assert host.attempt() == {ANN: "refused"}
    assert host.state == "dead"
    assert not post.inbox


def test_many_recipients_with_long_replies_fit_into_the_detail(post: Post, journaled: Hosts) -> None:
    """However much is said of however many, the next attempt knows who has the message."""
    names = [f"{'x' * 60}{number}@{'y' * 60}.{'z' * 60}.{'z' * 60}.example" for number in range(10, 60)]
    post.replies = {name: ["450 " + '"no" ' * 90] for name in names[::2]}
    host = journaled(notifier(post.port, *names))
    host.hooks.repo_sync_started(repo_id="zoo")
    host.attempt()
    assert "truncated" not in host.detail
    assert host.attempt()
    assert host.state == "delivered"
    assert sorted(post.recipients) == names


def test_addresses_from_the_environment_are_recognized_though_they_are_redacted(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that a reference resolves to appears as `***`; who has the message is known all the same."""
    monkeypatch.setenv("ANN", ANN)
    monkeypatch.setenv("BOB", BOB)
    post.replies[BOB] = ["450 4.2.0 greylisted"]
    settings = settings_of(tmp_path, post.port, addresses='[{ env = "ANN" }, { env = "BOB" }]')
    with installed(tmp_path, monkeypatch), Hooks.discover(settings) as hooks:
        assert not hooks.problems
        hooks.repo_sync_started(repo_id="zoo")
        drain(hooks)
        assert hooks.journal is not None
        (delivery,) = hooks.journal.deliveries().items
        attempts = hooks.journal.attempts(delivery.event_id, "mail")
    assert ANN not in str(attempts)
    assert post.recipients == [ANN, BOB]


def test_starttls_and_login(offices: Offices, authority: Authority) -> None:
    """The message and the password, which is not ASCII, are sent after the change to TLS."""
    post = offices(starttls=authority.server(), login=True)
    outcome = fire(secure(post.port, authority, "starttls"))
    assert outcome.error is None
    (received,) = post.inbox
    assert received.is_encrypted
    assert received.user == LOGIN[0].encode()
    assert outcome.detail is not None
    assert str(outcome.detail["tls"]).startswith("TLSv1.")
    assert "canary" not in str(outcome)


def test_tls_from_the_beginning(offices: Offices, authority: Authority) -> None:
    """With `tls` nothing is ever sent in plain text."""
    post = offices(tls=authority.server())
    assert fire(notifier(post.port, security="tls", ca_path=str(authority.path))).error is None
    assert post.inbox[0].is_encrypted


@pytest.mark.parametrize("excluded", ["PLAIN", "LOGIN"])
def test_both_ways_to_log_in(offices: Offices, authority: Authority, excluded: str) -> None:
    """Whichever of the two the server offers is used."""
    post = offices(starttls=authority.server(), login=True, auth_exclude_mechanism=[excluded])
    assert fire(secure(post.port, authority, "starttls")).error is None
    assert len(post.inbox) == 1


def test_server_without_a_known_way_to_log_in(offices: Offices, authority: Authority) -> None:
    """Then nothing is sent without it."""
    post = offices(starttls=authority.server(), login=True, auth_exclude_mechanism=["PLAIN", "LOGIN"])
    assert "offers neither AUTH PLAIN nor AUTH LOGIN" in str(fire(secure(post.port, authority, "starttls")).error)
    assert not post.inbox


def test_wrong_password_is_retried_and_not_shown(offices: Offices, authority: Authority, journaled: Hosts) -> None:
    """It may be corrected; neither its text nor its Base64 is in what is recorded."""
    wrong = "wrong-canary"
    post = offices(starttls=authority.server(), login=True)
    host = journaled(secure(post.port, authority, "starttls", password=wrong))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "not tried"}
    assert host.state == "retrying"
    assert "AUTH 535" in host.detail["error"]
    encoded = base64.b64encode(f"\0{LOGIN[0]}\0{wrong}".encode()).decode()
    assert not re.search(f"canary|{re.escape(encoded)}", str(host.detail))


@pytest.mark.parametrize("password", ["echo-canary", "écho  canary", "canary" * 60])
def test_password_that_a_server_repeats_is_not_shown(authority: Authority, password: str) -> None:
    """A debugging server may reply with what it was sent; neither blanks, umlauts nor the length hide it."""

    def repeat(connection: socket.socket) -> None:
        with authority.server().wrap_socket(connection, server_side=True) as tls, tls.makefile("rwb") as lines:
            lines.write(b"220 hi\r\n")
            lines.flush()
            lines.readline()
            lines.write(b"250-hi\r\n250 AUTH PLAIN\r\n")
            lines.flush()
            line = lines.readline().strip()
            secret = base64.b64decode(line.split()[-1]).split(b"\0")[-1]
            lines.write(b"535 " + line + b" " + secret + b"\r\n")
            lines.flush()

    with scripted(repeat) as port:
        outcome = fire(secure(port, authority, "tls", password=password))
    assert "AUTH 535 AUTH PLAIN *** ***" in str(outcome.error)
    assert "canary" not in str(outcome)


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("names", "is_expired", "is_trusted", "reason"),
    [
        (["other.example"], False, True, "IP address mismatch"),
        (["127.0.0.1"], True, True, "certificate has expired"),
        (["127.0.0.1"], False, False, "unable to get local issuer certificate"),
    ],
    ids=["wrong host", "expired", "unknown CA"],
)
def test_server_that_is_not_trusted_gets_nothing(  # noqa: PLR0913 - each is one fact about the server
    offices: Offices,
    authority: Authority,
    security: str,
    names: list[str],
    reason: str,
    *,
    is_expired: bool,
    is_trusted: bool,
) -> None:
    """Neither a message nor the password; there is no switch to skip the check."""
    context = authority.server(*names, is_expired=is_expired)
    post = offices(login=True, **{security: context})
    email = secure(post.port, authority, security, **({} if is_trusted else {"ca_path": None}))
    outcome = fire(email)
    assert "the server's certificate is not valid" in str(outcome.error)
    assert reason in str(outcome.error)
    assert statuses(outcome.detail) == {ANN: "not tried"}
    assert not post.asked


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_server_with_old_tls_gets_nothing(offices: Offices, authority: Authority, security: str) -> None:
    """TLS 1.0 is no encryption, although the certificate is valid."""
    context = authority.server()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    post = offices(login=True, **{security: context})
    outcome = fire(secure(post.port, authority, security))
    assert "SSL" in str(outcome.error)
    assert statuses(outcome.detail) == {ANN: "not tried"}
    assert not post.asked


def test_stripped_starttls_is_a_failure(post: Post, authority: Authority, journaled: Hosts) -> None:
    """A server that does not offer STARTTLS, or from which somebody took it, gets nothing; it is retried."""
    host = journaled(secure(post.port, authority, "starttls"))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "not tried"}
    assert "does not offer STARTTLS" in host.detail["error"]
    assert host.state == "retrying"
    assert not post.asked


@pytest.mark.parametrize("reply", [b"454 TLS not available", b"220 go on\r\n250 injected\r\n250 injected"])
def test_refused_or_forged_starttls_is_a_failure(authority: Authority, reply: bytes) -> None:
    """After the reply to STARTTLS nothing is sent in plain text, whatever it is."""
    said: list[bytes] = []

    def strip(connection: socket.socket) -> None:
        with connection.makefile("rwb") as lines:
            lines.write(b"220 hi\r\n")
            lines.flush()
            lines.readline()
            lines.write(b"250-hi\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
            lines.flush()
            assert lines.readline() == b"STARTTLS\r\n"
            lines.write(reply + b"\r\n")
            lines.flush()
            connection.shutdown(socket.SHUT_WR)
            said.append(lines.read())

    with scripted(strip) as port:
        assert statuses(fire(secure(port, authority, "starttls")).detail) == {ANN: "not tried"}
    assert b"MAIL" not in said[0]
    assert b"AUTH" not in said[0]


def silent(connection: socket.socket) -> None:
    """Say nothing."""
    while connection.recv(1000):
        pass


def slow(connection: socket.socket) -> None:
    """Say something all the time, but never the end of it."""
    while True:
        connection.sendall(b"2")
        threading.Event().wait(0.05)


def half_open(connection: socket.socket) -> None:
    """Greet, and say nothing more."""
    connection.sendall(b"220 hi\r\n")
    while connection.recv(1000):
        pass


@pytest.mark.parametrize("script", [silent, slow, half_open])
@pytest.mark.parametrize("security", ["none", "tls"])
def test_server_that_hangs_is_cut_at_the_total_timeout(script: Script, security: str) -> None:
    """However it hangs, and also in the middle of a TLS handshake or of a reply."""
    with scripted(script) as port:
        outcome = fire(notifier(port, security=security, timeout=0.4))
    if not (security == "tls" and script is not silent):  # what is no TLS is refused earlier
        assert "the timeout of 0.4 s is over" in str(outcome.error)
    assert statuses(outcome.detail) == {ANN: "not tried"}


def test_name_service_that_hangs_is_cut_at_the_total_timeout(monkeypatch: pytest.MonkeyPatch, post: Post) -> None:
    """The lookup goes on in its own thread, for which nobody waits."""
    asked, released, resolve = threading.Event(), threading.Event(), socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as `getaddrinfo`
        asked.set()
        released.wait()
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    outcome = fire(notifier(post.port, timeout=0.4))
    assert asked.is_set()
    assert "the timeout of 0.4 s is over" in str(outcome.error)
    assert statuses(outcome.detail) == {ANN: "not tried"}
    released.set()


def test_server_that_does_not_read_is_cut_at_the_total_timeout() -> None:
    """A large message that nobody reads does not hang either."""

    def deaf(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"220 hi\r\n250 hi\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        gone.wait(20)

    gone = threading.Event()
    with scripted(deaf) as port:
        outcome = fire(notifier(port, timeout=0.5), details="x" * 900_000, summary="x" * 100_000)
        gone.set()
    assert "the timeout of 0.5 s is over" in str(outcome.error)


def test_server_that_talks_without_end_is_cut() -> None:
    """Its replies are not kept in memory until the timeout."""

    def talk(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"220-" + b"x" * 1000 + b"\r\n")

    with scripted(talk) as port:
        assert "the server's replies do not end" in str(fire(notifier(port, timeout=60)).error)


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\xfe\0\r\n", b"220 " + b"x" * 9000 + b"\r\n", b"554 no\r\n"],
)
def test_nonsense_is_a_failure_that_is_retried(said: bytes, journaled: Hosts) -> None:
    """What is no mail server takes no message, and the record has no characters that could harm a terminal."""
    with scripted(lambda connection: connection.sendall(said)) as port:
        host = journaled(notifier(port))
        host.hooks.repo_sync_started(repo_id="zoo")
        assert host.attempt() == {ANN: "not tried"}
    assert host.state == "retrying"
    assert str(host.detail).isprintable()


def test_server_that_is_not_there_is_a_failure_that_is_retried(post: Post, journaled: Hosts) -> None:
    """The messages are sent when it is back."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    host = journaled(notifier(port, ANN, BOB))
    host.hooks.repo_sync_started(repo_id="zoo")
    assert host.attempt() == {ANN: "not tried", BOB: "not tried"}
    assert "Connection refused" in host.detail["error"]
    host.restart(notifier(post.port, ANN, BOB))
    assert host.attempt() == {ANN: "sent", BOB: "sent"}


def test_server_that_knows_no_ehlo_is_greeted_by_helo() -> None:
    """Without encryption, a server of 1982 will do."""
    said: list[bytes] = []

    def old(connection: socket.socket) -> None:
        with connection.makefile("rwb") as lines:
            for reply in (b"220 hi", b"502 what", b"250 hi", b"250 ok", b"251 forwarded", b"354 go"):
                lines.write(reply + b"\r\n")
                lines.flush()
                said.append(lines.readline())
            while lines.readline() != b".\r\n":
                pass
            lines.write(b"250 ok\r\n221 bye\r\n")
            lines.flush()
            said.append(lines.readline())

    with scripted(old) as port:
        assert fire(notifier(port)).error is None
    assert [line.split()[0].upper() for line in said[:5]] == [b"EHLO", b"HELO", b"MAIL", b"RCPT", b"DATA"]
    assert said[2] == b"MAIL FROM:<pulp@example.org>\r\n"
    assert said[-1] == b"QUIT\r\n"


def test_several_threads_send_at_once(post: Post) -> None:
    """A session belongs to one call: messages are neither mixed nor lost."""
    names = [f"repo-{number}" for number in range(40)]
    with Hooks({"mail": notifier(post.port, ANN, BOB)}) as hooks, ThreadPoolExecutor(8) as threads:
        reports = list(threads.map(lambda name: hooks.repo_sync_started(repo_id=name), names))
    assert not any(report.failures for report in reports)
    sent = [(received.recipients[0], received.mail["Subject"].split()[2].rstrip(":")) for received in post.inbox]
    assert sorted(sent) == sorted((address, name) for address in (ANN, BOB) for name in names)


class SignalError(Exception):
    """What a signal handler of the host raises."""


@pytest.mark.parametrize("script", [silent, half_open])
def test_signal_within_a_session_closes_it(script: Script) -> None:
    """The exception of the host's signal handler is the host's, and no connection stays open."""
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        script(connection)
        closed.set()

    def interrupt(*_: object) -> None:
        raise SignalError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with scripted(serve) as port, Hooks({"mail": notifier(port)}) as hooks:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(SignalError):
                hooks.repo_sync_started(repo_id="zoo")
            assert closed.wait(20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_error_is_that_of_the_last_attempt(post: Post, journaled: Hosts) -> None:
    """What went wrong before does not hide what goes wrong now, and who has the message is still known."""
    post.replies[BOB] = ["450 4.2.0 greylisted"]
    host = journaled(notifier(post.port, ANN, BOB))
    host.hooks.repo_sync_started(repo_id="zoo")
    host.attempt()
    with scripted(lambda connection: connection.sendall(b"554 closed\r\n")) as port:
        host.restart(notifier(port, ANN, BOB))
        assert host.attempt() == {ANN: "sent", BOB: "failed"}
    assert host.detail["error"] == "connect 554 closed"
    assert "greylisted" not in str(host.detail)
    host.restart(notifier(post.port, ANN, BOB))
    assert host.attempt() == {ANN: "sent", BOB: "sent"}
    assert post.recipients == [ANN, BOB]


HOSTILE = {
    "header": "x\r\nBcc: eve@example.org\r\n\r\nHello",
    "bare line feed": "x\nBcc: eve@example.org",
    "bare carriage return": "x\rBcc: eve@example.org",
    "end of data": "x\r\n.\r\nMAIL FROM:<eve@example.org>\r\nRCPT TO:<eve@example.org>\r\nDATA\r\n",
    "end of data with bare line feeds": "x\n.\nMAIL FROM:<eve@example.org>\n",
    "encoded word": "=?utf-8?q?x=0D=0ABcc:_eve@example.org?=",
    "encoded words": "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLm9yZw==?= =?utf-8?q?=E2=80=AE?=",
    "right to left": "x\u202egpj.exe\u2067\u200f",
    "line separators": "x\u2028Bcc: eve@example.org\u2029\x85\x0b\x0c",
    "long": "x" * 10_000,
    "long and wide": "\U0001f436 " * 5000,
    "blank": " \t ",
    "NUL": "x\0y",
    "template": "{result} {0} {event_type.__class__} %s",
    "address": "<eve@example.org>, eve@example.org",
}


@pytest.mark.parametrize("repo_id", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("format_", ["cloudevents", "standard", "pulp2"])
def test_hostile_text_adds_nothing(post: Post, repo_id: str, format_: str) -> None:
    """No header, no recipient, no second message: the subject is one line, and the JSON has the text as it is."""
    usual = {"Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}
    outcome = fire(notifier(post.port, format=format_), repo_id=repo_id, error_message=repo_id, exception=repo_id)
    assert outcome.error is None
    assert post.asked == post.recipients == [ANN]
    mail = post.inbox[0].mail
    assert set(mail.keys()) <= usual | {"Content-Transfer-Encoding"}
    assert len(mail.keys()) == len(set(mail.keys()))
    assert not mail.defects
    assert mail["Subject"].isprintable()
    assert len(mail["Subject"]) <= 200
    assert "repo-sync-finished" in mail["Subject"]
    assert all(len(line) <= 998 for line in post.inbox[0].content.split(b"\r\n"))
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|[^\t\r\n -~]", post.inbox[0].content)
    if format_ == "pulp2":
        assert json.loads(mail.get_content())["payload"]["repo_id"] == repo_id
    else:
        text, attached = mail.iter_parts()
        assert all(line.isprintable() for line in text.get_content().splitlines())
        assert json.loads(attached.get_content())["data"]["repo_id"] == repo_id


def secure(port: int, authority: Authority, security: str, **config: object) -> Email:
    """Return a notifier that logs in over TLS."""
    basis = {"ca_path": str(authority.path), "username": LOGIN[0], "password": LOGIN[1]}
    return notifier(port, **{"security": security, **basis, **config})


def settings_of(folder: Path, port: int, *, addresses: str, journal: bool = True) -> Path:
    """Write settings with the listener `mail`, and return the path."""
    path = folder / "pulp-hooks.toml"
    lines = ["[journal]", 'url = "sqlite:///events.db"'] if journal else []
    lines += ["[plugins]", 'block = ["console"]', "[[listeners]]", 'name = "mail"', 'notifier = "email"']
    lines += ["[listeners.config]", 'host = "127.0.0.1"', f"port = {port}", 'security = "none"']
    path.write_text("\n".join([*lines, 'from = "pulp@example.org"', f"addresses = {addresses}", ""]))
    return path


def install(folder: Path) -> Path:
    """Make this package look installed, entry points included, and return the folder to import it from."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / "site" / f"pulp_hooks_email-{project['version']}.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    points = [f"{name} = {value}\n" for name, value in project["entry-points"]["pulp_hooks"].items()]
    (metadata / "entry_points.txt").write_text("[pulp_hooks]\n" + "".join(points), encoding="utf-8")
    return metadata.parent


@contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process find this package as an installed one."""
    with monkeypatch.context() as patch:
        patch.syspath_prepend(install(folder))
        yield


def start(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in this folder, where it finds this package as an installed one."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PULP_HOOKS_")}
    paths = [install(folder), PACKAGE, *sys.path]
    env = own | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PULP_HOOKS_BLOCK": "console"} | variables
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )


def run(folder: Path, *command: str) -> None:
    """Run Python in this folder, which has to succeed."""
    ended = start(folder, *command)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def pulp_hooks(folder: Path, *arguments: str, **variables: str) -> str:
    """Run `pulp-hooks` in this folder, and return all that it prints, also of a failure."""
    ended = start(folder, "-m", "pulp_hooks", *arguments, **variables)
    return ended.stdout + ended.stderr


DRAIN = """
from pulp_hooks import Hooks
from pulp_hooks.testing import drain
with Hooks.discover() as hooks:
    drain(hooks)
"""
FIRE = """
from pulp_hooks import Hooks
with Hooks.discover() as hooks:
    assert not hooks.problems, hooks.problems
    event = hooks.repo_sync_started(repo_id="zoo").event
"""
WAYS = {
    "direct": FIRE,
    "journal": FIRE
    + """
    from pulp_hooks.testing import drain
    drain(hooks)
""",
    # The task of a real Celery app, without a broker between the two.
    "celery": FIRE
    + """
    from celery import Celery
    from pulp_hooks.celery import carry_deliveries
    app = Celery("deliveries", broker="memory://")
    carry_deliveries(app)
    for ending in ("failed", "succeeded"):
        result = app.tasks["pulp_hooks.deliver"].apply((event.id, "mail"), throw=True)
        assert result.get() == ending, result.get()
        hooks.journal.end_pauses()
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_same_notifier_in_the_host_through_the_journal_and_on_celery(way: str, post: Post, tmp_path: Path) -> None:
    """The same settings and package work in all three; with a journal, the message that was refused is sent later."""
    post.replies[BOB] = ["450 4.2.0 greylisted"]
    settings_of(tmp_path, post.port, addresses=f'["{ANN}", "{BOB}", "{CAT}"]', journal=way != "direct")
    run(tmp_path, "-c", WAYS[way])
    assert post.recipients == [ANN, CAT, *([] if way == "direct" else [BOB])]


def test_worker_killed_after_a_partial_attempt_sends_only_the_rest(post: Post, tmp_path: Path) -> None:
    """What the journal recorded holds for a new worker."""
    post.replies[BOB] = ["450 4.2.0 greylisted"]
    settings_of(tmp_path, post.port, addresses=f'["{ANN}", "{BOB}"]')
    ended = start(tmp_path, "-c", FIRE + "    hooks.worker().run_once()\n    import os; os.kill(os.getpid(), 9)\n")
    assert ended.returncode == -signal.SIGKILL
    assert post.recipients == [ANN]
    run(tmp_path, "-c", DRAIN)
    assert post.recipients == [ANN, BOB]


def test_password_is_nowhere_but_in_the_mail_server(offices: Offices, authority: Authority, tmp_path: Path) -> None:
    """Neither logs, listings, nor the journal of a whole run have it, in any encoding."""
    post = offices(starttls=authority.server(), login=True)
    path = settings_of(tmp_path, post.port, addresses=f'["{ANN}"]')
    login = f'username = "{LOGIN[0]}"\npassword = {{ env = "SMTP_PASSWORD" }}\nca_path = "{authority.path}"\n'
    path.write_text(path.read_text().replace('"none"', '"starttls"') + login)
    printed = ""
    for password in ("wrong-canary", LOGIN[1]):
        for arguments in (
            "check",
            "listeners",
            "fire repo-sync-finished",
            "worker --once",
            "deliveries --json",
            "stats",
        ):
            printed += pulp_hooks(tmp_path, *arguments.split(), SMTP_PASSWORD=password)
    shown = "".join(
        pulp_hooks(tmp_path, "deliveries", "show", name, SMTP_PASSWORD=LOGIN[1])
        for name in set(re.findall(r'"id": "(\S+/mail)"', printed))
    )
    assert "AUTH 535" in shown
    assert "message 250 2.0.0 queued as 4711" in shown
    assert set(post.recipients) == {ANN}
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("events.db*"))
    for secret in ("wrong-canary", LOGIN[1]):
        for text in (
            secret,
            base64.b64encode(secret.encode()).decode(),
            base64.b64encode(f"\0{LOGIN[0]}\0{secret}".encode()).decode(),
        ):
            assert text not in printed + shown
            assert text.encode() not in stored


def test_entry_point_names_the_notifier() -> None:
    """What the package declares is the class."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["pulp_hooks"]["email"].partition(":")
    assert getattr(import_module(module), name) is Email


def test_readme_is_true(offices: Offices, authority: Authority, tmp_path: Path) -> None:
    """The settings of the README pass the check it shows, and send the message it shows to a server of this test."""
    [settings] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "pulp-hooks.toml"
    path.write_text(settings, encoding="utf-8")
    [(arguments, expected)] = re.findall(r"```console\n\$ pulp-hooks (.*?)\n(.*?)```", README, re.DOTALL)
    assert pulp_hooks(tmp_path, arguments, SMTP_PASSWORD=LOGIN[1]) == expected

    post = offices(starttls=authority.server(), login=True)
    local = f'host = "127.0.0.1"\nport = {post.port}\nca_path = "{authority.path}"'
    path.write_text(settings.replace('host = "smtp.example.org"', local).replace('results = ["failed", "error"]', ""))
    for arguments in ("fire repo-sync-finished", "worker --once"):
        pulp_hooks(tmp_path, *arguments.split(), SMTP_PASSWORD=LOGIN[1])
    assert post.recipients == [ANN, BOB]
    mail = post.inbox[0].mail
    text, _ = mail.iter_parts()
    sent = f"Subject: {mail['Subject']}\n\n{text.get_content()}"
    [shown] = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert without_values(sent) == without_values(shown)


def without_values(text: str) -> str:
    """Return a text without what differs from event to event."""
    return re.sub(r"^(Fired|Event ID|Host): .*$", r"\1:", text.replace("\r\n", "\n").strip(), flags=re.MULTILINE)
