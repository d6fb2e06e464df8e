"""Reading the settings: the file, the environment, and everything that can be wrong with them."""

import difflib
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

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
    Settings,
    violations,
)
from pulp_hooks.settings.references import read_text, resolve
from pulp_hooks.settings.schemas import DeliveryTable, DispatchTable, JournalTable, ListenerTable, PluginsTable

FILE_NAME = "pulp-hooks.toml"
"""Name of the settings file that is looked for in the working directory."""

PATH_VARIABLE = "PULP_HOOKS_SETTINGS"
"""Environment variable with the path of the settings file."""

BLOCK_VARIABLE = "PULP_HOOKS_BLOCK"
"""Environment variable with names of plugins and listeners, separated by commas, that are not loaded."""

AUTOLOAD_VARIABLE = "PULP_HOOKS_DISABLE_AUTOLOAD"
"""Environment variable that, when it is not empty, keeps every installed plugin from being loaded."""

_NOTHING_ACCEPTED = "no event is accepted"
_INVALID = f"; no plugin is loaded and {_NOTHING_ACCEPTED}"
_TABLES = ("plugins", "dispatch", "journal", "delivery", "listeners")
REMEDY = "correct it and run `pulp-hooks check` again"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Settings with their origin, what the environment adds, and what is wrong with them.

    Attributes:
        settings: The settings; what is not valid has its default, or is left out.
        path: The file; null without one, or for settings in code.
        autoload: Whether installed plugins are loaded at all.
        blocked: Names of plugins, notifiers and listeners that are not loaded, those of the environment included.
        problems: Everything that is wrong.
        fault: Why the file as a whole is invalid, or null. Then nothing is loaded, and no event is accepted.
        journal_fault: Why the `[journal]` table is invalid, or null. Then no event is accepted: it must not bypass a
            journal.
        invalid_listeners: Name, or place in the file, and fault of each `[[listeners]]` table that is invalid.
    """

    settings: Settings = DEFAULTS
    path: Path | None = None
    autoload: bool = True
    blocked: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()
    fault: str | None = None
    journal_fault: str | None = None
    invalid_listeners: tuple[tuple[str, str], ...] = ()

    @property
    def origin(self) -> str:
        """Where the settings are from, for messages."""
        return "the settings in code" if self.path is None else str(self.path)

    def journal(self) -> JournalSettings | None:
        """Return the journal's settings; null without a journal.

        Raises:
            JournalError: They are invalid, or may be: no event is accepted.
        """
        if fault := self.fault or self.journal_fault:
            raise JournalError(f"{_NOTHING_ACCEPTED}: {fault}; fix: run `pulp-hooks check`")
        return self.settings.journal


def read_settings(settings: str | os.PathLike[str] | Settings | None = None) -> ReadSettings:
    """Read the settings, and return everything that is wrong with them as data.

    An invalid listener is left out; the others stay. If the file cannot be read, if it has an unknown key at the top or
    an invalid `[plugins]` table, it is invalid as a whole.

    Args:
        settings: Path of the file, or settings in code. By default the file that `PULP_HOOKS_SETTINGS` names, else
            `pulp-hooks.toml` in the working directory, if it exists.
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
        # A link that leads nowhere is there, and somebody meant something by it.
        if not named and not os.path.lexists(file):
            return ReadSettings()
        reason = error.strerror
    except OSError as error:
        reason = error.strerror
    except RecursionError:
        reason = "its tables or arrays are nested too deep"
    except ValueError as error:
        reason = str(error)
    fault = f"the settings cannot be read: {reason}"
    return ReadSettings(
        path=file, problems=(Problem(str(file), f"{fault}{_INVALID}", REMEDY),), fault=f"{file}: {fault}"
    )


