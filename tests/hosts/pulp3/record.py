"""Record what a Pulp 3 server answers, so that tests without a server see what a real one shows.

Usage, in the root of the repository:

    python -m tests.hosts.pulp3.record [ENVIRONMENT]

ENVIRONMENT is a virtual environment with any release of Pulp, and plugins; without it the pinned release is recorded.
The file is `recorded/pulpcore-VERSION.json` beside this module, with `test_recorded.py` as its reader. It has:

- `components`: versions of the server's components, by their names
- `running`: tasks as they were shown while they were running
- `tasks`: all tasks in the end, in the order in which they finished
- `repositories`, `remotes`, `publications`: what the lists with these names show in the end
- `versions`: the repository versions that tasks created

Addresses and paths are those of an imaginary host. Tracebacks have lost their middle.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pulp_hooks.hosts.pulp3.client import component_versions
from tests.hosts.pulp3.pulp_api import PulpApi
from tests.hosts.pulp3.pulp_server import PulpServer, running_server, stopped_server
from tests.hosts.pulp3.scripted_server import RECORDED
from tests.hosts.pulp3.upstream import Upstream

_ALL = 1000
_ENDS_OF_TRACEBACK = 4
"""Lines that are kept at either end."""


class _Recording:
    """What is asked of one server, and what it shows.

    Args:
        server: A running server without repositories.
        upstream: What it syncs from.
    """

    def __init__(self, server: PulpServer, upstream: Upstream) -> None:
        self._server = server
        self._upstream = upstream
        self._pulp = PulpApi(server.url)
        self._running: list[Any] = []
        self._components = component_versions(self._pulp.get("status/"))

    def record(self) -> Path:
        """Run all cases, and return the file with the answers."""
        self._file()
        self._canceled_and_killed()
        self._alternate_content_source()
        if "rpm" in self._components:
            href = self._create("rpm", self._upstream.write_rpm("rpms", ["bear", "fox"]), "rpm", policy="on_demand")
            self._sync(href)
            self._publish(href)
        if "python" in self._components:
            url = self._upstream.write_python("index", "shelf")
            href = self._create("python", url, "python", includes=["shelf"], policy="on_demand")
            self._sync(href)
            self._publish(href)
        if "deb" in self._components:
            self._deb()
        if "container" in self._components:
            self._upstream.files |= {"/v2/": b"{}", "/v2/empty/tags/list": b'{"name": "empty", "tags": []}'}
            for name in ("empty", "absent"):
                href = self._create(f"container-{name}", self._upstream.url, "container", upstream_name=name)
                self._sync(href)
        path = RECORDED / f"pulpcore-{'.'.join(self._components['core'].split('.')[:2])}.json"
        path.write_text(self._neutral(json.dumps(self._answers(), indent=1, sort_keys=True)) + "\n")
        return path

    def _file(self) -> None:
        url = self._upstream.write("zoo", {"a": "1", "b": "2", "c": "3"})
        plain = self._create("plain", url)
        self._sync(plain)
        self._sync(plain)
        self._publish(plain)
        auto = self._create("auto", url, repository={"autopublish": True, "pulp_labels": {"env": "prod"}})
        self._sync(auto)
        self._upstream.write("zoo", {"a": "changed", "b": "2"})
        self._sync(plain)
        self._publish(plain)
        self._sync(auto)
        self._sync(auto)
        self._pulp.wait(self._pulp.upload(auto, "d", b"uploaded"))
        self._sync(self._create("mirror", url), mirror=True)
        self._upstream.files["/garbage"] = b"<html>this is no manifest"
        self._sync(self._create("missing", f"{self._upstream.url}/missing", max_retries=0))
        self._sync(self._create("garbage", f"{self._upstream.url}/garbage", max_retries=0))
        self._sync(self._create("refused", "http://127.0.0.1:1/PULP_MANIFEST", max_retries=0))

    def _canceled_and_killed(self) -> None:
        url = self._upstream.write("held", {"a": "1"})
        canceled = self._create("canceled", url)
        with self._sync_held(canceled) as task:
            waiting = self._pulp.sync(canceled)
            self._pulp.cancel(waiting)
            self._pulp.cancel(task)
        self._pulp.wait(waiting)
        with self._sync_held(self._create("killed", url)):
            self._server.kill_running_tasks()

    def _alternate_content_source(self) -> None:
        """Refresh one: a task of the name of a sync, without a repository that anybody sees."""
        url = self._upstream.write("alternative", {"a": "1"})
        remote = self._pulp.create_remote("alternative", url, policy="on_demand")
        source = self._pulp.post("acs/file/file/", name="alternative", remote=remote)["pulp_href"]
        group = self._pulp.post(f"{source}refresh/")["task_group"]
        for task in self._pulp.get(group)["tasks"]:
            self._pulp.wait(task["pulp_href"])

    def _deb(self) -> None:
        remote: dict[str, Any] = {"distributions": "stable", "policy": "on_demand"}
        href = self._create("deb", self._upstream.write_deb("debs", "bear"), "deb", **remote)
        self._sync(href)
        self._publish(href)
        self._pulp.wait(self._pulp.post("publications/deb/verbatim/", repository=href)["task"])
        self._sync(self._create("deb-missing", f"{self._upstream.url}/missing/", "deb", **remote))

    def _create(
        self, name: str, url: str, kind: str = "file", *, repository: Mapping[str, object] = {}, **remote: object
    ) -> str:
        """Create a repository with a remote, and return its href."""
        href = self._pulp.create_remote(name, url, kind, **remote)
        return self._pulp.create_repository(name, kind, remote=href, **repository)

    def _sync(self, repository: str, **options: object) -> None:
        self._pulp.wait(self._pulp.sync(repository, **options))

    def _publish(self, repository: str) -> None:
        self._pulp.wait(self._pulp.publish(repository))

    @contextmanager
    def _sync_held(self, repository: str) -> Iterator[str]:
        """Return a context manager in which a sync is running; it must end the task."""
        with self._upstream.hold():
            task = self._pulp.sync(repository)
            self._running.append(self._pulp.wait(task, "running"))
            yield task
            self._pulp.wait(task)

    def _answers(self) -> dict[str, Any]:
        tasks = self._pulp.get("tasks/", ordering="finished_at", limit=_ALL)["results"]
        created = [href for task in tasks for href in task["created_resources"]]
        lists = ("repositories", "remotes", "publications")
        return {
            "components": self._components,
            "running": self._running,
            "tasks": [_shortened(task) for task in tasks],
            **{name: self._pulp.get(f"{name}/", limit=_ALL)["results"] for name in lists},
            "versions": [self._pulp.get(href) for href in created if re.search("/versions/[0-9]+/$", href)],
        }

    def _neutral(self, text: str) -> str:
        environment = self._server.programs.parent
        python = (environment / "bin" / "python").resolve().parents[1]
        for place, neutral in (
            (self._upstream.url, "http://upstream.example"),
            (self._upstream.url.removeprefix("http://"), "upstream.example:80"),
            (str(self._server._folder), "/var/lib/pulp"),
            (str(environment), "/usr/local/lib/pulp"),
            (str(python), "/usr"),
        ):
            text = text.replace(place, neutral)
        return text


def _shortened(task: dict[str, Any]) -> dict[str, Any]:
    lines = ((task["error"] or {}).get("traceback") or "").splitlines(keepends=True)
    if len(lines) > 2 * _ENDS_OF_TRACEBACK:
        task["error"]["traceback"] = "".join([*lines[:_ENDS_OF_TRACEBACK], *lines[-_ENDS_OF_TRACEBACK:]])
    return task


def _record(server: PulpServer) -> Path:
    upstream = Upstream()
    try:
        return _Recording(server, upstream).record()
    finally:
        upstream.stop()


def _main(environment: Path | None) -> Path:
    if environment is None:
        with running_server() as server:
            return _record(server)
    # The plugin for containers asks for keys of a token server otherwise.
    with stopped_server(environment, {"TOKEN_AUTH_DISABLED": True}) as server:
        server.start(dump=None)
        return _record(server)


if __name__ == "__main__":
    print(_main(Path(sys.argv[1]).absolute() if sys.argv[1:] else None))  # noqa: T201 - a command prints
