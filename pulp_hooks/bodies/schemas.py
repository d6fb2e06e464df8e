"""The marshmallow schema of each body: exactly the fields that the specification of the events shows."""

from contextlib import suppress
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, missing

from pulp_hooks.bodies import fields
from pulp_hooks.event_types import EventType


class BodySchema(Schema):
    """What the four schemas have in common: no other fields than theirs, and a short way for what is right.

    marshmallow's own way from field to field takes longer than a database takes to store the event.
    """

    class Meta:
        """Kept out of marshmallow's global registry, so that no schema of the host can meet ours there."""

        register = False
        unknown = RAISE

    error_messages = {"unknown": "is no field of this body", "type": "must be an object"}  # noqa: RUF012 - as inherited

    def __init__(self) -> None:
        super().__init__()
        self._ways = [(name, field.metadata[fields.PLAIN], field.deserialize) for name, field in self.fields.items()]
        self._moments = [name for name, field in self.fields.items() if isinstance(field, fields.Instant)]

    def load(self, data: Any, *, partial: Any = None, **options: Any) -> Any:  # noqa: ANN401 - as inherited
        """Give the loaded body, as inherited; where something is wrong, marshmallow gathers all that is."""
        if type(data) is dict and not partial and not options and data.keys() <= self.fields.keys():
            with suppress(ValidationError):
                return {
                    name: value if is_plain(value := data.get(name, missing)) else deserialize(value, name, data)
                    for name, is_plain, deserialize in self._ways
                }
        return super().load(data, partial=partial, **options)

    def dump(self, obj: Any, **options: Any) -> Any:  # noqa: ANN401 - as inherited
        """Give the body as listeners receive it: all but the moments are JSON values since they were loaded."""
        del options
        return obj | {name: self.fields[name].serialize(name, obj) for name in self._moments}


class RepoSyncStartedSchema(BodySchema):
    """Schema of the body of `repo-sync-started`."""

    repo_id = fields.identifier()


class RepoSyncFinishedSchema(BodySchema):
    """Schema of the body of `repo-sync-finished`."""

    importer_type_id = fields.identifier()
    importer_id = fields.identifier()
    exception = fields.text()
    repo_id = fields.identifier()
    removed_count = fields.count()
    started = fields.Instant()
    _ns = fields.constant("repo_sync_results")
    completed = fields.Instant()
    traceback = fields.text_list()
    summary = fields.reported()
    added_count = fields.count()
    error_message = fields.text()
    updated_count = fields.count()
    details = fields.reported()
    id = fields.result_id()
    result = fields.choice("success", "failed", "error", "canceled")


class RepoPublishStartedSchema(BodySchema):
    """Schema of the body of `repo-publish-started`."""

    repo_id = fields.identifier()
    distributor_id = fields.identifier()


class RepoPublishFinishedSchema(BodySchema):
    """Schema of the body of `repo-publish-finished`."""

    exception = fields.text()
    repo_id = fields.identifier()
    started = fields.Instant()
    _ns = fields.constant("repo_publish_results")
    completed = fields.Instant()
    traceback = fields.text_list()
    distributor_type_id = fields.identifier()
    summary = fields.reported()
    error_message = fields.text()
    details = fields.reported()
    distributor_id = fields.identifier()
    id = fields.result_id()
    result = fields.choice("success", "failed", "error", "canceled", "skipped")


def schema_of(event_type: EventType) -> BodySchema:
    """Give a schema for the bodies of this event type."""
    schema: type[BodySchema] = globals()[f"{event_type.body_name}Schema"]
    return schema()
