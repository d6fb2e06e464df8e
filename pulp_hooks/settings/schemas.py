"""Rules for the values of `pulp-hooks.toml`, as marshmallow fields."""

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields
from marshmallow.validate import Length, OneOf, Range, Regexp, Validator

from pulp_hooks.errors import UnknownEventTypeError
from pulp_hooks.event_types import EventType
from pulp_hooks.settings.references import is_reference

ALL = "*"

NAME = Regexp(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\Z", error="must be letters, digits, '.', '_' and '-', a letter or digit first"
)
"""Rule for names of listeners, which are arguments of commands and part of the ids of deliveries."""

AT_LEAST_ONE = Length(min=1, error="must not be empty; remove the key to receive all")
_TEXT: dict[str, Any] = {"required": "is missing"}
_NUMBER: dict[str, Any] = {
    "invalid": "must be a whole number",
    "special": "must be finite",
    "too_large": "is too large",
}


class Table(Schema):
    """Base of the schemas of all tables."""

    class Meta:
        """Refuse unknown keys, and keep the schemas out of marshmallow's global registry."""

        register = False
        unknown = RAISE

    error_messages = {"unknown": "is not a key of this table", "type": "must be a table"}  # noqa: RUF012 - as inherited


class EventTypes(fields.Field[tuple[EventType, ...]]):
    """Event types by any of their names; `"*"`, alone or in the list, means all."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> tuple[EventType, ...]:
        del attr, data, kwargs
        names = [value] if value == ALL else value
        if not isinstance(names, list) or not names:
            raise ValidationError('must be a list of event types, or "*" for all')
        try:
            named = [event_type for name in names for event_type in (EventType if name == ALL else [EventType(name)])]
        except UnknownEventTypeError as error:
            raise ValidationError(str(error)) from None
        return tuple(event_type for event_type in EventType if event_type in named)


def _is_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValidationError("must be a string")
    return value


def _is_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValidationError("must be a number")
    return value


def _is_switch(value: object) -> object:
    if not isinstance(value, bool):
        raise ValidationError("must be true or false")
    return value


def text(*validate: Validator, required: bool = False) -> fields.String:
    """Return a field for a string."""
    return fields.String(required=required, pre_load=_is_text, validate=validate, error_messages=_TEXT)


def word(*words: str) -> fields.String:
    """Return a field for one of these words."""
    *others, last = words
    listed = f"one of {', '.join(words)}" if len(others) > 1 else f"{others[0]} or {last}"
    return text(OneOf(words, error=f"must be {listed}"))


def texts(*validate: Validator, item: fields.String | None = None, what: str = "strings") -> fields.List[str]:
    """Return a field for a list of strings."""
    return fields.List(item or text(), validate=validate, error_messages={"invalid": f"must be a list of {what}"})


def number(*validate: Validator) -> fields.Float:
    """Return a field for a number."""
    return fields.Float(pre_load=_is_number, validate=validate, error_messages=_NUMBER)


def whole_number(least: int) -> fields.Integer:
    """Return a field for an integer of at least this."""
    limit = Range(min=least, error=f"must be at least {least}")
    return fields.Integer(strict=True, pre_load=_is_number, validate=limit, error_messages=_NUMBER)


def switch() -> fields.Boolean:
    """Return a field for true or false."""
    return fields.Boolean(pre_load=_is_switch)


def _at_most(most: float, meaning: str) -> Range:
    return Range(max=most, error=f"must be at most {most} ({meaning})")


POSITIVE = Range(min=0, min_inclusive=False, error="must be more than 0")
AT_LEAST_A_SECOND = Range(min=1, error="must be at least 1")
NOT_NEGATIVE = Range(min=0, error="must not be negative")

# Above these limits times overflow dates, pauses overflow the waits of threads, and rates round to nothing.
YEAR_OF_SECONDS = _at_most(31_622_400, "366 days")
YEAR_OF_HOURS = _at_most(8784, "366 days")
DAY_OF_SECONDS = _at_most(86_400, "a day")
CENTURY_OF_DAYS = _at_most(36_525, "a hundred years")
RATE = Range(min=0.00001, max=1e6, error="must be from 0.00001 (about one a day) to 1000000")
NOT_EMPTY = Length(min=1, error="must not be empty")

RETRIES = fields.List(
    number(NOT_NEGATIVE, YEAR_OF_SECONDS),
    validate=Length(max=50, error="must have at most 50 numbers"),
    error_messages={"invalid": "must be a list of numbers"},
)
"""Rule for the pauses between attempts."""

DAYS = number(POSITIVE, CENTURY_OF_DAYS)
"""Rule for a retention."""


class Secret(fields.Field[Any]):
    """A string, or a reference to an environment variable or a file that holds it."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> object:
        del attr, data, kwargs
        if isinstance(value, str) or is_reference(value):
            return value
        raise ValidationError('must be { env = "NAME" } or { file = "path" }')


SERVER_URL = Regexp(
    r"https?://[^\s/?#@]+(/[^\s?#]*)?\Z",
    error="must be an http:// or https:// URL without user name, password, query and fragment",
)
"""Rule for the URL of a server."""

LABELS = fields.Dict(keys=fields.String(), values=text(), error_messages={"invalid": "must be a table of strings"})
"""Rule for labels and their values."""

RESULT_NAMES = ("success", "failed", "error", "canceled", "skipped")

RESULTS = texts(AT_LEAST_ONE, item=word(*RESULT_NAMES), what="results")
"""Rule for results of finished events."""

CONFIG = fields.Dict(keys=fields.String(), error_messages={"invalid": "must be a table"})
"""Rule for the configuration of a notifier, which its own schema checks."""
