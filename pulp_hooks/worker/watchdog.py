"""A watchdog that ends a process whose threads a listener has frozen."""

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_REARM_SECONDS = 1.0
"""Longest interval between resets of the timer."""


@contextmanager
def ending_when_frozen(seconds: float) -> Iterator[None]:
    """Return a context manager that ends the process if none of its threads can run for this long.

    A listener that holds the GIL, such as a regular expression that backtracks for hours, stops every thread and every
    signal handler. The timer of `faulthandler` does not need the GIL: it prints the tracebacks of all threads to
    standard error, and ends the process with exit code 1. Its clock also runs while SIGSTOP suspends the process, so a
    process that was suspended for longer ends when it continues.
    """
    over = threading.Event()
    stderr = _descriptor()

    def rearm() -> None:
        while not over.wait(min(seconds / 4, _REARM_SECONDS)):
            faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)

    faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
    # Its own thread, because the one that uses the journal may wait for a long time.
    thread = threading.Thread(target=rearm, name="pulp_hooks watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        faulthandler.cancel_dump_traceback_later()
        os.close(stderr)


def _descriptor() -> int:
    """Return a private descriptor of standard error, or of the null device if there is none."""
    try:
        return os.dup(sys.__stderr__.fileno())  # type: ignore[union-attr] # without standard error it is null
    except (AttributeError, OSError, ValueError):
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
