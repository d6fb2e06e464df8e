"""Watching one server: from looks at its tasks to events, each once."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any

from pulp_hooks.errors import BodyError, EventError
from pulp_hooks.event_types import EventType
from pulp_hooks.hosts.pulp3.client import PulpClient, results
from pulp_hooks.hosts.pulp3.events import EventMaker, PulpEvent
from pulp_hooks.hosts.pulp3.lookups import Lookups
from pulp_hooks.hosts.pulp3.position import WIDE_OVERLAP, Position
from pulp_hooks.hosts.pulp3.tasks import FINISHED_STATES, RUNNING_STATES, Task, read_task, time_of, uuid_of
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import PulpSettings

_log = safe_logger(__name__)

_OVERLAP = timedelta(seconds=20)
"""How far before the cursor each look begins. Workers set finishing times by their own clocks, before they commit."""

_WIDE_SECONDS = 60.0
"""How often a look begins further back, for clocks that differ by more."""

_PAGE = 100
"""New tasks in one answer: about 0.3 MB, 0.1 s of work for the server, and 1 MB of memory until they are reported."""

_MOST_IDS = 60
"""Ids in one request. A request line of more than about 95 is refused."""

_ALL = 100_000
"""More tasks than finish within the overlap."""

_AHEAD = timedelta(seconds=60)
"""How far the clock of a worker may be ahead of the server's."""

_INSTANT = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
_STARTED = (EventType.REPO_SYNC_STARTED, EventType.REPO_PUBLISH_STARTED)


