"""References in the settings to environment variables and files."""

import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulp_hooks.errors import SettingsError
from pulp_hooks.settings.reading import ReadSettings
from pulp_hooks.settings.references import resolve, resolve_config

Read = Callable[[str], ReadSettings]

LISTENER = "[[listeners]]\nname = 'desk'\nnotifier = 'post'\n"


def resolved(value: object, folder: Path) -> tuple[Any, list[str]]:
    """Return the value of a configuration key with its references resolved, and the secrets found."""
    secrets: list[str] = []
    return resolve({"key": value}, "config", folder, secrets)["key"], secrets


def config_of(read: ReadSettings) -> dict[str, Any]:
    """Return the resolved configuration of the only listener of settings without problems."""
    assert read.problems == ()
    (listener,) = read.settings.listeners
    assert read.path is not None
    return resolve_config(listener.config, read.path.parent)[0]


def test_references_are_resolved_at_any_depth(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """References in nested tables and arrays are replaced by their texts."""
    monkeypatch.setenv("USER_NAME", "ann")
    (folder / "password").write_text("wonder")
    config = {
        "user": {"env": "USER_NAME"},
        "auth": {"basic": [{"password": {"file": "password"}}, [{"env": "USER_NAME"}]]},
        "port": 25,
    }
    value, secrets = resolved(config, folder)
    assert value == {"user": "ann", "auth": {"basic": [{"password": "wonder"}, ["ann"]]}, "port": 25}
    assert secrets == ["ann", "wonder", "ann"]


@pytest.mark.parametrize(
    ("text", "passwords"),
    [
        ("amqp://ann:w%2Fonder@mq.example/vhost", ["w%2Fonder"]),
        ("amqp://ann@mq.example", []),
        ("https://[broken", []),
        ("ann:wonder@mail", []),
    ],
)
def test_password_in_a_url_is_a_secret_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, passwords: list[str]
) -> None:
    """Servers repeat passwords without the URL."""
    monkeypatch.setenv("URL", text)
    assert resolved({"env": "URL"}, folder) == (text, [text, *passwords])


def test_what_is_resolved_is_a_copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document keeps its references."""
    monkeypatch.setenv("TOKEN", "wonder")
    config: dict[str, Any] = {"list": [{"env": "TOKEN"}]}
    resolved(config, folder)
    assert config == {"list": [{"env": "TOKEN"}]}


def test_listener_has_values_and_knows_what_is_secret(
    read: Read, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings keep the references; they are resolved when the notifier is built, and their texts are secrets."""
    monkeypatch.setenv("USER_NAME", "ann")
    (folder / "password").write_text("wonder\n")
    found = read(f"{LISTENER}[listeners.config]\nuser = {{env = 'USER_NAME'}}\nport = 25\nkey.file = 'password'")
    (listener,) = found.settings.listeners
    assert listener.config == {"user": {"env": "USER_NAME"}, "port": 25, "key": {"file": "password"}}
    config, secrets = resolve_config(listener.config, folder)
    assert config == {"user": "ann", "port": 25, "key": "wonder"}
    assert set(secrets) == {"ann", "wonder"}


@pytest.mark.parametrize("key", ["file", "env"])
def test_configuration_table_is_not_a_reference(read: Read, key: str) -> None:
    """A notifier may have a key `file` or `env`, also as the only one."""
    assert config_of(read(f"{LISTENER}[listeners.config]\n{key} = 'events.jsonl'")) == {key: "events.jsonl"}


@pytest.mark.parametrize(
    "value",
    [
        {"env": 1},
        {"file": ["a"]},
        {"env": {"a": 1}},
        {"env": "A", "file": "b"},
        {"env": "A", "default": ""},
        {"ENV": "A"},
        {},
        [],
        "env",
        True,
        1.5,
        date(2012, 7, 6),
    ],
)
def test_only_one_key_with_text_is_a_reference(folder: Path, value: object) -> None:
    """Tables with other keys, more keys or other values stay tables; scalars stay unchanged."""
    assert resolved(value, folder) == (value, [])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"wonder", "wonder"),
        (b"wonder\n", "wonder"),
        (b"wonder\r\n", "wonder"),
        (b" won\nder \n", " won\nder "),
        ("wünder\n".encode(), "wünder"),
        (b"", ""),
        (b"\n", ""),
        (b"\xef\xbb\xbfwonder\r\n", "wonder"),
    ],
)
def test_line_break_at_the_end_of_a_file_is_removed(folder: Path, content: bytes, text: str) -> None:
    """The line break that editors add at the end is removed; spaces and inner line breaks stay."""
    (folder / "password").write_bytes(content)
    assert resolved({"file": "password"}, folder)[0] == text


