"""Values that settings take from the environment or from a file: `{ env = "NAME" }` and `{ file = "path" }`."""

import codecs
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulp_hooks.errors import SettingsError


def resolve(value: Any, key: str, folder: Path, secrets: list[str]) -> Any:  # noqa: ANN401 - any TOML value
    """Give the value with every reference in it replaced by the text that it stands for.

    Args:
        value: A TOML value: a table, an array or a scalar.
        key: Its dotted key, for messages.
        folder: The folder that relative paths are in.
        secrets: Every text found is added to it.

    Raises:
        SettingsError: A variable is not set or a file cannot be read; names the key, not the value.
    """
    if isinstance(value, list):
        return [resolve(item, f"{key}[{position}]", folder, secrets) for position, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        (kind, name), *_ = value.items()
        if kind in _READERS and isinstance(name, str):
            text = _READERS[kind](name, key, folder)
            secrets.append(text)
            return text
    return {name: resolve(item, f"{key}.{name}", folder, secrets) for name, item in value.items()}


def resolve_config(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration of a notifier with every reference in its values resolved, and the secrets found.

    Args:
        config: The `[listeners.config]` table; as a whole it is not a reference.
        folder: The folder that relative paths begin at.

    Raises:
        SettingsError: As `resolve`.
    """
    secrets: list[str] = []
    try:
        return {key: resolve(value, f"config.{key}", folder, secrets) for key, value in config.items()}, secrets
    except RecursionError:
        raise SettingsError("config is nested too deep") from None


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, without the byte order mark that some editors put in front of it.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not UTF-8 text; the message repeats nothing of the content.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        is_utf_16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    else:
        # UTF-16 without a byte order mark is valid UTF-8: every second character of it is a NUL.
        if "\0" not in text:
            return text
        is_utf_16 = True
    raise ValueError("it is UTF-16 text; save it as UTF-8" if is_utf_16 else "it is not UTF-8 text")


def _from_environment(name: str, key: str, _folder: Path) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise SettingsError(
            f"{key}: the environment variable {name} is not set; export it, or remove the key"
        ) from None


def _from_file(name: str, key: str, folder: Path) -> str:
    path = folder / name
    try:
        # Editors end a file with a line break, which is not part of a password.
        return read_text(path).rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{key}: the file {path} cannot be read: {reason}") from None


_READERS = {"env": _from_environment, "file": _from_file}
