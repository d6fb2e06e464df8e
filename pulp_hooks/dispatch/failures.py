"""Tracebacks for outcomes and logs: capped, without secrets, and safe with exceptions that fail to print."""

from collections.abc import Sequence

from pulp_hooks.text import redacted
from pulp_hooks.tracebacks import formatted_traceback

MAX_TRACEBACK_BYTES = 16 * 2**10
"""Size cap of a traceback in UTF-8."""

_CUT = "\n...\n"


class ListenerError(Exception):
    """Replaces a listener's exception in log records if that could show a secret or fails to print.

    Its note is the redacted traceback.
    """


def traceback_of(error: BaseException, text: str, secrets: Sequence[str]) -> tuple[str, BaseException]:
    """Return the redacted traceback of an exception, and the exception to log: itself or a `ListenerError`."""
    formatted, is_faithful = formatted_traceback(error)
    shown = _capped(redacted(formatted, secrets))
    # With secrets, always log the replacement: some log formatters show the local variables of each frame.
    if is_faithful and not secrets:
        return shown, error
    replacement = ListenerError(text)
    replacement.add_note(shown)
    return shown, replacement


def _capped(text: str) -> str:
    """Return a text, without its middle if it is over the cap."""
    encoded = text.encode()
    if len(encoded) <= MAX_TRACEBACK_BYTES:
        return text
    half = (MAX_TRACEBACK_BYTES - len(_CUT)) // 2
    return f"{encoded[:half].decode(errors='ignore')}{_CUT}{encoded[-half:].decode(errors='ignore')}"
