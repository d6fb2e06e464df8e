"""Tests of the event, the envelope of a body."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.bodies.serializer import BodySerializer
from pulp_hooks.errors import BodyError, EventError
from pulp_hooks.event import Event, check_source, read_stored
from pulp_hooks.event_types import EventType

SERIALIZER = BodySerializer()
EVENT = Event(
    id="4ff7413a8a905b777d000072",
    type=EventType.REPO_PUBLISH_STARTED,
    time=datetime(2012, 7, 6, 15, 49, 11, 5, tzinfo=UTC),
    source="pulp-hooks://mirror.example.org",
    body={"repo_id": "pulp-f16", "distributor_id": "yum_distributor"},
)
DEEP = 100_000


def changed(**members: object) -> str:
    """Return the event as JSON, with some members changed."""
    return json.dumps({**EVENT.to_dict(), **members})


def without(member: str) -> str:
    """Return the event as JSON, without one member."""
    return json.dumps({name: value for name, value in EVENT.to_dict().items() if name != member})


def test_event_is_frozen() -> None:
    """Members cannot be set, deleted or added."""
    for member in (*EVENT.to_dict(), "colour"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(EVENT, member, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(EVENT, member)


def test_event_is_equal_and_hashable_by_its_members() -> None:
    """Events can be compared, and used in sets and as keys."""
    same = dataclasses.replace(EVENT, body=dict(EVENT.body))
    assert same == EVENT
    assert len({same, EVENT, dataclasses.replace(EVENT, id="1")}) == 2
    assert dataclasses.replace(EVENT, body={}) != EVENT


def test_repr_has_neither_body_nor_call_report() -> None:
    """The `repr` is short, and has neither body nor report of the task."""
    event = dataclasses.replace(EVENT, body={"repo_id": "s3cret"}, call_report={"token": "s3cret"})
    assert "s3cret" not in repr(event)
    assert event.id in repr(event)


def test_event_as_json_has_the_members_of_the_envelope() -> None:
    """The JSON has the eight members of the envelope, with type ID, time in UTC, and the body of the specification."""
    assert EVENT.to_json() == (
        '{"id":"4ff7413a8a905b777d000072","type":"repo-publish-started","time":"2012-07-06T15:49:11.000005Z",'
        '"source":"pulp-hooks://mirror.example.org",'
        '"body":{"repo_id":"pulp-f16","distributor_id":"yum_distributor"},"call_report":null,"operation_id":null,"caused_by":null}'
    )


def test_event_as_json_is_readable() -> None:
    """Letters of any script are not escaped."""
    assert '"repo_id":"Würzburg 😀"' in dataclasses.replace(EVENT, body={"repo_id": "Würzburg 😀"}).to_json()


def test_nan_is_never_written() -> None:
    """An event made by hand with `NaN` cannot be written."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(EVENT, call_report={"load": float("nan")}).to_json()


