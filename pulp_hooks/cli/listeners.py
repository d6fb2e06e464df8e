"""`pulp-hooks listeners`."""

import os

import click

from pulp_hooks.cli.output import (
    counted,
    echo_json,
    echo_table,
    json_option,
    settings_option,
    show_log,
    stdout_for_listeners,
)
from pulp_hooks.hooks import Hooks
from pulp_hooks.settings.reading import AUTOLOAD_VARIABLE

_COLOURS = {"loaded": "green", "broken": "red", "blocked": "yellow"}


@click.command(epilog="\b\nExamples:\n  pulp-hooks listeners\n  pulp-hooks listeners --settings site.toml --json")
@settings_option
@json_option
def command(settings: str | None, *, as_json: bool) -> None:
    """List the installed and configured listeners.

    A plugin is listed as it is installed, a notifier as installed and once more for each listener that the settings
    make of it. The configuration of listeners is never shown: it may hold secrets.
    """
    show_log("pulp_hooks.plugins")
    with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
        listeners, problems = hooks.listeners, hooks.problems
    if as_json:
        keys = ("name", "kind", "state", "distribution", "version", "hooks")
        echo_json([{key: getattr(listener, key) for key in keys} for listener in listeners])
        return
    if listeners:
        rows = [[x.name, x.kind, x.distribution or "", x.version or "", ", ".join(x.hooks), x.state] for x in listeners]
        echo_table(["NAME", "KIND", "DISTRIBUTION", "VERSION", "HOOKS", "STATE"], rows, _COLOURS)
    else:
        click.echo(f"no listener is loaded; {_reason()}")
    if problems:
        click.secho(f"{counted(len(problems), 'problem')}; `pulp-hooks check` tells them", fg="red", err=True)


def _reason() -> str:
    if os.environ.get(AUTOLOAD_VARIABLE):
        return f"{AUTOLOAD_VARIABLE} is set"
    return "a package with an entry point in the group pulp_hooks brings one"
