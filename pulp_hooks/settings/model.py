"""What the settings say, once they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.problems import Problem


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One `[[listeners]]` table: a listener made of an installed notifier.

    Attributes:
        name: Name of the listener.
        notifier: Name of the notifier's entry point.
        event_types: The event types that it receives.
        repo_ids: Globs; only events of repositories that match one are received. Null: of all repositories.
        results: Only finished events with one of these results are received. Null: all events.
        config: The `[listeners.config]` table with every reference resolved. May hold secrets.
        secrets: The texts that came from the environment or from files.
    """

    name: str
    notifier: str
    event_types: tuple[EventType, ...] = tuple(EventType)
    repo_ids: tuple[str, ...] | None = None
    results: tuple[str, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def wants(self, event: Event) -> bool:
        """Tell whether the filters let this event pass; its type is not asked about."""
        if self.repo_ids is not None and not any(
            fnmatchcase(str(event.body["repo_id"]), glob) for glob in self.repo_ids
        ):
            return False
        return self.results is None or event.body.get("result") in self.results


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one `Hooks`.

    Attributes:
        path: The file that they were read from; null when there is none.
        autoload: Whether installed plugins are loaded at all.
        blocked: Names of plugins and listeners that are not loaded.
        listeners: The configured listeners, in the order of the file.
        slow_seconds: A listener's call that takes longer is logged; seconds.
        max_body_bytes: Size cap of a body as JSON in UTF-8.
        problems: What is wrong with the file.
    """

    path: Path | None = None
    autoload: bool = True
    blocked: frozenset[str] = frozenset()
    listeners: tuple[ListenerSettings, ...] = ()
    slow_seconds: float = 5.0
    max_body_bytes: int = 2**20
    problems: tuple[Problem, ...] = ()


DEFAULTS = Settings()
"""The settings of a host that has none."""
