"""Editing the `[[listeners]]` tables of a settings file, whose comments and order stay, and replacing it atomically."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from pulp_hooks.errors import SettingsError
from pulp_hooks.settings.references import is_reference, read_text


class SettingsFile:
    """A settings file as text, with changes that are not written yet.

    Args:
        path: Path of the file; it need not exist.

    Attributes:
        path: The path, with symbolic links resolved: the file that they lead to is replaced.

    Raises:
        SettingsError: The file cannot be read, is not TOML, or has `listeners` that are not `[[listeners]]` tables.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        try:
            self._before: str | None = read_text(self.path)
        except FileNotFoundError:
            self._before = None
        except (OSError, ValueError) as error:
            raise SettingsError(f"{self.path} cannot be read: {error}") from None
        self._document = self._parsed(self._before or "")

    @property
    def names(self) -> list[str]:
        """The names of the listeners, in their order."""
        return [str(table.get("name")) for table in self._tables()]

    def listener(self, name: str) -> dict[str, Any]:
        """Return the table of a listener.

        Raises:
            SettingsError: There is none of this name.
        """
        return self._table(name).unwrap()

    def add(self, listener: Mapping[str, Any]) -> None:
        """Add a listener at the end.

        Raises:
            SettingsError: There is one of this name already.
        """
        if listener["name"] in self.names:
            raise SettingsError(
                f"there is a listener {listener['name']!r} already; fix: choose another name, or update it"
            )
        tables = tomlkit.aot()
        tables.append(_written(listener))
        text = self.text().rstrip("\n")
        # What is there already stays as it is, to the byte.
        added = tomlkit.dumps({"listeners": tables})
        self._document = self._parsed(f"{text}\n\n{added}" if text else added)

    def update(self, name: str, changes: Mapping[str, Any], removed: Iterable[str] = ()) -> None:
        """Change keys of a listener; the others stay.

        Args:
            name: Name of the listener.
            changes: New values: of the filters by their names, of the configuration by dotted keys after `config.`.
            removed: Keys to remove, named in the same way.

        Raises:
            SettingsError: There is no such listener, or no such key to remove.
        """
        table = self._table(name)
        for key, value in changes.items():
            *parents, last = key.split(".", 1) if key.startswith("config.") else [key]
            inner: Any = table
            for parent in parents:
                inner = inner.setdefault(parent, tomlkit.table())
            _put(inner, last, value)
        for key in removed:
            inner = table
            *parents, last = key.split(".")
            for parent in parents:
                inner = inner.get(parent, {})
            if last not in inner:
                raise SettingsError(f"listener {name!r} has no key {key.removeprefix('config.')}")
            del inner[last]

    def remove(self, name: str) -> None:
        """Remove a listener.

        Raises:
            SettingsError: There is none of this name.
        """
        self._table(name)
        tables = self._tables()
        del tables[self.names.index(name)]
        if not tables:
            del self._document["listeners"]

    def text(self) -> str:
        """Return the text with the changes."""
        text = tomlkit.dumps(self._document)
        return text if not text or text.endswith("\n") else f"{text}\n"

    @contextmanager
    def candidate(self) -> Iterator[Path]:
        """Write the changed text into a file beside the settings, and yield its path; it is deleted after the block.

        Relative paths in it mean the same as in the settings.

        Raises:
            SettingsError: It cannot be written.
        """
        try:
            number, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written: {error.strerror}") from None
        path = Path(name)
        try:
            with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
                file.write(self.text())
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def replace_by(self, candidate: Path) -> None:
        """Put the candidate in the place of the file, with the mode and the owner of the file.

        Raises:
            SettingsError: Somebody else has changed the file meanwhile, or it cannot be replaced.
        """
        try:
            now = read_text(self.path) if self.path.exists() else None
            if now != self._before:
                raise SettingsError(f"{self.path} was changed by somebody else meanwhile; fix: repeat the command")
            if self._before is None:
                mask = os.umask(0)
                os.umask(mask)
                candidate.chmod(0o666 & ~mask)
            else:
                shutil.copymode(self.path, candidate)
                with suppress(PermissionError):
                    os.chown(candidate, self.path.stat().st_uid, self.path.stat().st_gid)
            candidate.replace(self.path)
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be replaced: {error.strerror}") from None

    def _parsed(self, text: str) -> tomlkit.TOMLDocument:
        try:
            document = tomlkit.parse(text)
        except TOMLKitError as error:
            raise SettingsError(f"{self.path} is not TOML: {error}") from None
        if not isinstance(document.get("listeners", tomlkit.aot()), AoT):
            raise SettingsError(f"{self.path}: listeners must be [[listeners]] tables to be edited")
        return document

    def _tables(self) -> AoT:
        return cast("AoT", self._document.get("listeners", tomlkit.aot()))

    def _table(self, name: str) -> Table:
        for table in self._tables():
            if table.get("name") == name:
                return cast("Table", table)
        raise SettingsError(f"{self.path} has no listener {name!r}; it has {', '.join(self.names) or 'none'}")


def _written(listener: Mapping[str, Any]) -> Table:
    """Return a table as people write it: the configuration as a table of its own, everything in it on one line."""
    table = tomlkit.table()
    for key, value in listener.items():
        if key != "config":
            _put(table, key, value)
    if listener.get("config"):
        config = tomlkit.table()
        for key, value in listener["config"].items():
            _put(config, key, value)
        table.append("config", config)
    return table


def _put(table: Any, key: str, value: object) -> None:  # noqa: ANN401 - a table, or an inline one
    """Put a value into a table; a dotted key leads into tables within it."""
    first, _, rest = key.partition(".")
    if rest:
        inner = table.get(first)
        if not isinstance(inner, Mapping) or is_reference(inner):
            inner = tomlkit.inline_table()
        _put(inner, rest, value)
        table[first] = inner
    else:
        table[key] = _inline(value)


def _inline(value: object) -> object:
    """Return a value with every table in it on one line."""
    if not isinstance(value, Mapping):
        return value
    inline = tomlkit.inline_table()
    for name, item in value.items():
        inline.append(name, _inline(item))
    return inline
