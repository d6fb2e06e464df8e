"""`pulp-hooks watch`."""

import re
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from pulp_hooks.cli.live_lines import LiveLines
from pulp_hooks.cli.output import (
    echo_json,
    json_option,
    settings_option,
    show_log,
    stdout_for_listeners,
)
from pulp_hooks.cli.parameters import MomentParameter
from pulp_hooks.cli.watch_output import FiringPrinter, echo_check
from pulp_hooks.errors import SettingsError
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.pulp3 import StateFolder, Watcher
from pulp_hooks.hosts.pulp3.checking import check as check_server
from pulp_hooks.settings.model import PulpSettings
from pulp_hooks.settings.reading import FILE_NAME, ReadSettings, read_settings

STATE_FOLDER = "pulp-hooks-watch"
"""Name of the state folder beside the settings."""

_OF_URLS = {"username", "password_file", "ca_path", "domains"}
"""Options for the servers at URLs; those of the settings have keys for them."""

_EXCLUDING = (
    ("since", "replay_since"),
    ("once", "replay_since"),
    ("since", "check"),
    ("replay_since", "check"),
    ("once", "check"),
    ("dry_run", "check"),
)


@click.command(
    epilog="""\b
Examples:
  pulp-hooks watch
  pulp-hooks watch https://pulp.example.org --username watcher --check
  pulp-hooks watch --dry-run --replay-since 2h
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
    _refuse_what_does_nothing(ctx)
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
        printer = FiringPrinter(hooks, out, lines, as_json=as_json)
        if replay_since is None and not dry_run:
            stack.enter_context(folder.locked())
        begin = since if replay_since is None else replay_since
        watcher = Watcher(
            servers,
            printer.fire,
            state=folder if replay_since is None else None,
            since=None if begin is None else datetime.fromtimestamp(max(begin, 0.0), UTC),
            dry_run=dry_run,
        )
        if once or replay_since is not None:
            if hooks.journal is not None:
                hooks.journal.open()
            code = int(not watcher.run_once())
        else:
            _stop_by_signal(watcher)
            printer.begin(len(watcher.watched))
            watcher.run(partial(printer.draw, watcher))
    printer.end()
    ctx.exit(code)


def _refuse_what_does_nothing(ctx: click.Context) -> None:
    """Raise a usage error for options that would be ignored beside the others."""
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if not ctx.params["urls"] and (ignored := given & _OF_URLS):
        option = _option(min(ignored))
        raise click.UsageError(f"{option} is for servers at URLs; fix: pass a URL, or set it in the [[pulp]] table")
    for one, other in _EXCLUDING:
        if {one, other} <= given:
            raise click.UsageError(f"{_option(one)} does nothing with {_option(other)}; fix: leave it out")


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-').replace('domains', 'domain')}"


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


def _check(ctx: click.Context, servers: Sequence[PulpSettings], *, as_json: bool) -> None:
    """Check every server, print what was found, and exit."""
    jobs = [(server, domain) for server in servers for domain in server.domains]
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        checks = list(pool.map(lambda job: check_server(*job), jobs))
    if as_json:
        echo_json([asdict(one) for one in checks])
    else:
        for one in checks:
            echo_check(one)
    ctx.exit(0 if all(one.is_good for one in checks) else 1)


def _stop_by_signal(watcher: Watcher) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        watcher.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
