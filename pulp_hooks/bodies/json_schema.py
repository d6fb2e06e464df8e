"""The JSON Schema (2020-12) of each body, generated from the marshmallow schemas and shipped with the package."""

from importlib import resources

from pulp_hooks.event_types import EventType

VERSION = 1
"""Version of the JSON Schemas and last part of their `$id`. Increase it with every change visible to consumers."""


def json_schema(event_type: EventType) -> str:
    """Return the JSON Schema of this event type's bodies, as JSON text."""
    return (resources.files("pulp_hooks.bodies") / "json_schemas" / f"{event_type}.json").read_text(encoding="utf-8")


def schema_id(event_type: EventType) -> str:
    """Return the `$id` of the JSON Schema of this event type's bodies."""
    return f"urn:pulp-hooks:body:{event_type}:{VERSION}"
