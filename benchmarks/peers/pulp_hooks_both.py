"""What pulp_hooks does on either database."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import job
from pulp_hooks import EventType, Hooks, hookimpl
from pulp_hooks.bodies.examples import EXAMPLES

_SETTINGS = """
[plugins]
block = ["console", "jsonl"]

[journal]
url = "{url}"
synchronous = "FULL"

[delivery]
timeout_seconds = 5
"""


class Listener:
    """Does the job."""

    @hookimpl
    def repo_sync_finished(self, body: dict[str, object]) -> None:
        """Do the job."""
        job.do(json.dumps(body))


def hooks_on(url: str) -> Hooks:
    """Return hooks with a journal, and a time limit of 5 seconds for an attempt."""
    settings = Path("pulp-hooks.toml")
    settings.write_text(_SETTINGS.format(url=url))
    return Hooks.discover(settings, listeners={"Listener": Listener()})


@contextmanager
def firing_into(url: str) -> Iterator[Callable[[str], object]]:
    """Yield what fires."""
    body = EXAMPLES[EventType.REPO_SYNC_FINISHED] | {"details": "x" * 550}
    with hooks_on(url) as hooks:
        yield lambda _: hooks.fire(EventType.REPO_SYNC_FINISHED, body)


def work_on(url: str) -> None:
    """Work."""
    hooks_on(url).worker(threads_per_listener=1).run()
