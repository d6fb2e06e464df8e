"""`pulp-hooks worker`."""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from types import FrameType
from typing import TextIO

import click

from pulp_hooks.cli.deadline import Deadline, end_at_once
from pulp_hooks.cli.output import (
    counted,
    deliveries,
    json_for,
    json_option,
    moment_json,
    settings_option,
    show_log,
    stdout_for_listeners,
)
from pulp_hooks.cli.streams import echo_remark
from pulp_hooks.hooks import Hooks
from pulp_hooks.worker.attempts import NOT_CALLED, Ending
from pulp_hooks.worker.watchdog import ending_when_frozen
from pulp_hooks.worker.worker import GRACE_SECONDS, Worker

_FIELDS = ("event_id", "delivery", "listener", "attempt", "seconds", "status", "state", "error", "due")
_LOOK_SECONDS = 0.2

_CLOSING_SECONDS = 5.0
"""How long it may take to record what was cut short and to close the listeners, after the grace time."""

_KILLED = 128
"""A process that a signal ends at once has this and the number of the signal as its exit code, as shells have it."""


@click.command(
    epilog="""\b
Examples:
  pulp-hooks worker
  pulp-hooks worker --threads-per-listener 16 --settings site.toml
  pulp-hooks worker --once --json"""
)
@click.option(
    "--threads-per-listener",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    help="Most attempts of each listener at the same time.",
)
@click.option("--once", is_flag=True, help="Deliver what is due, and exit.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE_SECONDS,
    show_default=True,
    help="Seconds for running attempts to finish after SIGTERM or Ctrl-C.",
)
@settings_option
@json_option
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    ctx: click.Context, *, threads_per_listener: int, once: bool, grace: float, settings: str | None, as_json: bool
) -> None:
    """Deliver events from the journal to the listeners.

    Any number of workers may run: on one machine with SQLite, on many with PostgreSQL. After SIGTERM or Ctrl-C, running
    attempts have the grace time to finish; then their deliveries are released, and the exit code is 0. A second signal
    ends the worker at once, and nothing is lost. The worker ends at most five seconds after the grace time, even if a
    listener has left a thread behind.

    Without --once, the worker waits for a server that is not up yet. A listener that blocks every thread, such as a
    regular expression that backtracks without end, ends the worker with a traceback and exit code 1.

    Every attempt is a line on standard error; with --json it is a line of JSON on standard output.
    """
    if as_json:
        _log_json(sys.stdout)
    else:
        show_log("pulp_hooks")
    logging.getLogger("pulp_hooks.worker").setLevel(logging.INFO)
    deadline, longest = Deadline(), grace + _CLOSING_SECONDS
    with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
        worker = hooks.worker(threads_per_listener=threads_per_listener)
        stopping = _end_by_signal(worker, grace, lambda: deadline.begin(longest))
        # Signals reach the main thread, which therefore does nothing but wait.
        with (
            ending_when_frozen(worker.frozen_seconds),
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="pulp_hooks worker") as main,
        ):
            running = main.submit(worker.run_once if once else worker.run)
            # A signal just before a wait begins, or to another thread, is handled when that wait is over.
            while not running.done():
                wait([running], _LOOK_SECONDS)
        # A notifier may hang when it is closed, and a listener may have left threads.
        # A single run that was not stopped has to deliver everything that it claimed.
        is_incomplete = once and not stopping.is_set() and worker.tally[Ending.SUCCEEDED] < worker.tally.total()
        deadline.code = int(running.exception() is not None or is_incomplete)
        deadline.begin(longest)
        running.result()
    if not as_json:
        given_back = sum(worker.tally[ending] for ending in NOT_CALLED)
        attempts, succeeded = worker.tally.total() - given_back, worker.tally[Ending.SUCCEEDED]
        also = f", {deliveries(given_back)} given back" if given_back else ""
        echo_remark(f"{counted(attempts, 'attempt')}, {succeeded} delivered{also}")
    if worker.hung:
        end_at_once(deadline.code, [f"warning: listener {name} has not returned" for name in worker.hung])
    ctx.exit(deadline.code)


def _end_by_signal(worker: Worker, grace_seconds: float, stopped: Callable[[], None]) -> Event:
    """Stop the worker on signals, and call a function then; return an event that is set by the first signal."""
    stopping = Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        stopping.set()
        for later in (signal.SIGTERM, signal.SIGINT):
            signal.signal(later, lambda again, _: os._exit(_KILLED + again))
        worker.request_stop(grace_seconds)
        stopped()
        with suppress(OSError, ValueError):
            click.echo(
                f"{signal.Signals(number).name}: finishing running attempts; send it again to end at once", err=True
            )

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stopping


def _log_json(stream: TextIO) -> None:
    package = logging.getLogger("pulp_hooks")
    package.propagate = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonLines(stream))
    package.addHandler(handler)


class _JsonLines(logging.Formatter):
    """Formats records as lines of JSON, for a stream."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if "due" in line:
            line["due"] = moment_json(getattr(record, "due", None))
        return json_for(self._stream, json.dumps(line, ensure_ascii=False))
