"""Facts about `pulp-hooks watch` as a command, with a simulated server; what it fires is proven beside the host."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ROOT = Path(__file__).parents[2]
USER = {"PULP_USERNAME": "watcher", "PULP_PASSWORD": "watching"}
NOWHERE = "http://127.0.0.1:1"
JOURNAL = '[journal]\nurl = "sqlite:///j.db"\n'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """URL of a simulated server that starts a task every few hundred milliseconds."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.simulated_pulp", "7", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["urls"][0]
        process.kill()


@pytest.fixture
def watch(run: Run, url: str) -> Run:
    """Run `pulp-hooks watch` with the URL of the simulated server to its end."""
    return lambda *options, **variables: run("watch", url, *options, **(USER | variables))


def eventually(look: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it returns
    """Return what is bound to come."""
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def events(ended: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """Return the events that a command has printed as JSON."""
    assert (ended.returncode, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_watching_nothing_says_what_to_do(tmp_path: Path, environment: dict[str, str]) -> None:
    """Without a URL and without a `[[pulp]]` table, the message names the file, or that there is none."""
    settings = tmp_path / "pulp-hooks.toml"
    command = [sys.executable, "-m", "pulp_hooks", "watch"]
    for place in ("there is no pulp-hooks.toml here", f"{settings} has no [[pulp]] table"):
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert f"no server to watch: {place}; fix: pass a URL, or add a [[pulp]] table" in ended.stderr
        assert ended.returncode == 2
        settings.write_text("")


def test_check_says_what_would_be_watched(watch: Run) -> None:
    """Version, plugins, repositories and tasks, for people and for programs."""
    eventually(lambda: watch("--once", "--since", "1h", "--json").stdout)
    shown = watch("--check")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r"version +pulpcore 3\.\d+", shown.stdout)
    (one,) = json.loads(watch("--check", "--json").stdout)
    assert (one["error"], one["missing_roles"], one["repositories"]) == (None, [], 1400)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--domain", "x"], "--domain is for servers at URLs"),
        (["--username", "x", "--ca-path", "y"], "--ca-path is for servers at URLs"),
        ([NOWHERE, "--since", "1h", "--replay-since", "1h"], "--since does nothing with --replay-since"),
        ([NOWHERE, "--check", "--dry-run"], "--dry-run does nothing with --check"),
    ],
)
def test_option_that_would_do_nothing_is_refused(run: Run, arguments: list[str], cause: str) -> None:
    """Otherwise a user would take another server or time to be watched than is."""
    ended = run("watch", *arguments, **USER)
    assert ended.returncode == 2
    assert cause in ended.stderr


def test_times_before_all_tasks_are_understood(watch: Run) -> None:
    """However long ago they are."""
    for time_ in ("0001-01-01", "99999999w"):
        assert watch("--replay-since", time_).returncode == 0


def test_output_that_was_cut_off_is_a_failure(url: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """As by `| head -1`: the work is done, and the exit code is 1."""
    command = f"{sys.executable} -m pulp_hooks watch {url} --once --since 1h"
    shell = (
        f"until [ $({command} --dry-run | wc -l) -gt 1 ]; do sleep 0.1; done; {command} | true; echo ${{PIPESTATUS[0]}}"
    )
    ended = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=environment | USER, capture_output=True, text=True, check=False
    )
    assert ended.stdout == "1\n"


def test_server_that_cannot_be_watched_is_a_failure(run: Run) -> None:
    """The message names the server and the reason, and nothing of the password."""
    for option in ("--check", "--once"):
        ended = run("watch", NOWHERE, option, **USER)
        assert ended.returncode == 1
        assert "127.0.0.1-1" in ended.stdout + ended.stderr
        assert "Connection refused" in ended.stdout + ended.stderr
        assert "watching" not in ended.stdout + ended.stderr


