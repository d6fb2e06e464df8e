"""Tests of the fields of the four bodies, one by one, against the specification."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.bodies import types
from pulp_hooks.bodies.schemas import schema_of
from pulp_hooks.bodies.serializer import BodySerializer
from pulp_hooks.errors import BodyError, FieldError
from pulp_hooks.event_types import EventType

MakeBody: TypeAlias = Callable[..., dict[str, Any]]
SYNC, PUBLISH = EventType.REPO_SYNC_FINISHED, EventType.REPO_PUBLISH_FINISHED
SERIALIZER = BodySerializer()

_FINISHED = {
    "repo_id": "name",
    "started": "moment",
    "completed": "moment",
    "exception": "text",
    "error_message": "text",
    "traceback": "lines",
    "summary": "report",
    "details": "report",
    "id": "id",
}
FIELDS: dict[EventType, dict[str, str]] = {
    EventType.REPO_SYNC_STARTED: {"repo_id": "name"},
    SYNC: {
        **_FINISHED,
        "importer_id": "name",
        "importer_type_id": "name",
        "added_count": "count",
        "updated_count": "count",
        "removed_count": "count",
        "_ns": "sync _ns",
        "result": "sync result",
    },
    EventType.REPO_PUBLISH_STARTED: {"repo_id": "name", "distributor_id": "name"},
    PUBLISH: {
        **_FINISHED,
        "distributor_id": "name",
        "distributor_type_id": "name",
        "_ns": "publish _ns",
        "result": "publish result",
    },
}
"""Every field of every body, with the kind of value that it takes."""


class Count(IntEnum):
    """Counts with names."""

    THREE = 3


def at(*numbers: int, offset: float = 0) -> datetime:
    """Return a time from year, month, ... and an offset in hours."""
    return datetime(*numbers, tzinfo=timezone(timedelta(hours=offset)))  # type: ignore[arg-type, misc]  # few enough


def same(*values: object) -> list[tuple[object, object]]:
    """Return values that are sent unchanged."""
    return [(value, value) for value in values]


ACCEPTED: dict[str, list[tuple[object, object]]] = {
    "name": same("pulp-f17", " ", "e\u0301", "\u00e9", "репозиторий 😀", "a\x00b\r\n\u2028\u202e", "x" * 10_000),
    "text": [*same(None, "", "no route to host\n", "\x00"), ("caf\udce9", "caf\ufffd"), ("\ud83d\ude00", "😀")],
    "lines": [*same(None, [], ["  File 'a.py'\n", ""]), (("a", "b"), ["a", "b"]), (["\udcff"], ["\ufffd"])],
    "report": [*same(None, {}, [], "", "text", 0, {"a": [True]}), ({1}, [1]), (b"x", "x")],
    "count": [*same(None, 0, 1, 2**53 + 1, 2**63 - 1), (Count.THREE, 3)],
    "sync _ns": same("repo_sync_results"),
    "publish _ns": same("repo_publish_results"),
    "sync result": same("success", "failed", "error", "canceled"),
    "publish result": same("success", "failed", "error", "canceled", "skipped"),
    "id": same("4ff7413a8a905b777d000072", "6f1c", "naïve"),
    "moment": [
        ("2012-07-06T15:49:11Z", "2012-07-06T15:49:11Z"),
        ("2012-07-06T17:49:11+02:00", "2012-07-06T15:49:11Z"),
        ("2012-07-06T10:19:11.999999-05:30", "2012-07-06T15:49:11Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z"),
        (datetime(2012, 7, 6, 15, 49, 11, 999_999, tzinfo=UTC), "2012-07-06T15:49:11Z"),
        (at(2012, 7, 7, 1, 19, 11, offset=9.5), "2012-07-06T15:49:11Z"),
        (at(2012, 7, 6, 15, 49, 41, offset=30 / 3600), "2012-07-06T15:49:11Z"),
        (at(1, 1, 1, offset=-5), "0001-01-01T05:00:00Z"),
        (at(987, 6, 5, 4, 3, 2, offset=1), "0987-06-05T03:03:02Z"),
        (at(9999, 12, 31, 23, offset=5), "9999-12-31T18:00:00Z"),
    ],
}

_TEXT, _NULL, _EMPTY = "must be a string", "must not be null", "must not be empty"
_UNICODE = "must be valid Unicode, without lone surrogates"
_WHOLE, _LIMITS = "must be an integer", "must be from 0 to 2 ** 63 - 1"
_LIST = "must be a list of strings"
_MOMENT, _ZONE = "must be an aware datetime or an ISO 8601 string", "must have a time zone"
_YEARS = "must be an ISO 8601 time in the years 1 to 9999"
_SYNC_RESULT = "must be one of success, failed, error, canceled"
_NO_TEXT = [(7, _TEXT), (True, _TEXT), (1.5, _TEXT), (b"x", _TEXT), (["x"], _TEXT), (ValueError("x"), _TEXT)]

REFUSED: dict[str, list[tuple[object, str]]] = {
    "name": [*_NO_TEXT, (None, _NULL), ("", _EMPTY), ("\ud800", _UNICODE), ("caf\udce9", _UNICODE)],
    "text": [*_NO_TEXT],
    "lines": [("text", _LIST), (b"x", _LIST), (7, _LIST), ({"a"}, _LIST), ({"a": 1}, _LIST), (iter("ab"), _LIST)],
    "report": [],
    "count": [
        *((value, _WHOLE) for value in (True, False, 1.0, "1", Decimal(1), 1 + 0j, float("nan"), b"1", [1])),
        *((value, _LIMITS) for value in (-1, 2**63, 10**5000, -(10**5000))),
    ],
    "sync _ns": [*_NO_TEXT, (None, _NULL), ("repo_publish_results", "must be 'repo_sync_results'")],
    "publish _ns": [*_NO_TEXT, (None, _NULL), ("repo_sync_results", "must be 'repo_publish_results'")],
    "sync result": [
        *_NO_TEXT,
        (None, _NULL),
        *((value, _SYNC_RESULT) for value in ("", "SUCCESS", "success ", "skipped", "x" * 10**6)),
    ],
    "publish result": [*_NO_TEXT, (None, _NULL), ("cancelled", f"{_SYNC_RESULT}, skipped")],
    "id": [*_NO_TEXT, ("", _EMPTY), ("\udfff", _UNICODE)],
    "moment": [
        (None, _NULL),
        *((value, _MOMENT) for value in (1341589751, 1341589751.5, True, b"2012-07-06T15:49:11Z", date(2012, 7, 6))),
        *((value, _ZONE) for value in (datetime(2012, 7, 6), "2012-07-06T15:49:11", "2012-07-06")),  # noqa: DTZ001 - naive
        *((value, _YEARS) for value in ("", "yesterday", "2012-02-30T00:00:00Z", "10000-01-01T00:00:00Z", "x" * 10**6)),
        *((value, _YEARS) for value in ("2012-06-30T23:59:60Z", "2016-12-31T23:59:60+00:00", "\ud800")),
        *((value, _YEARS) for value in (at(1, 1, 1, offset=5), at(9999, 12, 31, 23, offset=-5))),
        *((value, _YEARS) for value in ("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-23:59")),
    ],
}

_Values: TypeAlias = "dict[str, list[tuple[object, Any]]]"


def rows(values: _Values) -> list[Any]:
    """Return every field of every body with each value of its kind, as test parameters."""
    return [
        pytest.param(event_type, field, value, expected, id=f"{event_type}-{field}-{number}")
        for event_type, fields in FIELDS.items()
        for field, kind in fields.items()
        for number, (value, expected) in enumerate(values[kind])
    ]


def errors_of(event_type: EventType, body: object) -> tuple[FieldError, ...]:
    """Return the errors of a body that must be refused."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(event_type, body)  # type: ignore[arg-type]  # what is wrong here is the fact
    assert caught.value.event_type == event_type
    return caught.value.errors