class ServerWatcher:
    """Watches one domain of a server.

    Args:
        client: The server.
        settings: Which of its repositories to watch.
        source: URL of the server, for the events.
        position: How far it has been watched; it is changed.
        fire: Called with each event. What it raises ends the look, and the next one tries again.
        save: Called with the position after the events up to it were fired.
        clock: Returns a time in seconds that only grows.

    Attributes:
        running: The tasks that were running at the last look.
        lookups: What is known of the repositories.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        client: PulpClient,
        settings: PulpSettings,
        source: str,
        position: Position,
        *,
        fire: Callable[[PulpEvent], object],
        save: Callable[[Position], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings
        self._position = position
        self._fire_event = fire
        self._save = save
        self._clock = clock
        self.lookups = Lookups(client, clock)
        self.running: Sequence[Task] = ()
        self._events = EventMaker(source, self.lookups)
        self._wide_due = clock()
        self._has_changed = False

    def begin(self, since: datetime | None) -> None:
        """Set the position of a first start.

        Args:
            since: Report what finished then or later; null: what finishes from now on.

        Raises:
            PulpError: The server does not answer.
        """
        parameters = {"state__in": ",".join(FINISHED_STATES), "fields": "pulp_href,finished_at"}
        if since is None:
            newest = self._client.get("tasks/", {**parameters, "ordering": "-finished_at", "limit": "1"})
            times = [time for shown in results(newest) if (time := time_of(shown.get("finished_at")))]
            # A server without tasks has nothing that could be reported by mistake.
            cursor = self._not_ahead(times[0]) + _INSTANT if times else _EPOCH
        else:
            cursor = max(since, _EPOCH)
        self._position.cursor = cursor
        window = {"finished_at__gte": _text(cursor - WIDE_OVERLAP), "finished_at__lt": _text(cursor)}
        before = self._client.get("tasks/", {**parameters, **window, "limit": str(_ALL)})
        for shown in results(before):
            self._position.report(uuid_of(shown), cursor)
        self._save(self._position)

    def look(self) -> None:
        """Look at the server once, and fire the events of what has started and finished since the last look.

        Raises:
            PulpError: The server does not answer, or refuses.
            JournalError: An event could not be stored. The next look tries again.
        """
        try:
            self._look()
        finally:
            # A look that failed half way has fired events, too.
            self._store()

    def _look(self) -> None:
        position = self._position
        is_wide = self._clock() >= self._wide_due
        begin = self._not_ahead(position.cursor or _EPOCH) - (WIDE_OVERLAP if is_wide else _OVERLAP)
        # Those that are known are shown again, and must not cost another request.
        page = _PAGE + len(position.running)
        limit = page + sum(time >= begin for time in position.reported.values())
        while True:
            rows = self._rows(begin, limit)
            tasks = [self._read(shown) for shown in rows if uuid_of(shown) not in position.reported]
            is_last = len(rows) < limit
            last = max((time for shown in rows if (time := time_of(shown.get("finished_at")))), default=begin)
            # Most of them are known, and need not stay in memory.
            del rows
            self.lookups.prepare(tasks)
            self._report([task for task in tasks if task.is_finished])
            if is_last:
                break
            # If so many are running, or finished at one moment, a longer page leads on.
            limit, begin = (page, last) if last > begin else (2 * limit, begin)
            self._store()
        running = [task for task in tasks if task.is_running]
        self._begin([task for task in running if task.id not in position.running])
        self._ask_for_missing({task.id for task in running})
        if is_wide:
            # Not at all servers at a time: these looks take the most memory.
            self._wide_due = self._clock() + _WIDE_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self.running = running

    def _not_ahead(self, finished: datetime) -> datetime:
        """Return a finishing time, or the server's own time and a minute if that is earlier.

        One worker whose clock is years ahead must not hide what the others finish.
        """
        latest = self._client.time
        return finished if latest is None else min(finished, latest + _AHEAD)

    def _rows(self, begin: datetime, limit: int) -> list[dict[str, Any]]:
        """Return the tasks that finished then or later, in that order, and after them those that are running."""
        # Both in one request, which is one moment of the database: a task cannot slip through between two.
        expression = f'state__in={",".join(RUNNING_STATES)} OR finished_at__gte="{_text(begin)}"'
        answer = self._client.get("tasks/", {"q": expression, "ordering": "finished_at", "limit": str(limit)})
        return results(answer)

    def _report(self, tasks: Sequence[Task]) -> None:
        """Fire the events of finished tasks."""
        for task in tasks:
            was_seen = self._position.running.get(task.id, False)
            # All of them before the first is fired: a look-up that fails must not leave half of them behind.
            events = list(self._events.finished(task)) if self._wants(task) else []
            for event in events:
                if not (was_seen and event.operation_id == task.id and event.event_type in _STARTED):
                    self._fire(event)
            if task.finished is not None:
                self._position.report(task.id, task.finished)
                self._position.advance(self._not_ahead(task.finished))
            self._has_changed = True

    def _begin(self, tasks: Sequence[Task]) -> None:
        """Fire the started events of running tasks."""
        for task in tasks:
            events = list(self._events.started(task)) if self._wants(task) else []
            for event in events:
                self._fire(event)
            self._position.running[task.id] = bool(events)
            self._has_changed = True

    def _ask_for_missing(self, running: AbstractSet[str]) -> None:
        """Ask for the tasks that are no longer running, and did not come as finished: their commit was late."""
        missing = [task for task in self._position.running if task not in running]
        for begin in range(0, len(missing), _MOST_IDS):
            batch = missing[begin : begin + _MOST_IDS]
            parameters = {"pulp_id__in": ",".join(batch), "limit": str(len(batch))}
            found = [self._read(shown) for shown in results(self._client.get("tasks/", parameters))]
            self.lookups.prepare(found)
            self._report([task for task in found if task.is_finished])
            for task in set(batch) - {task.id for task in found}:
                _log.warning("%s: task %s was deleted before it was seen finished", self._client.name, task)
                del self._position.running[task]
                self._has_changed = True

    def _wants(self, task: Task) -> bool:
        repository = self.lookups.repository_of(task)
        if repository is None:
            return False
        return self._settings.wants(self.lookups.name(repository), self.lookups.labels(repository))

    def _fire(self, event: PulpEvent) -> None:
        try:
            self._fire_event(event)
        except (BodyError, EventError) as error:
            # To try it again would fail again, and hold up everything after it.
            _log.error("%s: task %s is left out: %s", self._client.name, event.operation_id, error)

    def _store(self) -> None:
        if self._has_changed:
            self._position.prune()
            self._save(self._position)
            self._has_changed = False

    def _read(self, shown: Mapping[str, Any]) -> Task:
        return read_task(shown, self._settings.sync_tasks, self._settings.publish_tasks)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
