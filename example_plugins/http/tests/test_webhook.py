"""The notifier against real servers: what is sent, what becomes of each answer, and what hostile servers cannot do."""

import base64
import gzip
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError
from pulp_hooks_http import DeliveryError, Webhook, verify
from standardwebhooks import Webhook as Oracle

from pulp_hooks import DisableListener, Event, Hooks, PermanentFailure, RetryLater
from pulp_hooks.testing import drain, example_event, temporary_journal

from .receivers import SECRET, Authority, Received, Receiver, answering, authority, receiver, receiving

__all__ = ["authority", "receiver", "receiving"]

Start = Callable[[ssl.SSLContext | None], Receiver]
Make = Callable[..., Webhook]

PASSWORD = "open-sesame"  # noqa: S105 - of no one

LOOPBACK = ["127.0.0.0/8", "::1/128"]


@pytest.fixture
def webhook() -> Iterator[Make]:
    """Return a function that makes a notifier, which is closed after the test."""
    with ExitStack() as made:

        def make(**config: Any) -> Webhook:  # noqa: ANN401 - what TOML may hold
            notifier = Webhook.configured(**config)
            made.callback(notifier.close)
            return notifier

        yield make


@pytest.fixture
def configured(receiver: Receiver, authority: Authority, webhook: Make) -> Make:
    """Return a function that makes a notifier for the server, with changes to its configuration."""

    def make(**config: Any) -> Webhook:  # noqa: ANN401 - what TOML may hold
        return webhook(
            **{"url": receiver.url(), "ca_path": authority.path, "allow": LOOPBACK, "secret": SECRET, **config}
        )

    return make


def detail_of(event: Event, notifier: Webhook) -> dict[str, Any]:
    """Return what is recorded of a delivery, whether it succeeds or not."""
    try:
        return dict(notifier.notify(event))  # type: ignore[call-overload,no-any-return]
    except (DeliveryError, RetryLater, DisableListener) as error:
        return dict(error.detail or {})


def test_signature_is_verified_by_another_library(receiver: Receiver, configured: Make) -> None:
    """The official library of Standard Webhooks takes it, and ours does."""
    event = example_event("repo-sync-finished", repo_id="zoö")
    configured().notify(event)
    [request] = receiver.requests
    assert request.line == "POST /hook HTTP/1.1"
    assert Oracle(SECRET).verify(request.content, request.headers) == {
        "type": "repo.sync.finish",
        "timestamp": event.to_dict()["time"],
        "data": event.body,
    }
    assert verify(request.content, request.headers, SECRET).id == event.id