@pytest.mark.parametrize(
    ("time", "written"),
    [
        (datetime(2012, 7, 6, 17, 49, 11, tzinfo=timezone(timedelta(hours=2))), "2012-07-06T15:49:11Z"),
        (datetime(987, 6, 5, tzinfo=UTC), "0987-06-05T00:00:00Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_time_is_written_in_utc(time: datetime, written: str) -> None:
    """A time of any zone is written in UTC with `Z`."""
    assert dataclasses.replace(EVENT, time=time).to_dict()["time"] == written


def test_example_in_an_event_is_read_back_unchanged(example: tuple[EventType, dict[str, Any]]) -> None:
    """Each example body of the specification passes unchanged through an event and its JSON."""
    event_type, body = example
    event = dataclasses.replace(EVENT, type=event_type, body=body)
    assert json.loads(event.to_json())["body"] == body
    assert Event.from_json(event.to_json()) == event


TEXTS = st.text(min_size=1)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=10,
)
TIMES = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - the zone comes with the offset
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001 - the zone comes with the offset
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def sync_finished(repo_id: str, details: object) -> dict[str, Any]:
    """Return the body of a sync of this repository, with these details."""
    event_type = EventType.REPO_SYNC_FINISHED
    return SERIALIZER.serialize(event_type, {**EXAMPLES[event_type], "repo_id": repo_id, "details": details})


EVENTS = st.builds(
    Event,
    id=TEXTS,
    type=st.just(EventType.REPO_SYNC_FINISHED),
    time=TIMES,
    source=TEXTS.filter(lambda text: text.isprintable() and not set(text) & set(" @")),
    body=st.builds(sync_finished, TEXTS, JSON_VALUES),
    call_report=st.none() | st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    operation_id=st.none() | TEXTS,
    caused_by=st.none() | TEXTS,
)


@given(event=EVENTS, encode=st.sampled_from([str, str.encode]))
def test_event_is_read_back_from_its_json(event: Event, encode: Callable[[str], str | bytes]) -> None:
    """An event is written as one line of valid UTF-8, and read back as an equal event."""
    text = event.to_json()
    assert not set(text) & set("\r\n")
    again = Event.from_json(encode(text))
    assert again == event
    assert again.time.utcoffset() == timedelta(0)
    assert again.to_json() == text


@pytest.mark.parametrize(
    "name", ["e\u0301", "\u00e9", "a\x00b", "\u2028\u2029\x85", "\ufeff", "\u202e", "\\ud800", '"', "😀"]
)
def test_unusual_repository_name_is_read_back(name: str) -> None:
    """Unusual names of repositories are neither normalized nor truncated."""
    event = dataclasses.replace(EVENT, body={**EVENT.body, "repo_id": name})
    assert Event.from_json(event.to_json().encode()).body["repo_id"] == name


@pytest.mark.parametrize("details", [json.loads("[" * 100 + "7" + "]" * 100), "x" * 2**20, b"\xff"])
def test_truncated_report_is_read_back(details: object) -> None:
    """A report that was truncated when it was fired is read back unchanged."""
    event = dataclasses.replace(EVENT, type=EventType.REPO_SYNC_FINISHED, body=sync_finished("files", details))
    assert Event.from_json(event.to_json()) == event


@pytest.mark.parametrize("spelling", ["repo-publish-started", "repo_publish_started", "repo.publish.start"])
def test_type_is_read_in_any_spelling(spelling: str) -> None:
    """An event with the type in any spelling is read as the same event."""
    assert Event.from_json(changed(type=spelling)) == EVENT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "7",
        "[]",
        '"repo-sync-started"',
        EVENT.to_json() + "x",
        b"\xff\xfe\xfd",
        EVENT.to_json().encode("latin-1") + b"\xe9",
        "[" * DEEP,
        changed(id=1).replace("1", "1" * 5000, 1),
        *(changed(call_report={"x": float(name)}) for name in ("nan", "inf", "-inf")),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_json_that_is_not_an_object_is_refused(text: str | bytes) -> None:
    """Invalid JSON, JSON beyond RFC 8259, and anything but an object is not an event."""
    with pytest.raises(EventError, match="invalid event: "):
        Event.from_json(text)


READERS = pytest.mark.parametrize("read", [Event.from_json, read_stored])
Reader = Callable[[str | bytes], Event]
ADDED_LATER = ("operation_id", "caused_by")
"""Members that the first envelopes did not have."""


@pytest.mark.parametrize("member", sorted(EVENT.to_dict().keys() - ADDED_LATER))
@READERS
def test_missing_member_is_refused_by_name(read: Reader, member: str) -> None:
    """A member that all releases write is required, even if it may be null."""
    with pytest.raises(ValueError, match=rf"event: .*\b{member}\b"):
        read(without(member))


@pytest.mark.parametrize("member", ADDED_LATER)
@READERS
def test_envelope_of_an_older_release_is_read(read: Reader, member: str) -> None:
    """A member that an older release does not write is read as null."""
    assert read(without(member)) == EVENT


@READERS
def test_unknown_members_are_ignored(read: Reader) -> None:
    """Unknown members of the envelope, as of a newer release, are ignored."""
    assert read(changed(colour="red", **{"x" * 10**6: 1, "\ud800": [], "": {}})) == EVENT


@READERS
def test_unknown_fields_of_a_body_are_kept(read: Reader) -> None:
    """Unknown fields of a body, as of a newer release, are kept and passed to listeners."""
    body = {**EVENT.body, "mirror": {"deep": json.loads("[" * 60 + "]" * 60)}, "count": 3, "€": None}
    event = read(changed(body=body))
    assert event.body == body
    assert Event.from_json(event.to_json()) == event


@READERS
def test_unknown_event_type_is_refused(read: Reader) -> None:
    """An unknown event type is refused, because it has no hook."""
    with pytest.raises(ValueError, match="repo-remove-started"):
        read(changed(type="repo-remove-started"))


@pytest.mark.parametrize("content", ["", "{", "null", "7", "[]", '"x"', "[" * DEEP, "{}", changed(type=7)])
def test_unreadable_content_of_a_journal_raises_value_error(content: str) -> None:
    """An unreadable event raises an error that a worker handles."""
    with pytest.raises(ValueError, match=r"unreadable event|Expecting|not an event type"):
        read_stored(content)


WRONG: dict[str, list[object]] = {
    "id": [None, "", 7, [], {}, True],
    "type": [None, "", "repo-sync", 7, [], {}, True],
    "time": [
        *(None, "", "now", 0, 1341589751.5, [], "2012-07-06", "2012-07-06T15:49:11", "2012-07-06T15:49:11+25:00"),
        *("2012-06-30T23:59:60Z", "2012-02-30T00:00:00Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"),
    ],
    "source": [None, "", 7, [], "a b", "a\nb", "a\x00b", "\ud800", "http://u:p@host/"],
    "call_report": ["", 7, [], True],
    "operation_id": ["", 7, [], {}, True, "\ud800"],
    "caused_by": ["", 7, [], {}, True, "\ud800"],
}


@pytest.mark.parametrize(("member", "value"), [(member, value) for member, values in WRONG.items() for value in values])
def test_wrong_member_is_refused(member: str, value: object) -> None:
    """A member with an invalid type or value is refused."""
    with pytest.raises(EventError, match=member):
        Event.from_json(changed(**{member: value}))


@pytest.mark.parametrize("body", [None, [], "x", {}, {"repo_id": "x"}, {"x": 1}, {**EVENT.body, "x": 1, "repo_id": 7}])
def test_wrong_body_is_refused(body: object) -> None:
    """The known fields of a body are validated as when fired."""
    with pytest.raises(BodyError):
        Event.from_json(changed(body=body))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("id", "\ud800"),
        *(("call_report", {"x": "\ud800"}), ("call_report", {"\ud800": 1}), ("call_report", {"x": 1e999})),
        *(("body", {**EVENT.body, **odd}) for odd in ({"x": "\ud800"}, {"\ud800": 1}, {"x": 1e999})),
    ],
)
def test_event_that_was_read_can_be_written(member: str, value: object) -> None:
    """Text that cannot be written as UTF-8 is replaced or refused when the event is read."""
    text = changed(**{member: value}).replace("Infinity", "1e999")
    with suppress(EventError):
        json.loads(Event.from_json(text).to_json().encode())


