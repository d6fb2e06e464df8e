"""What commands say when there is nothing to list, when a listing goes on, and when a request cannot be meant."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[[str, str], None]

SETTINGS = """
[journal]
url = "sqlite:///journal.db"
[delivery]
retry_seconds = []
"""

BROKEN = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    raise RuntimeError("out of paper")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, run: Run) -> Path:
    """Return the working directory of the commands, with settings that have a journal."""
    del run
    folder = tmp_path / "work"
    (folder / "pulp-hooks.toml").write_text(SETTINGS)
    return folder


def fire(run: Run) -> str:
    """Fire an event, and return its identifier."""
    identifier: str = json.loads(run("fire", "repo-sync-started", "--json").stdout)["event"]["id"]
    return identifier


@pytest.mark.parametrize("command", ["events", "deliveries"])
def test_listing_without_entries_says_so(command: str, run: Run) -> None:
    """A filter that nothing passes is not answered with silence or an empty table."""
    fire(run)
    done = run(command, "--repo-id", "nowhere")
    assert (done.returncode, done.stdout) == (0, f"no {command}\n")


def test_statistics_without_deliveries_say_so(run: Run) -> None:
    """An event that no listener takes has no delivery to count."""
    fire(run)
    done = run("stats")
    assert (done.returncode, done.stdout) == (0, "no deliveries\n")


def test_listing_of_events_says_how_it_goes_on(run: Run) -> None:
    """What standard error names leads to the next page."""
    older, newer = fire(run), fire(run)
    first = run("events", "--limit", "1")
    assert newer in first.stdout
    assert older not in first.stdout
    hint = first.stderr.strip().removeprefix("more events: add ").split()
    second = run("events", "--limit", "1", *hint)
    assert older in second.stdout
    assert second.stderr == ""


def test_window_that_ends_before_it_begins_is_refused(run: Run) -> None:
    """It would select nothing, without a word."""
    done = run("events", "--since", "1h", "--until", "2h")
    assert (done.returncode, "--until must be later than --since" in done.stderr) == (2, True)


def test_listener_is_not_disabled_without_a_reason(run: Run, install: Install) -> None:
    """The reason is what others read."""
    install("desk", BROKEN)
    done = run("listeners", "disable", "desk", "--reason", " ", "--yes")
    assert (done.returncode, "--reason must not be empty" in done.stderr) == (2, True)


def test_notifier_cannot_be_disabled(run: Run) -> None:
    """Only listeners that are made of it have deliveries."""
    fire(run)
    done = run("listeners", "disable", "jsonl", "--yes", PULP_HOOKS_BLOCK="console")
    assert (done.returncode, "'jsonl' is a notifier" in done.stderr) == (2, True), done.stderr


def test_deliveries_of_a_disabled_listener_stay_on_hold_and_commands_say_so(run: Run, install: Install) -> None:
    """`replay` and `backfill` succeed, but nothing is delivered until the listener is enabled."""
    fire(run)
    install("desk", BROKEN)
    dead = fire(run)
    run("worker", "--once")
    run("listeners", "disable", "desk", "--reason", "no paper", "--yes")
    hint = "listener desk is disabled; its deliveries are on hold\n"
    for command in (["replay", f"{dead}/desk"], ["backfill", "desk", "--yes"]):
        done = run(*command)
        assert (done.returncode, done.stderr) == (0, hint), done.stdout
    entries = json.loads(run("deliveries", "--json").stdout)["deliveries"]
    assert [entry["state"] for entry in entries] == ["held", "held"]
