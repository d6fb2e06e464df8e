"""The worker: deliveries, retries, limits, and isolation of listeners."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pulp_hooks import ClosedError, DisableListener, EventType, Hooks, JournalError, PermanentFailure, RetryLater
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.journal.claims import Claim, Due
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.queue import Queue
from pulp_hooks.settings.model import JournalSettings
from pulp_hooks.worker.attempts import Attempt, Ending, attempt
from pulp_hooks.worker.listener_pool import ListenerPool
from pulp_hooks.worker.maintenance import Maintenance
from pulp_hooks.worker.worker import Worker
from tests.worker.conftest import Host, Listener, Other

Until = Callable[[Callable[[], object]], None]
STARTED = "repo-sync-started"


def fire(hooks: Any, *repo_ids: str) -> list[str]:  # noqa: ANN401 - Hooks
    """Fire an event for each repository, and return the ids."""
    return [hooks.fire(STARTED, {"repo_id": repo_id}).event.id for repo_id in repo_ids]


def raising(*errors: BaseException | None) -> Callable[[object], None]:
    """Return a function that raises each of these in turn, and then always the last."""
    left = list(errors)

    def does(_event: object) -> None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error

    return does


def settle(host: Host, worker: Worker) -> None:
    """Let an hour pass and run a worker, repeatedly, until nothing is pending or retrying."""
    for _ in range(100):
        worker.run_once()
        if not {"pending", "retrying"} & set(host.states()):
            return
        host.pass_time(3600)
    pytest.fail("something is still to be delivered")


def dues(host: Host) -> list[float]:
    """Return the due times of the pending deliveries."""
    return [delivery.due for delivery in host.deliveries() if delivery.due is not None]


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    """Return a `threading.Event` that listeners wait for; it is set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_what_is_due_is_delivered_once(host: Host) -> None:
    """Every listener gets every fired event, with its id, exactly once."""
    first, second = Listener(), Other()
    hooks = host.hooks(first, second)
    ids = fire(hooks, "a", "b", "c")
    worker = hooks.worker()
    worker.run_once()
    hooks.worker().run_once()
    assert sorted(first.repo_ids) == sorted(second.repo_ids) == ["a", "b", "c"]
    assert sorted(first.ids) == sorted(ids)
    assert host.states() == ["delivered"] * 6
    assert worker.tally == {Ending.SUCCEEDED: 6}
    assert host.attempts() == [(1, "succeeded", None)] * 6


