"""Tests of the serializer: its output for any report, the size limit, and short messages."""

import json
import tracemalloc
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta, timezone
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulp_hooks.bodies.schemas import schema_of
from pulp_hooks.bodies.serializer import MAX_BODY_BYTES, BodySerializer
from pulp_hooks.errors import BodyError, FieldError
from pulp_hooks.event_types import EventType

MakeBody: TypeAlias = Callable[..., dict[str, Any]]
AsJson: TypeAlias = Callable[[object], str]
SYNC = EventType.REPO_SYNC_FINISHED
SERIALIZER = BodySerializer()


class Kind(Enum):
    """Values of several types."""

    RPM = "rpm"
    NONE = None
    PAIR = (1, "\ud800")


@dataclass
class Record:
    """Values that a host may report."""

    name: object
    values: object


class Row(NamedTuple):
    """The same values as a tuple."""

    name: object
    values: object


ZONES = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TEXTS = st.text(st.characters())  # lone surrogates among them
HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.binary(),
    st.decimals(allow_nan=False),
    st.datetimes(timezones=ZONES),
    st.dates(),
    st.times(timezones=ZONES),
    st.timedeltas(),
    st.uuids(),
    st.fractions(),
    st.complex_numbers(),
    TEXTS.map(PurePosixPath),
    st.sampled_from([*Kind, 2**1100, -(10**4000), -0.0, object(), Record, len, ..., range(3)]),
)
KEYS = HASHABLE | st.tuples(HASHABLE, HASHABLE) | st.frozensets(HASHABLE, max_size=3)
VIEWS: st.SearchStrategy[object] = st.binary().map(memoryview)
LEAVES = st.one_of(KEYS, st.decimals(), st.binary().map(bytearray), VIEWS)


def containers(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Return every kind of container of these values."""
    lists, mappings = st.lists(values, max_size=4), st.dictionaries(KEYS, values, max_size=4)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(deque),
        lists.map(lambda items: [items, items]),
        mappings,
        mappings.map(OrderedDict),
        mappings.map(lambda items: defaultdict(list, items)),
        mappings.map(MappingProxyType),
        st.sets(KEYS, max_size=4),
        st.builds(Record, KEYS, values),
        st.builds(Row, KEYS, values),
    )


REPORTS = st.recursive(LEAVES, containers, max_leaves=12)
"""Anything that an importer might report."""


def serialize(report: object, body_of: MakeBody, serializer: BodySerializer = SERIALIZER) -> dict[str, Any]:
    """Return the body of a sync with this report."""
    return serializer.serialize(SYNC, body_of(SYNC, summary=report, details={"report": report}))


def containers_in(value: object) -> Iterator[Any]:
    """Return every object and array of a JSON value."""
    if isinstance(value, dict | list):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from containers_in(part)


@given(report=REPORTS)
def test_any_report_is_sent_as_json(report: object, body_of: MakeBody, as_json: AsJson) -> None:
    """A body with any report is valid JSON (RFC 8259) in UTF-8, and its other fields are unchanged."""
    body = serialize(report, body_of)
    assert as_json(body)
    assert body == body_of(SYNC, summary=body["summary"], details={"report": body["summary"]})


@given(report=REPORTS)
def test_serialized_body_does_not_change_when_serialized_again(
    report: object, body_of: MakeBody, as_json: AsJson
) -> None:
    """Serializing a serialized body again does not change it."""
    body = serialize(report, body_of)
    assert as_json(SERIALIZER.serialize(SYNC, body)) == as_json(body)


@given(report=REPORTS)
def test_same_report_gives_the_same_body(report: object, body_of: MakeBody, as_json: AsJson) -> None:
    """The same report always becomes the same body."""
    assert as_json(serialize(report, body_of)) == as_json(serialize(report, body_of))


@given(report=REPORTS)
def test_body_shares_no_container_with_the_report(report: object, body_of: MakeBody) -> None:
    """The body shares no container with the host's report, nor with itself."""
    before, body = repr(report), serialize(report, body_of)
    found = list(containers_in(body))
    assert len({id(container) for container in found}) == len(found)
    for container in found:
        container.update(changed=1) if isinstance(container, dict) else container.append("changed")
    assert repr(report) == before


def sent_or_refused(event_type: EventType, body: dict[str, Any]) -> object:
    """Return the serialized body, or the error message."""
    try:
        return SERIALIZER.serialize(event_type, body)
    except BodyError as error:
        return error


FIELDS = [(event_type, field) for event_type in EventType for field in schema_of(event_type).fields]


@given(place=st.sampled_from(FIELDS), value=REPORTS)
def test_any_value_of_any_field_is_sent_or_refused(
    place: tuple[EventType, str], value: object, body_of: MakeBody, as_json: AsJson
) -> None:
    """A body with any value in any field is serialized, or refused with a `BodyError` that names the field."""
    event_type, field = place
    found = sent_or_refused(event_type, body_of(event_type, **{field: value}))
    if isinstance(found, BodyError):
        assert {error.field.partition("[")[0] for error in found.errors} == {field}
        assert len(str(found)) < 5000
    else:
        assert as_json(found)


@given(body=REPORTS)
def test_anything_in_place_of_a_body_is_refused(body: Any) -> None:  # noqa: ANN401 - that is the fact
    """Any object in place of a body is refused with a readable `BodyError`."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body)
    assert len(str(caught.value)) < 10_000


HUGE = {
    "text": ["x" * 10**6],
    "bytes": b"\xff" * 10**6,
    "integer": 10**5000,
    "list": ["x" * 1000] * 10**5,
    "mapping": {"x" * 1000 + str(number): number for number in range(10**4)},
    "nested": [[["x" * 1000] * 100] * 100] * 100,
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("field", ["repo_id", "added_count", "started", "result", "error_message", "_ns", "id"])
def test_huge_value_is_not_printed_whole(name: str, field: str, body_of: MakeBody) -> None:
    """A message shows only the beginning of a long invalid value."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, **{field: HUGE[name]}))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"traceback": [1] * 10_000}, id="lines"),
        pytest.param({f"colour_{number}": number for number in range(1000)}, id="unknown fields"),
        pytest.param({"x" * 10**6: 1}, id="name of an unknown field"),
    ],
)
def test_many_errors_are_not_printed_whole(changes: dict[str, object], body_of: MakeBody) -> None:
    """A message with many errors is short."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, **changes))
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("odd", ["a\nb: all is well", "a\r\n", "a\x1b[2J", "a\u202eb", "a\u2028b", "\ud800", "\x00"])
def test_message_is_one_printable_line(odd: str, body_of: MakeBody) -> None:
    """Invalid values and names of unknown fields cannot forge log lines or control a terminal."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, **{"result": odd, odd: odd}))
    assert str(caught.value).isprintable()


