"""The commands of operators on a real journal: worker, deliveries, events, stats, replay, backfill, prune and more."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect

from pulp_hooks import Hooks

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[[str, str], None]
Json = Callable[..., Any]

SETTINGS = """
[journal]
url = "sqlite:///journal.db"
[delivery]
retry_seconds = [0.01]
resume_per_second = 1000
"""

LISTENER = """
import os, time
from pulp_hooks import hookimpl

def hear(body):
    # In one piece, as the calls are made side by side.
    print(f"heard {body['repo_id']}\\n", end="", flush=True)
    if body["repo_id"] == "slow":
        time.sleep(float(os.environ.get("SECONDS", "0")))
    if os.path.exists("fail"):
        raise RuntimeError("out of paper\\x1b[31m")

@hookimpl
def repo_sync_started(body):
    hear(body)

@hookimpl
def repo_sync_finished(body):
    hear(body)
"""


LATE = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    print(f"late {body['repo_id']}\\n", end="", flush=True)
"""

RINGER = """
import signal, threading
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_started(body):
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
"""

DEEP = """
import asyncio, time
from pulp_hooks import hookimpl

@hookimpl
async def repo_sync_started(body):
    print(f"deep {body['repo_id']}\\n", end="", flush=True)
    await asyncio.to_thread(time.sleep, 60)
"""


@pytest.fixture
def folder(tmp_path: Path, run: Run, install: Install) -> Path:
    """Return the working directory of the commands, with settings that have a journal, and a listener."""
    del run
    install("desk", LISTENER)
    folder = tmp_path / "work"
    (folder / "pulp-hooks.toml").write_text(SETTINGS)
    return folder


@pytest.fixture
def as_json(run: Run) -> Json:
    """Run a command with `--json` and give what it prints."""

    def call(*arguments: str) -> Any:  # noqa: ANN401 - any JSON
        done = run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


@pytest.fixture
def fire(run: Run) -> Callable[..., str]:
    """Fire the start of a sync and give the event's id."""

    def fire(repo_id: str = "zoo") -> str:
        done = run("fire", "repo-sync-started", "--body", "-", "--json", text=json.dumps({"repo_id": repo_id}))
        assert done.returncode == 0, done.stderr
        event_id: str = json.loads(done.stdout)["event"]["id"]
        return event_id

    return fire


@pytest.fixture
def working(folder: Path, environment: dict[str, str]) -> Callable[..., Any]:
    """Run a worker while a block lasts."""

    @contextmanager
    def working(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "pulp_hooks", "worker", "--json", *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, cwd=folder, env=environment | variables, stdout=pipe, stderr=pipe, text=True
        ) as worker:
            try:
                yield worker
            finally:
                worker.kill()

    return working


def test_fired_events_are_queued_and_a_worker_delivers_them(folder: Path, run: Run, fire: Callable[..., str]) -> None:
    """`fire` calls nobody; `worker --once` calls everybody, and says how it went."""
    assert folder.exists()
    fired = run("fire", "repo-sync-started")
    assert "queued" in fired.stdout
    assert "heard" not in fired.stdout
    fire()
    worked = run("worker", "--once")
    assert worked.returncode == 0
    assert worked.stdout.count("heard") == 2
    assert worked.stdout.splitlines()[-1] == "2 attempts, 2 delivered"
    assert run("worker", "--once").stdout == "no attempts, 0 delivered\n"


@pytest.mark.usefixtures("folder")
def test_worker_prints_each_attempt_as_json(run: Run, fire: Callable[..., str]) -> None:
    """A program reads event, listener, attempt and state from standard output, and nothing else is there."""
    event_id = fire()
    done = run("worker", "--once", "--json")
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (line["event_id"], line["delivery"], line["listener"]) == (event_id, f"{event_id}/desk", "desk")
    assert (line["attempt"], line["status"], line["state"], line["level"]) == (1, "succeeded", "delivered", "info")
    assert "heard" in done.stderr


