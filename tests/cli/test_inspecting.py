"""Facts about the commands that show: event-types, schema, listeners, check."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from pulp_hooks import EventType

if TYPE_CHECKING:
    import subprocess

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Install = Callable[[str, str], None]

GOOD = "from pulp_hooks import hookimpl\n\n@hookimpl\ndef repo_sync_finished(body): print('heard', body['repo_id'])\n"
MISSPELT = "from pulp_hooks import hookimpl\n\n@hookimpl\ndef repo_sync_finnished(body): ...\n"


def test_event_types_are_listed_with_all_names(run: Run) -> None:
    """The list shows each event type's three names."""
    for event_type in EventType:
        for name in (event_type.value, event_type.hook_name, event_type.wire_name):
            assert name in run("event-types").stdout.split()


def test_event_types_as_json_are_one_document(run: Run) -> None:
    """The list for programs has the same names."""
    shown = json.loads(run("event-types", "--json").stdout)
    assert [entry["type"] for entry in shown] == list(EventType)
    assert shown[0] == {"type": "repo-sync-started", "hook": "repo_sync_started", "wire": "repo.sync.start"}


@pytest.mark.parametrize("event_type", EventType)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_schema_is_a_json_schema_that_its_example_fits(run: Run, event_type: EventType, flags: list[str]) -> None:
    """What `schema` prints is valid JSON Schema, and accepts the example in it."""
    schema = json.loads(run("schema", event_type.wire_name, *flags).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(schema["examples"][0], schema, cls=jsonschema.Draft202012Validator)


def test_listeners_shows_where_each_comes_from(run: Run, install: Install) -> None:
    """A plugin is listed with its distribution, version, hooks and state."""
    install("shout", GOOD)
    line = next(line for line in run("listeners").stdout.splitlines() if line.startswith("shout"))
    assert line.split() == ["shout", "plugin", "shout-dist", "1.0", "repo_sync_finished", "loaded"]
    listed = json.loads(run("listeners", "--json").stdout)
    assert {
        "name": "shout",
        "kind": "plugin",
        "state": "loaded",
        "distribution": "shout-dist",
        "version": "1.0",
        "hooks": ["repo_sync_finished"],
        "disabled": None,
        "disabled_at": None,
    } in listed


def test_listeners_has_no_colours_in_a_pipe(run: Run, install: Install) -> None:
    """Colours are for terminals only."""
    install("shout", GOOD)
    assert "\x1b" not in run("listeners").stdout


def test_listeners_says_that_loading_is_switched_off(run: Run, install: Install) -> None:
    """Where a variable keeps every plugin from being loaded, it is named."""
    install("shout", GOOD)
    assert "PULP_HOOKS_DISABLE_AUTOLOAD is set" in run("listeners", PULP_HOOKS_DISABLE_AUTOLOAD="1").stdout


def test_listeners_points_to_check_when_something_is_wrong(run: Run, install: Install) -> None:
    """A broken plugin is listed as broken, and the command that tells more is named."""
    install("typo", MISSPELT)
    shown = run("listeners")
    assert "broken" in shown.stdout
    assert "pulp-hooks check" in shown.stderr


def test_check_is_content_with_good_plugins(run: Run, install: Install) -> None:
    """Nothing wrong: exit code 0."""
    install("shout", GOOD)
    shown = run("check")
    assert (shown.returncode, shown.stdout) == (0, "1 listener loaded, no problems\n")


def test_check_names_plugin_distribution_hook_cause_and_remedy(run: Run, install: Install) -> None:
    """A misspelt hook: exit code 1, and everything needed to mend it."""
    install("typo", MISSPELT)
    install("shout", GOOD)
    shown = run("check")
    assert shown.returncode == 1
    for part in ("typo (typo-dist 1.0), repo_sync_finnished", "there is no hook", "did you mean repo_sync_finished?"):
        assert part in shown.stdout
    assert "1 listener loaded, 1 problem" in shown.stdout


def test_check_as_json_is_one_document_whatever_plugins_print(run: Run, install: Install) -> None:
    """A plugin that prints when it is imported does not disturb the JSON."""
    install("noisy", "print('imported')\nraise SystemExit(3)\n")
    shown = run("check", "--json")
    document = json.loads(shown.stdout)
    assert shown.returncode == 1
    assert document["ok"] is False
    (problem,) = document["problems"]
    assert (problem["where"], problem["distribution"]) == ("noisy", "noisy-dist 1.0")
    assert "SystemExit: 3" in problem["cause"]
    assert "imported" in shown.stderr


def test_check_names_file_listener_key_and_rule(run: Run, install: Install, tmp_path: Path) -> None:
    """A wrong setting is said with its place, and a listener without a fault is loaded all the same."""
    install(
        "echo",
        "from marshmallow import Schema, fields\nfrom pulp_hooks import Notifier\n"
        "class Echo(Notifier):\n    class Config(Schema):\n        url = fields.Url(required=True)\n"
        "    def notify(self, event): ...\n",
    )
    entry_points = tmp_path / "packages" / "echo_dist-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text("[pulp_hooks]\necho = echo_module:Echo\n")
    settings = tmp_path / "site.toml"
    settings.write_text(
        '[[listeners]]\nname = "bad"\nnotifier = "echo"\nconfig = { url = "no url" }\n'
        '[[listeners]]\nname = "good"\nnotifier = "echo"\nconfig = { url = "https://example.org" }\n'
    )
    shown = run("check", "--settings", str(settings))
    assert shown.returncode == 1
    assert f"{settings}" in shown.stdout
    assert "listener 'bad': config.url: Not a valid URL" in shown.stdout
    assert "1 listener loaded, 1 problem" in shown.stdout