def size_of(value: object) -> int:
    """Return the size of a value as compact JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def test_body_of_exactly_the_limit_is_sent_whole(example: tuple[EventType, dict[str, Any]]) -> None:
    """A body of exactly the size limit, counted in bytes of UTF-8, is sent whole."""
    event_type, body = example
    assert BodySerializer(size_of(body)).serialize(event_type, body) == body


def test_default_limit_is_one_mebibyte(body_of: MakeBody) -> None:
    """The default limit is 2 ** 20 bytes: one byte more is truncated."""
    assert MAX_BODY_BYTES == 2**20
    room = 2**20 - size_of(body_of(SYNC, details=""))
    assert SERIALIZER.serialize(SYNC, body_of(SYNC, details="x" * room))["details"] == "x" * room
    assert isinstance(SERIALIZER.serialize(SYNC, body_of(SYNC, details="x" * (room + 1)))["details"], dict)


@pytest.mark.parametrize("details", ["\x00" * 2000, [False] * 2000, [None] * 2000, [1.7976931348623157e308] * 2000])
def test_body_a_byte_over_the_cap_is_truncated_however_dense_it_is(details: Any, body_of: MakeBody) -> None:  # noqa: ANN401 - a report
    """What JSON needs most bytes for, compared with the quick look at the size, is measured exactly."""
    whole = SERIALIZER.serialize(SYNC, body_of(SYNC, details=details))
    assert BodySerializer(size_of(whole)).serialize(SYNC, body_of(SYNC, details=details)) == whole
    body = BodySerializer(size_of(whole) - 1).serialize(SYNC, body_of(SYNC, details=details))
    assert isinstance(body["details"], dict)


@pytest.mark.parametrize("character", ["x", "é", "😀", "\x00", '"', "\ud800"])
def test_details_are_truncated_first_and_marked(character: str, body_of: MakeBody, as_json: AsJson) -> None:
    """If it is enough, only the details are truncated; size and beginning replace them."""
    summary, details = {"files": 3}, {"log": character * 10_000}
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary=summary, details=details))
    sent = {"log": character.replace("\ud800", "\ufffd") * 10_000}
    assert body["summary"] == summary
    assert isinstance(body["details"], dict)
    assert body["details"] | {"start": ""} == {"truncated": True, "bytes": size_of(sent), "start": ""}
    assert str(body["details"]["start"]).startswith("{'log': ")
    assert size_of(body) <= 5000
    assert as_json(body)


def test_summary_is_kept_if_truncated_details_are_enough(body_of: MakeBody) -> None:
    """If details and summary have the same size, only the details are truncated."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary="x" * 3000, details="x" * 3000))
    assert body["summary"] == "x" * 3000
    assert isinstance(body["details"], dict)


