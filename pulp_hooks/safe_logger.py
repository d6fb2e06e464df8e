"""Loggers that never raise, so that logging cannot change what the program does."""

import logging
import threading
from typing import Any

from pulp_hooks.signals import is_interruption, raised_by_signal_handler


class _Thread(threading.local):
    is_logging = False


_thread = _Thread()


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Wraps a logger and raises nothing.

    A filter or handler of the host may raise, a log file may be on a full disk, and standard error may be closed. Then
    the record is lost, but not the event or the attempt that it is about.

    A handler may fire events, whose listeners may fail and log as well. Records logged in a thread that is handling
    another record are dropped, to prevent endless recursion.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - as inherited
        """Return whether a record of this level would be logged."""
        try:
            return super().isEnabledFor(level)
        except Exception as error:  # a logger class of the host may raise anything
            if raised_by_signal_handler(error):
                raise
            return False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        """Log a record. The other methods, such as `warning`, call this one."""
        if _thread.is_logging:
            return
        try:
            _thread.is_logging = True
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
        except BaseException as error:  # there is nowhere else to report it
            if is_interruption(error):
                raise
        finally:
            _thread.is_logging = False


def safe_logger(name: str) -> SafeLogger:
    """Return the logger of this name, wrapped so that it never raises."""
    return SafeLogger(logging.getLogger(name))