@pytest.mark.parametrize("value", ["", " wonder ", "wonder\n", "wünder", "{ env = 'HOME' }"])
def test_value_of_a_variable_is_unchanged(folder: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A variable may be empty; its value is neither trimmed nor resolved again."""
    monkeypatch.setenv("TOKEN", value)
    assert resolved({"env": "TOKEN"}, folder)[0] == value


def test_relative_path_starts_at_the_settings_file(
    read: Read, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The path is relative to the settings file, whatever the working directory is."""
    (folder / "secrets").mkdir()
    (folder / "secrets" / "password").write_text("wonder")
    text = f"{LISTENER}config = {{key = {{file = 'secrets/password'}}}}"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert config_of(read(text)) == {"key": "wonder"}


def test_absolute_path_is_unchanged(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A secret may be outside of the folder of the settings."""
    file = tmp_path_factory.mktemp("elsewhere") / "password"
    file.write_text("wonder")
    assert resolved({"file": str(file)}, folder)[0] == "wonder"


def test_missing_variable_is_named_with_its_key(folder: Path) -> None:
    """An unset variable is an error that names key and variable."""
    with pytest.raises(SettingsError, match=r"config\.key\[1\]\.token: .*NO_SUCH_VARIABLE is not set"):
        resolved(["a", {"token": {"env": "NO_SUCH_VARIABLE"}}], folder)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory"),
        ("", "Is a directory"),
        ("folder", "Is a directory"),
        ("latin", "it is not UTF-8 text"),
        ("x" * 1000, "File name too long"),
    ],
)
def test_unreadable_file_is_named_with_its_key(folder: Path, name: str, reason: str) -> None:
    """An unreadable file is an error that names key, file and reason."""
    (folder / "folder").mkdir()
    (folder / "latin").write_bytes("wünder".encode("latin-1"))
    (folder / "utf-16").write_text("wünder", encoding="utf-16")
    (folder / "utf-16-le").write_text("wünder", encoding="utf-16-le")
    with pytest.raises(SettingsError) as raised:
        resolved({"file": name}, folder)
    assert str(raised.value) == f"config.key: file {folder / name} cannot be read: {reason}"
    assert raised.value.__cause__ is None


def test_invalid_path_is_an_error(folder: Path) -> None:
    """An invalid path is an error like a missing file."""
    with pytest.raises(SettingsError, match=r"config\.key: .* cannot be read"):
        resolved({"file": "a\0b"}, folder)


def test_missing_reference_is_an_error_that_shows_no_value(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the key, and shows nothing of resolved references."""
    monkeypatch.setenv("TOKEN", "s3cr3t")
    (folder / "latin").write_bytes(b"s3cr3t \xff")
    for missing in ({"env": "NO_SUCH_VARIABLE"}, {"file": "missing"}, {"file": "latin"}):
        with pytest.raises(SettingsError, match=r"^config\.other: ") as raised:
            resolve_config({"token": {"env": "TOKEN"}, "other": missing}, folder)
        assert "s3cr3t" not in str(raised.value)


def test_too_deep_configuration_is_an_error(folder: Path) -> None:
    """Too deep nesting is reported like any other fault."""
    config = tomllib.loads(f"[{'a.' * 2_000}a]\nx = 1")
    with pytest.raises(SettingsError, match="config is nested too deep"):
        resolve_config(config, folder)


PLAIN = st.text(max_size=5) | st.integers() | st.booleans()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        PLAIN.map(lambda value: (value, value)) | st.just(({"env": "TOKEN"}, "wonder")),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda pairs: ([a for a, _ in pairs], [b for _, b in pairs]))
            | st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
                lambda pairs: ({key: a for key, (a, _) in pairs.items()}, {key: b for key, (_, b) in pairs.items()})
            )
        ),
    )
)
def test_only_references_change(folder: Path, pair: tuple[object, object]) -> None:
    """References, and nothing else, are replaced anywhere, and their texts are secrets."""
    written, expected = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", "wonder")
        value, secrets = resolved(written, folder)
    assert value == expected
    assert len(secrets) == str(written).count("{'env': 'TOKEN'}")
    assert set(secrets) <= {"wonder"}
