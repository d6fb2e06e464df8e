"""What the simulated servers do: each task follows from the seed and its number, so a day of tasks takes no memory.

Times are whole microseconds since 1970, because that is the precision of the REST API: a filter by a time that the
server returned has to match exactly that row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, auto
from functools import lru_cache
from random import Random
from typing import NamedTuple

from pulp_hooks import EventType

SECOND = 1_000_000
SERVERS = 16
REPOSITORIES = 1400
CYCLE = 600 * SECOND
"""How often each repository is synced, and published halfway between two syncs."""

SKEW = 5 * SECOND
"""How far a worker's clock is ahead of, or behind, the right time at most."""

LIFETIME = 70 * SECOND
"""How long a task takes at most, from its creation to the commit of its end."""

INCOMPLETE = frozenset({"waiting", "running", "canceling"})
"""States of a task whose end is not visible yet."""

_WORKERS = 8
_LATE = 0.005
"""Share of tasks whose end is committed seconds after the worker read its clock."""


class Outcome(StrEnum):
    """How a task ends."""

    COMPLETED = auto()
    UNCHANGED = auto()
    FAILED = auto()
    WORKER_LOST = auto()
    CANCELED = auto()
    NEVER_RAN = auto()


_OUTCOMES = {
    "sync": ((Outcome.COMPLETED, 20), (Outcome.UNCHANGED, 71), (Outcome.FAILED, 5)),
    "publish": ((Outcome.COMPLETED, 91), (Outcome.FAILED, 5)),
}
_ENDED_EARLY = ((Outcome.WORKER_LOST, 1), (Outcome.CANCELED, 2), (Outcome.NEVER_RAN, 1))
_STATES = dict(zip(Outcome, ("completed", "completed", "failed", "failed", "canceled", "canceled"), strict=True))
_RESULTS = {Outcome.FAILED: "failed", Outcome.WORKER_LOST: "error", Outcome.CANCELED: "canceled"}


