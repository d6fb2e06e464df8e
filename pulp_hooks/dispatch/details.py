"""Details: facts that a listener adds to its outcome, as JSON with a size cap and without secrets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import cast

from pulp_hooks.bodies.reported import reported_value
from pulp_hooks.bodies.types import JsonValue
from pulp_hooks.foreign_code import call_foreign
from pulp_hooks.signals import leaves_of
from pulp_hooks.text import REDACTED, redacted

MAX_DETAIL_BYTES = 8 * 2**10
"""Size cap of a detail as JSON in UTF-8."""

_MAX_VALUES = MAX_DETAIL_BYTES // 2
"""Most values that fit under the cap: each takes at least one character and a comma."""

_MAX_START = 1000


def detail_of(value: object, secrets: Sequence[str]) -> dict[str, JsonValue] | None:
    """Return a mapping as JSON, converted by `reported_value`; null for any other object.

    A mapping over the cap is replaced by `{"truncated": true, "bytes": size, "start": "..."}` with the start of its
    JSON; `bytes` is null if it has too many values to convert.
    """
    converted = call_foreign(lambda: reported_value(value, _MAX_VALUES) if isinstance(value, Mapping) else None)
    if not isinstance(converted, dict):
        return None
    detail = cast("dict[str, JsonValue]", _without(converted, secrets) if _may_have(converted, secrets) else converted)
    text = json.dumps(detail, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode())
    return detail if size <= MAX_DETAIL_BYTES else {"truncated": True, "bytes": size, "start": text[:_MAX_START]}


def detail_of_error(error: BaseException, secrets: Sequence[str]) -> dict[str, JsonValue] | None:
    """Return the `detail` of an exception, or of the first in a group that has one, converted by `detail_of`."""
    for found in (error, *leaves_of(error)):
        value = call_foreign(partial(getattr, found, "detail", None))
        detail = None if value is None else detail_of(value, secrets)
        if detail is not None:
            return detail
    return None


def _may_have(value: JsonValue, secrets: Sequence[str]) -> bool:
    """Return whether a JSON value may have one of the secrets.

    Measured: one look at all texts of a webhook's detail takes a tenth of the time of a look at each.
    """
    text = "\n".join(_texts_in(value)) if secrets else ""
    return redacted(text, secrets) != text


def _texts_in(value: JsonValue) -> Iterator[str]:
    """Yield every name, string and number in a JSON value, as text."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _texts_in(part)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _without(value: JsonValue, secrets: Sequence[str]) -> JsonValue:
    """Return a JSON value with secrets redacted, also in numbers."""
    if isinstance(value, str):
        return redacted(value, secrets)
    if isinstance(value, dict):
        return {redacted(name, secrets): _without(part, secrets) for name, part in value.items()}
    if isinstance(value, list):
        return [_without(part, secrets) for part in value]
    text = json.dumps(value)
    return value if redacted(text, secrets) == text else REDACTED