def test_every_attempt_has_the_id_of_the_event_and_a_time_of_its_own(
    receiver: Receiver, configured: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver recognizes the repetition, and the signature is valid each time."""
    event, notifier = example_event("repo-sync-started"), configured()
    notifier.notify(event)
    before = time.time
    monkeypatch.setattr(time, "time", lambda: before() + 100)
    notifier.notify(event)
    first, second = [request.headers for request in receiver.requests]
    assert first["webhook-id"] == second["webhook-id"] == event.id
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) in {100, 101}
    verify(receiver.requests[1].content, second, SECRET)


def test_all_keys_sign_while_one_replaces_the_other(receiver: Receiver, configured: Make) -> None:
    """A receiver with either key takes the webhook."""
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    configured(secret=None, secrets=[SECRET, other]).notify(example_event("repo-sync-started"))
    [request] = receiver.requests
    for key in (SECRET, other):
        verify(request.content, request.headers, key)


def test_without_a_key_nothing_is_signed(receiver: Receiver, configured: Make) -> None:
    """The id is sent all the same."""
    event = example_event("repo-sync-started")
    configured(secret=None).notify(event)
    assert receiver.requests[0].headers["webhook-id"] == event.id
    assert "webhook-signature" not in receiver.requests[0].headers


@pytest.mark.parametrize("format_", ["cloudevents", "cloudevents-binary"])
def test_cloudevent_is_read_by_another_library(receiver: Receiver, configured: Make, format_: str) -> None:
    """The official SDK finds the event in either mode; blanks and letters beyond ASCII are percent-encoded."""
    event = example_event("repo-publish-finished", repo_id='Käfer "a" 100%')
    configured(format=format_).notify(event)
    [request] = receiver.requests
    read = from_http_event(HTTPMessage(headers=request.headers, body=request.content), JSONFormat())
    assert read.get_subject() == 'Käfer "a" 100%'
    assert read.get_data() == event.body
    assert (read.get_id(), read.get_time()) == (event.id, event.time)


def test_receiver_of_pulp_2_goes_on_working(receiver: Receiver, configured: Make) -> None:
    """The envelope, the media type and basic authentication are as the old server sent them."""
    configured(format="pulp2", username="admin", password=PASSWORD).notify(
        example_event("repo-sync-started", repo_id="zoo")
    )
    [request] = receiver.requests
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    assert json.loads(request.content) == {
        "event_type": "repo.sync.start",
        "payload": {"repo_id": "zoo"},
        "call_report": None,
    }


def test_body_of_ones_own(receiver: Receiver, configured: Make) -> None:
    """Placeholders are filled in at any depth and escaped as JSON; everything else stays."""
    event = example_event("repo-sync-finished", repo_id='a"b\n', error_message=None)
    body = {"ref": "main", "n": 1, "x": [{"repo": "<{repo_id}>", "braces": "{{}}"}], "e": "{error_message}{result}"}
    configured(json_body=body, method="PUT").notify(event)
    [request] = receiver.requests
    assert request.line == "PUT /hook HTTP/1.1"
    assert json.loads(request.content) == {
        "ref": "main",
        "n": 1,
        "x": [{"repo": '<a"b\n>', "braces": "{}"}],
        "e": "success",
    }


def test_placeholders_of_the_url_are_percent_encoded(receiver: Receiver, configured: Make) -> None:
    """A repository cannot add a segment, a query or a line."""
    notifier = configured(url=receiver.url("/purge/{repo_id}/?id={event_id}"), method="PURGE")
    event = example_event("repo-sync-started", repo_id="a/b?c\r\nX: y")
    notifier.notify(event)
    assert receiver.requests[0].line == f"PURGE /purge/a%2Fb%3Fc%0D%0AX%3A%20y/?id={event.id} HTTP/1.1"
    for repo_id in (".", "..", "../../admin", "a\\..\\b"):
        with pytest.raises(PermanentFailure, match="would lead to another path"):
            notifier.notify(example_event("repo-sync-started", repo_id=repo_id))


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "204 No Content"])
def test_2xx_is_success_and_the_exchange_is_recorded(receiver: Receiver, configured: Make, status: str) -> None:
    """What an operator wants to see: the request line, the headers, the status, the start of the body."""
    content = b"" if status.startswith("204") else b"thanks"
    receiver.answers = [answering(status, content, X_Request_Id="r1")]
    event = example_event("repo-sync-started")
    detail = detail_of(event, configured(url=receiver.url("/hook?token=t0ken"), username="me", password=PASSWORD))
    assert detail["request"]["line"] == "POST /hook HTTP/1.1"
    assert detail["request"]["headers"]["webhook-id"] == event.id
    assert detail["request"]["headers"]["Authorization"] == "***"
    assert detail["response"]["status"] == int(status[:3])
    assert detail["response"]["body"] == content.decode()
    assert detail["response"]["headers"]["X-Request-Id"] == "r1"
    assert detail["response"]["address"].endswith(f":{receiver.port}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirection_is_not_followed(receiver: Receiver, configured: Make, status: int) -> None:
    """It is a failure, and its target is recorded without what may be a token."""
    location = "http://user:pass@169.254.169.254/latest?token=t0ken"
    receiver.answers = [answering(f"{status} Moved", Location=location)]
    with pytest.raises(DeliveryError, match=f"answered {status} Moved; redirections are not followed") as caught:
        configured().notify(example_event("repo-sync-started"))
    detail = json.dumps(caught.value.detail)
    assert "http://169.254.169.254/latest" in detail
    assert "t0ken" not in detail
    assert "pass" not in detail
    assert len(receiver.requests) == 1


def test_410_disables_the_listener(receiver: Receiver, configured: Make) -> None:
    """The endpoint is gone for good."""
    receiver.answers = [answering("410 Gone")]
    with pytest.raises(DisableListener, match="answered 410 Gone"):
        configured().notify(example_event("repo-sync-started"))


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "401 Unauthorized", "404 Not Found", "500 Oh", "502 Bad", "504 Slow"]
)
def test_other_answers_are_failures_that_are_retried(receiver: Receiver, configured: Make, status: str) -> None:
    """The answer is recorded."""
    receiver.answers = [answering(status, b"why", Retry_After="7")]
    with pytest.raises(DeliveryError, match=f"answered {status}") as caught:
        configured().notify(example_event("repo-sync-started"))
    assert caught.value.detail["response"]["body"] == "why"  # type: ignore[index]


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
@pytest.mark.parametrize(("value", "after"), [("1", 1), ("120", 120), ("9" * 30, 86_400), ("DATE", 600)])
def test_retry_after_is_observed(receiver: Receiver, configured: Make, status: str, value: str, after: float) -> None:
    """In seconds or as a date."""
    if value == "DATE":
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=after), usegmt=True)
    receiver.answers = [answering(status, Retry_After=value)]
    with pytest.raises(RetryLater) as caught:
        configured().notify(example_event("repo-sync-started"))
    assert after - 60 <= caught.value.after <= after


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "Mon, 01 Jan 2029 00:00:00 +9999999999999999999",
        "-5",
        "soon",
        "",
        "1e9",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "٣",
    ],
)
def test_retry_after_that_says_nothing_is_ignored(receiver: Receiver, configured: Make, value: str) -> None:
    """The schedule decides."""
    answer = f"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: {value}\r\n\r\n".encode()
    receiver.answers = [lambda connection, _: connection.sendall(answer)]
    with pytest.raises(DeliveryError, match="answered 503"):
        configured().notify(example_event("repo-sync-started"))


def test_connection_is_kept_and_shared_by_threads(receiver: Receiver, configured: Make) -> None:
    """One after the other they use one connection; at the same time each has its own."""
    notifier = configured()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for pool in (first, second, first):
            pool.submit(notifier.notify, example_event("repo-sync-started")).result()
    assert (len(receiver.requests), receiver.connections) == (3, 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(notifier.notify, [example_event("repo-sync-started") for _ in range(40)]))
    assert len(receiver.requests) == 43
    assert receiver.connections <= 4
    notifier.close()


def test_connection_that_the_server_closed_meanwhile_is_replaced(receiver: Receiver, configured: Make) -> None:
    """A request that got no answer on an old connection is sent again on a new one, with the same id."""

    def hang_up(connection: socket.socket, _: Received) -> None:
        connection.shutdown(socket.SHUT_RDWR)

    notifier = configured()
    receiver.answers = [answering(), hang_up, answering()]
    notifier.notify(example_event("repo-sync-started"))
    event = example_event("repo-sync-started")
    notifier.notify(event)
    assert [request.headers["webhook-id"] for request in receiver.requests[1:]] == [event.id, event.id]
    assert receiver.connections == 2


def test_old_connection_is_not_used(receiver: Receiver, configured: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers close connections that were idle for long."""
    notifier = configured()
    notifier.notify(example_event("repo-sync-started"))
    before = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: before() + 60)
    notifier.notify(example_event("repo-sync-started"))
    assert receiver.connections == 2


