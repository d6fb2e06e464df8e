"""The watcher with what whole servers of several releases showed, from the files that `record.py` writes."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pulp_hooks import EventType, Hooks, PulpSettings
from pulp_hooks.hosts.pulp3.events import PulpEvent
from pulp_hooks.hosts.pulp3.position import Position
from pulp_hooks.hosts.pulp3.server_watcher import ServerWatcher

from .scripted_server import RECORDED, ScriptedServer

if TYPE_CHECKING:
    from pulp_hooks.hosts.pulp3.client import PulpClient

RECORDINGS = sorted(RECORDED.glob("pulpcore-*.json"))

EXPECTED = {
    "file": {
        "plain": [
            "sync success +3 -0",
            "sync success +0 -0",
            "publish success",
            "sync success +1 -1",
            "publish success",
        ],
        "auto": [
            "sync success +3 -0",
            "publish success",
            "sync success +1 -1",
            "publish success",
            "sync success +0 -0",
            "publish success",
        ],
        "mirror": ["sync success +2 -0", "publish success"],
        "missing": ["sync failed +0 -0"],
        "garbage": ["sync failed +0 -0"],
        "refused": ["sync failed +0 -0"],
        "canceled": ["sync canceled +0 -0"],
        "killed": ["sync error +0 -0"],
    },
    "rpm": {"rpm": ["sync success +2 -0", "publish success"]},
    "python": {"python": ["sync success +1 -0", "publish success"]},
    "deb": {
        "deb": ["sync success +7 -0", "publish success", "publish success"],
        "deb-missing": ["sync failed +0 -0"],
    },
    "container": {"container-empty": ["sync success +0 -0"], "container-absent": ["sync failed +0 -0"]},
}
"""What each operation of a repository fires, by plugins and names of repositories; started events go without saying."""


def watched(recording: dict[str, Any]) -> tuple[list[PulpEvent], list[PulpEvent]]:
    """Return the events of a server's running tasks, and those of what it showed when all had finished."""
    server = ScriptedServer(*recording["running"])
    for shown in (*recording["repositories"], *recording["remotes"], *recording["publications"]):
        server.objects[shown["pulp_href"].split("/")[-2]] = shown
    server.objects |= {shown["pulp_href"]: shown for shown in recording["versions"]}
    fired: list[PulpEvent] = []
    watcher = ServerWatcher(
        cast("PulpClient", server),
        PulpSettings(name="pulp", url="https://pulp.example"),
        "https://pulp.example/pulp/",
        Position(),
        fire=fired.append,
        save=lambda _: None,
    )
    watcher.begin(datetime.fromisoformat(recording["tasks"][0]["finished_at"]))
    watcher.look()
    before = list(fired)
    server.tasks = recording["tasks"]
    watcher.look()
    after = fired[len(before) :]
    watcher.look()
    assert len(fired) == len(before) + len(after)
    return before, after


def operations(events: list[PulpEvent]) -> dict[str, list[str]]:
    """Return what the finished events of each repository say, and check that each follows its started event."""
    found: dict[str, list[str]] = {}
    started: dict[str, str] = {}
    for event in events:
        # As listeners receive it: a body that is not as specified raises.
        body = Hooks().fire(event.event_type, event.body).event.body
        kind, _, phase = event.event_type.value.removeprefix("repo-").partition("-")
        if phase == "started":
            started[event.operation_id] = kind
        else:
            assert started.pop(event.operation_id) == kind
            counts = f" +{body['added_count']} -{body['removed_count']}" if kind == "sync" else ""
            found.setdefault(str(body["repo_id"]), []).append(f"{kind} {body['result']}{counts}")
    assert not started
    return found


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_every_operation_fires_its_events_once(path: Path) -> None:
    """Syncs, publishes, autopublish and mirrors of all plugins, failures, and tasks seen running."""
    recording = json.loads(path.read_bytes())
    before, after = watched(recording)
    assert [(event.event_type, event.body["repo_id"]) for event in before] == [
        (EventType.REPO_SYNC_STARTED, "canceled"),
        (EventType.REPO_SYNC_STARTED, "killed"),
    ]
    expected: dict[str, list[str]] = {}
    for plugin in recording["components"]:
        expected |= EXPECTED.get(plugin, {})
    assert operations([*before, *after]) == expected


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_failed_syncs_say_why(path: Path) -> None:
    """The error of the task is that of the event."""
    _, after = watched(json.loads(path.read_bytes()))
    failed = {
        event.body["repo_id"]: event.body["error_message"]
        for event in after
        if event.body.get("result") in {"failed", "error"}
    }
    assert "404" in failed["missing"]
    assert "127.0.0.1" in failed["refused"]
    assert failed["garbage"]
    assert failed["killed"]
