"""The worker: one thread speaks to the journal, the lanes call the listeners."""

import contextlib
import itertools
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
from pulp_hooks.worker.lanes import MOST_HUNG, Lanes, Running
from pulp_hooks.worker.maintenance import Maintenance
from pulp_hooks.worker.recorder import Recorder

_log = safe_logger("pulp_hooks.worker")

GRACE_SECONDS = 30.0
"""How long a worker that is stopped waits for the attempts that are under way."""

_POLL_SECONDS = 1.0
"""How often a worker looks whether others have stored something."""

_BATCH_SECONDS = 0.2
"""How much work a worker claims at once, as far as it knows how long that takes."""

_LARGEST_BATCH = 100
_LINGER_SECONDS = 0.05
"""How long results wait for more of them while the lanes have enough to do, and nothing new is stored."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
"""How long a worker waits before it tries a journal again that has failed; it grows."""


class Worker:
    """Delivers what a journal keeps. Any number of workers, in any number of processes, share the work.

    Every listener has lanes of its own, so that none waits for another.

    Args:
        journal: The journal.
        registry: Knows the listeners.
        settings: How the deliveries are made, and how long they are kept.
        threads_per_listener: Most attempts of each listener that run at the same time.

    Attributes:
        journal: The journal.
        limits: What holds for the claims of each listener.
        maintenance: Prunes the journal while `run` goes on.
        tally: How many attempts have ended in which way.
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
        self._lanes = {name: self._new_lanes(name, registry, threads_per_listener) for name in registry.names}
        self.limits = {name: limits_of(settings.delivery_of(name)) for name in registry.names}
        self._wake, self._hungry = threading.Event(), threading.Event()
        self._ended_lock = threading.Lock()
        self._ended: list[Attempt] = []
        self._hung: list[threading.Thread] = []
        self._give_back: list[Claim] = []
        # The listener that has a delivery that may end the worker: it gets no other before that one is recorded, and
        # no other listener gets such a one, as what the first one ends would count against the second.
        self._apart: set[str] = set()
        self._put_off_until = 0.0
        self._stop_by: float | None = None
        self._thread: threading.Thread | None = None

    def _new_lanes(self, name: str, registry: Registry, threads: int) -> Lanes:
        settings = self._settings.delivery_of(name)
        most_tries = len(settings.retry_seconds) + 1 + MOST_LOST
        return Lanes(
            name=name,
            width=min(threads, settings.global_concurrency or threads),
            timeout_seconds=settings.timeout_seconds,
            call=lambda claim, began: attempt(claim, registry.guards, began, most_tries),
            elapsed=self._clock.elapsed,
            ended=self._take,
        )

    def start(self) -> None:
        """Begin to deliver, in threads of this process.

        Raises:
            JournalError: The journal cannot be opened.
            ClosedError: It was stopped before.
        """
        self._own.check()
        if self._stop_by is not None:
            raise ClosedError("this worker was stopped; make another one, as long as the hooks are not closed")
        self.journal.open()
        self._thread = threading.Thread(target=self.run, name="pulp_hooks worker", daemon=True)
        self._thread.start()

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> bool:
        """Claim no more, and wait until what is under way is finished, or given back when the time is over.

        To stop twice, before the start, or in a forked child does nothing.

        Args:
            grace_seconds: How long attempts that are under way may go on.

        Returns:
            False when a listener asks for it that the worker is calling, and which does not wait for itself.
        """
        if self._own.is_parent:
            return True
        self.request_stop(grace_seconds)
        me = threading.current_thread()
        if any(lanes.is_lane(me) for lanes in self._lanes.values()):
            return False
        if self._thread is not None and me is not self._thread:
            self._thread.join(grace_seconds + 1.0)
        return True

    def request_stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop as `stop` does, without waiting for it; a handler of signals may call this."""
        if self._own.is_parent:
            return
        if self._stop_by is None:
            self._stop_by = self._clock.elapsed() + grace_seconds
        self._look()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def hung(self) -> tuple[str, ...]:
        """Names of the listeners of which abandoned calls have not ended."""
        return tuple(name for name, lanes in self._lanes.items() if lanes.hung)

    @property
    def frozen_seconds(self) -> float:
        """After how many seconds in which no thread could run the process counts as frozen.

        No call may take as long as that, and the leases of the calls with the longest time limit are not over yet.
        """
        return max((lanes.timeout_seconds for lanes in self._lanes.values()), default=0.0) + SLACK_SECONDS / 3

    def run(self) -> None:
        """Deliver until `stop` is called. Failures of the journal are logged and retried, from the first opening on.

        Raises:
            JournalError: The database is not a journal of this version, or cannot be one: waiting would not help.
        """
        self._own.check()
        self._thread = threading.current_thread()
        if self._is_opened():
            with self._awake():
                self._loop(once=False)

    def _is_opened(self) -> bool:
        """Open the journal, and wait for a server that is not up yet; False when the worker was stopped meanwhile."""
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
        """Deliver what is due, at the rates of the listeners, and return when nothing more is.

        Raises:
            JournalError: The journal failed. What was under way was recorded if the journal came back within seconds;
                otherwise the message counts the calls that are made again.
        """
        self._own.check()
        self._thread = threading.current_thread()
        self._loop(once=True)
        self.maintenance.prune()

    def run_one(self, event_id: str, listener: str) -> Ending | None:
        """Make one delivery, if it is due and nobody else makes it.

        Args:
            event_id: The event's.
            listener: Name of the listener.

        Returns:
            How the attempt ended; nothing when there was nothing to claim, or its lease was over before the call.

        Raises:
            JournalError: The journal failed; the delivery comes due again.
        """
        one = self.attempt_one(event_id, listener)
        return one.ending if one else None

    def attempt_one(self, event_id: str, listener: str) -> Attempt | None:
        """Do what `run_one` does, and return the whole attempt."""
        self._own.check()
        self._hung = [call for call in self._hung if call.is_alive()]
        name = f"pulp_hooks {listener}"
        if listener not in self._lanes or sum(call.name == name for call in self._hung) >= MOST_HUNG:
            return None
        limit, began = self._lanes[listener].timeout_seconds, self._clock.elapsed()
        begin_before = began + SLACK_SECONDS
        claims = self._queue.claim(listener, 1, limit + SLACK_SECONDS, self.limits[listener], event_id=event_id)
        if not claims:
            return None
        ended: list[Attempt] = []

        def call_in_time() -> None:
            if self._clock.elapsed() < begin_before:
                ended.append(self._lanes[listener].call(claims[0], self._clock.elapsed()))

        call = threading.Thread(target=call_in_time, name=name, daemon=True)
        call.start()
        call.join(limit)
        if call.is_alive():
            self._hung.append(call)
        elif not ended:
            self._queue.release(claims)
            return None
        one = ended[0] if ended else _abandoned(claims[0], began, limit, Ending.TIMED_OUT)
        self._record_one(one, begin_before + limit)
        return one

    def _record_one(self, one: Attempt, lease_ends: float) -> None:
        """Record an attempt; while the journal fails try again until the lease ends, and call nobody meanwhile."""
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
        """Return a context manager in which new deliveries wake the worker."""
        with self.journal.subscribed(self._look):
            self.maintenance.start()
            try:
                yield
            finally:
                self.maintenance.stop()

    def _look(self) -> None:
        """Have the journal looked at right away."""
        self._wake.set()
        self._hungry.set()

    def _loop(self, *, once: bool) -> None:
        pause = 0.0
        failure: Exception | None = None
        try:
            while True:
                self._wake.clear()
                self._hungry.clear()
                try:
                    wait = self._turn(once=once)
                    if pause:
                        _log.info("the journal %s is back", self.journal.name)
                    pause, failure = 0.0, None
                except Exception as error:
                    if raised_by_signal_handler(error):
                        raise
                    # Also a mistake of ours: the listeners must not wait for ever.
                    failure = error
                    # What might not be recorded must not begin.
                    self._take_back()
                    pause = _longer(pause)
                    wait = pause if self._goes_on(pause, once=once) else None
                    if wait is not None:
                        self._log_failure(error, pause)
                if wait is None:
                    break
                self._wait(wait, failing=bool(pause))
        finally:
            for lanes in self._lanes.values():
                lanes.close()
        self._end(failure, once=once)

    def _goes_on(self, pause: float, *, once: bool) -> bool:
        """Return whether to try again after a failure: until a stop, and then until what was begun is recorded."""
        if self._is_over():
            return False
        if any(lanes.running for lanes in self._lanes.values()):
            return True
        if once:
            return bool(self._ended) and pause < _LONGEST_PAUSE
        return self._stop_by is None or bool(self._ended)

    def _end(self, failure: Exception | None, *, once: bool) -> None:
        """Say what could not be recorded, and what failed last; a single run raises it."""
        with self._ended_lock:
            lost = len(self._ended)
        text = f"{lost} {'call' if lost == 1 else 'calls'} of listeners could not be recorded, and will be made again"
        if lost and once and isinstance(failure, JournalError):
            raise JournalError(f"{failure}; {text}") from failure
        if lost:
            _log.error("%s", text)
        if failure is not None and once:
            raise failure
        if failure is not None:
            _log.warning("%s", failure)

    @staticmethod
    def _log_failure(error: Exception, pause: float) -> None:
        if isinstance(error, JournalError):
            _log.warning("%s; it is tried again in %.1f s", error, pause)
        else:
            # A mistake of ours, or no more threads: the listeners are not to wait for ever for that.
            _log.exception("the worker failed, and goes on in %.1f s", pause)

    def _wait(self, seconds: float, *, failing: bool) -> None:
        if failing:
            # Whatever happens meanwhile, the journal gets its pause, unless a stop or the end of its time comes first.
            deadline, was_stopped = time.monotonic() + seconds, self._stop_by is not None
            while (left := deadline - time.monotonic()) > 0 and not self._is_over():
                if self._stop_by is not None and not was_stopped:
                    return
                time.sleep(min(left, 0.1))
            return
        if self._wake.wait(seconds) and self._is_fed():
            self._hungry.wait(_LINGER_SECONDS)

    def _turn(self, *, once: bool) -> float | None:
        """Do what there is to do in the journal; give how long to wait then, nothing when it is all over."""
        self._record()
        if self._stop_by is not None:
            return self._wind_up()
        for lanes in self._lanes.values():
            self._give_back += lanes.overdue()
        self._release()
        later = self._claim()
        busy = any(lanes.in_hand for lanes in self._lanes.values()) or self._ended
        still_due = max(self._clock.time(), self._put_off_until)
        if once and not busy and not any(due.due <= still_due for due in later):
            return None
        moments = [lanes.next_limit() for lanes in self._lanes.values()]
        until_limit = min(
            (moment - self._clock.elapsed() for moment in moments if moment is not None), default=_POLL_SECONDS
        )
        until_due = min((due.claimable - self._clock.time() for due in later), default=_POLL_SECONDS)
        return max(0.001, min(_POLL_SECONDS, until_limit, until_due))

    def _claim(self) -> list[Due]:
        """Claim for every listener that has free lanes; give the others' next deliveries that cannot be claimed yet."""
        hungry = {
            name: self.limits[name]
            for name, lanes in self._lanes.items()
            if name not in self._apart and lanes.free_width and 2 * lanes.waiting <= _batch(lanes)
        }
        now, later = self._clock.time(), []
        for name, due in self._queue.dues(hungry, now=now).items():
            if due.claimable > now:
                later.append(due)
                continue
            lanes = self._lanes[name]
            # So that what two listeners had in hand when a worker died does not come due at the same moment.
            slack = SLACK_SECONDS * random.uniform(0.9, 1)  # noqa: S311 - nobody gains by guessing it
            wanted = _batch(lanes) - lanes.waiting
            # Before the claim, which may have to wait for others.
            begin_before = self._clock.elapsed() + slack
            lease = lanes.timeout_seconds + slack
            if self._apart:
                # Twice: the journal's clock may differ a little, and a single run must not miss what was put off.
                self._put_off_until = self._clock.time() + 2 * PUT_OFF_SECONDS
            claims = self._queue.claim(
                name, wanted, lease, self.limits[name], ordered=due.is_ordered, suspects=not self._apart
            )
            if any(claim.is_suspect for claim in claims):
                self._apart.add(name)
            lanes.feed(claims, begin_before)
        return later

    def _record(self) -> None:
        """Record the attempts that are over, and those that have reached their time limit."""
        for lanes in self._lanes.values():
            for running in lanes.abandon(after_seconds=lanes.timeout_seconds):
                self._take_abandoned(running, lanes.timeout_seconds, Ending.TIMED_OUT)
        with self._ended_lock:
            ended, self._ended = self._ended, []
        lots = [ended] if ended else []
        while lots:
            lot = lots.pop(0)
            try:
                disabled = self._recorder.record(lot, self._clock)
            except JournalError:
                with self._ended_lock:
                    self._ended = [*lot, *itertools.chain(*lots), *self._ended]
                raise
            except Exception as error:
                if raised_by_signal_handler(error):
                    raise
                # A mistake of ours must not keep the others from being recorded.
                _log.exception("%d attempts could not be recorded", len(lot))
                # One by one, so that it costs the others nothing; that one is made again when its lease ends.
                lots += [[one] for one in lot] if len(lot) > 1 or lot is ended else []
                self._apart -= {one.claim.listener for one in lot}
                continue
            self._apart -= {one.claim.listener for one in lot if one.claim.is_suspect}
            for name in disabled:
                self._give_back += self._lanes[name].take_back()

    def _release(self) -> None:
        if self._give_back:
            self._queue.release(self._give_back)
            self._apart -= {claim.listener for claim in self._give_back if claim.is_suspect}
            self._give_back = []

    def _take_back(self) -> None:
        for lanes in self._lanes.values():
            self._give_back += lanes.take_back()

    def _wind_up(self) -> float | None:
        self._take_back()
        self._release()
        if self._is_over():
            for lanes in self._lanes.values():
                for running in lanes.abandon(after_seconds=0.0):
                    self._take_abandoned(running, self._clock.elapsed() - running.began, Ending.INTERRUPTED)
            self._record()
        if not any(lanes.in_hand for lanes in self._lanes.values()) and not self._ended:
            return None
        return 0.05

    def _is_over(self) -> bool:
        return self._stop_by is not None and self._clock.elapsed() >= self._stop_by

    def _take_abandoned(self, running: Running, seconds: float, ending: Ending) -> None:
        with self._ended_lock:
            self._ended.append(_abandoned(running.claim, running.began, seconds, ending))

    def _take(self, lanes: Lanes, ended: Attempt) -> None:
        """Take an attempt from a lane, and see to it that it is recorded soon."""
        with self._ended_lock:
            self._ended.append(ended)
        if 2 * lanes.waiting <= _batch(lanes):
            self._hungry.set()
        self._wake.set()

    def _is_fed(self) -> bool:
        """Tell whether every listener that has something to do has enough of it."""
        return all(2 * lanes.waiting > _batch(lanes) for lanes in self._lanes.values() if lanes.in_hand)


def _abandoned(claim: Claim, began: float, seconds: float, ending: Ending) -> Attempt:
    # That the worker was stopped is nobody's failure.
    text = f"it took longer than {seconds:g} s, and was abandoned" if ending is Ending.TIMED_OUT else None
    return Attempt(claim, ending, began, seconds, text)


def _longer(pause: float) -> float:
    return min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)


def _batch(lanes: Lanes) -> int:
    """Give how many claims a listener should have in hand besides those that run."""
    if lanes.seconds is None:
        return lanes.width
    lasting = lanes.width * _BATCH_SECONDS / max(lanes.seconds, _BATCH_SECONDS / _LARGEST_BATCH)
    return min(max(lanes.width, int(lasting)), _LARGEST_BATCH)
