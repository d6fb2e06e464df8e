"""Listeners that do not end: closing them has a time limit, and they are named."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pulp_hooks import Event, Hooks, Notifier
from pulp_hooks.plugins import closing


def test_listener_whose_close_hangs_is_named_and_abandoned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other listeners are closed, and `close` returns."""
    monkeypatch.setattr(closing, "_CLOSE_SECONDS", 0.1)
    release, closed = threading.Event(), threading.Event()

    class Quick(Notifier):
        def notify(self, event: Event) -> None:
            """Do nothing."""

        def close(self) -> None:
            closed.set()

    class Stuck(Quick):
        def close(self) -> None:
            release.wait()

    Hooks([Quick({}), Stuck({})]).close()
    release.set()
    assert closed.is_set()
    assert "listener Stuck is not closed after 0.1 s" in caplog.text


def test_command_ends_although_a_listener_left_a_thread_behind(tmp_path: Path) -> None:
    """The listener is named, and the exit code is the command's."""
    script = f"import sys, threading, time; sys.path[:0] = [{str(tmp_path)!r}]; import left; left.main()"
    (tmp_path / "left.py").write_text(
        "import sys, threading, time\n"
        "from pulp_hooks.cli import main as command\n"
        "def main():\n"
        "    threading.Thread(target=time.sleep, args=(600,), name='stuck').start()\n"
        "    sys.argv[1:] = ['event-types']\n"
        "    command()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert "stuck" in ended.stderr
    assert "repo-sync-started" in ended.stdout
