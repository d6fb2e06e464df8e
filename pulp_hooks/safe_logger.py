"""Loggers that cannot fail: nothing that is said may decide what is done."""

import logging
import threading
from typing import Any

from pulp_hooks.signals import raised_by_signal_handler


class _Thread(threading.local):
    is_logging = False


_thread = _Thread()


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs as the logger of this name, and raises nothing.

    A filter or handler of the host may raise, a log file may be on a full disk, and standard error may be closed. The
    line is lost then, and the event or the attempt that it speaks of is not.

    A handler may fire events, whose listeners may fail as well. Lines that are logged in a thread while it handles
    another line are dropped, because each could cause more lines without end.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - as inherited
        """Return whether a line of this level would be logged."""
        try:
            return super().isEnabledFor(level)
        except Exception as error:  # a logger class of the host's may raise anything
            if raised_by_signal_handler(error):
                raise
            return False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        """Log a line; the other methods, as `warning`, call this one."""
        if _thread.is_logging:
            return
        try:
            _thread.is_logging = True
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # there is no other place to say it
            if raised_by_signal_handler(error):
                raise
        finally:
            _thread.is_logging = False


def safe_logger(name: str) -> SafeLogger:
    """Return the logger of this name, as one that cannot fail."""
    return SafeLogger(logging.getLogger(name))
