"""One tree of errors: everything this package raises on purpose is a `PulpHooksError`."""

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_SHOWN = 20


class PulpHooksError(Exception):
    """Base of every error that this package raises on purpose."""


class UnknownEventTypeError(PulpHooksError, ValueError):
    """A name that is no event type's, in any of its spellings."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One rule that one field of a body breaks.

    Attributes:
        field: Name of the field, with the position in a list behind it (`traceback[2]`).
        value: The value found, as a short `repr`; empty where the field is missing.
        rule: What the field has to be.
    """

    field: str
    value: str
    rule: str

    def __str__(self) -> str:
        return f"{self.field} = {self.value}: {self.rule}" if self.value else f"{self.field}: {self.rule}"


class BodyError(PulpHooksError, ValueError):
    """A body that is not what the specification shows; nothing was sent.

    Attributes:
        event_type: The event type's ID.
        errors: Every rule broken, in the order of the fields.
    """

    def __init__(self, event_type: str, errors: Sequence[FieldError]) -> None:
        self.event_type = event_type
        self.errors = tuple(errors)
        shown = [str(error) for error in self.errors[:_MOST_SHOWN]]
        if len(self.errors) > _MOST_SHOWN:
            shown.append(f"and {len(self.errors) - _MOST_SHOWN} more")
        super().__init__(
            f"the body is no {event_type} body: {'; '.join(shown)} "
            f"(`pulp-hooks schema {event_type}` shows what it has to be)"
        )

    def __reduce__(self) -> tuple[type["BodyError"], tuple[str, tuple[FieldError, ...]]]:
        return type(self), (self.event_type, self.errors)


class EventError(PulpHooksError, ValueError):
    """Something that is no event: an envelope with a wrong, missing or unknown member."""


class PluginError(PulpHooksError):
    """A plugin in hand that cannot be used as one, with every reason found."""


class SettingsError(PulpHooksError, ValueError):
    """Settings that are not valid; names the field and its rule, and never a value that may be a secret."""


class ClosedError(PulpHooksError, RuntimeError):
    """A `Hooks`, journal, worker or operation that has ended, or that a forked child inherited from its parent."""


class MirrorError(PulpHooksError):
    """A sync or publish of a file repository that could not be done; says which file."""


class JournalError(PulpHooksError):
    """A journal that cannot be opened or did not do what was asked; says which one and why, without a password.

    Attributes:
        event_id: Id of an event that may be stored although this was raised: fire it again with this id. Null where
            nothing is stored.
    """

    event_id: str | None = None