@pytest.mark.parametrize(("event_type", "field", "value", "sent"), rows(ACCEPTED))
def test_field_is_sent(event_type: EventType, field: str, value: object, sent: object, body_of: MakeBody) -> None:
    """A valid value is sent as in the specification, and no other field changes."""
    expected = body_of(event_type, **{field: sent})
    assert SERIALIZER.serialize(event_type, body_of(event_type, **{field: value})) == expected


@pytest.mark.parametrize(("event_type", "field", "value", "rule"), rows(REFUSED))
def test_field_is_refused(event_type: EventType, field: str, value: object, rule: str, body_of: MakeBody) -> None:
    """An invalid value is refused, and the message names field and rule and is short."""
    (error,) = errors_of(event_type, body_of(event_type, **{field: value}))
    assert (error.field, error.rule) == (field, rule)
    assert 0 < len(error.value) < 500


@pytest.mark.parametrize(("event_type", "field"), [(kind, field) for kind in FIELDS for field in FIELDS[kind]])
def test_only_fields_with_a_known_value_may_be_missing(event_type: EventType, field: str, body_of: MakeBody) -> None:
    """Only `_ns` and `id` may be left out. Other fields are required, even if null."""
    body = body_of(event_type)
    given = body.pop(field)
    if field == "_ns":
        assert SERIALIZER.serialize(event_type, body)["_ns"] == given
    elif field == "id":
        assert re.fullmatch("[0-9a-f]{24}", str(SERIALIZER.serialize(event_type, body)["id"]))
    else:
        assert errors_of(event_type, body) == (FieldError(field, "", "is missing"),)


