"""Jumps of the clock while hosts fire, workers deliver and operators give commands, in both databases."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, create_engine, select

from pulp_hooks import Hooks, hookimpl
from pulp_hooks.cli import cli
from pulp_hooks.event import Event
from pulp_hooks.journal import tables
from pulp_hooks.journal.claims import Claims
from pulp_hooks.journal.clock import Clock
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.jumps import follow_clock
from pulp_hooks.journal.listeners import Listeners
from pulp_hooks.journal.results import Result
from pulp_hooks.journal.tables import State
from pulp_hooks.settings.model import DeliverySettings, Settings

Make = Callable[..., Event]
DAY, HOUR = 86_400.0, 3600.0


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
    settings = Settings(delivery=DeliverySettings(**delivery))
    return Hooks({type(listener).__name__: listener}, settings=settings, journal=journal)


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


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_worker_follows_the_clock(jump: float, set_time: Times, journal: Journal) -> None:
    """A retry that was due in an hour is so after the jump, and new events come at once."""
    desk = Desk(fail)
    hooks = hooks_of(journal, desk, retry_seconds=(HOUR,))
    with hooks.worker():
        hooks.repo_sync_started(repo_id="broken")
        wait(lambda: dues(set_time)[0] > 60)
        set_time.jump(jump)
        wait(lambda: abs(dues(set_time)[0] - HOUR) < 0.3 * HOUR)
        hooks.repo_sync_started(repo_id="new")
        wait(lambda: desk.heard == ["broken", "new"])
        wait(lambda: len(dues(set_time)) == 1)
    (due,) = dues(set_time)
    assert abs(due - HOUR) < 0.3 * HOUR


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_worker_follows_before_it_claims_or_records(
    jump: float, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between two of its looks: what comes due is claimed, and the next pause counted, in a time that is known."""
    monkeypatch.setattr("pulp_hooks.worker.timekeeper._LOOK_SECONDS", HOUR)
    set_time = SqliteTime(sqlite_url)
    journal, desk = set_time.journal(), Desk(fail)
    hooks = hooks_of(journal, desk, retry_seconds=(HOUR, HOUR))
    with hooks.worker() as worker:
        hooks.repo_sync_started(repo_id="broken")
        wait(lambda: dues(set_time)[0] > 60)
        set_time.jump(jump)
        hooks.repo_sync_started(repo_id="broken")
        wait(lambda: worker.tally.total() == 2)
        wait(lambda: len(dues(set_time)) == 2)
    assert desk.heard == ["broken", "broken"]
    assert all(abs(due - HOUR) < 0.3 * HOUR for due in dues(set_time))
    # Nobody has to move anything that was stored since.
    assert follow_clock(journal.database) == 0
    journal.close()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_attempt_that_ends_after_a_jump_is_recorded_in_the_new_time(
    jump: float, set_time: Times, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that a worker goes by is that in which the journal is since the jump was followed."""
    monkeypatch.setattr("pulp_hooks.worker.timekeeper._LOOK_SECONDS", 0.0)

    def set_clock(_: object) -> None:
        set_time.jump(jump)
        raise RuntimeError("out of paper")

    hooks = hooks_of(journal, Desk(set_clock), retry_seconds=(HOUR,))
    hooks.repo_sync_started(repo_id="zoo")
    hooks.worker().run_once()
    (due,) = dues(set_time)
    assert abs(due - HOUR) < 0.3 * HOUR


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_what_is_fired_before_anybody_follows_is_due_at_once(
    jump: float, set_time: Times, journal: Journal, new_event: Make
) -> None:
    """A host neither looks for jumps, nor keeps the server's time from before; what it stores is right all the same."""
    journal.append(new_event(), ["a"])
    follow_clock(journal.database)
    set_time.jump(jump)
    journal.append(new_event(), ["a"])
    worker = set_time.journal()
    assert abs(follow_clock(worker.database) - jump) < 5
    assert follow_clock(worker.database) == 0
    assert len(Claims(worker.database).claim("a", 9, 60)) == 2
    worker.close()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_what_is_fired_after_a_jump_that_was_followed_is_due_at_once(
    jump: float, set_time: Times, journal: Journal, new_event: Make
) -> None:
    """A host that has asked for the time just before does not go on with it."""
    journal.append(new_event(), ["a"])
    worker = set_time.journal()
    follow_clock(worker.database)
    journal.database.now()
    set_time.jump(jump)
    follow_clock(worker.database)
    journal.append(new_event(), ["a"])
    assert all(-5 < due <= 0 for due in dues(set_time))
    assert follow_clock(worker.database) == 0
    worker.close()


@pytest.mark.parametrize("jump", [-DAY, -30.0, 30.0, DAY])
@pytest.mark.parametrize("follows", ["before", "after"])
def test_events_of_a_repository_are_delivered_in_their_order(
    jump: float, follows: str, set_time: Times, journal: Journal, new_event: Make
) -> None:
    """What is fired after the clock was set comes behind what was fired before, whoever follows the clock and when."""
    claims = Claims(journal.database)
    follow_clock(journal.database)
    for number in range(2):
        journal.append(new_event(event_id=f"{9 - number}"), ["a"], ordered={"a"})
    set_time.jump(jump)
    if follows == "before":
        follow_clock(journal.database)
    for number in range(2, 4):
        with journal.database.writing("store as a host does") as connection:
            journal.append(new_event(event_id=f"{9 - number}"), ["a"], connection, ordered={"a"})
    follow_clock(journal.database)
    # What was stored before a small correction may be due a little later.
    now = journal.database.now(measured=True) + 60
    delivered = []
    while lot := claims.claim("a", 9, 60, now=now):
        (claim,) = lot
        delivered.append(claim.event_id)
        claims.finish([Result(claim, State.DELIVERED, 0.0, 0.1, "succeeded")])
    assert delivered == ["9", "8", "7", "6"]


def test_events_that_were_fired_over_hours_keep_their_order_when_the_clock_goes_back(
    sqlite_url: str, new_event: Make
) -> None:
    """All that wait move alike: those that lie after the new time do not come between those that lie before it."""
    set_time = SqliteTime(sqlite_url)
    journal = set_time.journal()
    claims = Claims(journal.database)
    follow_clock(journal.database)
    fired = [new_event(event_id=f"{number:02}") for number in range(13)]
    for number, event in enumerate(fired):
        journal.append(event, ["a"], now=time.time() - 2 * HOUR + number * 600, ordered={"a"})
    set_time.jump(-HOUR)
    follow_clock(journal.database)
    delivered = []
    while lot := claims.claim("a", 1, 60):
        delivered += [claim.event_id for claim in lot]
        claims.finish([Result(claim, State.DELIVERED, 0.0, 0.1, "succeeded") for claim in lot])
    assert delivered == [event.id for event in fired]
    journal.close()


def test_only_what_is_ordered_is_put_behind_others(journal: Journal, new_event: Make) -> None:
    """Of an event for both kinds of listeners each delivery is stored in its own way; nothing is put off by it."""
    for now in (100.0, 50.0):
        assert journal.append(new_event("x"), ["free", "lined"], now=now, ordered={"lined"})
    assert journal.append(new_event("y"), ["lined"], now=20, ordered={"lined"})
    query = select(tables.delivery.c.listener, tables.delivery.c.created, tables.delivery.c.due)
    with journal.database.reading("see") as connection:
        found = sorted(tuple(row) for row in connection.execute(query))
    assert found[:2] == [("free", 50, 50), ("free", 100, 100)]
    assert found[2:4] == [("lined", 20, 20), ("lined", 100, 100)]
    assert found[4][2] == 50
    assert 100 < found[4][1] < 100.001


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


@pytest.mark.parametrize("command", [["replay", "--listener", "Desk", "--yes"], ["listeners", "enable", "Desk"]])
def test_commands_follow_the_clock_before_they_store(
    command: list[str], sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an operator has made due after a jump stays due, though the next worker comes later."""
    set_time = SqliteTime(sqlite_url)
    set_time.jump(-DAY)
    journal = set_time.journal()
    hooks = hooks_of(journal, Desk(fail), retry_seconds=())
    hooks.repo_sync_started(repo_id="broken")
    if command[0] == "replay":
        hooks.worker().run_once()
    else:
        follow_clock(journal.database)
        Listeners(journal.database).disable("Desk", "by hand")
    set_time.jump(DAY)
    file = tmp_path / "pulp-hooks.toml"
    file.write_text(f'[journal]\nurl = "{sqlite_url}"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert follow_clock(journal.database) == 0
    assert [due <= 0 for due in dues(set_time)] == [True]
    journal.close()
