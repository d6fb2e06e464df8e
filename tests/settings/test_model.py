"""Settings in code: the same model and the same rules as for the file."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pulp_hooks import (
    DeliverySettings,
    DispatchSettings,
    EventType,
    Hooks,
    JournalError,
    JournalSettings,
    ListenerSettings,
    PluginSettings,
    PulpSettings,
    Settings,
    SettingsError,
)
from pulp_hooks.settings.reading import ReadSettings

Read = Callable[[str], ReadSettings]

EVERYTHING = """
[plugins]
block = ["console"]

[dispatch]
slow_seconds = 2.5
max_body_bytes = 2048

[journal]
url = "postgresql://db/journal"
schema = "hooks"
synchronous = "FULL"
busy_seconds = 3
on_error = "dispatch"
keep_delivered_days = 1.5
keep_dead_days = 2

[delivery]
timeout_seconds = 15
retry_seconds = [1, 2]
disable_after_hours = 1
resume_per_second = 7
ordered = true
global_concurrency = 2
global_rate_per_second = 0.5

[delivery.listeners.audit]
ordered = false

[[listeners]]
name = "audit"
notifier = "jsonl"
event_types = ["repo.sync.finish"]
repo_ids = ["zoo-*"]
results = ["failed"]
config = { path = "a", token = { env = "TOKEN" } }

[[pulp]]
name = "main"
url = "https://pulp.example"
username = "watcher"
password = { env = "TOKEN" }
interval_seconds = 10
labels = { env = "prod" }
"""

_DELIVERY = DeliverySettings(
    timeout_seconds=15,
    retry_seconds=(1, 2),
    disable_after_hours=1,
    resume_per_second=7,
    ordered=True,
    global_concurrency=2,
    global_rate_per_second=0.5,
)

IN_CODE = Settings(
    plugins=PluginSettings(block=("console",)),
    dispatch=DispatchSettings(slow_seconds=2.5, max_body_bytes=2048),
    journal=JournalSettings("postgresql://db/journal", "hooks", "FULL", 3, "dispatch", 1.5, 2),
    delivery=_DELIVERY,
    delivery_by_listener={"audit": dataclasses.replace(_DELIVERY, ordered=False)},
    listeners=(
        ListenerSettings(
            "audit",
            "jsonl",
            event_types=(EventType.REPO_SYNC_FINISHED,),
            repo_ids=("zoo-*",),
            results=("failed",),
            config={"path": "a", "token": {"env": "TOKEN"}},
        ),
    ),
    pulp=(
        PulpSettings(
            "main",
            "https://pulp.example",
            "watcher",
            {"env": "TOKEN"},
            interval_seconds=10,
            labels={"env": "prod"},
        ),
    ),
)


def test_code_can_set_everything_that_the_file_can(read: Read) -> None:
    """Each key of the file is a field of the model, and both result in the same settings."""
    found = read(EVERYTHING)
    assert found.problems == ()
    assert found.settings == IN_CODE
    defaults = Settings()
    for field in dataclasses.fields(Settings):
        assert getattr(IN_CODE, field.name) != getattr(defaults, field.name)


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (DispatchSettings, {"slow_seconds": -1}, "DispatchSettings: slow_seconds must not be negative"),
        (DispatchSettings, {"max_body_bytes": 1023}, "DispatchSettings: max_body_bytes must be at least 1024"),
        (DispatchSettings, {"max_body_bytes": None}, "DispatchSettings: max_body_bytes must not be None"),
        (JournalSettings, {"url": ""}, "JournalSettings: url must not be empty"),
        (JournalSettings, {"url": "sqlite:///a", "synchronous": "OFF"}, "synchronous must be NORMAL or FULL"),
        (DeliverySettings, {"timeout_seconds": "1"}, "DeliverySettings: timeout_seconds must be a number"),
        (DeliverySettings, {"retry_seconds": (1, -1)}, r"retry_seconds\[1\] must not be negative"),
        (DeliverySettings, {"retry_seconds": 5}, "retry_seconds must be a list of numbers"),
        (DeliverySettings, {"global_concurrency": 0}, "global_concurrency must be at least 1"),
        (ListenerSettings, {"name": "a b", "notifier": "jsonl"}, "ListenerSettings: name must be letters, digits"),
        (
            ListenerSettings,
            {"name": "a", "notifier": "jsonl", "event_types": ("repo-sync",)},
            "event_types 'repo-sync' is not an event type",
        ),
        (ListenerSettings, {"name": "a", "notifier": "jsonl", "repo_ids": ()}, "repo_ids must not be empty"),
        (
            ListenerSettings,
            {"name": "a", "notifier": "jsonl", "results": ("eror",)},
            r"results\[0\] must be one of success",
        ),
        (PluginSettings, {"block": "console"}, "PluginSettings: block must be a list of strings"),
        (Settings, {"journal": "sqlite:///a"}, "Settings: journal must be JournalSettings, not str"),
        (Settings, {"delivery_by_listener": {"a": {}}}, r"delivery_by_listener\['a'\] must be DeliverySettings"),
        (Settings, {"listeners": ("a",)}, r"listeners\[0\] must be ListenerSettings, not str"),
        (
            Settings,
            {"listeners": (ListenerSettings("a", "x"), ListenerSettings("a", "y"))},
            "names of listeners must be unique, got 'a' twice",
        ),
    ],
)
def test_value_in_code_is_checked_by_the_rules_of_the_file(kind: type, values: dict[str, object], said: str) -> None:
    """The error names the field and its rule, and is a `ValueError`."""
    with pytest.raises(SettingsError, match=f"^invalid .*{said}") as raised:
        kind(**values)
    assert isinstance(raised.value, ValueError)


def test_password_is_not_in_errors(read: Read) -> None:
    """An error does not repeat the invalid value, which may be a secret."""
    del read
    with pytest.raises(SettingsError) as raised:
        JournalSettings(["postgresql://me:s3cr3t@db/a"])  # type: ignore[arg-type] # wrong on purpose
    assert "s3cr3t" not in f"{raised.value!r} {raised.value.__cause__!r}"


def test_lists_and_names_of_event_types_are_accepted() -> None:
    """Values that are convenient in code are converted to those of the file."""
    made: Any = ListenerSettings
    listener = made("a", "jsonl", event_types=["repo.sync.start"], repo_ids=["zoo-*"])
    assert listener == ListenerSettings("a", "jsonl", event_types=(EventType.REPO_SYNC_STARTED,), repo_ids=("zoo-*",))


def test_settings_are_frozen() -> None:
    """The settings of a `Hooks` cannot change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().dispatch.slow_seconds = 1.0  # type: ignore[misc] # what is proved


