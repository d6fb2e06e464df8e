"""Tests of commands whose output goes nowhere: closed, full and cut off streams, and terminals without colours."""

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_hooks import cli

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]

PLUGIN = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    with open("heard", "a") as heard:
        heard.write("heard\\n")

@hookimpl
def repo_publish_started(body):
    raise ValueError("broken")
"""

SETTINGS = '[journal]\nurl = "sqlite:///events.db"\n'

COMMANDS = (
    "--help",
    "--version",
    "backfill desk --yes",
    "check",
    "deliveries",
    "event-types",
    "events --json",
    "fire repo-sync-started --json",
    "journal",
    "listeners",
    "prune --yes",
    "replay --state delivered --since 1d --yes",
    "schema repo-sync-started",
    "stats",
)


@pytest.fixture
def shell(tmp_path: Path, run: Run, install: Callable[[str, str], None], environment: dict[str, str]) -> Shell:
    """Run a line of bash, in which PH stands for the command, beside a journal with one event."""
    install("desk", PLUGIN)
    folder = tmp_path / "work"
    (folder / "pulp-hooks.toml").write_text(SETTINGS)
    command = f"{shlex.quote(sys.executable)} -m pulp_hooks"
    assert run("fire", "repo-sync-started").returncode == 0

    def shell(line: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", line.replace("PH", command)],
            capture_output=True,
            check=False,
            cwd=folder,
            encoding="utf-8",
            env=environment | variables,
            timeout=60,
        )

    return shell


@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_cannot_be_written_is_never_a_traceback(shell: Shell, command: str) -> None:
    """A full disk is one sentence; a reader that is gone, or a stream that was closed, is nothing at all."""
    full = shell(f"PH {command} > /dev/full")
    assert full.stderr.splitlines()[-1] == "Error: standard output cannot be written: No space left on device"
    assert full.returncode == 1
    for line in (f"PH {command} | true; exit ${{PIPESTATUS[0]}}", f"PH {command} >&- 2>&-", f"PH {command} 2>&-"):
        done = shell(line)
        assert not re.search("Traceback|Exception ignored|report it|Error", done.stdout + done.stderr), line
        assert done.returncode == (1 if "|" in line else 0), line


def test_output_of_every_command_is_lost_in_a_test() -> None:
    """The streams of `mirror`, `watch` and `worker` have tests of their own."""
    own = {"mirror", "watch", "worker"}
    assert {command.split()[0] for command in COMMANDS if command[0] != "-"} == {*cli.COMMANDS} - own


@pytest.mark.parametrize("command", ["check --settings wrong.toml", "fire repo-publish-started --settings none.toml"])
def test_failure_that_was_only_in_the_lost_output_is_not_silent(shell: Shell, command: str) -> None:
    """The exit code is that of the failure, and standard error says why there is no more than that."""
    lost = shell(f"echo '[unknown]' > wrong.toml; touch none.toml; PH {command} > /dev/full")
    assert lost.returncode == 1
    assert lost.stderr.splitlines()[-1] == "Error: standard output cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("listeners disable desk", "pass --yes"),
        ("fire repo-sync-started --body -", "is not JSON"),
    ],
)
def test_closed_standard_input_is_an_empty_one(shell: Shell, command: str, message: str) -> None:
    """Cron and supervisors may start a command without one."""
    for line in (f"PH {command} <&-", f"PH {command} <&- >&-"):
        done = shell(line)
        assert done.returncode == 2, line
        assert message in done.stderr.splitlines()[-1], line


@pytest.mark.usefixtures("shell")
def test_output_waits_for_a_slow_reader_of_a_non_blocking_pipe(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Node.js and ssh make the pipes that they share non-blocking, which a write then finds full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writer, b"x" * 4096)
    command = [sys.executable, "-m", "pulp_hooks", "events", "--json"]
    with subprocess.Popen(
        command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path / "work", env=environment
    ) as process:
        os.close(writer)
        # Only now is there room; a process that did not wait has ended already, or fails on its first full pipe.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        with os.fdopen(reader, "rb") as stream:
            shown = stream.read()[filled:]
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert shown.decode() == run("events", "--json").stdout


def test_work_is_done_although_its_output_is_lost(shell: Shell, run: Run, tmp_path: Path) -> None:
    """What a command changes does not depend on whether anybody reads of it."""

    def counts() -> dict[str, int]:
        (figures,) = json.loads(run("stats", "--json").stdout)
        return {state: figures[state] for state in ("pending", "held", "delivered")}

    shell("PH worker --once --json > /dev/full")
    assert counts() == {"pending": 0, "held": 0, "delivered": 1}
    assert (tmp_path / "work" / "heard").read_text() == "heard\n"
    shell("PH replay --state delivered --since 1d --yes | true")
    assert counts() == {"pending": 1, "held": 0, "delivered": 0}
    shell("PH listeners disable desk --yes > /dev/full 2>&1")
    assert counts() == {"pending": 0, "held": 1, "delivered": 0}
    shell("PH listeners enable desk >&- 2>&-")
    shell("PH fire repo-sync-started > /dev/full")
    assert counts() == {"pending": 2, "held": 0, "delivered": 0}


@pytest.mark.parametrize(
    "redirection", ["2>/dev/full", "2>&-", "2> >(head -1)", "> >(head -1) 2>&1", "--json > >(head -1)"]
)
def test_worker_whose_log_is_lost_goes_on_and_stops_when_asked(
    shell: Shell, run: Run, tmp_path: Path, redirection: str
) -> None:
    """It delivers events that are fired afterwards, and a signal stops it as ever."""
    waits = 'while [ "$(wc -l < heard)" -lt %d ]; do sleep 0.05; done'
    line = f"""
        touch heard; PH worker {redirection} & worker=$!
        {waits % 1}
        for _ in 1 2 3; do PH fire repo-sync-started > /dev/null; done
        {waits % 4}
        kill -TERM $worker; wait $worker; echo "code $?"
    """
    done = shell(line)
    # Of JSON, which was asked for, a part is lost.
    assert done.stdout.splitlines()[-1] == f"code {1 if 'json' in redirection else 0}", done
    assert json.loads(run("stats", "--json").stdout)[0]["delivered"] == 4
    assert (tmp_path / "work" / "heard").read_text() == "heard\n" * 4


def on_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Return what a command prints on a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdout=slave, stderr=slave, cwd=folder, env=environment) as process:
        os.close(slave)
        chunks = []
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
        process.wait()
    os.close(master)
    return b"".join(chunks).decode()


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize(
    "arguments", [["listeners"], ["check"], ["fire", "repo-sync-started"], ["nonsense"], ["worker", "--once"]]
)
def test_terminal_without_colours_gets_plain_text(
    tmp_path: Path, environment: dict[str, str], arguments: list[str]
) -> None:
    """NO_COLOR and a dumb terminal are honoured on both streams, by log lines of other threads too."""
    command, folder = [sys.executable, "-m", "pulp_hooks", *arguments], tmp_path / "work"
    plain = {name: value for name, value in environment.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        shown = on_terminal(command, folder, plain | variables)
        assert shown
        assert "\x1b" not in shown
    if arguments == ["listeners"]:
        assert "\x1b[" in on_terminal(command, folder, plain | {"NO_COLOR": ""})


def test_ctrl_c_with_closed_streams_is_130(shell: Shell) -> None:
    """Who cannot be told is not told, and the exit code says it all the same."""
    line = "echo '{}' > body; PH fire repo-sync-started --body <(sleep 3) >&- 2>&- & ph=$!; sleep 1; kill -INT $ph"
    done = shell(f"set -m; {line}; wait $ph; echo code $?")
    assert done.stdout.splitlines()[-1] == "code 130"
