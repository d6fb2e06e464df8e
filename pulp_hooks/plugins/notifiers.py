"""From notifier classes to listeners."""

import inspect
from collections.abc import Callable

from pulp_hooks.event_loops import run_to_end
from pulp_hooks.notifier import Notifier
from pulp_hooks.plugins.discovery import Installed
from pulp_hooks.plugins.inspection import Implementation
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.settings.model import ListenerSettings


def notifying(notifier: object, settings: ListenerSettings, installed: Installed | None = None) -> Listener:
    """Make a listener of a notifier, for the event types that the settings ask for.

    Raises:
        TypeError: The class of the notifier has made something else.
    """
    if not isinstance(notifier, Notifier):
        raise TypeError(f"its class has made {type(notifier).__name__}, which is no notifier")
    return Listener(
        name=settings.name,
        kind=Kind.CONFIGURED,
        state=State.LOADED,
        installed=installed,
        implementations=[
            Implementation(event_type, notifier.notify, ("event",)) for event_type in settings.event_types
        ],
        wants=settings.wants,
        secrets=settings.secrets,
        close=None if getattr(notifier.close, "__func__", None) is Notifier.close else _awaited(notifier.close),
    )


def fault_of(notifier: type[Notifier]) -> str | None:
    """Give what is wrong with a notifier's class, if something is."""
    if lacking := sorted(getattr(notifier, "__abstractmethods__", ())):
        return f"the class {notifier.__qualname__} has no method {', '.join(lacking)}"
    stored = inspect.getattr_static(notifier, "notify")
    function = stored.__func__ if isinstance(stored, staticmethod | classmethod) else stored
    if not callable(function) or isinstance(function, type):
        return f"notify is no method but a {type(function).__name__}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "notify is a generator function, whose code nobody would run"
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
