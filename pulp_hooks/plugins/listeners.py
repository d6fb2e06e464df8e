"""Listeners: plugins and configured notifiers, loaded and ready to be called, or the reason why not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.plugins.discovery import Installed
from pulp_hooks.plugins.inspection import Implementation


class State(StrEnum):
    """What became of a listener when it was loaded."""

    LOADED = "loaded"
    BLOCKED = "blocked"
    BROKEN = "broken"
    AVAILABLE = "available"
    """A notifier that is installed, and that no listener of the settings uses."""
    NOT_BUILT = "not-built"
    """A configured listener of a host with a journal, which queues events for it by name and filters alone."""


class Kind(StrEnum):
    """Where a listener comes from."""

    PLUGIN = "plugin"
    NOTIFIER = "notifier"
    CONFIGURED = "configured"


@dataclass(frozen=True, slots=True)
class Listener:
    """One line of the list of listeners.

    Attributes:
        name: Name of the plugin, or of the configured listener.
        kind: A plugin, a notifier class, or a listener configured from one.
        state: Whether it is loaded, and if not why.
        installed: What brings it; null for an object in hand.
        event_types: The event types that it takes.
        implementations: What is called.
        wants: Returns whether its filters let an event pass.
        secrets: Texts that must not appear in logs and outcomes.
        close: Called once when the host ends.
        fault: Why it is broken; null if it is not.
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
        """Name of the package that brings it; null for an object in hand."""
        return self.installed.distribution if self.installed else None

    @property
    def version(self) -> str | None:
        """Version of that package."""
        return self.installed.version if self.installed else None

    @property
    def hooks(self) -> tuple[str, ...]:
        """Names of the hooks that it implements, in the order of the event types."""
        return tuple(event_type.hook_name for event_type in EventType if event_type in self.event_types)

    def takes(self, event: Event) -> bool:
        """Return whether this event is for it: it implements the hook, and its filters let the event pass."""
        return event.type in self.event_types and (self.wants is None or self.wants(event))
