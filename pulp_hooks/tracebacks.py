"""Formatting the tracebacks of foreign exceptions, whose methods and attributes may raise or return anything."""

import traceback
from types import TracebackType

from pulp_hooks.signals import is_interruption, related
from pulp_hooks.text import one_line

_MAX_TEXT = 100_000
"""Characters kept of a traceback."""

_MOST_LINKED = 100
"""An exception with more causes, contexts and group members is formatted without them."""

_SHOWN = frozenset(
    ("__bool__", "__cause__", "__class__", "__context__", "__getattribute__", "__len__", "__notes__")
) | {"__suppress_context__", "__traceback__", "exceptions"}
"""Attributes that `traceback` and `logging` read. A class that overrides one could make `traceback` loop forever."""

_HONEST = frozenset((BaseException, BaseExceptionGroup, object))


def formatted_traceback(error: BaseException) -> tuple[str, bool]:
    """Return the traceback of an exception as text, and whether that is exactly what Python would print."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    try:
        if _is_honest(error):
            text = "".join(traceback.format_exception(error)).rstrip()
            shown = _encodable(text)
            return shown, shown == text
        text = "".join(["Traceback (most recent call last):\n", *traceback.format_tb(trace), one_line(error)])
        return _encodable(text), False
    except BaseException as failure:
        if is_interruption(failure):
            raise
        return "", False


def frames_of(trace: TracebackType | None, most: int, longest: int) -> list[str] | None:
    """Return the innermost frames of a traceback, each as text, or `None` if they cannot be formatted.

    Args:
        trace: The traceback.
        most: Maximum number of frames.
        longest: Maximum length of each, in characters.
    """
    try:
        return [frame[:longest] for frame in traceback.format_tb(trace)[-most:]]
    except BaseException as failure:
        # Source lines come from foreign loaders, which may raise anything.
        if is_interruption(failure):
            raise
        return None


def _encodable(text: str) -> str:
    """Return the text without its middle if it is long, and with lone surrogates (as in file names) escaped."""
    shown = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]}\n...\n{text[-_MAX_TEXT // 2 :]}"
    return shown.encode("utf-8", "backslashreplace").decode()


def _is_honest(error: BaseException) -> bool:
    """Return whether no exception of a chain or group overrides an attribute in `_SHOWN`."""
    for number, found in enumerate(related(error)):
        kinds = type.__dict__["__mro__"].__get__(type(found))
        if number == _MOST_LINKED or any(kind not in _HONEST and _SHOWN & kind.__dict__.keys() for kind in kinds):
            return False
    return True
