"""The sweeper: it sends a message for every delivery that is due and that nobody has claimed."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.claims import NO_LIMITS, Claim, Limits
from pulp_hooks.journal.journal import Journal
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.text import one_line

_log = safe_logger(__name__)

_SWEEP_SECONDS = 1.0
"""How often it looks; with PostgreSQL it is also woken by new deliveries."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""How long it waits when the journal or the broker fails; it grows."""

_LOT = 500


class Sweeper:
    """Sends messages, in a thread of its own. Any number of sweepers share the work: each message is sent by one.

    Args:
        journal: The journal.
        limits: The listeners that this cluster calls, and what holds for them.
        send: Sends a message with the event's id and the listener's name; raises when the broker does not confirm it.
        resend_seconds: After so long a message counts as lost.
    """

    def __init__(
        self, journal: Journal, limits: Mapping[str, Limits], send: Callable[[str, str], None], resend_seconds: float
    ) -> None:
        self._journal = journal
        self._queue = journal.queue
        self._limits = limits
        self._send = send
        self._resend_seconds = resend_seconds
        self._wake = threading.Event()
        self._over = threading.Event()

    def start(self, using: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Start the thread.

        Args:
            using: Returns a context manager around each use of the journal.
        """
        threading.Thread(target=self._work, args=(using,), name="pulp_hooks sweeper", daemon=True).start()

    def stop(self) -> None:
        """Sweep no more; does not wait for a message that is on its way."""
        self._over.set()
        self._wake.set()

    def sweep(self) -> int:
        """Send a message for everything that is due; give how many were sent.

        Raises:
            JournalError: The journal failed.
            Exception: Whatever `send` raises; what was not sent is sent later.
        """
        now = self._journal.now()
        dues = self._queue.dues(self._limits)
        return sum(self.send_due(name, ordered=due.is_ordered) for name, due in dues.items() if due.claimable <= now)

    def send_due(self, name: str, *, ordered: bool = True) -> int:
        """Send a message for everything of a listener that is due, and that its limits let be claimed now.

        Args:
            name: The listener.
            ordered: Whether deliveries that keep an order are looked at too; see `Due.is_ordered`.

        Raises:
            JournalError: The journal failed.
            Exception: Whatever `send` raises; what was not sent is sent later.
        """
        sent = 0
        while not self._over.is_set():
            lot = self._queue.unsent(name, _LOT, self._resend_seconds, self._limits[name], ordered=ordered)
            for place, event_id in enumerate(lot):
                try:
                    self._send(event_id, name)
                except Exception:
                    self._queue.not_sent(name, lot[place:])
                    raise
            sent += len(lot)
            if len(lot) < _LOT:
                break
        return sent

    def go_on(self, event_id: str, name: str, made: Claim | None) -> None:
        """Send what order and limits let follow when a message of a listener is done with; failures are logged.

        Args:
            event_id: The event of the message.
            name: The listener.
            made: The delivery that was made. When it is null, limits may have stood in its way, and it gets another
                message when they let it be claimed.
        """
        limited = self._limits.get(name, NO_LIMITS) != NO_LIMITS
        try:
            if made is None and limited:
                self._queue.not_sent(name, [event_id])
            elif made is not None and (limited or made.is_ordered):
                self.send_due(name)
        except Exception as error:  # noqa: BLE001 - a broker's client may raise anything
            _log.warning("the next message for listener %s is sent by the sweeper: %s", name, one_line(error))

    def _work(self, using: Callable[[], AbstractContextManager[None]]) -> None:
        with self._journal.subscribed(self._wake.set):
            self._sweep_on(using)

    def _sweep_on(self, using: Callable[[], AbstractContextManager[None]]) -> None:
        pause = 0.0
        while not self._over.is_set():
            self._wake.clear()
            try:
                with using():
                    self.sweep()
                pause = 0.0
            except JournalError as error:
                pause = self._longer(pause)
                _log.warning("%s; retrying in %.0f s", error, pause)
            except Exception as error:  # noqa: BLE001 - a broker's client may raise anything
                pause = self._longer(pause)
                _log.warning("no message could be sent; retrying in %.0f s: %s", pause, one_line(error))
            if pause:
                self._over.wait(pause)
            else:
                self._wake.wait(_SWEEP_SECONDS)

    @staticmethod
    def _longer(pause: float) -> float:
        return min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)
