"""Conversion of the reports of importers and distributors (`summary`, `details`) to JSON values.

An unusual value in a report must never cost a finished event, so nothing here raises: see `reported_value`.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import count, islice
from pathlib import PurePath
from typing import Any, TypeAlias, cast
from uuid import UUID

from pulp_hooks.bodies.types import JsonValue
from pulp_hooks.signals import is_interruption
from pulp_hooks.text import clean_text, shortened_repr

MAX_DEPTH = 64
"""Maximum nesting of containers. Deeper ones become a marked `repr`."""

MAX_VALUES = 2**20
"""Maximum number of values in a report. A report with more is truncated."""

_SMALL = 2**63
_SMALL_DEPTH, _SMALL_LENGTH = 4, 31
"""A report within this depth and these container lengths has fewer than `MAX_VALUES` values."""

_CONTAINERS = (dict, list)
_MAX_BITS = 1024
_MARKS = ("repr", "base64")


def reported_value(value: object, max_values: int = MAX_VALUES) -> JsonValue:
    """Convert a report to a JSON value that shares no container with it.

    - `None`, booleans, strings and finite numbers stay. `NaN` and infinities (of `Decimal` too) become null.
    - Mappings become objects. Keys are converted by the same rules, then written as in JSON (`None` is `"null"`, `1`
      is `"1"`); a key that is still not a string becomes a shortened `repr`. Duplicate keys get the suffix `_`, `__`,
      `_3` and so on.
    - Lists, tuples and named tuples become arrays. Sets become arrays, sorted by JSON text.
    - Dates and times become ISO 8601 strings, durations become seconds, `UUID`, `Decimal` and paths become strings.
    - Bytes become a string if they are UTF-8, else `{"base64": "..."}`.
    - Enum members become their values, and dataclass instances become objects of their fields.
    - Lone surrogates in strings become U+FFFD.
    - A container inside itself or deeper than `MAX_DEPTH`, an integer over 1024 bits and any other object become a
      marked and shortened `repr`: `{"repr": "..."}`.
    - A report of more than `max_values` values is truncated, see `truncated`.
    """
    try:
        return _copied(value, _SMALL_DEPTH)
    except _OddValueError:
        pass
    try:
        return _Conversion(max_values).convert(value, MAX_DEPTH)
    except _TooManyValuesError:
        return truncated(value, size=None)


def truncated(value: object, *, size: int | None) -> dict[str, JsonValue]:
    """Return the replacement for a report that is too large.

    Args:
        value: The report.
        size: Its size as JSON in bytes, or `None` if it was not converted.

    Returns:
        `{"truncated": true, "bytes": size, "start": "..."}`, where `start` is a shortened `repr`.
    """
    return {"truncated": True, "bytes": size, "start": shortened_repr(value)}


class _OddValueError(Exception):
    """The report has a value that has to be converted."""


def _copied(value: Any, depth: int) -> JsonValue:  # noqa: ANN401 - whatever was reported
    """Return a copy of a small report of plain values. Most reports are, and `_Conversion` takes three times as long.

    Raises:
        _OddValueError: The report is larger, or has a value that is not plain.
    """
    kind = type(value)
    if value is None or kind is bool or (kind is str and value.isascii()) or (kind is int and -_SMALL < value < _SMALL):
        return cast("JsonValue", value)
    if kind is float and math.isfinite(value):
        return cast("JsonValue", value)
    if kind not in _CONTAINERS or depth == 0 or len(value) > _SMALL_LENGTH:
        raise _OddValueError
    # Copying first is atomic: another thread may still be adding to the report.
    value = value.copy()
    if kind is list:
        return [_copied(item, depth - 1) for item in value]
    if not all(map(_is_plain_name, value)):
        raise _OddValueError
    return {name: _copied(item, depth - 1) for name, item in value.items()}


class _TooManyValuesError(BaseException):
    """The report has too many values. Not an `Exception`, which foreign code on the stack could catch."""


class _Conversion:
    """One conversion: counts the values and tracks the open containers."""

    def __init__(self, max_values: int) -> None:
        self._left = max_values
        self._open: set[int] = set()

    def convert(self, value: object, depth: int) -> JsonValue:
        self._left -= 1
        if self._left < 0:
            raise _TooManyValuesError
        if value is None or value is True or value is False or (type(value) is str and value.isascii()):
            return value
        try:
            rule = _RULES.get(type(value)) or _rule_for(value)
            converted = rule(value, self._left)
            if not isinstance(converted, _Parts):
                return converted
        except _TooManyValuesError:
            raise
        except BaseException as error:
            # Foreign properties, iterators and time zones may raise anything.
            if is_interruption(error):
                raise
            return _marked_repr(value)
        if id(value) in self._open or (depth == 0 and not converted.single and not _is_mark(value)):
            return _marked_repr(value)
        self._open.add(id(value))
        try:
            return self._content(converted, depth)
        finally:
            self._open.discard(id(value))

    def _content(self, parts: "_Parts", depth: int) -> JsonValue:
        if parts.single:
            return self.convert(parts.values[0], depth)
        converted = [self.convert(value, depth - 1) for value in parts.values]
        if parts.names is not None:
            return dict(zip(parts.names, converted, strict=True))
        # A set has no order, but its report must be the same in every run.
        return sorted(converted, key=json.dumps) if parts.unordered and len(converted) > 1 else converted


@dataclasses.dataclass(slots=True)
class _Parts:
    """The unconverted contents of a container."""

    values: list[Any]
    names: list[str] | None = None
    unordered: bool = False
    single: bool = False


_Rule: TypeAlias = "Callable[[Any, int], JsonValue | _Parts]"


def _marked_repr(value: object, _limit: int = 0) -> dict[str, JsonValue]:
    return {"repr": shortened_repr(value)}


def _is_mark(value: object) -> bool:
    """Return whether a value is the result of an earlier conversion, which must not change again."""
    return type(value) is dict and len(value) == 1 and any(type(value.get(mark)) is str for mark in _MARKS)


def _limited(values: Iterable[Any], limit: int) -> list[Any]:
    """Return the values as a list. Iterators may be endless."""
    found = list(islice(values, limit + 1))
    if len(found) > limit:
        raise _TooManyValuesError
    return found


def _items_of(value: Mapping[object, object], limit: int) -> _Parts:
    if type(value) is dict:
        # Copying first is atomic: another thread may still be adding to the report.
        value = value.copy()
        if all(map(_is_plain_name, value)):
            return _Parts(list(value.values()), list(value))
    items = _limited(value.items(), limit)
    taken: set[str] = set()
    numbers: dict[str, count[int]] = {}
    names: list[str] = []
    for key, _ in items:
        name = base = clean_text(key) if type(key) is str else _key(key)
        while name in taken:
            number = next(numbers.setdefault(base, count(1)))
            name = base + ("_" * number if number <= 2 else f"_{number}")  # noqa: PLR2004 - as the documentation says
        taken.add(name)
        names.append(name)
    return _Parts([item for _, item in items], names)


def _is_plain_name(key: object) -> bool:
    return type(key) is str and key.isascii()


def _key(key: object) -> str:
    try:
        rule = _RULES.get(type(key)) or _rule_for(key)
        converted = None if key is None else key if isinstance(key, bool) else rule(key, 1)
    except BaseException as error:
        if is_interruption(error):
            raise
        return shortened_repr(key)
    if isinstance(converted, _Parts) and converted.single:
        return _key(converted.values[0])
    if isinstance(converted, str):
        return converted
    return shortened_repr(key) if isinstance(converted, _Parts | dict | list) else json.dumps(converted)


def _fields_of(value: Any, _limit: int) -> _Parts:  # noqa: ANN401 - an instance of any dataclass
    names = [field.name for field in dataclasses.fields(value)]
    return _Parts([getattr(value, name) for name in names], names)


def _elements_of(value: Iterable[object], limit: int) -> _Parts:
    return _Parts(_limited(value, limit))


def _members_of(value: AbstractSet[object], limit: int) -> _Parts:
    return _Parts(_limited(value.copy() if type(value) is set else value, limit), unordered=True)


def _integer(value: int, _limit: int) -> JsonValue:
    # Python refuses to format and to parse integers of many decimal digits.
    return int.__int__(value) if int.bit_length(value) <= _MAX_BITS else _marked_repr(value)


def _fraction(value: float, _limit: int) -> JsonValue:
    plain = float.__float__(value)
    return plain if math.isfinite(plain) else None


def _octets(value: bytes | bytearray | memoryview, _limit: int) -> JsonValue:
    octets = bytes(value)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(octets).decode()}


# Call the methods of the types instead of the value's own, which a subclass may override.
_RULES: dict[type, _Rule] = {
    # Enumerations come first, because their members may also be strings or integers.
    Enum: lambda value, _: _Parts([value.value], single=True),
    str: lambda value, _: clean_text(value),
    int: _integer,
    float: _fraction,
    dict: _items_of,
    list: _elements_of,
    tuple: _elements_of,
    Decimal: lambda value, _: Decimal.__str__(value) if Decimal.is_finite(value) else None,
    datetime: lambda value, _: datetime.isoformat(value),
    date: lambda value, _: date.isoformat(value),
    time: lambda value, _: time.isoformat(value),
    timedelta: lambda value, _: timedelta.total_seconds(value),
    UUID: lambda value, _: UUID.__str__(value),
    PurePath: lambda value, _: clean_text(PurePath.__str__(value)),
    bytes: _octets,
    bytearray: _octets,
    memoryview: _octets,
    AbstractSet: _members_of,
    Mapping: _items_of,
}


def _rule_for(value: object) -> _Rule:
    for kind, rule in _RULES.items():
        if isinstance(value, kind):
            return rule
    return _fields_of if dataclasses.is_dataclass(value) and not isinstance(value, type) else _marked_repr
