"""The console listener: what it prints, where, and that nothing in an event can break its lines."""

import io
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import pulp_hooks_console
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks import Hooks, Report
from pulp_hooks.bodies.types import PublishResult

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text(encoding="utf-8")

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MOMENTS = {"started": "2026-03-02T09:30:00Z", "completed": "2026-03-02T09:30:04Z"}
SYNC: dict[str, Any] = {"repo_id": "pulp-f17", "importer_id": "yum", "importer_type_id": "yum", **MOMENTS}
PUBLISH: dict[str, Any] = {"repo_id": "pulp-f17", "distributor_id": "yum", "distributor_type_id": "yum", **MOMENTS}
NO_SPACE = "no space left on /srv/mirror"

HOSTILE = {
    "line feed": "x\n2026-03-02T09:30:00Z sync finished 'y': success",
    "carriage return": "x\r2026-03-02T09:30:00Z sync finished 'y': success",
    "closing quote": "x': success, 3 added",
    "both quotes": "x'\": success, 3 added",
    "escape sequence": "x\x1b[2K\x1b[1G2026-03-02T09:30:00Z sync finished 'y': success",
    "C1 control": "x\x9b2K",
    "next line": "x\x85y",
    "backspaces": "x\b\b\b\by",
    "NUL": "x\0y",
    "right-to-left override": "x\u202esseccus\u202c",
    "right-to-left isolate": "x\u2067sseccus\u2069",
    "line separator": "x\u2028y",
    "paragraph separator": "x\u2029y",
    "zero width": "x\u200by\ufeff",
    "very long": "x" * 5000,
}

any_text = st.text(st.characters(codec="utf-8"), min_size=1) | st.sampled_from(sorted(HOSTILE.values()))
maybe_text = st.none() | any_text


@pytest.fixture(scope="module")
def hooks() -> Iterator[Hooks]:
    """Yield a host whose only listener is the console."""
    with Hooks([pulp_hooks_console]) as hooks:
        yield hooks


@contextmanager
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """Yield the reading and the writing end of a pipe."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as reader, os.fdopen(writing, "w", encoding="utf-8") as writer:
        yield reader, writer


@contextmanager
def terminal() -> Iterator[tuple[TextIO, TextIO]]:
    """Yield what a terminal shows, and the standard output of a program that runs in it."""
    shown, program = pty.openpty()
    with os.fdopen(shown, encoding="utf-8") as screen, os.fdopen(program, "w", encoding="utf-8") as stdout:
        yield screen, stdout


def lines_of(captured: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was printed, without the times."""
    text = captured.readouterr().out
    assert text.endswith("\n")
    return [TIME.sub("", line, count=1).strip() for line in text.split("\n")[:-1]]


def test_readme_shows_the_lines_that_are_printed(hooks: Hooks, capsys: pytest.CaptureFixture[str]) -> None:
    """The four lines of the README are what the four events print."""
    hooks.repo_sync_started(repo_id="pulp-f17")
    hooks.repo_sync_finished(**SYNC, result="success", added_count=3, updated_count=0, removed_count=1)
    hooks.repo_publish_started(repo_id="pulp-f17", distributor_id="yum")
    hooks.repo_publish_finished(**PUBLISH, result="failed", error_message=NO_SPACE)

    [block] = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert lines_of(capsys) == [TIME.sub("", line).strip() for line in block.splitlines()]


def test_line_begins_with_the_time_of_the_event(hooks: Hooks, capsys: pytest.CaptureFixture[str]) -> None:
    """The time is when the host fired the event, in UTC."""
    report = hooks.repo_sync_started(repo_id="pulp-f17")
    assert capsys.readouterr().out == f"{report.event.time:%Y-%m-%dT%H:%M:%S}Z sync started 'pulp-f17'\n"


def test_counts_that_the_host_does_not_know_are_left_out(hooks: Hooks, capsys: pytest.CaptureFixture[str]) -> None:
    """A count of null is not shown, one of zero is."""
    hooks.repo_sync_finished(**SYNC, result="success", updated_count=0)
    assert lines_of(capsys) == ["sync finished 'pulp-f17': success, 0 updated"]


