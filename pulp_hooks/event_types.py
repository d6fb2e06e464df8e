"""The event types, each with all of its names."""

from enum import StrEnum
from typing import Self

from pulp_hooks.errors import UnknownEventTypeError
from pulp_hooks.text import did_you_mean, shortened_repr


class EventType(StrEnum):
    """One of the four event types. Its string value is the type ID of the specification.

    `EventType(name)` accepts any of the three spellings.

    Attributes:
        hook_name: Name of the hook that plugins implement.
        wire_name: Dotted name in messages and routing keys, as sent by Pulp 2.
        body_name: Name of the body's `TypedDict`; its schema's name is this and `Schema`.

    Raises:
        UnknownEventTypeError: The name is not an event type. The message suggests the nearest one.
    """

    hook_name: str
    wire_name: str
    body_name: str

    REPO_SYNC_STARTED = ("repo-sync-started", "repo_sync_started", "repo.sync.start")
    REPO_SYNC_FINISHED = ("repo-sync-finished", "repo_sync_finished", "repo.sync.finish")
    REPO_PUBLISH_STARTED = ("repo-publish-started", "repo_publish_started", "repo.publish.start")
    REPO_PUBLISH_FINISHED = ("repo-publish-finished", "repo_publish_finished", "repo.publish.finish")

    def __new__(cls, type_id: str, hook_name: str = "", wire_name: str = "") -> Self:
        """Return a member whose value is its type ID. The defaults let type checkers accept `EventType(name)`."""
        member = str.__new__(cls, type_id)
        member._value_ = type_id
        member.hook_name = hook_name
        member.wire_name = wire_name
        member.body_name = "".join(word.capitalize() for word in type_id.split("-"))
        return member

    @classmethod
    def _missing_(cls, value: object) -> Self:
        names = {name: member for member in cls for name in (member.value, member.hook_name, member.wire_name)}
        if isinstance(value, str) and value in names:
            return names[value]
        shown = shortened_repr(value)
        suggestion = did_you_mean(shown.strip("b'"), names, form="; did you mean {!r}?")
        raise UnknownEventTypeError(
            f"{shown} is not an event type{suggestion} (`pulp-hooks event-types` lists all four)"
        )
