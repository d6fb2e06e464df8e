"""The registry: the listeners, and the order in which pluggy calls them."""

from collections.abc import Callable, Sequence
from operator import attrgetter

import pluggy

from pulp_hooks import hookspecs
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.plugins.inspection import Implementation
from pulp_hooks.plugins.listeners import Listener

_Call = Callable[[object, Event], Guard | None]


class Registry:
    """The loaded listeners, in the order in which pluggy calls them.

    pluggy calls a stand-in for each implementation, which returns the guard of the real one. So pluggy decides the
    order (by name, `tryfirst` and `trylast`), and the caller decides how the guards run: in turn or concurrently.

    Attributes:
        names: Names of the listeners, in order.
    """

    def __init__(self, listeners: Sequence[Listener], slow_seconds: float) -> None:
        listeners = sorted(listeners, key=attrgetter("name"))
        self.names = tuple(listener.name for listener in listeners)
        manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        manager.add_hookspecs(hookspecs)
        # pluggy calls the last registered first, except among those with `trylast`.
        in_order = [(listener, found) for listener in listeners for found in listener.implementations]
        others = [(listener, found) for listener, found in in_order if not found.trylast]
        last = [(listener, found) for listener, found in in_order if found.trylast]
        for number, (listener, found) in enumerate([*reversed(others), *last]):
            manager.register(_StandIn(_answer(listener, found, slow_seconds)), f"{listener.name}/{number}")
        self._callers = {event_type: getattr(manager.hook, event_type.hook_name) for event_type in EventType}

    def guards(self, event: Event) -> list[Guard]:
        """Return the guards for an event, in call order; listeners whose filters reject it have none."""
        guards: list[Guard] = self._callers[event.type](body=event.body, event=event)
        return guards


class _StandIn:
    """What pluggy registers for an implementation. Compared by identity, because equal plugins must all be called."""

    def __init__(self, answer: _Call) -> None:
        self.answer = answer


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
        specname=implementation.event_type.hook_name, tryfirst=implementation.tryfirst, trylast=implementation.trylast
    )
    def answer(body: object, event: Event) -> Guard | None:
        del body
        return guard if wants is None or wants(event) else None

    return answer