def drip(connection: socket.socket, _: Received) -> None:
    """Send a header byte by byte, without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def drip_body(connection: socket.socket, _: Received) -> None:
    """Send a body byte by byte, without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def say_nothing(connection: socket.socket, _: Received) -> None:
    """Wait for the end of the connection."""
    connection.recv(1)


def go_on(connection: socket.socket, _: Received) -> None:
    """Ask for more without end."""
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


@pytest.mark.parametrize("slow", [drip, drip_body, say_nothing, go_on])
def test_slow_server_is_cut_off(receiver: Receiver, configured: Make, slow: Any) -> None:  # noqa: ANN401
    """The timeout is for all of it: a byte now and then does not extend it."""
    receiver.answers = [slow]
    with pytest.raises(DeliveryError, match="no complete response came in time"):
        configured(timeout=2).notify(example_event("repo-sync-started"))


def test_server_that_does_not_read_is_cut_off(webhook: Make) -> None:
    """The request does not fit into the buffers."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    notifier = webhook(url=f"http://localhost:{port}/", allow=LOOPBACK, timeout=2, json_body={"x": "y" * 2**25})
    with listening, pytest.raises(DeliveryError, match="no complete response came in time"):
        notifier.notify(example_event("repo-sync-started"))


def test_tls_handshake_without_end_is_cut_off(webhook: Make, authority: Authority) -> None:
    """A server that accepts and says nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    notifier = webhook(url=f"https://localhost:{port}/", allow=LOOPBACK, timeout=2, ca_path=authority.path)
    with listening, pytest.raises(DeliveryError, match="cannot be connected to"):
        notifier.notify(example_event("repo-sync-started"))