def test_threads_in_the_host_deliver_at_once(host: Host, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker in the same process is woken by the event, without polling."""
    monkeypatch.setattr("pulp_hooks.worker.worker._POLL_SECONDS", 3600.0)
    listener = Listener()
    hooks = host.hooks(listener)
    with hooks.worker():
        fire(hooks, "first")
        until(lambda: host.states() == ["delivered"])
        fire(hooks, "second")
        until(lambda: host.states() == ["delivered"] * 2)
    assert listener.repo_ids == ["first", "second"]


def test_failure_is_retried_on_the_schedule_and_then_dead(host: Host) -> None:
    """Each pause is that of the schedule, varied by a fifth; after the last attempt the delivery is dead."""
    listener = Listener(raising(RuntimeError("out of paper")))
    hooks = host.hooks(listener, retry_seconds=(100, 1000))
    fire(hooks, "zoo")
    for attempts, pause in enumerate((100, 1000), 1):
        before = time.time()
        hooks.worker().run_once()
        (due,) = dues(host)
        assert before + 0.8 * pause <= due <= time.time() + 1.2 * pause
        hooks.worker().run_once()
        assert len(listener.events) == attempts
        host.pass_time(due - before)
    hooks.worker().run_once()
    assert len(listener.events) == 3
    assert host.states() == ["dead"]
    assert [status for _, status, _ in host.attempts()] == ["failed"] * 3
    assert host.deliveries()[0].error == "RuntimeError: out of paper"


def test_success_after_a_failure_ends_it(host: Host) -> None:
    """The second attempt has the same event id and the next number."""
    listener = Listener(raising(RuntimeError("not yet"), None))
    hooks = host.hooks(listener, retry_seconds=(0.0,))
    (event_id,) = fire(hooks, "zoo")
    hooks.worker().run_once()
    hooks.worker().run_once()
    assert listener.ids == [event_id] * 2
    assert host.attempts() == [(1, "failed", "RuntimeError: not yet"), (2, "succeeded", None)]
    assert host.states() == ["delivered"]


def test_permanent_failure_is_dead_at_once(host: Host) -> None:
    """There is no retry; a replay is possible."""
    listener = Listener(raising(PermanentFailure("400 Bad Request"), None))
    hooks = host.hooks(listener)
    (event_id,) = fire(hooks, "zoo")
    hooks.worker().run_once()
    assert host.states() == ["dead"]
    assert hooks.journal is not None
    assert hooks.journal.replay(event_id, "Listener")
    hooks.worker().run_once()
    assert host.states() == ["delivered"]
    assert [number for number, _, _ in host.attempts()] == [1, 2]


def test_retry_later_waits_as_requested_and_uses_no_step(host: Host) -> None:
    """The listener's pause applies, and the schedule continues at the same step."""
    listener = Listener(raising(*[RetryLater("busy", after=200)] * 3, None))
    hooks = host.hooks(listener, retry_seconds=())
    fire(hooks, "zoo")
    for _ in range(3):
        before = time.time()
        hooks.worker().run_once()
        (due,) = dues(host)
        assert before + 200 <= due <= time.time() + 200
        host.pass_time(200)
    hooks.worker().run_once()
    assert len(listener.events) == 4
    assert (host.states(), host.deliveries()[0].attempts, host.deliveries()[0].step) == (["delivered"], 4, 1)


def test_listener_that_requests_it_is_disabled_and_its_deliveries_are_held(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Its deliveries are held with the reason, those of others are made, and enabling it resumes them."""
    gone, other = Listener(raising(DisableListener("410 Gone"), None)), Other()
    hooks = host.hooks(gone, other)
    fire(hooks, "a", "b", "c")
    hooks.worker(threads_per_listener=1).run_once()
    assert len(gone.events) == 1
    assert sorted(host.states()) == ["delivered"] * 3 + ["held"] * 3
    assert "failed, on hold until the listener is enabled: DisableListener: 410 Gone" in caplog.text
    (said,) = [record for record in caplog.records if "is disabled" in record.getMessage()]
    assert (said.levelname, vars(said)["listener"], vars(said)["error"]) == (
        "ERROR",
        "Listener",
        "DisableListener: 410 Gone",
    )
    assert "DisableListener: 410 Gone; fix: run `pulp-hooks listeners enable Listener`" in said.getMessage()
    fire(hooks, "d")
    hooks.worker().run_once()
    assert len(gone.events) == 1
    assert hooks.journal is not None
    journal = hooks.journal
    (known,) = [state for state in _known(journal) if state.name == "Listener"]
    assert known.disabled_at is not None
    assert "410 Gone" in str(known.reason)
    assert journal.enable("Listener", per_second=1000) == 4
    host.pass_time(60)
    hooks.worker().run_once()
    assert sorted(set(gone.repo_ids)) == ["a", "b", "c", "d"]
    assert host.states() == ["delivered"] * 8


def _known(journal: Journal) -> list[Any]:
    known: Any = journal.listeners()
    return list(known.values()) if isinstance(known, dict) else known


def test_listener_that_fails_for_too_long_is_disabled(host: Host) -> None:
    """The time counts from the first failure since the last success."""
    listener, other = Listener(raising(RuntimeError("down"))), Other()
    hooks = host.hooks(listener, other, retry_seconds=[600] * 50, disable_after_hours=2.5)
    fire(hooks, "a")
    # An hour passes before each attempt but the first.
    settle(host, hooks.worker())
    assert sorted(host.states()) == ["delivered", "held"]
    assert len(listener.events) == 4
    hooks.worker().run_once()
    assert len(listener.events) == 4


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("bare")])
def test_whatever_a_listener_raises_is_a_failure(error: BaseException, host: Host) -> None:
    """Neither the worker nor another listener is affected."""
    listener, other = Listener(raising(error)), Other()
    hooks = host.hooks(listener, other, retry_seconds=())
    fire(hooks, "a")
    hooks.worker().run_once()
    assert sorted(host.states()) == ["dead", "delivered"]
    assert type(error).__name__ in str(next(d.error for d in host.deliveries() if d.state == "dead"))


def test_call_over_the_time_limit_is_abandoned_and_its_thread_replaced(
    host: Host, until: Until, blocked: threading.Event
) -> None:
    """At the time limit the attempt fails; the next delivery of the listener is made in another thread."""
    listener = Listener(lambda event: blocked.wait(60) if event.body["repo_id"] == "slow" else None)
    hooks = host.hooks(listener, timeout_seconds=0.3, retry_seconds=())
    fire(hooks, "slow", "quick")
    with hooks.worker(threads_per_listener=1) as worker:
        until(lambda: host.states() == ["dead", "delivered"])
        blocked.set()
        until(lambda: not worker.hung)
    assert host.states() == ["dead", "delivered"]
    assert host.attempts()[0] == (1, "timed-out", "abandoned after the time limit of 0.3 s")


def test_blocked_listener_delays_no_other(host: Host, until: Until, blocked: threading.Event) -> None:
    """However many deliveries wait for a hung listener, the others get theirs at once."""
    hung, other = Listener(lambda _: blocked.wait(60)), Other()
    hooks = host.hooks(hung, other, timeout_seconds=30)
    fire(hooks, *map(str, range(50)))
    with hooks.worker(threads_per_listener=2) as worker:
        until(lambda: len(other.events) == 50)
        assert len(hung.events) == 2
        worker.stop(grace_seconds=0)
    assert host.states().count("delivered") == 50
    assert host.states().count("pending") == 50


def test_hung_threads_are_bounded(host: Host, until: Until, blocked: threading.Event) -> None:
    """A listener with sixteen hung threads gets no new ones, and continues when they return."""
    listener = Listener(lambda _: blocked.wait(60))
    hooks = host.hooks(listener, timeout_seconds=0.02, retry_seconds=())
    before = threading.active_count()
    fire(hooks, *map(str, range(60)))
    with hooks.worker(threads_per_listener=4) as worker:
        until(lambda: worker._pools["Listener"].hung == 16)
        assert len(listener.events) == 16
        assert threading.active_count() <= before + 16 + 6
        blocked.set()
        until(lambda: "pending" not in host.states())
    assert len(listener.events) == 60


def test_stopped_worker_finishes_attempts_in_progress(host: Host, until: Until, blocked: threading.Event) -> None:
    """Within the grace time an attempt in progress ends and is recorded; none is begun."""
    listener = Listener(lambda _: blocked.wait(60))
    hooks = host.hooks(listener)
    fire(hooks, "a", "b", "c")
    worker = hooks.worker(threads_per_listener=1)
    worker.start()
    until(lambda: listener.events)
    worker.request_stop()
    blocked.set()
    worker.stop()
    assert sorted(host.states()) == ["delivered", "pending", "pending"]
    assert [delivery.lease for delivery in host.deliveries()] == [None] * 3
    assert sorted(delivery.step for delivery in host.deliveries()) == [0, 0, 1]


def test_stopped_worker_releases_attempts_that_do_not_end(host: Host, until: Until, blocked: threading.Event) -> None:
    """After the grace time the delivery is due at once for other workers, and the attempt is recorded."""
    listener = Listener(raising(None))
    listener._does = lambda _: blocked.wait(60)
    hooks = host.hooks(listener)
    fire(hooks, "a")
    worker = hooks.worker()
    worker.start()
    until(lambda: listener.events)
    worker.stop(grace_seconds=0.2)
    assert worker.hung == ("Listener",)
    (delivery,) = host.deliveries()
    assert (delivery.state, delivery.lease, delivery.step, delivery.attempts) == ("pending", None, 0, 1)
    assert (host.attempts(), delivery.error) == ([(1, "interrupted", None)], None)
    blocked.set()
    hooks.worker().run_once()
    assert host.states() == ["delivered"]


def test_listener_may_close_the_hooks_that_call_it(host: Host, until: Until) -> None:
    """The call does not wait for itself."""
    closed = threading.Event()

    def close(_event: object) -> None:
        hooks.close()
        closed.set()

    hooks = host.hooks(Listener(close))
    fire(hooks, "a")
    hooks.worker().start()
    assert closed.wait(10)
    until(lambda: host.states() == ["delivered"])


def test_order_per_repository_is_strict_if_configured(host: Host) -> None:
    """A failure blocks the later events of its repository, not those of others."""

    def does(event: Any) -> None:  # noqa: ANN401 - as pluggy has it
        if event.id == "a-1" and listener.ids.count("a-1") < 3:
            raise RuntimeError("not yet")

    listener = Listener(does)
    hooks = host.hooks(listener, ordered=True, retry_seconds=(60, 60))
    for event_id in ("a-1", "b-1", "a-2", "b-2"):
        hooks.fire(STARTED, {"repo_id": event_id[0]}, event_id=event_id)
    settle(host, hooks.worker())
    order = listener.ids
    assert [event_id for event_id in order if event_id[0] == "a"] == ["a-1", "a-1", "a-1", "a-2"]
    assert [event_id for event_id in order if event_id[0] == "b"] == ["b-1", "b-2"]
    assert order.index("b-2") < order.index("a-2")
    assert host.states() == ["delivered"] * 4


def test_concurrency_holds_over_all_workers(host: Host, until: Until) -> None:
    """Two workers with many threads make no more simultaneous attempts than the setting allows."""
    running, most, lock = [0], [0], threading.Lock()

    def does(_event: object) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1

    hooks = host.hooks(Listener(does), global_concurrency=2)
    fire(hooks, *map(str, range(20)))
    with hooks.worker(threads_per_listener=8), hooks.worker(threads_per_listener=8):
        until(lambda: host.states() == ["delivered"] * 20)
    assert most[0] == 2


def test_rate_limit_holds_over_all_workers(host: Host, until: Until) -> None:
    """Two workers make no more attempts in a second than the setting allows, after a burst of one second's worth."""
    moments: list[float] = []
    hooks = host.hooks(Listener(lambda _: moments.append(time.monotonic())), global_rate_per_second=10)
    fire(hooks, *map(str, range(25)))
    began = time.monotonic()
    with hooks.worker(), hooks.worker():
        until(lambda: host.states() == ["delivered"] * 25)
    # Ten at once, and then at most one in each tenth of a second, however late the calls are.
    assert all(moment - began >= (place - 9) / 10 - 0.02 for place, moment in enumerate(sorted(moments)))


def test_listener_that_is_not_loaded_keeps_its_deliveries(host: Host) -> None:
    """Deliveries of an uninstalled or broken listener are neither lost nor dead."""
    first = host.hooks(Listener(), Other())
    fire(first, "a")
    other = Other()
    host.hooks(other).worker().run_once()
    assert sorted(host.states()) == ["delivered", "pending"]
    host.hooks(Listener()).worker().run_once()
    assert host.states() == ["delivered"] * 2


def test_each_attempt_is_a_log_line_with_fields(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """The record has event, delivery, listener, attempt and seconds as attributes."""
    hooks = host.hooks(Listener(raising(RuntimeError("no"), None)), retry_seconds=(0.0,))
    (event_id,) = fire(hooks, "zoo")
    with caplog.at_level(logging.INFO, "pulp_hooks.worker"):
        hooks.worker().run_once()
        hooks.worker().run_once()
    failed, delivered = [record for record in caplog.records if hasattr(record, "delivery")]
    assert (failed.levelname, delivered.levelname) == ("WARNING", "INFO")
    fields: Any = vars(delivered)
    assert (fields["event_id"], fields["delivery"], fields["listener"], fields["attempt"], fields["state"]) == (
        event_id,
        f"{event_id}/Listener",
        "Listener",
        2,
        "delivered",
    )
    assert fields["seconds"] >= 0
    assert f"event {event_id} for listener Listener, attempt 2" in delivered.getMessage()
    assert "RuntimeError: no" in failed.getMessage()


@pytest.mark.parametrize("threads", [0, -1])
def test_worker_without_threads_is_refused(threads: int, host: Host) -> None:
    """A worker without threads would deliver nothing."""
    with pytest.raises(ValueError, match="threads_per_listener must be at least 1"):
        host.hooks(Listener()).worker(threads_per_listener=threads)


class Lazy(RetryLater):
    """A `RetryLater` whose author forgot to call the base constructor."""

    def __init__(self) -> None:
        pass


def _changed(after: object) -> RetryLater:
    wish = RetryLater(after=1)
    vars(wish)["after"] = after
    return wish


@pytest.mark.parametrize("wish", [Lazy(), _changed(None), _changed("60"), _changed(float("nan")), _changed(-1)])
def test_invalid_pause_is_retried_on_the_schedule(wish: RetryLater, host: Host) -> None:
    """The schedule applies, and neither the worker nor other deliveries are affected."""
    listener = Listener(raising(wish, None))
    hooks = host.hooks(listener, retry_seconds=[60])
    fire(hooks, "a", "b")
    settle(host, hooks.worker(threads_per_listener=1))
    assert host.states() == ["delivered"] * 2
    assert len(listener.events) == 3


def test_worker_continues_after_an_unexpected_error(
    host: Host, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, and the attempts are recorded later."""
    listener = Listener()
    hooks = host.hooks(listener)
    worker = hooks.worker()
    record, failures = worker._recorder.record, [RuntimeError("a mistake")]

    def failing(*arguments: Any) -> set[str]:  # noqa: ANN401 - as the real one
        if failures:
            raise failures.pop()
        return record(*arguments)

    monkeypatch.setattr(worker._recorder, "record", failing)
    fire(hooks, "a")
    with worker:
        until(lambda: host.states() == ["delivered"])
    assert "a mistake" in caplog.text
    assert len(listener.events) == 1


def test_stop_during_an_outage_of_the_journal_ends_soon_and_quietly(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    """If nothing was begun, the stop does not wait, and the log is not flooded."""
    failed = []

    def away(*_: object, **__: object) -> None:
        failed.append(1)
        raise JournalError("the server is gone")

    with Hooks({"Listener": Listener()}, journal=sqlite_url) as hooks:
        worker = hooks.worker()
        monkeypatch.setattr(worker._queue, "dues", away)
        worker.start()
        until(lambda: "the server is gone" in caplog.text)
        worker.request_stop(grace_seconds=3600)
        until(lambda: not cast("threading.Thread", worker._thread).is_alive())
        # Each failure is a line, and so is the last one at the end.
        assert caplog.text.count("the server is gone") <= len(failed) + 1


def test_attempt_is_in_hand_until_the_worker_has_it(until: Until) -> None:
    """If nothing is in hand, the worker has every attempt, so that none goes unrecorded."""
    seen: list[int] = []
    claim = Claim(1, "e", "a", "token", b"", 1, 1, 0.0)
    pool = ListenerPool(
        name="a",
        threads=1,
        timeout_seconds=10,
        call=lambda claim, began: Attempt(claim, Ending.SUCCEEDED, began, 0.0),
        elapsed=lambda: 0.0,
        ended=lambda pool, _: seen.append(pool.in_hand),
    )
    pool.feed([claim], 10)
    until(lambda: seen)
    pool.close()
    assert seen == [1]


def test_thread_continues_after_an_exception_of_the_guard(until: Until) -> None:
    """Whatever the call raises, the attempt fails, and the thread takes the next claim."""
    ended: list[Attempt] = []

    def call(claim: Claim, began: float) -> Attempt:
        if claim.event_id == "1":
            raise SystemExit("out of the guard")
        return Attempt(claim, Ending.SUCCEEDED, began, 0.0)

    pool = ListenerPool("a", 1, 10, call, lambda: 0.0, lambda _, one: ended.append(one))
    pool.feed([Claim(number, str(number), "a", "token", b"", 1, 1, 0.0) for number in (1, 2)], 10)
    until(lambda: len(ended) == 2)
    pool.close()
    assert [(one.ending, one.error) for one in ended] == [(Ending.FAILED, "SystemExit"), (Ending.SUCCEEDED, None)]


def test_refused_event_is_not_a_failure_of_the_listener(host: Host) -> None:
    """A permanent failure or an unwanted event does not count as a failure that disables the listener."""
    listener = Listener(raising(PermanentFailure("400"), RuntimeError("down")))
    hooks = host.hooks(listener, retry_seconds=[])
    assert hooks.journal is not None
    journal = hooks.journal
    seen = []
    for repo_id in ("refused", "failed"):
        fire(hooks, repo_id)
        hooks.worker().run_once()
        seen.append([state.failing_since is not None for state in _known(journal)])
    assert seen == [[False], [True]]


def test_hung_calls_of_single_deliveries_are_bounded(host: Host, blocked: threading.Event) -> None:
    """With single deliveries a hung listener gets at most sixteen threads."""
    listener = Listener(lambda _: blocked.wait(60))
    hooks = host.hooks(listener, timeout_seconds=0.01, retry_seconds=[])
    fire(hooks, *map(str, range(20)))
    worker = hooks.worker()
    attempts = [worker.deliver_one(delivery.event_id, "Listener") for delivery in host.deliveries()]
    assert [one and one.ending for one in attempts] == [Ending.TIMED_OUT] * 16 + [None] * 4


def test_secret_of_a_listener_is_not_stored_whatever_it_raises(sqlite_url: str) -> None:
    """Not even a `KeyboardInterrupt`, which the guard does not catch, writes it to the journal."""

    def interrupted() -> None:
        raise KeyboardInterrupt("the token is hunter2-hunter2")

    with Hooks({"Listener": Listener()}, journal=sqlite_url) as hooks:
        content = hooks.repo_sync_started(repo_id="zoo").event.to_json().encode()
    guard = Guard(
        listener="a",
        event_type=EventType.REPO_SYNC_STARTED,
        function=interrupted,
        arguments=(),
        slow_seconds=5,
        secrets=["hunter2-hunter2"],
    )
    ended = attempt(Claim(1, "e", "a", "token", content, 1, 1, 0.0), lambda _: [guard], 0.0, 10)
    assert (ended.ending, ended.error) == (Ending.FAILED, "KeyboardInterrupt: the token is ***")


def test_pruning_survives_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    """A failure of the server is logged, and pruning is retried later."""
    Maintenance(Journal("postgresql://me@127.0.0.1:9/journal"), JournalSettings("-")).prune()
    assert "the server cannot be reached or is gone" in caplog.text


def test_worker_that_was_stopped_is_not_started_again(host: Host) -> None:
    """It would silently deliver nothing."""
    hooks = host.hooks(Listener())
    worker = hooks.worker()
    worker.stop()
    with pytest.raises(ClosedError, match="create another"):
        worker.start()
    hooks.close()
    with pytest.raises(ClosedError):
        hooks.worker()


def test_stop_ends_the_pause_after_a_failure_of_the_journal(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker then records what it can, and does not sit the pause out."""
    worker = host.hooks(Listener()).worker()
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        assert len(sleeps) == 1, "it goes on sleeping"
        worker.request_stop(grace_seconds=3600.0)

    monkeypatch.setattr("pulp_hooks.worker.worker.time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    worker._wait(5.0, failing=True)
    assert len(sleeps) == 1


def test_two_suspect_deliveries_are_not_made_at_the_same_time(
    host: Host, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash by one would count against the other; a single run makes both, one after the other."""
    monkeypatch.setattr("pulp_hooks.worker.worker._POLL_SECONDS", 0.01)
    running: list[str] = []
    beside: list[list[str]] = []
    looks: list[int] = []

    def does(event: Any) -> None:  # noqa: ANN401 - as pluggy has it
        running.append(event.id)
        before = len(looks)
        until(lambda: len(looks) > before + 3)
        beside.append([other for other in running if other != event.id])
        running.clear()

    first, second = Listener(does), Other(does)
    hooks = host.hooks(first, second)
    fire(hooks, "a")
    assert hooks.journal is not None
    claims = Queue(hooks.journal.backend)
    assert len([*claims.claim("Listener", 9, 0), *claims.claim("Other", 9, 0)]) == 2
    worker = hooks.worker()
    look = worker._queue.dues

    def dues_noted(*given: Any, **named: Any) -> dict[str, Due]:  # noqa: ANN401 - as the real one
        looks.append(1)
        return look(*given, **named)

    monkeypatch.setattr(worker._queue, "dues", dues_noted)
    worker.run_once()
    assert (host.states(), beside) == (["delivered"] * 2, [[], []])
    assert len(first.events) == len(second.events) == 1
