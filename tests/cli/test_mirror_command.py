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
    assert [(line["listener"], line["pending"]) for line in figures] == [("shout", 4)]


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
    command = [sys.executable, "-m", "pulp_hooks", "mirror", "source", "dest"]
    # A shell starts its background jobs with SIGINT ignored, and the command would inherit that from this process.
    reset = f"import os, signal; signal.signal({int(number)}, signal.SIG_DFL); os.execv({command[0]!r}, {command!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", reset],
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


RECORDING = """
import pathlib
from pulp_hooks import hookimpl

def tell(event):
    with pathlib.Path("heard").open("a") as heard:
        print(event.type, event.body.get("result"), file=heard)

for name in ("repo_sync_started", "repo_sync_finished", "repo_publish_started", "repo_publish_finished"):
    exec(f"@hookimpl\\ndef {name}(event): tell(event)")
"""
COMPLETE = [
    "repo-sync-started None",
    "repo-sync-finished success",
    "repo-publish-started None",
    "repo-publish-finished success",
]


@pytest.mark.parametrize("options", ["", "--json"])
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("> /dev/full", 1, "Error: standard output cannot be written: No space left on device"),
        (">&-", 0, ""),
        ("2> /dev/full", 0, ""),
        ("2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_ends_no_run(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    environment: dict[str, str],
    install: Install,
    source: Path,
    options: str,
    redirection: str,
    code: int,
    said: str,
) -> None:
    """Every event is fired and the publication made; only the exit code tells."""
    install("record", RECORDING)
    command = f"exec {sys.executable} -m pulp_hooks mirror source dest {options} {redirection}"
    shown = subprocess.run(
        ["sh", "-c", command], cwd=source.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert (source.parent / "heard").read_text().splitlines() == COMPLETE
    assert (source.parent / "dest" / "current" / "b.txt").read_text() == "bb"
    assert shown.returncode == code
    assert shown.stderr.startswith(said)
    assert len(shown.stderr.splitlines()) == bool(said)
    assert bool(shown.stdout) == redirection.startswith("2")


@pytest.mark.parametrize("options", ["", "--json"])
def test_reader_that_leaves_ends_no_run(
    environment: dict[str, str], install: Install, source: Path, options: str
) -> None:
    """As `| true` does: every event is fired and the publication made, and nothing is said."""
    install("record", RECORDING)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pulp_hooks", "mirror", "source", "dest", *options.split()]
    shown = subprocess.run(
        command, cwd=source.parent, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (source.parent / "heard").read_text().splitlines() == COMPLETE
    assert (source.parent / "dest" / "current" / "b.txt").read_text() == "bb"
    assert (shown.returncode, shown.stderr) == (1, "")


def test_failed_run_fails_with_its_own_message_on_a_full_output(environment: dict[str, str], source: Path) -> None:
    """What went wrong with the mirror is said, and not that the output is full."""
    (source / "PULP_MANIFEST").write_text(f"a.txt,{hashlib.sha256(b'other').hexdigest()},1\n")
    command = f"exec {sys.executable} -m pulp_hooks mirror source dest --json > /dev/full"
    shown = subprocess.run(
        ["sh", "-c", command], cwd=source.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 1
    assert re.fullmatch("Error: file 'a.txt' .*\n", shown.stderr)


def test_terminal_that_goes_away_ends_no_run(environment: dict[str, str], install: Install, tmp_path: Path) -> None:
    """The progress bar cannot be drawn any more; the run goes on without it."""
    install("record", RECORDING)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(os.urandom(3_000_000))
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "pulp_hooks", "mirror", "source", "dest"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=terminal,
        start_new_session=True,  # the terminal is not its own, so that no SIGHUP comes
    ) as process:
        os.close(controller)
        os.close(terminal)
        assert process.wait(timeout=60) == 0
    assert (tmp_path / "heard").read_text().splitlines() == COMPLETE


def test_shrinking_needs_an_option(run: Run, source: Path) -> None:
    """The message names the option, which works."""
    assert run("mirror", str(source), "dest").returncode == 0
    for file in source.iterdir():
        file.unlink()
    refused = run("mirror", str(source), "dest")
    assert refused.returncode == 1
    assert "--allow-shrink" in refused.stderr
    assert "0 added, 0 updated, 2 removed" in run("mirror", str(source), "dest", "--allow-shrink").stdout


def test_verify_repairs_a_damaged_file(run: Run, source: Path) -> None:
    """`--verify` names the damaged file, downloads it again, and publishes anew."""
    run("mirror", str(source), "dest")
    published = source.parent / "work" / "dest" / "current" / "b.txt"
    published.chmod(0o644)
    published.write_text("bX")
    shown = run("mirror", str(source), "dest", "--verify")
    assert shown.returncode == 0
    assert shown.stderr == "warning: stored file 'b.txt' is damaged; downloading it again\n"
    assert published.read_text() == "bb"
    assert "nothing new to publish" in run("mirror", str(source), "dest", "--verify").stdout
    assert run("mirror", str(source), "dest", "--verify", "--no-publish").returncode == 2
