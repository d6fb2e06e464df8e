"""The worker: one thread uses the journal, and a pool of threads calls each listener."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from pulp_hooks.dispatch.registry import Registry
from pulp_hooks.errors import ClosedError, JournalError
from pulp_hooks.forks import OwnProcess
from pulp_hooks.journal.claims import Claim, Due
from pulp_hooks.journal.clock import Clock
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.queue import PUT_OFF_SECONDS
from pulp_hooks.journal.reasons import may_pass
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import JournalSettings, Settings
from pulp_hooks.signals import raised_by_signal_handler
from pulp_hooks.worker.attempts import MOST_LOST, SLACK_SECONDS, Attempt, Ending, attempt, limits_of
from pulp_hooks.worker.listener_pool import MOST_HUNG, ListenerPool, Running
from pulp_hooks.worker.maintenance import Maintenance
from pulp_hooks.worker.recorder import Recorder

_log = safe_logger("pulp_hooks.worker")

GRACE_SECONDS = 30.0
"""How long a stopping worker waits for attempts in progress."""

_POLL_SECONDS = 1.0
"""How often a worker polls for deliveries that other processes have stored."""

_LINGER_SECONDS = 0.05
"""How long results wait to be recorded together, while the threads have work and nothing new is stored."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
"""Pause after a failure of the journal; it doubles."""


