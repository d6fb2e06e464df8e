"""The event: a body in its envelope."""

import json
import re
from collections.abc import Mapping
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
        id: Identifier of the event; the same on every delivery, so that a consumer can tell a repetition.
        type: The event type; as a string it is the type ID, `repo-sync-finished`.
        time: When the host fired the event, in UTC.
        source: URI of the host.
        body: The body, exactly as the specification shows it. Each listener has a copy of its own.
        call_report: The task in which the event happened, or null outside of one.
    """

    id: str
    type: EventType
    time: datetime
    source: str
    body: "Body" = field(repr=False, hash=False)
    call_report: "dict[str, JsonValue] | None" = field(default=None, repr=False, hash=False)

    def to_dict(self) -> "dict[str, JsonValue]":
        """Give the event as an object that JSON can hold; it shares the body with this event."""
        return {
            "id": self.id,
            "type": self.type.value,
            "time": _utc(self.time).isoformat()[:-6] + "Z",
            "source": self.source,
            "body": self.body,
            "call_report": self.call_report,
        }

    def to_json(self) -> str:
        """Give the event as one line of JSON (RFC 8259) without line breaks in it."""
        return _encode(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> "Event":
        """Read what `to_json` wrote.

        Raises:
            EventError: This is no JSON, or the envelope has a wrong, missing or unknown member.
            BodyError: The body is not what its event type demands.
        """
        try:
            members = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise EventError(f"this is no event: it is no JSON ({error})") from error
        if not isinstance(members, dict):
            raise EventError(f"this is no event: it is a JSON {type(members).__name__}, not an object")
        return _event_from(cast("dict[str, Any]", members))

    @classmethod
    def from_stored(cls, text: str | bytes) -> "Event":
        """Read what `to_json` wrote and nobody else can have changed; unlike `from_json` this validates nothing.

        Raises:
            ValueError: This is not what `to_json` wrote.
        """
        try:
            members = json.loads(text)
            members["type"] = EventType(members["type"])
            members["time"] = datetime.fromisoformat(members["time"])
            return cls(**members)
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"this is no stored event: {type(error).__name__}: {error}") from error


def check_id(event_id: str) -> str:
    """Give an event's identifier back when it can be one.

    Raises:
        EventError: It is not 1 to 128 letters, digits, `_`, `-` or `:`, which fit into every header, key and path.
    """
    if not isinstance(event_id, str) or not _ID.fullmatch(event_id):
        raise EventError(
            f"the event's id {shortened_repr(event_id)} must be 1 to 128 letters, digits, '_', '-' or ':' (ASCII)"
        )
    return event_id


def check_source(source: str) -> str:
    """Give the source back when it can be one.

    Raises:
        EventError: It is empty, holds blanks or control characters, or a user name or password.
    """
    authority = _AUTHORITY.match(source)
    if authority and "@" in authority[1]:
        raise EventError("source must not hold a user name or password: listeners are shown it")
    if not source or not source.isprintable() or " " in source:
        raise EventError(f"source {shortened_repr(source)} must be a URI: not empty, no blanks, no control characters")
    return source


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")

_AUTHORITY = re.compile(r"(?:[^/?#]*:)?//([^/?#]*)")
"""The part of a URI (RFC 3986, appendix B) that may hold a user name and a password."""

_MEMBERS = ("id", "type", "time", "source", "body", "call_report")


def _event_from(members: Mapping[str, Any]) -> Event:
    from pulp_hooks.bodies.reported import reported_value  # noqa: PLC0415 - needed by readers of events only
    from pulp_hooks.bodies.serializer import (  # noqa: PLC0415 - marshmallow, which plugin authors must not pay for
        BodySerializer,
    )

    lacking = [name for name in _MEMBERS if name not in members]
    unknown = [shortened_repr(name).strip("'") for name in members if name not in _MEMBERS]
    for what, names in (("lacks", lacking), ("has the unknown", unknown)):
        if names:
            raise EventError(f"this is no event: it {what} {', '.join(names[:_MOST_SHOWN])}")
    for name in ("id", "type", "time", "source"):
        if not isinstance(members[name], str) or not members[name] or clean_text(members[name]) != members[name]:
            raise EventError(f"this is no event: its {name} must be text that is not empty, in valid Unicode")
    call_report = members["call_report"]
    if call_report is not None and not isinstance(call_report, dict):
        raise EventError("this is no event: its call_report must be an object or null")
    try:
        event_type = EventType(members["type"])
    except UnknownEventTypeError as error:
        raise EventError(f"this is no event: its type {error}") from error
    return Event(
        id=members["id"],
        type=event_type,
        time=_moment(members["time"]),
        source=check_source(members["source"]),
        body=BodySerializer(max_bytes=None).serialize(event_type, members["body"]),
        call_report=cast("dict[str, JsonValue] | None", reported_value(call_report)),
    )


_MOST_SHOWN = 10


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _moment(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.utcoffset() is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise EventError(f"this is no event: its time {shortened_repr(text)} is no moment in ISO 8601") from error
    raise EventError(f"this is no event: its time {shortened_repr(text)} has no time zone")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