def test_failed_attempt_is_exit_code_1_of_a_worker_that_runs_once(
    folder: Path, run: Run, fire: Callable[..., str]
) -> None:
    """Whoever starts it from a timer learns that something failed."""
    fire()
    (folder / "fail").touch()
    done = run("worker", "--once")
    assert done.returncode == 1
    assert "RuntimeError: out of paper" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_the_worker_finish_what_is_under_way(
    number: signal.Signals, fire: Callable[..., str], working: Callable[..., Any], as_json: Json
) -> None:
    """The attempt goes on to its end and is recorded, nothing new is begun, and the exit code is 0."""
    for _ in range(2):
        fire("slow")
    with working("--threads-per-listener", "1", SECONDS="1.5") as worker:
        _heard(worker)
        worker.send_signal(number)
        _, said = worker.communicate(timeout=30)
        assert worker.returncode == 0
    assert f"{number.name}: finishing running attempts" in said
    assert sorted(x["state"] for x in as_json("deliveries")["deliveries"]) == ["delivered", "pending"]
    assert not any(x["claimed"] for x in as_json("deliveries")["deliveries"])


def test_signal_that_reaches_another_thread_stops_the_worker(
    fire: Callable[..., str], working: Callable[..., Any], install: Install
) -> None:
    """The main thread, which nothing has interrupted then, handles it all the same."""
    install("ringer", RINGER)
    fire()
    with working() as worker:
        _, said = worker.communicate(timeout=30)
        assert worker.returncode == 0
    assert "SIGTERM: finishing running attempts" in said


def test_grace_time_gives_back_what_does_not_end(
    fire: Callable[..., str], working: Callable[..., Any], as_json: Json
) -> None:
    """The worker ends in time with exit code 0, and the delivery is due at once."""
    fire("slow")
    with working("--grace", "0.3", SECONDS="60") as worker:
        _heard(worker)
        began = time.monotonic()
        worker.terminate()
        worker.communicate(timeout=30)
        assert (worker.returncode, time.monotonic() - began < 10) == (0, True)
    (delivery,) = as_json("deliveries")["deliveries"]
    assert (delivery["state"], delivery["claimed"]) == ("pending", False)


def test_worker_that_runs_once_is_stopped_with_exit_code_0(
    fire: Callable[..., str], working: Callable[..., Any], as_json: Json
) -> None:
    """That the stop cut an attempt short is no failure."""
    fire("slow")
    with working("--once", "--grace", "0.3", SECONDS="60") as worker:
        _heard(worker)
        worker.terminate()
        worker.communicate(timeout=30)
        assert worker.returncode == 0
    (delivery,) = as_json("deliveries")["deliveries"]
    assert (delivery["state"], delivery["claimed"]) == ("pending", False)


@pytest.mark.parametrize("arguments", [[], ["--once"]])
def test_grace_time_holds_for_what_hangs_in_a_thread_of_a_listener(
    arguments: list[str], fire: Callable[..., str], working: Callable[..., Any], install: Install
) -> None:
    """Python would wait for the executors' threads, and a service manager would kill the worker."""
    install("deep", DEEP)
    fire("slow")
    with working("--grace", "0.3", *arguments) as worker:
        _line(worker.stderr, "deep slow")
        worker.terminate()
        said, _ = worker.communicate(timeout=10)
        assert worker.returncode == 0
    assert "interrupted" in [json.loads(line)["status"] for line in said.splitlines()]


def test_second_signal_ends_at_once_and_loses_nothing(
    folder: Path, fire: Callable[..., str], working: Callable[..., Any], as_json: Json
) -> None:
    """The delivery comes due again when its lease ends."""
    (folder / "pulp-hooks.toml").write_text(SETTINGS + "timeout_seconds = 60\n")
    fire("slow")
    with working(SECONDS="60") as worker:
        _heard(worker)
        worker.terminate()
        _line(worker.stderr, "finishing")
        worker.terminate()
        worker.wait(timeout=10)
        assert worker.returncode == 128 + signal.SIGTERM
    (delivery,) = as_json("deliveries")["deliveries"]
    assert (delivery["state"], delivery["claimed"]) == ("pending", True)


def _heard(worker: subprocess.Popen[str]) -> None:
    _line(worker.stderr, "heard slow")


def _line(stream: Any, text: str) -> None:  # noqa: ANN401 - a pipe
    while text not in (line := stream.readline()):
        assert line, f"the worker ended without saying {text!r}"


