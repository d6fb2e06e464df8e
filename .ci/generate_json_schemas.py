"""Generate the JSON Schema of each body from its marshmallow schema; with `--check` say whether they are up to date."""

import json
import sys
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import fields, missing

from pulp_hooks import EventType
from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.bodies.fields import Instant
from pulp_hooks.bodies.json_schema import schema_id
from pulp_hooks.bodies.schemas import schema_of

FOLDER = Path(__file__).parent.parent / "pulp_hooks" / "bodies" / "json_schemas"
WHAT_JSON_SCHEMA_KNOWS = {"type", "minLength", "minimum", "maximum", "enum", "items", "format", "pattern"}


def instant(_converter: object, field: fields.Field[Any], **_: object) -> dict[str, Any]:
    """Say of a moment what its format promises: UTC, in whole seconds."""
    if not isinstance(field, Instant):
        return {}
    return {"format": "date-time", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"}


def generate(event_type: EventType) -> str:
    """Return the JSON Schema as text."""
    plugin = MarshmallowPlugin()
    APISpec("bodies", "1", openapi_version="3.1.0", plugins=[plugin])
    if plugin.converter is None:
        raise RuntimeError("apispec has not set its plugin up")
    plugin.converter.add_attribute_function(instant)  # type: ignore[no-untyped-call] # apispec has not annotated it
    schema = schema_of(event_type)
    properties: dict[str, dict[str, Any]] = {}
    for name, field in schema.fields.items():
        described = plugin.converter.field2property(field)
        properties[name] = {key: value for key, value in described.items() if key in WHAT_JSON_SCHEMA_KNOWS}
        if field.load_default is not missing:
            # Null is taken for "not given" there, and no listener ever sees it.
            properties[name]["type"] = "string"
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_id(event_type),
        "title": f"Body of {event_type}",
        "type": "object",
        "properties": properties,
        # What a listener receives has every field, those included that the host may leave out.
        "required": list(properties),
        "additionalProperties": False,
        "examples": [EXAMPLES[event_type]],
    }
    return json.dumps(document, indent=2) + "\n"


def main() -> int:
    """Write the files, or with `--check` compare them."""
    stale = []
    for event_type in EventType:
        path = FOLDER / f"{event_type}.json"
        text = generate(event_type)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run `python .ci/generate_json_schemas.py`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
