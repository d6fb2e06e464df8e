"""The AMQP notifier against a RabbitMQ server of its own, which is killed, stopped and blocked."""

import contextlib
import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pika
import pytest
import trustme
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from pika import frame, spec
from pulp_hooks_amqp import Amqp, AmqpError

from pulp_hooks import EventType, Hooks, PermanentFailure, Status
from pulp_hooks.formats import Format, write_message
from pulp_hooks.testing import drain, example_event, temporary_journal

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text(encoding="utf-8")
BINARIES = "/usr/lib/rabbitmq/bin"
PATIENCE = 60.0

ROUTING_KEYS = {
    EventType.REPO_SYNC_STARTED: "pulp.server.repo.sync.start",
    EventType.REPO_SYNC_FINISHED: "pulp.server.repo.sync.finish",
    EventType.REPO_PUBLISH_STARTED: "pulp.server.repo.publish.start",
    EventType.REPO_PUBLISH_FINISHED: "pulp.server.repo.publish.finish",
}

HOSTILE = [
    "x\r\nBcc: a@b",
    "\r\n.\r\n",
    "#",
    "*",
    "a.b.#",
    ".finish",
    "🦊" * 2_560,
    "\u202egpj.exe",
    "\x00",
    "a" * 10_240,
]


def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds; fail after a time limit."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Broker:
    """A RabbitMQ server on loopback, with a TLS port that asks for a client certificate."""

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            self.port, self.tls_port, self._other_port = (each.getsockname()[1] for each in sockets)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}"
        self.tls_url = f"amqps://guest:guest@localhost:{self.tls_port}"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.file("ca.pem"))
        for name, identity in (("server", "localhost"), ("client", "mirror.example")):
            certificate = authority.issue_cert(identity)
            certificate.cert_chain_pems[0].write_to_path(self.file(f"{name}.pem"))
            certificate.private_key_pem.write_to_path(self.file(f"{name}.key"))
        self.file("rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {self.file('ca.pem')}\n"
            f"ssl_options.certfile = {self.file('server.pem')}\n"
            f"ssl_options.keyfile = {self.file('server.key')}\n"
            "ssl_options.verify = verify_peer\n"
            "ssl_options.fail_if_no_peer_cert = true\n"
        )
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"pulp_hooks_{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._other_port),
            "RABBITMQ_MNESIA_BASE": str(self.file("mnesia")),
            "RABBITMQ_LOG_BASE": str(self.file("log")),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.file("plugins")),
            "RABBITMQ_CONFIG_FILE": str(self.file("rabbitmq.conf")),
            "RABBITMQ_PID_FILE": str(self.file("pid")),
        }

    def file(self, name: str) -> Path:
        """Return a path in its folder."""
        return self._folder / name

    def tls(self, *names: str) -> dict[str, str]:
        """Return configuration for its TLS port, with these keys."""
        files = {"ca_path": "ca.pem", "certificate_path": "client.pem", "key_path": "client.key"}
        return {"url": self.tls_url} | {name: str(self.file(files[name])) for name in names}

    def start(self) -> None:
        """Start it with the data of earlier starts, and wait until it answers."""
        with self.file("output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._server], env=self._environment, stdout=output, stderr=output, start_new_session=True
            )
        until(self._answers)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to it and its child processes."""
        assert self._process is not None
        os.killpg(self._process.pid, signum)

    def end(self, signum: signal.Signals) -> None:
        """End it with a signal, and wait until it has ended."""
        if self._process is not None:
            self.send(signum)
            self._process.wait()
            self._process = None
            until(lambda: not self._answers())

    def control(self, *arguments: str) -> None:
        """Run `rabbitmqctl`."""
        command = [f"{BINARIES}/rabbitmqctl", *arguments]
        subprocess.run(command, env=self._environment, check=True, capture_output=True)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel of a client of its own."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False


class Queue:
    """A durable queue that is bound to an exchange."""

    def __init__(
        self,
        broker: Broker,
        exchange: str = "amq.topic",
        key: str = "pulp.server.#",
        arguments: dict[str, object] | None = None,
    ) -> None:
        self._broker = broker
        self.name = f"queue-{os.urandom(4).hex()}"
        with broker.channel() as channel:
            channel.queue_declare(self.name, durable=True, arguments=arguments)
            channel.queue_bind(self.name, exchange, key)

    def take(self) -> list[tuple[Any, Any, bytes]]:
        """Take all messages: method, properties, content."""
        taken = []
        with self._broker.channel() as channel:
            while (message := channel.basic_get(self.name, auto_ack=True))[0] is not None:
                taken.append(message)
        return taken

    def delete(self) -> None:
        """Delete it."""
        with self._broker.channel() as channel:
            channel.queue_delete(self.name)


@pytest.fixture(scope="session")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield a running RabbitMQ; skip if it is not installed, except in CI."""
    server = shutil.which("rabbitmq-server", path=BINARIES)
    if server is None:
        if os.environ.get("CI") == "true":
            pytest.fail("RabbitMQ is not installed")
        pytest.skip("RabbitMQ is not installed")
    broker = Broker(tmp_path_factory.mktemp("broker"), server)
    broker.start()
    yield broker
    broker.end(signal.SIGKILL)


