"""The formats in which notifiers send events: Pulp 2's, Standard Webhooks and CloudEvents."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote

from pulp_hooks.bodies.json_schema import schema_id

if TYPE_CHECKING:
    from pulp_hooks.event import Event


class Format(StrEnum):
    """A format of messages.

    Attributes:
        PULP2: `{"event_type", "payload", "call_report"}`, byte for byte as receivers of Pulp 2's notifiers know it.
        STANDARD: `{"type", "timestamp", "data"}`, as Standard Webhooks 1.0.0 advises.
        CLOUDEVENTS: CloudEvents 1.0.2 in structured mode: one JSON object with the attributes and the body as `data`.
        CLOUDEVENTS_BINARY: CloudEvents 1.0.2 in binary mode: the body is the message, the attributes are its headers.
    """

    PULP2 = "pulp2"
    STANDARD = "standard"
    CLOUDEVENTS = "cloudevents"
    CLOUDEVENTS_BINARY = "cloudevents-binary"


@dataclass(frozen=True, slots=True)
class Message:
    """An event in a format.

    Attributes:
        content_type: Media type of the content.
        content: The content, JSON in UTF-8.
        attributes: CloudEvents attributes to send as headers, by name without prefix; empty but in binary mode.
    """

    content_type: str
    content: bytes = field(repr=False)
    attributes: Mapping[str, str]


def write_message(event: "Event", format_: Format) -> Message:
    """Return an event as a message in this format."""
    return _WRITERS[format_](event)


def cloudevents_attributes(event: "Event") -> dict[str, str]:
    """Return the context attributes of an event, as CloudEvents 1.0.2 defines them, without `datacontenttype`.

    `subject` and `partitionkey` are the repository. Characters that a URI, or the type String of CloudEvents, does not
    allow are percent-encoded. The extension attributes `operationid` and `causedby` have those of the event, if any.
    """
    repo_id = _FORBIDDEN.sub(lambda found: quote(found[0]), str(event.body["repo_id"]))
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": quote(event.source, safe=_URI),
        "type": f"org.pulpproject.{event.type.wire_name}",
        "time": _time(event),
        "subject": repo_id,
        "dataschema": schema_id(event.type),
        "partitionkey": repo_id,
    }
    correlation = {"operationid": event.operation_id, "causedby": event.caused_by}
    return attributes | {name: value for name, value in correlation.items() if value is not None}


_URI = "!#$%&'()*+,/:;=?@[]~"
"""Characters besides letters, digits and `_.-` that a URI may have (RFC 3986, section 2)."""

_NONCHARACTERS = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))

_FORBIDDEN = re.compile(f"[\0-\x1f\x7f-\x9f\ufdd0-\ufdef{_NONCHARACTERS}]")
"""Characters that the type String of CloudEvents disallows: control characters and noncharacters of Unicode."""


def _time(event: "Event") -> str:
    return str(event.to_dict()["time"])


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _pulp2(event: "Event") -> Message:
    content = {"event_type": event.type.wire_name, "payload": event.body, "call_report": event.call_report}
    # As Pulp 2 did: a blank after each separator, and ASCII only.
    return Message("application/json", json.dumps(content, allow_nan=False).encode(), {})


def _standard(event: "Event") -> Message:
    content = {"type": event.type.wire_name, "timestamp": _time(event), "data": event.body}
    return Message("application/json", _json(content), {})


def _cloudevents(event: "Event") -> Message:
    content = {**cloudevents_attributes(event), "datacontenttype": "application/json", "data": event.body}
    return Message("application/cloudevents+json", _json(content), {})


def _cloudevents_binary(event: "Event") -> Message:
    return Message("application/json", _json(event.body), cloudevents_attributes(event))


_WRITERS: dict[Format, "Callable[[Event], Message]"] = {
    Format.PULP2: _pulp2,
    Format.STANDARD: _standard,
    Format.CLOUDEVENTS: _cloudevents,
    Format.CLOUDEVENTS_BINARY: _cloudevents_binary,
}
