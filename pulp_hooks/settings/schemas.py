"""The marshmallow schemas of `pulp-hooks.toml`."""

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields
from marshmallow.validate import Length, OneOf, Range, Regexp

from pulp_hooks.errors import UnknownEventTypeError
from pulp_hooks.event_types import EventType

ALL = "*"

NAME = Regexp(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\Z", error="must be letters, digits, '.', '_' and '-', a letter or digit first"
)
"""Rule for names of listeners, which are arguments of commands and part of the ids of deliveries."""

_AT_LEAST_ONE = Length(min=1, error="must not be empty; remove the key to receive all")
_TEXT: dict[str, Any] = {"required": "is missing"}
_NUMBER: dict[str, Any] = {
    "invalid": "must be a whole number",
    "special": "must be finite",
    "too_large": "is too large",
}
_MOST_RETRIES = 50
RESULTS = ("success", "failed", "error", "canceled", "skipped")


class _Table(Schema):
    class Meta:
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


def _texts(**kwargs: Any) -> fields.List[str]:  # noqa: ANN401 - what marshmallow's field takes
    return fields.List(
        fields.String(pre_load=_is_text), error_messages={"invalid": "must be a list of strings"}, **kwargs
    )


def _number(**kwargs: Any) -> fields.Float:  # noqa: ANN401 - what marshmallow's field takes
    return fields.Float(pre_load=_is_number, error_messages=_NUMBER, **kwargs)


def _is_switch(value: object) -> object:
    if not isinstance(value, bool):
        raise ValidationError("must be true or false")
    return value


def _at_most(most: float, meaning: str) -> Range:
    return Range(max=most, error=f"must be at most {most} ({meaning})")


_POSITIVE = Range(min=0, min_inclusive=False, error="must be more than 0")
_NOT_NEGATIVE = Range(min=0, error="must not be negative")

# Above these limits times overflow dates, pauses overflow the waits of threads, and rates round to nothing.
_YEAR_OF_SECONDS = _at_most(31_622_400, "366 days")
_YEAR_OF_HOURS = _at_most(8784, "366 days")
_DAY_OF_SECONDS = _at_most(86_400, "a day")
_CENTURY_OF_DAYS = _at_most(36_525, "a hundred years")
_RATE = Range(min=0.00001, max=1e6, error="must be from 0.00001 (about one a day) to 1000000")


class PluginsTable(_Table):
    """`[plugins]`."""

    block = _texts()


class DispatchTable(_Table):
    """`[dispatch]`."""

    slow_seconds = _number(validate=_NOT_NEGATIVE)
    max_body_bytes = fields.Integer(
        strict=True,
        pre_load=_is_number,
        validate=Range(min=1024, error="must be at least 1024"),
        error_messages=_NUMBER,
    )


class JournalTable(_Table):
    """`[journal]`."""

    url = fields.String(
        required=True, pre_load=_is_text, validate=Length(min=1, error="must not be empty"), error_messages=_TEXT
    )
    schema = fields.String(pre_load=_is_text, validate=Length(min=1, error="must not be empty"), error_messages=_TEXT)
    synchronous = fields.String(pre_load=_is_text, validate=OneOf(("NORMAL", "FULL"), error="must be NORMAL or FULL"))
    busy_seconds = _number(validate=[_POSITIVE, _DAY_OF_SECONDS])
    on_error = fields.String(
        pre_load=_is_text, validate=OneOf(("raise", "dispatch"), error="must be raise or dispatch")
    )
    keep_delivered_days = _number(validate=[_POSITIVE, _CENTURY_OF_DAYS])
    keep_dead_days = _number(validate=[_POSITIVE, _CENTURY_OF_DAYS])


class DeliveryTable(_Table):
    """`[delivery]` without `[delivery.listeners]`, and each table of `[delivery.listeners]`."""

    timeout_seconds = _number(validate=[_POSITIVE, _YEAR_OF_SECONDS])
    retry_seconds = fields.List(
        _number(validate=[_NOT_NEGATIVE, _YEAR_OF_SECONDS]),
        validate=Length(max=_MOST_RETRIES, error=f"must have at most {_MOST_RETRIES} numbers"),
        error_messages={"invalid": "must be a list of numbers"},
    )
    disable_after_hours = _number(validate=[_POSITIVE, _YEAR_OF_HOURS])
    resume_per_second = _number(validate=_RATE)
    ordered = fields.Boolean(pre_load=_is_switch)
    global_concurrency = fields.Integer(
        strict=True, pre_load=_is_number, validate=Range(min=1, error="must be at least 1"), error_messages=_NUMBER
    )
    global_rate_per_second = _number(validate=_RATE)


class ListenerTable(_Table):
    """One `[[listeners]]` table."""

    name = fields.String(required=True, pre_load=_is_text, validate=NAME, error_messages=_TEXT)
    notifier = fields.String(required=True, pre_load=_is_text, error_messages=_TEXT)
    event_types = EventTypes()
    repo_ids = _texts(validate=_AT_LEAST_ONE)
    results = fields.List(
        fields.String(pre_load=_is_text, validate=OneOf(RESULTS, error=f"must be one of {', '.join(RESULTS)}")),
        validate=_AT_LEAST_ONE,
        error_messages={"invalid": "must be a list of results"},
    )
    config = fields.Dict(keys=fields.String(), error_messages={"invalid": "must be a table"})