@pytest.fixture
def broker(running_broker: Broker) -> Iterator[Broker]:
    """Yield a running RabbitMQ, which runs again after a test that has ended it."""
    yield running_broker
    if running_broker._process is None:
        running_broker.start()


@pytest.fixture
def queue(broker: Broker) -> Iterator[Queue]:
    """Yield a queue that gets every event."""
    queue = Queue(broker)
    yield queue
    queue.delete()


@pytest.fixture
def made() -> Iterator[Callable[..., Amqp]]:
    """Yield what makes notifiers, which are closed after the test."""
    notifiers: list[Amqp] = []

    def make(**config: Any) -> Amqp:  # noqa: ANN401 - any configuration
        notifiers.append(Amqp.configured(**config))
        return notifiers[-1]

    yield make
    for notifier in notifiers:
        notifier.close()


@contextmanager
def server_that(answers: Callable[[socket.socket], object]) -> Iterator[int]:
    """Yield the port of a server that treats each connection in this way."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                answers(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def open_sockets() -> list[str]:
    """Return the descriptors of this process that are sockets."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(entry.readlink()))
    return sorted(link for link in links if link.startswith("socket:"))


def connections_of(notifier: Amqp) -> int:
    """Return how many connections it has that are not in use."""
    return len(notifier._idle)


