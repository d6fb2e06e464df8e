"""References in the settings to environment variables and files: `{ env = "NAME" }` and `{ file = "path" }`."""

import codecs
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pulp_hooks.errors import SettingsError


def resolve(value: Any, key: str, folder: Path, secrets: list[str]) -> Any:  # noqa: ANN401 - any TOML value
    """Return a value with every reference in it resolved.

    Args:
        value: A TOML value: a table, an array or a scalar.
        key: Its dotted key, for messages.
        folder: Base of relative paths.
        secrets: Resolved texts are appended to it, and the passwords of those that are URLs.

    Raises:
        SettingsError: A variable is not set, or a file cannot be read; the message names the key, not the value.
    """
    if isinstance(value, list):
        return [resolve(item, f"{key}[{position}]", folder, secrets) for position, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if is_reference(value):
        (kind, name), *_ = value.items()
        text = _READERS[kind](name, key, folder)
        secrets += [text, *_password_in(text)]
        return text
    return {name: resolve(item, f"{key}.{name}", folder, secrets) for name, item in value.items()}


def resolve_config(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration of a notifier with its references resolved, and the secrets found.

    Raises:
        SettingsError: As `resolve`.
    """
    secrets: list[str] = []
    try:
        return {key: resolve(value, f"config.{key}", folder, secrets) for key, value in config.items()}, secrets
    except RecursionError:
        raise SettingsError("config is nested too deep") from None


def is_reference(value: object) -> bool:
    """Return whether a TOML value refers to an environment variable or a file."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    (kind, name), *_ = value.items()
    return kind in _READERS and isinstance(name, str)


def _password_in(text: str) -> list[str]:
    """Return the password in a URL, if there is one: a server may repeat it without the URL."""
    try:
        password = urlsplit(text).password
    except ValueError:
        return []
    return [password] if password else []


def written_texts(value: object) -> list[str]:
    """Return the texts that are written in a TOML value itself, and not referred to."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in written_texts(item)]
    if isinstance(value, Mapping) and not is_reference(value):
        return [text for item in value.values() for text in written_texts(item)]
    return []


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not UTF-8 text; the message has nothing of the content.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        is_utf_16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    else:
        # ASCII text in UTF-16 without a byte order mark is valid UTF-8, with NUL as every second character.
        if "\0" not in text:
            return text
        is_utf_16 = True
    raise ValueError("it is UTF-16 text, save it as UTF-8" if is_utf_16 else "it is not UTF-8 text")


def _from_environment(name: str, key: str, _folder: Path) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise SettingsError(f"{key}: environment variable {name} is not set (export it, or remove the key)") from None


def _from_file(name: str, key: str, folder: Path) -> str:
    path = folder / name
    try:
        # The line break at the end of a file is not part of a password.
        return read_text(path).rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{key}: file {path} cannot be read: {reason}") from None


_READERS = {"env": _from_environment, "file": _from_file}
