"""Tracebacks of foreign exceptions, whose own methods and attributes may raise or lie."""

import traceback
from types import TracebackType

from pulp_hooks.signals import raised_by_signal_handler, related
from pulp_hooks.text import one_line

_MAX_TEXT = 100_000
"""How many characters of a traceback are looked at."""

_MOST_LINKED = 100
"""With more causes, contexts and members than that, the exception is shown alone."""

_SHOWN = frozenset(
    ("__bool__", "__cause__", "__class__", "__context__", "__getattribute__", "__len__", "__notes__")
) | {"__suppress_context__", "__traceback__", "exceptions"}
"""The attributes that `traceback` and `logging` read. The first follows them without end where they have none."""

_HONEST = frozenset((BaseException, BaseExceptionGroup, object))


def formatted_traceback(error: BaseException) -> tuple[str, bool]:
    """Return a traceback as Python prints it, or as much of it as there is, and whether Python prints just that."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    try:
        if _is_honest(error):
            text = "".join(traceback.format_exception(error)).rstrip()
            shown = _encodable(text)
            return shown, shown == text
        text = "".join(["Traceback (most recent call last):\n", *traceback.format_tb(trace), one_line(error)])
        return _encodable(text), False
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        if raised_by_signal_handler(failure):
            raise
        return "", False


def frames_of(trace: TracebackType | None, most: int, longest: int) -> list[str] | None:
    """Return the innermost frames of a traceback, each as text; null when they cannot be formatted.

    Args:
        trace: The traceback.
        most: How many frames are returned.
        longest: How many characters each may have.
    """
    try:
        return [frame[:longest] for frame in traceback.format_tb(trace)[-most:]]
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        # Source lines come from foreign loaders.
        if raised_by_signal_handler(failure):
            raise
        return None


def _encodable(text: str) -> str:
    """Return the text without its middle if it is long, and with lone surrogates, as of file names, as escapes."""
    shown = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]}\n...\n{text[-_MAX_TEXT // 2 :]}"
    return shown.encode("utf-8", "backslashreplace").decode()


def _is_honest(error: BaseException) -> bool:
    """Return whether no exception of a chain or group defines for itself what is read of it to show it."""
    for number, found in enumerate(related(error)):
        kinds = type.__dict__["__mro__"].__get__(type(found))
        if number == _MOST_LINKED or any(kind not in _HONEST and _SHOWN & kind.__dict__.keys() for kind in kinds):
            return False
    return True