@pytest.mark.usefixtures("folder")
def test_deliveries_are_listed_newest_first_and_paged(run: Run, fire: Callable[..., str], as_json: Json) -> None:
    """Each page names the place where the next one goes on, and together they are the whole list."""
    ids = [fire(repo_id) for repo_id in "abcde"]
    found: list[str] = []
    page = as_json("deliveries", "--limit", "2")
    while True:
        found += [delivery["event_id"] for delivery in page["deliveries"]]
        if page["next"] is None:
            break
        page = as_json("deliveries", "--limit", "2", "--before", page["next"])
    assert found == ids[::-1]
    table = run("deliveries", "--limit", "2")
    assert f"more deliveries: add --before {ids[3]}/desk" in table.stderr
    assert table.stdout.splitlines()[0].split() == [
        "ID",
        "TIME",
        "TYPE",
        "REPOSITORY",
        "STATE",
        "ATTEMPTS",
        "DUE",
        "ERROR",
    ]
    assert [event["id"] for event in as_json("events", "--limit", "9")["events"]] == ids[::-1]
    assert as_json("events", "--limit", "2", "--before", ids[3])["events"][0]["id"] == ids[2]


def test_filters_of_deliveries_hold_together(folder: Path, run: Run, fire: Callable[..., str], as_json: Json) -> None:
    """State, listener, type, repository and time each leave out what they do not mean."""
    (folder / "pulp-hooks.toml").write_text(SETTINGS.replace("[0.01]", "[600]"))
    ids = {repo_id: fire(repo_id) for repo_id in ("zoo-1", "zoo-2", "park")}
    run("worker", "--once")
    (folder / "fail").touch()
    ids["late"] = fire("late")
    run("worker", "--once")

    def listed(*options: str) -> set[str]:
        return {delivery["repo_id"] for delivery in as_json("deliveries", *options)["deliveries"]}

    assert listed("--state", "delivered") == {"zoo-1", "zoo-2", "park"}
    assert listed("--state", "retrying") == {"late"}
    assert listed("--state", "retrying", "--state", "delivered") == set(ids)
    assert listed("--repo-id", "zoo-*") == {"zoo-1", "zoo-2"}
    assert listed("--repo-id", "zoo-*", "--limit", "1") == {"zoo-2"}
    assert listed("--listener", "desk", "--type", "repo.sync.start") == set(ids)
    assert listed("--type", "repo-sync-finished") == set()
    assert "did you mean 'desk'" in run("deliveries", "--listener", "dsk").stderr
    assert listed("--since", "1h") == set(ids)
    assert listed("--until", "1h") == listed("--since", "2999-01-01") == set()
    assert run("deliveries", "--state", "dead").stdout == "no deliveries\n"
    assert {event["repo_id"] for event in as_json("events", "--repo-id", "zoo-?")["events"]} == {"zoo-1", "zoo-2"}


def test_delivery_is_shown_with_body_and_attempts(
    folder: Path, run: Run, fire: Callable[..., str], as_json: Json
) -> None:
    """The event, every attempt with its error, and no control character that a terminal would act on."""
    event_id = fire("zoo\x1b[2J")
    (folder / "fail").touch()
    run("worker", "--once")
    time.sleep(0.05)
    run("worker", "--once")
    shown = as_json("deliveries", "show", f"{event_id}/desk")
    assert shown["event"]["body"] == {"repo_id": "zoo\x1b[2J"}
    (delivery,) = shown["deliveries"]
    assert delivery["state"] == "dead"
    assert [(x["number"], x["status"]) for x in delivery["attempts"]] == [(1, "failed"), (2, "failed")]
    assert "out of paper" in delivery["attempts"][0]["error"]
    for arguments in (("deliveries", "show", event_id), ("deliveries",), ("events",)):
        text = run(*arguments).stdout
        assert event_id in text
        assert "\x1b" not in text
    missing = run("deliveries", "show", "nonsense/desk")
    assert (missing.returncode, "run `pulp-hooks deliveries` for a list" in missing.stderr) == (1, True)


