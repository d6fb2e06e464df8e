"""Listeners made of notifiers."""

import inspect
from collections.abc import Callable, Sequence

from pulp_hooks.event_loops import run_to_end
from pulp_hooks.event_types import EventType
from pulp_hooks.notifier import Notifier
from pulp_hooks.plugins.discovery import Installed
from pulp_hooks.plugins.inspection import Implementation
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.settings.model import ListenerSettings


def notifying(
    notifier: object,
    name: str,
    configured: ListenerSettings | None = None,
    installed: Installed | None = None,
    secrets: Sequence[str] = (),
) -> Listener:
    """Return a listener that calls a notifier.

    Raises:
        TypeError: The object is not a notifier.
    """
    if not isinstance(notifier, Notifier):
        raise TypeError(f"its class returned a {type(notifier).__name__}, which is not a notifier")
    event_types = configured.event_types if configured else tuple(EventType)
    return Listener(
        name=name,
        kind=Kind.CONFIGURED,
        state=State.LOADED,
        installed=installed,
        event_types=event_types,
        implementations=[Implementation(event_type, notifier.notify, ("event",)) for event_type in event_types],
        wants=configured.wants if configured else None,
        secrets=secrets,
        close=None if getattr(notifier.close, "__func__", None) is Notifier.close else _awaited(notifier.close),
    )


def fault_of(notifier: type[Notifier]) -> str | None:
    """Return why a notifier class cannot be used; null if it can."""
    if lacking := sorted(getattr(notifier, "__abstractmethods__", ())):
        return f"the class {notifier.__qualname__} has no method {', '.join(lacking)}"
    stored = inspect.getattr_static(notifier, "notify")
    function = stored.__func__ if isinstance(stored, staticmethod | classmethod) else stored
    if not callable(function) or isinstance(function, type):
        return f"notify is a {type(function).__name__}, not a method"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "notify is a generator function, which would never run"
    given = ("event",) if isinstance(stored, staticmethod) else ("self", "event")
    try:
        inspect.signature(function).bind(*given)
    except (TypeError, ValueError) as error:
        return f"notify must take one argument, the event ({error})"
    return None


def _awaited(close: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        result = close()
        if inspect.isawaitable(result):
            run_to_end(result)

    return run
