"""A server whose tasks a test writes down one by one, for cases that a real server cannot be brought into."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pulp_hooks.errors import PulpError
from pulp_hooks.hosts.pulp3.client import NotShownError

RECORDED = Path(__file__).parent / "recorded"
API = "/pulp/api/v3/"
ZOO = "01a20792-e8b1-7560-8aaa-2a94f96540ef"
"""UUID of the repository of most recorded tasks."""


def recorded(name: str) -> dict[str, Any]:
    """Return a recorded answer of a real server."""
    row: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_bytes())
    return row


def a_task(number: int, state: str = "completed", *, finished: str | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a sync of the repository `zoo`.

    Args:
        number: The task's UUID ends with it.
        state: State of the task.
        finished: Time of day at which it finished.
        **changes: Members of the task that are different.
    """
    row = recorded("03_sync_first.finished") | {
        "pulp_href": f"{API}tasks/{uuid(number)}/",
        "state": state,
        "started_at": "2026-11-23T09:00:00.000001Z",
        "finished_at": None if finished is None else f"2026-11-23T{finished}Z",
    }
    return row | changes


def uuid(number: int) -> str:
    """Return the UUID of the task with this number."""
    return f"01a20792-0000-7000-8000-{number:012}"


class ScriptedServer:
    """Answers in the shape of `PulpClient` from rows that a test puts into it.

    Attributes:
        name: Name of the server.
        time: Time of the server; null if it does not tell.
        tasks: The tasks that are visible.
        objects: What is visible besides, by the last parts of hrefs.
        requests: Path and parameters of every request.
        failing: How the paths of requests that fail begin; null: none fails.
    """

    def __init__(self, *tasks: dict[str, Any]) -> None:
        self.name = "pulp"
        self.time: datetime | None = None
        self.tasks = list(tasks)
        self.objects: dict[str, dict[str, Any]] = {
            ZOO: {"pulp_href": f"{API}repositories/file/file/{ZOO}/", "name": "zoo", "pulp_labels": {"env": "prod"}}
        }
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.failing: str | None = None

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Return what a server of Pulp would answer."""
        query = dict(parameters or {})
        self.requests.append((path, query))
        if self.failing is not None and path.startswith(self.failing):
            raise PulpError("the server does not answer")
        if path.startswith("/"):
            try:
                return self.objects[path]
            except KeyError:
                raise NotShownError("the server does not have it (404)") from None
        if path != "tasks/":
            found = [self.objects[one] for one in query["pulp_id__in"].split(",") if one in self.objects]
            return {"results": found}
        return {"results": self._tasks(query)[: int(query["limit"])]}

    def _tasks(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        if "pulp_id__in" in query:
            ids = query["pulp_id__in"].split(",")
            return [task for task in self.tasks if task["pulp_href"].split("/")[-2] in ids]
        ended = [task for task in self.tasks if task["finished_at"]]
        ended.sort(key=_finished, reverse=query.get("ordering") == "-finished_at")
        if "q" not in query:
            begin, end = query.get("finished_at__gte"), query.get("finished_at__lt")
            return [task for task in ended if _is_within(task, begin, end)]
        begin = query["q"].partition('finished_at__gte="')[2].rstrip('"')
        running = [task for task in self.tasks if task["state"] in {"running", "canceling"}]
        return [*(task for task in ended if _is_within(task, begin, None)), *running]


def _finished(task: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(task["finished_at"])


def _is_within(task: Mapping[str, Any], begin: str | None, end: str | None) -> bool:
    time = _finished(task)
    return (begin is None or time >= datetime.fromisoformat(begin)) and (
        end is None or time < datetime.fromisoformat(end)
    )
