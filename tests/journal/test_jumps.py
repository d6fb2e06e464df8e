"""Jumps of the clock by a day: nothing becomes due too early, nothing is stuck, and it is followed once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from pulp_hooks.event import Event
from pulp_hooks.journal import tables
from pulp_hooks.journal.claim import NO_LIMITS, Limits
from pulp_hooks.journal.claims import Claims
from pulp_hooks.journal.clock import Clock
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.jumps import follow_clock
from pulp_hooks.journal.listeners import Listeners
from pulp_hooks.journal.results import Result
from pulp_hooks.journal.statistics import statistics
from pulp_hooks.journal.tables import State

Make = Callable[..., Event]
DAY = 86_400.0


@dataclass
class Hands:
    """A clock that a test sets."""

    wall: float = 1_800_000_000.0
    passed: float = 1000.0

    def clock(self) -> Clock:
        """Give the clock."""
        return Clock(lambda: self.wall, lambda: self.passed)

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.passed += seconds

    def jump(self, seconds: float) -> None:
        """Set the clock."""
        self.wall += seconds


class Sqlite:
    """A journal in SQLite whose clock a test sets."""

    def __init__(self, url: str, hands: Hands) -> None:
        self.hands = hands
        self.database = Database(url, clock=hands.clock())
        self.claims = Claims(self.database)

    def dues(self) -> dict[str, float]:
        """Give in how many seconds each listener's next delivery is due."""
        found = self.claims.dues(dict.fromkeys(("waiting", "claimed", "retried"), NO_LIMITS))
        return {name: due.due - self.database.now() for name, due in found.items()}


