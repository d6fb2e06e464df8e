"""What an outcome says about an exception: short, without secrets, whatever the exception does when it is shown."""

from collections.abc import Sequence

from pulp_hooks.text import redacted
from pulp_hooks.tracebacks import formatted_traceback

MAX_TRACEBACK_BYTES = 16 * 2**10
"""Size cap of a traceback in UTF-8."""

_CUT = "\n...\n"


class ListenerError(Exception):
    """Stands in for a listener's exception in log records, which show a secret or fail with the exception itself.

    Its note is the redacted traceback.
    """


def traceback_of(error: BaseException, text: str, secrets: Sequence[str]) -> tuple[str, BaseException]:
    """Return the traceback of an exception without secrets, and what to log in place of the exception, or itself.

    Args:
        error: The exception.
        text: Type and message on one line, without secrets.
        secrets: Texts that must not be shown.
    """
    formatted, is_faithful = formatted_traceback(error)
    shown = _capped(redacted(formatted, secrets))
    # With secrets the stand-in is logged always: some log formatters show the local variables of each frame as well.
    if is_faithful and not secrets:
        return shown, error
    stand_in = ListenerError(text)
    stand_in.add_note(shown)
    return shown, stand_in


def _capped(text: str) -> str:
    """Return a text without its middle if it is over the cap."""
    encoded = text.encode()
    if len(encoded) <= MAX_TRACEBACK_BYTES:
        return text
    half = (MAX_TRACEBACK_BYTES - len(_CUT)) // 2
    return f"{encoded[:half].decode(errors='ignore')}{_CUT}{encoded[-half:].decode(errors='ignore')}"