def test_one_server_that_is_down_stops_no_other(run: Run, url: str) -> None:
    """The events of the others are fired, and the exit code tells that one is missing."""

    def look() -> "subprocess.CompletedProcess[str]":
        return run("watch", NOWHERE, url, "--once", "--since", "1h", "--json", **USER)

    ended = eventually(lambda: (found := look()).stdout and found)
    assert ended.returncode == 1
    assert all(json.loads(line)["type"].startswith("repo-") for line in ended.stdout.splitlines())


def test_each_pass_continues_where_the_last_one_ended(watch: Run) -> None:
    """No event comes twice, and started comes before finished."""
    first = eventually(lambda: events(watch("--once", "--since", "1h", "--json")))
    second = eventually(lambda: events(watch("--once", "--json")))
    ids = [event["id"] for event in first + second]
    assert len(set(ids)) == len(ids)
    operations: dict[str, list[str]] = {}
    for event in first + second:
        operations.setdefault(event["operation_id"], []).append(event["type"].rpartition("-")[2])
    assert {tuple(steps) for steps in operations.values()} <= {("started",), ("started", "finished")}


def test_dry_run_fires_and_stores_nothing(watch: Run, tmp_path: Path) -> None:
    """Events are printed, and neither a journal nor a position is written."""
    (tmp_path / "work" / "pulp-hooks.toml").write_text(JOURNAL)
    eventually(lambda: events(watch("--once", "--dry-run", "--since", "1h", "--json")))
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["pulp-hooks.toml"]


def test_replay_fires_only_what_the_journal_lacks(watch: Run, tmp_path: Path) -> None:
    """What the servers still know is fired again; the journal takes no event twice."""
    (tmp_path / "work" / "pulp-hooks.toml").write_text(JOURNAL)
    first = eventually(lambda: events(watch("--replay-since", "1h", "--json")))
    again = watch("--replay-since", "1h")
    assert again.returncode == 0
    known = int(re.search(r"(\d+) events? in the journal already", again.stdout)[1])  # type: ignore[index]
    assert known >= len(first)


def test_second_watcher_is_refused(watch: Run, url: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Two watchers with one state folder would overwrite each other's position."""
    command = [sys.executable, "-m", "pulp_hooks", "watch", url, "--json"]
    with subprocess.Popen(command, cwd=tmp_path / "work", env=environment | USER, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        refused = watch("--once")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert refused.returncode == 1
    assert "another watcher uses the state folder" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_in_order(number: signal.Signals, url: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """It says how many events there were, and every line about an event is whole."""
    (tmp_path / "pulp-hooks.toml").write_text(JOURNAL)
    command = [sys.executable, "-u", "-m", "pulp_hooks", "watch", url, "--interval", "1"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment | USER, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate()
    *lines, last = (first + out).splitlines()
    assert (process.returncode, err) == (0, "watching 1 server; Ctrl-C ends\n")
    assert all(re.fullmatch(r"\S+Z  \S+  pulp00-\S+  (sync|publish)  .+", line) for line in lines)
    assert last == f"{len(lines)} events" or (last, len(lines)) == ("1 event", 1)


def test_terminal_shows_what_is_running(url: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Finished operations scroll, the others are drawn anew below them; no line is wider than the terminal."""
    (tmp_path / "pulp-hooks.toml").write_text(JOURNAL)
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "pulp_hooks", "watch", url, "--interval", "1"]
    size = {"COLUMNS": "90", "LINES": "12", "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment | USER | size, stdout=terminal, stderr=subprocess.DEVNULL
    ) as process:
        os.close(terminal)
        shown = b""
        while not (b"success" in shown and re.search(rb"1 server watched, [1-9]\d* event", shown)):
            shown += os.read(controller, 4096)
        process.send_signal(signal.SIGINT)
        try:
            while part := os.read(controller, 4096):
                shown += part
        except OSError:
            pass  # how a terminal whose program has ended looks on Linux
        assert process.wait() == 0
    os.close(controller)
    plain = re.sub(r"\x1b\[[;?0-9]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"pulp00-\S+ +(sync|publish) +(running|canceling) ", plain)
    assert max(map(len, plain.split("\r\n"))) < 90
