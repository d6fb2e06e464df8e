"""Hosts whose threads are greenlets of gevent, which share one native thread and its event loop."""

import subprocess
import sys

import pytest

HOST = """
from gevent import monkey
monkey.patch_all()
import asyncio, contextvars, gevent
from pulp_hooks import Hooks, hookimpl

number = contextvars.ContextVar("number")
seen = set()

class Listener:
    @hookimpl
    async def repo_sync_started(self, body):
        waiting.append(body["repo_id"])
        while len(waiting) < 4:
            await asyncio.sleep(0.001)
        seen.add((body["repo_id"], number.get()))

def fire(own):
    number.set(own)
    return [outcome.error for outcome in hooks.repo_sync_started(repo_id=f"zoo{own}").outcomes]

waiting = []
hooks = Hooks([Listener()])
greenlets = [gevent.spawn(fire, own) for own in range(4)]
gevent.joinall(greenlets, raise_error=True)
assert [greenlet.value for greenlet in greenlets] == [[None]] * 4, [greenlet.value for greenlet in greenlets]
assert seen == {(f"zoo{own}", own) for own in range(4)}, seen
hooks.close()
print("done")
"""


def test_greenlets_fire_at_an_async_listener_at_the_same_time() -> None:
    """Each call has an event loop in a native thread, and the context of its greenlet."""
    pytest.importorskip("gevent", reason="gevent is not installed")
    ended = subprocess.run([sys.executable, "-c", HOST], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.returncode) == ("done\n", 0), ended.stderr