def test_endless_body_is_read_no_further_than_what_is_kept(receiver: Receiver, configured: Make) -> None:
    """The status decides; the connection is not used again."""

    def pour(connection: socket.socket, _: Received) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            connection.sendall(b"\0" * 65536)

    receiver.answers = [pour, answering()]
    notifier = configured()
    detail = detail_of(example_event("repo-sync-started"), notifier)
    assert len(json.dumps(detail)) < 8192
    assert set(detail["response"]["body"]) == {"\0"}
    notifier.notify(example_event("repo-sync-started"))
    assert receiver.connections == 2


def test_compressed_body_is_not_decompressed(receiver: Receiver, configured: Make) -> None:
    """A few kilobytes could become gigabytes."""
    bomb = gzip.compress(b"0" * 10_000_000)
    receiver.answers = [answering("200 OK", bomb, Content_Encoding="gzip")]
    detail = detail_of(example_event("repo-sync-started"), configured())
    assert "00000000" not in detail["response"]["body"]


@pytest.mark.parametrize("interim", [100, 102, 103])
def test_interim_response_is_not_taken_for_the_answer_of_another_event(
    receiver: Receiver, configured: Make, interim: int
) -> None:
    """The final one belongs to the same request, also when it comes later."""

    def hint(connection: socket.socket, received: Received) -> None:
        connection.sendall(b"HTTP/1.1 %d Wait\r\nLink: x\r\n\r\n" % interim)
        answering("200 OK", received.headers["webhook-id"].encode())(connection, received)

    receiver.answers = [hint]
    notifier = configured()
    for event in (example_event("repo-sync-started"), example_event("repo-sync-started")):
        assert detail_of(event, notifier)["response"]["body"] == event.id
    assert receiver.connections == 1


def test_connection_on_which_a_server_said_too_much_is_not_used_again(receiver: Receiver, configured: Make) -> None:
    """What is left could pass for the answer to the next event, also in a buffer of TLS."""
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".ljust(8192 + 20, b"x")
    head = b"HTTP/1.1 204 No Content\r\nX: " + b"y" * (8192 - 32) + b"\r\n\r\n"
    receiver.answers = [lambda connection, _: connection.sendall(head + body), answering("500 No")]
    notifier = configured()
    assert detail_of(example_event("repo-sync-started"), notifier)["response"]["status"] == 204
    with pytest.raises(DeliveryError, match="answered 500"):
        notifier.notify(example_event("repo-sync-started"))


@pytest.mark.parametrize("event_id", ["a.b", "é", "a\r\nX: 1", "", "  a"])
def test_id_that_is_no_header_is_a_permanent_failure(configured: Make, event_id: str) -> None:
    """A receiver could not verify it."""
    with pytest.raises(PermanentFailure, match="cannot be sent as a header"):
        configured().notify(replace(example_event("repo-sync-started"), id=event_id))


@pytest.mark.parametrize("number", [101, 100_000])
def test_too_many_headers_are_a_failure(receiver: Receiver, configured: Make, number: int) -> None:
    """They are read no further than a hundred."""
    answer = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % place for place in range(number)) + b"\r\n"
    receiver.answers = [lambda connection, _: connection.sendall(answer)]
    with pytest.raises(DeliveryError, match="the connection failed: got more than 100 headers"):
        configured().notify(example_event("repo-sync-started"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
    ],
)
def test_broken_answer_is_a_failure(receiver: Receiver, configured: Make, answer: bytes) -> None:
    """Nothing, something else, or less than was promised."""

    def say(connection: socket.socket, _: Received) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    receiver.answers = [say]
    with pytest.raises(DeliveryError):
        configured().notify(example_event("repo-sync-started"))


def test_endpoint_that_is_not_there(webhook: Make) -> None:
    """A refused connection and an unknown name are said in plain words."""
    # Nobody listens at a port that is only bound, and nobody else can take it.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        refused = webhook(url=f"https://localhost:{held.getsockname()[1]}/", allow=LOOPBACK)
        with pytest.raises(DeliveryError, match="localhost cannot be connected to: Connection refused"):
            refused.notify(example_event("repo-sync-started"))
    unknown = webhook(url="https://hooks.invalid/")
    with pytest.raises(DeliveryError, match=r"hooks\.invalid has no address"):
        unknown.notify(example_event("repo-sync-started"))