@pytest.mark.parametrize("event_type", EventType)
def test_body_has_the_fields_of_the_specification_in_its_order(event_type: EventType, body_of: MakeBody) -> None:
    """Example, schema, type and these tests have the same fields, in the same order."""
    fields = list(body_of(event_type))
    assert list(schema_of(event_type).fields) == fields
    assert list(getattr(types, event_type.body_name).__annotations__) == fields
    assert sorted(FIELDS[event_type]) == sorted(fields)
    assert list(SERIALIZER.serialize(event_type, dict(reversed(body_of(event_type).items())))) == fields


def test_example_passes_load_and_dump_unchanged(
    example: tuple[EventType, dict[str, Any]], as_json: Callable[[object], str]
) -> None:
    """Each example body of the specification is loaded and dumped byte for byte."""
    event_type, body = example
    schema = schema_of(event_type)
    assert as_json(schema.dump(schema.load(body))) == as_json(body)


@pytest.mark.parametrize("event_type", EventType)
def test_body_of_another_event_type_is_refused(event_type: EventType, body_of: MakeBody) -> None:
    """A body of another event type is refused."""
    for other in set(EventType) - {event_type}:
        assert errors_of(event_type, body_of(other))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("added_counts", " (did you mean 'added_count'?)"),
        ("colour", ""),
        ("Repo_ID", ""),
        ("", ""),
        (7, ""),
        (None, ""),
    ],
)
def test_unknown_field_is_refused(name: object, hint: str, body_of: MakeBody) -> None:
    """An unknown field is refused, and the message suggests the nearest known one."""
    error = FieldError(str(name), "'x'", f"is not a field of this body{hint}")
    body: dict[Any, Any] = {**body_of(SYNC), name: "x"}
    assert errors_of(SYNC, body) == (error,)


def test_unknown_field_with_a_name_of_marshmallow_is_refused_like_any_other(body_of: MakeBody) -> None:
    """`_schema`, marshmallow's key for errors of the whole body, is an unknown field like any other."""
    assert errors_of(SYNC, body_of(SYNC, _schema=1)) == (FieldError("_schema", "1", "is not a field of this body"),)


@pytest.mark.parametrize("body", [None, [], "repo_id", 7, iter(()), [("repo_id", "x")]])
def test_body_that_is_not_an_object_is_refused(body: object) -> None:
    """A body that is not a mapping is refused."""
    (error,) = errors_of(EventType.REPO_SYNC_STARTED, body)
    assert error.field == "the body"
    assert error.rule.startswith("must be an object")


@pytest.mark.parametrize(("element", "rule"), [(None, _NULL), (7, _TEXT), (b"x", _TEXT), (["x"], _TEXT)])
def test_line_that_is_not_a_string_is_refused_with_its_position(element: object, rule: str, body_of: MakeBody) -> None:
    """An invalid line of a traceback is refused with its position."""
    (error,) = errors_of(PUBLISH, body_of(PUBLISH, traceback=["a", "b", element]))
    assert error == FieldError("traceback[2]", repr(element), rule)


def test_all_errors_are_reported_at_once_in_the_order_of_the_fields(body_of: MakeBody) -> None:
    """One message has all errors with field, value and rule, unknown fields last."""
    unknown = [f"colour_{number}" for number in range(8)]
    wrong = {"result": "done", "started": 0, "importer_type_id": "", "traceback": [1, "a", None]}
    named = [error.field for error in errors_of(SYNC, body_of(SYNC, **dict.fromkeys(unknown), **wrong))]
    assert named == ["importer_type_id", "started", "traceback[0]", "traceback[2]", "result", *unknown]


