"""Interrupted runs: by `kill -9` at any moment, and by Ctrl-C."""

import signal
import subprocess
import sys
import time
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import mirror
from pulp_hooks.hosts.file_mirror.manifest import parse_manifest

if TYPE_CHECKING:
    from tests.hosts.file_mirror.conftest import Answer, Repository, WebServer

RUN = """
import sys
from pulp_hooks.hooks import Hooks
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.hosts.file_mirror import mirror

class Printer:
    @hookimpl
    def repo_sync_started(self):
        print("started", flush=True)

    @hookimpl
    def repo_sync_finished(self, body):
        print(body["result"], flush=True)

try:
    mirror(sys.argv[1], sys.argv[2], Hooks([Printer()]), repo_id="repo")
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("first", [True, False])
def test_run_killed_at_any_step_is_completed_by_the_next(
    repository: "Repository", tmp_path: Path, hooks: Hooks, *, first: bool
) -> None:
    """After every kill `current` is complete, old or new, and the next run has the same result as an unbroken one."""
    before = tmp_path / "before"
    if not first:
        repository.write({"same": "0", "changed": "1", "sub/gone": "2"})
        mirror(repository.folder, before, hooks, repo_id="repo")
        (repository.folder / "sub" / "gone").unlink()
    repository.write({"same": "0", "changed": "11", "sub/new": b"3" * 600_000})
    script = Path(__file__).with_name("kill_at_every_step.py")
    command = [sys.executable, str(script), str(repository.folder), str(before), str(tmp_path / "mirror")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 25


def test_download_killed_at_many_moments_is_completed_by_the_next_run(
    repository: "Repository", web: "WebServer", dest: Path, hooks: Hooks
) -> None:
    """Runs killed during their downloads keep their finished files for the next run."""
    repository.write({f"{number % 7}/{number}": b"x" * number * 100 for number in range(400)})
    repository.list_files()
    for fetched in (0, 1, 3, 10, 30, 100, 200):
        command = [sys.executable, "-c", RUN, web.url, str(dest)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout
            assert run.stdout.readline() == "started\n"
            while len(list(dest.glob("objects/*/*"))) < fetched and run.poll() is None:
                time.sleep(0.001)
            run.kill()
        if (dest / "current").is_symlink():
            entries = parse_manifest((dest / "current" / "PULP_MANIFEST").read_bytes(), "m")
            assert all((dest / "current" / entry.path).stat().st_size == entry.size for entry in entries)
    kept = len(list(dest.glob("objects/*/*")))
    assert kept >= 200
    result = mirror(web.url, dest, hooks, repo_id="repo")
    assert result.downloaded_files == 400 - kept
    assert len(parse_manifest((dest / "current" / "PULP_MANIFEST").read_bytes(), "m")) == 400
    assert list((dest / ".temporary").iterdir()) == []


def stall_at_once(handler: SimpleHTTPRequestHandler) -> None:
    """Take the request, and send nothing."""
    handler.web.released.wait()  # type: ignore[attr-defined]


def stall_in_the_body(handler: SimpleHTTPRequestHandler) -> None:
    """Send a part of the body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b"xx")
    stall_at_once(handler)


@pytest.mark.parametrize("stall", [stall_at_once, stall_in_the_body])
@pytest.mark.parametrize("path", ["/PULP_MANIFEST", "/b"])
def test_ctrl_c_ends_a_run_at_once(
    repository: "Repository", web: "WebServer", dest: Path, path: str, stall: "Answer"
) -> None:
    """The event has result `canceled`, and the process ends although the server keeps it waiting."""
    repository.write({"a": "1", "b": "xxxx"})
    repository.list_files()
    web.answers[path] = stall
    with subprocess.Popen([sys.executable, "-c", RUN, web.url, str(dest)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        assert run.stdout.readline() == "started\n"
        while path not in web.paths:
            time.sleep(0.005)
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert run.stdout.read() == "canceled\n"
        assert run.wait(10) == 130
        assert time.monotonic() - begin < 5
    if stall is stall_in_the_body:
        assert list((dest / ".temporary").iterdir()) == []
