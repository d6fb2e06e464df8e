"""Jumps of the clock while hosts fire, workers deliver and operators give commands, in both databases."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select

from pulp_hooks import Hooks, hookimpl
from pulp_hooks.event import Event
from pulp_hooks.journal import tables
from pulp_hooks.journal.claim import Limits
from pulp_hooks.journal.clock import Clock
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.jumps import follow_clock
from pulp_hooks.settings.model import DeliverySettings, Settings

Make = Callable[..., Event]
DAY, HOUR = 86_400.0, 3600.0
ORDERED = Limits(ordered=True)


class SqliteTime:
    """The clock of the machine that has the SQLite file; it goes on, and a test sets it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ahead = 0.0

    def jump(self, seconds: float) -> None:
        """Set the clock."""
        self._ahead += seconds

    def journal(self) -> Journal:
        """Give the journal, by this clock."""
        journal = Journal(self.url)
        journal.database.clock = Clock(time=lambda: time.time() + self._ahead)
        return journal


class PostgresqlTime:
    """The clock of the PostgreSQL server as sessions of a test see it; it goes on, and a test sets it."""

    def __init__(self, url: str, engine: Engine) -> None:
        # The server's own functions come first where the path does not say otherwise.
        self.url = f"{url}%2Cpg_catalog"
        self._engine = engine
        self._do("CREATE TABLE skew AS SELECT 0::float8 AS ahead, 0::float8 AS late")
        self._do(
            """CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$
            DECLARE moment timestamptz := pg_catalog.clock_timestamp();
            BEGIN
                PERFORM pg_sleep(late) FROM skew WHERE late > 0;
                RETURN moment + make_interval(secs => (SELECT ahead FROM skew));
            END $$"""
        )

    def jump(self, seconds: float) -> None:
        """Set the clock."""
        self._do("UPDATE skew SET ahead = ahead + %s", seconds)

    def delay(self, seconds: float) -> None:
        """Have the server's time arrive so late."""
        self._do("UPDATE skew SET late = %s", seconds)

    def journal(self) -> Journal:
        """Give the journal, by this clock."""
        return Journal(self.url)

    def _do(self, statement: str, *values: float) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(statement, values)


Times = SqliteTime | PostgresqlTime


@pytest.fixture
def server(postgresql_url: str) -> Iterator[PostgresqlTime]:
    """Give a PostgreSQL server whose clock a test sets."""
    engine = create_engine(postgresql_url)
    yield PostgresqlTime(postgresql_url, engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def set_time(request: pytest.FixtureRequest) -> Times:
    """Give each of the two kinds of journals, with a clock that a test sets."""
    if request.param == "sqlite":
        return SqliteTime(request.getfixturevalue("sqlite_url"))
    server: PostgresqlTime = request.getfixturevalue("server")
    return server


@pytest.fixture
def journal(set_time: Times) -> Iterator[Journal]:
    """Give an empty journal in each of the two databases."""
    journal = set_time.journal()
    yield journal
    journal.close()


@dataclass
class Desk:
    """A listener that notes for which repositories it was called, and then does as it is told."""

    does: Callable[[Any], None]
    heard: list[str] = field(default_factory=list)

    @hookimpl
    def repo_sync_started(self, body: Any) -> None:  # noqa: ANN401 - as pluggy has it
        """Note the repository, and do as told."""
        self.heard.append(body["repo_id"])
        self.does(body)


def fail(body: Any) -> None:  # noqa: ANN401 - as pluggy has it
    """Fail for the repository `broken`."""
    if body["repo_id"] == "broken":
        raise RuntimeError("out of paper")


def hooks_of(journal: Journal, listener: object, **delivery: Any) -> Hooks:  # noqa: ANN401 - fields of DeliverySettings
    """Give hooks of a listener whose deliveries are made so."""
    hooks = Hooks([listener], journal=journal)
    hooks._settings = Settings(delivery=DeliverySettings(**delivery))
    return hooks


def dues(set_time: Times) -> list[float]:
    """Give in how many seconds each delivery that waits is due, the first one first."""
    # Others are not told the time by that.
    journal = set_time.journal()
    query = select(tables.delivery.c.due).where(tables.delivery.c.due.is_not(None)).order_by(tables.delivery.c.due)
    with journal.database.reading("see") as connection:
        found = connection.execute(query).scalars().all()
    now = journal.database.now()
    journal.close()
    return [due - now for due in found]


def wait(holds: Callable[[], object]) -> None:
    """Wait until something holds, and fail when it never does."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_answer_of_the_server_that_comes_late_is_no_jump(
    server: PostgresqlTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that stalls has delayed the server's time, and not set it."""
    monkeypatch.setattr("pulp_hooks.journal.jumps.TOLERANCE_SECONDS", 0.2)
    monkeypatch.setattr("pulp_hooks.journal.jumps._DRIFT_SECONDS", 0.2)
    monkeypatch.setattr("pulp_hooks.journal.database._QUICK_SECONDS", 0.4)
    database = Database(server.url)
    follow_clock(database)
    server.delay(0.8)
    assert follow_clock(database) == 0
    server.delay(0)
    assert follow_clock(database) == 0
    database.close()
