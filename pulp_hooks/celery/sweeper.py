"""The sweeper: it sends a message for every due delivery that is not claimed."""

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
"""Pause between sweeps; on PostgreSQL, new deliveries also wake the sweeper."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Pause after a failure of the journal or the broker; it doubles."""

_BATCH = 500


class Sweeper:
    """Sends messages in its own thread. Several sweepers share the work: only one sends each message.

    Args:
        journal: The journal.
        limits: The limits of each listener that this cluster calls, by name.
        send: Sends a message with the event's id and the listener's name; raises if the broker does not confirm it.
        resend_seconds: Age at which a message counts as lost; seconds.
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
        """Stop sweeping, without waiting for a message that is being sent."""
        self._over.set()
        self._wake.set()

    def sweep(self) -> int:
        """Send a message for each due delivery; return the number of messages sent.

        Raises:
            JournalError: The journal failed.
            Exception: Raised by `send`; the remaining messages are sent later.
        """
        now = self._journal.now()
        dues = self._queue.dues(self._limits)
        return sum(self._send_due(name, ordered=due.is_ordered) for name, due in dues.items() if due.claimable <= now)

    def _send_due(self, name: str, *, ordered: bool = True) -> int:
        """Send a message for each due delivery of a listener that its limits allow; return the number of messages."""
        sent = 0
        while not self._over.is_set():
            batch = self._queue.unsent(name, _BATCH, self._resend_seconds, self._limits[name], ordered=ordered)
            for place, event_id in enumerate(batch):
                try:
                    self._send(event_id, name)
                except Exception:
                    self._queue.not_sent(name, batch[place:])
                    raise
            sent += len(batch)
            if len(batch) < _BATCH:
                break
        return sent

    def go_on(self, event_id: str, name: str, made: Claim | None) -> None:
        """Send the messages that order and limits allow after one was handled; log a failure.

        Args:
            event_id: The event of the handled message.
            name: The listener.
            made: The delivery that was made. Null if none was claimed: if a limit prevented that, the delivery gets
                another message as soon as the limit allows.
        """
        limited = self._limits.get(name, NO_LIMITS) != NO_LIMITS
        try:
            if made is None and limited:
                self._queue.not_sent(name, [event_id])
            elif made is not None and (limited or made.is_ordered):
                self._send_due(name)
        except Exception as error:  # noqa: BLE001 - a broker's client may raise anything
            _log.warning("listener %s: could not send the next message; the sweeper will: %s", name, one_line(error))

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
