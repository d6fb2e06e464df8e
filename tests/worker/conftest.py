"""Fixtures for the worker: listeners that call a function, and access to the journal's tables."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import create_engine, select, update

from pulp_hooks import DeliverySettings, Event, Hooks, Settings, hookimpl
from pulp_hooks.journal import schema
from pulp_hooks.testing import Recorder

PATIENCE = 20.0
"""Seconds after which a test gives up on something that never comes."""


class Listener(Recorder):
    """A listener that records its events, and calls a function with those of started syncs."""

    def __init__(self, does: Callable[[Event], object] = lambda _: None) -> None:
        super().__init__()
        self._does = does

    @hookimpl
    def repo_sync_started(self, event: Event) -> None:
        """Record the event, and call the function."""
        super().repo_sync_started(event)
        self._does(event)

    @property
    def ids(self) -> list[str]:
        """The identifiers of the recorded events."""
        return [event.id for event in self.events]

    @property
    def repo_ids(self) -> list[str]:
        """The repositories of the recorded events."""
        return [str(event.body["repo_id"]) for event in self.events]


class Other(Listener):
    """A listener with another name."""


@dataclass(frozen=True)
class Delivery:
    """A delivery in the journal."""

    event_id: str
    listener: str
    state: str
    step: int
    attempts: int
    due: float | None
    lease: str | None
    error: str | None


class Host:
    """Creates Hooks with a journal and the settings of a test."""

    def __init__(self, url: str, opened: ExitStack) -> None:
        self.url = url
        self._opened = opened

    def hooks(self, *listeners: object, **delivery: Any) -> Hooks:  # noqa: ANN401 - the fields of DeliverySettings
        """Return hooks whose listeners, named by their classes, have these settings."""
        named = {type(listener).__name__: listener for listener in listeners}
        settings = Settings(delivery=DeliverySettings(**delivery))
        return self._opened.enter_context(Hooks(named, settings=settings, journal=self.url))

    def deliveries(self) -> list[Delivery]:
        """Return the deliveries in the journal, in the order of the events."""
        names = list(Delivery.__dataclass_fields__)[1:]
        columns = [schema.event.c.id, *(schema.delivery.c[name] for name in names)]
        query = select(*columns).join(schema.event).order_by(schema.event.c.number)
        return [Delivery(*row) for row in self._rows(query)]

    def attempts(self) -> list[tuple[int, str, str | None]]:
        """Return number, status and error of every attempt, in order of their start."""
        attempt = schema.attempt.c
        return [
            tuple(row)
            for row in self._rows(select(attempt.number, attempt.status, attempt.error).order_by(attempt.started))
        ]

    def states(self) -> list[str]:
        """Return the states of all deliveries."""
        return [delivery.state for delivery in self.deliveries()]

    def pass_time(self, seconds: float) -> None:
        """Make everything in the journal older by this time."""
        ages = {schema.delivery: ("due", "created"), schema.listener: ("failing_since", "paced_until")}
        engine = create_engine(self.url)
        with engine.begin() as connection:
            for table, names in ages.items():
                connection.execute(update(table).values({name: table.c[name] - seconds for name in names}))
        engine.dispose()

    def _rows(self, query: Any) -> list[Any]:  # noqa: ANN401 - any SELECT
        engine = create_engine(self.url)
        with engine.connect() as connection:
            rows = list(connection.execute(query).all())
        engine.dispose()
        return rows


@pytest.fixture
def host(url: str) -> Iterator[Host]:
    """Return a host with an empty journal, for each of the two databases."""
    with ExitStack() as opened:
        yield Host(url, opened)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Return a function that waits until a condition holds, and fails after a time limit."""

    def wait(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.02)

    return wait
