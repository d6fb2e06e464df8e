"""Tests of who waits for whom on PostgreSQL, with real locks of other connections."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, update

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal.claims import Result
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.replay import Missed
from pulp_hooks.journal.schema import State, delivery, event, listener

Make = Callable[..., Event]


@pytest.fixture
def journal(postgresql_url: str) -> Iterator[Journal]:
    """Yield an empty journal on a real server."""
    journal = Journal(postgresql_url, busy_seconds=5)
    yield journal
    journal.close()


def wait_until_blocked(journal: Journal) -> None:
    """Return when somebody waits for a lock of this journal."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'pulp_hooks_delivery'::regclass)"
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with journal.backend.reading("look") as connection:
            if connection.exec_driver_sql(query).scalar_one():
                return
        time.sleep(0.01)
    pytest.fail("nobody waits")


def test_claim_passes_over_what_another_worker_is_about_to_claim(journal: Journal, new_event: Make) -> None:
    """It does not wait for the other's transaction, and takes the next."""
    first, second = new_event(), new_event()
    journal.append(first, ["a"], now=10)
    journal.append(second, ["a"], now=11)
    with journal.backend.writing("claim") as other:
        number = select(event.c.number).where(event.c.id == first.id).scalar_subquery()
        other.execute(select(delivery).where(delivery.c.event == number).with_for_update())
        (claim,) = journal.queue.claim("a", 1, 30, now=20)
        assert journal.queue.unsent("a", 1, 30, now=60) == [second.id]
    assert claim.event_id == second.id


@pytest.mark.parametrize("gives_back", [True, False])
def test_late_worker_waits_for_the_claim_that_makes_it_late(
    journal: Journal, new_event: Make, *, gives_back: bool
) -> None:
    """A result that comes while another worker claims the delivery is late when that has claimed it."""
    journal.append(new_event(), ["a"], now=10)
    claims = journal.queue
    (claim,) = claims.claim("a", 1, 30, now=10)
    result = Result(claim, State.DELIVERED, started=1.0, seconds=0.5, status="done")
    with ThreadPoolExecutor(1) as pool:
        with journal.backend.writing("claim") as other:
            other.execute(update(delivery).values(lease="another", due=99.0))
            late = pool.submit(claims.release, [claim]) if gives_back else pool.submit(claims.finish, [result])
            wait_until_blocked(journal)
        assert late.result() == [claim]
    with journal.backend.reading("look") as connection:
        row = connection.execute(select(delivery)).one()
    assert (row.state, row.lease, row.due) == (State.PENDING, "another", 99.0)


def test_lease_begins_when_the_wait_for_the_database_is_over(journal: Journal, new_event: Make) -> None:
    """A claim that had to wait for an operator has its whole lease all the same."""
    journal.append(new_event(), ["a"])
    claims = journal.queue
    with ThreadPoolExecutor(1) as pool:
        with journal.backend.writing("lock") as other:
            journal.backend.lock_deliveries(other)
            waiting = pool.submit(claims.claim, "a", 1, 30)
            wait_until_blocked(journal)
            time.sleep(1)
            released = journal.now()
        assert len(waiting.result()) == 1
    with journal.backend.reading("look") as connection:
        assert connection.execute(select(func.min(delivery.c.due))).scalar_one() >= released + 30


def test_replay_to_a_listener_that_is_just_enabled_is_not_held(journal: Journal, new_event: Make) -> None:
    """Whether the listener is disabled is looked at when whoever enables it is ready."""
    journal.append(new_event(), [])
    journal.disable("new", "not yet")
    with ThreadPoolExecutor(1) as pool:
        with journal.backend.writing("enable") as other:
            journal.backend.lock_deliveries(other)
            other.execute(update(listener).values(disabled_at=None))
            stored = pool.submit(journal.backfill, "new", Missed())
            wait_until_blocked(journal)
        assert stored.result() == 1
    with journal.backend.reading("look") as connection:
        assert connection.execute(select(delivery.c.state)).scalar_one() == State.PENDING


@pytest.mark.parametrize("options", ["", " -clock_timeout=7s"])
def test_nobody_waits_for_a_lock_longer_than_busy_seconds(postgresql_url: str, new_event: Make, options: str) -> None:
    """An event is refused in time when others have locked the journal; what the URL says of that holds."""
    journal = Journal(postgresql_url.replace("options=", f"options={options}%20"), busy_seconds=0.5)
    journal.append(new_event(), ["a"])
    with journal.backend.reading("look") as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == ("7s" if options else "500ms")
    if not options:
        with journal.backend.writing("lock") as other:
            journal.backend.lock_deliveries(other)
            began = time.monotonic()
            with pytest.raises(JournalError, match="another process has locked it for too long"):
                journal.append(new_event(), ["a"])
            assert 0.4 < time.monotonic() - began < 3
    journal.append(new_event(), ["a"])
    journal.close()


def test_server_that_is_gone_is_noticed_within_busy_seconds(postgresql_url: str) -> None:
    """The system is told how long to wait for a server, unless the URL says so."""
    journal = Journal(f"{postgresql_url}&keepalives_idle=9", busy_seconds=6)
    with journal.backend.reading("look") as connection:
        driver: Any = connection.connection.driver_connection
        said = driver.info.get_parameters()
    journal.close()
    assert {name: said.get(name) for name in ("connect_timeout", "keepalives_idle", "tcp_user_timeout")} == {
        "connect_timeout": "6",
        "keepalives_idle": "9",
        "tcp_user_timeout": "6000",
    }
