"""Private copies of an event: a listener's changes stay its own."""

import marshal
from typing import TYPE_CHECKING, Any

from pulp_hooks.event import Event

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import Body


class Progress:
    """How far the firing of an event has got, for an operation that may have to fire it once more.

    Args:
        event_id: Its identifier; null for a new one.
        may_be_stored: Whether a journal may have the event already.

    Attributes:
        event_id: Its identifier; null for a new one.
        may_be_stored: Whether a journal may have the event already.
        original: What listeners are called with; null before that.
    """

    __slots__ = ("event_id", "may_be_stored", "original")

    def __init__(self, event_id: str | None, *, may_be_stored: bool) -> None:
        self.event_id = event_id
        self.may_be_stored = may_be_stored
        self.original: Original | None = None

    @property
    def has_reached_listeners(self) -> bool:
        """Whether a listener has, or may have, been called."""
        return self.original is not None and self.original.is_handed_out


class Original:
    """An event as the host fired it; makes a private copy for each listener.

    Only containers need copying. They are kept as bytes: immutable, and faster to load than objects are to copy.

    Args:
        event: The event.

    Attributes:
        event: The event.
        is_handed_out: Whether a listener has, or may have, been called with it.
    """

    __slots__ = ("_body", "_call_report", "_containers", "event", "is_handed_out")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.is_handed_out = False
        self._body = event.body
        self._containers = _frozen({name: value for name, value in event.body.items() if type(value) in _CONTAINERS})
        self._call_report = None if event.call_report is None else _frozen(event.call_report)

    def body(self) -> "Body":
        """Return a copy of the body."""
        body: Body = self._body | _thawed(self._containers)
        self.is_handed_out = True
        return body

    def copy(self) -> Event:
        """Return a copy of the event."""
        # Measured: 0.2 µs for each call of a listener, instead of 1.5 µs with `dataclasses.replace`.
        members = vars(self.event).copy()
        members["body"] = self._body | _thawed(self._containers)
        if self._call_report is not None:
            members["call_report"] = _thawed(self._call_report)
        event = object.__new__(Event)
        _set_members(event, members)
        self.is_handed_out = True
        return event


_CONTAINERS = (dict, list)

_set_members = Event.__dict__["__dict__"].__set__
"""Sets all attributes of a frozen event at once."""


def _frozen(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return marshal.dumps(value, 2)


def _thawed(octets: bytes) -> Any:  # noqa: ANN401 - any JSON value
    # Safe: this process wrote the bytes; they are not input.
    return marshal.loads(octets)  # noqa: S302
