"""What a process has set up of its logging, as far as foreign code may undo it."""

import logging
from typing import NamedTuple


class LogsState(NamedTuple):
    """The loggers as they are at one moment.

    Attributes:
        disabled: Whether each logger is disabled.
        root_level: The level of the root logger.
        root_handlers: Its handlers.
        threshold: Up to which level `logging.disable` silences all loggers.
    """

    disabled: dict[logging.Logger, bool]
    root_level: int
    root_handlers: list[logging.Handler]
    threshold: int


def logs_state() -> LogsState:
    """Return how the loggers are set up now."""
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    disabled = {logger: logger.disabled for logger in (logging.root, *loggers)}
    return LogsState(disabled, logging.root.level, logging.root.handlers[:], logging.root.manager.disable)


def restore_logs(before: LogsState) -> bool:
    """Set the loggers up as they were before; return whether they were not."""
    root = logging.root
    changed = [logger for logger, was_disabled in before.disabled.items() if logger.disabled != was_disabled]
    for logger in changed:
        logger.disabled = before.disabled[logger]
    taken = [handler for handler in before.root_handlers if handler not in root.handlers]
    given = [handler for handler in root.handlers if handler not in before.root_handlers]
    for handler in given:
        root.removeHandler(handler)
    for handler in taken:
        root.addHandler(handler)
    is_set = (root.level, root.manager.disable) != (before.root_level, before.threshold)
    if is_set:
        root.setLevel(before.root_level)
        logging.disable(before.threshold)
    return bool(changed or taken or given or is_set)