def test_message_names_event_type_field_value_and_rule(body_of: MakeBody) -> None:
    """The message of a `BodyError` says how to fix the body."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, added_count="3"))
    assert "repo-sync-finished" in str(caught.value)
    assert "added_count must be an integer, got '3'" in str(caught.value)


@pytest.mark.parametrize("event_type", [SYNC, PUBLISH])
@pytest.mark.parametrize("changes", [{}, {"id": None}])
def test_generated_ids_sort_by_time(event_type: EventType, changes: dict[str, None], body_of: MakeBody) -> None:
    """Without an id, or with null, each body gets a new one, and later ones sort after earlier ones."""
    body = {name: value for name, value in body_of(event_type).items() if name != "id"} | changes
    ids = [str(SERIALIZER.serialize(event_type, body)["id"]) for _ in range(100)]
    assert ids == sorted(set(ids))


MOMENTS = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - the zone comes with the offset
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001 - the zone comes with the offset
    timezones=st.integers(min_value=-1439, max_value=1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@given(moment=MOMENTS)
def test_time_of_any_zone_is_sent_in_utc(moment: datetime, body_of: MakeBody) -> None:
    """A time of any zone, as `datetime` or string, is sent in UTC with whole seconds."""
    body = SERIALIZER.serialize(SYNC, body_of(SYNC, started=moment, completed=moment.isoformat()))
    sent = str(body["started"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", sent)
    assert sent == body["completed"]
    assert timedelta(0) <= moment - datetime.fromisoformat(sent) < timedelta(seconds=1)


class Named(str, Enum):  # noqa: UP042 - the older way, whose str() is not the value
    """Names in a host's enumeration."""

    REPOSITORY = "pulp-f17"
    SUCCESS = "success"


@pytest.mark.parametrize("field", ["repo_id", "result", "error_message"])
def test_member_of_a_string_enumeration_is_sent_as_its_value(field: str, body_of: MakeBody) -> None:
    """A member of a string enumeration is sent as its value."""
    member = Named.SUCCESS if field == "result" else Named.REPOSITORY
    sent = SERIALIZER.serialize(SYNC, body_of(SYNC, **{field: member}))[field]
    assert (sent, type(sent)) == (member.value, str)


class FaultyZone(tzinfo):
    """A time zone that returns or raises its argument."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def utcoffset(self, _: datetime | None) -> timedelta | None:
        """Return the offset, or raise."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]  # wrong on purpose


@pytest.mark.parametrize("answer", [RuntimeError("no such zone"), 5, timedelta(hours=30)])
def test_time_of_a_faulty_time_zone_is_refused(answer: object, body_of: MakeBody) -> None:
    """A time with a time zone that fails is refused."""
    zone = FaultyZone(answer)  # type: ignore[abstract]  # it is only asked for its offset
    (error,) = errors_of(SYNC, body_of(SYNC, started=datetime(2012, 7, 6, tzinfo=zone)))
    assert error.field == "started"


class Text(str):
    """A subclass of `str`."""

    __slots__ = ()


class Whole(int):
    """A subclass of `int`."""

    __slots__ = ()


_SUBCLASSES: dict[type, Callable[[Any], object]] = {str: Text, int: Whole}

VALUES = st.one_of(
    st.text(), st.sampled_from(["success", "skipped", "repo_sync_results"]), st.integers(), st.integers(-2, 2**63)
)


@given(value=VALUES)
@pytest.mark.parametrize("field", sorted(FIELDS[SYNC]))
def test_fast_path_accepts_and_refuses_the_same_values(field: str, value: object, body_of: MakeBody) -> None:
    """Values on the fast path and values of subclasses are accepted or refused alike."""
    ways: list[tuple[object, object]] = []
    for given_value in (value, _SUBCLASSES[type(value)](value)):
        try:
            ways.append((SERIALIZER.serialize(SYNC, body_of(SYNC, **{field: given_value}))[field], None))
        except BodyError as error:
            ways.append((None, [wrong.rule for wrong in error.errors]))
    assert ways[0] == ways[1]
    assert type(ways[0][0]) is type(ways[1][0])
