"""Reading the settings: the file, the environment, and everything that can be wrong with them."""

import difflib
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from marshmallow import Schema, ValidationError

from pulp_hooks.errors import SettingsError
from pulp_hooks.problems import Problem
from pulp_hooks.settings.model import DeliverySettings, JournalSettings, ListenerSettings, Settings
from pulp_hooks.settings.references import read_text, resolve
from pulp_hooks.settings.schemas import TABLES, DeliveryTable, JournalTable, ListenerTable

FILE_NAME = "pulp-hooks.toml"
"""Name of the settings file that is looked for in the working directory."""

PATH_VARIABLE = "PULP_HOOKS_SETTINGS"
"""Environment variable with the path of the settings file."""

BLOCK_VARIABLE = "PULP_HOOKS_BLOCK"
"""Environment variable with names of plugins and listeners, separated by commas, that are not loaded."""

AUTOLOAD_VARIABLE = "PULP_HOOKS_DISABLE_AUTOLOAD"
"""Environment variable that, when it is not empty, keeps every installed plugin from being loaded."""

_NOTHING_LOADED = "no plugin is loaded"
_NOTHING_ACCEPTED = "no event is accepted"
_KNOWN = (*TABLES, "journal", "delivery", "listeners")
_MEND = "correct it and run `pulp-hooks check` again"


def read_settings(path: str | os.PathLike[str] | None = None) -> Settings:
    """Read the settings, whatever is wrong with them: what is wrong is among the `problems`.

    A listener with a fault is left out; the others stay. If the file as a whole or its `[plugins]` table cannot be
    read, no plugin is loaded: the list of blocked ones is unknown. If the file as a whole or its `[journal]` table
    cannot be read, the journal has a `fault`: a journal may be configured, and an event must not bypass it.

    Args:
        path: The file. Without it the one that `PULP_HOOKS_SETTINGS` names, else `pulp-hooks.toml` in the working
            directory, where there is one.
    """
    named = path or os.environ.get(PATH_VARIABLE)
    file = Path(named or FILE_NAME)
    try:
        file = file.absolute()
        document = tomllib.loads(read_text(file))
        return _Reader(file, document).settings()
    except FileNotFoundError as error:
        # A link that leads nowhere is there, and somebody meant something by it.
        if not named and not os.path.lexists(file):
            return Settings(autoload=_autoload(), blocked=_blocked())
        reason = error.strerror
    except OSError as error:
        reason = error.strerror
    except RecursionError:
        reason = "its tables or arrays lie too deep in each other"
    except ValueError as error:
        reason = str(error)
    fault = f"the settings cannot be read: {reason}"
    problem = Problem(str(file), f"{fault}; so {_NOTHING_LOADED} and {_NOTHING_ACCEPTED}", _MEND)
    journal = JournalSettings("", fault=f"{file}: {fault}")
    return Settings(path=file, autoload=False, blocked=_blocked(), journal=journal, problems=(problem,))


