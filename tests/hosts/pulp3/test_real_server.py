"""A real Pulp 3, a real watcher beside it: every sync and publish fires its events, exactly once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pulp_hooks.journal.journal import Journal
from tests.hosts.pulp3.pulp_api import PulpApi
from tests.hosts.pulp3.pulp_server import PASSWORD, PulpServer
from tests.hosts.pulp3.upstream import Upstream

GARBAGE = b"<html>this is no manifest"
NOBODY = "http://127.0.0.1:1/PULP_MANIFEST"
SECONDS = 120.0
"""Longest wait for something that is bound to happen."""

Fact = tuple[str, str, str]
"""Event type, repository and result."""


class Watching:
    """A watcher of the test's own, with a journal.

    Args:
        folder: Its working directory.
        server: The server.
        user: The user it logs in as.
        password: The user's password.
    """

    def __init__(self, folder: Path, server: PulpServer, user: str = "admin", password: str = PASSWORD) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "PULP_WATCHER_PASSWORD": password,
            "PULP_HOOKS_BLOCK": "console",
            "PYTHONWARNINGS": "error",
        }
        (folder / "pulp-hooks.toml").write_text(f"""
            [journal]
            url = "sqlite:///journal.db"
            [[pulp]]
            name = "pulp"
            url = "{server.url}"
            username = "{user}"
            password = {{ env = "PULP_WATCHER_PASSWORD" }}
            interval_seconds = 1
        """)
        self.process: subprocess.Popen[str] | None = None

    def run(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run `pulp-hooks watch` to its end."""
        command = [sys.executable, "-m", "pulp_hooks", "watch", *options]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def start(self) -> None:
        """Start `pulp-hooks watch`, after a first look from which on everything is reported."""
        ended = self.run("--once")
        assert ended.returncode == 0, ended.stderr
        self.restart()

    def restart(self) -> None:
        """Start `pulp-hooks watch` again."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pulp_hooks", "watch"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                text=True,
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the watcher by a signal, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def facts(self) -> list[Fact]:
        """Return what has been fired, in order."""
        journal = Journal(f"sqlite:///{self.folder / 'journal.db'}")
        try:
            if not journal.exists():
                return []
            stored = list(reversed(journal.events(limit=10_000).items))
            bodies = [json.loads(journal.content(one.id) or b"")["body"] for one in stored]
        finally:
            journal.close()
        return [
            (one.type.removeprefix("repo-"), str(body["repo_id"]), str(body.get("result", "")))
            for one, body in zip(stored, bodies, strict=True)
        ]

    def expect(self, expected: Sequence[Fact]) -> None:
        """Check that exactly these events are fired for their repositories, in order for each, and no event twice."""
        repositories = {repository for _, repository, _ in expected}

        def found() -> list[Fact]:
            return [fact for fact in self.facts() if fact[1] in repositories]

        until(lambda: len(found()) >= len(expected))
        if self.process is not None and self.process.poll() is None:
            self.end()
        # What the server still knows is asked for once more: nothing may be missing, and nothing new appear.
        self.run("--once")
        for repository in repositories:
            of_repository = [fact for fact in expected if fact[1] == repository]
            assert [fact for fact in found() if fact[1] == repository] == of_repository


def until(is_true: Callable[[], bool]) -> None:
    """Wait until something is true that is bound to become true."""
    deadline = time.monotonic() + SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def watching(tmp_path: Path, pulp_server: PulpServer) -> Iterator[Watching]:
    """Return a watcher that is running."""
    watching = Watching(tmp_path, pulp_server)
    watching.start()
    yield watching
    if watching.process is not None and watching.process.poll() is None:
        watching.end(signal.SIGKILL)


def operation(kind: str, repository: str, result: str = "success") -> list[Fact]:
    """Return both events of an operation."""
    return [(f"{kind}-started", repository, ""), (f"{kind}-finished", repository, result)]


class Repositories:
    """Makes repositories with names of their own, each with a remote.

    Args:
        pulp: The administrator.
        prefix: How all names begin.
    """

    def __init__(self, pulp: PulpApi, prefix: str) -> None:
        self._pulp = pulp
        self._prefix = prefix

    def create(
        self, name: str, url: str, kind: str = "file", *, remote: dict[str, Any] | None = None, **fields: object
    ) -> tuple[str, str]:
        """Return name and href of a new repository."""
        name = f"{self._prefix}-{name}"
        href = self._pulp.create_remote(name, url, kind, **(remote or {}))
        return name, self._pulp.create_repository(name, kind, remote=href, **fields)


@pytest.fixture
def repositories(pulp: PulpApi, request: pytest.FixtureRequest) -> Repositories:
    """Return a maker of repositories for this test."""
    return Repositories(pulp, request.node.name.removeprefix("test_").replace("_", "-")[:40])


def test_every_way_an_operation_goes(
    pulp: PulpApi, upstream: Upstream, repositories: Repositories, watching: Watching
) -> None:
    """First, unchanged, changed and mirror syncs, publishes, autopublish, uploads and failures."""
    expected: list[Fact] = []
    url = upstream.write("ways", {"a": "1", "b": "2"})
    name, href = repositories.create("plain", url)
    pulp.wait(pulp.sync(href))
    pulp.wait(pulp.sync(href))
    pulp.wait(pulp.publish(href))
    upstream.write("ways", {"a": "changed", "c": "3"})
    pulp.wait(pulp.sync(href))
    pulp.wait(pulp.publish(href))
    expected += 2 * operation("sync", name) + operation("publish", name)
    expected += operation("sync", name) + operation("publish", name)

    name, href = repositories.create("mirror", url)
    pulp.wait(pulp.sync(href, mirror=True))
    expected += operation("sync", name) + operation("publish", name)

    name, href = repositories.create("auto", url, autopublish=True)
    pulp.wait(pulp.sync(href))
    pulp.wait(pulp.sync(href))
    pulp.wait(pulp.upload(href, "d", b"uploaded"))
    expected += operation("sync", name) + operation("publish", name) + operation("sync", name)
    expected += operation("publish", name)

    upstream.files["/ways/garbage"] = GARBAGE
    for kind, address in (("404", f"{url}-missing"), ("refused", NOBODY), ("garbage", f"{url[:-13]}garbage")):
        name, href = repositories.create(kind, address, remote={"max_retries": 0})
        pulp.wait(pulp.sync(href))
        expected += operation("sync", name, "failed")
    watching.expect(expected)


def test_canceled_and_killed_tasks(
    pulp: PulpApi, pulp_server: PulpServer, upstream: Upstream, repositories: Repositories, watching: Watching
) -> None:
    """A task that waited fires nothing; one that ran is canceled; one whose process or worker died is an error."""
    expected: list[Fact] = []
    url = upstream.write("held", {"a": "1"})
    name, href = repositories.create("canceled", url)
    with upstream.hold():
        running = pulp.sync(href)
        pulp.wait(running, "running")
        waiting = pulp.sync(href)
        pulp.cancel(waiting)
        until(lambda: ("sync-started", name, "") in watching.facts())
        pulp.cancel(running)
        pulp.wait(running)
    pulp.wait(waiting)
    expected += operation("sync", name, "canceled")

    name, href = repositories.create("killed", url)
    with upstream.hold():
        running = pulp.sync(href)
        pulp.wait(running, "running")
        pulp_server.kill_running_tasks()
        assert "reason" in pulp.wait(running)["error"]
    expected += operation("sync", name, "error")

    name, href = repositories.create("lost", url)
    with upstream.hold():
        running = pulp.sync(href)
        pulp.wait(running, "running")
        pulp_server.kill_busy_workers()
        pulp_server.start_worker("another")
        assert "reason" in pulp.wait(running)["error"]
    expected += operation("sync", name, "error")
    watching.expect(expected)


def test_counts_errors_and_correlation(
    pulp: PulpApi, upstream: Upstream, repositories: Repositories, tmp_path: Path, pulp_server: PulpServer
) -> None:
    """The bodies say what happened, and the envelope what belongs together."""
    watching = Watching(tmp_path, pulp_server)
    assert watching.run("--once").returncode == 0
    url = upstream.write("counted", {"a": "1", "b": "2", "c": "3"})
    name, href = repositories.create("auto", url, autopublish=True)
    first = pulp.wait(pulp.sync(href))
    upstream.write("counted", {"a": "changed", "b": "2"})
    pulp.wait(pulp.sync(href))
    missing, missing_href = repositories.create("missing", f"{url}-missing")
    pulp.wait(pulp.sync(missing_href))
    ended = watching.run("--once", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    events = [event for event in events if event["body"]["repo_id"] in {name, missing}]
    assert [event["type"] for event in events] == [
        *2 * ["repo-sync-started", "repo-sync-finished", "repo-publish-started", "repo-publish-finished"],
        "repo-sync-started",
        "repo-sync-finished",
    ]
    counts = [[event["body"][f"{count}_count"] for count in ("added", "updated", "removed")] for event in events[1::4]]
    assert counts == [[3, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert {event["source"] for event in events} == {f"{pulp_server.url}/pulp/"}
    assert events[1]["operation_id"] == events[3]["caused_by"] == first["pulp_href"].split("/")[-2]
    assert events[1]["body"]["importer_id"] == name
    assert events[1]["call_report"]["pulp_href"] == first["pulp_href"]
    assert "404" in events[-1]["body"]["error_message"]


def test_restarted_server_loses_nothing(
    pulp: PulpApi, pulp_server: PulpServer, upstream: Upstream, repositories: Repositories, watching: Watching
) -> None:
    """The API goes down in the middle of a sync, and comes back."""
    url = upstream.write("restarted", {"a": "1"})
    name, href = repositories.create("server", url)
    with upstream.hold():
        task = pulp.sync(href)
        pulp.wait(task, "running")
        pulp_server.stop_api()
    until(lambda: "does not answer" in (watching.folder / "log").read_text())
    pulp_server.start_api()
    pulp.wait(task)
    pulp.wait(pulp.publish(href))
    watching.expect(operation("sync", name) + operation("publish", name))


def test_killed_watcher_loses_and_repeats_nothing(
    pulp: PulpApi, upstream: Upstream, repositories: Repositories, watching: Watching
) -> None:
    """Killed again and again while tasks run, the watcher reports each once."""
    url = upstream.write("killed", {"a": "1"})
    expected: list[Fact] = []
    for number in range(5):
        name, href = repositories.create(str(number), url, autopublish=True)
        task = pulp.sync(href)
        watching.end(signal.SIGKILL)
        pulp.wait(task)
        watching.restart()
        pulp.wait(pulp.publish(href))
        expected += operation("sync", name) + 2 * operation("publish", name)
    watching.expect(expected)


def test_rpm_and_python_repositories(
    pulp: PulpApi, upstream: Upstream, repositories: Repositories, watching: Watching
) -> None:
    """Other plugins have other names for the same."""
    expected: list[Fact] = []
    for kind, url, remote in (
        ("rpm", upstream.write_rpm("rpms", ["bear", "fox"]), {"policy": "on_demand"}),
        ("python", upstream.write_python("index", "shelf"), {"includes": ["shelf"], "policy": "on_demand"}),
    ):
        name, href = repositories.create(kind, url, kind, remote=remote)
        pulp.wait(pulp.sync(href))
        pulp.wait(pulp.publish(href))
        expected += operation("sync", name) + operation("publish", name)
    watching.expect(expected)


ROLES = ("core.task_viewer", "file.filerepository_viewer", "file.fileremote_viewer", "file.filepublication_viewer")


def test_viewer_roles_are_enough_and_missing_ones_are_named(
    pulp: PulpApi, pulp_server: PulpServer, upstream: Upstream, repositories: Repositories, tmp_path: Path
) -> None:
    """A user with the documented roles sees everything; without one of them it is told which."""
    name, href = repositories.create("roles", upstream.write("roles", {"a": "1"}), autopublish=True)
    password = "of-the-viewer-1"  # noqa: S105 - of a user of this test
    user = pulp.post("users/", username="viewer", password=password)["pulp_href"]
    watching = Watching(tmp_path, pulp_server, "viewer", password)
    pulp.wait(pulp.sync(href))
    for number, role in enumerate(ROLES):
        ended = watching.run("--check")
        assert ended.returncode == 1
        missing = ROLES[:1] if not number else ROLES[number:]
        assert [one for one in ROLES if one in ended.stdout] == list(missing), ended.stdout
        pulp.post(f"{user}roles/", role=role, content_object=None)
    # Other tests leave repositories of other plugins on the server, whose roles this user lacks.
    assert not [one for one in ROLES if one in watching.run("--check").stdout]
    assert watching.run("--once", "--since", "1h").returncode == 0
    assert [fact for fact in watching.facts() if fact[1] == name] == operation("sync", name) + operation(
        "publish", name
    )


@contextmanager
def program(folder: Path, *arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Return a context manager with a running program."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *arguments],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def test_webhook_about_a_sync_arrives_signed(
    pulp: PulpApi, upstream: Upstream, repositories: Repositories, watching: Watching
) -> None:
    """The whole way: Pulp, watcher, journal, worker, http notifier, and a receiver that verifies the signature."""
    secret = "whsec_" + "c2VjcmV0LW9mLXRoaXMtdGVzdC1vbmx5"
    name, href = repositories.create("webhook", upstream.write("webhook", {"a": "1"}))
    with program(watching.folder, "pulp_hooks_http", "HOOK_SECRET", HOOK_SECRET=secret) as receiver:
        assert receiver.stdout is not None
        url = receiver.stdout.readline().split()[-1]
        watching.end()
        settings = (
            (watching.folder / "pulp-hooks.toml").read_text()
            + f"""
            [[listeners]]
            name = "ci"
            notifier = "http"
            event_types = ["repo-sync-finished"]
            repo_ids = ["{name}"]
            [listeners.config]
            url = "{url}"
            secret = {{ env = "HOOK_SECRET" }}
            allow = ["127.0.0.0/8"]
        """
        )
        (watching.folder / "pulp-hooks.toml").write_text(settings)
        watching.restart()
        pulp.wait(pulp.sync(href))
        with program(watching.folder, "pulp_hooks", "worker", HOOK_SECRET=secret):
            line = receiver.stdout.readline()
    assert line.startswith("verified ")
    webhook = json.loads(line.partition(": ")[2])
    assert webhook["type"] == "repo.sync.finish"
    assert webhook["data"]["repo_id"] == name
