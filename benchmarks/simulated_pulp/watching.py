"""The real watcher on the simulated servers, in simulated time and without HTTP."""

import heapq
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.simulated_pulp.api import Api
from benchmarks.simulated_pulp.faults import Fault, draw_fault
from benchmarks.simulated_pulp.ledger import Ledger
from benchmarks.simulated_pulp.rows import API
from benchmarks.simulated_pulp.tasks import SECOND, Fleet, microseconds
from pulp_hooks.errors import PulpError
from pulp_hooks.hosts.pulp3.client import NotShownError, PulpClient
from pulp_hooks.hosts.pulp3.events import PulpEvent
from pulp_hooks.hosts.pulp3.position import Position, StateFolder
from pulp_hooks.hosts.pulp3.server_watcher import ServerWatcher
from pulp_hooks.settings.model import PulpSettings

INTERVAL = 5 * SECOND
"""Pause between two looks."""

_START = microseconds("2026-11-23T08:00:00Z")
_TIMEOUT = 5 * SECOND
_LONGEST_REQUEST, _LONGEST_DOWNTIME = SECOND // 2, 30 * SECOND
_ALREADY_RUNNING = 120 * SECOND
"""How long the servers are busy before the watcher starts."""

_COMPARED_AFTER = 150 * SECOND
"""How long after its creation the events of a task are compared. It has ended a minute before."""

_MOST_EVENTS = 60
"""How many events a watcher fires at most before it is killed."""


class _KilledError(Exception):
    """The watcher is killed here."""


class _Client(PulpClient):
    """A client that asks the simulation, and whose requests take simulated time.

    Attributes:
        now: The right time; it moves with each request.
        requests: Number of requests, by the first part of their path.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each by its name
        self, settings: PulpSettings, api: Api, number: int, now: int, random: Random, share: float
    ) -> None:
        super().__init__(settings, "default")
        self._simulated = api
        self._number = number
        self._random = random
        self._share = share
        self.now = now
        self.requests: Counter[str] = Counter()

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - any JSON
        self.requests[path.removeprefix(API).partition("/")[0]] += 1
        fault = draw_fault(self._random, self._share)
        if fault is None:
            answer = self._simulated.answer(self._number, API + path.removeprefix(API), parameters or {}, self.now)
        self.now += _TIMEOUT if fault is Fault.TIMEOUT else self._random.randint(1, _LONGEST_REQUEST)
        if fault is not None:
            raise PulpError(fault.name)
        if answer.status == 404:  # noqa: PLR2004 - as the real client
            raise NotShownError(path)
        assert answer.status == 200, answer.body  # noqa: PLR2004, S101 - the watcher asks what is not simulated
        return json.loads(answer.body)


class Watched:
    """One server, watched by watchers that are restarted and killed.

    Args:
        api: The servers.
        fleet: Their tasks.
        number: Number of the server.
        random: What decides about everything that goes wrong.
        share: How many requests fail.
        restart: How often a watcher is restarted.
        state: Where the position is stored.

    Attributes:
        client: Its client, with the time.
        ledger: What the watchers fired.
        looks: Number of looks, failed ones included.
        restarts: Number of restarts.
        dropped: Number of events that were fired again after a watcher was killed, and that a journal drops.
        repeated: Number of events that were fired again without such a reason.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each by its name
        self, api: Api, fleet: Fleet, number: int, random: Random, share: float, restart: int, state: StateFolder
    ) -> None:
        begin = fleet.start + _ALREADY_RUNNING + random.randrange(INTERVAL)
        self._settings = PulpSettings(name=f"pulp{number:02}", url="https://pulp.example.org")
        self._random = random
        self._state = state
        self._fleet = fleet
        self._number = number
        self._restart = restart
        self._next_restart = begin + random.randrange(restart)
        self._watcher: ServerWatcher | None = None
        self._events_to_live: int | None = None
        self._dies_at_save = False
        self._unsaved: set[str] = set()
        self._unsaved_at_death: set[str] = set()
        self.client = _Client(self._settings, api, number, begin, random, share)
        self.ledger = Ledger(fleet, number, begin, begin)
        self.looks = self.restarts = self.dropped = self.repeated = 0

    def look(self) -> None:
        """Look at the server once, and wait until the next look is due."""
        try:
            if self._watcher is None:
                self._watcher = self._started()
            self.looks += 1
            self._watcher.look()
            self.client.now += INTERVAL
        except PulpError:
            self.client.now += self._random.randint(SECOND // 2, SECOND)
        except _KilledError:
            self._unsaved_at_death = self._unsaved
            self._end()
        if self.client.now >= self._next_restart:
            self._next_restart += self._restart
            match self._random.randrange(3):
                case 0:
                    self._end()
                case 1:
                    self._dies_at_save = True
                case _:
                    self._events_to_live = self._random.randrange(_MOST_EVENTS)
        self.ledger.compare(self.client.now - _COMPARED_AFTER)

    def _started(self) -> ServerWatcher:
        client, position = self.client, self._state.load(self._settings.name)
        watcher = ServerWatcher(
            client,
            self._settings,
            self._settings.url,
            position,
            fire=self._fire,
            save=self._save,
            clock=lambda: client.now / SECOND,
        )
        if position.cursor is None:
            before = client.now
            watcher.begin(None)
            self.ledger = Ledger(self._fleet, self._number, before, client.now)
        return watcher

    def _end(self) -> None:
        self._watcher = self._events_to_live = None
        self._dies_at_save = False
        self._unsaved = set()
        self.restarts += 1
        self.client.now += self._random.randrange(_LONGEST_DOWNTIME)

    def _fire(self, event: PulpEvent) -> None:
        body = event.body
        result = str(body.get("result", ""))
        if self.ledger.add(event.event_id, event.operation_id, event.event_type, str(body["repo_id"]), result):
            is_due_to_death = event.event_id in self._unsaved_at_death
            self._unsaved_at_death.discard(event.event_id)
            self.dropped += is_due_to_death
            self.repeated += not is_due_to_death
        self._unsaved.add(event.event_id)
        if self._events_to_live is not None:
            self._events_to_live -= 1
            if self._events_to_live < 0:
                self._dies_at_save = True
                raise _KilledError

    def _save(self, position: Position) -> None:
        if self._dies_at_save:
            raise _KilledError
        self._state.save(self._settings.name, position)
        self._unsaved = set()


def watch(seed: int, servers: int, span: int, share: float, restart: int, folder: Path) -> list[Watched]:  # noqa: PLR0913, PLR0917 - each by its name
    """Watch some of the servers, and return what came out.

    Args:
        seed: Seed of everything random.
        servers: Number of servers.
        span: How long, in simulated time.
        share: How many requests fail.
        restart: How often each watcher is restarted; two of three times it is killed. In simulated time, too.
        folder: Where the positions are stored.
    """
    fleet, random = Fleet(seed, _START), Random(seed)  # noqa: S311 - a simulation
    api, state = Api(fleet), StateFolder(folder)
    watched = [Watched(api, fleet, number, random, share, restart, state) for number in range(servers)]
    due = [(one.client.now, number) for number, one in enumerate(watched)]
    heapq.heapify(due)
    while due[0][0] < _START + _ALREADY_RUNNING + span:
        one = watched[due[0][1]]
        one.look()
        heapq.heapreplace(due, (one.client.now, due[0][1]))
    return watched
