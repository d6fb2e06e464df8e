"""The hook relay: who is called for an event, and in which order. pluggy decides."""

from collections.abc import Callable, Sequence

import pluggy

from pulp_hooks import hookspecs
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.guard import Guard
from pulp_hooks.plugins.inspection import Implementation
from pulp_hooks.plugins.listeners import Listener

_Call = Callable[[object, Event], Guard | None]


class Relay:
    """Knows the loaded listeners.

    Each of them is registered with pluggy as a stand-in, whose hook implementations answer with the guard of the real
    one. So pluggy keeps the order, by name with `tryfirst` and `trylast`, and the caller decides how guards run: one
    after the other, or together on an event loop.

    Args:
        listeners: The loaded listeners, each with a name of its own.
        slow_seconds: A listener's call that takes longer is logged; seconds.
    """

    def __init__(self, listeners: Sequence[Listener], slow_seconds: float) -> None:
        manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        manager.add_hookspecs(hookspecs)
        # pluggy calls first what was registered last.
        for listener in sorted(listeners, key=lambda listener: listener.name, reverse=True):
            manager.register(_StandIn(listener, slow_seconds), listener.name)
        self._callers = {event_type: getattr(manager.hook, event_type.hook_name) for event_type in EventType}

    def guards(self, event: Event) -> list[Guard]:
        """Give the guards of the implementations that this event is for, in the order of their calls."""
        guards: list[Guard] = self._callers[event.type](body=event.body, event=event)
        return guards


class _StandIn:
    """What pluggy sees of a listener."""

    def __init__(self, listener: Listener, slow_seconds: float) -> None:
        for number, implementation in enumerate(listener.implementations):
            setattr(self, f"implementation_{number}", _answer(listener, implementation, slow_seconds))


def _answer(listener: Listener, implementation: Implementation, slow_seconds: float) -> _Call:
    guard = Guard(
        listener=listener.name,
        event_type=implementation.event_type,
        function=implementation.function,
        arguments=implementation.arguments,
        slow_seconds=slow_seconds,
        secrets=listener.secrets,
    )
    wants = listener.wants

    @hookspecs.hookimpl(
        specname=implementation.event_type.hook_name,
        tryfirst=implementation.tryfirst,
        trylast=implementation.trylast,
    )
    def answer(body: object, event: Event) -> Guard | None:
        del body
        return guard if wants is None or wants(event) else None

    return answer
