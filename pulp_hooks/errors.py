"""The exceptions of this package, all derived from `PulpHooksError`."""

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_SHOWN = 20


class PulpHooksError(Exception):
    """Base class of all exceptions that this package raises on purpose."""


class UnknownEventTypeError(PulpHooksError, ValueError):
    """The name is not an event type in any spelling."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule of one field of a body.

    Attributes:
        field: Name of the field, and its position if it is in a list (`traceback[2]`).
        value: Shortened `repr` of the value; empty if the field is missing.
        rule: The broken rule, such as `must be a string`.
    """

    field: str
    value: str
    rule: str

    def __str__(self) -> str:
        return f"{self.field} {self.rule}, got {self.value}" if self.value else f"{self.field} {self.rule}"


class BodyError(PulpHooksError, ValueError):
    """The body is not valid for its event type; nothing was sent.

    Attributes:
        event_type: The type ID.
        errors: All broken rules, in the order of the fields.
    """

    def __init__(self, event_type: str, errors: Sequence[FieldError]) -> None:
        self.event_type = event_type
        self.errors = tuple(errors)
        shown = [str(error) for error in self.errors[:_MOST_SHOWN]]
        if len(self.errors) > _MOST_SHOWN:
            shown.append(f"and {len(self.errors) - _MOST_SHOWN} more")
        super().__init__(
            f"invalid {event_type} body: {'; '.join(shown)} (`pulp-hooks schema {event_type}` shows the valid fields)"
        )

    def __reduce__(self) -> tuple[type["BodyError"], tuple[str, tuple[FieldError, ...]]]:
        return type(self), (self.event_type, self.errors)


class EventError(PulpHooksError, ValueError):
    """The event is invalid: a member of its envelope is missing, or has a wrong type or value."""


class PluginError(PulpHooksError):
    """An object passed to `Hooks` cannot be used as a listener. The message has all reasons."""


class SettingsError(PulpHooksError, ValueError):
    """The settings are invalid. The message names the field and its rule, and never a value that may be secret."""


class ClosedError(PulpHooksError, RuntimeError):
    """The `Hooks`, journal, worker or operation was closed, or a forked child inherited it from its parent."""


class MirrorError(PulpHooksError):
    """The sync or publish of a file repository failed. The message names the file."""


class PulpError(PulpHooksError):
    """A Pulp server cannot be watched. The message names the server, never a password."""


class JournalError(PulpHooksError):
    """The journal cannot be opened, or an operation on it failed. The message names the journal without its password.

    Attributes:
        event_id: ID of an event that may have been stored despite this error. To retry, fire it again with this ID.
            `None` if nothing was stored.
    """

    event_id: str | None = None
