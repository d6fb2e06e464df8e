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
class JournalSettings:
    """The `[journal]` table: where events are kept until they are delivered.

    Attributes:
        url: URL of the database; may hold a password.
        synchronous: `NORMAL` or `FULL`: how far SQLite waits for the disk.
        busy_seconds: How long an event waits for a database that others have locked, or that does not answer.
        on_error: What `fire` does with an event that the journal cannot take: `raise`, or `dispatch` it directly.
        keep_delivered_days: How long deliveries are kept that were made.
        keep_dead_days: How long deliveries are kept that were given up.
        fault: What is wrong with the table, or with the file as a whole, as a sentence that names the file; null if
            nothing is. With a fault the journal takes no event.
    """

    url: str = field(repr=False)
    synchronous: str = "NORMAL"
    busy_seconds: float = 10.0
    on_error: str = "raise"
    keep_delivered_days: float = 30.0
    keep_dead_days: float = 90.0
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How the deliveries of one listener are made: the `[delivery]` table, and the one of the listener.

    Attributes:
        timeout_seconds: Time limit of an attempt.
        retry_seconds: Pauses between the attempts, each varied by a fifth; after one more failure a delivery is dead.
            By default those that Standard Webhooks advises: 10 attempts in about 3 days.
        disable_after_hours: A listener that has failed for so long, without a success between, is disabled.
        resume_per_second: How many held deliveries come due in each second when the listener is enabled.
        ordered: Whether the events of one repository, fired from now on, are delivered strictly in their order.
        concurrency: How many attempts at the same time at most, over all workers; null: as many as there are threads.
        per_second: How many attempts in each second at most, over all workers; null: as many as there can be.
    """

    timeout_seconds: float = 30.0
    retry_seconds: tuple[float, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    disable_after_hours: float = 120.0
    resume_per_second: float = 10.0
    ordered: bool = False
    concurrency: int | None = None
    per_second: float | None = None


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
        journal: Where events are kept until they are delivered; null: listeners are called directly.
        delivery: How the deliveries are made of listeners that have no settings of their own.
        deliveries: How the deliveries of single listeners are made, by their names.
        problems: What is wrong with the file.
    """

    path: Path | None = None
    autoload: bool = True
    blocked: frozenset[str] = frozenset()
    listeners: tuple[ListenerSettings, ...] = ()
    slow_seconds: float = 5.0
    max_body_bytes: int = 2**20
    journal: JournalSettings | None = None
    delivery: DeliverySettings = DeliverySettings()
    deliveries: Mapping[str, DeliverySettings] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def delivery_of(self, name: str) -> DeliverySettings:
        """Give how the deliveries of this listener are made."""
        return self.deliveries.get(name, self.delivery)


DEFAULTS = Settings()
"""The settings of a host that has none."""
