"""Facts about `pulp-hooks listeners test`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Install = Callable[[str, str], None]

BOTH = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_finished(event):
    print("heard", event.type, event.body["repo_id"], event.id)
    return {"status": 200}

@hookimpl
def repo_publish_finished():
    raise ValueError("no")
"""


def test_example_event_reaches_the_one_listener(run: Run, install: Install) -> None:
    """It is of a type that the listener receives, marked as a test, and the detail is printed."""
    install("shout", BOTH)
    install("other", BOTH)
    shown = run("listeners", "test", "shout")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("heard repo-sync-finished pulp-hooks-test test-") == 1
    assert "other" not in shown.stdout
    assert '"status": 200' in shown.stdout


def test_json_has_event_outcome_and_detail(run: Run, install: Install) -> None:
    """As that of `fire`."""
    install("shout", BOTH)
    shown = json.loads(run("listeners", "test", "shout", "--json").stdout)
    assert shown["event"]["id"].startswith("test-")
    assert [(x["listener"], x["status"], x["detail"]) for x in shown["outcomes"]] == [
        ("shout", "succeeded", {"status": 200})
    ]


def test_failure_makes_exit_code_1(run: Run, install: Install) -> None:
    """Of the event type that was asked for."""
    install("shout", BOTH)
    shown = run("listeners", "test", "shout", "--event-type", "repo.publish.finish")
    assert shown.returncode == 1
    assert "ValueError: no" in shown.stdout


def test_event_goes_past_filters_and_journal(run: Run, tmp_path: Path) -> None:
    """A configured listener is tested although its filter would reject the event, and nothing is stored."""
    settings = "[journal]\nurl = 'sqlite:///events.db'\n[[listeners]]\nname = 'audit'\nnotifier = 'jsonl'\n"
    (tmp_path / "work" / "pulp-hooks.toml").write_text(
        f"{settings}repo_ids = ['zoo']\n[listeners.config]\npath = 'events.jsonl'\n"
    )
    shown = run("listeners", "test", "audit", PULP_HOOKS_BLOCK="console")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert '"repo_id":"pulp-hooks-test"' in (tmp_path / "work" / "events.jsonl").read_text()
    assert not (tmp_path / "work" / "events.db").exists()


def test_listener_that_cannot_be_tested_is_said(run: Run, install: Install, tmp_path: Path) -> None:
    """Unknown, a notifier, broken, or not interested: with what to do."""
    install("shout", BOTH)
    install("broken", "raise ValueError('cannot be imported')")
    (tmp_path / "work" / "pulp-hooks.toml").write_text("[[listeners]]\nname = 'audit'\nnotifier = 'jsonl'\n")
    for arguments, said in (
        (["shoot"], "unknown listener 'shoot'; did you mean 'shout'?"),
        (["jsonl"], "'jsonl' is a notifier; fix: name a listener that the settings make of it"),
        (["broken"], "listener 'broken' cannot be used: "),
        (["audit"], "listener 'audit' cannot be used: config.path: "),
        (
            ["shout", "--event-type", "repo-sync-started"],
            "'shout' does not receive repo-sync-started, but repo-sync-finished",
        ),
    ):
        shown = run("listeners", "test", *arguments, PULP_HOOKS_BLOCK="console")
        assert shown.returncode == 1, shown.stdout
        assert said in shown.stderr
        assert "Traceback" not in shown.stderr