def test_delivery_is_shown_with_the_operation_of_its_event(folder: Path, run: Run) -> None:
    """Where the host has named one, and its cause."""
    with Hooks(journal=f"sqlite:///{folder / 'journal.db'}") as hooks:
        ids = {"operation_id": "op-1", "caused_by": "op-0"}
        event_id = hooks.repo_sync_started(repo_id="zoo", operation_id="op-1", caused_by="op-0").event.id
        other_id = hooks.repo_sync_started(repo_id="zoo").event.id
    lines = [line.split() for line in run("deliveries", "show", event_id).stdout.splitlines()]
    assert [[name, value] in lines for name, value in ids.items()] == [True, True]
    assert "op" not in run("deliveries", "show", other_id).stdout.partition("body")[0]


def test_statistics_count_each_listener(folder: Path, run: Run, fire: Callable[..., str], as_json: Json) -> None:
    """Each state, the age of the oldest unfinished delivery, the durations, and why it is disabled."""
    (folder / "pulp-hooks.toml").write_text(SETTINGS.replace("[0.01]", "[600]"))
    fire()
    run("worker", "--once")
    (folder / "fail").touch()
    fire()
    run("worker", "--once")
    (figures,) = as_json("stats")
    names = ("listener", "pending", "retrying", "held", "delivered", "dead", "skipped")
    assert [figures[name] for name in names] == ["desk", 0, 1, 0, 1, 0, 0]
    assert 0 < figures["oldest_seconds"] < 60
    assert 0 < figures["p50_seconds"] <= figures["p99_seconds"] < 5
    assert as_json("stats", "--since", "2999-01-01")[0]["p50_seconds"] is None
    run("listeners", "disable", "desk", "--reason", "holiday", "--yes")
    (figures,) = as_json("stats")
    assert (figures["held"], figures["disabled"]) == (1, "holiday")
    assert run("stats").stdout.splitlines()[1].split()[:7] == ["desk", "0", "0", "1", "1", "0", "0"]


def test_dead_delivery_is_replayed_with_the_same_event_id(
    folder: Path, run: Run, fire: Callable[..., str], as_json: Json
) -> None:
    """By its ID without a question, by listener and time only when that is confirmed."""
    event_id = fire()
    (folder / "fail").touch()
    for _ in range(2):
        run("worker", "--once")
        time.sleep(0.05)
    (folder / "fail").unlink()
    asked = run("replay", "--listener", "desk")
    question = "Replay 1 delivery (dead)? Not a terminal; fix: pass --yes to confirm"
    assert (asked.returncode, question in asked.stderr) == (2, True)
    assert as_json("replay", "--listener", "desk", "--until", "1h", "--yes") == {"replayed": 0}
    assert as_json("replay", f"{event_id}/desk") == {"replayed": 1}
    again = run("replay", f"{event_id}/desk")
    assert (again.returncode, "is pending, not finished; nothing is replayed" in again.stderr) == (1, True)
    assert run("worker", "--once").returncode == 0
    (delivery,) = as_json("deliveries")["deliveries"]
    assert (delivery["event_id"], delivery["state"], delivery["attempts"]) == (event_id, "delivered", 3)
    assert as_json("replay", "--since", "1h", "--yes") == {"replayed": 0}
    assert as_json("replay", "--since", "1h", "--state", "delivered", "--yes") == {"replayed": 1}


def test_listener_that_was_added_later_gets_what_it_missed(
    folder: Path, run: Run, fire: Callable[..., str], as_json: Json, install: Install
) -> None:
    """Those events that its hooks take, in a time window, each once."""
    for repo_id in ("a", "b"):
        fire(repo_id)
    run("fire", "repo-sync-finished")
    install("late", LATE)
    assert folder.exists()
    assert as_json("backfill", "late", "--until", "1h", "--yes") == {"listener": "late", "stored": 0}
    assert as_json("backfill", "late", "--yes") == {"listener": "late", "stored": 2}
    assert as_json("backfill", "late", "--yes") == {"listener": "late", "stored": 0}
    worked = run("worker", "--once").stdout
    assert sorted(line for line in worked.splitlines() if line.startswith("late")) == ["late a", "late b"]
    unknown = run("backfill", "lat", "--yes")
    assert (unknown.returncode, "did you mean 'late'?" in unknown.stderr) == (2, True)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [[], ["a/b", "--state", "dead"], ["a/b", "--listener", "x"], ["a/b", "--since", "1h"], ["--state", "pending"]],
)
def test_replay_of_nothing_or_of_contradictions_is_wrong_usage(arguments: list[str], run: Run) -> None:
    """What is meant must be clear before anything is delivered again."""
    assert run("replay", *arguments).returncode == 2


