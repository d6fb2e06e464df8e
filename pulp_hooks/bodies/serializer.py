"""Validation and serialization of bodies: from the host's arguments to the JSON that listeners receive."""

import json
import marshal
from collections.abc import Iterator, Mapping
from typing import Any, cast

from marshmallow import ValidationError

from pulp_hooks.bodies.reported import reported_value, truncated
from pulp_hooks.bodies.schemas import schema_of
from pulp_hooks.bodies.types import Body, JsonValue
from pulp_hooks.errors import BodyError, EventError, FieldError
from pulp_hooks.event_types import EventType
from pulp_hooks.text import clean_text, did_you_mean, printable, shortened_repr

MAX_BODY_BYTES = 2**20
"""Default size limit of a body as JSON in UTF-8."""

_LONGEST_NAME = 100
_PIECE = 2**16
_MANY = 1000

_REPORTS = ("details", "summary")
"""Fields truncated in a body over the size limit, in this order."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


class BodySerializer:
    """Validates and serializes bodies; thread-safe.

    Args:
        max_bytes: Size limit of a body as JSON in UTF-8. In a larger body `details` is truncated, then `summary` if
            that is not enough. `None` means no limit.
    """

    def __init__(self, max_bytes: int | None = MAX_BODY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._schemas = {event_type: schema_of(event_type) for event_type in EventType}

    def serialize(self, event_type: EventType, body: Mapping[str, Any]) -> Body:
        """Return the body as listeners receive it, without containers shared with the argument.

        Raises:
            BodyError: A field is missing, unknown, or has a wrong type or value, or the body is over the size limit
                even with its reports truncated.
        """
        serialized = cast("Body", self._schemas[event_type].dump(self._load(event_type, body)))
        if self._max_bytes is not None:
            self._cap(event_type, serialized, self._max_bytes)
        return serialized

    def read(self, event_type: EventType, body: object) -> Body:
        """Return the body of an event that another release may have written. Unknown fields are kept.

        Raises:
            BodyError: A known field is missing, or has a wrong type or value.
        """
        if not isinstance(body, dict):
            return self.serialize(event_type, cast("Any", body))
        known = self._schemas[event_type].fields
        unknown = {clean_text(name): reported_value(value) for name, value in body.items() if name not in known}
        read = self.serialize(event_type, {name: value for name, value in body.items() if name in known})
        return cast("Body", {**unknown, **read})

    def serialize_call_report(self, call_report: Mapping[str, Any] | None) -> dict[str, JsonValue] | None:
        """Return the report of a task, converted by `reported_value` and truncated if over the size limit.

        Raises:
            EventError: The report is not an object or null.
        """
        report = reported_object(call_report)
        if report is not None and self._max_bytes is not None and (size := _size(report)) > self._max_bytes:
            return truncated(report, size=size)
        return report

    def validate(self, event_type: EventType, body: Mapping[str, Any], *, partial: bool = False) -> None:
        """Check a body. With `partial`, fields may be missing.

        Raises:
            BodyError: As in `serialize`.
        """
        if partial:
            self._load(event_type, body, partial=True)
        else:
            self.serialize(event_type, body)

    def _load(self, event_type: EventType, body: Mapping[str, Any], *, partial: bool = False) -> object:
        schema = self._schemas[event_type]
        try:
            # `False` would be as slow as `True`: marshmallow passes both on to every field.
            return schema.load(body, partial=partial or None)
        except ValidationError as error:
            raise BodyError(event_type, list(_field_errors(error, body, list(schema.fields)))) from None

    @staticmethod
    def _cap(event_type: EventType, body: Body, max_bytes: int) -> None:
        # JSON takes at most six bytes for one of marshal's, as for a control character or `false,` in a list.
        if len(marshal.dumps(body, 2)) * 6 <= max_bytes:
            return
        size = _size(body)
        for report in _REPORTS:
            if size > max_bytes and report in body:
                whole = _size(body[report])
                mark = truncated(body[report], size=whole)
                if (saved := whole - _size(mark)) > 0:
                    body[report] = mark
                    size -= saved
        if size > max_bytes:
            rule = f"must be at most {max_bytes} bytes as JSON, but has {size} with its reports truncated"
            raise BodyError(event_type, [FieldError("the body", "", rule)])


def reported_object(call_report: object) -> dict[str, JsonValue] | None:
    """Return the report of a task, converted by `reported_value`.

    Raises:
        EventError: The report is not an object or null.
    """
    if call_report is None:
        return None
    if not isinstance(call_report, Mapping):
        raise EventError(f"call_report must be an object or null, got {shortened_repr(call_report)}")
    return cast("dict[str, JsonValue]", reported_value(call_report))


def _size(value: object) -> int:
    # Encode in pieces: a single emoji would make the whole text take four bytes a character.
    if isinstance(value, str) and len(value) > _PIECE:
        return 2 + sum(_size(value[at : at + _PIECE]) - 2 for at in range(0, len(value), _PIECE))
    if isinstance(value, dict | list) and len(value) > _MANY:
        # Each part adds two brackets and lacks the comma before the next part.
        parts = [_size(part) for part in _parts(value)]
        return sum(parts) - (len(parts) - 1)
    if isinstance(value, dict | list) and value and len(marshal.dumps(value, 2)) > _PIECE:
        names = sum(_size(name) + 1 for name in value) if isinstance(value, dict) else 0
        items = value.values() if isinstance(value, dict) else value
        return 2 + len(value) - 1 + names + sum(map(_size, items))
    text = _encode(value)
    return len(text) if text.isascii() else len(text.encode())


def _parts(value: dict[str, Any] | list[Any]) -> Iterator[object]:
    entries = list(value.items()) if isinstance(value, dict) else value
    for at in range(0, len(entries), _MANY):
        part = entries[at : at + _MANY]
        yield dict(part) if isinstance(value, dict) else part


def _field_errors(error: ValidationError, body: object, known: list[str]) -> Iterator[FieldError]:
    if not isinstance(body, Mapping):
        yield FieldError("the body", shortened_repr(body), "must be an object with string keys")
        return
    messages = cast("dict[str, Any]", error.messages)
    for name in [*known, *(name for name in body if name not in known)]:
        found = messages.get(name)
        if isinstance(found, dict):
            for position, rules in cast("dict[int, list[str]]", found).items():
                yield FieldError(f"{name}[{position}]", shortened_repr(body[name][position]), "; ".join(rules))
        elif found:
            candidates = [] if name in known else known
            suggestion = did_you_mean(str(name)[:_LONGEST_NAME], candidates, form=" (did you mean {!r}?)")
            value = shortened_repr(body[name]) if name in body else ""
            yield FieldError(_shown(name), value, "; ".join(found) + suggestion)


def _shown(name: object) -> str:
    text = printable(clean_text(name[:_LONGEST_NAME])) if isinstance(name, str) else shortened_repr(name)
    return f"{text}..." if isinstance(name, str) and len(name) > _LONGEST_NAME else text
