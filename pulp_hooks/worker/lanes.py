"""The lanes of one listener: threads that nobody else waits for, however long the listener takes."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pulp_hooks.journal.claims import Claim
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.text import type_name
from pulp_hooks.worker.attempts import Attempt, Ending

_log = safe_logger("pulp_hooks.worker")

_IDLE_SECONDS = 10.0
"""How long a thread waits for work before it ends."""

_MEMORY = 8
"""Over about how many attempts the average goes."""

MOST_HUNG = 16
"""How many abandoned calls of a listener may be left running: a thread cannot be ended from outside."""


@dataclass(eq=False, slots=True)
class Running:
    """A call that is under way.

    Attributes:
        claim: What is delivered.
        began: When it began; elapsed time of the worker's clock.
    """

    claim: Claim
    began: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    claim: Claim
    begin_before: float


@dataclass(eq=False)
class Lanes:
    """Runs the attempts of one listener in threads of its own, a few at a time.

    Attributes:
        name: Name of the listener.
        width: How many attempts run at the same time.
        timeout_seconds: Time limit of an attempt.
        call: Makes an attempt, given the claim and the elapsed time at which it began.
        elapsed: Return the elapsed time of the worker's clock.
        ended: Called in the lane with each attempt that was not abandoned.
    """

    name: str
    width: int
    timeout_seconds: float
    call: Callable[[Claim, float], Attempt]
    elapsed: Callable[[], float]
    ended: Callable[["Lanes", Attempt], None]
    seconds: float | None = field(default=None, init=False)
    """How long an attempt has taken lately, on the average; nothing before the first has ended."""

    def __post_init__(self) -> None:
        self._state = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._overdue: list[Claim] = []
        self._running: dict[threading.Thread, Running] = {}
        self._idle = 0
        self._hung = 0
        self._closing = False

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
    def waiting(self) -> int:
        """How many claims wait here."""
        return len(self._waiting)

    @property
    def hung(self) -> int:
        """How many abandoned calls have not ended."""
        return self._hung

    @property
    def free_width(self) -> int:
        """How many attempts may run at the same time now: none when too many abandoned ones do."""
        return max(0, min(self.width, MOST_HUNG - self._hung))

    def feed(self, claims: Iterable[Claim], begin_before: float = 0.0) -> None:
        """Take claims to be attempted.

        Args:
            claims: The claims.
            begin_before: Elapsed time from which on their leases do not cover an attempt any more.
                Those that have not begun do not begin then: `overdue` has them.
        """
        with self._state:
            for claim in claims:
                self._waiting.append(_Waiting(claim, begin_before))
            missing = min(len(self._waiting) - self._idle, self.free_width - len(self._running) - self._idle)
            for _ in range(missing):
                threading.Thread(target=self._work, name=f"pulp_hooks {self.name}", daemon=True).start()
                self._idle += 1
            self._state.notify(len(self._waiting))

    def overdue(self) -> list[Claim]:
        """Take back the claims whose leases do not cover an attempt any more."""
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
        """Take back all claims that were not begun."""
        with self._state:
            back = [*self._overdue, *(waiting.claim for waiting in self._waiting)]
            self._overdue = []
            self._waiting.clear()
        return back

    def next_limit(self) -> float | None:
        """Give when the first attempt reaches its time limit at the earliest; elapsed time."""
        with self._state:
            begun = [running.began for running in self._running.values()]
            if self._waiting:
                # A thread may be about to begin it.
                begun.append(self.elapsed())
        return min(begun) + self.timeout_seconds if begun else None

    def abandon(self, *, after_seconds: float) -> list[Running]:
        """Give the calls that have taken longer than that; from now on nobody waits for them."""
        before = self.elapsed() - after_seconds
        with self._state:
            abandoned = {thread: running for thread, running in self._running.items() if running.began <= before}
            for thread in abandoned:
                del self._running[thread]
            self._hung += len(abandoned)
            if abandoned:
                self.seconds = after_seconds
        # Others take their places.
        self.feed(())
        return list(abandoned.values())

    def close(self) -> None:
        """Let the idle threads end."""
        with self._state:
            self._closing = True
            self._state.notify_all()

    def is_lane(self, thread: threading.Thread) -> bool:
        """Tell whether a thread is one of the lanes."""
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
                # In this order: who sees nothing in hand has seen how everything ended.
                self.ended(self, ended)
                del self._running[me]
                known = ended.seconds if self.seconds is None else self.seconds
                self.seconds = known + (ended.seconds - known) / _MEMORY
                self._idle += 1

    def _called(self, running: Running) -> Attempt:
        try:
            return self.call(running.claim, running.began)
        except BaseException as error:  # noqa: BLE001 - a lane that ends would leave its claim behind
            _log.exception("event %s for listener %s", running.claim.event_id, self.name)
            seconds = self.elapsed() - running.began
            return Attempt(running.claim, Ending.FAILED, running.began, seconds, type_name(error))

    def _next(self, me: threading.Thread) -> Running | None:
        with self._state:
            while True:
                # A worker that was stopped for a while, as by SIGSTOP, goes on here.
                self._set_overdue_apart()
                if self._waiting and len(self._running) < self.free_width:
                    running = Running(self._waiting.popleft().claim, self.elapsed())
                    self._running[me] = running
                    self._idle -= 1
                    return running
                # What was fed just when the pause was over is there all the same.
                if self._closing or (not self._state.wait(_IDLE_SECONDS) and not self._waiting):
                    self._idle -= 1
                    return None
