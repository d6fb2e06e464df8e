"""A clock that is set ahead or back: retries move by the step, nothing is lost, and order holds."""

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine

from pulp_hooks.event import Event
from pulp_hooks.journal.claims import NO_LIMITS, Result
from pulp_hooks.journal.clock import Clock
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.queue import Queue
from pulp_hooks.journal.schema import State

Make = Callable[..., Event]
DAY = 86_400.0


class SqliteTime:
    """The clock of the machine that has the SQLite file; a test sets it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ahead = 0.0

    def step(self, seconds: float) -> None:
        """Set the clock."""
        self._ahead += seconds

    def journal(self) -> Journal:
        """Return the journal, by this clock."""
        journal = Journal(self._url)
        journal.backend.clock = Clock(time=lambda: time.time() + self._ahead)
        return journal


class PostgresqlTime:
    """The clock of the PostgreSQL server as the sessions of a test see it; a test sets it."""

    def __init__(self, url: str, engine: Engine) -> None:
        # The server's own functions come first unless the path says otherwise.
        self._url = f"{url}%2Cpg_catalog"
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

    def step(self, seconds: float) -> None:
        """Set the clock."""
        self._do("UPDATE skew SET ahead = ahead + %s", seconds)

    def delay(self, seconds: float) -> None:
        """Delay the server's answers."""
        self._do("UPDATE skew SET late = %s", seconds)

    def journal(self) -> Journal:
        """Return the journal, by this clock."""
        return Journal(self._url)

    def _do(self, statement: str, *values: float) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(statement, values)


Times = SqliteTime | PostgresqlTime


@pytest.fixture
def server(postgresql_url: str) -> Iterator[PostgresqlTime]:
    """Return a PostgreSQL server whose clock a test sets."""
    engine = create_engine(postgresql_url)
    yield PostgresqlTime(postgresql_url, engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def times(request: pytest.FixtureRequest) -> Times:
    """Return the clock of each of the two databases."""
    if request.param == "sqlite":
        return SqliteTime(request.getfixturevalue("sqlite_url"))
    server: PostgresqlTime = request.getfixturevalue("server")
    return server


@pytest.fixture
def journal(times: Times) -> Iterator[Journal]:
    """Return an empty journal in each of the two databases."""
    journal = times.journal()
    yield journal
    journal.close()


def deliver(claims: Queue, now: float) -> list[str]:
    """Deliver one by one what is due at a time, and return the events in the order of their deliveries."""
    delivered = []
    while claimed := claims.claim("a", 1, 60, now=now):
        delivered += [claim.event_id for claim in claimed]
        claims.finish([Result(claim, State.DELIVERED, 0.0, 0.1, "succeeded") for claim in claimed])
    return delivered


@pytest.mark.parametrize("step", [-DAY, -30.0, 30.0, DAY])
def test_events_of_a_repository_are_delivered_in_their_order(
    step: float, times: Times, journal: Journal, new_event: Make
) -> None:
    """Events fired after the step come after those fired before it, by the host's own connection too."""
    for number in range(2):
        journal.append(new_event(event_id=f"{9 - number}"), ["a"], ordered={"a"})
    times.step(step)
    for number in range(2, 4):
        with journal.backend.writing("store as a host does") as connection:
            journal.append(new_event(event_id=f"{9 - number}"), ["a"], connection, ordered={"a"})
    assert deliver(journal.queue, time.time() + 2 * DAY) == ["9", "8", "7", "6"]


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_retry_comes_early_or_late_by_the_step(step: float, sqlite_url: str, new_event: Make) -> None:
    """Its time was set by the clock as it was; it is neither moved nor lost."""
    times = SqliteTime(sqlite_url)
    journal = times.journal()
    claims = journal.queue
    journal.append(new_event(), ["a"])
    (claim,) = claims.claim("a", 1, 60)
    before = journal.now()
    claims.finish([Result(claim, State.RETRYING, before, 0.1, "failed", "no", before + 300)])
    times.step(step)
    journal.append(new_event(event_id="new"), ["a"])
    assert [claim.event_id for claim in claims.claim("a", 9, 60)] == (["new"] if step < 0 else [claim.event_id, "new"])
    assert len(claims.claim("a", 9, 60, now=before + 300)) == (1 if step < 0 else 0)
    journal.close()


def test_lease_on_postgresql_is_by_the_clock_of_the_server(postgresql_url: str, new_event: Make) -> None:
    """Machines whose clocks are five minutes apart agree on what is due and when a lease ends."""
    clocks = [Clock(lambda ahead=ahead: time.time() + ahead) for ahead in (-300.0, 300.0)]  # type: ignore[misc]
    early, late = [Journal(postgresql_url, clock=clock) for clock in clocks]
    assert abs(early.now() - late.now()) < 60
    journal = Journal(postgresql_url)
    journal.append(new_event(), ["a"])
    assert len(early.queue.claim("a", 1, 60)) == 1
    assert late.queue.claim("a", 1, 60) == []
    due = late.queue.dues({"a": NO_LIMITS})["a"].due
    assert abs(due - time.time() - 60) < 30
    for one in (early, late, journal):
        one.close()


def test_answer_of_the_server_that_comes_late_does_not_change_the_time(
    server: PostgresqlTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that stalls has delayed the server's answer, and not set the clock."""
    monkeypatch.setattr("pulp_hooks.journal.postgresql._QUICK_SECONDS", 0.4)
    passed = [0.0]
    database = server.journal().backend
    database.clock = Clock(elapsed=lambda: time.monotonic() + passed[0])
    ahead = database.now() - database.clock.elapsed()
    server.delay(0.8)
    passed[0] += 61
    assert database.now() - database.clock.elapsed() == pytest.approx(ahead)
    database.close()
