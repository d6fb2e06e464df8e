"""Look-ups of what tasks only refer to: repositories, remotes, publications, and counts of versions."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from pulp_hooks.hosts.pulp3.client import NotShownError, PulpClient, results
from pulp_hooks.hosts.pulp3.tasks import Kind, Reference, Task, reference, uuid_of

_KEEP_SECONDS = 300.0
"""How long a name is used before it is asked for again: repositories can be renamed."""

_MOST_IDS = 60
"""Ids in one request. A request line of more than about 95 is refused."""

_MOST_NAMED, _MOST_PUBLICATIONS = 10_000, 500
"""Objects of a kind that are kept; beyond, those that were needed longest ago are dropped."""

_NOTHING: Mapping[str, Any] = {}


class Lookups:
    """Asks one server about objects, in batches, and caches the answers.

    Args:
        client: The server.
        clock: Returns a time in seconds that only grows.
    """

    def __init__(self, client: PulpClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._repositories = _Table(client, clock, "repositories/", "name,pulp_labels,remote")
        self._remotes = _Table(client, clock, "remotes/", "name")
        fields = "pulp_created,pulp_last_updated,repository"
        self._publications = _Table(client, clock, "publications/", fields, math.inf, _MOST_PUBLICATIONS)

    def prepare(self, tasks: Iterable[Task]) -> None:
        """Ask for everything that the events of these tasks need, and that is not known.

        Raises:
            PulpError: The server does not answer.
        """
        tasks = [task for task in tasks if task.kind is not Kind.OTHER or task.publications]
        # The server hides the publication of a running task, and that of a publish tells at most its repository.
        ended = [task for task in tasks if task.is_finished and not (task.kind is Kind.PUBLISH and task.repository)]
        publications = [found for task in ended for href in task.publications if (found := reference(href))]
        self._publications.prepare(found.id for found in publications)
        self._repositories.prepare(found.id for task in tasks if (found := self.repository_of(task)))
        self._remotes.prepare(found.id for task in tasks if task.kind is Kind.SYNC and (found := self.remote_of(task)))

    def repository_of(self, task: Task) -> Reference | None:
        """Return the repository of a task, or that of its publication; null if neither is known."""
        if task.repository is not None:
            return task.repository
        shown = [self.publication(href) for href in task.publications]
        return next((found for one in shown if (found := reference(one.get("repository")))), None)

    def remote_of(self, task: Task) -> Reference | None:
        """Return the remote of a task, or that of its repository; null if neither is known."""
        repository = self.repository_of(task)
        own = self._repositories.get(repository.id).get("remote") if repository else None
        return task.remote or reference(own)

    def name(self, repository: Reference) -> str:
        """Return the name of a repository; of a deleted one its PRN."""
        return str(self._repositories.get(repository.id).get("name") or repository.text)

    def labels(self, repository: Reference) -> Mapping[str, str]:
        """Return the labels of a repository."""
        return self._repositories.get(repository.id).get("pulp_labels") or _NOTHING

    def remote_name(self, remote: Reference) -> str:
        """Return the name of a remote; of a deleted one its UUID."""
        return str(self._remotes.get(remote.id).get("name") or remote.id)

    def publication(self, href: str) -> Mapping[str, Any]:
        """Return a publication as the server shows it; nothing of a deleted one."""
        found = reference(href)
        return self._publications.get(found.id) if found else _NOTHING

    def is_known(self, found: Reference) -> bool:
        """Return whether the server shows an object that was prepared."""
        return any(table.get(found.id) for table in (self._repositories, self._remotes, self._publications))

    def content_summary(self, task: Task) -> Mapping[str, Any]:
        """Return the content summary of the version that a task created; nothing without a version.

        Servers before 3.100 do not show it with the task, nor do plugins whose tasks have no result.

        Raises:
            PulpError: The server does not answer.
        """
        result = task.shown.get("result")
        if not isinstance(result, Mapping) or "content_summary" not in result:
            if task.version is None:
                return _NOTHING
            try:
                result = self._client.get(task.version)
            except NotShownError:
                return _NOTHING
        summary = result.get("content_summary") if isinstance(result, Mapping) else None
        return summary if isinstance(summary, Mapping) else _NOTHING


class _Table:
    """Objects of one kind, by their UUIDs."""

    def __init__(  # noqa: PLR0913, PLR0917 - what differs is said in one line
        self,
        client: PulpClient,
        clock: Callable[[], float],
        path: str,
        fields: str,
        keep: float = _KEEP_SECONDS,
        most: int = _MOST_NAMED,
    ) -> None:
        self._client = client
        self._path = path
        self._fields = f"pulp_href,{fields}"
        self._keep = keep
        self._most = most
        self._clock = clock
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def get(self, identifier: str) -> Mapping[str, Any]:
        """Return an object that was prepared; nothing if the server does not have it."""
        return self._known.get(identifier, (0.0, _NOTHING))[1]

    def prepare(self, identifiers: Iterable[str]) -> None:
        """Ask for the objects that are not known, or were asked for long ago."""
        now = self._clock()
        wanted = dict.fromkeys(identifiers)
        for one in wanted:
            if known := self._known.pop(one, None):
                self._known[one] = known
        missing = [one for one in wanted if self._known.get(one, (now, _NOTHING))[0] <= now]
        # The rest of a request refreshes what will be asked for soon: fewer requests than one for each name.
        soon = now + self._keep / 2
        aged = (one for one, (expiry, _) in self._known.items() if expiry < soon and one not in wanted)
        missing += islice(aged, -len(missing) % _MOST_IDS)
        for begin in range(0, len(missing), _MOST_IDS):
            batch = missing[begin : begin + _MOST_IDS]
            parameters = {"pulp_id__in": ",".join(batch), "fields": self._fields, "limit": str(len(batch))}
            found = {uuid_of(one): one for one in results(self._client.get(self._path, parameters))}
            for one in batch:
                # A deleted object keeps what was known of it.
                self._known[one] = now + self._keep, found.get(one) or self.get(one)
        while len(self._known) > max(self._most, len(wanted)):
            del self._known[next(iter(self._known))]
