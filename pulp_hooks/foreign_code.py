"""Calls of foreign code, such as imports and constructors, which may raise anything, exit or fork."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypeVar

from pulp_hooks.signals import interruption_in

_T = TypeVar("_T")


class Raised(NamedTuple):
    """The exception raised by a call."""

    error: BaseException


def call_foreign(function: Callable[[], _T]) -> _T | Raised:
    """Call foreign code and return its result or its exception.

    If the code forks, the child process is ended after the call. Otherwise it would continue as a second host.

    Raises:
        BaseException: `KeyboardInterrupt`, or an exception from a signal handler of the host.
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
    # Not a variable: it would form a reference cycle with the exception, whose traceback has this frame.
    return _raised(raised.pop(), process, handled)


def _raised(error: BaseException, process: int, handled: BaseException | None) -> Raised:
    if os.getpid() != process:
        end_child(error)
    interruption = interruption_in(error, handled)
    if interruption is not None:
        raise interruption
    return Raised(error)


def end_child(error: BaseException | None) -> NoReturn:
    """End a process forked by foreign code, without flushing files shared with the host.

    Args:
        error: The exception raised in that process, or `None` if the code returned.
    """
    code = 0 if error is None else 1
    if error is not None and issubclass(type(error), SystemExit):
        given = _exit_code_of(error)
        code = given & 0xFF if isinstance(given, int) else 0 if given is None else 1
    os._exit(code)


_exit_code_of = SystemExit.__dict__["code"].__get__
