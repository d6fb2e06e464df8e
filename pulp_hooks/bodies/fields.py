"""Fields of the bodies: marshmallow's own, with a check of each value before it is coerced.

On load, marshmallow accepts bytes as a string, `True` as 1 and a set as a list. On dump, it checks nothing.

Most values need no coercion: the `PLAIN` function in a field's metadata recognizes them.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import Length, OneOf, Range

from pulp_hooks.bodies.reported import reported_value
from pulp_hooks.identifiers import new_id
from pulp_hooks.signals import raised_by_signal_handler
from pulp_hooks.text import clean_text

PLAIN = "plain"
"""Metadata key of a function that returns whether loading a value would return the value unchanged."""

_OWN: dict[str, Any] = {"error_messages": {"required": "is missing", "null": "must not be null"}}
_MAX_COUNT = 2**63 - 1


class Instant(fields.DateTime):
    """A time: loads an aware `datetime` or an ISO 8601 string with an offset, dumps `2012-07-06T15:49:11Z`.

    Fractions of a second are cut off. Times without a time zone are ambiguous and are refused.
    """

    def __init__(self) -> None:
        super().__init__(required=True, metadata={PLAIN: _is_whole_utc}, **_OWN)

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> datetime:
        del attr, data, kwargs
        try:
            time = datetime.fromisoformat(value) if isinstance(value, str) else value
            if isinstance(time, datetime) and time.utcoffset() is not None:
                return (time if time.tzinfo is UTC else time.astimezone(UTC)).replace(microsecond=0)
        except Exception as error:
            # A foreign time zone may raise anything.
            if raised_by_signal_handler(error):
                raise
            raise ValidationError("must be an ISO 8601 time in the years 1 to 9999") from error
        if isinstance(time, datetime):
            raise ValidationError("must have a time zone")
        raise ValidationError("must be an aware datetime or an ISO 8601 string")

    def _serialize(self, value: datetime | None, attr: str | None, obj: object, **kwargs: object) -> str | None:
        del attr, obj, kwargs
        return None if value is None else value.isoformat()[:-6] + "Z"


def identifier() -> fields.String:
    """Return a field for a name: a non-empty string of valid Unicode."""
    return fields.String(
        required=True,
        pre_load=_unicode,
        validate=Length(min=1, error="must not be empty"),
        metadata={PLAIN: _is_name},
        **_OWN,
    )


def result_id() -> fields.String:
    """Return a field for the identifier of a result. It is generated if the host passes none."""
    return fields.String(
        load_default=new_id,
        allow_none=True,
        pre_load=lambda value: new_id() if value is None else _unicode(value),
        validate=Length(min=1, error="must not be empty"),
        metadata={PLAIN: _is_name},
    )


def constant(value: str) -> fields.String:
    """Return an optional field that has the same value in every body."""
    rule = f"must be {value!r}"
    return fields.String(
        load_default=value,
        pre_load=_text,
        validate=OneOf([value], error=rule),
        metadata={PLAIN: _is_one_of(value)},
        **_OWN,
    )


def choice(*words: str) -> fields.String:
    """Return a field for one of these words."""
    rule = f"must be one of {', '.join(words)}"
    return fields.String(
        required=True,
        pre_load=_text,
        validate=OneOf(words, error=rule),
        metadata={PLAIN: _is_one_of(*words)},
        **_OWN,
    )


def text() -> fields.String:
    """Return a field for free text or null. Lone surrogates, as in undecodable file names, become U+FFFD."""
    return fields.String(required=True, allow_none=True, pre_load=_nullable(_clean), metadata={PLAIN: _is_text}, **_OWN)


def text_list() -> fields.List[str]:
    """Return a field for a list of free texts, or null."""
    line = fields.String(pre_load=_clean, **_OWN)
    return fields.List(
        line, required=True, allow_none=True, pre_load=_nullable(_list), metadata={PLAIN: _is_null}, **_OWN
    )


def count() -> fields.Integer:
    """Return a field for an integer of at least 0, or null."""
    limits = Range(min=0, max=_MAX_COUNT, error="must be from 0 to 2 ** 63 - 1")
    return fields.Integer(
        strict=True,
        required=True,
        allow_none=True,
        pre_load=_nullable(_whole),
        validate=limits,
        metadata={PLAIN: _is_count},
        **_OWN,
    )


def reported() -> fields.Raw:
    """Return a field for a report of an importer or distributor. It accepts any value, see `reported_value`."""
    return fields.Raw(required=True, allow_none=True, pre_load=reported_value, metadata={PLAIN: _is_null}, **_OWN)


def _is_null(value: object) -> bool:
    return value is None


def _is_name(value: object) -> bool:
    return type(value) is str and value != "" and value.isascii()


def _is_text(value: object) -> bool:
    return value is None or (type(value) is str and value.isascii())


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value <= _MAX_COUNT)


def _is_whole_utc(value: object) -> bool:
    return type(value) is datetime and value.tzinfo is UTC and not value.microsecond


def _is_one_of(*words: str) -> Callable[[object], bool]:
    return lambda value: type(value) is str and value in words


def _nullable(check: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else check(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValidationError("must be a string")
    # `str()` of a member of a string enumeration would return its name instead of its value.
    return str.__str__(value)


def _unicode(value: object) -> str:
    name = _text(value)
    if clean_text(name) != name:
        raise ValidationError("must be valid Unicode, without lone surrogates")
    return name


def _clean(value: object) -> str:
    return clean_text(_text(value))


def _list(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise ValidationError("must be a list of strings")
    return list(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValidationError("must be an integer")
    return int(value)
