"""The notifier that writes events to a file: every line whole, none lost, whoever else writes, rotates or dies."""

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError
from pulp_hooks_jsonl import JsonLines

from pulp_hooks import Event, Hooks

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text(encoding="utf-8")
MOMENTS = {"started": "2026-03-02T09:30:00Z", "completed": "2026-03-02T09:30:04Z"}
SYNC: dict[str, Any] = {"importer_id": "yum", "importer_type_id": "yum", "result": "success", **MOMENTS}

any_text = st.text(st.characters(codec="utf-8"), min_size=1)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)

WRITER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pulp_hooks import Hooks
from pulp_hooks_jsonl import JsonLines

path, name, threads, events = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def write(number):
    # Some lines are longer than what pipes and buffers take at once.
    report = hooks.repo_sync_started(repo_id=f"{name}-{number}-" + "x" * (number % 10 * 9000))
    assert not report.failures, report

with Hooks([JsonLines({"path": path})]) as hooks, ThreadPoolExecutor(threads) as pool:
    os.write(1, b"ready")
    sys.stdin.read()
    list(pool.map(write, range(events)))
"""

ENDLESS_WRITER = """
import os, sys
from pulp_hooks import Hooks
from pulp_hooks_jsonl import JsonLines

hooks = Hooks([JsonLines({"path": sys.argv[1]})])
while not hooks.repo_sync_started(repo_id="x" * 1_000_000).failures:
    os.write(1, b".")
"""

LIMITED_WRITER = """
import resource, signal, sys
from pulp_hooks import Hooks
from pulp_hooks_jsonl import JsonLines

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if "die" in sys.argv:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
hooks = Hooks([JsonLines({"path": sys.argv[1]})])
for number in range(4):
    for failure in hooks.repo_sync_started(repo_id=f"{number}-" + "x" * 30_000).failures:
        print(number, failure.error)
"""

FORKING_WRITER = """
import os, sys
from pathlib import Path
from pulp_hooks import Hooks
from pulp_hooks_jsonl import JsonLines, _locked

path = Path(sys.argv[1])
waiting, ending = os.pipe()
with _locked(path):
    if not os.fork():
        os.close(ending)
        os.read(waiting, 1)
        os._exit(0)
hooks = Hooks([JsonLines({"path": str(path)})])
sys.exit(len(hooks.repo_sync_started(repo_id="pulp-f17").failures))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet."""
    return tmp_path / "events.jsonl"


@pytest.fixture
def hooks(path: Path) -> Iterator[Hooks]:
    """Yield a host whose only listener writes to that file."""
    with Hooks([JsonLines({"path": str(path)})]) as hooks:
        yield hooks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the folder of a file system that holds 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def repo_ids(*paths: Path) -> list[str]:
    """Return the repositories of the events in these files; every line must be an event."""
    texts = [path.read_bytes() for path in paths]
    assert all(text == b"" or text.endswith(b"\n") for text in texts)
    return [str(Event.from_json(line).body["repo_id"]) for text in texts for line in text.split(b"\n")[:-1]]


def fire(hooks: Hooks, repo_id: str) -> None:
    """Fire an event, which has to succeed."""
    assert not hooks.repo_sync_started(repo_id=repo_id).failures


def environment(*folders: Path) -> dict[str, str]:
    """Return the environment of a process that can import what this one can, and before it from these folders."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PULP_HOOKS_")}
    return own | {"PYTHONPATH": os.pathsep.join([*map(str, folders), *sys.path])}