class Due(NamedTuple):
    """An event that a watcher has to fire exactly once.

    Attributes:
        type: Type of the event.
        operation: Identifier of the task; of a publication that a sync made besides its version, that of both.
        repo_id: Name of the repository.
        result: Result of a finished operation; empty for a started one.
    """

    type: EventType
    operation: str
    repo_id: str
    result: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task, from its creation to its end; `state()` says what of it can be seen.

    Attributes:
        server: Number of its server.
        number: Its number on that server, in order of creation.
        operation: `sync` or `publish`.
        outcome: How it ends.
        created: When it was created, by the database's clock.
        started: When a worker began with it.
        ended: When that worker was done.
        committed: When its end became visible.
        skew: How far that worker's clock is ahead.
    """

    server: int
    number: int
    operation: str
    outcome: Outcome
    created: int
    started: int
    ended: int
    committed: int
    skew: int

    @property
    def id(self) -> str:
        """Identifier of the task."""
        return identifier(0, self.created, self.server, self.number)

    @property
    def repository(self) -> int:
        """Number of the repository on its server."""
        turn = self.number // 2 + (REPOSITORIES // 2 if self.operation == "publish" else 0)
        return turn % REPOSITORIES

    @property
    def started_at(self) -> int | None:
        """When it started by the clock of its worker."""
        return None if self.outcome is Outcome.NEVER_RAN else self.started + self.skew

    @property
    def finished_at(self) -> int:
        """When it finished by the clock of its worker."""
        return self.ended + self.skew

    @property
    def made_version(self) -> bool:
        """Whether it is a sync that made a version of its repository."""
        return self.operation == "sync" and self.outcome is Outcome.COMPLETED

    @property
    def publication(self) -> str | None:
        """Identifier of the publication that it made: as a publish, or because every other repository autopublishes."""
        if self.outcome is not Outcome.COMPLETED or (self.operation == "sync" and not autopublishes(self.repository)):
            return None
        return identifier(2, self.ended, self.server, self.number)

    def state(self, now: int) -> str | None:
        """Return the state that the API shows; None before the task is created."""
        if now >= self.committed:
            return _STATES[self.outcome]
        if now >= self.ended - SECOND and _STATES[self.outcome] == "canceled":
            return "canceling"
        if now >= self.started:
            return "running"
        return "waiting" if now >= self.created else None

    def due(self) -> Iterator[Due]:
        """Yield the events that have to be fired for this task, in order."""
        if self.outcome is not Outcome.NEVER_RAN:
            repo_id, result = repository_name(self.server, self.repository), _RESULTS.get(self.outcome, "success")
            operations = [(self.operation, self.id, result)]
            if self.operation == "sync" and self.publication:
                operations.append(("publish", f"{self.id}:{self.publication}", result))
            for operation, of, ended_as in operations:
                yield Due(EventType(f"repo-{operation}-started"), of, repo_id, "")
                yield Due(EventType(f"repo-{operation}-finished"), of, repo_id, ended_as)


class Fleet:
    """The tasks of all servers.

    Args:
        seed: Seed of everything random.
        start: When the first task is created.
    """

    def __init__(self, seed: int, start: int) -> None:
        self.start = start
        self._seed = seed
        # A watcher asks for the last minute again and again: 1,024 tasks are three minutes of a server.
        self.task = lru_cache(SERVERS * 1024)(self._task)

    def created_before(self, time: int) -> int:
        """Return how many tasks each server was given before a time."""
        return max(-((self.start - time) * 2 * REPOSITORIES // CYCLE), 0)

    def _task(self, server: int, number: int) -> Task:
        random = Random((self._seed * SERVERS + server) << 40 | number)  # noqa: S311 - a simulation
        operation = "publish" if number % 2 else "sync"
        outcomes, weights = zip(*_OUTCOMES[operation], *_ENDED_EARLY, strict=True)
        outcome = random.choices(outcomes, weights)[0]
        created = self.start + number * CYCLE // (2 * REPOSITORIES)
        started = created + random.randint(20_000, 100_000)
        ended = started + _duration(random, operation, outcome)
        delay = random.randint(SECOND, 8 * SECOND) if random.random() < _LATE else random.randint(5_000, 60_000)
        skew = random.randrange(_WORKERS) * 2 * SKEW // (_WORKERS - 1) - SKEW
        if outcome is Outcome.NEVER_RAN:
            started = ended
        return Task(server, number, operation, outcome, created, started, ended, ended + delay, skew)


def _duration(random: Random, operation: str, outcome: Outcome) -> int:
    if outcome in {Outcome.UNCHANGED, Outcome.FAILED}:
        return random.randint(15_000, 80_000)
    if outcome is Outcome.COMPLETED and operation == "publish":
        return random.randint(350_000, 600_000)
    return int((1.5 + 58 * random.random() ** 3) * SECOND)


def identifier(kind: int, time: int, server: int, number: int) -> str:
    """Return the UUID of something: of version 7, so its first part is the time."""
    milliseconds = f"{time // 1000:012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{kind:03x}-8{server:03x}-{number:012x}"


def numbered(text: str) -> int:
    """Return the number in an identifier, a PRN or the last part of a link; -1 for anything else."""
    try:
        return int(text.rstrip("/")[-12:], 16)
    except ValueError:
        return -1


def autopublishes(repository: int) -> bool:
    """Return whether a repository is published by each of its syncs that changes it."""
    return repository % 2 == 1


def repository_name(server: int, repository: int) -> str:
    """Return the name of a repository, which no other server uses."""
    return f"pulp{server:02}-repository{repository:04}"


def timestamp(time: int | None) -> str | None:
    """Write a time as the API does."""
    return None if time is None else (datetime(1970, 1, 1) + timedelta(microseconds=time)).isoformat() + "Z"  # noqa: DTZ001 - written as UTC below


def microseconds(text: str) -> int:
    """Read a time that the API wrote."""
    return (datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00Z")) // timedelta(microseconds=1)
