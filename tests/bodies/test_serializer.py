"""Tests of the one way to a body: what comes out for any report, the size cap, and messages that stay readable."""

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
    """What a host may report."""

    name: object
    values: object


class Row(NamedTuple):
    """The same as a tuple."""

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
    """Give every kind of container of these values."""
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
    """Give the body of a sync that reports this."""
    return serializer.serialize(SYNC, body_of(SYNC, summary=report, details={"report": report}))


def containers_in(value: object) -> Iterator[Any]:
    """Give every object and array of a JSON value."""
    if isinstance(value, dict | list):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from containers_in(part)


@given(report=REPORTS)
def test_any_report_is_sent_as_json(report: object, body_of: MakeBody, as_json: AsJson) -> None:
    """Whatever is reported, the body is JSON by RFC 8259, in UTF-8, with the other fields as they were given."""
    body = serialize(report, body_of)
    assert as_json(body)
    assert body == body_of(SYNC, summary=body["summary"], details={"report": body["summary"]})


@given(report=REPORTS)
def test_serialized_body_stays_as_it_is_when_serialized_again(
    report: object, body_of: MakeBody, as_json: AsJson
) -> None:
    """A body that was sent is a body like any other, and sending it on changes nothing."""
    body = serialize(report, body_of)
    assert as_json(SERIALIZER.serialize(SYNC, body)) == as_json(body)


@given(report=REPORTS)
def test_same_report_gives_the_same_body(report: object, body_of: MakeBody, as_json: AsJson) -> None:
    """Every listener, and every later reader, is told the same."""
    assert as_json(serialize(report, body_of)) == as_json(serialize(report, body_of))


@given(report=REPORTS)
def test_body_shares_no_container_with_the_report(report: object, body_of: MakeBody) -> None:
    """Whoever changes the body changes nothing of the host's, and nothing at another place of the body."""
    before, body = repr(report), serialize(report, body_of)
    found = list(containers_in(body))
    assert len({id(container) for container in found}) == len(found)
    for container in found:
        container.update(changed=1) if isinstance(container, dict) else container.append("changed")
    assert repr(report) == before


def sent_or_refused(event_type: EventType, body: dict[str, Any]) -> object:
    """Give what is sent for a body, or what is said to be wrong with it."""
    try:
        return SERIALIZER.serialize(event_type, body)
    except BodyError as error:
        return error


FIELDS = [(event_type, field) for event_type in EventType for field in schema_of(event_type).fields]


@given(place=st.sampled_from(FIELDS), value=REPORTS)
def test_any_value_of_any_field_is_sent_or_refused(
    place: tuple[EventType, str], value: object, body_of: MakeBody, as_json: AsJson
) -> None:
    """Nothing that a host puts in a field raises anything else than a readable `BodyError` about that field."""
    event_type, field = place
    found = sent_or_refused(event_type, body_of(event_type, **{field: value}))
    if isinstance(found, BodyError):
        assert {error.field.partition("[")[0] for error in found.errors} == {field}
        assert len(str(found)) < 5000
    else:
        assert as_json(found)


@given(body=REPORTS)
def test_anything_in_place_of_a_body_is_refused(body: Any) -> None:  # noqa: ANN401 - that is the fact
    """What is no body at all, or a body of other fields, is refused with a readable `BodyError`."""
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
    """A message shows the beginning of a wrong value, and its length does not depend on the value's."""
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
def test_many_faults_are_not_printed_whole(changes: dict[str, object], body_of: MakeBody) -> None:
    """A message stays readable however much is wrong."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, **changes))
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("odd", ["a\nb: all is well", "a\r\n", "a\x1b[2J", "a\u202eb", "a\u2028b", "\ud800", "\x00"])
def test_message_is_one_printable_line(odd: str, body_of: MakeBody) -> None:
    """Neither a wrong value nor the name of an unknown field can forge lines of a log, or steer a terminal."""
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, **{"result": odd, odd: odd}))
    assert str(caught.value).isprintable()


def size_of(value: object) -> int:
    """Give the size of a value as compact JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def test_body_of_exactly_the_cap_is_sent_whole(example: tuple[EventType, dict[str, Any]]) -> None:
    """The cap is the greatest size that passes, counted in bytes of UTF-8."""
    event_type, body = example
    assert BodySerializer(size_of(body)).serialize(event_type, body) == body


