"""The command line: one file per command, each imported when it is used, so that `--help` answers at once."""

import logging
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from pulp_hooks.cli import streams
from pulp_hooks.errors import PulpHooksError
from pulp_hooks.text import did_you_mean

COMMANDS = {
    "event-types": "List the four event types with all their names.",
    "schema": "Print the JSON Schema of an event type's body.",
    "listeners": "List the installed and configured listeners; add, change, test, disable and rename them.",
    "check": "Check plugins, settings and journal, and say how to fix what is wrong.",
    "fire": "Fire an event at the listeners, to try them out.",
    "mirror": "Sync a file repository and publish it, firing its events.",
    "watch": "Watch Pulp 3 servers, firing the events of their syncs and publishes.",
    "worker": "Deliver events from the journal to the listeners.",
    "deliveries": "List the deliveries of the journal, or show one with its attempts.",
    "events": "List the events of the journal.",
    "stats": "Show statistics of each listener.",
    "replay": "Make finished deliveries due again.",
    "backfill": "Deliver past events to a listener that was added later.",
    "prune": "Delete finished deliveries past their retention, and events without any.",
    "journal": "Show the schema version of the journal; upgrade it.",
}
"""Every command with its short help; its file in this folder has its name with underscores."""

_EXTRAS = {"sqlalchemy": "journal", "urllib3": "pulp", "filelock": "pulp"}
"""The extra that installs a package that some commands need."""

_GRACE_SECONDS = 3.0
"""How long a command waits for threads that listeners have left behind."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""


class _Commands(click.Group):
    """Imports a command when it is used, and prints every error as one message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        try:
            command: click.Command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(
                f"{cmd_name} needs {error.name}, which is not installed; fix: install pulp-hooks[{extra}]"
            ) from error
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        hint = did_you_mean(args[0], COMMANDS)
        if args[0] not in COMMANDS and hint and not ctx.resilient_parsing:
            ctx.fail(f"unknown command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return self._invoke(ctx)
        except click.ClickException:
            streams.expect_message()
            raise

    def _invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PulpHooksError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\ncanceled", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise click.ClickException(
                f"unexpected {type(error).__name__}: {error} "
                f"({Path(place.filename).name}, line {place.lineno}); please report it"
            ) from error


@click.group(
    cls=_Commands,
    epilog="""\b
Examples:
  pulp-hooks check
  pulp-hooks fire repo-sync-finished
  pulp-hooks mirror https://example.org/files/ /srv/mirror --repo-id files

Shell completion: eval "$(_PULP_HOOKS_COMPLETE=bash_source pulp-hooks)", or zsh_source, or fish_source.""",
)
@click.version_option(package_name="pulp-hooks", prog_name="pulp-hooks")
def cli() -> None:
    """Reliable event hooks for content repositories.

    Listeners are called when repositories are synced and published. They are installed packages; `pulp-hooks listeners`
    lists them.
    """


def main() -> NoReturn:
    """Run the command line.

    Exit codes: 0 done, 1 something failed, is wrong or could not be written, 2 wrong usage, 130 canceled by Ctrl-C, 143
    by SIGTERM.
    """
    # When a pooled connection dies, the pool logs a traceback; the user of the connection gets an error anyway.
    logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())
    streams.protect()
    code = 0
    try:
        cli(args=sys.argv[1:], prog_name="pulp-hooks")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    code = streams.finish(code)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread()):
        # Left behind by listeners: Python would wait for them without limit.
        from pulp_hooks.cli.deadline import Deadline  # noqa: PLC0415 - `--help` answers without what it needs

        Deadline(code).begin(_GRACE_SECONDS)
    sys.exit(code)
