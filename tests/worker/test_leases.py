"""No call begins after the end of its lease, even if the worker was suspended."""

import os
import signal
import threading
from pathlib import Path

import pytest

from pulp_hooks.journal.claims import Claim
from pulp_hooks.journal.clock import SYSTEM_CLOCK, Clock
from pulp_hooks.worker.attempts import Attempt, Ending
from pulp_hooks.worker.listener_pool import ListenerPool
from tests.proofs.conftest import Start, start, until
from tests.worker.conftest import Host, Listener
from tests.worker.test_worker import fire

__all__ = ["start"]

WORK = """
import sys, time
import pulp_hooks.worker.worker as module
from pulp_hooks import Hooks, hookimpl
from pulp_hooks.settings.model import DeliverySettings, Settings

url, calls, name = sys.argv[1:]
module.SLACK_SECONDS = 1.0

class Desk:
    @hookimpl
    def repo_sync_started(self, body, event):
        with open(calls, "a") as file:
            file.write(f"{name} {event.id}\\n")
        if name == "first" and body["repo_id"] == "slow":
            time.sleep(0.5)

with Hooks({"Desk": Desk()}, journal=url) as hooks:
    hooks._settings = Settings(delivery=DeliverySettings(timeout_seconds=1.0, ordered=True))
    with hooks.worker(threads_per_listener=1):
        time.sleep(120)
"""


def lines(file: Path) -> list[list[str]]:
    """Return the worker and the event of each call."""
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def test_suspended_worker_begins_no_claim_after_its_lease(host: Host, tmp_path: Path, start: Start) -> None:
    """After a suspension during a call its other claims are not begun, so the deliveries of others keep their order."""
    desk = type("Desk", (Listener,), {})
    hooks = host.hooks(desk(), ordered=True)
    warm = fire(hooks, *(f"warm-{number}" for number in range(10)))
    slow = fire(hooks, "slow")
    ordered = [fire(hooks, "x", "x", "x"), fire(hooks, "y", "y", "y"), fire(hooks, "z", "z", "z")]
    file = tmp_path / "calls"
    first = start(WORK, host.url, file, "first")
    until(lambda: ["first", *slow] in lines(file))
    # Suspended in a transaction, it would hold its locks on PostgreSQL.
    until(lambda: host.states().count("delivered") >= len(warm))
    os.kill(first.pid, signal.SIGSTOP)
    second = start(WORK, host.url, file, "second")
    until(lambda: host.states().count("delivered") == len(warm) + 10)
    second.kill()
    os.kill(first.pid, signal.SIGCONT)
    (later,) = fire(hooks, "later")
    until(lambda: ["first", later] in lines(file))
    called = [event_id for _, event_id in lines(file)]
    assert [[event_id for event_id in called if event_id in ids] for ids in ordered] == ordered


def test_claim_after_its_lease_is_released_and_not_begun() -> None:
    """The machine was suspended while the claim waited; `time.monotonic` does not count that."""
    begun: list[str] = []
    elapsed = [0.0]
    blocked = threading.Event()

    def call(claim: Claim, began: float) -> Attempt:
        begun.append(claim.event_id)
        blocked.wait(20)
        return Attempt(claim, Ending.SUCCEEDED, began, 0.0)

    ended: list[Attempt] = []
    pool = ListenerPool("a", 1, 60, call, lambda: sum(elapsed), lambda _, one: ended.append(one))
    claims = [Claim(number, str(number), "a", "token", b"", 1, 1, 0.0) for number in range(4)]
    pool.feed(claims[:3], 30.0)
    until(lambda: begun)
    elapsed.append(31.0)
    blocked.set()
    until(lambda: ended)
    pool.feed(claims[3:], 61.0)
    until(lambda: len(ended) == 2)
    assert begun == ["0", "3"]
    assert (pool.in_hand, pool.overdue(), pool.in_hand) == (2, claims[1:3], 0)
    pool.close()


def test_single_delivery_after_its_lease_is_released(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a Celery task, the process was suspended between claim and call."""
    listener = Listener()
    hooks = host.hooks(listener)
    (event_id,) = fire(hooks, "a")
    elapsed = [0.0]
    assert hooks.journal is not None
    hooks.journal.backend.clock = Clock(elapsed=lambda: SYSTEM_CLOCK.elapsed() + sum(elapsed))
    worker = hooks.worker()
    claim = worker._queue.claim

    def claimed(*arguments: object, **options: object) -> list[Claim]:
        found = claim(*arguments, **options)  # type: ignore[arg-type]
        elapsed.append(31.0)
        return found

    monkeypatch.setattr(worker._queue, "claim", claimed)
    assert worker.deliver_one(event_id, "Listener") is None
    (delivery,) = host.deliveries()
    assert (listener.events, delivery.state, delivery.lease, delivery.attempts) == ([], "pending", None, 0)
    monkeypatch.undo()
    attempt = hooks.worker().deliver_one(event_id, "Listener")
    assert attempt is not None
    assert attempt.ending is Ending.SUCCEEDED
