"""Listener pools: each listener has its own threads, so none waits for another."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pulp_hooks.journal.claims import Claim
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.text import type_name
from pulp_hooks.worker.attempts import Attempt, Ending

_log = safe_logger("pulp_hooks.worker")

PREFETCH = 50
"""Claims of a listener fetched ahead of its threads, so that these do not wait for the journal.

A larger prefetch is faster for a listener that takes microseconds, but leaves less of a small backlog to other workers.
Measured on SQLite: 88 us of CPU for each delivery with 32, 68 us with 100.
"""

MOST_HUNG = 16
"""Most abandoned calls of a listener that may still be running: a thread cannot be ended from outside."""

_IDLE_SECONDS = 10.0
"""Idle time after which a thread ends."""


@dataclass(eq=False, slots=True)
class Running:
    """A call in progress.

    Attributes:
        claim: The claimed delivery.
        began: Start; elapsed time of the worker's clock.
    """

    claim: Claim
    began: float


class _Waiting(NamedTuple):
    claim: Claim
    begin_before: float


@dataclass(eq=False)
class ListenerPool:
    """Makes the attempts of one listener in its own threads.

    Attributes:
        name: Name of the listener.
        threads: Most simultaneous attempts.
        timeout_seconds: Time limit of an attempt; seconds.
        call: Makes an attempt; takes the claim and the elapsed time at its start.
        elapsed: Returns the elapsed time of the worker's clock.
        ended: Called in the thread with each attempt that was not abandoned.
    """

    name: str
    threads: int
    timeout_seconds: float
    call: Callable[[Claim, float], Attempt]
    elapsed: Callable[[], float]
    ended: Callable[["ListenerPool", Attempt], None]

    def __post_init__(self) -> None:
        self._state = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._overdue: list[Claim] = []
        self._running: dict[threading.Thread, Running] = {}
        self._idle = 0
        self._hung = 0
        self._closing = False
        self._stopping = False
        # Whether the listener raised `DisableListener`, and that is not recorded yet.
        self._disables = False

    @property
    def in_hand(self) -> int:
        """Number of claims that wait or run here."""
        with self._state:
            return len(self._waiting) + len(self._overdue) + len(self._running)

    @property
    def running(self) -> int:
        """Number of calls in progress."""
        return len(self._running)

    @property
    def hung(self) -> int:
        """Number of abandoned calls that have not ended."""
        return self._hung

    @property
    def free_threads(self) -> int:
        """Most simultaneous attempts at present: fewer, down to none, if many abandoned calls are still running."""
        return max(0, min(self.threads, MOST_HUNG - self._hung))

    @property
    def wanted(self) -> int:
        """Number of claims to fetch; 0 while more than a quarter of the prefetch waits."""
        if self._disables or not self.free_threads or 4 * len(self._waiting) > PREFETCH:
            return 0
        return max(0, self.free_threads + PREFETCH - self.in_hand)

    def feed(self, claims: Iterable[Claim], begin_before: float = 0.0) -> None:
        """Queue claims for the threads.

        Args:
            claims: The claims.
            begin_before: Elapsed time after which their leases no longer cover an attempt. Claims that wait until then
                are not begun: `overdue` returns them.
        """
        with self._state:
            for claim in claims:
                self._waiting.append(_Waiting(claim, begin_before))
            missing = min(len(self._waiting) - self._idle, self.free_threads - len(self._running) - self._idle)
            for _ in range(missing):
                threading.Thread(target=self._work, name=f"pulp_hooks {self.name}", daemon=True).start()
                self._idle += 1
            self._state.notify(len(self._waiting))

    def overdue(self) -> list[Claim]:
        """Remove and return the claims whose leases no longer cover an attempt."""
        with self._state:
            self._set_overdue_apart()
            back, self._overdue = self._overdue, []
        return back

    def _set_overdue_apart(self) -> None:
        # In order of claiming, and so of the ends of their leases, except for the random part of the slack.
        now = self.elapsed()
        while self._waiting and self._waiting[0].begin_before <= now:
            self._overdue.append(self._waiting.popleft().claim)

    def take_back(self) -> list[Claim]:
        """Remove and return all claims that have not begun; claims fed later may begin."""
        with self._state:
            back = [*self._overdue, *(waiting.claim for waiting in self._waiting)]
            self._overdue = []
            self._waiting.clear()
            self._disables = False
        return back

    def next_limit(self) -> float | None:
        """Return the earliest elapsed time at which an attempt may reach its time limit; null if nothing is in hand."""
        with self._state:
            begun = [running.began for running in self._running.values()]
            if self._waiting:
                # A thread may be about to begin it.
                begun.append(self.elapsed())
        return min(begun) + self.timeout_seconds if begun else None

    def abandon(self, *, after_seconds: float) -> list[Running]:
        """Return the calls that have taken longer than this, and stop waiting for them."""
        before = self.elapsed() - after_seconds
        with self._state:
            abandoned = {thread: running for thread, running in self._running.items() if running.began <= before}
            for thread in abandoned:
                del self._running[thread]
            self._hung += len(abandoned)
        # Start threads in their place.
        self.feed(())
        return list(abandoned.values())

    def stop(self) -> None:
        """Begin no more claims; safe in a signal handler."""
        self._stopping = True

    def _may_begin(self) -> bool:
        return not self._disables and not self._stopping

    def close(self) -> None:
        """End the idle threads."""
        with self._state:
            self._closing = True
            self._state.notify_all()

    def is_calling_in(self, thread: threading.Thread) -> bool:
        """Return whether a thread is calling the listener."""
        return thread in self._running

    def _work(self) -> None:
        me = threading.current_thread()
        while running := self._next(me):
            ended = self._called(running)
            with self._state:
                if me not in self._running:
                    # It was abandoned, and another thread has its place.
                    self._hung -= 1
                    return
                # In this order: when nothing is in hand, the worker has every attempt.
                self._disables = self._disables or ended.disables
                self.ended(self, ended)
                del self._running[me]
                self._idle += 1

    def _called(self, running: Running) -> Attempt:
        try:
            return self.call(running.claim, running.began)
        except BaseException as error:  # noqa: BLE001 - a thread that ended would lose its claim
            _log.exception("event %s for listener %s: the attempt failed", running.claim.event_id, self.name)
            seconds = self.elapsed() - running.began
            return Attempt(running.claim, Ending.FAILED, running.began, seconds, type_name(error))

    def _next(self, me: threading.Thread) -> Running | None:
        with self._state:
            while True:
                # A worker that was suspended, for example by SIGSTOP, continues here.
                self._set_overdue_apart()
                if self._waiting and self._may_begin() and len(self._running) < self.free_threads:
                    running = Running(self._waiting.popleft().claim, self.elapsed())
                    self._running[me] = running
                    self._idle -= 1
                    return running
                # Stay if a claim was fed at the moment of the timeout.
                if self._closing or (not self._state.wait(_IDLE_SECONDS) and not self._waiting):
                    self._idle -= 1
                    return None
