"""Tests of the shipped JSON Schemas."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks import EventType
from pulp_hooks.bodies.json_schema import VERSION, json_schema
from pulp_hooks.bodies.schemas import schema_of
from pulp_hooks.bodies.serializer import BodySerializer

ROOT = Path(__file__).parents[2]
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER

_identifiers = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_texts = st.none() | st.text()
_counts = st.none() | st.integers(0, 2**63 - 1)
_zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
_moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=_zones)  # noqa: DTZ001 - bounds are naive
_anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(object),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner) | st.tuples(inner),
    max_leaves=8,
)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "started": _moments,
    "completed": _moments.map(datetime.isoformat),
    "summary": _anything,
    "details": _anything,
    "exception": _texts,
    "error_message": _texts,
    "traceback": st.none() | st.lists(st.text()),
    "added_count": _counts,
    "updated_count": _counts,
    "removed_count": _counts,
    "id": st.none() | _identifiers,
    "result": st.sampled_from(["success", "failed", "error", "canceled"]),
}


def _bodies(event_type: EventType) -> st.SearchStrategy[dict[str, Any]]:
    names = [name for name in schema_of(event_type).fields if name != "_ns"]
    return st.fixed_dictionaries({name: _FIELDS.get(name, _identifiers) for name in names})


def _validator(event_type: EventType) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(json_schema(event_type)), format_checker=FORMATS)


@pytest.mark.parametrize("event_type", EventType)
@given(data=st.data())
def test_every_serialized_body_validates(event_type: EventType, data: st.DataObject) -> None:
    """Every body that listeners receive is valid by its JSON Schema."""
    body = BodySerializer().serialize(event_type, data.draw(_bodies(event_type)))
    _validator(event_type).validate(json.loads(json.dumps(body, allow_nan=False)))


@pytest.mark.parametrize("event_type", EventType)
def test_missing_and_unknown_fields_do_not_validate(event_type: EventType) -> None:
    """The JSON Schema has exactly the fields of the body, all of them required."""
    schema = json.loads(json_schema(event_type))
    (example,) = schema["examples"]
    for name in example:
        lacking = {key: value for key, value in example.items() if key != name}
        assert not _validator(event_type).is_valid(lacking)
    assert not _validator(event_type).is_valid(example | {"unknown": 1})
    assert schema["required"] == list(schema_of(event_type).fields)


@pytest.mark.parametrize("event_type", EventType)
def test_id_has_event_type_and_version(event_type: EventType) -> None:
    """The `$id` names the event type and the version."""
    assert json.loads(json_schema(event_type))["$id"] == f"urn:pulp-hooks:body:{event_type}:{VERSION}"


def test_shipped_files_are_what_the_schemas_generate() -> None:
    """The shipped JSON Schemas match those generated from the marshmallow schemas."""
    command = [sys.executable, str(ROOT / ".ci" / "generate_json_schemas.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_times_are_dumped_in_utc() -> None:
    """Times with an offset are converted to UTC; the offset is not dropped."""
    moment = datetime(2012, 7, 6, 17, 49, 11, 999_999, tzinfo=timezone(timedelta(hours=2)))
    schema = schema_of(EventType.REPO_SYNC_FINISHED)
    assert schema.fields["started"].deserialize(moment) == datetime(2012, 7, 6, 15, 49, 11, tzinfo=UTC)
