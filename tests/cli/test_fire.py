"""Facts about `pulp-hooks fire`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks import EventType

if TYPE_CHECKING:
    import subprocess

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Install = Callable[[str, str], None]

EVERY_HOOK = "from pulp_hooks import hookimpl\n" + "".join(
    f"@hookimpl\ndef {event_type.hook_name}(body): print('heard', body['repo_id'])\n" for event_type in EventType
)
FAILING = "from pulp_hooks import hookimpl\n@hookimpl\ndef repo_sync_started(): raise ValueError('no\\nway')\n"


@pytest.mark.parametrize("event_type", EventType)
def test_example_reaches_the_listener(run: Run, install: Install, event_type: EventType) -> None:
    """Without a body an example is sent, for each event type."""
    install("shout", EVERY_HOOK)
    shown = run("fire", event_type.value)
    assert shown.returncode == 0
    assert "heard pulp-f17" in shown.stdout
    assert "succeeded" in shown.stdout


@pytest.mark.parametrize("from_file", [True, False])
def test_body_comes_from_a_file_or_standard_input(
    run: Run, install: Install, tmp_path: Path, *, from_file: bool
) -> None:
    """A body given is the body sent."""
    install("shout", EVERY_HOOK)
    body = '{"repo_id": "zoo"}'
    (tmp_path / "body.json").write_text(body)
    argument = str(tmp_path / "body.json") if from_file else "-"
    assert "heard zoo" in run("fire", "repo-sync-started", "--body", argument, text=body).stdout


def test_failing_listener_is_shown_and_makes_exit_code_1(run: Run, install: Install) -> None:
    """What a listener raises stands in the table, on one line and without a traceback."""
    install("shout", EVERY_HOOK)
    install("sulk", FAILING)
    shown = run("fire", "repo-sync-started")
    assert shown.returncode == 1
    assert "heard pulp-f17" in shown.stdout
    assert "ValueError: no\\nway" in shown.stdout
    assert "Traceback" not in shown.stdout + shown.stderr


def test_json_is_one_document_with_event_and_outcomes(run: Run, install: Install) -> None:
    """What listeners print goes to standard error, so that a program can read the rest."""
    install("shout", EVERY_HOOK)
    install("sulk", FAILING)
    shown = run("fire", "repo-sync-started", "--json")
    document = json.loads(shown.stdout)
    assert document["event"]["type"] == "repo-sync-started"
    assert [(outcome["listener"], outcome["status"]) for outcome in document["outcomes"]] == [
        ("shout", "succeeded"),
        ("sulk", "failed"),
    ]
    assert "heard pulp-f17" in shown.stderr
    assert shown.returncode == 1


def test_json_has_what_a_listener_shows_of_its_work(run: Run, install: Install) -> None:
    """So somebody who writes a listener sees what operators will see."""
    install("shown", "from pulp_hooks import hookimpl\n@hookimpl\ndef repo_sync_started(): return {'status': 204}\n")
    (outcome,) = json.loads(run("fire", "repo-sync-started", "--json").stdout)["outcomes"]
    assert outcome["detail"] == {"status": 204}


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ("{", "is no JSON", 2),
        ("[" * 100_000, "is no JSON", 2),
        ("[]", "must be an object", 1),
        ('{"repo_id": 7}', "repo_id = 7: must be a string", 1),
        ('{"repo": "x"}', "did you mean 'repo_id'?", 1),
        ("{}", "repo_id: is missing", 1),
    ],
)
def test_wrong_body_is_one_message(run: Run, install: Install, body: str, message: str, code: int) -> None:
    """A wrong body reaches no listener, and the message says what is wrong with it."""
    install("shout", EVERY_HOOK)
    shown = run("fire", "repo-sync-started", "--body", "-", text=body)
    assert shown.returncode == code
    assert message in shown.stderr
    assert "heard" not in shown.stdout
    assert "Traceback" not in shown.stderr


def test_nobody_listening_is_said(run: Run) -> None:
    """An event that nobody takes is no failure, and the command that shows who is installed is named."""
    shown = run("fire", "repo-sync-started")
    assert shown.returncode == 0
    assert "no listener took the event" in shown.stdout


def test_broken_plugin_is_a_warning(run: Run, install: Install) -> None:
    """The others receive the event; what is wrong is one line on standard error."""
    install("shout", EVERY_HOOK)
    install("broken", "import nothing_of_this_name\n")
    shown = run("fire", "repo-sync-started")
    assert "heard pulp-f17" in shown.stdout
    assert shown.stderr.startswith("warning: broken (broken-dist 1.0): ")
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [["fire", "repo-sync-started"], ["mirror", "../packages", "mirror"], ["worker", "--once"], ["events"], ["prune"]],
)
def test_settings_that_cannot_be_read_make_exit_code_1(run: Run, tmp_path: Path, command: list[str]) -> None:
    """Commands that need the journal say which file is wrong, why, and which command lists the problems."""
    (tmp_path / "work" / "pulp-hooks.toml").write_text("[journal]\nurl = 'sqlite:///a.db'\nbusy_seconds = 5 seconds\n")
    done = run(*command)
    *_, message = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert message.startswith("Error: no event is accepted")
    assert "pulp-hooks.toml: the settings cannot be read: Expected newline" in message
    assert "fix: run `pulp-hooks check`" in message
    assert not (tmp_path / "work" / "mirror" / "current").exists()


@pytest.mark.parametrize(("command", "code"), [("listeners", 0), ("event-types", 0), ("check", 1)])
def test_settings_that_cannot_be_read_can_be_inspected(run: Run, tmp_path: Path, command: str, code: int) -> None:
    """Commands that only look at what is installed still work, and say that there is a problem."""
    (tmp_path / "work" / "pulp-hooks.toml").write_text("busy_seconds = 5 seconds\n")
    done = run(command)
    assert done.returncode == code
    assert "Error" not in done.stderr