@pytest.mark.parametrize(
    "settings",
    [Settings(listeners=(ListenerSettings("a", "jsonl"),)), Settings(plugins=PluginSettings(block=("console",)))],
)
def test_settings_of_installed_plugins_are_refused_without_discovery(settings: Settings) -> None:
    """`Hooks(...)` loads no installed plugins: settings without effect are an error."""
    with pytest.raises(SettingsError, match=r"fix: use Hooks\.discover\(settings="):
        Hooks(settings=settings)


def test_journal_of_settings_in_code_takes_the_events(folder: Path) -> None:
    """It works like that of the file; the host names the listeners."""
    settings = Settings(journal=JournalSettings(f"sqlite:///{folder}/journal.db"))
    with Hooks(settings=settings) as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        assert hooks.journal is not None
    assert (folder / "journal.db").exists()


def test_wrong_journal_of_settings_in_code_raises_at_once() -> None:
    """It is a mistake of the host, so it raises."""
    with pytest.raises(JournalError, match="must begin with sqlite:///"):
        Hooks(settings=Settings(journal=JournalSettings("mysql://a/b")))


def test_journal_argument_overrides_the_url_of_the_settings(folder: Path) -> None:
    """The other keys of the settings apply to it."""
    settings = Settings(journal=JournalSettings("sqlite:///elsewhere.db", busy_seconds=3.5))
    url = f"sqlite:///{folder}/journal.db"
    with Hooks(settings=settings, journal=url) as hooks:
        hooks.repo_sync_started(repo_id="zoo")
    assert (folder / "journal.db").exists()
    assert not (folder / "elsewhere.db").exists()


def test_discovery_accepts_settings_in_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is read; the variables that block plugins still apply."""
    (folder / "pulp-hooks.toml").write_text("no TOML")
    monkeypatch.setenv("PULP_HOOKS_BLOCK", "console,jsonl,b")
    listeners = (ListenerSettings("a", "nowhere"), ListenerSettings("b", "nowhere"))
    with Hooks.discover(Settings(listeners=listeners)) as hooks:
        states = {listener.name: listener.state.value for listener in hooks.listeners}
        assert (states["a"], states["b"]) == ("broken", "blocked")
        (problem,) = hooks.problems
        assert problem.where == "the settings in code"
        assert "notifier 'nowhere' is not installed" in problem.cause
