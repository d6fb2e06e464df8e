"""Fixtures for Celery: a private RabbitMQ server that tests may kill, and Celery workers as real processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_SERVER = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin:/usr/lib/rabbitmq/sbin:" + os.environ["PATH"])
_STARTS_WITHIN = 60

LISTENER = """
import os, pathlib, time
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body, event):
    with open("calls", "a") as calls:
        calls.write(f"{event.id} {body['repo_id']}\\n")
    time.sleep(float(os.environ.get("SECONDS", "0")))
"""

TASKS = """
from celery import Celery
from pulp_hooks.celery import carry_deliveries

app = Celery("deliveries", broker="{url}")
app.conf.task_default_queue = "{queue}"
app.conf.broker_connection_retry_on_startup = True
carry_deliveries(app, resend_seconds={resend_seconds})
"""


class Broker:
    """A private RabbitMQ server on loopback."""

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            self.port, self._other_port = first.getsockname()[1], second.getsockname()[1]
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start it with the data of earlier starts, and wait until it answers."""
        variables = {
            "HOME": self._folder,
            "RABBITMQ_NODENAME": f"pulp_hooks_{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._other_port,
            "RABBITMQ_MNESIA_BASE": self._folder / "mnesia",
            "RABBITMQ_LOG_BASE": self._folder / "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self._folder / "plugins",
            "RABBITMQ_CONFIG_FILE": self._folder / "none",
            "RABBITMQ_PID_FILE": self._folder / "pid",
        }
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._server], env=environment, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "output").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it at once, with its child processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Return a running RabbitMQ; skip if it is not installed, except in CI."""
    if _SERVER is None:
        if os.environ.get("CI") == "true":
            pytest.fail("RabbitMQ is not installed")
        pytest.skip("RabbitMQ is not installed")
    broker = Broker(tmp_path_factory.mktemp("broker"), _SERVER)
    broker.start()
    yield broker
    broker.kill()


class Cluster:
    """A folder with settings, a listener and a Celery app, and its Celery workers."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder
        self.broker = broker
        self.queue = f"queue-{os.urandom(4).hex()}"
        info = folder / "desk-1.0.dist-info"
        info.mkdir()
        (folder / "desk.py").write_text(LISTENER)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[pulp_hooks]\ndesk = desk\n")

    def configure(self, url: str, *, resend_seconds: float = 60, tasks: str = TASKS, **delivery: object) -> None:
        """Write the settings, with a journal, and the app."""
        lines = [f"{name} = {value}" for name, value in delivery.items()]
        settings = ["[journal]", f'url = "{url}"', "[plugins]", 'block = ["console", "jsonl"]', "[delivery]", *lines]
        (self.folder / "pulp-hooks.toml").write_text("\n".join(settings))
        values = {"url": self.broker.url, "queue": self.queue, "resend_seconds": resend_seconds}
        (self.folder / "tasks.py").write_text(tasks.format(**values))

    def run(self, code: str) -> str:
        """Run Python code in the folder, and return its output."""
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=self.folder, env=self._environment(), check=True, capture_output=True, text=True
        ).stdout

    def fire(self, *repo_ids: str) -> list[str]:
        """Fire an event for each repository, and return the ids."""
        return self.run(
            "from pulp_hooks import Hooks\n"
            "with Hooks.discover() as hooks:\n"
            f"    for name in {repo_ids!r}: print(hooks.repo_sync_started(repo_id=name).event.id)"
        ).split()

    @contextmanager
    def worker(self, *options: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """Return a context manager that runs a Celery worker."""
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--loglevel=INFO", "-c", "2", *options]
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment() | variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield worker
        finally:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    def calls(self) -> list[str]:
        """Return the ids of the events of all calls of the listener."""
        file = self.folder / "calls"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []

    def log(self) -> str:
        """Return the output of the workers."""
        return (self.folder / "worker.log").read_text()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PULP_HOOKS")}
        return kept | {"PYTHONPATH": str(self.folder)}


@pytest.fixture
def cluster(tmp_path: Path, broker: Broker) -> Cluster:
    """Return a cluster without workers."""
    return Cluster(tmp_path, broker)
