"""The threads that call one listener; no other listener waits for them."""

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
"""How many claims of a listener wait for its threads, so that these do not wait for the journal.

More would be quicker with a listener of microseconds, and leave less of a small backlog to other workers. Measured on
SQLite: 88 us of CPU for each delivery with 32, 68 us with 100.
"""

MOST_HUNG = 16
"""How many abandoned calls of a listener may be left running: a thread cannot be ended from outside."""

_IDLE_SECONDS = 10.0
"""How long a thread waits for a claim before it ends."""


@dataclass(eq=False, slots=True)
class Running:
    """A call in progress.

    Attributes:
        claim: What is delivered.
        began: When it began; elapsed time of the worker's clock.
    """

    claim: Claim
    began: float


class _Waiting(NamedTuple):
    claim: Claim
    begin_before: float


@dataclass(eq=False)
class ListenerPool:
    """Makes the attempts of one listener in threads of its own.

    Attributes:
        name: Name of the listener.
        threads: How many attempts run at the same time.
        timeout_seconds: Time limit of an attempt.
        call: Makes an attempt, given the claim and the elapsed time at which it began.
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
        # Whether the listener asked to be disabled, which is not recorded yet.
        self._disables = False

    @property
    def in_hand(self) -> int:
        """How many claims wait or run here."""
        with self._state:
            return len(self._waiting) + len(self._overdue) + len(self._running)

    @property
    def running(self) -> int:
        """How many claims run here."""
        return len(self._running)

    @property
    def hung(self) -> int:
        """How many abandoned calls have not ended."""
        return self._hung

    @property
    def free_threads(self) -> int:
        """How many attempts may run at the same time now: none when too many abandoned ones do."""
        return max(0, min(self.threads, MOST_HUNG - self._hung))

    @property
    def wanted(self) -> int:
        """How many claims to fetch; 0 while more than a quarter of the prefetched ones wait."""
        if self._disables or not self.free_threads or 4 * len(self._waiting) > PREFETCH:
            return 0
        return max(0, self.free_threads + PREFETCH - self.in_hand)

    def feed(self, claims: Iterable[Claim], begin_before: float = 0.0) -> None:
        """Take claims to be attempted.

        Args:
            claims: The claims.
            begin_before: Elapsed time from which on their leases do not cover an attempt any more. Claims that have not
                begun do not begin then: `overdue` returns them.
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
        """Remove and return the claims whose leases do not cover an attempt any more."""
        with self._state:
            self._set_overdue_apart()
            back, self._overdue = self._overdue, []
        return back

    def _set_overdue_apart(self) -> None:
        # Those that were claimed first are first, with the earliest ends but for what chance makes of the slack.
        now = self.elapsed()
        while self._waiting and self._waiting[0].begin_before <= now:
            self._overdue.append(self._waiting.popleft().claim)

    def take_back(self) -> list[Claim]:
        """Remove and return all claims that have not begun; those that are fed later begin again."""
        with self._state:
            back = [*self._overdue, *(waiting.claim for waiting in self._waiting)]
            self._overdue = []
            self._waiting.clear()
            self._disables = False
        return back

    def next_limit(self) -> float | None:
        """Return when the first attempt reaches its time limit at the earliest, as elapsed time."""
        with self._state:
            begun = [running.began for running in self._running.values()]
            if self._waiting:
                # A thread may be about to begin it.
                begun.append(self.elapsed())
        return min(begun) + self.timeout_seconds if begun else None

    def abandon(self, *, after_seconds: float) -> list[Running]:
        """Return the calls that have taken longer than that; from now on nothing waits for them."""
        before = self.elapsed() - after_seconds
        with self._state:
            abandoned = {thread: running for thread, running in self._running.items() if running.began <= before}
            for thread in abandoned:
                del self._running[thread]
            self._hung += len(abandoned)
        # Other threads take their places.
        self.feed(())
        return list(abandoned.values())

    def stop(self) -> None:
        """Begin no more claims; a signal handler may call this."""
        self._stopping = True

    def _may_begin(self) -> bool:
        return not self._disables and not self._stopping

    def close(self) -> None:
        """Let the idle threads end."""
        with self._state:
            self._closing = True
            self._state.notify_all()

    def is_calling_in(self, thread: threading.Thread) -> bool:
        """Return whether a thread is in a call of the listener."""
        return thread in self._running

    def _work(self) -> None:
        me = threading.current_thread()
        while running := self._next(me):
            ended = self._called(running)
            with self._state:
                if me not in self._running:
                    # It was abandoned, and its place is taken.
                    self._hung -= 1
                    return
                # In this order: once nothing is in hand, the worker knows how everything ended.
                self._disables = self._disables or ended.disables
                self.ended(self, ended)
                del self._running[me]
                self._idle += 1

    def _called(self, running: Running) -> Attempt:
        try:
            return self.call(running.claim, running.began)
        except BaseException as error:  # noqa: BLE001 - a thread that ends would leave its claim behind
            _log.exception("event %s for listener %s", running.claim.event_id, self.name)
            seconds = self.elapsed() - running.began
            return Attempt(running.claim, Ending.FAILED, running.began, seconds, type_name(error))

    def _next(self, me: threading.Thread) -> Running | None:
        with self._state:
            while True:
                # A worker that was stopped for a while, as by SIGSTOP, continues here.
                self._set_overdue_apart()
                if self._waiting and self._may_begin() and len(self._running) < self.free_threads:
                    running = Running(self._waiting.popleft().claim, self.elapsed())
                    self._running[me] = running
                    self._idle -= 1
                    return running
                # A claim that was fed just when the pause was over is not left behind.
                if self._closing or (not self._state.wait(_IDLE_SECONDS) and not self._waiting):
                    self._idle -= 1
                    return None