@pytest.mark.usefixtures("folder")
def test_disabled_listener_is_shown_and_enabled(run: Run, fire: Callable[..., str], as_json: Json) -> None:
    """Its deliveries are held meanwhile, and are made when it is enabled."""
    fire("before")
    asked = run("listeners", "disable", "desk")
    assert (asked.returncode, "pass --yes" in asked.stderr) == (2, True)
    assert as_json("listeners", "disable", "desk", "--yes", "--reason", "no paper") == {
        "listener": "desk",
        "disabled": True,
        "held": 1,
    }
    fire("meanwhile")
    assert run("worker", "--once").stdout == "no attempts, 0 delivered\n"
    (line,) = [line for line in as_json("listeners") if line["name"] == "desk"]
    assert line["disabled"] == "no paper"
    since = datetime.fromisoformat(line["disabled_at"])
    assert timedelta() < datetime.now(UTC) - since < timedelta(hours=1)
    table = run("listeners")
    assert "disabled" in table.stdout
    assert f"desk is disabled since {since:%Y-%m-%dT%H:%M:%SZ}: no paper" in table.stderr
    assert as_json("listeners", "enable", "desk") == {"listener": "desk", "disabled": False, "resumed": 2}
    time.sleep(0.05)
    assert run("worker", "--once").stdout.count("heard") == 2
    again = run("listeners", "enable", "desk")
    assert (again.returncode, "'desk' is not disabled" in again.stderr) == (2, True)
    unknown = run("listeners", "disable", "desks", "--yes")
    assert (unknown.returncode, "did you mean 'desk'?" in unknown.stderr) == (2, True)


@pytest.mark.usefixtures("folder")
def test_second_disabling_tells_the_first_reason(run: Run, fire: Callable[..., str]) -> None:
    """The cause is not lost, and all deliveries on hold are counted."""
    fire("before")
    run("listeners", "disable", "desk", "--yes", "--reason", "no paper")
    fire("meanwhile")
    assert (
        run("listeners", "disable", "desk", "--yes").stdout
        == "desk is disabled already (no paper), 2 deliveries on hold\n"
    )


@pytest.mark.usefixtures("folder")
def test_deliveries_of_a_renamed_listener_are_moved(run: Run, fire: Callable[..., str], as_json: Json) -> None:
    """After a question, and under a name that a listener can have."""
    fire("before")
    asked = run("listeners", "rename", "desk", "counter")
    assert (asked.returncode, "pass --yes" in asked.stderr) == (2, True)
    for name in ("a b", "a/b", "", "desk"):
        refused = run("listeners", "rename", "desk", name, "--yes")
        assert (refused.returncode, "the new name" in refused.stderr) == (2, True)
    assert as_json("listeners", "rename", "desk", "counter", "--yes") == {
        "old": "desk",
        "new": "counter",
        "moved": 1,
        "deleted": 0,
    }
    assert [delivery["listener"] for delivery in as_json("deliveries")["deliveries"]] == ["counter"]
    back = run("listeners", "rename", "counter", "desk", "--yes")
    assert back.stdout == "1 delivery moved from counter to desk\n"
    assert run("worker", "--once").stdout.count("heard") == 1
    unknown = run("listeners", "rename", "counter", "desk", "--yes")
    assert (unknown.returncode, "unknown listener 'counter'" in unknown.stderr) == (2, True)


def test_pruning_deletes_what_is_old_and_asks_before(
    folder: Path, run: Run, fire: Callable[..., str], as_json: Json
) -> None:
    """By default nothing that was delivered within thirty days, and never an unfinished delivery."""
    fire("a")
    run("worker", "--once")
    fire("b")
    assert as_json("prune") == {"deliveries": 0, "events": 0}
    asked = run("prune", "--delivered-days", "0")
    assert (asked.returncode, "Delete 1 delivery permanently?" in asked.stderr) == (2, True)
    (folder / "pulp-hooks.toml").write_text(
        SETTINGS.replace("[delivery]", "keep_delivered_days = 0.0000001\n[delivery]")
    )
    assert as_json("prune", "--yes") == {"deliveries": 1, "events": 1}
    assert [delivery["repo_id"] for delivery in as_json("deliveries")["deliveries"]] == ["b"]