def expired(authority: Authority) -> ssl.SSLContext:
    """Return a context with a certificate that was valid last year."""
    year = timedelta(days=365)
    certificate = authority.ca.issue_cert(
        "localhost", not_before=datetime.now(UTC) - 2 * year, not_after=datetime.now(UTC) - year
    )
    return authority.context(certificate)


def of_another_host(authority: Authority) -> ssl.SSLContext:
    """Return a context with a certificate for another host."""
    return authority.context(authority.ca.issue_cert("example.org"))


def of_another_authority(authority: Authority) -> ssl.SSLContext:
    """Return a context with a certificate that another authority has issued."""
    (authority.folder / "other").mkdir()
    return Authority(authority.folder / "other").context()


def old_tls(authority: Authority) -> ssl.SSLContext:
    """Return a context that speaks nothing newer than TLS 1.0."""
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def asking_for_a_certificate(authority: Authority) -> ssl.SSLContext:
    """Return a context that wants a client certificate."""
    context = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(context)
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("fault", [expired, of_another_host, of_another_authority, old_tls, asking_for_a_certificate])
def test_tls_is_always_verified(
    receiving: Start, authority: Authority, webhook: Make, fault: Callable[[Authority], ssl.SSLContext]
) -> None:
    """No certificate but the right one, and no old protocol."""
    receiver = receiving(fault(authority))
    notifier = webhook(url=receiver.url(), ca_path=authority.path, allow=LOOPBACK)
    with pytest.raises(DeliveryError, match=r"cannot be connected to|connection failed"):
        notifier.notify(example_event("repo-sync-started"))
    assert receiver.requests == []


def test_client_certificate_is_sent(receiving: Start, authority: Authority, webhook: Make, tmp_path: Path) -> None:
    """Certificate and key may be in two files."""
    certificate = authority.ca.issue_cert("client@example.org")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    receiver = receiving(asking_for_a_certificate(authority))
    webhook(
        url=receiver.url(),
        ca_path=authority.path,
        allow=LOOPBACK,
        certificate_path=str(tmp_path / "client.pem"),
        key_path=str(tmp_path / "client.key"),
    ).notify(example_event("repo-sync-started"))
    assert len(receiver.requests) == 1


def test_certificates_of_the_system_are_trusted_by_default(receiver: Receiver, webhook: Make) -> None:
    """And those of the tests are not among them."""
    with pytest.raises(DeliveryError, match="certificate verify failed"):
        webhook(url=receiver.url(), allow=LOOPBACK).notify(example_event("repo-sync-started"))


def test_name_that_leads_inside_is_refused_and_nothing_is_connected(receiver: Receiver, configured: Make) -> None:
    """The message does not tell whether somebody listens there."""
    with pytest.raises(DeliveryError, match="localhost has no address that may be connected to; fix") as caught:
        configured(allow=[]).notify(example_event("repo-sync-started"))
    assert str(receiver.port) not in str(caught.value)
    assert receiver.connections == 0


