"""Listeners: plugins and configured notifiers, loaded, or with the reason why not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.plugins.discovery import Installed
from pulp_hooks.plugins.inspection import Implementation


class State(StrEnum):
    """Whether a listener is loaded, and if not, why."""

    LOADED = "loaded"
    BLOCKED = "blocked"
    BROKEN = "broken"
    AVAILABLE = "available"
    """An installed notifier that no configured listener uses."""
    NOT_BUILT = "not-built"
    """A configured listener in a host with a journal, which needs only its name and filters to queue events."""


class Kind(StrEnum):
    """Origin of a listener."""

    PLUGIN = "plugin"
    NOTIFIER = "notifier"
    CONFIGURED = "configured"


@dataclass(frozen=True, slots=True)
class Listener:
    """A plugin, notifier or configured listener.

    Attributes:
        name: Name of the plugin, notifier or configured listener.
        kind: A plugin, a notifier class, or a listener configured from one.
        state: Whether it is loaded, and if not, why.
        installed: The installed plugin; null for an object in hand.
        event_types: The event types that it receives.
        implementations: The hook implementations to call.
        wants: Returns whether its filters accept an event; null without filters.
        secrets: Strings to redact in logs and outcomes.
        close: Called once when the host closes its listeners.
        fault: Why it is broken; null otherwise.
    """

    name: str
    kind: Kind
    state: State
    installed: Installed | None = field(default=None, repr=False)
    event_types: Sequence[EventType] = field(default=(), repr=False)
    implementations: Sequence[Implementation] = field(default=(), repr=False)
    wants: Callable[[Event], bool] | None = field(default=None, repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)
    close: Callable[[], None] | None = field(default=None, repr=False)
    fault: str | None = field(default=None, repr=False)

    @property
    def distribution(self) -> str | None:
        """Name of its package; null for an object in hand."""
        return self.installed.distribution if self.installed else None

    @property
    def version(self) -> str | None:
        """Version of its package; null for an object in hand."""
        return self.installed.version if self.installed else None

    @property
    def hooks(self) -> tuple[str, ...]:
        """Names of the hooks that it implements, in the order of the event types."""
        return tuple(event_type.hook_name for event_type in EventType if event_type in self.event_types)

    def takes(self, event: Event) -> bool:
        """Return whether it receives this event: it implements the hook, and its filters accept the event."""
        return event.type in self.event_types and (self.wants is None or self.wants(event))
