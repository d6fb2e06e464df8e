"""Private copies of an event: a listener's changes stay its own."""

import marshal
from typing import TYPE_CHECKING, Any, Self

from pulp_hooks.event import Event

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import Body


class TrackedId(str):
    """The identifier of an event that an operation may have to fire once more; `fire` notes on it how far that got."""

    __slots__ = ("may_be_stored", "original")

    may_be_stored: bool
    original: "Original | None"

    def __new__(cls, event_id: str, *, may_be_stored: bool) -> Self:
        """Return the identifier of an event that has not been fired yet."""
        self = super().__new__(cls, event_id)
        self.may_be_stored, self.original = may_be_stored, None
        return self

    @property
    def has_reached_listeners(self) -> bool:
        """Whether a listener has, or may have, been called."""
        return self.original is not None and self.original.is_handed_out


class Original:
    """An event as the host fired it; makes a private copy for each listener.

    Only containers need copying. They are kept as bytes: immutable, and faster to load than objects are to copy.

    Attributes:
        event: The event.
        is_handed_out: Whether a listener has, or may have, been called with it.
    """

    __slots__ = ("_body", "_call_report", "_containers", "event", "is_handed_out")

    def __init__(self, event: Event, event_id: str | None = None) -> None:
        self.event = event
        self.is_handed_out = False
        self._body = event.body
        self._containers = _frozen({name: value for name, value in event.body.items() if type(value) in _CONTAINERS})
        self._call_report = None if event.call_report is None else _frozen(event.call_report)
        if isinstance(event_id, TrackedId):
            event_id.original = self

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
