"""Global state that a plugin may change while it is imported or built: it is restored, and changes are reported."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGE = "pulp_hooks"
_MOST_NAMED = 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD)
_ATTRIBUTES = (
    *((sys, name) for name in ("stdout", "stderr", "excepthook", "unraisablehook")),
    (threading, "excepthook"),
)

_Restore = Callable[[], bool]
"""Restores one part of the state; returns whether it had changed."""


@contextmanager
def preserved() -> Iterator[list[str]]:
    """Return a context manager that restores global state on exit, and then lists what had changed.

    A plugin may add handlers to existing named loggers and set their levels. It may not disable them, remove handlers,
    or change the root logger and those of this package. It may add names of log levels, not change them.
    """
    changed: list[str] = []
    parts = dict(_parts())
    try:
        yield changed
    finally:
        for name, restore in parts.items():
            with suppress(OSError, TypeError, ValueError):
                if restore():
                    changed.append(name)


def described(changed: list[str]) -> str:
    """Return the names of the changed parts as text: the first three, and the number of the others."""
    more = [f"{len(changed) - _MOST_NAMED} more"] if len(changed) > _MOST_NAMED else []
    return ", ".join([*changed[:_MOST_NAMED], *more])


def _parts() -> Iterator[tuple[str, _Restore]]:
    yield "logging.disable", _restoring(lambda: logging.root.manager.disable, logging.disable)
    for logger in (logging.root, *tuple(logging.root.manager.loggerDict.values())):
        if isinstance(logger, logging.Logger):
            yield f"the logger {logger.name}", partial(_restore_logger, logger, _Logging.of(logger))
    yield "the class of loggers", _restoring(logging.getLoggerClass, logging.setLoggerClass)
    yield "the factory of log records", _restoring(logging.getLogRecordFactory, logging.setLogRecordFactory)
    numbers = logging.getLevelNamesMapping()
    yield "the names of log levels", partial(_restore_levels, numbers, _level_names(numbers.values()))
    yield "the umask", partial(_restore_umask, _umask())
    yield "the working directory", _restoring(_working_directory, os.chdir)
    yield "the default timeout of sockets", _restoring(socket.getdefaulttimeout, socket.setdefaulttimeout)
    for number in _SIGNALS:
        handler = partial(signal.getsignal, number), partial(signal.signal, number)
        yield f"the handler of {number.name}", _restoring(*handler)
    for owner, name in _ATTRIBUTES:
        attribute = partial(getattr, owner, name), partial(setattr, owner, name)
        yield f"{owner.__name__}.{name}", _restoring(*attribute)


def _restoring(get: Callable[[], Any], restore: Callable[[Any], object]) -> _Restore:
    before = get()

    def restored() -> bool:
        if get() == before:
            return False
        restore(before)
        return True

    return restored


class _Logging(NamedTuple):
    """The preserved state of a logger."""

    disabled: bool
    handlers: list[logging.Handler]
    level: int
    propagate: bool

    @classmethod
    def of(cls, logger: logging.Logger) -> "_Logging":
        """Return the state of the logger."""
        return cls(logger.disabled, list(logger.handlers), logger.level, logger.propagate)


def _restore_logger(logger: logging.Logger, before: _Logging) -> bool:
    allowed = _Logging.of(logger)
    added = [handler for handler in allowed.handlers if handler not in before.handlers]
    if logger is not logging.root and logger.name.partition(".")[0] != _PACKAGE:
        before = before._replace(handlers=[*before.handlers, *added], level=allowed.level, propagate=allowed.propagate)
    if allowed == before:
        return False
    logger.disabled, logger.propagate = before.disabled, before.propagate
    logger.handlers[:] = before.handlers
    logger.setLevel(before.level)
    return True


def _level_names(levels: Iterable[int]) -> dict[int, str]:
    return {level: logging.getLevelName(level) for level in levels}


def _restore_levels(numbers: dict[str, int], names: dict[int, str]) -> bool:
    if numbers.items() <= logging.getLevelNamesMapping().items() and names == _level_names(names):
        return False
    # The names last: several may share a number, and the last one added is shown.
    for name, level in (*numbers.items(), *((name, level) for level, name in names.items())):
        logging.addLevelName(level, name)
    return True


def _umask() -> int:
    with suppress(OSError, StopIteration):
        # `os.umask` has to change the umask to read it; meanwhile another thread may create a file.
        status = Path("/proc/self/status").read_text(errors="replace").splitlines()
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _restore_umask(before: int) -> bool:
    return os.umask(before) != before


def _working_directory() -> str | None:
    with suppress(OSError):
        return os.getcwd()  # noqa: PTH109 - compared as text
    return None