def run_installed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `pulp-hooks` in this folder, where it finds this package as an installed one, its entry points included."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / "site" / f"pulp_hooks_jsonl-{project['version']}.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    points = [f"{name} = {value}\n" for name, value in project["entry-points"]["pulp_hooks"].items()]
    (metadata / "entry_points.txt").write_text("[pulp_hooks]\n" + "".join(points), encoding="utf-8")
    command = [sys.executable, "-m", "pulp_hooks", *arguments]
    # The other example, where it is installed, would print its line in between.
    env = environment(metadata.parent, PACKAGE) | {"PULP_HOOKS_BLOCK": "console"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a process that can import what this one can."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> str:
    """Wait for a process to end well, and give what it printed."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out.decode()


def open_descriptors() -> list[str]:
    """Return the numbers of the descriptors that this process has open."""
    return sorted(entry.name for entry in Path("/dev/fd").iterdir())


def blocked_writer(hooks: Hooks, repo_id: str) -> threading.Thread:
    """Return a thread that has opened the file and cannot lock it."""
    before = len(open_descriptors())
    thread = threading.Thread(target=fire, args=(hooks, repo_id))
    thread.start()
    deadline = time.monotonic() + 10
    while len(open_descriptors()) == before:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return thread


def without_seconds(text: str) -> list[str]:
    """Return the lines with every duration replaced by its name."""
    return [re.sub(r"\b\d\.\d{3}\b", "SECONDS", line).rstrip() for line in text.splitlines()]


def test_each_event_is_appended_as_its_json(hooks: Hooks, path: Path) -> None:
    """The file has the events in the order in which they were fired, each as `to_json` gives it."""
    first = hooks.repo_sync_started(repo_id="pulp-f16")
    second = hooks.repo_publish_started(repo_id="pulp-f17", distributor_id="yum")
    assert path.read_text(encoding="utf-8") == f"{first.event.to_json()}\n{second.event.to_json()}\n"


@given(repo_id=any_text, message=st.none() | st.text(), details=any_json)
def test_any_event_is_one_line_that_reads_back(
    tmp_path_factory: pytest.TempPathFactory, repo_id: str, message: str | None, details: object
) -> None:
    """Whatever an event says, it is one line, and reading the line gives the event."""
    path = tmp_path_factory.mktemp("any") / "events.jsonl"
    with Hooks([JsonLines({"path": str(path)})]) as hooks:
        report = hooks.repo_sync_finished(repo_id=repo_id, error_message=message, details=details, **SYNC)
    assert not report.failures
    [line] = path.read_bytes().removesuffix(b"\n").split(b"\n")
    assert Event.from_json(line) == report.event


def test_file_is_readable_by_its_owner_only(path: Path) -> None:
    """The file is made with mode 0600, however generous the process is otherwise."""
    umask = os.umask(0)
    try:
        JsonLines({"path": str(path)})
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o600


def test_mode_of_an_existing_file_is_kept(path: Path) -> None:
    """Who lets others read the file has decided so."""
    path.touch()
    path.chmod(0o644)
    with Hooks([JsonLines({"path": str(path)})]) as hooks:
        fire(hooks, "pulp-f17")
    assert path.stat().st_mode & 0o777 == 0o644


def test_relative_path_is_of_the_working_directory_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that changes its working directory goes on writing to the same file."""
    monkeypatch.chdir(tmp_path)
    with Hooks([JsonLines({"path": "events.jsonl"})]) as hooks:
        monkeypatch.chdir("/")
        fire(hooks, "pulp-f17")
    assert repo_ids(tmp_path / "events.jsonl") == ["pulp-f17"]


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        ({}, {"path": ["is missing"]}),
        ({"path": ""}, {"path": ["must not be empty"]}),
        ({"path": 5}, {"path": ["must be text"]}),
        ({"path": "x", "pth": "y"}, {"pth": ["Unknown field."]}),
    ],
)
def test_wrong_configuration_is_refused(config: dict[str, object], messages: dict[str, list[str]]) -> None:
    """The schema says of each key what is wrong with it."""
    with pytest.raises(ValidationError) as caught:
        JsonLines.Config().load(config)
    assert caught.value.messages == messages


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_path_of_what_is_no_file_is_refused_at_once(path: Path, make: Callable[[Path], None]) -> None:
    """Where a folder or a named pipe has the path the constructor says so, and holds nothing open."""
    make(path)
    before = open_descriptors()
    with pytest.raises(OSError, match=re.escape(str(path))):
        JsonLines({"path": str(path)})
    assert open_descriptors() == before


def test_check_shows_a_missing_folder(tmp_path: Path) -> None:
    """`pulp-hooks check` names the listener and the path, with the entry point of this package."""
    settings = '[[listeners]]\nname = "audit"\nnotifier = "jsonl"\nconfig.path = "missing/events.jsonl"\n'
    (tmp_path / "pulp-hooks.toml").write_text(settings, encoding="utf-8")
    check = run_installed(tmp_path, "check", "--json")
    [problem] = json.loads(check.stdout)["problems"]
    assert check.returncode == 1
    assert "'audit'" in problem["cause"]
    assert str(tmp_path / "missing" / "events.jsonl") in problem["cause"]