@pytest.mark.parametrize(
    "arguments",
    [["deliveries"], ["events"], ["stats"], ["prune"], ["replay", "a/b"], ["backfill", "a"], ["worker", "--once"]],
)
def test_command_without_a_journal_says_what_to_add(arguments: list[str], run: Run) -> None:
    """No traceback, and no journal made by looking for one."""
    done = run(*arguments)
    assert done.returncode == 1
    assert "[journal]" in done.stderr
    assert "Traceback" not in done.stderr


def test_looking_into_a_database_without_a_journal_makes_none(folder: Path, run: Run, postgresql_url: str) -> None:
    """Who looks may have no right to make tables, or may have named the wrong database."""
    (folder / "pulp-hooks.toml").write_text(f'[journal]\nurl = "{postgresql_url}"\n')
    done = run("deliveries")
    assert (done.returncode, "the first event that is fired creates it" in done.stderr) == (1, True)
    engine = create_engine(postgresql_url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize("arguments", [["check"], ["deliveries"], ["events"], ["stats"], ["prune", "--yes"]])
def test_command_leaves_the_file_of_another_program_as_it_is(arguments: list[str], folder: Path, run: Run) -> None:
    """The settings may name the wrong file; only an event that is fired makes a journal of it."""
    file = folder / "journal.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE synced (name TEXT)")
    before = file.read_bytes()
    done = run(*arguments)
    assert done.returncode == (0 if arguments == ["check"] else 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_bytes() == before


def test_looking_into_a_journal_that_is_not_there_makes_none(folder: Path, run: Run) -> None:
    """It would belong to whoever looked, and the host could not write into it."""
    done = run("deliveries")
    assert (done.returncode, "the first event that is fired creates it" in done.stderr) == (1, True)
    assert not (folder / "journal.db").exists()


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("sqlite:///no/folder/journal.db", "there is no folder"),
        ("postgresql://me@127.0.0.1:9/journal", "the server cannot be reached or is gone"),
        ("sqlite:///pulp-hooks.toml", "the file is corrupt or no SQLite database"),
    ],
)
def test_check_finds_a_journal_that_takes_no_events(url: str, cause: str, folder: Path, run: Run) -> None:
    """What every host would stumble over is found before."""
    (folder / "pulp-hooks.toml").write_text(f'[journal]\nurl = "{url}"\n')
    done = run("check")
    assert (done.returncode, cause in done.stdout) == (1, True), done.stdout


def test_check_makes_no_journal(folder: Path, run: Run, fire: Callable[..., str]) -> None:
    """One that is not there yet is all right, and so is one that is."""
    assert run("check").returncode == 0
    assert not (folder / "journal.db").exists()
    fire()
    assert run("check").returncode == 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("moment", ["yesterday", "2h ago", "9999999d", "-1h", "2026-13-01"])
def test_moment_that_is_none_is_refused(moment: str, run: Run, fire: Callable[..., str]) -> None:
    """The message shows how moments are written."""
    fire()
    done = run("deliveries", f"--since={moment}")
    assert done.returncode in ({0} if moment == "9999999d" else {2})
    assert "Traceback" not in done.stderr


def test_password_of_the_journal_is_shown_nowhere(folder: Path, run: Run) -> None:
    """An operator sees which server does not answer, not how to enter it."""
    (folder / "pulp-hooks.toml").write_text('[journal]\nurl = "postgresql://me:secret-word@127.0.0.1:9/journal"\n')
    for arguments in (["deliveries"], ["fire", "repo-sync-started"], ["worker", "--once"], ["check"], ["listeners"]):
        done = run(*arguments)
        assert "secret-word" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert "me:***@127.0.0.1:9" in run("deliveries").stderr


@pytest.mark.usefixtures("folder")
def test_shell_completes_listeners_of_the_journal(run: Run, fire: Callable[..., str]) -> None:
    """Names of listeners come from the journal."""
    fire()
    words = "pulp-hooks replay --listener d"
    done = run(_PULP_HOOKS_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="3")
    assert "plain,desk" in done.stdout