def test_address_that_is_connected_to_is_the_one_that_was_checked(
    receiver: Receiver, configured: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name service that changes its answer is not asked twice (DNS rebinding)."""
    answers = ["127.0.0.1", "127.0.0.2"]
    asked = []

    def look_up(host: str, *_: object, flags: int = 0, **__: object) -> list[Any]:
        if host == "localhost":
            if flags & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "it is a name")
            asked.append(host)
            host = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, receiver.port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    detail = detail_of(example_event("repo-sync-started"), configured(allow=["127.0.0.1/32"]))
    assert detail["response"]["address"] == f"127.0.0.1:{receiver.port}"
    assert asked == ["localhost"]


def test_proxy_of_the_environment_is_not_used(
    receiver: Receiver, configured: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would connect to whatever it likes."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    configured().notify(example_event("repo-sync-started"))
    assert len(receiver.requests) == 1


def test_plain_http_is_for_allowed_addresses_only(receiving: Start, webhook: Make) -> None:
    """`allow` has to list the address even if it is a public one."""
    receiver = receiving(None)
    webhook(url=receiver.url(), allow=LOOPBACK).notify(example_event("repo-sync-started"))
    assert len(receiver.requests) == 1
    with pytest.raises(DeliveryError, match="no address that may be connected to"):
        webhook(url=receiver.url(), allow=["10.0.0.0/8"]).notify(example_event("repo-sync-started"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("url", None, "is missing"),
        ("url", "ftp://example.org/", "must be a URL"),
        ("url", "https:///path", "must be a URL"),
        ("url", "https://example.org:99999/", "must be a URL"),
        ("url", "https://me:s3cret@example.org/", "must not have a user or password"),
        ("url", "https://example.org/a b", "must not have blanks"),
        ("url", "https://example.org/\r\nX: y", "must not have blanks"),
        ("url", "https://{repo_id}.example.org/", "must not have placeholders in its host"),
        ("url", "https://example.org/{repo}", "unknown placeholder; fix: use {event_id}"),
        ("url", "https://example.org/{repo_id.__class__}", "unknown placeholder"),
        ("url", "https://example.org/{repo_id", "brace that is not closed"),
        ("url", "http://example.org/", "must be https"),
        ("url", "https://127.0.0.1/", "must not lead into a private or reserved network"),
        ("url", "https://2130706433/", "must not lead into"),
        ("url", "https://0x7f.1/", "must not lead into"),
        ("url", "https://[::ffff:127.0.0.1]/", "must not lead into"),
        ("url", "https://[64:ff9b::7f00:1]/", "must not lead into"),
        ("url", "https://169.254.169.254/", "must not lead into"),
        ("secret", "sesame", "must begin with whsec_"),
        ("secret", "whsec_" + base64.b64encode(b"short").decode(), "must be 24 to 64 bytes"),
        ("secret", "whpk_" + base64.b64encode(b"p" * 32).decode(), "must be the private key"),
        ("secrets", ["whsec_%%%"], "must be Base64"),
        ("username", "me", "needs the other one"),
        ("headers", {"Host": "x"}, "must not have Host"),
        ("headers", {"webhook-id": "x"}, "must not have webhook-id"),
        ("headers", {"X": "a\r\nY: b"}, "invalid value for X"),
        ("headers", {"a b": "x"}, "invalid name"),
        ("method", "post", "must be a method in capital letters"),
        ("method", "CONNECT", "must be a method"),
        ("format", "xml", "must be one of pulp2, standard, cloudevents, cloudevents-binary"),
        ("json_body", {"a": ["{nothing}"]}, "unknown placeholder"),
        ("timeout", 0, "must be more than 0"),
        ("timeout", 1e9, "must be more than 0 and at most 300"),
        ("timeout", "nan", "must be finite"),
        ("allow", ["10.0.0.1/8"], "must be a network such as 10.0.0.0/8"),
        ("url", "https://a..example/", "must have a valid host name"),
        ("json_body", {"a": float("nan")}, "must have what JSON has"),
        ("json_body", {"token": "abc{s3cret}def"}, "unknown placeholder"),
        ("headers", {"X-A": "1", "x-a": "2"}, "must not have a name twice"),
        ("key_path", "client.key", "needs certificate_path"),
        ("ca_path", "", "must not be empty"),
        ("colour", "red", "Unknown field"),
    ],
)
def test_wrong_configuration_is_refused(key: str, value: object, said: str) -> None:
    """The message says what is wrong, and never has a secret in it."""
    config = {"url": "https://hooks.example.org/", key: value}
    with pytest.raises(ValidationError) as caught:
        Webhook.configured(**{name: item for name, item in config.items() if item is not None})
    assert list(caught.value.messages_dict) == [key]
    assert said in str(caught.value.messages_dict[key])
    assert "s3cret" not in str(caught.value)


def test_both_secret_and_secrets_are_refused() -> None:
    """One of them would be the one that is forgotten."""
    with pytest.raises(ValidationError, match="either secret or secrets"):
        Webhook.configured(url="https://hooks.example.org/", secret=SECRET, secrets=[SECRET])


def test_files_that_cannot_be_read_are_said_at_the_start(tmp_path: Path) -> None:
    """And not at the first event; the message has the path."""
    with pytest.raises(OSError, match=r"No such file.*missing\.pem"):
        Webhook.configured(url="https://hooks.example.org/", ca_path=str(tmp_path / "missing.pem"))


def test_secrets_are_nowhere_in_log_journal_or_listing(
    receiver: Receiver, configured: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when the endpoint repeats the request in its answer."""

    def repeat(connection: socket.socket, received: Received) -> None:
        answering("500 No", json.dumps(received.headers).encode())(connection, received)

    receiver.answers = [repeat]
    caplog.set_level(logging.DEBUG)
    notifier = configured(username="me", password=PASSWORD, headers={"X-Key": "sim-sala-bim"})
    with temporary_journal() as journal:
        with Hooks({"ci": notifier}, journal=journal) as hooks:
            event = hooks.repo_sync_started(repo_id="zoo").event
            hooks.worker().run_once()
            shown = f"{hooks.listeners} {notifier!r} {journal.deliveries_of(event.id)}"
        [attempt] = journal.attempts(event.id, "ci")
        assert attempt.detail is not None
        request = json.loads(attempt.detail)["request"]
    assert request["headers"]["X-Key"] == "***"
    for secret in (PASSWORD, "sim-sala-bim", SECRET, base64.b64encode(f"me:{PASSWORD}".encode()).decode()):
        assert secret not in f"{caplog.text} {shown} {request}"


def in_the_host(settings: Path) -> Event:
    """Fire in the host's process."""
    with Hooks.discover(settings) as hooks:
        return hooks.repo_sync_started(repo_id="zoo").event


def through_the_journal(settings: Path) -> Event:
    """Fire into a journal, and let a worker deliver."""
    add_journal(settings)
    event = in_the_host(settings)
    with Hooks.discover(settings) as hooks:
        drain(hooks)
    return event


def on_celery(settings: Path) -> Event:
    """Fire into a journal, and let a Celery worker deliver, whose broker is a folder."""
    add_journal(settings)
    event = in_the_host(settings)
    folder = settings.parent
    (folder / "messages").mkdir()
    (folder / "tasks.py").write_text(
        "from celery import Celery\n"
        "from pulp_hooks.celery import carry_deliveries\n"
        "app = Celery('deliveries', broker='filesystem://')\n"
        "app.conf.broker_transport_options = dict.fromkeys(('data_folder_in', 'data_folder_out'), 'messages')\n"
        "carry_deliveries(app)\n"
    )
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency=1"]
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        with Hooks.discover(settings) as hooks:
            assert hooks.journal is not None
            deadline = time.monotonic() + 60
            while {delivery.state for delivery in hooks.journal.deliveries_of(event.id)} != {"delivered"}:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    return event


def add_journal(settings: Path) -> None:
    """Add a journal to the settings."""
    with settings.open("a") as file:
        file.write(f'[journal]\nurl = "sqlite:///{settings.parent / "events.db"}"\n')


@pytest.mark.parametrize("way", [in_the_host, through_the_journal, on_celery])
def test_one_listener_runs_in_the_host_through_the_journal_and_on_celery(
    receiver: Receiver,
    authority: Authority,
    way: Callable[[Path], Event],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same package and configuration, the receiver verifies the same webhook."""
    monkeypatch.setenv("CI_SECRET", SECRET)
    monkeypatch.setenv("PULP_HOOKS_BLOCK", "console")
    settings = tmp_path / "pulp-hooks.toml"
    settings.write_text(f"""
[[listeners]]
name = "ci"
notifier = "http"
[listeners.config]
url = "{receiver.url()}"
secret = {{ env = "CI_SECRET" }}
allow = ["127.0.0.0/8"]
ca_path = "{authority.path}"
""")
    event = way(settings)
    [request] = receiver.requests
    assert verify(request.content, request.headers, SECRET).id == event.id


def test_failing_endpoint_is_tried_again_until_it_works(receiver: Receiver, configured: Make) -> None:
    """The journal has each attempt with its exchange."""
    receiver.answers = [answering("500 No"), answering("503 Later", Retry_After="3600"), answering("200 OK")]
    with temporary_journal() as journal, Hooks({"ci": configured()}, journal=journal) as hooks:
        event = hooks.repo_sync_started(repo_id="zoo").event
        drain(hooks)
        attempts = journal.attempts(event.id, "ci")
    assert [json.loads(attempt.detail or "{}")["response"]["status"] for attempt in attempts] == [500, 503, 200]
    assert attempts[-1].status == "succeeded"


@given(repo_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=200))
def test_any_repository_is_sent_as_one_request(repo_id: str) -> None:
    """Whatever it is called, the headers and the line stay what they are."""
    notifier = Webhook.configured(url="https://hooks.example.org/x/{event_id}", format="cloudevents-binary")
    request = notifier._request(example_event("repo-sync-started", repo_id=repo_id))
    assert all(text.isascii() and text.isprintable() for text in [request.target, *request.headers.values()])
