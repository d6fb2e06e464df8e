"""A worker that starts before its journal: real processes, and a PostgreSQL server that comes up later."""

import configparser
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pulp_hooks import Hooks, hookimpl
from tests.proofs.conftest import Server, until

LISTENER = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    open("called", "w").close()
"""


class Desk:
    """What the host knows of the listener."""

    @hookimpl
    def repo_sync_started(self) -> None:
        """Never called: the worker calls the installed one."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a working directory in which a listener is installed."""
    folder = tmp_path / "work"
    info = folder / "desk-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "desk.py").write_text(LISTENER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pulp_hooks]\ndesk = desk\n")
    return folder


@contextmanager
def worker(folder: Path, url: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker on this journal while a block lasts; what it says is in the file `log`."""
    (folder / "pulp-hooks.toml").write_text(f'[plugins]\nblock = ["console", "jsonl"]\n[journal]\nurl = "{url}"\n')
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-W", "error", "-m", "pulp_hooks", "worker", *arguments]
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def log(folder: Path) -> str:
    """Return what the worker has said."""
    return (folder / "log").read_text()


def test_worker_waits_for_a_server_that_starts_later(server: Server, folder: Path) -> None:
    """It says so at growing intervals, and delivers as soon as the server is there."""
    server.stop()
    with worker(folder, server.url) as started:
        until(lambda: log(folder).count("retrying in") >= 3)
        pauses = [float(found) for found in re.findall(r"retrying in ([\d.]+) s", log(folder))]
        assert pauses[:3] == sorted(set(pauses[:3]))
        server.start()
        until(lambda: "is back" in log(folder))
        with Hooks({"desk": Desk()}, journal=server.url) as hooks:
            hooks.fire("repo-sync-started", {"repo_id": "zoo"})
        until((folder / "called").exists)
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0


def test_worker_that_waits_for_its_server_is_stopped_by_sigterm(folder: Path) -> None:
    """With exit code 0, as one that delivers."""
    with worker(folder, "postgresql://me@127.0.0.1:9/journal") as started:
        until(lambda: "retrying in" in log(folder))
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0


def test_single_run_does_not_wait_for_its_server(folder: Path) -> None:
    """Whoever starts it by the clock is told at once."""
    with worker(folder, "postgresql://me@127.0.0.1:9/journal", "--once") as started:
        assert started.wait(30) == 1
    assert "127.0.0.1:9" in log(folder)
    assert "it is tried again" not in log(folder)


def _other_version(folder: Path) -> str:
    url = f"sqlite:///{folder / 'journal.db'}"
    with Hooks(journal=url) as hooks:
        hooks.fire("repo-sync-started", {"repo_id": "zoo"})
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        connection.execute("UPDATE pulp_hooks_version SET version_num = '9999'")
        connection.execute("UPDATE pulp_hooks_journal SET readable_from = '9999'")
        connection.commit()
    return url


def _no_database(folder: Path) -> str:
    (folder / "journal.db").write_text("this is a text, and not a database; " * 100)
    return f"sqlite:///{folder / 'journal.db'}"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_other_version, "schema version 9999"),
        (_no_database, "journal.db"),
        (lambda folder: f"sqlite:///{folder / 'none' / 'journal.db'}", "there is no folder"),
        (lambda _: "mysql://me@127.0.0.1/journal", "must begin with sqlite:/// or postgresql://"),
        (lambda _: "postgresql://me@127.0.0.1:9/journal?no_such_option=1", "postgresql://me@127.0.0.1:9/journal"),
    ],
    ids=["version", "no database", "no folder", "url", "option"],
)
def test_worker_ends_at_once_where_waiting_would_not_help(make: Callable[[Path], str], said: str, folder: Path) -> None:
    """What is wrong with the settings, or with the file, is said in the end of it, and the exit code is 1."""
    url = make(folder)
    with worker(folder, url) as started:
        assert started.wait(30) == 1
    assert said in log(folder)
    assert "it is tried again" not in log(folder)


def test_unit_of_the_documentation_can_be_enabled() -> None:
    """It is wanted by a target, started again however it ends, and given more time to stop than a worker takes."""
    page = (Path(__file__).parents[2] / "docs" / "durable.md").read_text()
    (text,) = re.findall(r"^:caption: pulp-hooks\.service\n\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.read_string(text)
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert unit["Service"]["Restart"] == "always"
    assert int(unit["Service"]["TimeoutStopSec"]) > 35