@pytest.mark.parametrize("report", ["\x00" * 1000, [False] * 1000, [1.2345678901234567e-300] * 300, [-(2**31)] * 500])
def test_size_is_that_of_the_json(report: object, body_of: MakeBody) -> None:
    """The size is that of the JSON, in which control characters are longer."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, details=report))
    assert isinstance(body["details"], dict)
    assert body["details"]["bytes"] == size_of(report)


def test_summary_is_truncated_when_details_are_not_enough(body_of: MakeBody) -> None:
    """With a summary over the limit both reports are truncated, each with its own size."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary=["x" * 6000], details=["x" * 10_000]))
    assert [(body[name]["truncated"], body[name]["bytes"]) for name in ("summary", "details")] == [  # type: ignore[call-overload, index]  # objects
        (True, 6004),
        (True, 10_004),
    ]


@pytest.mark.parametrize("details", [None, {}, [], {"files": 3}])
def test_details_smaller_than_their_mark_are_not_truncated(details: object, body_of: MakeBody) -> None:
    """Details that are smaller than the mark of truncation are not truncated."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary="x" * 6000, details=details))
    assert body["details"] == details


@settings(max_examples=50)
@given(report=REPORTS, times=st.sampled_from([1, 20, 200]), cap=st.integers(4096, 10_000))
def test_body_stays_within_any_limit_above_the_size_of_its_fixed_fields(
    report: object, times: int, cap: int, body_of: MakeBody, as_json: AsJson
) -> None:
    """A finished event is never lost because of the size of its reports."""
    body = BodySerializer(cap).serialize(SYNC, body_of(SYNC, summary=[report] * times, details=[[report] * 4] * times))
    assert size_of(body) <= cap
    assert as_json(body)


@pytest.mark.parametrize("report", [[[["x" * 1000] * 10] * 10] * 10, {"x" * 1000 + str(n): n for n in range(10)}])
def test_mark_of_a_truncated_report_is_short(report: object, body_of: MakeBody) -> None:
    """The marks of both truncated reports fit under a small limit."""
    body = BodySerializer(4096).serialize(SYNC, body_of(SYNC, summary=report, details=report))
    assert size_of(body) <= 4096


def test_truncated_body_does_not_change_when_serialized_again(body_of: MakeBody) -> None:
    """A truncated body stays the same when it is serialized again under the same limit."""
    serializer = BodySerializer(5000)
    body = serializer.serialize(SYNC, body_of(SYNC, summary="x" * 6000, details=list(range(5000))))
    assert serializer.serialize(SYNC, body) == body


@pytest.mark.parametrize("field", ["repo_id", "error_message", "traceback"])
def test_fixed_fields_over_the_limit_are_refused(field: str, body_of: MakeBody) -> None:
    """A body whose fixed fields are over the limit is refused; the message has size and limit, not the body."""
    text = "x" * MAX_BODY_BYTES
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, **{field: [text] if field == "traceback" else text}))
    (error,) = caught.value.errors
    assert error.field == "the body"
    assert error.rule.startswith(f"must be at most {MAX_BODY_BYTES} bytes as JSON")
    assert len(str(caught.value)) < 500


def test_started_body_over_the_limit_is_refused() -> None:
    """A started body over the limit is refused, because it has no reports to truncate."""
    with pytest.raises(BodyError, match="must be at most 1048576 bytes"):
        SERIALIZER.serialize(EventType.REPO_SYNC_STARTED, {"repo_id": "x" * MAX_BODY_BYTES})


def test_nothing_is_truncated_without_a_limit(body_of: MakeBody) -> None:
    """Without a limit nothing is truncated."""
    body = body_of(SYNC, repo_id="x" * 2**21, details={"log": "x" * 2**22})
    assert BodySerializer(max_bytes=None).serialize(SYNC, body) == body


@pytest.mark.parametrize(
    "changes",
    [
        {"details": "x" * 50_000_000},
        {"details": "x" * 50_000_000, "repo_id": "😀"},
        {"details": ["x" * 50_000_000, "😀"]},
        {"error_message": "x" * 50_000_000},
        {"traceback": ["x" * 50_000_000]},
    ],
    ids=["details", "details beside an emoji", "details with an emoji", "error_message", "traceback"],
)
def test_memory_for_a_huge_body_is_a_few_times_its_size(changes: dict[str, object], body_of: MakeBody) -> None:
    """Truncating or refusing a body of 50 MB takes less than four times as much memory."""
    body = body_of(SYNC, **changes)
    tracemalloc.start()
    try:
        with suppress(BodyError):
            SERIALIZER.serialize(SYNC, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 50_000_000


@pytest.mark.parametrize("wrap", [dict, OrderedDict, MappingProxyType, UserDict])
def test_body_may_be_any_mapping_and_is_not_changed(wrap: Callable[[dict[str, Any]], Any], body_of: MakeBody) -> None:
    """A body may be any mapping, and is not changed."""
    given = body_of(SYNC, started="2012-07-06T17:49:11+02:00", details={"names": {"b", "a"}})
    before = repr(given)
    body = SERIALIZER.serialize(SYNC, wrap(given))
    assert type(body) is dict
    assert body == body_of(SYNC, started="2012-07-06T15:49:11Z", details={"names": ["a", "b"]})
    assert repr(given) == before


def test_many_threads_may_share_a_serializer(body_of: MakeBody) -> None:
    """A serializer may be used by many threads."""
    bodies = [body_of(SYNC, repo_id=f"repo-{number}", details={"number": number}) for number in range(400)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda body: SERIALIZER.serialize(SYNC, body), bodies)) == bodies


@given(report=st.dictionaries(KEYS, REPORTS, max_size=4))
def test_call_report_follows_the_rules_of_reports(report: dict[Any, object], as_json: AsJson) -> None:
    """The report of a task becomes a JSON object by the rules of reports."""
    converted = SERIALIZER.serialize_call_report(report)
    assert isinstance(converted, dict)
    assert len(converted) == len(report)
    assert as_json(SERIALIZER.serialize_call_report(converted)) == as_json(converted)


def test_call_report_is_null_outside_of_a_task() -> None:
    """Without a task the report is null."""
    assert SERIALIZER.serialize_call_report(None) is None


def test_call_report_over_the_limit_is_truncated() -> None:
    """The size limit also applies to the report of a task."""
    report = {"log": "x" * 10_000}
    truncated = BodySerializer(5000).serialize_call_report(report)
    assert truncated == {"truncated": True, "bytes": 10_010, "start": truncated and truncated["start"]}
    assert BodySerializer(max_bytes=None).serialize_call_report(report) == report


def test_body_is_checked_without_being_sent(body_of: MakeBody) -> None:
    """`validate` refuses the same bodies as `serialize`, with the same message."""
    SERIALIZER.validate(SYNC, body_of(SYNC))
    with pytest.raises(BodyError) as caught:
        SERIALIZER.validate(SYNC, {"repo_id": 7})
    assert caught.value.errors[0] == FieldError("importer_type_id", "", "is missing")
    assert FieldError("repo_id", "7", "must be a string") in caught.value.errors


def test_part_of_a_body_is_checked_without_its_missing_fields() -> None:
    """With `partial`, only the fields that are present are checked."""
    SERIALIZER.validate(SYNC, {"repo_id": "files"}, partial=True)
    SERIALIZER.validate(SYNC, {}, partial=True)
    with pytest.raises(BodyError) as caught:
        SERIALIZER.validate(SYNC, {"repo_id": "", "colour": 1}, partial=True)
    assert [error.field for error in caught.value.errors] == ["repo_id", "colour"]
