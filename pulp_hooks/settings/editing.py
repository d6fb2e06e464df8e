"""Editing the `[[listeners]]` tables of a settings file, whose comments and order stay, and replacing it atomically."""

import codecs
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from pulp_hooks.errors import SettingsError
from pulp_hooks.settings.references import is_reference

_LISTENER = re.compile(r"\s*\[\[\s*listeners\s*\]\]")
_HEADER = re.compile(r"\s*\[")
_INNER = re.compile(r"\s*\[+\s*listeners\s*\.")
_ASIDE = re.compile(r"\s*(#.*)?\s*")
"""Lines of a settings file: the beginning of a listener, of any table, of a table within a listener; and what may
belong to the table after it."""


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
        self._before = self._on_disk()
        self._text = (self._before or b"").decode("utf-8-sig")
        self._document = self._parsed(self._text)

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

    def add(self, listener: Mapping[str, Any], changes: Mapping[tuple[str, ...], Any] | None = None) -> None:
        """Add a listener at the end; what is there already stays as it is, to the byte.

        Args:
            listener: Its table.
            changes: More keys, as `update` takes them.

        Raises:
            SettingsError: There is one of this name already, or a value cannot be written as TOML.
        """
        name = listener["name"]
        if name in self.names:
            raise SettingsError(f"there is a listener {name!r} already; fix: choose another name, or update it")
        try:
            table = _written(listener)
            for path, value in (changes or {}).items():
                _put_into(table, path, value)
            tables = tomlkit.aot()
            tables.append(table)
            added = tomlkit.dumps({"listeners": tables})
        except (TOMLKitError, AttributeError, TypeError, ValueError) as error:
            raise SettingsError(f"listener {name!r} cannot be written as TOML: {error}") from None
        before = self._text.rstrip("\r\n")
        self._text = f"{before}\n\n{added}" if before else added
        self._document = self._parsed(self._text)

    def update(
        self, name: str, changes: Mapping[tuple[str, ...], Any], removed: Iterable[tuple[str, ...]] = ()
    ) -> None:
        """Change keys of a listener; the others stay.

        Args:
            name: Name of the listener.
            changes: New values, by the keys that lead to them from the table of the listener.
            removed: What to remove, named in the same way.

        Raises:
            SettingsError: There is no such listener, or no such key to remove, or other tables stand between those of
                the listeners, which would be moved.
        """
        if tomlkit.dumps(self._document) != self._text:
            raise SettingsError(
                f"{self.path} cannot be edited: other tables stand between its [[listeners]]; "
                "fix: move those of the listeners together"
            )
        table = self._table(name)
        for path, value in changes.items():
            _put_into(table, path, value)
        for path in removed:
            inner: Any = table
            *parents, last = path
            for parent in parents:
                inner = inner.get(parent) if isinstance(inner, Mapping) else None
            if not isinstance(inner, Mapping) or last not in inner:
                raise SettingsError(f"listener {name!r} has no key {'.'.join(path).removeprefix('config.')}")
            del cast("Any", inner)[last]
        self._text = tomlkit.dumps(self._document)

    def remove(self, name: str) -> None:
        """Remove a listener, without the comments above the table after it.

        Raises:
            SettingsError: There is none of this name, or its lines cannot be told from others.
        """
        self._table(name)
        place = self.names.index(name)
        lines = self._text.splitlines(keepends=True)
        begins = [number for number, line in enumerate(lines) if _LISTENER.match(line)]
        expected = self._document.unwrap()
        del expected["listeners"][place]
        if not expected["listeners"]:
            del expected["listeners"]
        if place < len(begins):
            first = end = begins[place]
            end += 1
            while end < len(lines) and not (_HEADER.match(lines[end]) and not _INNER.match(lines[end])):
                end += 1
            while end < len(lines) and end > first + 1 and _ASIDE.fullmatch(lines[end - 1]):
                end -= 1
            text = "".join(lines[:first] + lines[end:])
            document = self._parsed(text)
            if document.unwrap() == expected:
                self._text, self._document = text, document
                return
        raise SettingsError(
            f"{self.path}: the lines of listener {name!r} cannot be told from others; fix: remove it by hand"
        )

    def text(self) -> str:
        """Return the text with the changes."""
        return self._text if not self._text or self._text.endswith("\n") else f"{self._text}\n"

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
            with os.fdopen(number, "wb") as file:
                file.write(self._encoded())
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
            if self._on_disk() != self._before:
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

    def _on_disk(self) -> bytes | None:
        """Return what the file holds; null if there is none.

        Raises:
            SettingsError: It cannot be read, or is not UTF-8.
        """
        try:
            content = self.path.read_bytes()
            content.decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise SettingsError(f"{self.path} cannot be read: it is not UTF-8 text") from None
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read: {error.strerror}") from None
        return content

    def _encoded(self) -> bytes:
        """Return the text as bytes, with the line ends and the byte order mark that the file had."""
        before, text = self._before or b"", self.text()
        if b"\r\n" in before:
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        try:
            return (codecs.BOM_UTF8 if before.startswith(codecs.BOM_UTF8) else b"") + text.encode()
        except UnicodeEncodeError:
            raise SettingsError(f"{self.path} cannot be written: a text is not valid Unicode") from None

    def _parsed(self, text: str) -> tomlkit.TOMLDocument:
        try:
            document = tomlkit.parse(text)
        except TOMLKitError as error:
            raise SettingsError(f"{self.path} is not TOML: {error}") from None
        if not isinstance(document.get("listeners", tomlkit.aot()), AoT):
            raise SettingsError(f"{self.path}: listeners must be [[listeners]] tables to be edited; fix: write them so")
        return document

    def _tables(self) -> AoT:
        return cast("AoT", self._document.get("listeners", tomlkit.aot()))

    def _table(self, name: str) -> Table:
        for table in self._tables():
            if table.get("name") == name:
                return cast("Table", table)
        raise SettingsError(f"{self.path} has no listener {name!r}; it has {', '.join(self.names) or 'none'}")


def _put_into(listener: Any, path: Sequence[str], value: object) -> None:  # noqa: ANN401 - a table
    """Put a value into the table of a listener."""
    first, *rest = path
    if not rest:
        listener[first] = value
        return
    if not isinstance(listener.get(first), Mapping):
        listener[first] = tomlkit.table()
    _put(listener[first], rest, value)


def _written(listener: Mapping[str, Any]) -> Table:
    """Return a table as people write it: the configuration as a table of its own, everything in it on one line."""
    table = tomlkit.table()
    for key, value in listener.items():
        if key != "config":
            table[key] = _inline(value)
    if listener.get("config"):
        config = tomlkit.table()
        for key, value in listener["config"].items():
            config[key] = _inline(value)
        table.append("config", config)
    return table


def _put(table: Any, path: Sequence[str], value: object) -> None:  # noqa: ANN401 - a table, or an inline one
    """Put a value into a table, or into the tables within it that the path leads through."""
    first, *rest = path
    if rest:
        inner = table.get(first)
        if not isinstance(inner, Mapping) or is_reference(inner):
            inner = tomlkit.inline_table()
        _put(inner, rest, value)
        table[first] = inner
    else:
        table[first] = _inline(value)


def _inline(value: object) -> object:
    """Return a value with every table in it on one line."""
    if not isinstance(value, Mapping):
        return value
    inline = tomlkit.inline_table()
    for name, item in value.items():
        inline.append(name, _inline(item))
    return inline
