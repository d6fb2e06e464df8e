"""A watchdog over a process whose threads a listener may keep from running."""

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST_STEP = 1.0
"""After how many seconds the timer is set anew at the latest."""


@contextmanager
def ending_when_frozen(seconds: float) -> Iterator[None]:
    """Return a context manager that ends the process when no thread of it could run for so many seconds.

    A listener that keeps the interpreter's lock, as a regular expression that backtracks for hours does, stops every
    thread and every handler of signals. The timer of faulthandler needs no lock: it prints the traceback of all threads
    on standard error and ends the process with exit code 1. Its clock goes on while the process is stopped by SIGSTOP,
    so that one that is stopped for longer ends when it is continued.

    Args:
        seconds: How long no thread may run.
    """
    over = threading.Event()
    stderr = _descriptor()

    def rearm() -> None:
        while not over.wait(min(seconds / 4, _LONGEST_STEP)):
            faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)

    faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
    # A thread of its own: the one that speaks to the journal may wait for it for long.
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
    """Return a descriptor of standard error that nobody else closes, or of nothing where there is none."""
    try:
        return os.dup(sys.__stderr__.fileno())  # type: ignore[union-attr] # without standard error it is null
    except (AttributeError, OSError, ValueError):
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
