"""Hosts and workers of neighboring releases on one journal: each delivers the events of the other."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pulp_hooks
from pulp_hooks import Hooks
from pulp_hooks.testing import Recorder
from tests.worker.test_worker import STARTED

NEXT_RELEASE = {
    "event.py": {
        "    caused_by: str | None = None\n": "    caused_by: str | None = None\n    region: str | None = None\n",
        '            "caused_by": self.caused_by,\n': (
            '            "caused_by": self.caused_by,\n            "region": "eu-1",\n'
        ),
        '_NULLABLE = ("operation_id", "caused_by")': '_NULLABLE = ("operation_id", "caused_by", "region")',
    },
    "bodies/schemas.py": {
        'body of `repo-sync-started`."""\n\n    repo_id = fields.identifier()\n': (
            'body of `repo-sync-started`."""\n\n    repo_id = fields.identifier()\n    mirror = fields.text()\n'
        ),
    },
}
"""A release that adds a member to the envelope and a field to a body: what is replaced in the source, and by what."""

HOST = """
import sys
from pulp_hooks import Hooks, hookimpl

class Listener:
    @hookimpl
    def repo_sync_started(self):
        pass

with Hooks({"Listener": Listener()}, journal=sys.argv[1]) as hooks:
    hooks.fire("repo-sync-started", {"repo_id": "zoo", "mirror": "https://mirror.example"}, operation_id="op-1")
"""

WORKER = """
import json, sys
from pulp_hooks import Hooks, hookimpl

class Listener:
    @hookimpl
    def repo_sync_started(self, body, event):
        # In one piece: two threads print at the same time.
        members = {"body": body, "region": event.region, "operation_id": event.operation_id}
        sys.stdout.write(json.dumps(members) + "\\n")

with Hooks({"Listener": Listener()}, journal=sys.argv[1]) as hooks:
    hooks.worker().run_once()
"""


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """Write the package of a simulated next release."""
    folder = tmp_path / "next"
    shutil.copytree(Path(pulp_hooks.__file__).parent, folder / "pulp_hooks")
    for name, replacements in NEXT_RELEASE.items():
        path = folder / "pulp_hooks" / name
        source = path.read_text(encoding="utf-8")
        for old, new in replacements.items():
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        path.write_text(source, encoding="utf-8")
    return folder


def run(release: Path, program: str, url: str) -> str:
    """Run a program with a release of the package, and return its output."""
    # The working directory comes first on the path of `python -c`.
    done = subprocess.run(
        [sys.executable, "-c", program, url], cwd=release, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_older_worker_delivers_what_a_newer_host_has_stored(next_release: Path, url: str) -> None:
    """It ignores the unknown member of the envelope; the unknown field of the body reaches the listener."""
    run(next_release, HOST, url)
    listener = Recorder()
    with Hooks({"Listener": listener}, journal=url) as hooks:
        worker = hooks.worker()
        worker.run_once()
    (event,) = listener.events
    assert event.body == {"repo_id": "zoo", "mirror": "https://mirror.example"}
    assert event.operation_id == "op-1"
    assert "region" not in event.to_dict()
    assert worker.tally == {"succeeded": 1}


def test_newer_worker_delivers_what_an_older_host_has_stored(next_release: Path, url: str) -> None:
    """The member is null, and the field is missing."""
    with Hooks({"Listener": Recorder()}, journal=url) as hooks:
        hooks.fire(STARTED, {"repo_id": "zoo"}, operation_id="op-1")
    seen: dict[str, Any] = json.loads(run(next_release, WORKER, url))
    assert seen == {"body": {"repo_id": "zoo"}, "region": None, "operation_id": "op-1"}


def test_older_and_newer_releases_share_one_journal(next_release: Path, url: str) -> None:
    """Hosts of both store, workers of both deliver, and no event is lost."""
    listener = Recorder()
    with Hooks({"Listener": listener}, journal=url) as hooks:
        hooks.fire(STARTED, {"repo_id": "a"})
        run(next_release, HOST, url)
        hooks.worker().run_once()
        hooks.fire(STARTED, {"repo_id": "b"})
        run(next_release, HOST, url)
    printed = run(next_release, WORKER, url).splitlines()
    assert [event.body["repo_id"] for event in listener.events] == ["a", "zoo"]
    assert sorted(json.loads(line)["body"]["repo_id"] for line in printed) == ["b", "zoo"]
