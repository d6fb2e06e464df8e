"""The REST API of the simulated servers: what each answers to a GET at a moment of simulated time."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

from benchmarks.simulated_pulp.rows import (
    API,
    STATUS,
    publication_row,
    remote_row,
    repository_row,
    task_row,
    version_row,
)
from benchmarks.simulated_pulp.tasks import (
    INCOMPLETE,
    LIFETIME,
    REPOSITORIES,
    SERVERS,
    SKEW,
    Fleet,
    Task,
    microseconds,
    numbered,
)

_LIMIT = 100
_LONGEST_REQUEST = 4094
_NEVER = 1 << 62
_PAGING = {"ordering", "limit", "offset", "fields"}
_TERM = re.compile(r'(\w+)=("[^"]*"|[^\s"()]+)')
_T = TypeVar("_T")


class Answer(NamedTuple):
    """What a server answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _RefusedError(Exception):
    """The real API would refuse the request, or the simulation does not know a part of it."""


class _Filter(NamedTuple):
    """A filter of tasks.

    Attributes:
        since: No task that was created before this time passes it.
        passes: Whether a task passes, in the state that it is in.
    """

    since: int
    passes: Callable[[Task, str | None], bool]


class Api:
    """The REST API of all servers of a fleet. Answers depend on the arguments alone.

    Args:
        fleet: The tasks.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._row = lru_cache(SERVERS * 1024)(self._written)

    def answer(self, server: int, path: str, query: Mapping[str, str], now: int) -> Answer:
        """Answer a GET.

        Args:
            server: Number of the server.
            path: Path, with its leading `/pulp/api/v3/`.
            query: Parameters.
            now: The right time, in microseconds since 1970.
        """
        if len(path) + len(urlencode(query)) > _LONGEST_REQUEST:
            return Answer(400, {"Content-Type": "text/html"}, b"<h1>Bad Request</h1>Request Line is too large")
        try:
            text = self._text(server, path.removeprefix(API), query, now)
            status = 200 if text else 404
        except _RefusedError as error:
            status, text = 400, json.dumps({"detail": str(error)})
        return Answer(status, {"Content-Type": "application/json"}, (text or '{"detail": "Not found."}').encode())

    def _text(self, server: int, path: str, query: Mapping[str, str], now: int) -> str | None:
        """Return the JSON of what is there, or None."""
        start, text = self._fleet.start, None
        match path.rstrip("/").split("/"):
            case ["status"]:
                text = json.dumps(STATUS)
            case ["tasks"]:
                text = self._tasks(server, query, now)
            case ["tasks", id_]:
                task = self._fleet.task(server, numbered(id_))
                if task.id == id_ and (state := task.state(now)):
                    text = self._row(server, task.number, state)
            case ["repositories" | "remotes" | "publications" as folder]:
                text = self._objects(server, folder, query, now)
            case ["repositories", "file", "file", _, "versions", version] if version.isdecimal():
                task = self._fleet.task(server, int(version) - 1)
                if task.made_version and now >= task.committed:
                    text = version_row(task, start)
        return text

    def _objects(self, server: int, folder: str, query: Mapping[str, str], now: int) -> str:
        """Return the repositories, remotes or publications that a query names, or all repositories."""
        if folder == "repositories" and not query.keys() - _PAGING:
            rows = [repository_row(server, number, self._fleet.start) for number in range(REPOSITORIES)]
            return _page(f"{folder}/", query, rows, str)
        if query.keys() - _PAGING != {"pulp_id__in"}:
            raise _RefusedError("a list by anything but pulp_id__in is not simulated")
        start, found = self._fleet.start, []
        for id_ in sorted(query["pulp_id__in"].split(","), key=numbered):
            row, number = "", numbered(id_)
            if folder == "publications":
                task = self._fleet.task(server, number)
                row = publication_row(task, start) if task.publication and now >= task.committed else ""
            elif number < REPOSITORIES:
                row = (repository_row if folder == "repositories" else remote_row)(server, number, start)
            if row.startswith(f'{{"pulp_href": "{API}{folder}/file/file/{id_}/"'):
                found.append(row)
        return _page(f"{folder}/", query, found, str)

    def _tasks(self, server: int, query: Mapping[str, str], now: int) -> str:
        filters = [_filter(key, value, now) for key, value in query.items() if key not in _PAGING]
        since = max((one.since for one in filters), default=0)
        numbers: Iterable[int] = range(self._fleet.created_before(since), self._fleet.created_before(now + 1))
        if "pulp_id__in" in query:
            numbers = {numbered(id_) for id_ in query["pulp_id__in"].split(",")}.intersection(numbers)
        seen = []
        for number in sorted(numbers, reverse=True):  # newest first among equals, as everywhere in Pulp
            task = self._fleet.task(server, number)
            state = task.state(now)
            for one in filters:
                if not one.passes(task, state):
                    break
            else:
                seen.append((task, state))
        match query.get("ordering", "-pulp_created"):
            case "finished_at" | "-finished_at" as ordering:  # PostgreSQL takes null for the greatest
                descends = ordering.startswith("-")
                seen.sort(key=lambda one: _NEVER if one[1] in INCOMPLETE else one[0].finished_at, reverse=descends)
            case "-pulp_created":
                pass
            case ordering:
                raise _RefusedError(f"ordering by {ordering} is not simulated")
        return _page("tasks/", query, seen, lambda one: self._row(server, one[0].number, one[1]))

    def _written(self, server: int, number: int, state: str) -> str:
        return task_row(self._fleet.task(server, number), self._fleet.start, state)


def _filter(key: str, value: str, now: int) -> _Filter:
    match key:
        case "state__in":
            states = set(value.split(","))
            return _Filter(now - LIFETIME if states <= INCOMPLETE else 0, lambda _, state: state in states)
        case "finished_at__gte":
            time = microseconds(value)
            return _Filter(
                time - LIFETIME - SKEW, lambda task, state: task.finished_at >= time and state not in INCOMPLETE
            )
        case "finished_at__lt":
            time = microseconds(value)
            return _Filter(0, lambda task, state: task.finished_at < time and state not in INCOMPLETE)
        case "pulp_id__in":
            ids = set(value.split(","))
            return _Filter(0, lambda task, _: task.id in ids)
        case "q":
            terms = [_filter(*_term(term), now) for term in value.split(" OR ")]
            return _Filter(
                min(term.since for term in terms),
                lambda task, state: any([term.passes(task, state) for term in terms]),  # noqa: C419 - faster
            )
    raise _RefusedError(f"filter {key} is not simulated")


def _term(text: str) -> tuple[str, str]:
    term = _TERM.fullmatch(text)
    if term is None:
        raise _RefusedError(f"{text!r} in q is not simulated")
    return term[1], term[2].strip('"')


def _page(folder: str, query: Mapping[str, str], found: Sequence[_T], write: Callable[[_T], str]) -> str:
    """Return a page of a list, as JSON; only what is on it is written."""
    limit, offset = int(query.get("limit", _LIMIT)), int(query.get("offset", 0))
    after = offset + limit if offset + limit < len(found) else None
    before = max(offset - limit, 0) if offset else None
    links = (
        json.dumps(None if to is None else f"http://pulp.example{API}{folder}?{_query_at(query, limit, to)}")
        for to in (after, before)
    )
    rows = [write(one) for one in found[offset : offset + limit]]
    if fields := set(query.get("fields", "").split(",")) - {""}:
        rows = [json.dumps({key: value for key, value in json.loads(row).items() if key in fields}) for row in rows]
    return f'{{"count":{len(found)},"next":{next(links)},"previous":{next(links)},"results":[{",".join(rows)}]}}'


def _query_at(query: Mapping[str, str], limit: int, offset: int) -> str:
    paging = {"limit": str(limit)} | ({"offset": str(offset)} if offset else {})
    return urlencode(sorted({**{key: value for key, value in query.items() if key != "offset"}, **paging}.items()))
