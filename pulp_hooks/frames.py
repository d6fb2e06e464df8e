"""Inspection of the calling thread's stack."""

import sys
from types import CodeType


def calls_under_way(code: CodeType, owner: object) -> int:
    """Return how many calls of an object's method are on the calling thread's stack.

    A signal handler, a `__del__` method or a logging handler may interrupt a call at any point and make the same call
    again. Unlike a flag, the stack needs no reset after the call.

    Args:
        code: Code of the method. Its first argument must be named `self`.
        owner: The object.
    """
    number = 0
    frame = sys._getframe(1)  # noqa: SLF001 - documented; `inspect.currentframe` is the same
    while frame := frame.f_back:  # type: ignore[assignment] # `None` ends the loop
        if frame.f_code is code and frame.f_locals.get("self") is owner:
            number += 1
    return number
