"""What importers and distributors report (`summary`, `details`), turned into JSON values whatever it is.

A finished event must never be lost for an odd value in a report, so nothing here raises: see `reported_value`.
"""

import base64
import dataclasses
import json
import math
import reprlib
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

from pulp_hooks.bodies.types import JsonValue

MAX_DEPTH = 64
"""How deep containers may lie in each other; what lies deeper becomes a marked `repr`."""

_MAX_BITS = 1024

_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxother, _repr.maxstring, _repr.maxlong = 3, 200, 200, 80


MAX_VALUES = 2**20
"""How many values a report may hold; one with more is truncated."""


def reported_value(value: object) -> JsonValue:
    """Turn what was reported into a JSON value that shares no container with it.

    - `None`, booleans, strings and finite numbers stay; `NaN` and infinities (of `Decimal` too) become null.
    - Mappings become objects. Their keys become strings by the same rules, then as JSON writes them (`None` is
      `"null"`, `1` is `"1"`); a key that is taken already gets `_` behind it.
    - Lists, tuples and named tuples become arrays; sets become arrays in the order of their JSON text.
    - Dates and times become ISO 8601 text, durations become seconds, `UUID`, `Decimal` and paths become strings.
    - Bytes become text where they are UTF-8, else `{"base64": "..."}`.
    - Enum members become their values, dataclass instances objects of their fields.
    - Lone surrogates in text are replaced by U+FFFD.
    - A container inside itself, one deeper than `MAX_DEPTH`, an integer over 1024 bits and any other object become a
      marked and shortened `repr`: `{"repr": "..."}`.
    - A report of more than `MAX_VALUES` values is truncated, see `truncated`.
    """
    try:
        return _Conversion(MAX_VALUES).convert(value, MAX_DEPTH)
    except _TooManyValuesError:
        return truncated(value, size=None)


def truncated(value: object, *, size: int | None) -> dict[str, JsonValue]:
    """Give what stands in place of a report that is too large.

    Args:
        value: The report.
        size: Its size as JSON in bytes, or null where it was not even converted.

    Returns:
        `{"truncated": true, "bytes": size, "start": "..."}`, where `start` is a shortened `repr`.
    """
    return {"truncated": True, "bytes": size, "start": shortened_repr(value)}


def clean_text(text: str) -> str:
    """Give the text as a plain `str` that UTF-8 can carry: lone surrogates are replaced by U+FFFD."""
    if text.isascii():
        return str(text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def marked_repr(value: object) -> dict[str, JsonValue]:
    """Give `{"repr": "..."}`, which stands for a value that JSON cannot hold."""
    return {"repr": shortened_repr(value)}


def shortened_repr(value: object) -> str:
    """Give a `repr` short enough for a message, or the type's name where `repr` raises."""
    try:
        return clean_text(_repr.repr(value))
    except Exception:  # noqa: BLE001 - a foreign __repr__ may raise anything
        return f"<{type(value).__name__}>"


class _TooManyValuesError(Exception):
    """The report holds more values than it may."""


class _Conversion:
    """One conversion: counts the values, and knows which containers are open."""

    def __init__(self, max_values: int) -> None:
        self._left = max_values
        self._open: set[int] = set()

    def convert(self, value: object, depth: int) -> JsonValue:
        self._left -= 1
        if self._left < 0:
            raise _TooManyValuesError
        try:
            if value is None or value is True or value is False:
                return value
            rule = _RULES.get(type(value)) or _rule_for(value)
            if rule is None:
                return marked_repr(value)
            converted = rule(value)
            if isinstance(converted, _Parts):
                return self._container(value, converted.content, depth)
        except _TooManyValuesError:
            raise
        except Exception:  # noqa: BLE001 - foreign properties, iterators and time zones may raise anything
            return marked_repr(value)
        return converted

    def _container(self, value: object, content: "dict[str, Any] | list[Any]", depth: int) -> JsonValue:
        if depth == 0 or id(value) in self._open:
            return marked_repr(value)
        self._open.add(id(value))
        try:
            if isinstance(content, dict):
                return {key: self.convert(item, depth - 1) for key, item in content.items()}
            converted = [self.convert(item, depth - 1) for item in content]
        finally:
            self._open.discard(id(value))
        # A set has no order of its own, and its report must not differ from run to run.
        return sorted(converted, key=json.dumps) if isinstance(value, AbstractSet) else converted


@dataclasses.dataclass(slots=True)
class _Parts:
    """What a container holds, still to be converted."""

    content: dict[str, Any] | list[Any]


def _items_of(value: Mapping[object, object]) -> _Parts:
    content: dict[str, Any] = {}
    # A list made at once: another thread may still be adding to what it reports.
    for key, item in list(value.items()):
        name = clean_text(key) if type(key) is str else _key(key)
        while name in content:
            name += "_"
        content[name] = item
    return _Parts(content)


def _key(key: object) -> str:
    converted = _Conversion(max_values=100).convert(key, MAX_DEPTH)
    if isinstance(converted, str):
        return converted
    return shortened_repr(key) if isinstance(converted, dict | list) else json.dumps(converted)


def _fields_of(value: Any) -> _Parts:  # noqa: ANN401 - an instance of any dataclass
    return _Parts({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})


def _elements_of(value: AbstractSet[object] | list[object] | tuple[object, ...]) -> _Parts:
    return _Parts(list(value))


def _member(value: Enum) -> JsonValue:
    return _Conversion(max_values=100).convert(value.value, MAX_DEPTH)


def _integer(value: int) -> JsonValue:
    # Python itself refuses to write, and to read, integers of many digits in decimal.
    return int(value) if value.bit_length() <= _MAX_BITS else {"repr": _repr.repr(hex(value))}


def _octets(value: bytes | bytearray | memoryview) -> JsonValue:
    octets = bytes(value)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(octets).decode()}


_Rule: TypeAlias = "Callable[[Any], JsonValue | _Parts]"
_RULES: dict[type, _Rule] = {
    # Enumerations come first: their members may be strings or integers as well.
    Enum: _member,
    str: clean_text,
    int: _integer,
    float: lambda value: float(value) if math.isfinite(value) else None,
    dict: _items_of,
    list: _elements_of,
    tuple: _elements_of,
    Decimal: lambda value: str(value) if value.is_finite() else None,
    date: lambda value: value.isoformat(),
    time: lambda value: value.isoformat(),
    timedelta: timedelta.total_seconds,
    UUID: str,
    PurePath: lambda value: clean_text(str(value)),
    bytes: _octets,
    bytearray: _octets,
    memoryview: _octets,
    AbstractSet: _elements_of,
    Mapping: _items_of,
}


def _rule_for(value: object) -> "_Rule | None":
    for kind, rule in _RULES.items():
        if isinstance(value, kind):
            return rule
    return _fields_of if dataclasses.is_dataclass(value) and not isinstance(value, type) else None
