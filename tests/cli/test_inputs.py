"""What the commands make of a clock, arguments and terminals that are not as they should be."""

import json
import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pulp_hooks.cli import cli, main
from pulp_hooks.cli.output import moment, moment_json
from pulp_hooks.cli.parameters import MomentParameter
from pulp_hooks.event import Event
from pulp_hooks.journal.journal import Journal

Make = Callable[..., Event]

Run = Callable[..., subprocess.CompletedProcess[str]]

DESK = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    print("heard", body["repo_id"])
"""


@pytest.fixture
def settings(tmp_path: Path, url: str) -> Path:
    """Return settings with a journal, empty, in each of the two databases."""
    path = tmp_path / "site.toml"
    path.write_text(f"[journal]\nurl = {json.dumps(url)}\n")
    return path


def test_claim_is_judged_by_the_time_of_the_journal(
    url: str, settings: Path, new_event: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is wrong sees what is at work as every other one."""
    journal = Journal(url)
    event = new_event()
    journal.append(event, ["desk"])
    journal.queue.claim("desk", 1, 60)
    journal.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    for arguments in (["deliveries"], ["deliveries", "show", event.id]):
        done = CliRunner().invoke(cli, [*arguments, "--settings", str(settings), "--json"])
        assert [x["claimed"] for x in json.loads(done.stdout)["deliveries"]] == [True]


@pytest.mark.parametrize("seconds", [1e12, -1e12, 1e300, math.inf, -math.inf, math.nan])
def test_moment_that_no_calendar_has_is_shown_as_the_nearest_one(seconds: float) -> None:
    """One delivery that is due in 30,000 years does not keep the others from being listed."""
    year = "0002" if seconds < 0 else "9999"
    assert moment_json(seconds) == f"{year}-01-01T00:00:00Z"
    assert moment(seconds) == moment_json(seconds)


def test_times_are_in_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints and what an option takes mean the same on a host and on a server elsewhere."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        shown = moment(1000.9)
        read = [MomentParameter().convert(text, None, None) for text in (shown, "1970-01-01T00:16:40", "1970-01-01")]
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert shown == "1970-01-01T00:16:40Z"
    assert read == [1000.0, 1000.0, 0.0]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_text_that_the_terminal_lacks_is_escaped(
    encoding: str, settings: Path, run: Run, install: Callable[[str, str], None]
) -> None:
    """A command is not ended by the name of a repository; JSON stays JSON."""
    install("desk", DESK)
    name = "\u017eoo-\U0001f600-\u20ac"

    def ran(*arguments: str, text: str | None = None) -> str:
        done = run(*arguments, "--settings", str(settings), text=text, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr.replace(f"heard {ascii(name)[1:-1]}\n", "")) == (0, "")
        return done.stdout

    fired = ran("fire", "repo-sync-started", "--body", "-", "--json", text=json.dumps({"repo_id": name}))
    assert json.loads(fired)["event"]["body"]["repo_id"] == name
    assert json.loads(ran("deliveries", "--json"))["deliveries"][0]["repo_id"] == name
    if encoding == "latin-1":
        assert ascii(name)[1:-1] in ran("deliveries")
    assert ran("events").count("repo-sync-started") == 1
    assert json.loads(ran("worker", "--once", "--json"))["status"] == "succeeded"


def test_mirror_prints_events_on_a_terminal_that_lacks_their_letters(run: Run, tmp_path: Path) -> None:
    """Each line is JSON in ASCII."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").touch()
    source, dest = str(tmp_path / "files"), str(tmp_path / "mirror")
    done = run("mirror", source, dest, "--repo-id", "\u017eoo", "--json", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["body"]["repo_id"] == "\u017eoo"


def test_pool_of_connections_prints_nothing_by_itself(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """That a connection has died is told by the error of what was not done, not by a traceback before it."""
    monkeypatch.setattr("sys.argv", ["pulp-hooks", "--version"])
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))  # put back what the command puts in its place
    pool = logging.getLogger("sqlalchemy.pool")
    monkeypatch.setattr(pool, "handlers", [])
    monkeypatch.setattr(pool, "propagate", False)
    with pytest.raises(SystemExit):
        main()
    logging.getLogger("sqlalchemy.pool.impl.QueuePool").error("Exception during reset or similar")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["deliveries", "--listener", "\udcff"],
        ["deliveries", "--repo-id", "\udcff*"],
        ["deliveries", "--before", "\udcff/a"],
        ["deliveries", "show", "\udcff"],
        ["events", "--repo-id", "\udcff*"],
        ["events", "--before", "\udcff"],
        ["replay", "\udcff/a"],
        ["replay", "--listener", "\udcff"],
        ["backfill", "\udcff"],
        ["listeners", "disable", "\udcff", "--yes"],
        ["listeners", "disable", "desk", "--yes", "--reason", "\udcff"],
        ["listeners", "enable", "\udcff"],
    ],
    ids=lambda arguments: " ".join(arguments).replace("\udcff", "half"),
)
def test_argument_that_is_no_text_is_wrong_usage(arguments: list[str], settings: Path, url: str) -> None:
    """Bytes that are no UTF-8 reach the commands as halves of characters, which no database takes."""
    journal = Journal(url)
    journal.backend.open()
    journal.close()
    done = CliRunner().invoke(cli, [*arguments, "--settings", str(settings)])
    assert done.exit_code == 2, done.stderr
    assert "'\\udcff" in done.stderr