class _Reader:
    """Reads one document, and gathers what is wrong with it."""

    def __init__(self, file: Path, document: Mapping[str, Any]) -> None:
        self._file = file
        self._document = document
        self._problems: list[Problem] = []
        self._journal_fault: str | None = None

    def settings(self) -> Settings:
        readable = True
        for key, value in self._document.items():
            if key not in _KNOWN:
                may_block = _may_block(key, value)
                readable = readable and not may_block
                consequence = f"; in case it was to block some, {_NOTHING_LOADED}" if may_block else ""
                self._problem(key, f"is no table of the settings{self._hint(key, value, _KNOWN)}{consequence}")
        tables = {name: self._table(name, schema()) for name, schema in TABLES.items()}
        plugins, dispatch = tables["plugins"], tables["dispatch"] or {}
        listeners = tuple(self._listeners())
        delivery, deliveries = self._delivery()
        return Settings(
            path=self._file,
            autoload=_autoload() and readable and plugins is not None,
            blocked=_blocked() | frozenset((plugins or {}).get("block", ())),
            listeners=listeners,
            journal=self._journal(),
            delivery=delivery,
            deliveries=deliveries,
            problems=tuple(self._problems),
            **dispatch,
        )

    def _table(self, name: str, schema: Schema) -> dict[str, Any] | None:
        try:
            return cast("dict[str, Any]", schema.load(self._document.get(name, {})))
        except ValidationError as error:
            consequence = f"; so {_NOTHING_LOADED}" if name == "plugins" else ""
            self._problems.extend(self._violations(name, error, schema, consequence))
            return None

    def _journal(self) -> JournalSettings | None:
        """Read `[journal]`. With a fault in it no event is accepted: an event must not bypass a journal."""
        if "journal" not in self._document:
            return JournalSettings("", fault=self._journal_fault) if self._journal_fault else None
        found = len(self._problems)
        table, schema, consequence = self._document["journal"], JournalTable(), f"; so {_NOTHING_ACCEPTED}"
        try:
            if isinstance(table, Mapping):
                table = {key: resolve(value, key, self._file.parent, []) for key, value in table.items()}
            loaded = cast("dict[str, Any]", schema.load(table))
            loaded["url"] = _located(loaded["url"], self._file.parent)
            return JournalSettings(**loaded)
        except ValidationError as error:
            self._problems.extend(self._violations("journal", error, schema, consequence))
        except SettingsError as error:
            self._problem("journal:", f"{error}{consequence}")
        return JournalSettings("", fault=f"{self._file}: {self._problems[found].cause.removesuffix(consequence)}")

    def _delivery(self) -> tuple[DeliverySettings, dict[str, DeliverySettings]]:
        """Read `[delivery]`, and the table of each listener in there, which has its own keys and else those above."""
        table = self._document.get("delivery", {})
        if not isinstance(table, Mapping):
            self._problem("delivery", "must be a table")
            return DeliverySettings(), {}
        own = {key: value for key, value in table.items() if key != "listeners"}
        general = self._delivery_table("delivery", own, DeliverySettings())
        listeners = table.get("listeners", {})
        if not isinstance(listeners, Mapping):
            self._problem("delivery.listeners", "must be a table, with one table for each listener")
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
            self._problems.extend(self._violations(place, error, schema))
            return general
        frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in loaded.items()}
        return replace(general, **frozen)

    def _listeners(self) -> Iterator[ListenerSettings]:
        tables = self._document.get("listeners", [])
        if not isinstance(tables, list):
            self._problem("listeners", "must be an array of tables, written [[listeners]]")
            return
        names: set[str] = set()
        for position, table in enumerate(tables):
            place = _place(position, table)
            schema = ListenerTable()
            secrets: list[str] = []
            try:
                loaded = cast("dict[str, Any]", schema.load(table))
                if loaded["name"] in names:
                    self._problem(f"{place}: name", "is the name of another listener of this file")
                    continue
                names.add(loaded["name"])
                config = {
                    key: resolve(value, f"config.{key}", self._file.parent, secrets)
                    for key, value in loaded.pop("config", {}).items()
                }
            except ValidationError as error:
                self._problems.extend(self._violations(place, error, schema))
                continue
            except SettingsError as error:
                self._problem(f"{place}:", str(error))
                continue
            frozen: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in loaded.items()}
            yield ListenerSettings(**frozen, config=config, secrets=tuple(secrets))

    def _violations(
        self, place: str, error: ValidationError, schema: Schema, consequence: str = ""
    ) -> Iterator[Problem]:
        table = cast("Mapping[str, Any]", error.data if isinstance(error.data, Mapping) else {})
        for key, rules in violations(error):
            top = key.partition(".")[0].partition("[")[0]
            hint = "" if top in schema.fields else self._hint(top, table.get(top), schema.fields)
            yield Problem(str(self._file), f"{place}: {key} {rules}{hint}{consequence}".replace("  ", " "), _MEND)

    def _hint(self, key: str, value: object, known: Collection[str]) -> str:
        """Return what an unknown key may be meant as, and what follows if that is the journal."""
        hint = _suggestion(key.lower(), known)
        misplaced = None if "journal" in self._document else next(_journals_in(key, value), None)
        if misplaced is None:
            return hint
        self._journal_fault = f"{self._file}: {misplaced} may be meant as [journal]"
        return f"{hint}; in case {misplaced} is meant as [journal], {_NOTHING_ACCEPTED}"

    def _problem(self, place: str, cause: str) -> None:
        self._problems.append(Problem(str(self._file), f"{place} {cause}", _MEND))


def violations(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Give the dotted key and the broken rules for each value that marshmallow refused; never the value itself."""

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


def _place(position: int, table: object) -> str:
    name = table.get("name") if isinstance(table, Mapping) else None
    return f"listener {name!r}" if isinstance(name, str) else f"listeners[{position}]"


def _suggestion(key: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1)
    return f", did you mean {nearest[0]!r}?" if nearest else ""


def _may_block(key: str, value: object) -> bool:
    """Tell whether an unknown key may be what was to block plugins."""
    misspelt = difflib.get_close_matches(key.lower(), ["plugins", "block"])
    return bool(misspelt) or (isinstance(value, Mapping) and "block" in value)


def _journals_in(key: str, value: object) -> Iterator[str]:
    """Yield the dotted keys, of this key and those inside of its value, that are nearly called `journal`."""
    if difflib.get_close_matches(key.lower(), ["journal"]):
        yield key
    for table in value if isinstance(value, list) else [value]:
        if isinstance(table, Mapping):
            for inner, inner_value in table.items():
                yield from (f"{key}.{path}" for path in _journals_in(inner, inner_value))


def _located(url: str, folder: Path) -> str:
    """Give the URL with a relative path of a SQLite file made absolute: it begins at the folder of the settings."""
    scheme, separator, path = url.partition(":///")
    return f"{scheme}{separator}{folder / path}" if scheme.partition("+")[0] == "sqlite" and path else url


def _autoload() -> bool:
    return not os.environ.get(AUTOLOAD_VARIABLE)


def _blocked() -> frozenset[str]:
    names = os.environ.get(BLOCK_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())
