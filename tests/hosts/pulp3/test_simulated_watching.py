"""The watcher on simulated servers, over everything that goes wrong there."""

from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.simulated_pulp.tasks import SECOND
from benchmarks.simulated_pulp.watching import Watched, watch
from pulp_hooks.hosts.pulp3 import server_watcher


def watched(seed: int, folder: Path) -> Watched:
    """Return a server that was watched for four minutes, with one failing request in twenty and a restart a minute."""
    folder = folder / str(seed)
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    (one,) = watch(seed, 1, 240 * SECOND, 0.05, 60 * SECOND, folder)
    return one


@settings(max_examples=3, deadline=None, phases=[Phase.generate])  # no seed is simpler than another
@given(seed=st.integers(0, 10_000))
def test_every_event_is_fired_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Late commits, skewed clocks, failing requests and killed watchers lose nothing and report nothing twice."""
    one = watched(seed, tmp_path_factory.getbasetemp())
    assert (one.ledger.lost, one.ledger.surplus, one.ledger.disordered, one.repeated) == (0, 0, 0, 0)
    assert one.ledger.events > 500
    assert one.restarts >= 2


def test_simulation_finds_a_watcher_that_loses_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an overlap, what is committed late is lost: the simulation notices."""
    monkeypatch.setattr(server_watcher, "_OVERLAP", 0 * server_watcher._OVERLAP)
    monkeypatch.setattr(server_watcher, "WIDE_OVERLAP", server_watcher._OVERLAP)
    assert watched(1, tmp_path).ledger.lost > 0
