"""The marshmallow schema of each body, with exactly the fields of the specification."""

from contextlib import suppress
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, missing

from pulp_hooks.bodies import fields
from pulp_hooks.event_types import EventType


class BodySchema(Schema):
    """Base of the four schemas: refuses unknown fields, and has a fast path for valid bodies.

    marshmallow's own loop over the fields takes longer than a database takes to store the event.
    """

    class Meta:
        """Keep out of marshmallow's global registry, where a schema of the host may have the same name."""

        register = False
        unknown = RAISE

    error_messages = {"unknown": "is not a field of this body", "type": "must be an object"}  # noqa: RUF012 - as inherited

    def __init__(self) -> None:
        super().__init__()
        self._loaders = [(name, field.metadata[fields.PLAIN], field.deserialize) for name, field in self.fields.items()]
        self._times = [name for name, field in self.fields.items() if isinstance(field, fields.Instant)]

    def load(self, data: Any, *, partial: Any = None, **options: Any) -> Any:  # noqa: ANN401 - as inherited
        """Return the loaded body. If it is invalid, marshmallow collects all errors."""
        if type(data) is dict and not partial and not options and data.keys() <= self.fields.keys():
            with suppress(ValidationError):
                return {
                    name: value if is_plain(value := data.get(name, missing)) else deserialize(value, name, data)
                    for name, is_plain, deserialize in self._loaders
                }
        return super().load(data, partial=partial, **options)

    def dump(self, obj: Any, **options: Any) -> Any:  # noqa: ANN401 - as inherited
        """Return the body as listeners receive it. Only times need dumping: other fields load as JSON values."""
        del options
        return obj | {name: self.fields[name].serialize(name, obj) for name in self._times}


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
    """Return a schema for the bodies of this event type."""
    schema: type[BodySchema] = globals()[f"{event_type.body_name}Schema"]
    return schema()