@pytest.mark.parametrize(
    "text",
    [
        changed(type="x" * 10**6),
        changed(time="x" * 10**6),
        changed(source="x " * 10**6),
        changed(body={**EVENT.body, "repo_id": ["x" * 10**6]}),
    ],
    ids=["type", "time", "source", "body"],
)
def test_huge_member_is_not_printed_whole(text: str) -> None:
    """A message shows only the beginning of a long value."""
    with pytest.raises(ValueError, match=r"event|body|source") as caught:
        Event.from_json(text)
    assert len(str(caught.value)) < 2000


def test_messages_are_one_printable_line() -> None:
    """The content of an event cannot forge log lines."""
    with pytest.raises(EventError) as caught:
        Event.from_json(changed(time="x\nroot: all is well"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "source",
    [
        "pulp-hooks://mirror",
        "https://mirror.example.org:8443/pulp?zone=1#2",
        "https://[::1]/",
        "urn:uuid:4ff7413a-8a90-5b77-7d00-00724ff7413a",
        "mailto:admin@example.org",
        "/mirror",
        "https://host/user@example.org",
        "https://host?mail=a@b",
        "https://host#a@b",
    ],
)
def test_source_may_be_any_uri_without_userinfo(source: str) -> None:
    """An `@` is only refused in the authority of a URI."""
    assert check_source(source) == source


@pytest.mark.parametrize("source", ["", " ", "a b", "a\tb", "a\nb", "a\x7f", "a\u2028b", "a\u202eb", "\ud800"])
def test_source_that_is_not_a_uri_is_refused(source: str) -> None:
    """A source is a URI without blanks and control characters."""
    with pytest.raises(EventError, match="must be a URI"):
        check_source(source)


@pytest.mark.parametrize(
    "source",
    [
        "https://user:s3cret@host/",
        "https://s3cret@host",
        "https://user:s3cret@host:8443/path?query",
        "//user:s3cret@host",
        "HTTPS://user:s3cret@host",
        "amqp://:s3cret@host//",
        "https://user%40corp:s3cret@host/",
        "https://a@b:s3cret@host/",
        "https://user:s3cret@host/a b",
        "https://user:s3cret@host/\n",
        "https://user:s3 cret@host/",
    ],
)
def test_secret_in_a_source_is_refused_and_not_repeated(source: str) -> None:
    """A source with user name or password is refused, and the message does not repeat it."""
    with pytest.raises(EventError, match="source") as caught:
        check_source(source)
    assert "cret" not in str(caught.value)
    with pytest.raises(EventError) as caught:
        Event.from_json(changed(source=source))
    assert "cret" not in str(caught.value)