@pytest.mark.parametrize(
    ("message", "exception", "shown"),
    [
        ("wrong checksum", "ValueError('wrong checksum')", ", 'wrong checksum'"),
        ("\n  wrong checksum\nof a.rpm", None, ", 'wrong checksum'"),
        ("wrong\u2028checksum", None, ", 'wrong'"),
        ("", "OSError()", ", 'OSError()'"),
        (None, "OSError()", ", 'OSError()'"),
        (" \n", None, ""),
        (None, None, ""),
    ],
)
def test_first_line_of_the_error_is_shown(
    hooks: Hooks, capsys: pytest.CaptureFixture[str], message: str | None, exception: str | None, shown: str
) -> None:
    """The error is the first line of the message, or of the exception where there is no message."""
    hooks.repo_publish_finished(**PUBLISH, result="error", error_message=message, exception=exception)
    assert lines_of(capsys) == ["publish finished 'pulp-f17': error" + shown]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_stays_inside_its_quotes(hooks: Hooks, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Between the quotes of a line stands the text, whole or its beginning, and Python can read it back."""
    hooks.repo_sync_started(repo_id=text)
    [line] = lines_of(capsys)
    assert line.isprintable()
    quoted = line.removeprefix("sync started ")
    assert eval(quoted.removesuffix("...")) == text[:150]  # noqa: S307 - the strictest reader of Python's quoting
    assert quoted.endswith("...") == (len(text) > 150)


@given(
    repo_id=any_text, message=maybe_text, exception=maybe_text, encoding=st.sampled_from(["utf-8", "ascii", "cp1252"])
)
def test_any_text_gives_exactly_one_line(
    hooks: Hooks, repo_id: str, message: str | None, exception: str | None, encoding: str
) -> None:
    """Whatever an event says, one line of printable characters is printed, short enough for pipes not to divide it."""
    raw = io.BytesIO()
    body = SYNC | {"repo_id": repo_id, "added_count": 2**63 - 1}
    with redirect_stdout(io.TextIOWrapper(raw, encoding)):
        report = hooks.repo_sync_finished(**body, result="failed", error_message=message, exception=exception)
        printed = raw.getvalue()

    assert not report.failures
    line = printed.decode(encoding)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert TIME.match(line)
    assert len(printed) < 4096


@pytest.mark.parametrize(
    ("result", "code"), [("success", 32), ("skipped", 33), ("canceled", 33), ("failed", 31), ("error", 31)]
)
def test_result_is_coloured_on_a_terminal(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, result: PublishResult, code: int
) -> None:
    """A real pseudo terminal gets the result in its colour, and nothing else."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    with terminal() as (screen, stdout), redirect_stdout(stdout):
        hooks.repo_publish_finished(**PUBLISH, result=result, error_message="\x1b[7m")
        line = screen.readline()
    assert line.count("\x1b") == 2
    assert line.endswith(f": \x1b[{code}m{result}\x1b[0m, '\\x1b[7m'\n")


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("0", False), ("", True)])
def test_no_color_is_respected(hooks: Hooks, monkeypatch: pytest.MonkeyPatch, value: str, *, coloured: bool) -> None:
    """A terminal gets no colours where `NO_COLOR` is set and not empty."""
    monkeypatch.setenv("NO_COLOR", value)
    with terminal() as (screen, stdout), redirect_stdout(stdout):
        hooks.repo_publish_finished(**PUBLISH, result="success")
        assert ("\x1b" in screen.readline()) == coloured


def test_pipe_gets_no_colours(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard output is no terminal the line is plain, and there at once."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    with pipe() as (reader, writer), redirect_stdout(writer):
        hooks.repo_publish_finished(**PUBLISH, result="success")
        assert TIME.sub("", reader.readline()) == " publish finished 'pulp-f17': success\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "kůň €"), ("latin-1", r"k\u016f\u0148 \u20ac"), ("cp1252", r"k\u016f\u0148 €")],
)
def test_character_that_the_encoding_lacks_is_escaped(hooks: Hooks, tmp_path: Path, encoding: str, shown: str) -> None:
    """A character that standard output cannot encode does not stop the line."""
    with (tmp_path / "out").open("w", encoding=encoding) as stdout, redirect_stdout(stdout):
        assert not hooks.repo_sync_started(repo_id="kůň €").failures
    printed = (tmp_path / "out").read_text(encoding=encoding)
    assert printed.endswith(f" sync started '{shown}'\n")


def test_stream_in_memory_gets_the_line(hooks: Hooks) -> None:
    """A stream without file and encoding, as hosts put in place of standard output, works like any other."""
    with redirect_stdout(io.StringIO()) as memory:
        hooks.repo_sync_started(repo_id="kůň")
    assert memory.getvalue().endswith(" sync started 'kůň'\n")


class Unknown(io.StringIO):
    """A stream whose encoding is none."""

    encoding = "no-such-encoding"


def test_stream_that_can_only_write_gets_the_line(hooks: Hooks) -> None:
    """A host's replacement of standard output has what `print` needs, and may have nothing else."""
    written: list[str] = []
    stream: Any = type("Stream", (), {"write": lambda _, text: written.append(text)})()
    with redirect_stdout(stream):
        assert not fire_a_publish(hooks).failures
    assert "".join(written).endswith("publish finished 'pulp-f17': success\n")


