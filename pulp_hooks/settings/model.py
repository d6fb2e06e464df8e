"""The settings as objects, read from TOML or created in code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, cast

from marshmallow import Schema, ValidationError
from marshmallow.fields import Field

from pulp_hooks.errors import SettingsError
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.settings import schemas
from pulp_hooks.settings.references import resolve

_RULE = "rule"
"""Metadata key of the marshmallow field of a value."""


def _rule(rule: Field[Any]) -> dict[str, Field[Any]]:
    return {_RULE: rule}


class _Table:
    """Base of the tables: checks values by the same rules as the file, and turns lists into tuples."""

    __slots__ = ()

    @classmethod
    @cache
    def rules(cls) -> Schema:
        """Return the schema of this table."""
        return schemas.Table.from_dict({one.name: one.metadata[_RULE] for one in fields(cast("Any", cls))})()

    def __post_init__(self) -> None:
        written: dict[str, Any] = {}
        for one in fields(cast("Any", self)):
            value = getattr(self, one.name)
            if value is None and one.default is not None:
                raise SettingsError(f"invalid {type(self).__name__}: {one.name} must not be None")
            if value is not None:
                written[one.name] = list(value) if isinstance(value, tuple | set | frozenset) else value
        try:
            loaded = cast("dict[str, Any]", self.rules().load(written))
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

    block: tuple[str, ...] = field(default=(), metadata=_rule(schemas.texts()))


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings(_Table):
    """`[dispatch]`: limits of bodies and calls.

    Attributes:
        slow_seconds: Duration above which a listener's call is logged as slow; seconds.
        max_body_bytes: Size cap of a body as JSON in UTF-8; above it `details`, then `summary`, are truncated.
    """

    slow_seconds: float = field(default=5.0, metadata=_rule(schemas.number(schemas.NOT_NEGATIVE)))
    max_body_bytes: int = field(default=2**20, metadata=_rule(schemas.whole_number(1024)))


@dataclass(frozen=True, slots=True)
class JournalSettings(_Table):
    """`[journal]`: the database that stores events until they are delivered.

    Attributes:
        url: URL of the database; may hold a password.
        schema: PostgreSQL schema of the tables; null: the first one of the search path.
        synchronous: `NORMAL` or `FULL`: how long SQLite waits for the disk.
        busy_seconds: How long to wait for a database that is locked or does not answer; seconds.
        on_error: What `fire` does with an event that the journal cannot store: `raise`, or `dispatch` it directly.
        keep_delivered_days: Retention of finished deliveries; days.
        keep_dead_days: Retention of dead letters; days.
    """

    url: str = field(repr=False, metadata=_rule(schemas.text(schemas.NOT_EMPTY, required=True)))
    schema: str | None = field(default=None, metadata=_rule(schemas.text(schemas.NOT_EMPTY)))
    synchronous: str = field(default="NORMAL", metadata=_rule(schemas.word("NORMAL", "FULL")))
    busy_seconds: float = field(default=10.0, metadata=_rule(schemas.number(schemas.POSITIVE, schemas.DAY_OF_SECONDS)))
    on_error: str = field(default="raise", metadata=_rule(schemas.word("raise", "dispatch")))
    keep_delivered_days: float = field(default=30.0, metadata=_rule(schemas.DAYS))
    keep_dead_days: float = field(default=90.0, metadata=_rule(schemas.DAYS))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings(_Table):
    """`[delivery]`, or `[delivery.listeners.NAME]`: schedule and limits of a listener's deliveries.

    Attributes:
        timeout_seconds: Time limit of an attempt; seconds.
        retry_seconds: Pauses between attempts, each varied by up to a fifth; seconds. If the attempt after the last
            pause fails, the delivery is dead. By default as Standard Webhooks advises: 10 attempts in about 3 days.
        disable_after_hours: A listener that only fails for this long is disabled; hours.
        resume_per_second: Held deliveries that come due in each second after the listener is enabled.
        ordered: Whether events of one repository that are fired from now on are delivered strictly in order.
        global_concurrency: Most simultaneous attempts of a listener over all workers; null: no limit.
        global_rate_per_second: Most attempts of a listener in each second over all workers; null: no limit.
    """

    timeout_seconds: float = field(
        default=30.0, metadata=_rule(schemas.number(schemas.POSITIVE, schemas.YEAR_OF_SECONDS))
    )
    retry_seconds: tuple[float, ...] = field(
        default=(5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400), metadata=_rule(schemas.RETRIES)
    )
    disable_after_hours: float = field(
        default=120.0, metadata=_rule(schemas.number(schemas.POSITIVE, schemas.YEAR_OF_HOURS))
    )
    resume_per_second: float = field(default=10.0, metadata=_rule(schemas.number(schemas.RATE)))
    ordered: bool = field(default=False, metadata=_rule(schemas.switch()))
    global_concurrency: int | None = field(default=None, metadata=_rule(schemas.whole_number(1)))
    global_rate_per_second: float | None = field(default=None, metadata=_rule(schemas.number(schemas.RATE)))


@dataclass(frozen=True, slots=True)
class ListenerSettings(_Table):
    """One `[[listeners]]` table: a listener that an installed notifier implements.

    Attributes:
        name: Name of the listener.
        notifier: Name of the notifier's entry point.
        event_types: The event types that it receives.
        repo_ids: Globs; it receives only events of repositories that match one. Null: of all repositories.
        results: It receives only finished events with one of these results. Null: all events.
        config: The `[listeners.config]` table for the notifier. References such as `{"env": "NAME"}` are resolved when
            the notifier is built.
    """

    name: str = field(metadata=_rule(schemas.text(schemas.NAME, required=True)))
    notifier: str = field(metadata=_rule(schemas.text(required=True)))
    event_types: tuple[EventType, ...] = field(default=tuple(EventType), metadata=_rule(schemas.EventTypes()))
    repo_ids: tuple[str, ...] | None = field(default=None, metadata=_rule(schemas.texts(schemas.AT_LEAST_ONE)))
    results: tuple[str, ...] | None = field(default=None, metadata=_rule(schemas.RESULTS))
    config: Mapping[str, Any] = field(default_factory=dict, repr=False, metadata=_rule(schemas.CONFIG))

    def wants(self, event: Event) -> bool:
        """Return whether `repo_ids` and `results` accept this event; its type is not checked."""
        if self.repo_ids is not None and not any(
            fnmatchcase(str(event.body["repo_id"]), glob) for glob in self.repo_ids
        ):
            return False
        return self.results is None or event.body.get("result") in self.results


@dataclass(frozen=True, slots=True)
class PulpSettings(_Table):
    """One `[[pulp]]` table: a Pulp 3 server that `pulp-hooks watch` watches.

    Attributes:
        name: Name of the server in messages, and of its file in the state folder.
        url: URL of the server. With a path it is that of the API root, such as `https://pulp.example.org/pulp/`.
        username: User with viewer roles; null if a client certificate identifies the user.
        password: The password, or a reference to it such as `{"env": "NAME"}`.
        ca_path: File with the certificates of the authorities to trust; null: those of the system.
        client_certificate: File with the client certificate, and its key unless `client_key` names another file.
        client_key: File with the key of the client certificate.
        domains: Names of the domains to watch, on a server that has domains.
        interval_seconds: Time from one look at the server to the next; seconds.
        repositories: Globs; only repositories whose name matches one are watched. Null: all.
        labels: Only repositories with these labels and values are watched.
        sync_tasks: More names of tasks that are syncs, whole or the last part.
        publish_tasks: More names of tasks that are publishes, whole or the last part.
    """

    name: str = field(metadata=_rule(schemas.text(schemas.NAME, required=True)))
    url: str = field(metadata=_rule(schemas.text(schemas.SERVER_URL, required=True)))
    username: str | None = field(default=None, metadata=_rule(schemas.text(schemas.NOT_EMPTY)))
    password: str | Mapping[str, str] | None = field(default=None, repr=False, metadata=_rule(schemas.Secret()))
    ca_path: str | None = field(default=None, metadata=_rule(schemas.text(schemas.NOT_EMPTY)))
    client_certificate: str | None = field(default=None, metadata=_rule(schemas.text(schemas.NOT_EMPTY)))
    client_key: str | None = field(default=None, metadata=_rule(schemas.text(schemas.NOT_EMPTY)))
    domains: tuple[str, ...] = field(
        default=("default",), metadata=_rule(schemas.texts(schemas.NOT_EMPTY, item=schemas.text(schemas.NAME)))
    )
    interval_seconds: float = field(
        default=5.0, metadata=_rule(schemas.number(schemas.AT_LEAST_A_SECOND, schemas.DAY_OF_SECONDS))
    )
    repositories: tuple[str, ...] | None = field(default=None, metadata=_rule(schemas.texts(schemas.AT_LEAST_ONE)))
    labels: Mapping[str, str] = field(default_factory=dict, metadata=_rule(schemas.LABELS))
    sync_tasks: tuple[str, ...] = field(default=(), metadata=_rule(schemas.texts()))
    publish_tasks: tuple[str, ...] = field(default=(), metadata=_rule(schemas.texts()))

    def resolved(self, folder: Path) -> "PulpSettings":
        """Return the settings with the password read, and paths of files resolved against a folder.

        Raises:
            SettingsError: The password is in a variable that is not set, or in a file that cannot be read, or stands
                without a user name.
        """
        password = resolve(self.password, f"pulp {self.name!r}: password", folder, [])
        if (self.username is None) != (password is None):
            raise SettingsError(f"pulp {self.name!r}: username or password is missing; fix: set both, or neither")
        files: dict[str, Any] = {
            name: str(folder / path) for name in _FILES if (path := getattr(self, name)) is not None
        }
        return replace(self, password=password, **files)

    def wants(self, repository: str, labels: Mapping[str, str]) -> bool:
        """Return whether a repository of this name and with these labels is watched."""
        if self.repositories is not None and not any(fnmatchcase(repository, glob) for glob in self.repositories):
            return False
        return all(labels.get(name) == value for name, value in self.labels.items())


_FILES = ("ca_path", "client_certificate", "client_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a `Hooks`: the contents of `pulp-hooks.toml`, in code.

    Attributes:
        plugins: Which plugins are loaded.
        dispatch: Limits of bodies and calls.
        journal: The database that stores events until they are delivered; null: listeners are called directly.
        delivery: Schedule and limits of deliveries.
        delivery_by_listener: Schedule and limits of single listeners, by name; they replace `delivery` as a whole.
        listeners: The listeners that installed notifiers implement.
        pulp: The Pulp 3 servers that `pulp-hooks watch` watches.

    Raises:
        SettingsError: A value is invalid; the message names the field and its rule, not the value.
    """

    plugins: PluginSettings = PluginSettings()
    dispatch: DispatchSettings = DispatchSettings()
    journal: JournalSettings | None = None
    delivery: DeliverySettings = DeliverySettings()
    delivery_by_listener: Mapping[str, DeliverySettings] = field(default_factory=dict)
    listeners: tuple[ListenerSettings, ...] = ()
    pulp: tuple[PulpSettings, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "listeners", tuple(self.listeners))
        object.__setattr__(self, "pulp", tuple(self.pulp))
        parts = [
            ("plugins", self.plugins, PluginSettings),
            ("dispatch", self.dispatch, DispatchSettings),
            ("journal", JournalSettings("-") if self.journal is None else self.journal, JournalSettings),
            ("delivery", self.delivery, DeliverySettings),
            *((f"delivery_by_listener[{k!r}]", v, DeliverySettings) for k, v in self.delivery_by_listener.items()),
            *((f"listeners[{place}]", one, ListenerSettings) for place, one in enumerate(self.listeners)),
            *((f"pulp[{place}]", one, PulpSettings) for place, one in enumerate(self.pulp)),
        ]
        for name, value, kind in parts:
            if not isinstance(value, kind):
                raise SettingsError(f"invalid Settings: {name} must be {kind.__name__}, not {type(value).__name__}")
        for what, named in (("listeners", self.listeners), ("pulp servers", self.pulp)):
            names = [one.name for one in named]
            if doubled := sorted({name for name in names if names.count(name) > 1}):
                raise SettingsError(f"invalid Settings: names of {what} must be unique, got {doubled[0]!r} twice")

    def delivery_of(self, name: str) -> DeliverySettings:
        """Return schedule and limits of this listener's deliveries."""
        return self.delivery_by_listener.get(name, self.delivery)


DEFAULTS = Settings()
"""The settings of a host without any."""


def violations(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the broken rules of each invalid value; never the value itself."""

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
