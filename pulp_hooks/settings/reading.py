"""Reading the settings from the file and the environment, with their problems."""

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from marshmallow import Schema, ValidationError

from pulp_hooks.errors import JournalError, SettingsError
from pulp_hooks.problems import Problem
from pulp_hooks.settings.model import (
    DEFAULTS,
    DeliverySettings,
    DispatchSettings,
    JournalSettings,
    ListenerSettings,
    PluginSettings,
    PulpSettings,
    Settings,
    violations,
)
from pulp_hooks.settings.references import read_text, resolve
from pulp_hooks.text import did_you_mean

FILE_NAME = "pulp-hooks.toml"
"""Name of the settings file in the working directory."""

PATH_VARIABLE = "PULP_HOOKS_SETTINGS"
"""Environment variable with the path of the settings file."""

BLOCK_VARIABLE = "PULP_HOOKS_BLOCK"
"""Environment variable with the names of plugins and listeners to block, separated by commas."""

AUTOLOAD_VARIABLE = "PULP_HOOKS_DISABLE_AUTOLOAD"
"""Environment variable that, if it is not empty, disables the loading of installed plugins."""

_Named = TypeVar("_Named", ListenerSettings, PulpSettings)

_NOTHING_ACCEPTED = "no event is accepted"
_INVALID = f"; no plugin is loaded and {_NOTHING_ACCEPTED}"
_TABLES = ("plugins", "dispatch", "journal", "delivery", "listeners", "pulp")
_WRITTEN_OUT = 'must not be in the file; refer to it: { env = "NAME" } or { file = "path" }'
REMEDY = "correct it and run `pulp-hooks check` again"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Settings with their origin, the variables of the environment, and their problems.

    Attributes:
        settings: The settings; an invalid value has its default, and an invalid listener is left out.
        path: The file; null without one, or for settings in code.
        autoload: Whether installed plugins are loaded.
        blocked: Names of blocked plugins, notifiers and listeners, those of the environment included.
        problems: All problems.
        fault: Why the file as a whole is invalid, so that nothing is loaded and no event is accepted; null if it is
            valid.
        journal_fault: Why the `[journal]` table is invalid, so that no event is accepted: none may bypass the journal.
            Null if it is valid.
        invalid_listeners: Name (or place in the file) and fault of each invalid `[[listeners]]` table.
        pulp_fault: Why a `[[pulp]]` table is invalid; null if all are valid.
    """

    settings: Settings = DEFAULTS
    path: Path | None = None
    autoload: bool = True
    blocked: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()
    fault: str | None = None
    journal_fault: str | None = None
    invalid_listeners: tuple[tuple[str, str], ...] = ()
    pulp_fault: str | None = None

    @property
    def origin(self) -> str:
        """The source of the settings, for messages."""
        return "the settings in code" if self.path is None else str(self.path)

    @property
    def folder(self) -> Path:
        """The folder that relative paths are resolved against."""
        return self.path.parent if self.path else Path()

    def pulp_servers(self) -> tuple[PulpSettings, ...]:
        """Return the Pulp servers to watch, with their passwords read.

        Raises:
            SettingsError: A `[[pulp]]` table or the file is invalid, or a password cannot be read.
        """
        if fault := self.fault or self.pulp_fault:
            raise SettingsError(f"no server is watched: {fault}; fix: run `pulp-hooks check`")
        return tuple(server.resolved(self.folder) for server in self.settings.pulp)

    def journal(self) -> JournalSettings | None:
        """Return the journal's settings; null without a journal.

        Raises:
            JournalError: The table or the file is invalid: no event is accepted.
        """
        if fault := self.fault or self.journal_fault:
            raise JournalError(f"{_NOTHING_ACCEPTED}: {fault}; fix: run `pulp-hooks check`")
        return self.settings.journal


def read_settings(settings: str | os.PathLike[str] | Settings | None = None) -> ReadSettings:
    """Read the settings, and return them with their problems.

    An invalid listener is left out; the others stay. The file as a whole is invalid if it cannot be read, if it has an
    unknown key at the top, or if `[plugins]` is invalid.
    """
    read = ReadSettings(settings=settings) if isinstance(settings, Settings) else _read_file(settings)
    named = {name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",")} - {""}
    autoload = not os.environ.get(AUTOLOAD_VARIABLE)
    return replace(read, autoload=autoload, blocked=frozenset({*read.settings.plugins.block, *named}))


def _read_file(path: str | os.PathLike[str] | None) -> ReadSettings:
    named = path or os.environ.get(PATH_VARIABLE)
    file = Path(named or FILE_NAME)
    try:
        file = file.absolute()
        document = tomllib.loads(read_text(file))
        return _Reader(file, document).read()
    except FileNotFoundError as error:
        # A broken link counts as a missing file, not as no file.
        if not named and not os.path.lexists(file):
            return ReadSettings()
        reason = error.strerror
    except OSError as error:
        reason = error.strerror
    except RecursionError:
        reason = "tables or arrays are nested too deep"
    except ValueError as error:
        reason = str(error)
    fault = f"the settings cannot be read: {reason}"
    return ReadSettings(
        path=file, problems=(Problem(str(file), f"{fault}{_INVALID}", REMEDY),), fault=f"{file}: {fault}"
    )


class _Reader:
    """Reads one document, and collects its problems."""

    def __init__(self, file: Path, document: Mapping[str, Any]) -> None:
        self._file = file
        self._document = document
        self._problems: list[Problem] = []
        self._invalid_listeners: list[tuple[str, str]] = []
        self._journal_fault: str | None = None

    def read(self) -> ReadSettings:
        for key in self._document:
            if key not in _TABLES:
                self._problem(f"unknown key {key}{_suggestion(key, _TABLES)}{_INVALID}")
        plugins = self._table("plugins", self._document.get("plugins", {}), PluginSettings.rules(), _INVALID)
        fault = self._problems[0].cause.removesuffix(_INVALID) if self._problems else None
        dispatch = self._table("dispatch", self._document.get("dispatch", {}), DispatchSettings.rules())
        listeners = tuple(self._named(ListenerSettings, "listeners", "listener", self._invalid_listeners))
        invalid_servers: list[tuple[str, str]] = []
        pulp = tuple(self._named(PulpSettings, "pulp", "pulp", invalid_servers))
        delivery, by_listener = self._delivery()
        settings = Settings(
            plugins=PluginSettings(**plugins),
            dispatch=DispatchSettings(**dispatch),
            journal=self._journal(),
            delivery=delivery,
            delivery_by_listener=by_listener,
            listeners=listeners,
            pulp=pulp,
        )
        return ReadSettings(
            settings=settings,
            path=self._file,
            problems=tuple(self._problems),
            fault=fault and f"{self._file}: {fault}",
            journal_fault=self._journal_fault,
            invalid_listeners=tuple(self._invalid_listeners),
            pulp_fault=f"{self._file}: {invalid_servers[0][1]}" if invalid_servers else None,
        )

    def _table(self, place: str, table: object, schema: Schema, consequence: str = "") -> dict[str, Any]:
        try:
            return cast("dict[str, Any]", schema.load(cast("Mapping[str, Any]", table)))
        except ValidationError as error:
            self._violations(place, error, schema, consequence)
            return {}

    def _journal(self) -> JournalSettings | None:
        if "journal" not in self._document:
            return None
        found = len(self._problems)
        table, schema, consequence = self._document["journal"], JournalSettings.rules(), f"; {_NOTHING_ACCEPTED}"
        try:
            if isinstance(table, Mapping):
                table = {key: resolve(value, key, self._file.parent, []) for key, value in table.items()}
            loaded = cast("dict[str, Any]", schema.load(table))
            loaded["url"] = _located(loaded["url"], self._file.parent)
            return JournalSettings(**loaded)
        except ValidationError as error:
            self._violations("journal", error, schema, consequence)
        except SettingsError as error:
            self._problem(f"journal: {error}{consequence}")
        self._journal_fault = f"{self._file}: {self._problems[found].cause.removesuffix(consequence)}"
        return None

    def _delivery(self) -> tuple[DeliverySettings, dict[str, DeliverySettings]]:
        """Read `[delivery]` and its tables of listeners, which inherit its keys."""
        table = self._document.get("delivery", {})
        if not isinstance(table, Mapping):
            self._problem("delivery must be a table")
            return DeliverySettings(), {}
        own = {key: value for key, value in table.items() if key != "listeners"}
        general = DeliverySettings(**self._table("delivery", own, DeliverySettings.rules()))
        listeners = table.get("listeners", {})
        if not isinstance(listeners, Mapping):
            self._problem("delivery.listeners must be a table of tables, one for each listener")
            return general, {}
        return general, {
            name: replace(general, **self._table(f"delivery.listeners.{name}", of_listener, DeliverySettings.rules()))
            for name, of_listener in listeners.items()
        }

    def _named(self, kind: type[_Named], key: str, what: str, invalid: list[tuple[str, str]]) -> Iterator[_Named]:
        """Yield an object for each valid table of an array whose tables have names.

        Args:
            kind: The class of the objects.
            key: Key of the array.
            what: What messages call one of the tables.
            invalid: Name (or place in the file) and fault of each invalid table are appended to it.
        """
        tables = self._document.get(key, [])
        if not isinstance(tables, list):
            fault = f"must be an array of tables, written [[{key}]]"
            invalid.append((key, fault))
            self._problem(f"{key} {fault}")
            return
        names: set[str] = set()
        for position, table in enumerate(tables):
            found, schema = len(self._problems), kind.rules()
            name = table.get("name") if isinstance(table, Mapping) else None
            place = f"{what} {name!r}" if isinstance(name, str) else f"{key}[{position}]"
            try:
                loaded = cast("dict[str, Any]", schema.load(table))
                if name in names:
                    self._problem(f"{place}: another {what} of this file has this name")
                elif isinstance(loaded.get("password"), str):
                    self._problem(f"{place}: password {_WRITTEN_OUT}")
                else:
                    names.add(loaded["name"])
                    yield kind(**loaded)
            except ValidationError as error:
                self._violations(place, error, schema)
            if faults := [problem.cause for problem in self._problems[found:]]:
                invalid.append((name if isinstance(name, str) else place, "; ".join(faults)))

    def _violations(self, place: str, error: ValidationError, schema: Schema, consequence: str = "") -> None:
        for key, rules in violations(error):
            top = key.partition(".")[0].partition("[")[0]
            hint = "" if top in schema.fields else _suggestion(top, schema.fields)
            self._problem(f"{place}: {key} {rules}{hint}{consequence}".replace("  ", " "))

    def _problem(self, cause: str) -> None:
        self._problems.append(Problem(str(self._file), cause, REMEDY))


def _suggestion(key: str, known: Collection[str]) -> str:
    return did_you_mean(key.lower(), known, form=", did you mean {!r}?")


def _located(url: str, folder: Path) -> str:
    """Return the URL with a relative path of a SQLite file resolved against the folder of the settings."""
    scheme, separator, path = url.partition(":///")
    return f"{scheme}{separator}{folder / path}" if scheme.partition("+")[0] == "sqlite" and path else url