def run_python(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PULP_HOOKS_")}
    command = [sys.executable, *arguments]
    env = own | {"PULP_HOOKS_BLOCK": "console"} | variables
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def settings_of(folder: Path, **config: str) -> Path:
    """Write settings with a listener `broker` that has its URL from `AMQP_URL`, and a journal."""
    path = folder / "pulp-hooks.toml"
    keys = [f'{key} = "{value}"' for key, value in config.items()]
    lines = [
        '[plugins]\nblock = ["console"]',
        '[journal]\nurl = "sqlite:///journal.db"',
        "[delivery]\nretry_seconds = []",
        '[[listeners]]\nname = "broker"\nnotifier = "amqp"\n[listeners.config]\nurl = { env = "AMQP_URL" }',
    ]
    path.write_text("\n".join([*lines, *keys]))
    return path


@pytest.mark.parametrize("event_type", EventType)
def test_event_is_a_persistent_message_with_its_id(
    broker: Broker, queue: Queue, made: Callable[..., Amqp], event_type: EventType
) -> None:
    """Exchange, routing key, delivery mode, message id and content type are as documented."""
    event = example_event(event_type)
    detail = made(url=broker.url).notify(event)
    [(method, properties, content)] = queue.take()
    assert (method.exchange, method.routing_key) == ("amq.topic", ROUTING_KEYS[event_type])
    assert properties.delivery_mode == 2
    assert properties.message_id == event.id
    assert properties.content_type == "application/cloudevents+json"
    assert content == write_message(event, Format.CLOUDEVENTS).content
    assert str(detail.pop("broker")).startswith("RabbitMQ ")
    assert detail == {"exchange": "amq.topic", "routing_key": ROUTING_KEYS[event_type], "reply": "ack"}


@pytest.mark.parametrize("format_", Format)
def test_content_is_that_of_the_format(
    broker: Broker, queue: Queue, made: Callable[..., Amqp], format_: Format
) -> None:
    """The content is the bytes of the format; only binary CloudEvents have headers."""
    event = example_event("repo-sync-finished")
    made(url=broker.url, format=format_.value).notify(event)
    [(_, properties, content)] = queue.take()
    message = write_message(event, format_)
    assert (properties.content_type, content) == (message.content_type, message.content)
    assert (properties.headers or {}) == {f"ce-{name}": value for name, value in message.attributes.items()}
    if format_ is Format.CLOUDEVENTS_BINARY:
        headers = {**properties.headers, "content-type": properties.content_type}
        read = from_http_event(HTTPMessage(headers=headers, body=content), JSONFormat())
        assert (read.get_id(), read.get_data()) == (event.id, event.body)


@pytest.mark.parametrize("way", ["host", "journal", "celery"])
def test_one_notifier_runs_in_three_ways(broker: Broker, queue: Queue, tmp_path: Path, way: str) -> None:
    """Without a change it publishes in the host's process, through the journal, and on Celery."""
    if way == "celery":
        assert on_celery(tmp_path, broker) == ids_in(queue)
        return
    notifier = Amqp.configured(url=broker.url)
    if way == "host":
        with Hooks({"broker": notifier}) as hooks:
            report = hooks.repo_sync_started(repo_id="zoo")
            assert [outcome.status for outcome in report.outcomes] == [Status.SUCCEEDED]
    else:
        with temporary_journal() as journal, Hooks({"broker": notifier}, journal=journal) as hooks:
            report = hooks.repo_sync_started(repo_id="zoo")
            assert ids_in(queue) == []
            drain(hooks)
    assert ids_in(queue) == [report.event.id]


def ids_in(queue: Queue) -> list[str]:
    """Take all messages, and return their ids."""
    return [properties.message_id for _, properties, _ in queue.take()]


def on_celery(folder: Path, broker: Broker) -> list[str]:
    """Fire an event that a Celery worker delivers, and return its id."""
    settings_of(folder)
    (folder / "tasks.py").write_text(
        "import os\n"
        "from celery import Celery\n"
        "from pulp_hooks.celery import carry_deliveries\n"
        'app = Celery("deliveries", broker=os.environ["AMQP_URL"])\n'
        f'app.conf.task_default_queue = "{folder.name}"\n'
        "app.conf.broker_connection_retry_on_startup = True\n"
        "carry_deliveries(app)\n"
    )
    fire = (
        "from pulp_hooks import Hooks\nwith Hooks.discover() as h: print(h.repo_sync_started(repo_id='zoo').event.id)"
    )
    fired = run_python(folder, "-c", fire, AMQP_URL=broker.url)
    assert fired.returncode == 0, fired.stderr
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--loglevel=INFO", "--concurrency=1"]
    environment = os.environ | {"AMQP_URL": broker.url}
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        listing = ("-m", "pulp_hooks", "deliveries", "--json")
        until(lambda: '"delivered"' in run_python(folder, *listing, AMQP_URL=broker.url).stdout)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    return fired.stdout.split()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_no_event_that_was_reported_as_sent_is_missing(broker: Broker, queue: Queue, signum: signal.Signals) -> None:
    """The broker is ended and restarted in the middle of 1,500 events; those that succeeded are in the queue."""
    # The queue and its binding are on disk before the broker is killed: only messages are put to the test.
    broker.control("eval", "mnesia:sync_log().")
    with Hooks({"broker": Amqp.configured(url=broker.url, timeout=60)}) as hooks:
        sent: list[str] = []
        errors: list[str | None] = []

        def fire(number: int) -> None:
            report = hooks.repo_sync_started(repo_id=f"repo-{number}")
            if report.failures:
                errors.extend(outcome.error for outcome in report.failures)
            else:
                sent.append(report.event.id)

        with ThreadPoolExecutor(4) as threads:
            firing = [threads.submit(fire, number) for number in range(1500)]
            until(lambda: len(sent) > 300)
            broker.end(signum)
            before = len(sent)
            broker.start()
            for future in firing:
                future.result()
    assert before < 1500
    assert set(sent) <= set(ids_in(queue))
    assert len(sent) + len(errors) == 1500
    # A broker that was just restarted may have no route for a moment: that is a failure too, not a success.
    assert all("has not confirmed the event" in str(error) or "no queue gets" in str(error) for error in errors), errors


def test_lost_connection_is_not_a_success(broker: Broker, queue: Queue, made: Callable[..., Amqp]) -> None:
    """An event that was published, and is not confirmed when the broker dies, has failed."""
    notifier = made(url=broker.url, timeout=60)
    notifier.notify(example_event("repo-sync-started"))
    broker.send(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(notifier.notify, example_event("repo-sync-started"))
        until(lambda: connections_of(notifier) == 0)
        broker.end(signal.SIGKILL)
        with pytest.raises(AmqpError, match="the broker has not confirmed the event: StreamLostError"):
            sending.result()
    broker.start()
    notifier.notify(example_event("repo-sync-started"))
    assert queue.take()


def test_connection_closed_while_idle_is_replaced(broker: Broker, queue: Queue, made: Callable[..., Amqp]) -> None:
    """The next event goes over a new connection, once."""
    notifier = made(url=broker.url)
    events = [example_event("repo-sync-started") for _ in range(2)]
    notifier.notify(events[0])
    broker.control("close_all_connections", "maintenance")
    notifier.notify(events[1])
    assert ids_in(queue) == [event.id for event in events]


def test_connection_idle_for_long_is_replaced(
    broker: Broker, queue: Queue, made: Callable[..., Amqp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be dead without a sign of it."""
    notifier = made(url=broker.url)
    events = [example_event("repo-sync-started") for _ in range(2)]
    notifier.notify(events[0])
    [first] = notifier._idle
    monkeypatch.setattr("pulp_hooks_amqp.notifier._IDLE_SECONDS", 0.0)
    notifier.notify(events[1])
    assert first not in notifier._idle
    assert ids_in(queue) == [event.id for event in events]


def test_broker_that_is_down_fails_within_the_timeout(made: Callable[..., Amqp]) -> None:
    """The error says what is wrong; connections are tried more than once for the first event, and once for the next."""
    tries: list[None] = []
    with server_that(lambda _connection: tries.append(None)) as port:
        notifier = made(url=f"amqp://127.0.0.1:{port}", timeout=3)
        for _ in range(2):
            with pytest.raises(AmqpError, match="the broker cannot be reached: IncompatibleProtocolError"):
                notifier.notify(example_event("repo-sync-started"))
            tries.append(None)
    assert len(tries) > 4
    # Nobody listens at a port that is only bound, and nobody else can take it.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        notifier = made(url=f"amqp://127.0.0.1:{held.getsockname()[1]}", timeout=2)
        with pytest.raises(AmqpError, match="the broker cannot be reached: ConnectionRefusedError") as caught:
            notifier.notify(example_event("repo-sync-started"))
    assert caught.value.detail == {"exchange": "amq.topic", "routing_key": "pulp.server.repo.sync.start"}


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
@pytest.mark.parametrize("sent", [b"", b"\x01", b"\x08\x00\x00\x00\x00\x00\x00\xce"])
def test_server_that_never_answers_is_left_at_the_timeout(made: Callable[..., Amqp], sent: bytes, scheme: str) -> None:
    """Silence, bytes that trickle and endless heartbeats do not extend the wait, with and without TLS."""

    def trickle(connection: socket.socket) -> None:
        while not select.select([connection], [], [], 0.01)[0] or connection.recv(1000):
            connection.sendall(sent)

    before = open_sockets()
    with server_that(trickle) as port:
        notifier = made(url=f"{scheme}://127.0.0.1:{port}", timeout=1)
        with pytest.raises(AmqpError, match=r"the broker did not answer within the timeout|cannot be reached"):
            notifier.notify(example_event("repo-sync-started"))
    assert open_sockets() == before


def test_frozen_broker_fails_at_the_timeout(broker: Broker, queue: Queue, made: Callable[..., Amqp]) -> None:
    """A broker that stops to answer has not confirmed the event; afterwards events go over a new connection."""
    notifier = made(url=broker.url, timeout=3)
    notifier.notify(example_event("repo-sync-started"))
    broker.send(signal.SIGSTOP)
    try:
        with pytest.raises(AmqpError, match="not confirmed the event: the broker did not answer within the timeout"):
            notifier.notify(example_event("repo-sync-started"))
    finally:
        broker.send(signal.SIGCONT)
    assert connections_of(notifier) == 0
    event = example_event("repo-sync-started")
    made(url=broker.url).notify(event)
    until(lambda: event.id in ids_in(queue))


def test_blocked_broker_fails_at_the_timeout_with_its_reason(broker: Broker, made: Callable[..., Amqp]) -> None:
    """While memory is short the broker takes no messages, and says so; afterwards events are published again."""
    notifier = made(url=broker.url, timeout=3, unroutable="accept")
    notifier.notify(example_event("repo-sync-started"))
    broker.control("set_vm_memory_high_watermark", "0")
    try:
        with pytest.raises(AmqpError, match="accepts no messages at the moment: low on memory"):
            notifier.notify(example_event("repo-sync-started"))
    finally:
        broker.control("set_vm_memory_high_watermark", "0.4")
    made(url=broker.url, unroutable="accept").notify(example_event("repo-sync-started"))


def test_blocked_broker_that_recovers_in_time_gets_the_event(
    broker: Broker, queue: Queue, made: Callable[..., Amqp]
) -> None:
    """The event waits for the end of the alarm."""
    notifier = made(url=broker.url, timeout=60)
    notifier.notify(example_event("repo-sync-started"))
    broker.control("set_vm_memory_high_watermark", "0")
    event = example_event("repo-sync-started")
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(notifier.notify, event)
        try:
            until(lambda: connections_of(notifier) == 0)
        finally:
            broker.control("set_vm_memory_high_watermark", "0.4")
        assert sending.result()["reply"] == "ack"
    assert event.id in ids_in(queue)


def test_unroutable_event_fails_by_default(broker: Broker, made: Callable[..., Amqp]) -> None:
    """The detail has the broker's reason, and a queue that is bound later gets the retry."""
    notifier = made(url=broker.url)
    event = example_event("repo-sync-started")
    with pytest.raises(AmqpError, match="no queue gets the event; fix: bind a queue") as caught:
        notifier.notify(event)
    assert caught.value.detail is not None
    assert caught.value.detail["reply"] == "ack, returned: 312 NO_ROUTE"
    queue = Queue(broker)
    notifier.notify(event)
    assert ids_in(queue) == [event.id]
    queue.delete()


def test_unroutable_event_is_delivered_if_the_operator_says_so(broker: Broker, made: Callable[..., Amqp]) -> None:
    """The detail still says that it was returned."""
    detail = made(url=broker.url, unroutable="accept").notify(example_event("repo-sync-started"))
    assert detail["reply"] == "ack, returned: 312 NO_ROUTE"


def test_full_queue_that_refuses_the_event_is_a_failure(broker: Broker, made: Callable[..., Amqp]) -> None:
    """The broker answers with a nack."""
    queue = Queue(broker, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    notifier = made(url=broker.url)
    notifier.notify(example_event("repo-sync-started"))
    with pytest.raises(AmqpError, match=r"refused the event \(nack\)"):
        notifier.notify(example_event("repo-sync-started"))
    queue.delete()


def test_missing_exchange_is_declared_durable(broker: Broker, made: Callable[..., Amqp]) -> None:
    """It is there for the first event, and again after it was deleted while a connection is open."""
    name = f"exchange-{os.urandom(4).hex()}"
    notifier = made(url=broker.url, exchange=name, unroutable="accept")
    for _ in range(2):
        notifier.notify(example_event("repo-sync-started"))
        with broker.channel() as channel:
            # Were it of another type or not durable, this would fail.
            channel.exchange_declare(name, exchange_type="topic", durable=True)
            channel.exchange_delete(name)


def test_existing_exchange_is_used_as_it_is(broker: Broker, made: Callable[..., Amqp]) -> None:
    """Another type is the operator's choice."""
    name = f"exchange-{os.urandom(4).hex()}"
    with broker.channel() as channel:
        channel.exchange_declare(name, exchange_type="fanout", auto_delete=True)
    queue = Queue(broker, name, "")
    made(url=broker.url, exchange=name).notify(example_event("repo-sync-started"))
    assert len(queue.take()) == 1
    queue.delete()


def test_missing_exchange_with_a_reserved_name_is_a_failure(broker: Broker, made: Callable[..., Amqp]) -> None:
    """The broker would not let us declare it."""
    with pytest.raises(AmqpError, match=r"404 NOT_FOUND - no exchange 'amq\.none'"):
        made(url=broker.url, exchange="amq.none").notify(example_event("repo-sync-started"))


def test_wrong_credentials_fail_at_once(broker: Broker, made: Callable[..., Amqp]) -> None:
    """They are not tried until the timeout, which would never end here."""
    url = broker.url.replace("guest:guest", "guest:wrong")
    with pytest.raises(AmqpError, match="the broker refused the user name or the password"):
        made(url=url, timeout=3600).notify(example_event("repo-sync-started"))


def test_wrong_virtual_host_fails_at_once(broker: Broker, made: Callable[..., Amqp]) -> None:
    """So is a virtual host that does not exist."""
    with pytest.raises(AmqpError, match="the broker refused the virtual host"):
        made(url=f"{broker.url}/none", timeout=3600).notify(example_event("repo-sync-started"))


def test_user_without_permissions_is_refused(broker: Broker, made: Callable[..., Amqp]) -> None:
    """One that may not declare the exchange, and one that may not write to it."""
    name = f"user-{os.urandom(4).hex()}"
    broker.control("add_user", name, "password")
    url = broker.url.replace("guest:guest", f"{name}:password")
    with pytest.raises(AmqpError, match="refused the virtual host"):
        made(url=url).notify(example_event("repo-sync-started"))
    broker.control("set_permissions", name, "^$", "^$", "^$")
    with pytest.raises(AmqpError, match="refused the exchange: 403"):
        made(url=url, exchange=name).notify(example_event("repo-sync-started"))
    with pytest.raises(AmqpError, match="refused the event: 403"):
        made(url=url).notify(example_event("repo-sync-started"))
    broker.control("set_permissions", name, "^$", "^amq\\.topic$", "^$")
    made(url=url, unroutable="accept").notify(example_event("repo-sync-started"))


@pytest.mark.parametrize("format_", [Format.CLOUDEVENTS, Format.CLOUDEVENTS_BINARY])
@pytest.mark.parametrize("repo_id", HOSTILE)
def test_repository_does_not_widen_the_routing_key(
    broker: Broker, queue: Queue, made: Callable[..., Amqp], repo_id: str, format_: Format
) -> None:
    """Whatever its name is, the message has the key of its event type, and is one message."""
    event = example_event("repo-sync-started", repo_id=repo_id)
    made(url=broker.url, format=format_.value).notify(event)
    [(method, properties, content)] = queue.take()
    assert method.routing_key == "pulp.server.repo.sync.start"
    read = json.loads(content)
    assert (read["data"] if format_ is Format.CLOUDEVENTS else read) == event.body
    assert not any(character in "\r\n\0" for text in (properties.headers or {}).values() for character in text)


def test_attributes_that_fit_in_no_frame_are_a_permanent_failure(
    broker: Broker, queue: Queue, made: Callable[..., Amqp]
) -> None:
    """The broker would close the connection; in structured mode there is no such limit."""
    event = example_event("repo-sync-started", repo_id="x" * 100_000)
    notifier = made(url=broker.url, format="cloudevents-binary")
    with pytest.raises(
        PermanentFailure, match=r'more than a frame may have .* fix: use format = "cloudevents"'
    ) as caught:
        notifier.notify(event)
    assert caught.value.detail is not None
    assert caught.value.detail["exchange"] == "amq.topic"
    made(url=broker.url).notify(event)
    assert ids_in(queue) == [event.id]


def test_many_threads_use_a_connection_each(broker: Broker, queue: Queue, made: Callable[..., Amqp]) -> None:
    """Every event arrives once, and connections are reused."""
    notifier = made(url=broker.url)
    events = [example_event("repo-sync-started") for _ in range(400)]
    with ThreadPoolExecutor(8) as threads:
        details = list(threads.map(notifier.notify, events))
    assert {detail["reply"] for detail in details} == {"ack"}
    assert 1 <= connections_of(notifier) <= 8
    assert sorted(ids_in(queue)) == sorted(event.id for event in events)


def test_interrupted_event_leaves_no_connection_behind(broker: Broker, queue: Queue, made: Callable[..., Amqp]) -> None:
    """An exception of a signal handler ends the wait; the connection is closed, and the next event is published."""

    class Interrupted(BaseException):
        pass

    def interrupt(_signum: int, _frame: object) -> None:
        raise Interrupted

    notifier = made(url=broker.url, timeout=60)
    notifier.notify(example_event("repo-sync-started"))
    before = open_sockets()
    broker.send(signal.SIGSTOP)
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            notifier.notify(example_event("repo-sync-started"))
    finally:
        signal.signal(signal.SIGALRM, handler)
        broker.send(signal.SIGCONT)
    assert connections_of(notifier) == 0
    assert len(open_sockets()) < len(before)
    event = example_event("repo-sync-started")
    notifier.notify(event)
    until(lambda: event.id in ids_in(queue))


def test_closing_leaves_nothing_open(broker: Broker, queue: Queue, made: Callable[..., Amqp]) -> None:
    """Connections are closed, also that of an event that arrives late."""
    before = open_sockets()
    notifier = made(url=broker.url)
    notifier.notify(example_event("repo-sync-started"))
    assert open_sockets() != before
    notifier.close()
    assert open_sockets() == before
    notifier.notify(example_event("repo-sync-started"))
    assert open_sockets() == before
    notifier.close()
    assert len(queue.take()) == 2


def test_tls_with_a_client_certificate(broker: Broker, queue: Queue, made: Callable[..., Amqp]) -> None:
    """The broker is verified by the CA, and verifies the client; many threads at once are all encrypted."""
    notifier = made(**broker.tls("ca_path", "certificate_path", "key_path"))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(notifier.notify, [example_event("repo-sync-started") for _ in range(40)]))
    assert len(queue.take()) == 40


def test_broker_of_another_authority_is_refused(broker: Broker, made: Callable[..., Amqp]) -> None:
    """The CAs of the system do not know it."""
    with pytest.raises(AmqpError, match=r"certificate of the broker is not trusted: .*(self.signed|local issuer)"):
        made(**broker.tls(), timeout=3600).notify(example_event("repo-sync-started"))


def test_broker_with_another_host_name_is_refused(broker: Broker, made: Callable[..., Amqp]) -> None:
    """Its certificate is for `localhost` alone."""
    config = broker.tls("ca_path") | {"url": broker.tls_url.replace("localhost", "127.0.0.1")}
    with pytest.raises(AmqpError, match="not trusted: IP address mismatch"):
        made(**config, timeout=3600).notify(example_event("repo-sync-started"))


def test_client_without_a_certificate_is_refused(broker: Broker, made: Callable[..., Amqp]) -> None:
    """Nothing is published."""
    with pytest.raises(AmqpError, match="the broker cannot be reached"):
        made(**broker.tls("ca_path"), timeout=3).notify(example_event("repo-sync-started"))


def test_expired_certificate_is_refused(made: Callable[..., Amqp], tmp_path: Path) -> None:
    """There is no way to skip the check."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1)).configure_cert(context)

    def shake_hands(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with server_that(shake_hands) as port:
        notifier = made(url=f"amqps://localhost:{port}", ca_path=str(tmp_path / "ca.pem"), timeout=3600)
        with pytest.raises(AmqpError, match="not trusted: certificate has expired"):
            notifier.notify(example_event("repo-sync-started"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
def test_broker_with_old_tls_is_refused(made: Callable[..., Amqp], tmp_path: Path) -> None:
    """A broker that speaks nothing newer than TLS 1.0 gets no word of AMQP, although its certificate is valid."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    received: list[bytes] = []

    def shake_hands(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            received.append(secure.recv(1000))

    with server_that(shake_hands) as port:
        notifier = made(url=f"amqps://localhost:{port}", ca_path=str(tmp_path / "ca.pem"), timeout=3)
        with pytest.raises(AmqpError, match="the broker cannot be reached: SSL"):
            notifier.notify(example_event("repo-sync-started"))
    assert received == []


def test_plain_text_server_gets_no_password_over_tls(made: Callable[..., Amqp]) -> None:
    """A server that does not speak TLS is not spoken to without it."""
    received: list[bytes] = []

    def record(connection: socket.socket) -> None:
        received.append(connection.recv(10_000))
        connection.sendall(b"AMQP\x00\x00\x09\x01")

    with server_that(record) as port, pytest.raises(AmqpError, match="the broker cannot be reached: SSLError"):
        made(url=f"amqps://u:canary-9b1f@127.0.0.1:{port}", timeout=3).notify(example_event("repo-sync-started"))
    assert received
    assert not any(b"canary" in data or data.startswith(b"AMQP") for data in received)


def test_no_secret_is_shown(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No log record, report, representation, listing or journal has the password, whatever goes wrong."""
    canary = "canary%2F9b1f7c22e5"
    url = broker.url.replace("guest:guest", f"guest:{canary}")
    monkeypatch.setenv("AMQP_URL", url)
    caplog.set_level(logging.DEBUG)
    settings = settings_of(tmp_path, exchange="amq.topic")
    shown = []
    with Hooks.discover(str(settings)) as hooks:
        assert not hooks.problems
        report = hooks.repo_sync_started(repo_id="zoo")
        shown += [repr(report), repr(hooks.listeners), repr(hooks)]
        drain(hooks)
    for arguments in (
        ["check"],
        ["listeners", "--json"],
        ["deliveries", "--json"],
        ["deliveries", "show", f"{report.event.id}/broker"],
    ):
        run = run_python(tmp_path, "-m", "pulp_hooks", *arguments, AMQP_URL=url)
        assert run.returncode == 0, run.stderr
        shown += [run.stdout, run.stderr]
    assert "the broker refused the user name or the password" in "".join(shown)
    shown += [record.getMessage() + str(record.exc_text) + repr(vars(record)) for record in caplog.records]
    shown += [path.read_bytes().decode(errors="replace") for path in tmp_path.iterdir() if path.is_file()]
    for secret in (canary, "canary/9b1f7c22e5", "canary"):
        assert not [text for text in shown if secret in text]


class Peer:
    """The side of a broker in a connection, which has read the login."""

    def __init__(self, connection: socket.socket, *, confirms: bool = True) -> None:
        self._connection = connection
        self._incoming = connection.makefile("rb")
        self._incoming.read(8)
        properties = {"product": "long" * 100, "capabilities": {"publisher_confirms": confirms, "basic.nack": True}}
        self.send(spec.Connection.Start(0, 9, properties, "PLAIN", "en_US"), channel=0)
        self.password = self.read().method.response.split(b"\0")[-1].decode()

    def open(self) -> None:
        """Let the client open a channel."""
        self.send(spec.Connection.Tune(10, 131_072, 0), channel=0)
        self.read()
        self.read()
        self.send(spec.Connection.OpenOk(), channel=0)
        self.read()
        self.send(spec.Channel.OpenOk())

    def read(self) -> Any:  # noqa: ANN401 - pika has no types
        """Return the next frame."""
        head = self._incoming.read(7)
        return frame.decode_frame(head + self._incoming.read(int.from_bytes(head[3:]) + 1))[1]

    def send(self, content: Any, channel: int = 1) -> None:  # noqa: ANN401 - pika has no types
        """Send a method, or a frame."""
        sent = content if isinstance(content, frame.Frame) else frame.Method(channel, content)
        self._connection.sendall(sent.marshal())


def test_password_that_a_broker_repeats_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even without the URL that it is a part of."""

    def repeat(connection: socket.socket) -> None:
        broker = Peer(connection)
        broker.send(spec.Connection.Close(541, f"no {broker.password}", 0, 0), channel=0)
        broker.read()

    with server_that(repeat) as port:
        monkeypatch.setenv("AMQP_URL", f"amqp://u:canary-77@127.0.0.1:{port}")
        with Hooks.discover(str(settings_of(tmp_path, timeout="1"))) as hooks:
            [outcome] = hooks.test("broker").outcomes
    said = [str(record.exc_text) for record in caplog.records if record.name.startswith("pulp_hooks")]
    assert "(541) 'no ***'" in "".join(said)
    assert "canary" not in f"{outcome} {said}"


def test_broker_that_sends_without_end_is_left(made: Callable[..., Amqp]) -> None:
    """What it returns cannot be larger than an event; its name is shortened."""

    def flood(connection: socket.socket) -> None:
        broker = Peer(connection)
        broker.open()
        broker.read()
        broker.send(spec.Confirm.SelectOk())
        broker.read()
        broker.send(spec.Basic.Return(312, "NO_ROUTE", "x", "y"))
        broker.send(frame.Header(1, 10**12, spec.BasicProperties()))
        while True:
            broker.send(frame.Body(1, b"x" * 131_000))

    with server_that(flood) as port:
        notifier = made(url=f"amqp://127.0.0.1:{port}", timeout=300)
        with pytest.raises(AmqpError, match="the broker sends without end") as caught:
            notifier.notify(example_event("repo-sync-started"))
    assert caught.value.detail is not None
    assert len(str(caught.value.detail["broker"])) == 200


def test_broker_without_confirms_fails_at_once(made: Callable[..., Amqp]) -> None:
    """It cannot say that it has an event, and another try would not help."""

    def serve(connection: socket.socket) -> None:
        broker = Peer(connection, confirms=False)
        broker.open()
        broker.read()

    with server_that(serve) as port, pytest.raises(AmqpError, match="the broker has no publisher confirms"):
        made(url=f"amqp://127.0.0.1:{port}", timeout=300).notify(example_event("repo-sync-started"))


def test_entry_point_names_the_notifier() -> None:
    """What the package declares is the class."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["pulp_hooks"]["amqp"].partition(":")
    assert getattr(import_module(module), name) is Amqp


def test_readme_is_true(broker: Broker, tmp_path: Path) -> None:
    """With the settings of the README its commands print what it shows; its tables name all keys and routing keys."""
    [settings] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "pulp-hooks.toml").write_text(settings, encoding="utf-8")
    [commands] = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for arguments, expected in re.findall(r"\$ pulp-hooks (.*?)\n(.*?)(?=\$|\Z)", commands, re.DOTALL):
        printed = run_python(tmp_path, "-m", "pulp_hooks", *arguments.split(), AMQP_URL=broker.url)
        assert without_seconds(printed.stdout) == without_seconds(expected), printed.stderr
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == set(Amqp.Config().fields)
    assert dict(re.findall(r"^\| `([\w-]+)` \| `([\w.]+)` \|$", README, re.MULTILINE)) == ROUTING_KEYS


def without_seconds(text: str) -> list[str]:
    """Return the lines with every duration replaced by its name."""
    return [re.sub(r"\b\d\.\d{3}\b", "SECONDS", line).rstrip() for line in text.splitlines()]
