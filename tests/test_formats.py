"""Tests of the formats: byte for byte what old receivers know, and what an independent CloudEvents library reads."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import cast

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.bodies.json_schema import json_schema
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.formats import Format, cloudevents_attributes, write_message
from pulp_hooks.testing import example_event

repo_ids = st.text(st.characters(codec="utf-8"), min_size=1)


def event_of(event_type: EventType, **changes: object) -> Event:
    """Return an event of a sync at a known time."""
    event = example_event(event_type, **changes)
    return replace(event, id="e1", time=datetime(2026, 3, 2, 9, 30, tzinfo=UTC))


def test_pulp2_is_byte_for_byte_what_pulp_2_sent() -> None:
    """Python's default separators, ASCII only, the wire name, and the keys in Pulp 2's order."""
    message = write_message(event_of(EventType.REPO_SYNC_STARTED, repo_id="zoö"), Format.PULP2)
    assert message.content == (
        rb'{"event_type": "repo.sync.start", "payload": {"repo_id": "zo\u00f6"}, "call_report": null}'
    )
    assert message.content_type == "application/json"


def test_pulp2_has_the_call_report() -> None:
    """The task of the host, as Pulp 2's receivers find it."""
    event = replace(event_of(EventType.REPO_SYNC_STARTED), call_report={"task_id": "t1"})
    assert json.loads(write_message(event, Format.PULP2).content)["call_report"] == {"task_id": "t1"}


def test_standard_has_the_three_members_of_standard_webhooks() -> None:
    """A full-stop delimited type, the time of the event and its body."""
    event = event_of(EventType.REPO_SYNC_STARTED, repo_id="zoo")
    assert json.loads(write_message(event, Format.STANDARD).content) == {
        "type": "repo.sync.start",
        "timestamp": "2026-03-02T09:30:00Z",
        "data": {"repo_id": "zoo"},
    }


@pytest.mark.parametrize("event_type", EventType)
def test_cloudevent_in_structured_mode_is_read_by_another_library(event_type: EventType) -> None:
    """The official SDK finds every attribute and the body."""
    event = replace(event_of(event_type), operation_id="o1", caused_by="o0")
    message = write_message(event, Format.CLOUDEVENTS)
    headers = {"content-type": message.content_type}
    read = from_structured_event(HTTPMessage(headers=headers, body=message.content), JSONFormat())
    assert read.get_data() == event.body
    attributes = read.get_attributes()
    assert attributes["time"] == event.time
    assert {name: value for name, value in attributes.items() if name != "time"} == {
        "specversion": "1.0",
        "id": "e1",
        "source": event.source,
        "type": f"org.pulpproject.{event_type.wire_name}",
        "subject": event.body["repo_id"],
        "dataschema": json.loads(json_schema(event_type))["$id"],
        "datacontenttype": "application/json",
        "partitionkey": event.body["repo_id"],
        "operationid": "o1",
        "causedby": "o0",
    }


def test_binary_mode_has_the_body_alone_and_the_attributes_apart() -> None:
    """`datacontenttype` is the media type of the message and no attribute."""
    event = event_of(EventType.REPO_PUBLISH_FINISHED)
    message = write_message(event, Format.CLOUDEVENTS_BINARY)
    assert json.loads(message.content) == event.body
    assert message.content_type == "application/json"
    assert message.attributes == cloudevents_attributes(event)
    headers = {f"ce-{name}": value for name, value in message.attributes.items()}
    read = from_http_event(
        HTTPMessage(headers={**headers, "content-type": message.content_type}, body=message.content), JSONFormat()
    )
    assert read.get_data() == event.body


@given(repo_id=repo_ids)
def test_attributes_are_strings_that_cloudevents_allows(repo_id: str) -> None:
    """Control characters and noncharacters are percent-encoded; everything else stays as it is."""
    subject = cloudevents_attributes(example_event("repo-sync-started", repo_id=repo_id))["subject"]
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or ord(c) & 0xFFFE == 0xFFFE for c in subject)
    if repo_id.isprintable():
        assert subject == repo_id


def test_source_is_a_uri_reference_in_ascii() -> None:
    """What a host named in its own letters is percent-encoded."""
    event = replace(event_of(EventType.REPO_SYNC_STARTED), source='https://köln.example/"a"?b=%20')
    assert cloudevents_attributes(event)["source"] == "https://k%C3%B6ln.example/%22a%22?b=%20"


@pytest.mark.parametrize("format_", Format)
def test_time_is_in_utc_whatever_the_zone_of_the_event(format_: Format) -> None:
    """The same moment gives the same message."""
    event = event_of(EventType.REPO_SYNC_STARTED)
    elsewhere = replace(event, time=event.time.astimezone(timezone(timedelta(hours=2))))
    assert write_message(elsewhere, format_) == write_message(event, format_)


@pytest.mark.parametrize("format_", Format)
@given(repo_id=repo_ids, text=st.none() | st.text(st.characters(codec="utf-8")))
def test_content_is_json_with_the_whole_body(format_: Format, repo_id: str, text: str | None) -> None:
    """Whatever an event says, its message is RFC 8259, and its body is in it unchanged."""
    event = example_event("repo-sync-finished", repo_id=repo_id, error_message=text)
    message = write_message(event, format_)
    content = json.loads(message.content.decode(), parse_constant=pytest.fail)
    found = {"pulp2": "payload", "standard": "data", "cloudevents": "data"}.get(format_)
    assert (content[found] if found else content) == cast("object", event.body)
