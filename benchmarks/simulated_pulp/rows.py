"""The JSON of the simulated servers: answers of a real server, with other identifiers, times and version numbers."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.simulated_pulp.tasks import (
    INCOMPLETE,
    Outcome,
    Task,
    autopublishes,
    identifier,
    repository_name,
    timestamp,
)

API = "/pulp/api/v3/"
STATUS = {
    "versions": [
        {"component": name, "version": "3.123.1", "package": "pulpcore", "module": f"{module}.app"}
        | {"domain_compatible": True}
        for name, module in (("core", "pulpcore"), ("file", "pulp_file"))
    ],
    "online_workers": [],
    "online_api_apps": [],
    "online_content_apps": [],
    "database_connection": {"connected": True},
    "redis_connection": None,
    "storage": None,
    "content_settings": {"content_origin": None, "content_path_prefix": "/pulp/content/"},
    "domain_enabled": False,
}
"""What `status/` shows."""

_RECORDED = Path(__file__).parents[2] / "tests" / "hosts" / "pulp3" / "recorded"
_SYNCED = {
    Outcome.COMPLETED: "03_sync_first.finished",
    Outcome.UNCHANGED: "02_sync_unchanged_autopublish.finished",
    Outcome.FAILED: "11_sync_fails_404.finished",
    Outcome.NEVER_RAN: "21_sync_canceled_waiting.finished",
}
_ID = re.compile(r"(task|version|publication|remote|repositor)(?:y|ies|s)?[:/](?:file/file/)?([0-9a-f-]{36})")
_TIMES = ("pulp_created", "pulp_last_updated", "unblocked_at", "started_at", "finished_at")


def task_row(task: Task, start: int, state: str) -> str:
    """Return a task in one of its states; `start` is when the repositories were created."""
    template = _task_template(task.operation, task.outcome, state, publishes=task.publication is not None)
    return template % {
        **_made(task, start),
        "task": task.id,
        "logging_cid": task.id.replace("-", ""),
        "pulp_created": timestamp(task.created),
        "pulp_last_updated": timestamp(task.created - 5_000),
        "unblocked_at": timestamp(task.created + 15_000 + task.skew),
        "started_at": timestamp(task.started_at),
        "finished_at": timestamp(task.finished_at),
    }


def version_row(task: Task, start: int) -> str:
    """Return the version of a repository that a sync made."""
    return _unchanged("03_sync_first.version") % _made(task, start)


def publication_row(task: Task, start: int) -> str:
    """Return the publication that a task made."""
    return _unchanged("04_publish_latest.publication") % _made(task, start)


def repository_row(server: int, number: int, start: int) -> str:
    """Return a repository."""
    flag = {"autopublish": autopublishes(number)}
    return json.dumps(json.loads(_unchanged("00_repository_auto") % _owned(server, number, start)) | flag)


def remote_row(server: int, number: int, start: int) -> str:
    """Return the remote of the repository with the same number."""
    return _unchanged("00_remote") % _owned(server, number, start)


def _made(task: Task, start: int) -> dict[str, Any]:
    """Return what is filled in for the version and the publication of a task."""
    return {
        **_owned(task.server, task.repository, start),
        "version": identifier(1, task.started, task.server, task.number),
        "publication": task.publication,
        "number": task.number + 1,
        "made.pulp_created": timestamp(task.ended - 10_000),
        "made.pulp_last_updated": timestamp(task.ended - 5_000),
        "pulp_created": timestamp(task.ended - 10_000),
        "pulp_last_updated": timestamp(task.ended - 5_000),
    }


@cache
def _owned(server: int, number: int, start: int) -> Mapping[str, Any]:
    """Return what is filled in for a repository and its remote."""
    return {
        "repositor": identifier(3, start, server, number),
        "remote": identifier(4, start, server, number),
        "name": repository_name(server, number),
        "number": 0,
        "pulp_created": timestamp(start),
        "pulp_last_updated": timestamp(start),
    }


@cache
def _task_template(operation: str, outcome: Outcome, state: str, *, publishes: bool) -> str:
    """Return the template of a task; cases that were not recorded are recorded ones with another state and error."""
    changes: dict[str, Any] = {"state": state}
    if operation == "publish":
        ended = "04_publish_latest.finished" if outcome is Outcome.COMPLETED else "24_publish_fails.finished"
        name = "04_publish_latest.running" if state in INCOMPLETE else ended
    elif publishes:
        name = f"01_sync_first_autopublish.{'running' if state in INCOMPLETE else 'finished'}"
    elif state in INCOMPLETE:
        name = "20_sync_canceled_running.running"
    else:
        name = _SYNCED.get(outcome, "20_sync_canceled_running.finished")
    never_ran = state == "waiting" or outcome is Outcome.NEVER_RAN
    if never_ran or (operation == "publish" and not publishes):
        changes |= {"progress_reports": [], "created_resources": [], "created_resource_prns": []}
    if never_ran:
        changes["started_at"] = None
    if state == "waiting":
        changes["unblocked_at"] = None
    if state == "canceled" or outcome is Outcome.WORKER_LOST:
        changes["error"] = None if state != "failed" else {"reason": "Worker has gone missing."}
    return _template(name, **changes)


def _template(name: str, **changes: Any) -> str:  # noqa: ANN401 - JSON
    """Return a recorded answer with places to fill in, for the operator `%`."""
    row = json.loads((_RECORDED / f"{name}.json").read_text(encoding="utf-8")) | changes
    named = {"logging_cid"} if "state" in row else {"name", "number"}
    _mark(row, {*_TIMES, *named}, "")
    if row.get("result"):
        _mark(row["result"], {*_TIMES, "number"}, "made.")
    text = _ID.sub(lambda found: found[0].replace(found[2], f"@{found[1]}@"), json.dumps(row))
    text = re.sub(r"/versions/\d+/", "/versions/@number@/", text).replace("%", "%%")
    return re.sub(r"@([\w.]+)@", r"%(\1)s", text.replace('"@number@"', "@number@"))


_unchanged = cache(_template)


def _mark(row: dict[str, Any], keys: set[str], prefix: str) -> None:
    """Put marks in place of what differs from one answer to the next."""
    row.update({key: f"@{prefix if key in _TIMES else ''}{key}@" for key in keys if row.get(key) is not None})
