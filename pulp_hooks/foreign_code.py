"""Single calls of foreign code: imports, constructors and the like, which may raise anything, exit, or fork."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypeVar

from pulp_hooks.signals import interruption_in

_T = TypeVar("_T")


class Raised(NamedTuple):
    """What a call has raised."""

    error: BaseException


def call_foreign(function: Callable[[], _T]) -> _T | Raised:
    """Call foreign code, and return its result, or what it raised.

    A process that it forks off ends with the call: it would go on as a second host.

    Raises:
        BaseException: Ctrl-C, or what a signal handler of the host has raised.
    """
    process, handled = os.getpid(), sys.exc_info()[1]
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - it is returned
        raised = [error]
    else:
        if os.getpid() != process:
            end_child(None)
        return result
    # Not a variable: the exception's traceback has this frame, and both would wait for the garbage collector.
    return _raised(raised.pop(), process, handled)


def _raised(error: BaseException, process: int, handled: BaseException | None) -> Raised:
    if os.getpid() != process:
        end_child(error)
    interruption = interruption_in(error, handled)
    if interruption is not None:
        raise interruption
    return Raised(error)


def end_child(error: BaseException | None) -> NoReturn:
    """End a process that foreign code has forked off, without flushing files that it shares with the host.

    Args:
        error: What the code raised in that process; null if it returned.
    """
    code = 0 if error is None else 1
    if error is not None and issubclass(type(error), SystemExit):
        given = _exit_code_of(error)
        code = given & 0xFF if isinstance(given, int) else 0 if given is None else 1
    os._exit(code)


_exit_code_of = SystemExit.__dict__["code"].__get__
