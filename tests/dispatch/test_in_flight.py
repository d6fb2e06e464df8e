"""Events in flight: an interruption at any point leaves none behind."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from pulp_hooks import Hooks, JournalError, hookimpl
from pulp_hooks import hooks as hooks_module
from pulp_hooks.settings.model import JournalSettings

ROUNDS = 2000

HOST = """
import random, signal, sys, threading
from pulp_hooks import Hooks, hookimpl

class Alarm(BaseException):
    pass

def handler(*_):
    raise Alarm

class Listener:
    @hookimpl
    def repo_sync_started(self):
        pass

signal.signal(signal.SIGALRM, handler)
hooks = Hooks([Listener()])
hooks.repo_sync_started(repo_id="zoo")
kept, hits = [], 0
for _ in range(int(sys.argv[1])):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 8e-4))
        try:
            while True:
                hooks.repo_sync_started(repo_id="zoo")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm as alarm:
        # Its traceback keeps the frames alive.
        kept = [*kept[-50:], alarm]
        hits += 1
threads = [threading.Thread(target=hooks.repo_sync_started, kwargs={"repo_id": "zoo"}, daemon=True) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
assert not any(thread.is_alive() for thread in threads), "other threads hang"
closing = threading.Thread(target=hooks.close, daemon=True)
closing.start()
closing.join(30)
assert not closing.is_alive(), "close() hangs"
assert not hooks._in_flight._events, hooks._in_flight._events
print(hits)
"""


def test_exceptions_of_signals_at_any_point_leave_no_event_in_flight(tmp_path: Path) -> None:
    """After thousands of such exceptions other threads can fire, and `close` returns."""
    command = [sys.executable, "-c", HOST, str(ROUNDS)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) == ROUNDS


class Waiting:
    """A listener that waits on the event loop."""

    @hookimpl
    async def repo_sync_started(self) -> None:
        """Wait for ever."""
        await asyncio.sleep(600)


def close_coroutines(*tasks: asyncio.Task[Any]) -> None:
    """Close the coroutines of tasks whose loop is closed, as the garbage collector would."""
    for task in tasks:
        # asyncio need not log it.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = task.get_coro()
        assert isinstance(coroutine, Coroutine)
        coroutine.close()


def test_loop_closed_inside_of_afire_leaves_no_event_in_flight() -> None:
    """`close` in another thread does not wait for a coroutine that can never continue."""
    hooks = Hooks([Waiting()])
    loop = asyncio.new_event_loop()
    firing = loop.create_task(hooks.afire("repo-sync-started", {"repo_id": "zoo"}))
    loop.run_until_complete(asyncio.sleep(0.01))
    pending = asyncio.all_tasks(loop) - {firing}
    loop.close()
    closing = threading.Thread(target=hooks.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    assert not firing.done()
    close_coroutines(firing, *pending)


def test_coroutine_of_afire_that_is_closed_elsewhere_leaves_no_event_in_flight() -> None:
    """It may be closed in another context than the one where it began."""
    hooks = Hooks([Waiting()])
    loop = asyncio.new_event_loop()
    coroutine = hooks.afire("repo-sync-started", {"repo_id": "zoo"})

    async def begin() -> None:
        coroutine.send(None)

    loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    coroutine.close()
    assert not hooks._in_flight._events
    hooks.close()


def test_listener_whose_loop_is_closed_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    """The host closed the loop, and the coroutine with it."""
    hooks = Hooks([Waiting()])
    loop = asyncio.new_event_loop()
    firing = loop.create_task(hooks.afire("repo-sync-started", {"repo_id": "zoo"}))
    loop.run_until_complete(asyncio.sleep(0.01))
    pending = asyncio.all_tasks(loop) - {firing}
    loop.close()
    close_coroutines(firing, *pending)
    assert not caplog.records
    hooks.close()


def test_event_fired_while_the_thread_opens_the_journal_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler or `__del__` may fire at any point; the thread must not deadlock."""
    # A journal that cannot be opened when the Hooks are created is opened when an event is fired.
    (tmp_path / "pulp-hooks.toml").write_text("[journal]\nurl = 'nonsense'\n")
    hooks = Hooks.discover(tmp_path / "pulp-hooks.toml")
    errors: list[str] = []

    def fire_again(_: JournalSettings) -> None:
        try:
            hooks.repo_sync_started(repo_id="zoo")
        except JournalError as error:
            errors.append(str(error))
        raise JournalError("outer")

    # A signal at this point cannot be provoked from outside.
    monkeypatch.setattr(hooks_module, "open_journal", fire_again)
    with pytest.raises(JournalError):
        hooks.repo_sync_started(repo_id="zoo")
    assert len(errors) == 1
    assert "while this thread was opening it" in errors[0]