class _Reader:
    """Reads one document, and gathers what is wrong with it."""

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
        plugins = self._table("plugins", PluginsTable(), _INVALID)
        fault = self._problems[0].cause.removesuffix(_INVALID) if self._problems else None
        dispatch = self._table("dispatch", DispatchTable())
        listeners = tuple(self._listeners())
        delivery, by_listener = self._delivery()
        settings = Settings(
            plugins=PluginSettings(**plugins),
            dispatch=DispatchSettings(**dispatch),
            journal=self._journal(),
            delivery=delivery,
            delivery_by_listener=by_listener,
            listeners=listeners,
        )
        return ReadSettings(
            settings=settings,
            path=self._file,
            problems=tuple(self._problems),
            fault=fault and f"{self._file}: {fault}",
            journal_fault=self._journal_fault,
            invalid_listeners=tuple(self._invalid_listeners),
        )

    def _table(self, name: str, schema: Schema, consequence: str = "") -> dict[str, Any]:
        try:
            return cast("dict[str, Any]", schema.load(self._document.get(name, {})))
        except ValidationError as error:
            self._violations(name, error, schema, consequence)
            return {}

    def _journal(self) -> JournalSettings | None:
        if "journal" not in self._document:
            return None
        found = len(self._problems)
        table, schema, consequence = self._document["journal"], JournalTable(), f"; {_NOTHING_ACCEPTED}"
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
        """Read `[delivery]` and the tables of the listeners in it, which inherit its keys."""
        table = self._document.get("delivery", {})
        if not isinstance(table, Mapping):
            self._problem("delivery must be a table")
            return DeliverySettings(), {}
        own = {key: value for key, value in table.items() if key != "listeners"}
        general = self._delivery_table("delivery", own, DeliverySettings())
        listeners = table.get("listeners", {})
        if not isinstance(listeners, Mapping):
            self._problem("delivery.listeners must be a table, with one table for each listener")
            return general, {}
        return general, {
            name: self._delivery_table(f"delivery.listeners.{name}", of_listener, general)
            for name, of_listener in listeners.items()
        }

    def _delivery_table(self, place: str, table: object, general: DeliverySettings) -> DeliverySettings:
        schema = DeliveryTable()
        try:
            loaded = cast("dict[str, Any]", schema.load(cast("Mapping[str, Any]", table)))
        except ValidationError as error:
            self._violations(place, error, schema)
            return general
        return replace(general, **loaded)

    def _listeners(self) -> Iterator[ListenerSettings]:
        tables = self._document.get("listeners", [])
        if not isinstance(tables, list):
            self._invalid_listeners.append(("listeners", "must be an array of tables, written [[listeners]]"))
            self._problem("listeners must be an array of tables, written [[listeners]]")
            return
        names: set[str] = set()
        for position, table in enumerate(tables):
            found, schema = len(self._problems), ListenerTable()
            name = table.get("name") if isinstance(table, Mapping) else None
            place = f"listener {name!r}" if isinstance(name, str) else f"listeners[{position}]"
            try:
                loaded = cast("dict[str, Any]", schema.load(table))
                if name in names:
                    self._problem(f"{place}: name is the name of another listener of this file")
                else:
                    names.add(loaded["name"])
                    yield ListenerSettings(**loaded)
            except ValidationError as error:
                self._violations(place, error, schema)
            if faults := [problem.cause for problem in self._problems[found:]]:
                self._invalid_listeners.append((name if isinstance(name, str) else place, "; ".join(faults)))

    def _violations(self, place: str, error: ValidationError, schema: Schema, consequence: str = "") -> None:
        for key, rules in violations(error):
            top = key.partition(".")[0].partition("[")[0]
            hint = "" if top in schema.fields else _suggestion(top, schema.fields)
            self._problem(f"{place}: {key} {rules}{hint}{consequence}".replace("  ", " "))

    def _problem(self, cause: str) -> None:
        self._problems.append(Problem(str(self._file), cause, REMEDY))


def _suggestion(key: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(key.lower(), known, n=1)
    return f", did you mean {nearest[0]!r}?" if nearest else ""


def _located(url: str, folder: Path) -> str:
    """Return the URL with a relative path of a SQLite file made absolute: it begins at the folder of the settings."""
    scheme, separator, path = url.partition(":///")
    return f"{scheme}{separator}{folder / path}" if scheme.partition("+")[0] == "sqlite" and path else url