def test_stream_of_an_unknown_encoding_is_no_failure(hooks: Hooks) -> None:
    """What cannot be encoded is not printed, and nothing is raised."""
    with redirect_stdout(Unknown()):
        assert not fire_a_publish(hooks).failures


def test_line_comes_behind_what_the_host_has_printed(hooks: Hooks, tmp_path: Path) -> None:
    """What the host printed before and after an event stands before and behind its line."""
    with (tmp_path / "out").open("w", encoding="utf-8") as stdout, redirect_stdout(stdout):
        stdout.write("before\n")
        hooks.repo_sync_started(repo_id="pulp-f17")
        stdout.write("after\n")
    before, line, after = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert (before, after) == ("before", "after")
    assert line.endswith("sync started 'pulp-f17'")


def test_closed_standard_output_is_no_failure(hooks: Hooks) -> None:
    """Where the host has closed its standard output nothing is printed and nothing is raised."""
    stdout = io.StringIO()
    stdout.close()
    with redirect_stdout(stdout):
        assert not fire_a_publish(hooks).failures


def test_missing_standard_output_is_no_failure(hooks: Hooks) -> None:
    """A program that was started without standard output has none to print to."""
    with redirect_stdout(None):
        assert not fire_a_publish(hooks).failures


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_nobody_reads_is_no_failure(unbuffered: str) -> None:
    """A host whose output goes into a broken pipe fires on, sees no failure, and ends as it would have without us."""
    code = """
import sys, pulp_hooks_console
from pulp_hooks import Hooks
hooks = Hooks([pulp_hooks_console])
failures = [hooks.repo_sync_started(repo_id="x").failures for _ in range(3)]
sys.stderr.write(f"fired, {sum(map(len, failures))} failed")
"""
    env = environment() | {"PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as broken:
        host = subprocess.run(
            [sys.executable, "-c", code], env=env, stdout=broken, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (host.stderr, host.returncode) == ("fired, 0 failed", 0)


def test_lines_of_many_threads_stay_apart(hooks: Hooks, tmp_path: Path) -> None:
    """Every thread's line is printed once and whole."""
    names = [f"{number}-" + "x" * (number % 140) for number in range(2000)]
    with (
        (tmp_path / "out").open("w", encoding="utf-8") as stdout,
        redirect_stdout(stdout),
        ThreadPoolExecutor(8) as threads,
    ):
        list(threads.map(lambda name: hooks.repo_sync_started(repo_id=name), names))
    printed = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert sorted(line.partition(" ")[2] for line in printed) == sorted(f"sync started {name!r}" for name in names)


def test_import_does_not_import_marshmallow() -> None:
    """The listener is marked with `hookimpl` alone, and imports nothing that only hosts need."""
    code = "import sys, pulp_hooks_console; sys.exit('marshmallow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_readme_shows_what_an_installed_console_prints(tmp_path: Path) -> None:
    """The command of the README prints what the README shows, with the entry point of this package."""
    env = environment(installed_in=tmp_path)
    [(arguments, expected)] = re.findall(r"```console\n\$ pulp-hooks (.*?)\n(.*?)```", README, re.DOTALL)
    command = [sys.executable, "-m", "pulp_hooks", *arguments.split()]
    printed = subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    assert without_times(printed) == without_times(expected)


def test_settings_of_the_readme_silence_it(tmp_path: Path) -> None:
    """The settings that the README gives keep the console from being loaded."""
    env = environment(installed_in=tmp_path)
    [settings] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "pulp-hooks.toml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "pulp_hooks", "fire", "repo-sync-started"]
    printed = subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    assert "sync started" not in printed


def fire_a_publish(hooks: Hooks) -> Report:
    """Fire an event whose line would be coloured on a terminal."""
    return hooks.repo_publish_finished(**PUBLISH, result="success")


def environment(installed_in: Path | None = None) -> dict[str, str]:
    """Return the environment of a process that can import what this one can.

    Args:
        installed_in: A folder in which this package is to be found as an installed one, its entry points included.
    """
    path = [*sys.path]
    if installed_in is not None:
        project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        metadata = installed_in / "site" / f"pulp_hooks_console-{project['version']}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
        )
        points = [f"{name} = {value}\n" for name, value in project["entry-points"]["pulp_hooks"].items()]
        (metadata / "entry_points.txt").write_text("[pulp_hooks]\n" + "".join(points), encoding="utf-8")
        path = [str(metadata.parent), str(PACKAGE), *path]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PULP_HOOKS_")}
    return own | {"PYTHONPATH": os.pathsep.join(path)}


def without_times(text: str) -> list[str]:
    """Return the lines with every time and duration replaced by its name."""
    return [re.sub(r"\b\d\.\d{3}\b", "SECONDS", TIME.sub("TIME", line)).rstrip() for line in text.splitlines()]
