"""A host with a journal queues events by name and filter, and reports what it cannot queue."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks import Hooks, Status
from pulp_hooks.plugins.listeners import State

if TYPE_CHECKING:
    from tests.plugins.conftest import Site

SOUND = "@hookimpl\ndef repo_sync_started(body): ..."

NOTIFIER = """
from marshmallow import fields

made, got = [], []

class Post(Notifier):
    class Config(Notifier.Config):
        token = fields.String(required=True)

    def __init__(self, config):
        super().__init__(config)
        made.append(config["token"])

    def notify(self, event):
        got.append(event.body["repo_id"])
"""

JOURNAL = "[journal]\nurl = 'sqlite:///journal.db'\n"

DESK = """
[[listeners]]
name = "desk"
notifier = "post"
event_types = ["repo-sync-started"]
repo_ids = ["zoo-*"]
config.token = { env = "TOKEN" }
"""


def write(text: str) -> Path:
    """Write the settings file in the working directory."""
    path = Path("pulp-hooks.toml").absolute()
    path.write_text(text)
    return path


def outcomes(hooks: Hooks, repo_id: str = "zoo-1") -> dict[str, tuple[Status, str | None]]:
    """Fire an event, and return status and error of each outcome by the name of the listener."""
    return {one.listener: (one.status, one.error) for one in hooks.repo_sync_started(repo_id=repo_id).outcomes}


def test_host_without_the_secret_of_a_listener_queues_for_it(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without the variable queues; a worker with the variable delivers."""
    module = site.plugin("post", NOTIFIER, "Post")
    settings = write(JOURNAL + DESK)
    with Hooks.discover(settings) as host:
        assert host.problems == ()
        assert {listener.name: listener.state for listener in host.listeners}["desk"] is State.NOT_BUILT
        assert outcomes(host) == {"desk": (Status.QUEUED, None)}
    assert vars(sys.modules[module])["made"] == []
    monkeypatch.setenv("TOKEN", "wonder")
    with Hooks.discover(settings) as hooks:
        hooks.worker().run_once()
    assert (vars(sys.modules[module])["made"], vars(sys.modules[module])["got"]) == (["wonder"], ["zoo-1"])


def test_filters_of_a_listener_that_is_not_built_decide(site: "Site") -> None:
    """The host applies event types and patterns; a rejected event is not an outcome."""
    site.plugin("post", NOTIFIER, "Post")
    with Hooks.discover(write(JOURNAL + DESK)) as hooks:
        assert outcomes(hooks, "park") == {}
        assert hooks.repo_publish_started(repo_id="zoo-1", distributor_id="yum").outcomes == ()


def test_host_without_the_notifier_of_a_listener_queues_for_it() -> None:
    """Only workers need the package of the notifier."""
    with Hooks.discover(write(JOURNAL + DESK)) as hooks:
        assert outcomes(hooks)["desk"] == (Status.QUEUED, None)


def test_worker_without_the_secret_leaves_the_delivery_and_says_why(
    site: "Site", caplog: pytest.LogCaptureFixture
) -> None:
    """The listener is broken in this process only; later events are queued for it."""
    site.plugin("post", NOTIFIER, "Post")
    with Hooks.discover(write(JOURNAL + DESK)) as hooks:
        hooks.worker().run_once()
        (problem,) = hooks.problems
        assert "listener 'desk': config.token: environment variable TOKEN is not set" in problem.cause
        assert str(problem) in caplog.text
        assert {listener.name: listener.state for listener in hooks.listeners}["desk"] is State.BROKEN
        assert outcomes(hooks) == {"desk": (Status.QUEUED, None)}


