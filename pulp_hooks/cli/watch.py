"""`pulp-hooks watch`."""

import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO
from urllib.parse import urlsplit

import click

from pulp_hooks.cli.live_lines import LiveLines
from pulp_hooks.cli.output import (
    counted,
    duration,
    echo_json,
    json_for,
    json_option,
    moment,
    settings_option,
    show_log,
    stdout_for_listeners,
)
from pulp_hooks.cli.parameters import MomentParameter
from pulp_hooks.cli.streams import echo_remark
from pulp_hooks.errors import SettingsError
from pulp_hooks.event import Event
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.pulp3 import PulpEvent, StateFolder, Watcher
from pulp_hooks.hosts.pulp3.checking import Check, lacking
from pulp_hooks.hosts.pulp3.checking import check as check_server
from pulp_hooks.hosts.pulp3.tasks import Kind, Task
from pulp_hooks.settings.model import PulpSettings
from pulp_hooks.settings.reading import FILE_NAME, ReadSettings, read_settings
from pulp_hooks.text import printable

STATE_FOLDER = "pulp-hooks-watch"
"""Name of the state folder beside the settings."""

_WIDTHS = (20, 12, 7, 9, 8)
"""Of the columns: time, server, operation, state, duration; the repository comes after the server."""

_NARROWEST, _REST = 12, 24
_COLOURS = {"success": "green", "failed": "red", "error": "red", "canceled": "yellow"}


@click.command(
    epilog="""\b
Examples:
  pulp-hooks watch
  pulp-hooks watch https://pulp.example.org --username watcher --check
  pulp-hooks watch --once --dry-run --since 2h
  pulp-hooks watch --replay-since 2026-11-23T15:00Z"""
)
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option("--username", envvar="PULP_USERNAME", show_envvar=True, help="User at the URLs, with viewer roles.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the password of the user, instead of $PULP_PASSWORD.",
)
@click.option("--ca-path", help="Certificates of the authorities to trust at the URLs.")
@click.option("--domain", "domains", multiple=True, help="Domain to watch at the URLs; repeatable.  [default: default]")
@click.option(
    "--interval", type=click.FloatRange(min=1), metavar="SECONDS", help="Time from one look to the next.  [default: 5]"
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder for how far each server was watched.  [default: {STATE_FOLDER} beside the settings]",
)
@click.option("--since", type=MomentParameter(), help="At a first start, report what finished then or later.")
@click.option("--replay-since", type=MomentParameter(), help="Fire again what finished since, and exit.")
@click.option("--once", is_flag=True, help="Look once at every server, and exit.")
@click.option("--dry-run", is_flag=True, help="Print the events; fire and store nothing.")
@click.option("--check", is_flag=True, help="Log in, say what would be watched and what is missing, and exit.")
@settings_option
@json_option
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one for each argument and option
    ctx: click.Context,
    urls: Sequence[str],
    username: str | None,
    password_file: Path | None,
    ca_path: str | None,
    domains: Sequence[str],
    interval: float | None,
    state: Path | None,
    since: float | None,
    replay_since: float | None,
    settings: str | None,
    *,
    once: bool,
    dry_run: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Watch Pulp 3 servers, firing the events of their syncs and publishes.

    Servers are the URLs, or the [[pulp]] tables of the settings. Nothing is installed on them: a user with viewer roles
    is enough, see --check.

    The first start reports what happens from then on, or what finished --since. Every later start continues where the
    last one ended. Events have ids of their own, so a journal stores none twice: run one with the settings, and
    `pulp-hooks worker` beside this command.

    On a terminal, what is running is shown below the events; otherwise every event is a line, with --json a line of
    JSON. Exit code 1 with --once, --replay-since or --check if a server could not be watched.
    """
    read = read_settings(settings)
    servers = _servers(read, urls, username, password_file, ca_path, domains)
    if interval is not None:
        servers = [replace(server, interval_seconds=interval) for server in servers]
    if check:
        _check(ctx, servers, as_json=as_json)
        return
    folder = StateFolder(state or read.folder / STATE_FOLDER)
    out = sys.stdout  # listeners print on another one
    code = 0
    with ExitStack() as stack:
        stack.enter_context(stdout_for_listeners(as_json=as_json))
        hooks = stack.enter_context(Hooks() if dry_run else Hooks.discover(settings))
        # Listeners that print would print into lines that are drawn anew.
        is_live = not as_json and out.isatty() and (dry_run or hooks.journal is not None)
        lines = LiveLines(out) if is_live else None
        show_log("pulp_hooks", None if lines is None else lines.add)
        printer = _Printer(hooks, out, lines, as_json=as_json)
        if replay_since is None and not dry_run:
            stack.enter_context(folder.locked())
        begin = since if replay_since is None else replay_since
        watcher = Watcher(
            servers,
            printer.fire,
            state=folder if replay_since is None else None,
            since=None if begin is None else datetime.fromtimestamp(begin, UTC),
            dry_run=dry_run,
        )
        if once or replay_since is not None:
            code = int(not watcher.run_once())
        else:
            _stop_by_signal(watcher)
            printer.begin(len(watcher.watched))
            watcher.run(partial(printer.draw, watcher))
    printer.end()
    ctx.exit(code)


def _servers(  # noqa: PLR0913, PLR0917 - one for each option
    read: ReadSettings,
    urls: Sequence[str],
    username: str | None,
    password_file: Path | None,
    ca_path: str | None,
    domains: Sequence[str],
) -> list[PulpSettings]:
    """Return the servers at the URLs, or those of the settings."""
    if not urls:
        servers = read.pulp_servers()
        if not servers:
            place = f"{read.path} has no [[pulp]] table" if read.path else f"there is no {FILE_NAME} here"
            raise click.UsageError(f"no server to watch: {place}; fix: pass a URL, or add a [[pulp]] table")
        return list(servers)
    password: dict[str, str] | None = None
    if username is not None:
        password = {"file": str(password_file.absolute())} if password_file else {"env": "PULP_PASSWORD"}
    try:
        return [
            PulpSettings(
                name=_name_of(url),
                url=url,
                username=username,
                password=password,
                ca_path=ca_path,
                domains=tuple(domains) or ("default",),
            ).resolved(Path())
            for url in urls
        ]
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _name_of(url: str) -> str:
    """Return a name for the server at a URL: its host, and its port unless that is the usual one."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", host).strip("-._") or "pulp"


class _Printer:
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


def _check(ctx: click.Context, servers: Sequence[PulpSettings], *, as_json: bool) -> None:
    """Check every server, print what was found, and exit."""
    jobs = [(server, domain) for server in servers for domain in server.domains]
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        checks = list(pool.map(lambda job: check_server(*job), jobs))
    if as_json:
        echo_json([asdict(one) for one in checks])
    else:
        for one in checks:
            _echo_check(one)
    ctx.exit(0 if all(one.is_good for one in checks) else 1)


def _echo_check(one: Check) -> None:
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
        lines.append(("clock", f"{one.clock_difference_seconds:+.0f} s against this machine"))
    for what, text in lines:
        click.echo(f"  {what:<13}{printable(text)}")
    for role in one.missing_roles:
        click.secho(f"  {lacking(role)}", fg="red")
    if one.missing_roles:
        click.echo("  fix: pulp user role-assignment add --username NAME --role ROLE --object ''")


def _stop_by_signal(watcher: Watcher) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        watcher.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
