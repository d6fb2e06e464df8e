"""The pauses between attempts, and the limits of pauses that a listener requests."""

import random

import pytest

from pulp_hooks import RetryLater
from pulp_hooks.dispatch.outcomes import Outcome, Status
from pulp_hooks.journal.claims import Claim
from pulp_hooks.journal.schema import State
from pulp_hooks.settings.model import DeliverySettings
from pulp_hooks.worker.attempts import Attempt, Ending, result_of
from pulp_hooks.worker.schedule import next_pause

NOW, DAY = 1e9, 86_400.0
SETTINGS = DeliverySettings(retry_seconds=(10.0,))


def failed(attempts: int, after: float) -> Attempt:
    """Return an attempt whose listener requested a retry after this many seconds."""
    outcome = Outcome("a", "repo_sync_started", Status.FAILED, 0.0, "busy", control=RetryLater("busy", after=after))
    claim = Claim(1, "e", "a", "token", b"", 1, attempts, NOW)
    return Attempt(claim, Ending.FAILED, NOW, 0.0, "busy", (outcome,))


@pytest.mark.parametrize(
    ("after", "waited"), [(0, 0), (3600, 3600), (DAY - 1, DAY - 1), (DAY, DAY), (DAY + 1, DAY), (1e12, DAY)]
)
def test_retry_later_waits_at_most_a_day(after: float, waited: float) -> None:
    """A longer pause is shortened to a day."""
    result = result_of(failed(1, after), SETTINGS, started=NOW, now=NOW)
    assert (result.state, result.due, result.uses_step) == (State.RETRYING, NOW + waited, False)


@pytest.mark.parametrize("attempts", [1, 98, 99])
def test_retry_later_holds_below_a_hundred_attempts(attempts: int) -> None:
    """The listener's pause applies, and no step of the schedule is used up."""
    result = result_of(failed(attempts, 60.0), SETTINGS, started=NOW, now=NOW)
    assert (result.due, result.uses_step) == (NOW + 60.0, False)


@pytest.mark.parametrize("attempts", [100, 101, 5000])
def test_schedule_holds_from_a_hundred_attempts_on(attempts: int) -> None:
    """A listener that always requests a retry does not keep a delivery for ever."""
    result = result_of(failed(attempts, 60.0), SETTINGS, started=NOW, now=NOW)
    assert result.due is not None
    assert NOW + 8 <= result.due <= NOW + 12
    assert result.uses_step


def test_pauses_are_varied_by_a_fifth_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries that failed together do not all come due together."""
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return low

    monkeypatch.setattr(random, "uniform", uniform)
    assert next_pause(2, (10.0, 100.0)) == 80.0
    assert bounds == [(0.8, 1.2)]
    assert next_pause(3, (10.0, 100.0)) is None


@pytest.mark.parametrize("ending", Ending)
def test_only_failed_and_timed_out_calls_count_against_the_listener(ending: Ending) -> None:
    """A stopped worker, or an event that it cannot read, does not disable a listener."""
    claim = Claim(1, "e", "a", "token", b"", 1, 1, NOW)
    assert Attempt(claim, ending, NOW, 0.0).is_failure == (ending in {Ending.FAILED, Ending.TIMED_OUT})
