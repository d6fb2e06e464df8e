"""Under load: many processes at once, a server that goes away, and a listener that is dead."""

import logging
import resource
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from pulp_hooks import Hooks
from pulp_hooks.journal.journal import Journal
from pulp_hooks.settings.model import DeliverySettings, Settings
from tests.proofs.conftest import Server, Start, until
from tests.proofs.test_killed import FIRE, WORK, calls, states
from tests.worker.conftest import Listener, Other

STARTED = "repo-sync-started"


def test_eight_firing_processes_find_the_file_locked_never(sqlite_url: str, start: Start) -> None:
    """All events of all processes are stored, and no process has failed."""
    hosts = [start(FIRE, sqlite_url, 400) for _ in range(8)]
    assert [host.wait(120) for host in hosts] == [0] * 8
    assert states(sqlite_url) == {"pending": 8 * 400 * 2}


def test_four_workers_make_each_delivery_exactly_once(postgresql_url: str, tmp_path: Path, start: Start) -> None:
    """Of 1,500 deliveries none is made twice when nothing dies, and none is left."""
    files = [tmp_path / f"calls-{number}" for number in range(4)]
    workers = [start(WORK, postgresql_url, file, 0, "never", 30, 2) for file in files]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    host = start(FIRE.replace(', "Board": Board()', ""), postgresql_url, 1500)
    host.wait(120)
    until(lambda: states(postgresql_url) == {"delivered": 1500})
    made = Counter(event_id for file in files for event_id, _ in calls(file))
    assert (len(made), set(made.values())) == (1500, {1})
    assert sum(bool(calls(file)) for file in files) > 1


def test_server_that_is_restarted_under_load_loses_nothing(server: Server, tmp_path: Path, start: Start) -> None:
    """Stopped at once in the midst of it: hosts get the one error, workers connect again, and all is delivered."""
    file = tmp_path / "calls"
    firing = FIRE.replace(
        "    for number", "    from pulp_hooks import JournalError\n    import time\n    for number"
    ).replace(
        '        event = hooks.repo_sync_started(repo_id=f"r-{number % 7}").event\n',
        "        try:\n"
        '            event = hooks.repo_sync_started(repo_id=f"r-{number % 7}").event\n'
        "        except JournalError:\n"
        "            time.sleep(0.1)\n"
        "            continue\n",
    )
    host = start(firing, server.url, 1200)
    for _ in range(2):
        start(WORK, server.url, file, 0.001, "both", 2, 2)
    until(lambda: len(calls(file)) > 100)
    for _ in range(2):
        server.stop()
        time.sleep(0.5)
        server.start()
        time.sleep(1.0)
    assert host.stdout is not None
    reported = {line.strip() for line in host.stdout}
    assert host.wait(120) == 0
    until(lambda: set(states(_driver(server.url))) == {"delivered"})
    assert reported <= {event_id for event_id, _ in calls(file)}


def _driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_ten_thousand_events_for_a_dead_listener_harm_nobody(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others get theirs, memory stays flat, and when it is back it is delivered at the rate that is set."""
    caplog.set_level(logging.CRITICAL)
    is_down = threading.Event()
    is_down.set()

    def down(_event: object) -> None:
        if is_down.is_set():
            raise ConnectionRefusedError("down")

    dead, other = Listener(down), Other()
    rate = 200.0
    settings = Settings(delivery=DeliverySettings(disable_after_hours=0.5 / 3600, retry_seconds=(0.5,) * 50))
    with Hooks({"Listener": dead, "Other": other}, settings=settings, journal=sqlite_url) as hooks:
        hooks.fire(STARTED, {"repo_id": "first"})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with hooks.worker(threads_per_listener=2):
            for number in range(10_000):
                hooks.fire(STARTED, {"repo_id": f"r-{number % 100}"})
            until(lambda: len(other.events) == 10_001)
            journal = hooks.journal
            assert journal is not None
            until(lambda: _is_disabled(journal, "Listener"))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 60 * 1024
        is_down.clear()
        called = len(dead.events)
        enabled = time.monotonic()
        held = journal.enable("Listener", per_second=rate)
        with hooks.worker(threads_per_listener=2):
            time.sleep(2.0)
            made, passed = len(dead.events) - called, time.monotonic() - enabled
        assert held >= 9_000
        assert 0 < made <= rate * passed + 1


def _is_disabled(journal: Journal, name: str) -> bool:
    return any(state.name == name and state.disabled_at is not None for state in journal.listeners())
