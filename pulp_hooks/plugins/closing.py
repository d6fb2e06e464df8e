"""Closing a listener: a `close()` that hangs or raises keeps neither the host nor other listeners from ending."""

import threading
from collections.abc import Callable
from contextvars import copy_context

from pulp_hooks.foreign_code import call_foreign
from pulp_hooks.plugins.listeners import Listener
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.text import one_line

# Hosts look for what concerns their `Hooks` at this logger.
_log = safe_logger("pulp_hooks.hooks")

_CLOSE_SECONDS = 10.0
"""How long to wait for the `close()` of one listener."""


def close_listener(listener: Listener, close: Callable[[], None]) -> None:
    """Close a listener, in a thread of its own that is abandoned if it does not end in time; log what it raises.

    Raises:
        BaseException: Ctrl-C, or an exception of a signal handler of the host.
    """

    def run() -> None:
        try:
            result = call_foreign(close)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            interruptions.append(error)
        else:
            if result is not None:
                failures.append(result.error)

    failures: list[BaseException] = []
    interruptions: list[BaseException] = []
    thread = threading.Thread(
        target=copy_context().run, args=(run,), name=f"pulp_hooks closing {listener.name}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # the interpreter is shutting down, and starts no more threads
        run()
    else:
        thread.join(_CLOSE_SECONDS)
        if thread.is_alive():
            _log.error(
                "listener %s is not closed after %g s, and is left behind; fix: end its close()",
                *(listener.name, _CLOSE_SECONDS),
            )
    for error in interruptions:
        raise error
    for error in failures:
        _log.error("listener %s could not be closed: %s", listener.name, one_line(error, listener.secrets))
