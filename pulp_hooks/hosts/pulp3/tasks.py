"""Tasks as a Pulp 3 server shows them, and which of them are syncs and publishes."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from pulp_hooks.errors import PulpError

RUNNING_STATES = ("running", "canceling")
"""States of tasks that have started and not finished."""

FINISHED_STATES = ("completed", "failed", "canceled")

_SYNC_NAMES = frozenset({"sync", "synchronize"})
_PUBLISH_NAMES = frozenset({"publish", "publish_verbatim"})
"""Last parts of the names of tasks, as the plugins of Pulp have them."""

_PRN = re.compile(r"(?:shared:)?prn:(?P<model>[\w.]+):(?P<id>[0-9a-fA-F-]{32,36})")
_HREF = re.compile(
    r"(?:shared:)?/.*/api/v3/(?P<what>repositories|remotes|acs|publications)/(?P<app>\w+)/(?P<type>[\w-]+)/"
    r"(?P<id>[0-9a-fA-F-]{32,36})/(?P<rest>[\w/]*)"
)
_MODELS = {"repositories": "repository", "remotes": "remote", "acs": "alternatecontentsource"}
"""What the hrefs of servers before 3.55 call the models."""

_VERSION = re.compile(r"versions/\d+/")


class Kind(Enum):
    """What a task does."""

    SYNC = "sync"
    PUBLISH = "publish"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reference:
    """An object of the server that a task names, by PRN (`prn:file.filerepository:UUID`) or, before 3.55, by href.

    Attributes:
        model: Name of the model, such as `file.filerepository`.
        id: The UUID.
        text: The PRN or href.
    """

    model: str
    id: str
    text: str

    @property
    def plugin(self) -> str:
        """Name of the plugin, such as `file`."""
        return self.model.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a Pulp 3 server.

    Attributes:
        id: The UUID.
        name: Dotted name of its function.
        kind: What it does.
        state: `waiting`, `running`, `canceling`, `completed`, `failed`, `canceled` or `skipped`.
        started: When it began to run; null if it never ran.
        finished: When it ended, by the clock of its worker; null before.
        repository: The repository; null if the task does not name it.
        remote: The remote; null if the task does not name it.
        publications: Hrefs of the publications that it created.
        version: Href of the repository version that it created; null without.
        shown: The task as the server shows it.
    """

    id: str
    name: str
    kind: Kind
    state: str
    started: datetime | None
    finished: datetime | None
    repository: Reference | None
    remote: Reference | None
    publications: tuple[str, ...]
    version: str | None
    shown: Mapping[str, Any] = field(repr=False)

    @property
    def is_running(self) -> bool:
        """Whether it has started and not finished."""
        return self.state in RUNNING_STATES and self.started is not None

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in FINISHED_STATES and self.finished is not None


def uuid_of(shown: Mapping[str, Any]) -> str:
    """Return the UUID of an object that the server shows.

    Raises:
        PulpError: It has none.
    """
    href = shown.get("pulp_href") if isinstance(shown, Mapping) else None
    if not isinstance(href, str) or not (identifier := href.rstrip("/").rpartition("/")[2]):
        raise PulpError("the server shows an object without href")
    return identifier


def read_task(shown: Mapping[str, Any], syncs: Collection[str] = (), publishes: Collection[str] = ()) -> Task:
    """Return a task.

    Args:
        shown: The task as the server shows it.
        syncs: More names of tasks that are syncs, whole or the last part.
        publishes: More names of tasks that are publishes.

    Raises:
        PulpError: It has no href.
    """
    name = str(shown.get("name") or "")
    reserved = [found for text in _texts(shown, "reserved_resources_record") if (found := reference(text))]
    created = _texts(shown, "created_resources")
    result = shown.get("result")
    result = result if isinstance(result, Mapping) else {}
    versions = [href for href in created if (match := _HREF.fullmatch(href)) and _VERSION.fullmatch(match["rest"])]
    # What scheduled tasks work on is known at their end only.
    named = [*reserved, *(found for text in (result.get("repository"), *versions) if (found := reference(text)))]
    repository = next((found for found in named if found.model.endswith("repository")), None)
    models = [found.model for found in reserved]
    # The refresh of an alternate content source runs the same function on a hidden repository, without reserving it.
    is_refresh = _any_ends(models, "alternatecontentsource") and not _any_ends(models, "repository")
    return Task(
        id=uuid_of(shown),
        name=name,
        kind=Kind.OTHER if is_refresh else _kind(name, syncs, publishes),
        state=str(shown.get("state")),
        started=time_of(shown.get("started_at")),
        finished=time_of(shown.get("finished_at")),
        repository=repository,
        remote=next((found for found in reserved if found.model.endswith("remote")), None),
        publications=tuple(href for href in created if "/publications/" in href),
        version=versions[0] if versions else None,
        shown=shown,
    )


def reference(text: object) -> Reference | None:
    """Return what a PRN or an href refers to; null for anything else."""
    if not isinstance(text, str):
        return None
    if prn := _PRN.fullmatch(text):
        return Reference(prn["model"], prn["id"], text.removeprefix("shared:"))
    if href := _HREF.fullmatch(text):
        model = f"{href['app']}.{href['type']}{_MODELS.get(href['what'], '')}"
        return Reference(model, href["id"], text[: href.end("id") + 1].removeprefix("shared:"))
    return None


def created(task: Task) -> list[Reference]:
    """Return what a task created, as far as the server names the models (since 3.55)."""
    return [found for text in _texts(task.shown, "created_resource_prns") if (found := reference(text))]


def time_of(text: object) -> datetime | None:
    """Return a time of the server; null if it is none."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo else None


def _kind(name: str, syncs: Collection[str], publishes: Collection[str]) -> Kind:
    names = {name, name.rpartition(".")[2]}
    if names & {*syncs, *_SYNC_NAMES}:
        return Kind.SYNC
    return Kind.PUBLISH if names & {*publishes, *_PUBLISH_NAMES} else Kind.OTHER


def _any_ends(texts: Collection[str], end: str) -> bool:
    return any(text.endswith(end) for text in texts)


def _texts(shown: Mapping[str, Any], key: str) -> list[str]:
    """Return the strings of a list; an entry may be `<unavailable>`, and a whole list null."""
    values = shown.get(key)
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