def test_default_cap_is_one_mebibyte(body_of: MakeBody) -> None:
    """A body of 2 ** 20 bytes is sent whole, one of a byte more is not."""
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
    """Where that is enough, only the details go; in their place stand their size and their beginning."""
    summary, details = {"files": 3}, {"log": character * 10_000}
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary=summary, details=details))
    sent = {"log": character.replace("\ud800", "\ufffd") * 10_000}
    assert body["summary"] == summary
    assert isinstance(body["details"], dict)
    assert body["details"] | {"start": ""} == {"truncated": True, "bytes": size_of(sent), "start": ""}
    assert str(body["details"]["start"]).startswith("{'log': ")
    assert size_of(body) <= 5000
    assert as_json(body)


def test_summary_is_kept_where_truncated_details_are_enough(body_of: MakeBody) -> None:
    """Of two reports of the same size the details go."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary="x" * 3000, details="x" * 3000))
    assert body["summary"] == "x" * 3000
    assert isinstance(body["details"], dict)


@pytest.mark.parametrize("report", ["\x00" * 1000, [False] * 1000, [1.2345678901234567e-300] * 300, [-(2**31)] * 500])
def test_size_is_that_of_the_json(report: object, body_of: MakeBody) -> None:
    """What grows when it is written as JSON, control characters most of all, is counted as it is written."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, details=report))
    assert isinstance(body["details"], dict)
    assert body["details"]["bytes"] == size_of(report)


