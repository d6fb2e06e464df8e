"""Secrets of the settings are redacted before a text of a listener is shown or stored."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pulp_hooks import EventType, Hooks, ListenerSettings, Settings
from pulp_hooks.dispatch.outcomes import Report

if TYPE_CHECKING:
    from tests.plugins.conftest import Site

LINES = [
    "-----BEGIN PRIVATE KEY-----",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu",
    "NMoSfm76oqFvAp8Gy0iz5sxjZmSnXyCd==",
    "-----END PRIVATE KEY-----",
]
BODY = {"repo_id": "zoo"}

GROUP = """
import asyncio
from marshmallow import fields

class Post(Notifier):
    class Config(Notifier.Config):
        key = fields.String()

    async def notify(self, event):
        async def connect():
            raise ConnectionError(f"bad key:\\n{self.config['key']}")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connect())

    def close(self):
        raise OSError(f"cannot put {self.config['key']!r} back")
"""

CONSTRUCTOR = """
from marshmallow import fields

class Post(Notifier):
    class Config(Notifier.Config):
        key = fields.String()

    def __init__(self, config):
        raise ValueError("x" * 930 + config["key"])

    def notify(self, event): ...
"""

VALIDATOR = """
from marshmallow import ValidationError, fields

def refuse(value):
    raise ValidationError([f"not a key: {value}", f"nor is {value[:100]!r}"])

class Post(Notifier):
    class Config(Notifier.Config):
        key = fields.String(validate=refuse)

    def notify(self, event): ...
"""


def configure(site: "Site", source: str, more: str = "") -> None:
    """Install the notifier, and write settings with a private key for it."""
    site.plugin("post", source, "Post")
    (site.folder / "key.pem").write_text("\n".join([*LINES, ""]))
    (site.folder / "pulp-hooks.toml").write_text(
        f"[[listeners]]\nname = 'desk'\nnotifier = 'post'\nconfig.key = {{ file = 'key.pem' }}\n{more}"
    )


def assert_text_without_key(text: str, sign: str) -> None:
    """Assert that a text has the marker of the error, and no eight consecutive characters of the key."""
    assert sign in text
    assert "***" in text
    pieces = [line[start : start + 8] for line in LINES for start in range(len(line) - 7)]
    assert [piece for piece in pieces if piece in text] == []


def fire(hooks: Hooks) -> Report:
    """Fire without a running event loop."""
    return hooks.fire(EventType.REPO_SYNC_STARTED, BODY)


def afire(hooks: Hooks) -> Report:
    """Fire from a coroutine."""
    return asyncio.run(hooks.afire(EventType.REPO_SYNC_STARTED, BODY))


@pytest.mark.parametrize("way", [fire, afire])
def test_key_in_an_exception_group_is_neither_logged_nor_reported(
    site: "Site", way: Callable[[Hooks], Report], caplog: pytest.LogCaptureFixture
) -> None:
    """Its lines are redacted although a traceback indents them, and in an exception of `close`."""
    configure(site, GROUP)
    with Hooks.discover(site.folder / "pulp-hooks.toml") as hooks:
        report = way(hooks)
        assert_text_without_key(f"{caplog.text} ***", "ConnectionError: bad key")
        assert_text_without_key(f"{report} {hooks.listeners} ***", "ExceptionGroup")
    assert_text_without_key(caplog.text, "OSError: cannot put")


def test_key_is_not_kept_by_the_journal(site: "Site", caplog: pytest.LogCaptureFixture) -> None:
    """Neither the recorded attempt nor the worker's log has a part of it."""
    configure(site, GROUP, "[journal]\nurl = 'sqlite:///journal.db'\n")
    caplog.set_level(logging.DEBUG)
    with Hooks.discover(site.folder / "pulp-hooks.toml") as hooks:
        fire(hooks)
        hooks.worker().run_once()
    assert_text_without_key(caplog.text, "ConnectionError: bad key")
    kept = b"".join(file.read_bytes() for file in site.folder.glob("journal.db*")).decode("latin-1")
    assert_text_without_key(f"{kept} ***", "ExceptionGroup")


@pytest.mark.parametrize(
    ("source", "sign"),
    [(CONSTRUCTOR, "post cannot start: ValueError: xxx"), (VALIDATOR, "config.key: not a key: ***; nor is '***")],
    ids=["constructor", "schema"],
)
def test_key_is_not_in_the_problems_of_a_notifier(site: "Site", source: str, sign: str) -> None:
    """Errors of its constructor and its schema are redacted before they are shortened."""
    configure(site, source)
    done = site.run("-m", "pulp_hooks", "check", "--json", "--settings", str(site.folder / "pulp-hooks.toml"))
    assert done.returncode == 1
    assert_text_without_key(done.stdout, sign)
    assert_text_without_key(f"{done.stderr} ***", "")


PASSWORDS = """
from marshmallow import fields

class Post(Notifier):
    class Config(Notifier.Config):
        user = fields.String()
        password = fields.String(load_only=True)
        keys = fields.List(fields.String(), load_only=True)

    def notify(self, event):
        raise ValueError(f"refused: {self.config['password']}")
"""


def test_settings_file_with_a_secret_in_it_is_refused(site: "Site") -> None:
    """A field that its schema marks as a secret needs a reference, and the message has the key but not the value."""
    site.plugin("post", PASSWORDS, "Post")
    (site.folder / "key").write_text("from-a-file")
    settings = site.folder / "pulp-hooks.toml"
    listener = "[[listeners]]\nname = 'desk'\nnotifier = 'post'\nconfig.user = 'me'\n"
    settings.write_text(
        f"{listener}config.password = 'open-sesame'\nconfig.keys = [{{ file = 'key' }}, 'sim-sala-bim']\n"
    )
    with Hooks.discover(settings) as hooks:
        shown = "\n".join(map(str, hooks.problems))
    assert "config.password: is a secret, which must not be in the settings file" in shown
    assert "config.keys: is a secret" in shown
    assert 'fix: refer to it: { env = "NAME" } or { file = "path" }' in shown
    assert "sesame" not in shown
    assert "sim-sala" not in shown
    settings.write_text(f"{listener}config.password = {{ file = 'key' }}\nconfig.keys = [{{ file = 'key' }}]\n")
    with Hooks.discover(settings) as hooks:
        assert hooks.problems == ()


def test_secret_of_settings_in_code_is_redacted(site: "Site") -> None:
    """Code may have it from wherever it likes; it is kept out of outcomes all the same."""
    site.plugin("post", PASSWORDS, "Post")
    listener = ListenerSettings("desk", "post", config={"password": "open-sesame"})
    with Hooks.discover(Settings(listeners=(listener,))) as hooks:
        [outcome] = fire(hooks).outcomes
    assert outcome.error == "ValueError: refused: ***"
