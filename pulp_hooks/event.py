"""The event: a body in its envelope."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from pulp_hooks.errors import EventError, UnknownEventTypeError
from pulp_hooks.event_types import EventType
from pulp_hooks.text import clean_text, shortened_repr

if TYPE_CHECKING:
    from pulp_hooks.bodies.types import Body, JsonValue


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event, as every listener receives it.

    Attributes:
        id: Identifier of the event, the same on every delivery: consumers recognize repetitions by it.
        type: The event type; as a string it is the type ID, `repo-sync-finished`.
        time: When the host fired the event, in UTC.
        source: URI of the host.
        body: The body, exactly as the specification shows it. Each listener has a copy of its own.
        call_report: The task in which the event happened; null outside a task.
        operation_id: Identifier of the sync or publish, the same on its started and its finished event; null where the
            host fires events without one.
        caused_by: The `operation_id` of the operation that caused this one; null where there is none.
    """

    id: str
    type: EventType
    time: datetime
    source: str
    body: "Body" = field(repr=False, hash=False)
    call_report: "dict[str, JsonValue] | None" = field(default=None, repr=False, hash=False)
    operation_id: str | None = None
    caused_by: str | None = None

    def to_dict(self) -> "dict[str, JsonValue]":
        """Return the event as a JSON object; it shares the body with this event."""
        return {
            "id": self.id,
            "type": self.type.value,
            "time": _utc(self.time).isoformat()[:-6] + "Z",
            "source": self.source,
            "body": self.body,
            "call_report": self.call_report,
            "operation_id": self.operation_id,
            "caused_by": self.caused_by,
        }

    def to_json(self) -> str:
        """Return the event as JSON (RFC 8259) on one line."""
        return _encode(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> "Event":
        """Read an event that `to_json` of this release, or of an older or newer one, wrote.

        Unknown members of the envelope are ignored, unknown fields of the body are kept, and everything else is
        validated.

        Raises:
            EventError: The text is not JSON, or a member of the envelope is missing or invalid.
            BodyError: A known field of the body is missing or invalid.
        """
        try:
            members = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise EventError(f"invalid event: not JSON ({error})") from error
        if not isinstance(members, dict):
            raise EventError(f"invalid event: must be a JSON object, got {type(members).__name__}")
        return _event_from(cast("dict[str, Any]", members))


def read_stored(content: str | bytes) -> Event:
    """Read an event from the journal: as `Event.from_json`, but without validation.

    Raises:
        ValueError: This release cannot read the event.
    """
    try:
        members = json.loads(content)
        known = {name: members[name] for name in _REQUIRED} | {name: members.get(name) for name in _NULLABLE}
        known["type"] = EventType(known["type"])
        known["time"] = datetime.fromisoformat(known["time"])
        return Event(**known)
    except (AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"unreadable event: {type(error).__name__}: {error}") from error


def check_id(value: str, what: str = "event_id") -> str:
    """Return an identifier of an event or operation.

    Raises:
        EventError: It is not 1 to 128 letters, digits, `_`, `-` or `:`, which fit into every header, key and path.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise EventError(
            f"invalid {what} {shortened_repr(value)}: use 1 to 128 letters, digits, '_', '-' or ':' (ASCII)"
        )
    return str.__str__(value)


def check_source(source: str) -> str:
    """Return the source.

    Raises:
        EventError: It is empty, contains blanks or control characters, or a user name or password.
    """
    authority = _AUTHORITY.match(source)
    if authority and "@" in authority[1]:
        raise EventError("source must not contain a user name or password: listeners see it")
    if not source or not source.isprintable() or " " in source:
        raise EventError(f"source {shortened_repr(source)} must be a URI: not empty, no blanks, no control characters")
    return source


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")

_AUTHORITY = re.compile(r"(?:[^/?#]*:)?//([^/?#]*)")
"""The part of a URI (RFC 3986, appendix B) that may hold a user name and a password."""

_REQUIRED = ("id", "type", "time", "source", "body", "call_report")

_NULLABLE = ("operation_id", "caused_by")
"""Members that events of older releases lack."""


def _event_from(members: dict[str, Any]) -> Event:
    from pulp_hooks.bodies.reported import reported_value  # noqa: PLC0415 - needed by readers of events only
    from pulp_hooks.bodies.serializer import (  # noqa: PLC0415 - marshmallow, which plugin authors must not pay for
        BodySerializer,
    )

    missing = [name for name in _REQUIRED if name not in members]
    if missing:
        raise EventError(f"invalid event: missing {', '.join(missing)}")
    known: dict[str, Any] = dict.fromkeys(_NULLABLE) | members
    for name in ("id", "type", "time", "source", *(name for name in _NULLABLE if known[name] is not None)):
        text = known[name]
        if not isinstance(text, str) or not text or clean_text(text) != text:
            raise EventError(f"invalid event: {name} must be a non-empty string in valid Unicode")
    call_report = known["call_report"]
    if call_report is not None and not isinstance(call_report, dict):
        raise EventError("invalid event: call_report must be an object or null")
    try:
        event_type = EventType(known["type"])
    except UnknownEventTypeError as error:
        raise EventError(f"invalid event: type {error}") from error
    return Event(
        id=known["id"],
        type=event_type,
        time=_time_from(known["time"]),
        source=check_source(known["source"]),
        body=BodySerializer(max_bytes=None).read(event_type, known["body"]),
        call_report=cast("dict[str, JsonValue] | None", reported_value(call_report)),
        operation_id=known["operation_id"],
        caused_by=known["caused_by"],
    )


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _time_from(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.utcoffset() is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise EventError(f"invalid event: time {shortened_repr(text)} is not ISO 8601") from error
    raise EventError(f"invalid event: time {shortened_repr(text)} has no time zone")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