def test_summary_is_truncated_when_details_are_not_enough(body_of: MakeBody) -> None:
    """With a summary over the cap both are truncated, and each says its own size."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary=["x" * 6000], details=["x" * 10_000]))
    assert [(body[name]["truncated"], body[name]["bytes"]) for name in ("summary", "details")] == [  # type: ignore[call-overload, index]  # objects
        (True, 6004),
        (True, 10_004),
    ]


@pytest.mark.parametrize("details", [None, {}, [], {"files": 3}])
def test_details_smaller_than_their_mark_are_left_alone(details: object, body_of: MakeBody) -> None:
    """Where only the summary is too large, nothing is said to be truncated that would not get smaller by it."""
    body = BodySerializer(5000).serialize(SYNC, body_of(SYNC, summary="x" * 6000, details=details))
    assert body["details"] == details


@settings(max_examples=50)
@given(report=REPORTS, times=st.sampled_from([1, 20, 200]), cap=st.integers(4096, 10_000))
def test_body_keeps_to_any_cap_that_its_fixed_fields_leave_room_in(
    report: object, times: int, cap: int, body_of: MakeBody, as_json: AsJson
) -> None:
    """A finished event is not lost for the size of its reports, whatever they are."""
    body = BodySerializer(cap).serialize(SYNC, body_of(SYNC, summary=[report] * times, details=[[report] * 4] * times))
    assert size_of(body) <= cap
    assert as_json(body)


@pytest.mark.parametrize("report", [[[["x" * 1000] * 10] * 10] * 10, {"x" * 1000 + str(n): n for n in range(10)}])
def test_mark_of_a_truncated_report_is_short(report: object, body_of: MakeBody) -> None:
    """What stands in the place of reports that are too large leaves room for them both, even under a small cap."""
    body = BodySerializer(4096).serialize(SYNC, body_of(SYNC, summary=report, details=report))
    assert size_of(body) <= 4096


def test_body_stays_as_it_is_when_serialized_again_under_the_same_cap(body_of: MakeBody) -> None:
    """What was truncated once is small enough for ever."""
    serializer = BodySerializer(5000)
    body = serializer.serialize(SYNC, body_of(SYNC, summary="x" * 6000, details=list(range(5000))))
    assert serializer.serialize(SYNC, body) == body


@pytest.mark.parametrize("field", ["repo_id", "error_message", "traceback"])
def test_fixed_fields_over_the_cap_are_refused(field: str, body_of: MakeBody) -> None:
    """What cannot be truncated is refused, with its size and the cap, and is not printed."""
    text = "x" * MAX_BODY_BYTES
    with pytest.raises(BodyError) as caught:
        SERIALIZER.serialize(SYNC, body_of(SYNC, **{field: [text] if field == "traceback" else text}))
    (error,) = caught.value.errors
    assert error.field == "the whole body"
    assert error.rule.startswith(f"must be at most {MAX_BODY_BYTES} bytes as JSON")
    assert len(str(caught.value)) < 500


def test_started_body_over_the_cap_is_refused() -> None:
    """A body without reports has nothing that could be truncated."""
    with pytest.raises(BodyError, match="must be at most 1048576 bytes"):
        SERIALIZER.serialize(EventType.REPO_SYNC_STARTED, {"repo_id": "x" * MAX_BODY_BYTES})


def test_no_cap_truncates_nothing(body_of: MakeBody) -> None:
    """Without a cap a body may be as large as it is."""
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
    """A body of 50 MB is truncated or refused, with less than four times as much memory."""
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
    """Hosts keep bodies in mappings of their own, and find them as they were."""
    given = body_of(SYNC, started="2012-07-06T17:49:11+02:00", details={"names": {"b", "a"}})
    before = repr(given)
    body = SERIALIZER.serialize(SYNC, wrap(given))
    assert type(body) is dict
    assert body == body_of(SYNC, started="2012-07-06T15:49:11Z", details={"names": ["a", "b"]})
    assert repr(given) == before


def test_many_threads_may_share_a_serializer(body_of: MakeBody) -> None:
    """One object serves all threads of a host, and mixes nothing up."""
    bodies = [body_of(SYNC, repo_id=f"repo-{number}", details={"number": number}) for number in range(400)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda body: SERIALIZER.serialize(SYNC, body), bodies)) == bodies


@given(report=st.dictionaries(KEYS, REPORTS, max_size=4))
def test_call_report_follows_the_rules_of_reports(report: dict[Any, object], as_json: AsJson) -> None:
    """The report of a task is an object of JSON values, whatever the host knows about its task."""
    converted = SERIALIZER.serialize_call_report(report)
    assert isinstance(converted, dict)
    assert len(converted) == len(report)
    assert as_json(SERIALIZER.serialize_call_report(converted)) == as_json(converted)


def test_call_report_is_null_outside_of_a_task() -> None:
    """No task, no report."""
    assert SERIALIZER.serialize_call_report(None) is None


def test_call_report_over_the_cap_is_truncated() -> None:
    """The cap holds for the report of a task too."""
    report = {"log": "x" * 10_000}
    truncated = BodySerializer(5000).serialize_call_report(report)
    assert truncated == {"truncated": True, "bytes": 10_010, "start": truncated and truncated["start"]}
    assert BodySerializer(max_bytes=None).serialize_call_report(report) == report


def test_body_is_checked_without_being_sent(body_of: MakeBody) -> None:
    """`validate` refuses what `serialize` refuses, and says the same."""
    SERIALIZER.validate(SYNC, body_of(SYNC))
    with pytest.raises(BodyError) as caught:
        SERIALIZER.validate(SYNC, {"repo_id": 7})
    assert caught.value.errors[0] == FieldError("importer_type_id", "", "is missing")
    assert FieldError("repo_id", "7", "must be text") in caught.value.errors


def test_part_of_a_body_is_checked_without_what_is_missing() -> None:
    """A host that has a few fields already may check these alone."""
    SERIALIZER.validate(SYNC, {"repo_id": "files"}, partial=True)
    SERIALIZER.validate(SYNC, {}, partial=True)
    with pytest.raises(BodyError) as caught:
        SERIALIZER.validate(SYNC, {"repo_id": "", "colour": 1}, partial=True)
    assert [error.field for error in caught.value.errors] == ["repo_id", "colour"]
