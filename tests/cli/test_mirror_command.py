"""Facts about `pulp-hooks mirror` as a command; what it mirrors is proven beside the host."""

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_hooks.event_types import EventType

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Install = Callable[[str, str], None]

EVERY_HOOK = """
from pulp_hooks import hookimpl

def tell(event):
    print("heard", event.type, event.body.get("result"), flush=True)

for name in ("repo_sync_started", "repo_sync_finished", "repo_publish_started", "repo_publish_finished"):
    exec(f"@hookimpl\\ndef {name}(event): tell(event)")
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with two files."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("bb")
    return folder


def test_listener_hears_four_events(run: Run, install: Install, source: Path) -> None:
    """One run fires the four events, and says what it has done."""
    install("shout", EVERY_HOOK)
    shown = run("mirror", str(source), "dest")
    assert shown.returncode == 0, shown.stderr
    assert re.findall(r"heard (\S+) (\S+)", shown.stdout) == [
        ("repo-sync-started", "None"),
        ("repo-sync-finished", "success"),
        ("repo-publish-started", "None"),
        ("repo-publish-finished", "success"),
    ]
    assert "dest: 2 files, 3 bytes; 2 added, 0 updated, 0 removed; published at" in shown.stdout


def test_json_lines_are_the_events_and_the_result(run: Run, install: Install, source: Path) -> None:
    """Every line on standard output is JSON, whatever listeners print."""
    install("shout", EVERY_HOOK)
    lines = [json.loads(line) for line in run("mirror", str(source), "dest", "--json").stdout.splitlines()]
    assert [line["type"] for line in lines[:-1]] == [
        "repo-sync-started",
        "repo-sync-finished",
        "repo-publish-started",
        "repo-publish-finished",
    ]
    assert lines[-1]["result"]["added_count"] == 2


def test_lines_of_events_are_no_deliveries(run: Run, install: Install, source: Path) -> None:
    """With a journal the same lines are printed, and only installed listeners have deliveries."""
    install("shout", EVERY_HOOK)
    (source.parent / "journal.toml").write_text('[journal]\nurl = "sqlite:///journal.db"\n')
    settings = {"PULP_HOOKS_SETTINGS": str(source.parent / "journal.toml")}
    shown = run("mirror", str(source), "dest", "--json", **settings).stdout.splitlines()
    assert [json.loads(line).get("type") for line in shown] == [*(event_type.value for event_type in EventType), None]
    figures = json.loads(run("stats", "--json", **settings).stdout)
    assert [(line["listener"], line["waiting"]) for line in figures] == [("shout", 4)]


def test_no_publish_fires_two_events(run: Run, source: Path) -> None:
    """`--no-publish` syncs only, `--repo-id` names the repository."""
    shown = run("mirror", str(source), "dest", "--no-publish", "--repo-id", "zoo", "--json").stdout.splitlines()
    events = [json.loads(line) for line in shown[:-1]]
    assert [(event["type"], event["body"]["repo_id"]) for event in events] == [
        ("repo-sync-started", "zoo"),
        ("repo-sync-finished", "zoo"),
    ]


def test_failure_is_one_message_and_exit_code_1(run: Run, install: Install, tmp_path: Path, source: Path) -> None:
    """A wrong checksum: the listener hears `failed`, the user which file it is."""
    install("shout", EVERY_HOOK)
    (source / "PULP_MANIFEST").write_text(f"a.txt,{hashlib.sha256(b'other').hexdigest()},1\n")
    shown = run("mirror", str(source), str(tmp_path / "dest"))
    assert shown.returncode == 1
    assert "heard repo-sync-finished failed" in shown.stdout
    assert "a.txt" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_cancels(
    environment: dict[str, str], install: Install, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM in mid-sync: finished says `canceled`, and the exit code is the shell's."""
    waiting = EVERY_HOOK + "import time\n_tell = tell\ndef tell(event):\n    _tell(event)\n    time.sleep(30)\n"
    install("shout", waiting.replace("time.sleep(30)", "time.sleep(30 if event.type == 'repo-sync-started' else 0)"))
    (tmp_path / "source").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "pulp_hooks", "mirror", "source", "dest"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "heard repo-sync-started None\n"
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert "heard repo-sync-finished canceled" in stdout
    assert process.returncode == code
    assert "Traceback" not in stderr


def test_progress_bar_is_for_terminals(environment: dict[str, str], tmp_path: Path) -> None:
    """On a terminal a bar shows the bytes; the line about the result comes below it."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(3_000_000))
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pulp_hooks", "mirror", "source", "dest"],
        cwd=tmp_path,
        env=environment | {"TERM": "xterm"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            shown += os.read(controller, 65536)
        except OSError:  # the other side is closed
            break
    os.close(controller)
    assert process.wait(timeout=20) == 0
    text = shown.decode()
    assert "Downloading" in text
    assert "3000000/3000000" in text
    assert "\ndest: 1 file," in text.replace("\r", "")


def test_no_bar_without_a_terminal(run: Run, source: Path) -> None:
    """In a pipe standard error stays empty."""
    assert run("mirror", str(source), "dest").stderr == ""
