"""Loggers that cannot fail: nothing that is said may decide what is done."""

import logging
from typing import Any

from pulp_hooks.signals import raised_by_signal_handler


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs as the logger of this name, and raises nothing.

    A filter or handler of the host may raise, a log file may be on a full disk, and standard error may be closed. The
    line is lost then, and the event or the attempt that it speaks of is not.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - as inherited
        """Return whether a line of this level would be logged."""
        try:
            return super().isEnabledFor(level)
        except Exception:  # noqa: BLE001 - a logger class of the host's may raise anything
            return False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - as inherited
        """Log a line; the other methods, as `warning`, call this one."""
        try:
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # there is no other place to say it
            if raised_by_signal_handler(error):
                raise


def safe_logger(name: str) -> SafeLogger:
    """Return the logger of this name, as one that cannot fail."""
    return SafeLogger(logging.getLogger(name))
