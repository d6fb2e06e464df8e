"""What `pulp-hooks watch` prints: events, what is running, and what a check has found out."""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from pulp_hooks.cli.live_lines import LiveLines
from pulp_hooks.cli.output import counted, duration, json_for, moment
from pulp_hooks.cli.streams import echo_remark
from pulp_hooks.event import Event
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.pulp3 import PulpEvent, Watcher
from pulp_hooks.hosts.pulp3.checking import Check, lacking
from pulp_hooks.hosts.pulp3.tasks import Kind, Task
from pulp_hooks.text import printable

_WIDTHS = (20, 12, 7, 9, 8)
"""Of the columns: time, server, operation, state, duration; the repository comes after the server."""

_NARROWEST, _REST = 12, 24
_COLOURS = {"success": "green", "failed": "red", "error": "red", "canceled": "yellow"}


class FiringPrinter:
    """Fires events, and prints those that are new.

    Args:
        hooks: Where events are fired.
        out: Where they are printed.
        lines: The changing lines of a terminal; null elsewhere.
        as_json: Whether each event is a line of JSON.
    """

    def __init__(self, hooks: Hooks, out: TextIO, lines: LiveLines | None, *, as_json: bool) -> None:
        self._hooks = hooks
        self._out = out
        self._lines = lines
        self._as_json = as_json
        self._lock = threading.Lock()
        self._fired = 0
        self._known = 0

    def begin(self, watched: int) -> None:
        """Say what is watched."""
        if not self._as_json:
            click.echo(f"watching {counted(watched, 'server')}; Ctrl-C ends", err=True)

    def fire(self, server: str, event: PulpEvent) -> None:
        """Fire an event, and print it unless the journal knows it."""
        report = self._hooks.fire(
            event.event_type,
            event.body,
            call_report=event.call_report,
            event_id=event.event_id,
            operation_id=event.operation_id,
            caused_by=event.caused_by,
            source=event.source,
        )
        with self._lock:
            if report.is_duplicate:
                self._known += 1
                return
            self._fired += 1
            if self._as_json:
                click.echo(json_for(self._out, report.event.to_json()), file=self._out)
                return
            cells, result = _cells(server, report.event, event)
            if self._lines is None:
                click.secho("  ".join(filter(None, cells)), file=self._out, fg=_COLOURS.get(result))
            elif result:
                self._lines.add(_fitted(cells, self._lines.width), fg=_COLOURS.get(result))

    def draw(self, watcher: Watcher) -> None:
        """Draw what is running, and what is wrong, at the bottom of the terminal."""
        if self._lines is None:
            return
        rows = []
        for domain in watcher.watched:
            if domain.error is not None:
                rows.append(f"{domain.name}: {domain.error}")
            for task in domain.server.running if domain.server else ():
                if task.kind is not Kind.OTHER and task.started is not None and domain.server is not None:
                    repository = task.repository and domain.server.lookups.name(task.repository)
                    age = duration((datetime.now(UTC) - task.started).total_seconds())
                    cells = ["", domain.name, repository or "", task.kind.value, task.state, age, _progress(task)]
                    rows.append(_fitted(cells, self._lines.width))
        now = moment(datetime.now(UTC).timestamp())
        servers = counted(len(watcher.watched), "server")
        self._lines.draw([f"{now}  {servers} watched, {counted(self._fired, 'event')}", *rows])

    def end(self) -> None:
        """Say how many events there were."""
        if not self._as_json:
            known = f", {counted(self._known, 'event')} in the journal already" if self._known else ""
            echo_remark(f"{counted(self._fired, 'event')}{known}")


def _cells(server: str, event: Event, seen: PulpEvent) -> tuple[list[str], str]:
    """Return the cells of a line about an event, and the result of its operation.

    Args:
        server: Name of the server.
        event: The event as it was fired.
        seen: The event as the watcher made it: its times have fractions of seconds.
    """
    body: Mapping[str, Any] = event.body
    operation, step = event.type.value.removeprefix("repo-").split("-")
    result = str(body.get("result") or "")
    seconds = counts = ""
    if result:
        seconds = duration((seen.body["completed"] - seen.body["started"]).total_seconds())
        if operation == "sync":
            counts = f"+{body['added_count']} -{body['removed_count']}"
        if body["error_message"]:
            counts = printable(str(body["error_message"]))
    return [
        moment(event.time.timestamp()),
        server,
        printable(str(body["repo_id"])),
        operation,
        result or step,
        seconds,
        counts,
    ], result


def _progress(task: Task) -> str:
    """Return how far a running task is: its reports with what they have done so far."""
    reports = task.shown.get("progress_reports")
    shown = [one for one in reports if isinstance(one, dict)] if isinstance(reports, list) else []
    return printable(
        ", ".join(f"{one.get('message')} {one.get('done')}" for one in shown if one.get("state") == "running")
    )


def _fitted(cells: Sequence[str], width: int) -> str:
    """Return cells as one line in columns; the repository has what the terminal leaves."""
    others = sum(_WIDTHS) + 2 * len(_WIDTHS)
    widths = [*_WIDTHS[:2], max(_NARROWEST, width - others - _REST), *_WIDTHS[2:]]
    columns = [
        (cell if len(cell) <= size else f"{cell[: size - 1]}…").ljust(size)
        for cell, size in zip(cells, widths, strict=False)
    ]
    return "  ".join([*columns, *cells[len(widths) :]])[: width - 1].rstrip()


def echo_check(one: Check) -> None:
    """Print what was found out about one domain of a server."""
    click.secho(printable(one.server), bold=True)
    if one.error is not None:
        click.secho(f"  {printable(one.error)}", fg="red")
        return
    versions = one.versions | {"core": f"pulpcore {one.versions['core']}"}
    core, others = versions.pop("core"), ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    lines = [
        ("version", core),
        ("plugins", others),
        ("domain", one.domain if one.has_domains else f"{one.domain} (the server has no others)"),
        ("repositories", f"{one.repositories} watched, {one.hidden_repositories} left out by the settings"),
        ("tasks", f"{one.tasks} visible"),
    ]
    if one.clock_difference_seconds is not None:
        ahead = one.clock_difference_seconds
        lines.append(("clock", f"{ahead:+.0f} s against this machine" if ahead else "as on this machine"))
    for what, text in lines:
        click.echo(f"  {what:<13}{printable(text)}")
    for role in one.missing_roles:
        click.secho(f"  {lacking(role)}", fg="red")
    if one.missing_roles:
        click.echo("  fix: pulp user role-assignment add --username NAME --role ROLE --object ''")
