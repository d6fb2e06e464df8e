"""Events that are sent to one listener to test it, and marked as such."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.bodies.serializer import BodySerializer
from pulp_hooks.errors import PluginError
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.identifiers import new_id
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.text import did_you_mean

_REPOSITORY = "pulp-hooks-test"


def found_for_test(listeners: Sequence[Listener], name: str) -> Listener:
    """Return the listener of this name.

    Raises:
        PluginError: There is none, or it cannot be used.
    """
    named = [listener for listener in listeners if listener.name == name]
    usable = [listener for listener in named if listener.state is State.LOADED and listener.kind is not Kind.NOTIFIER]
    if usable:
        return usable[0]
    if named and named[0].kind is Kind.NOTIFIER:
        raise PluginError(f"{name!r} is a notifier; fix: name a listener that the settings make of it")
    if named:
        why = named[0].fault or f"it is {named[0].state}"
        # What is wrong with the settings names the listener.
        cause = why.replace(f"listener {name!r}: ", "")
        raise PluginError(f"listener {name!r} cannot be used: {cause}; fix: see `pulp-hooks check`")
    known = [listener.name for listener in listeners]
    hint = did_you_mean(name, known, "run `pulp-hooks listeners` for a list")
    raise PluginError(f"unknown listener {name!r}; {hint}")


def event_for_test(listener: Listener, event_type: EventType | None, source: str) -> Event:
    """Return an event to test a listener with, by default of the first type that it receives.

    Raises:
        PluginError: The listener does not receive this event type.
    """
    if event_type is None:
        event_type = next(one for one in EventType if one in listener.event_types)
    if event_type not in listener.event_types:
        received = ", ".join(one for one in EventType if one in listener.event_types)
        raise PluginError(f"listener {listener.name!r} does not receive {event_type}, but {received}")
    body = BodySerializer().serialize(event_type, {**EXAMPLES[event_type], "repo_id": _REPOSITORY})
    return Event(id=f"test-{new_id()}", type=event_type, time=datetime.now(UTC), source=source, body=body)