def test_closing_twice_is_harmless_and_leaves_nothing_open(path: Path) -> None:
    """A listener that is closed, once or twice, holds no descriptor."""
    before = open_descriptors()
    notifier = JsonLines({"path": str(path)})
    with Hooks([notifier]) as hooks:
        fire(hooks, "pulp-f17")
        notifier.close()
    notifier.close()
    assert open_descriptors() == before


def test_many_processes_with_many_threads_lose_and_mix_nothing(path: Path) -> None:
    """Each of the events that five processes with eight threads each write at once is there once, and whole."""
    writers = [start(WRITER, path, name, 8, 100) for name in "abcde"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.read(5) == b"ready"
    for writer in writers:
        finish(writer)
    expected = [f"{name}-{number}-" + "x" * (number % 10 * 9000) for name in "abcde" for number in range(100)]
    assert sorted(repo_ids(path)) == sorted(expected)


def test_writer_waits_while_another_one_has_the_lock(hooks: Hooks, path: Path) -> None:
    """Nothing is written as long as somebody else holds the lock of the file."""
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = blocked_writer(hooks, "pulp-f17")
        thread.join(timeout=0.05)
        assert path.stat().st_size == 0
    thread.join(timeout=10)
    assert repo_ids(path) == ["pulp-f17"]


def test_file_rotated_while_a_writer_waits_gets_nothing_more(hooks: Hooks, path: Path, tmp_path: Path) -> None:
    """A writer that has waited for the lock of a file that was moved meanwhile writes to the new one."""
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = blocked_writer(hooks, "pulp-f17")
        path.rename(tmp_path / "events.jsonl.1")
    thread.join(timeout=10)
    assert repo_ids(tmp_path / "events.jsonl.1") == []
    assert repo_ids(path) == ["pulp-f17"]


def test_file_deleted_while_a_writer_waits_is_made_again(hooks: Hooks, path: Path) -> None:
    """A writer that has waited for the lock of a file that was deleted meanwhile makes a new one."""
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = blocked_writer(hooks, "pulp-f17")
        path.unlink()
    thread.join(timeout=10)
    assert repo_ids(path) == ["pulp-f17"]


def test_rotation_under_many_writers_loses_nothing(hooks: Hooks, path: Path, tmp_path: Path) -> None:
    """All events are in the file or in one of those that it was moved to, each once and whole."""
    names = [f"{number}-" + "x" * (number % 10 * 1000) for number in range(1000)]
    with ThreadPoolExecutor(8) as threads:
        firing = [threads.submit(fire, hooks, name) for name in names]
        rotations = 0
        while not all(future.done() for future in firing):
            if path.exists():
                path.rename(tmp_path / f"events.jsonl.{rotations}")
                rotations += 1
            time.sleep(0.002)
    for future in firing:
        future.result()
    assert rotations > 1
    assert sorted(repo_ids(*tmp_path.iterdir())) == sorted(names)


def test_half_a_line_is_ended_by_the_next_writer(hooks: Hooks, path: Path) -> None:
    """What a killed writer left behind becomes a line of its own, and the next event another one."""
    path.write_bytes(b'{"id":"4ff7')
    fire(hooks, "pulp-f16")
    fire(hooks, "pulp-f17")
    torn, *events = path.read_bytes().split(b"\n")
    assert torn == b'{"id":"4ff7'
    assert [json.loads(line)["body"]["repo_id"] for line in events[:-1]] == ["pulp-f16", "pulp-f17"]
    assert events[-1] == b""


def test_torn_line_of_a_killed_writer_is_ended_by_the_next(hooks: Hooks, path: Path) -> None:
    """Of a process that a signal kills in the middle of a line the beginning stays, as a line of its own."""
    with start(LIMITED_WRITER, path, "die") as writer:
        assert writer.wait(timeout=60) == -signal.SIGXFSZ
    assert not path.read_bytes().endswith(b"\n")
    fire(hooks, "next")
    *whole, torn, last, end = path.read_bytes().split(b"\n")
    assert [json.loads(line)["body"]["repo_id"][0] for line in [*whole, last]] == ["0", "1", "2", "n"]
    assert torn.startswith(b'{"id":')
    assert end == b""


def test_killed_writers_leave_at_most_one_torn_line_each(hooks: Hooks, path: Path) -> None:
    """After each `kill -9` all events that were written are there; between them stands at most one torn line."""
    for _ in range(10):
        with start(ENDLESS_WRITER, path) as writer:
            assert writer.stdout is not None
            written = writer.stdout.read(1)
            time.sleep(random.uniform(0, 0.01))  # noqa: S311 - any moment will do
            writer.kill()
            written += writer.stdout.read()
        fire(hooks, "next")
        *lines, last, end = path.read_bytes().split(b"\n")
        whole = [line for line in lines if line.endswith(b"null}")]
        assert len(whole) >= len(written)
        assert all(len(json.loads(line)["body"]["repo_id"]) == 1_000_000 for line in whole)
        assert [line for line in lines if line not in whole] in ([], [lines[-1]])
        assert json.loads(last)["body"]["repo_id"] == "next"
        assert end == b""
        path.unlink()


def test_forked_process_does_not_keep_the_lock(path: Path) -> None:
    """A process that was forked while an event was being written does not hold up the next event."""
    assert finish(start(FORKING_WRITER, path)) == ""
    assert repo_ids(path) == ["pulp-f17"]


def test_limit_of_the_file_size_leaves_no_torn_line(hooks: Hooks, path: Path) -> None:
    """An event whose line fits only in part fails, is taken out again, and the next process writes on."""
    assert finish(start(LIMITED_WRITER, path)) == "3 OSError: [Errno 27] File too large\n"
    fire(hooks, "next")
    assert [repo_id.partition("-")[0] for repo_id in repo_ids(path)] == ["0", "1", "2", "next"]


def test_full_disk_leaves_no_torn_line(small_disk: Path) -> None:
    """An event that the disk cannot hold fails and is taken out again; with space made, events are written on."""
    ballast, path = small_disk / "ballast", small_disk / "events.jsonl"
    ballast.write_bytes(b"x" * 40_000)
    names = [f"{number}-" + "x" * 9_000 for number in range(20)]
    with Hooks([JsonLines({"path": str(path)})]) as hooks:
        written = []
        for name in names:
            failures = hooks.repo_sync_started(repo_id=name).failures
            assert [failure.error for failure in failures] in ([], ["OSError: [Errno 28] No space left on device"])
            if not failures:
                written.append(name)
        assert 0 < len(written) < len(names)
        assert repo_ids(path) == written
        ballast.unlink()
        fire(hooks, "next")
    assert repo_ids(path) == [*written, "next"]


def test_torn_line_stays_as_it_is_when_the_disk_is_full(small_disk: Path) -> None:
    """A failed event takes out just what it has written itself."""
    path = small_disk / "events.jsonl"
    path.write_bytes(b"torn")
    with Hooks([JsonLines({"path": str(path)})]) as hooks:
        assert hooks.repo_sync_started(repo_id="x" * 200_000).failures
    assert path.read_bytes() == b"torn"


def test_entry_point_names_the_notifier() -> None:
    """What the package declares is the class."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["pulp_hooks"]["jsonl"].partition(":")
    assert getattr(import_module(module), name) is JsonLines


def test_readme_is_true(tmp_path: Path) -> None:
    """With the settings of the README its commands print what it shows, and its snippet reads what was written."""
    [settings] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "pulp-hooks.toml").write_text(settings, encoding="utf-8")
    for arguments, expected in re.findall(r"```console\n\$ pulp-hooks (.*?)\n(.*?)```", README, re.DOTALL):
        printed = run_installed(tmp_path, *arguments.split()).stdout
        assert without_seconds(printed) == without_seconds(expected)

    [snippet] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"id":"4ff7\xc3\n')
    reading = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True
    )
    assert reading.stdout == "repo-sync-started pulp-f17\n"

    [shown] = re.findall(r"```json\n(.*?)\n```", README, re.DOTALL)
    [written, _] = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert Event.from_json(shown).to_json() == shown
    assert Event.from_json(shown).body == Event.from_json(written).body