class Worker:
    """Makes the deliveries of a journal. Any number of workers, in any number of processes, share the work.

    Each listener has its own threads, so none waits for another.

    Args:
        journal: The journal; the worker uses its clock.
        registry: The listeners.
        settings: Schedule, limits and retention of deliveries.
        threads_per_listener: Most simultaneous attempts of each listener in this worker.

    Attributes:
        journal: The journal.
        tally: Number of attempts by ending.
    """

    def __init__(self, journal: Journal, registry: Registry, settings: Settings, *, threads_per_listener: int) -> None:
        if threads_per_listener < 1:
            raise ValueError(f"threads_per_listener must be at least 1, got {threads_per_listener}")
        self._own = OwnProcess("these Hooks and their worker")
        self.journal = journal
        self._queue = journal.queue
        self._recorder = Recorder(journal, settings)
        self.tally = self._recorder.tally
        self._settings = settings
        self.maintenance = Maintenance(journal, settings.journal or JournalSettings("-"))
        self._clock = Clock(journal.now, journal.backend.clock.elapsed)
        self._pools = {name: self._new_pool(name, registry, threads_per_listener) for name in registry.names}
        self.limits = {name: limits_of(settings.delivery_of(name)) for name in registry.names}
        self._wake, self._hungry = threading.Event(), threading.Event()
        self._ended_lock = threading.Lock()
        self._ended: list[Attempt] = []
        self._hung: list[threading.Thread] = []
        self._give_back: list[Claim] = []
        # The listener with a delivery that may crash the worker. It gets no other delivery until that one is recorded,
        # and no other listener gets such a delivery: a crash by the first would count against the second.
        self._apart: set[str] = set()
        self._put_off_until = 0.0
        self._is_idle = False
        self._stop_by: float | None = None
        self._thread: threading.Thread | None = None

    def _new_pool(self, name: str, registry: Registry, threads: int) -> ListenerPool:
        settings = self._settings.delivery_of(name)
        most_attempts = len(settings.retry_seconds) + 1 + MOST_LOST
        return ListenerPool(
            name=name,
            threads=min(threads, settings.global_concurrency or threads),
            timeout_seconds=settings.timeout_seconds,
            call=lambda claim, began: attempt(claim, registry.guards, began, most_attempts),
            elapsed=self._clock.elapsed,
            ended=self._take,
        )

    def start(self) -> None:
        """Start delivering, in threads of this process.

        Raises:
            JournalError: The journal cannot be opened.
            ClosedError: The worker was stopped, or the parent process created it.
        """
        self._own.check()
        if self._stop_by is not None:
            raise ClosedError("this worker was stopped; fix: create another with hooks.worker()")
        self.journal.open()
        self._thread = threading.Thread(target=self.run, name="pulp_hooks worker", daemon=True)
        self._thread.start()

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> bool:
        """Stop claiming, and wait for attempts in progress; release those that outlast the grace time.

        A second call, a call before `start`, or a call in a forked child does nothing.

        Args:
            grace_seconds: How long attempts in progress may continue; seconds.

        Returns:
            Whether the worker waited; not so if a listener that it is calling made the call.
        """
        if self._own.is_parent:
            return True
        self.request_stop(grace_seconds)
        me = threading.current_thread()
        if any(pool.is_calling_in(me) for pool in self._pools.values()):
            return False
        if self._thread is not None and me is not self._thread:
            self._thread.join(grace_seconds + 1.0)
        return True

    def request_stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop like `stop`, but without waiting; safe in a signal handler."""
        if self._own.is_parent:
            return
        if self._stop_by is None:
            self._stop_by = self._clock.elapsed() + grace_seconds
        for pool in self._pools.values():
            pool.stop()
        self._look()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def hung(self) -> tuple[str, ...]:
        """Names of the listeners with abandoned calls that have not ended."""
        return tuple(name for name, pool in self._pools.items() if pool.hung)

    @property
    def frozen_seconds(self) -> float:
        """Time without a running thread after which the process counts as frozen; seconds.

        It is longer than any time limit of a call, and shorter than the longest lease.
        """
        return max((pool.timeout_seconds for pool in self._pools.values()), default=0.0) + SLACK_SECONDS / 3

    def run(self) -> None:
        """Deliver until `stop` is called. Failures of the journal, also of opening it, are logged and retried.

        Raises:
            JournalError: The database is not a journal that this release can use; retrying would not help.
            ClosedError: The parent process created this.
        """
        self._own.check()
        self._thread = threading.current_thread()
        if self._is_opened():
            with self._awake():
                self._deliver(until_idle=False)

    def _is_opened(self) -> bool:
        """Open the journal, waiting for its server if necessary; return false if the worker was stopped."""
        pause = 0.0
        while self._stop_by is None:
            try:
                self.journal.open()
            except JournalError as error:
                if not may_pass(error):
                    raise
                pause = _longer(pause)
                self._log_failure(error, pause)
                self._wait(pause, failing=True)
            else:
                if pause:
                    _log.info("the journal %s is back", self.journal.name)
                return True
        return False

    def run_once(self) -> None:
        """Deliver until nothing is due, within the rate limits of the listeners, and prune the journal.

        Raises:
            JournalError: The journal failed. Attempts in progress were recorded if the journal recovered within
                seconds; otherwise the message has the number of calls that will be repeated.
            ClosedError: The parent process created this.
        """
        self._own.check()
        self._thread = threading.current_thread()
        self._deliver(until_idle=True)
        self.maintenance.prune()

    def deliver_one(self, event_id: str, listener: str) -> Attempt | None:
        """Make one delivery, if it can be claimed.

        Args:
            event_id: Identifier of the event.
            listener: Name of the listener.

        Returns:
            The attempt; null if the delivery could not be claimed, or if its lease ended before the call.

        Raises:
            JournalError: The journal failed; the delivery comes due again.
            ClosedError: The parent process created this.
        """
        self._own.check()
        self._hung = [call for call in self._hung if call.is_alive()]
        name = f"pulp_hooks {listener}"
        if listener not in self._pools or sum(call.name == name for call in self._hung) >= MOST_HUNG:
            return None
        limit, began = self._pools[listener].timeout_seconds, self._clock.elapsed()
        begin_before = began + SLACK_SECONDS
        claims = self._queue.claim(listener, 1, limit + SLACK_SECONDS, self.limits[listener], event_id=event_id)
        if not claims:
            return None
        ended: list[Attempt] = []

        def call_in_time() -> None:
            if self._clock.elapsed() < begin_before:
                ended.append(self._pools[listener].call(claims[0], self._clock.elapsed()))

        call = threading.Thread(target=call_in_time, name=name, daemon=True)
        call.start()
        call.join(limit)
        if call.is_alive():
            self._hung.append(call)
        elif not ended:
            self._queue.release(claims)
            return None
        one = ended[0] if ended else _abandoned(Running(claims[0], began), limit, Ending.TIMED_OUT)
        self._record_one(one, begin_before + limit)
        return one

    def _record_one(self, one: Attempt, lease_ends: float) -> None:
        """Record an attempt; if the journal fails, retry until the lease ends."""
        pause = 0.0
        while True:
            try:
                self._recorder.record([one], self._clock)
            except JournalError as error:
                pause = _longer(pause)
                if self._clock.elapsed() + pause >= lease_ends:
                    raise
                self._log_failure(error, pause)
                time.sleep(pause)
            else:
                return

    @contextlib.contextmanager
    def _awake(self) -> Iterator[None]:
        """Return a context manager in which new deliveries wake the worker, and the journal is pruned."""
        with self.journal.subscribed(self._look):
            self.maintenance.start()
            try:
                yield
            finally:
                self.maintenance.stop()

    def _look(self) -> None:
        """Start the next turn at once."""
        self._wake.set()
        self._hungry.set()

    def _deliver(self, *, until_idle: bool) -> None:
        """Take turns until the worker is stopped and its attempts are recorded, or until nothing is due."""
        pause = 0.0
        failure: Exception | None = None
        try:
            while True:
                self._wake.clear()
                self._hungry.clear()
                try:
                    wait = self._turn()
                    if pause:
                        _log.info("the journal %s is back", self.journal.name)
                    pause, failure = 0.0, None
                    if self._is_idle and (until_idle or self._stop_by is not None):
                        break
                except Exception as error:
                    if raised_by_signal_handler(error):
                        raise
                    # Also retry after a bug in this package, so that listeners do not wait for ever.
                    failure = error
                    # Do not begin attempts that may not be recorded.
                    self._take_back()
                    wait = pause = _longer(pause)
                    if not self._goes_on(pause, until_idle=until_idle):
                        break
                    self._log_failure(error, pause)
                self._wait(wait, failing=bool(pause))
        finally:
            for pool in self._pools.values():
                pool.close()
        self._end(failure, until_idle=until_idle)

    def _goes_on(self, pause: float, *, until_idle: bool) -> bool:
        """Return whether to retry after a failure: until a stop, and then until all attempts are recorded."""
        if self._is_over():
            return False
        if any(pool.running for pool in self._pools.values()):
            return True
        if until_idle:
            return bool(self._ended) and pause < _LONGEST_PAUSE
        return self._stop_by is None or bool(self._ended)

    def _end(self, failure: Exception | None, *, until_idle: bool) -> None:
        """Log the number of unrecorded attempts and the last failure; a single run raises that failure."""
        with self._ended_lock:
            lost = len(self._ended)
        text = f"{lost} {'call' if lost == 1 else 'calls'} of listeners could not be recorded and will be repeated"
        if lost and until_idle and isinstance(failure, JournalError):
            raise JournalError(f"{failure}; {text}") from failure
        if lost:
            _log.error("%s", text)
        if failure is not None and until_idle:
            raise failure
        if failure is not None:
            _log.warning("%s", failure)

    @staticmethod
    def _log_failure(error: Exception, pause: float) -> None:
        if isinstance(error, JournalError):
            _log.warning("%s; retrying in %.1f s", error, pause)
        else:
            # A bug in this package, or no more threads.
            _log.exception("the worker failed; retrying in %.1f s", pause)

    def _wait(self, seconds: float, *, failing: bool) -> None:
        if failing:
            # Nothing but a stop, or the end of its grace time, shortens the pause.
            deadline, was_stopped = time.monotonic() + seconds, self._stop_by is not None
            while (left := deadline - time.monotonic()) > 0 and not self._is_over():
                if self._stop_by is not None and not was_stopped:
                    return
                time.sleep(min(left, 0.1))
            return
        if self._wake.wait(seconds) and not any(pool.wanted for pool in self._pools.values() if pool.in_hand):
            self._hungry.wait(_LINGER_SECONDS)

    def _turn(self) -> float:
        """Record, release and claim once; return the longest pause before the next turn, in seconds."""
        self._record()
        later: list[Due] = []
        if self._stop_by is None:
            for pool in self._pools.values():
                self._give_back += pool.overdue()
            self._release()
            later = self._claim()
        else:
            self._wind_up()
        now = self._clock.time()
        still_due = max(now, self._put_off_until)
        # In this order: an attempt is added to `_ended` before it stops being in hand.
        busy = any(pool.in_hand for pool in self._pools.values()) or bool(self._ended)
        self._is_idle = not busy and not any(due.due <= still_due for due in later)
        elapsed = self._clock.elapsed()
        times = [self._stop_by, *(pool.next_limit() for pool in self._pools.values())]
        waits = [at - elapsed for at in times if at is not None]
        waits += [due.claimable - now for due in later]
        return max(0.001, min([_POLL_SECONDS, *waits]))

    def _claim(self) -> list[Due]:
        """Claim for every listener that wants more; return when the deliveries of the others can be claimed."""
        hungry = {
            name: self.limits[name] for name, pool in self._pools.items() if pool.wanted and name not in self._apart
        }
        now, later = self._clock.time(), []
        for name, due in self._queue.dues(hungry, now=now).items():
            if due.claimable > now:
                later.append(due)
                continue
            pool = self._pools[name]
            # Random, so that the deliveries of two listeners do not come due together after a crash.
            slack = SLACK_SECONDS * random.uniform(0.9, 1)  # noqa: S311 - not for security
            # Before the claim, which may have to wait for other workers.
            begin_before = self._clock.elapsed() + slack
            lease = pool.timeout_seconds + slack
            if self._apart:
                # Twice: the journal's clock may differ a little, and a single run must not miss postponed deliveries.
                self._put_off_until = self._clock.time() + 2 * PUT_OFF_SECONDS
            claims = self._queue.claim(
                name, pool.wanted, lease, self.limits[name], ordered=due.is_ordered, suspects=not self._apart
            )
            if any(claim.is_suspect for claim in claims):
                self._apart.add(name)
            pool.feed(claims, begin_before)
        return later

    def _record(self) -> None:
        """Record the attempts that have ended, and abandon those that have reached their time limit."""
        for pool in self._pools.values():
            for running in pool.abandon(after_seconds=pool.timeout_seconds):
                self._take_abandoned(running, pool.timeout_seconds, Ending.TIMED_OUT)
        with self._ended_lock:
            ended, self._ended = self._ended, []
        try:
            self._record_batch(ended)
        except JournalError:
            raise
        except Exception as error:
            if raised_by_signal_handler(error):
                raise
            # A bug in this package: one attempt must not keep the others from being recorded.
            _log.exception("%d attempts could not be recorded", len(ended))
            self._record_each(ended)

    def _record_each(self, ended: list[Attempt]) -> None:
        """Record attempts one by one; a delivery whose attempt fails again is claimed again after its lease."""
        while ended:
            one = ended.pop(0)
            try:
                self._record_batch([one])
            except JournalError:
                with self._ended_lock:
                    self._ended = [*ended, *self._ended]
                raise
            except Exception as error:
                if raised_by_signal_handler(error):
                    raise
                _log.exception("event %s for listener %s could not be recorded", one.claim.event_id, one.claim.listener)
                self._apart.discard(one.claim.listener)

    def _record_batch(self, batch: list[Attempt]) -> None:
        """Record attempts together; keep them if the journal fails.

        Raises:
            JournalError: The journal failed.
        """
        if not batch:
            return
        try:
            disabled = self._recorder.record(batch, self._clock)
        except JournalError:
            with self._ended_lock:
                self._ended = [*batch, *self._ended]
            raise
        self._apart -= {one.claim.listener for one in batch if one.claim.is_suspect}
        for name in disabled:
            self._give_back += self._pools[name].take_back()

    def _release(self) -> None:
        if self._give_back:
            self._queue.release(self._give_back)
            self._apart -= {claim.listener for claim in self._give_back if claim.is_suspect}
            self._give_back = []

    def _take_back(self) -> None:
        for pool in self._pools.values():
            self._give_back += pool.take_back()

    def _wind_up(self) -> None:
        self._take_back()
        self._release()
        if self._is_over():
            for pool in self._pools.values():
                for running in pool.abandon(after_seconds=0.0):
                    self._take_abandoned(running, self._clock.elapsed() - running.began, Ending.INTERRUPTED)
            self._record()

    def _is_over(self) -> bool:
        return self._stop_by is not None and self._clock.elapsed() >= self._stop_by

    def _take_abandoned(self, running: Running, seconds: float, ending: Ending) -> None:
        with self._ended_lock:
            self._ended.append(_abandoned(running, seconds, ending))

    def _take(self, pool: ListenerPool, ended: Attempt) -> None:
        """Take an attempt from a thread, and wake the worker to record it."""
        with self._ended_lock:
            self._ended.append(ended)
        if pool.wanted:
            self._hungry.set()
        self._wake.set()


def _abandoned(running: Running, seconds: float, ending: Ending) -> Attempt:
    # A stopped worker is not an error of the listener.
    text = f"abandoned after the time limit of {seconds:g} s" if ending is Ending.TIMED_OUT else None
    return Attempt(running.claim, ending, running.began, seconds, text)


def _longer(pause: float) -> float:
    return min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)
