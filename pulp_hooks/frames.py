"""The calls that a thread is in the middle of, as its own stack tells."""

import sys
from types import CodeType


def calls_under_way(code: CodeType, owner: object) -> int:
    """Return how many calls of a method of an object the calling thread is in.

    A signal handler, a `__del__` method or a logging handler may interrupt a call at any point and make the same call
    again. The stack knows it, with nothing to set before the call and to reset after it.

    Args:
        code: Code of the method, whose first argument is named `self`.
        owner: The object.
    """
    number = 0
    frame = sys._getframe(1)  # noqa: SLF001 - documented; `inspect.currentframe` is the same
    while frame := frame.f_back:  # type: ignore[assignment] # null ends the loop
        if frame.f_code is code and frame.f_locals.get("self") is owner:
            number += 1
    return number