def test_notifiers_are_built_once(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    """All workers of a host share the notifiers."""
    module = site.plugin("post", NOTIFIER, "Post")
    monkeypatch.setenv("TOKEN", "wonder")
    with Hooks.discover(write(JOURNAL + DESK)) as hooks:
        hooks.worker()
        hooks.worker()
        hooks.build_notifiers()
    assert vars(sys.modules[module])["made"] == ["wonder"]


def test_host_that_may_dispatch_builds_its_notifiers(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    """With `on_error = "dispatch"` the host may have to call them itself."""
    module = site.plugin("post", NOTIFIER, "Post")
    monkeypatch.setenv("TOKEN", "wonder")
    Path("journal.db").write_bytes(b"this is no database" * 100)
    with Hooks.discover(write(f"{JOURNAL}on_error = 'dispatch'\n{DESK}")) as hooks:
        assert outcomes(hooks) == {"desk": (Status.SUCCEEDED, None)}
    assert vars(sys.modules[module])["got"] == ["zoo-1"]


@pytest.mark.parametrize(
    ("settings", "name", "reason"),
    [
        (DESK.replace("repo_ids", "repo_id"), "desk", "repo_id is not a key of this table, did you mean 'repo_ids'?"),
        (DESK.replace('name = "desk"', ""), "listeners[0]", "name is missing"),
        (DESK + DESK, "desk", "another listener of this file has this name"),
        (DESK.replace('"desk"', '"sound"'), "sound", "an installed plugin has this name"),
        ("[listeners]\nname = 'desk'\n", "listeners", "must be an array of tables"),
    ],
    ids=["unknown key", "no name", "name twice", "name of a plugin", "not a list"],
)
def test_listener_that_cannot_be_queued_is_an_outcome(
    settings: str, name: str, reason: str, site: "Site", caplog: pytest.LogCaptureFixture
) -> None:
    """The report and the log name the listener for which an event is not stored, and the reason."""
    site.plugin("post", NOTIFIER, "Post")
    site.plugin("sound", SOUND)
    caplog.set_level(logging.ERROR)
    with Hooks.discover(write(JOURNAL + settings)) as hooks:
        report = hooks.repo_sync_started(repo_id="zoo-1")
    (lost,) = [outcome for outcome in report.outcomes if outcome.status is Status.NOT_QUEUED]
    assert (lost.listener, lost.hook, lost.seconds) == (name, "repo_sync_started", 0.0)
    assert reason in str(lost.error)
    assert f"event {report.event.id} is not queued for listener {name}: {lost.error}" in caplog.text
    assert "sound" in {outcome.listener for outcome in report.outcomes if outcome.status is Status.QUEUED}


def test_plugin_that_does_not_load_in_the_host_is_an_outcome(site: "Site") -> None:
    """Its hooks are unknown, so every event may be lost for it."""
    site.plugin("sound", SOUND)
    site.plugin("broken", "import a_module_that_is_missing")
    with Hooks.discover(write(JOURNAL)) as hooks:
        found = outcomes(hooks)
    assert found["sound"] == (Status.QUEUED, None)
    assert found["broken"][0] is Status.NOT_QUEUED
    assert "mod_broken cannot be imported: ModuleNotFoundError" in str(found["broken"][1])


def test_notifier_that_does_not_load_in_the_host_loses_nothing(site: "Site") -> None:
    """Events are queued for its listeners by name and filter; the workers load it."""
    site.plugin("post", "import a_module_that_is_missing", "Post")
    with Hooks.discover(write(JOURNAL + DESK)) as hooks:
        assert outcomes(hooks) == {"desk": (Status.QUEUED, None)}


def test_blocked_listeners_are_no_outcomes(site: "Site") -> None:
    """A blocked listener gets nothing on purpose, whatever else is wrong with it."""
    site.plugin("post", NOTIFIER, "Post")
    site.plugin("sound", SOUND)
    faulty = DESK.replace("desk", "faulty").replace("repo_ids", "repo_id")
    with Hooks.discover(write(f"[plugins]\nblock = ['sound', 'desk', 'faulty']\n{JOURNAL}{DESK}{faulty}")) as hooks:
        assert outcomes(hooks) == {}


def test_known_event_has_no_outcomes_for_what_is_not_queued(site: "Site", caplog: pytest.LogCaptureFixture) -> None:
    """A duplicate event changes nothing, and its unqueued listeners are not reported again."""
    site.plugin("broken", "import a_module_that_is_missing")
    with Hooks.discover(write(JOURNAL)) as hooks:
        event = hooks.repo_sync_started(repo_id="zoo-1").event
        caplog.clear()
        assert hooks.repo_sync_started(repo_id="zoo-1", event_id=event.id).outcomes == ()
    assert "is not queued" not in caplog.text


@pytest.mark.parametrize("command", [["fire", "repo-sync-started"], ["fire", "repo-sync-started", "--json"]])
def test_fire_exits_with_1_when_an_event_is_not_queued(command: list[str], site: "Site") -> None:
    """The exit code tells a script that a listener gets nothing."""
    site.plugin("broken", "import a_module_that_is_missing")
    write(JOURNAL)
    done = site.run("-m", "pulp_hooks", *command)
    assert done.returncode == 1
    assert "not-queued" in done.stdout


@pytest.mark.parametrize("command", ["check", "listeners"])
def test_commands_that_inspect_build_the_notifiers(command: str, site: "Site") -> None:
    """They report the same problems as a worker, also with a journal."""
    site.plugin("post", NOTIFIER, "Post")
    write(JOURNAL + DESK)
    done = site.run("-m", "pulp_hooks", command)
    assert "TOKEN is not set" in done.stdout if command == "check" else "broken" in done.stdout