def followed(machines: dict[str, Database], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have each of some machines follow the clock, and give by how much each has moved what waits."""
    moved = []
    for name, machine in machines.items():
        monkeypatch.setattr("pulp_hooks.journal.jumps._machine", lambda name=name: name)
        moved.append(round(follow_clock(machine)))
    return moved


@pytest.fixture
def filled(sqlite_url: str, new_event: Make) -> Sqlite:
    """Give a journal with a delivery that waits, one that is claimed, and one that is to be tried again."""
    journal = Sqlite(sqlite_url, Hands())
    store = Journal(sqlite_url)
    store.append(new_event(), ["waiting", "claimed", "retried"], now=journal.hands.wall)
    store.close()
    follow_clock(journal.database)
    journal.hands.go_on(10)
    journal.claims.claim("claimed", 1, 60)
    (claim,) = journal.claims.claim("retried", 1, 60)
    now = journal.database.now()
    journal.claims.finish([Result(claim, State.WAITING, now, 0.1, "failed", "no", now + 300)])
    assert journal.dues() == {"waiting": -10, "claimed": 60, "retried": 300}
    return journal


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_everything_stays_as_far_away_as_it_was(jump: float, filled: Sqlite) -> None:
    """No retry comes a day early or late, and no lease ends early or never."""
    filled.hands.jump(jump)
    assert follow_clock(filled.database) == jump
    assert filled.dues() == {"waiting": -10, "claimed": 60, "retried": 300}
    assert follow_clock(filled.database) == 0
    filled.database.close()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_jump_is_followed_once_whoever_sees_it(jump: float, filled: Sqlite, sqlite_url: str) -> None:
    """Another worker, and one that was started after the jump, find it followed."""
    filled.hands.jump(jump)
    other = Sqlite(sqlite_url, filled.hands)
    assert [follow_clock(journal.database) for journal in (other, filled, other)] == [jump, 0, 0]
    assert filled.dues() == {"waiting": -10, "claimed": 60, "retried": 300}
    other.database.close()
    filled.database.close()


def test_what_was_fired_after_a_jump_ahead_is_due_at_once(filled: Sqlite, sqlite_url: str, new_event: Make) -> None:
    """Its time is right already: it must not wait for a day."""
    filled.hands.jump(DAY)
    filled.hands.go_on(5)
    store = Journal(sqlite_url)
    store.append(new_event(), ["waiting"], now=filled.hands.wall)
    store.close()
    follow_clock(filled.database)
    assert len(filled.claims.claim("waiting", 9, 60)) == 2
    filled.database.close()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_rate_of_a_listener_goes_on_as_it_was(jump: float, filled: Sqlite) -> None:
    """The pause that a rate asks for is over when it would have been, neither at once nor in a day."""
    limits = Limits(per_second=0.01)
    filled.claims.claim("waiting", 1, 60, limits)
    assert filled.claims.dues({"waiting": limits})["waiting"].claimable == filled.database.now() + 100
    filled.hands.jump(jump)
    follow_clock(filled.database)
    assert filled.claims.dues({"waiting": limits})["waiting"].claimable == filled.database.now() + 100
    filled.database.close()


def test_what_waits_has_waited_as_long_as_before_when_the_clock_goes_back(filled: Sqlite) -> None:
    """The moments at which it was stored go back as well, and do not lie in the future."""
    filled.hands.jump(-DAY)
    follow_clock(filled.database)
    assert [one.oldest_waiting_seconds for one in statistics(filled.database)] == [10, 10, 10]
    filled.database.close()


def test_messages_are_sent_again_after_a_jump_back(filled: Sqlite) -> None:
    """A message that was sent before the jump does not stand for what comes due behind it."""
    assert len(filled.claims.unsent("waiting", 9, 60)) == 1
    filled.hands.jump(-DAY)
    follow_clock(filled.database)
    assert filled.claims.unsent("waiting", 9, 60) == []
    filled.hands.go_on(60)
    assert len(filled.claims.unsent("waiting", 9, 60)) == 1
    filled.database.close()


def test_what_was_tried_moves_though_it_was_stored_by_a_clock_that_was_ahead(filled: Sqlite) -> None:
    """A small correction may have left the moment of its storing in the future; a jump ahead moves it as well."""
    filled.hands.jump(-30)
    assert follow_clock(filled.database) == 0
    filled.hands.jump(DAY)
    assert follow_clock(filled.database) == DAY
    assert filled.dues()["retried"] == 330
    filled.database.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_fired_while_the_clock_was_ahead_is_due_at_once(
    filled: Sqlite, sqlite_url: str, new_event: Make, monkeypatch: pytest.MonkeyPatch, *, restarted: bool
) -> None:
    """A machine may start with a wrong clock, and have it corrected before a worker is there."""
    if restarted:
        monkeypatch.setattr("pulp_hooks.journal.jumps._machine", lambda: "another start")
    store = Journal(sqlite_url)
    store.append(new_event(), ["waiting"], now=filled.hands.wall + DAY)
    store.close()
    filled.hands.jump(-600)
    follow_clock(filled.database)
    assert len(filled.claims.claim("waiting", 9, 60)) == 2
    filled.database.close()


def test_small_corrections_change_nothing(filled: Sqlite) -> None:
    """A time server sets the clock by seconds all the time."""
    filled.hands.jump(30)
    assert follow_clock(filled.database) == 0
    assert filled.dues()["retried"] == 270
    filled.database.close()


def test_machine_that_was_started_anew_has_no_jump(
    filled: Sqlite, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The elapsed time begins anew with a start; the times of day are right."""
    monkeypatch.setattr("pulp_hooks.journal.jumps._machine", lambda: "another start")
    restarted = Sqlite(sqlite_url, Hands(wall=filled.hands.wall + 100, passed=5.0))
    assert follow_clock(restarted.database) == 0
    assert restarted.dues()["retried"] == 200
    restarted.database.close()
    filled.database.close()


def test_disabling_counts_the_time_that_passed(filled: Sqlite) -> None:
    """A clock that is set a day ahead does not make a listener one that has failed for a day."""
    filled.hands.jump(DAY)
    follow_clock(filled.database)
    (since,) = Listeners(filled.database).failing_since(["retried"]).values()
    assert filled.database.now() - since < 60
    filled.database.close()


def test_time_of_postgresql_is_the_servers(postgresql_url: str) -> None:
    """Two machines whose clocks are five minutes apart agree, and a jump of one of them changes nothing."""
    hands = [Hands(wall=time.time() + ahead, passed=time.monotonic()) for ahead in (-300, 300)]
    databases = [Database(postgresql_url, clock=one.clock()) for one in hands]
    early, late = [database.now() for database in databases]
    assert abs(early - late) < 2
    assert abs(early - time.time()) < 2
    hands[0].jump(DAY)
    assert abs(databases[0].now(measured=True) - time.time()) < 2
    assert follow_clock(databases[0]) == 0
    hands[0].go_on(30)
    assert databases[0].now() - early > 29
    for database in databases:
        database.close()


def test_jump_of_the_servers_clock_is_followed_once_by_all_machines(
    postgresql_url: str, new_event: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every machine sees it, and what waits is moved once."""
    journal = Journal(postgresql_url)
    journal.append(new_event(), ["a"], now=journal.database.now() - DAY)
    # The server's clock cannot be set: the time that passes on both machines is, the other way round.
    hands = Hands(passed=5000.0)
    machines = {name: Database(postgresql_url, clock=hands.clock()) for name in ("one", "two")}
    assert followed(machines, monkeypatch) == [0, 0]
    hands.passed -= 3600
    assert followed(machines, monkeypatch) == [3600, 0]
    due = Claims(journal.database).dues({"a": NO_LIMITS})["a"].due
    assert abs(due - (journal.database.now() - DAY + 3600)) < 5
    journal.close()
    for machine in machines.values():
        machine.close()


def test_machine_whose_elapsed_time_went_wrong_is_not_contradicted_for_ever(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves what waits, as it must think that the clock has jumped; the others, which see no jump, leave it so."""
    hands = {name: Hands(passed=5000.0) for name in ("one", "two")}
    machines = {name: Database(postgresql_url, clock=one.clock()) for name, one in hands.items()}
    assert followed(machines, monkeypatch) == [0, 0]
    hands["one"].passed -= 61
    assert followed(machines, monkeypatch) == [61, 0]
    assert followed(machines, monkeypatch) == [0, 0]
    # They still see what is a jump of the server's clock.
    for one in hands.values():
        one.passed += 3600
    assert followed(machines, monkeypatch) == [-3600, 0]
    for machine in machines.values():
        machine.close()


def test_drift_never_adds_up_to_a_jump(filled: Sqlite) -> None:
    """A clock that is corrected by seconds again and again, by minutes in all, has not jumped."""
    for _ in range(10):
        filled.hands.jump(20)
        assert follow_clock(filled.database) == 0
    assert filled.dues()["retried"] == 100
    filled.database.close()


def test_what_is_known_is_seldom_written_down(filled: Sqlite) -> None:
    """Whoever looks every second does not write every second because a clock is corrected by parts of one."""
    with filled.database.reading("see") as connection:
        before = connection.execute(select(tables.clock.c.ahead)).scalar_one()
    filled.hands.jump(0.9)
    follow_clock(filled.database)
    with filled.database.reading("see") as connection:
        assert connection.execute(select(tables.clock.c.ahead)).scalar_one() == before
    filled.database.close()


def test_machine_is_told_apart_where_the_kernel_is_old(filled: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without namespaces of time the start of the machine is known all the same."""

    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr("os.readlink", missing)
    follow_clock(filled.database)
    with filled.database.reading("see") as connection:
        (machine,) = connection.execute(select(tables.clock.c.machine)).scalars()
    assert machine == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    filled.database.close()


def test_clock_is_not_followed_where_no_machine_can_be_told_from_another(
    filled: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that were taken for one would move everything to and fro."""

    def missing(path: Path, *_: object) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    assert follow_clock(filled.database) == 0
    filled.hands.jump(DAY)
    assert follow_clock(filled.database) == 0
    filled.database.close()


jumps_of_any_size = st.one_of(st.floats(61, 10 * DAY), st.floats(-10 * DAY, -61))


@settings(max_examples=30)
@given(jumps=st.lists(st.tuples(jumps_of_any_size, st.integers(0, 2), st.integers(0, 2)), max_size=5))
def test_any_sequence_of_jumps_leaves_a_retry_where_it_was_and_events_in_their_order(
    jumps: list[tuple[float, int, int]], tmp_path_factory: pytest.TempPathFactory, new_event: Make
) -> None:
    """However often the clock is set, and whatever is fired before and after the jump is followed."""
    journal = Sqlite(f"sqlite:///{tmp_path_factory.mktemp('jumps')}/journal.db", Hands())
    store = Journal(f"{journal.database.name}")
    store.append(new_event(), ["retried"], now=journal.hands.wall)
    follow_clock(journal.database)
    (claim,) = journal.claims.claim("retried", 1, 60)
    now = journal.database.now()
    journal.claims.finish([Result(claim, State.WAITING, now, 0.1, "failed", "no", now + 300)])
    fired: list[str] = []

    def fire(times: int) -> None:
        for _ in range(times):
            # Later ones have smaller ids, so that nothing is in order by chance.
            fired.append(f"{99 - len(fired)}")
            store.append(new_event(event_id=fired[-1]), ["ordered"], now=journal.hands.wall, ordered={"ordered"})
            journal.hands.go_on(1)

    for jump, before, after in jumps:
        journal.hands.jump(jump)
        fire(before)
        assert follow_clock(journal.database) == pytest.approx(jump)
        fire(after)
    assert journal.dues()["retried"] == pytest.approx(300 - len(fired))
    delivered = []
    while lot := journal.claims.claim("ordered", 9, 60):
        delivered += [claim.event_id for claim in lot]
        journal.claims.finish([Result(claim, State.DELIVERED, 0.0, 0.1, "succeeded") for claim in lot])
    assert delivered == fired
    store.close()
    journal.database.close()
