"""The settings as objects: what TOML is read into, and what a host may write in code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, ClassVar, cast

from marshmallow import Schema, ValidationError

from pulp_hooks.errors import SettingsError
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.settings.schemas import DeliveryTable, DispatchTable, JournalTable, ListenerTable, PluginsTable


class _Table:
    """Base of the tables: values are checked by the rules of the file, and lists become tuples."""

    __slots__ = ()

    _rules: ClassVar[type[Schema]]

    def __post_init__(self) -> None:
        written: dict[str, Any] = {}
        for one in fields(cast("Any", self)):
            value = getattr(self, one.name)
            if value is None and one.default is not None:
                raise SettingsError(f"invalid {type(self).__name__}: {one.name} must not be None")
            if value is not None:
                written[one.name] = list(value) if isinstance(value, tuple | set | frozenset) else value
        try:
            loaded = cast("dict[str, Any]", self._rules().load(written))
        except ValidationError as error:
            causes = "; ".join(f"{key} {rules}" for key, rules in violations(error))
            raise SettingsError(f"invalid {type(self).__name__}: {causes}") from None
        for name, value in loaded.items():
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSettings(_Table):
    """`[plugins]`: which plugins are loaded.

    Attributes:
        block: Names of plugins, notifiers and configured listeners that are not loaded.
    """

    _rules = PluginsTable

    block: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings(_Table):
    """`[dispatch]`: limits of bodies and calls.

    Attributes:
        slow_seconds: A listener's call that takes longer is logged; seconds.
        max_body_bytes: Size cap of a body as JSON in UTF-8; over it `details`, then `summary`, are truncated.
    """

    _rules = DispatchTable

    slow_seconds: float = 5.0
    max_body_bytes: int = 2**20


@dataclass(frozen=True, slots=True)
class JournalSettings(_Table):
    """`[journal]`: where events are kept until they are delivered.

    Attributes:
        url: URL of the database; may hold a password.
        schema: Schema of the tables in a PostgreSQL database; null: the first one of the search path.
        synchronous: `NORMAL` or `FULL`: how far SQLite waits for the disk.
        busy_seconds: How long an event waits for a database that others have locked, or that does not answer.
        on_error: What `fire` does with an event that the journal cannot take: `raise`, or `dispatch` it directly.
        keep_delivered_days: How long finished deliveries are kept.
        keep_dead_days: How long dead letters are kept.
    """

    _rules = JournalTable

    url: str = field(repr=False)
    schema: str | None = None
    synchronous: str = "NORMAL"
    busy_seconds: float = 10.0
    on_error: str = "raise"
    keep_delivered_days: float = 30.0
    keep_dead_days: float = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings(_Table):
    """`[delivery]`, or `[delivery.listeners.NAME]`: how a listener's deliveries are made.

    Attributes:
        timeout_seconds: Time limit of an attempt.
        retry_seconds: Pauses between the attempts, each varied by a fifth; after one more failure a delivery is dead.
            By default those that Standard Webhooks advises: 10 attempts in about 3 days.
        disable_after_hours: A listener that fails for this long without a success in between is disabled.
        resume_per_second: How many held deliveries come due in each second when the listener is enabled.
        ordered: Whether the events of one repository, fired from now on, are delivered strictly in their order.
        global_concurrency: Most attempts of a listener at the same time, over all workers; null: no limit.
        global_rate_per_second: Most attempts of a listener in each second, over all workers; null: no limit.
    """

    _rules = DeliveryTable

    timeout_seconds: float = 30.0
    retry_seconds: tuple[float, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    disable_after_hours: float = 120.0
    resume_per_second: float = 10.0
    ordered: bool = False
    global_concurrency: int | None = None
    global_rate_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class ListenerSettings(_Table):
    """One `[[listeners]]` table: a listener made of an installed notifier.

    Attributes:
        name: Name of the listener.
        notifier: Name of the notifier's entry point.
        event_types: The event types that it receives.
        repo_ids: Globs; only events of repositories that match one are received. Null: of all repositories.
        results: Only finished events with one of these results are received. Null: all events.
        config: The `[listeners.config]` table, for the notifier. References such as `{"env": "NAME"}` are resolved when
            the notifier is built.
    """

    _rules = ListenerTable

    name: str
    notifier: str
    event_types: tuple[EventType, ...] = tuple(EventType)
    repo_ids: tuple[str, ...] | None = None
    results: tuple[str, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def wants(self, event: Event) -> bool:
        """Return whether the filters let this event pass; its type is not looked at."""
        if self.repo_ids is not None and not any(
            fnmatchcase(str(event.body["repo_id"]), glob) for glob in self.repo_ids
        ):
            return False
        return self.results is None or event.body.get("result") in self.results


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a `Hooks`: in code what `pulp-hooks.toml` is as a file.

    Attributes:
        plugins: Which plugins are loaded.
        dispatch: Limits of bodies and calls.
        journal: Where events are kept until they are delivered; null: listeners are called directly.
        delivery: How deliveries are made.
        delivery_by_listener: How the deliveries of single listeners are made, by the names of the listeners; all of
            their settings, in place of `delivery`.
        listeners: The listeners made of installed notifiers.

    Raises:
        SettingsError: A value is not valid; names the field and its rule, and never a value that may be a secret.
    """

    plugins: PluginSettings = PluginSettings()
    dispatch: DispatchSettings = DispatchSettings()
    journal: JournalSettings | None = None
    delivery: DeliverySettings = DeliverySettings()
    delivery_by_listener: Mapping[str, DeliverySettings] = field(default_factory=dict)
    listeners: tuple[ListenerSettings, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "listeners", tuple(self.listeners))
        parts = [
            ("plugins", self.plugins, PluginSettings),
            ("dispatch", self.dispatch, DispatchSettings),
            ("journal", JournalSettings("-") if self.journal is None else self.journal, JournalSettings),
            ("delivery", self.delivery, DeliverySettings),
            *((f"delivery_by_listener[{k!r}]", v, DeliverySettings) for k, v in self.delivery_by_listener.items()),
            *((f"listeners[{place}]", one, ListenerSettings) for place, one in enumerate(self.listeners)),
        ]
        for name, value, kind in parts:
            if not isinstance(value, kind):
                raise SettingsError(f"invalid Settings: {name} must be {kind.__name__}, not {type(value).__name__}")
        names = [listener.name for listener in self.listeners]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise SettingsError(f"invalid Settings: listeners must have names of their own, got {doubled[0]!r} twice")

    def delivery_of(self, name: str) -> DeliverySettings:
        """Return how the deliveries of this listener are made."""
        return self.delivery_by_listener.get(name, self.delivery)


DEFAULTS = Settings()
"""The settings of a host that has none."""


def violations(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the broken rules of each value that marshmallow refused; never the value itself."""

    def walk(messages: object, key: str) -> Iterator[tuple[str, str]]:
        if isinstance(messages, Mapping):
            for name, inner in messages.items():
                if name == "_schema":
                    yield from walk(inner, key)
                else:
                    yield from walk(inner, f"{key}[{name}]" if isinstance(name, int) else f"{key}.{name}".lstrip("."))
        elif isinstance(messages, list):
            yield key, "; ".join(str(message).rstrip(".") for message in messages)

    yield from walk(error.messages, "")
