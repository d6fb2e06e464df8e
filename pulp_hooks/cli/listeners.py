"""`pulp-hooks listeners`."""

import os

import click

from pulp_hooks.cli.journal_access import ListenerParameter, confirmed, journal_of, known_listener
from pulp_hooks.cli.output import (
    counted,
    deliveries,
    echo_json,
    echo_table,
    json_option,
    printable,
    settings_option,
    show_log,
    stdout_for_listeners,
)
from pulp_hooks.cli.parameters import checked_text
from pulp_hooks.errors import PulpHooksError
from pulp_hooks.hooks import Hooks
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.settings.reading import AUTOLOAD_VARIABLE

_COLOURS = {"loaded": "green", "broken": "red", "blocked": "yellow", "disabled": "red"}


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  pulp-hooks listeners
  pulp-hooks listeners --settings site.toml --json
  pulp-hooks listeners disable audit --reason "the disk is full"
  pulp-hooks listeners enable audit""",
)
@settings_option
@json_option
@click.pass_context
def command(ctx: click.Context, settings: str | None, *, as_json: bool) -> None:
    """List the installed and configured listeners; disable and enable them.

    A plugin is listed as it is installed, a notifier as installed and once more for each listener that the settings
    make of it. The configuration of listeners is never shown: it may hold secrets.
    """
    ctx.obj = settings
    if ctx.invoked_subcommand:
        return
    show_log("pulp_hooks.plugins")
    with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
        hooks.build_notifiers()
        listeners, problems = hooks.listeners, hooks.problems
    reasons = _disabled(settings)
    if as_json:
        keys = ("name", "kind", "distribution", "version", "hooks")
        lines = [{key: getattr(x, key) for key in keys} | {"state": _state(x, reasons)} for x in listeners]
        echo_json([line | {"disabled": reasons.get(line["name"])} for line in lines])
        return
    if listeners:
        rows = [
            [x.name, x.kind, x.distribution or "", x.version or "", ", ".join(x.hooks), _state(x, reasons)]
            for x in listeners
        ]
        echo_table(["NAME", "KIND", "DISTRIBUTION", "VERSION", "HOOKS", "STATE"], rows, _COLOURS)
    else:
        click.echo(f"no listener is loaded; {_reason()}")
    for name, reason in reasons.items():
        click.secho(printable(f"{name} is disabled: {reason}"), fg="yellow", err=True)
    if problems:
        click.secho(f"{counted(len(problems), 'problem')}; `pulp-hooks check` tells them", fg="red", err=True)


@command.command("disable", epilog='\b\nExample:\n  pulp-hooks listeners disable audit --reason "the disk is full"')
@click.argument("name", type=ListenerParameter(), callback=checked_text)
@click.option(
    "--reason",
    default="by hand",
    show_default=True,
    callback=checked_text,
    help="Why; it is shown where the listener is listed.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--settings", type=click.Path(exists=True, dir_okay=False), help="Settings file.")
@json_option
@click.pass_obj
def disable(  # noqa: PLR0913 - one for each argument and option
    inherited: str | None, name: str, reason: str, settings: str | None, *, yes: bool, as_json: bool
) -> None:
    """Disable a listener: what it is to have is held until it is enabled."""
    # Those who have no journal need not have what it is made of.
    from pulp_hooks.journal.browsing import Browsing  # noqa: PLC0415
    from pulp_hooks.journal.listeners import Listeners  # noqa: PLC0415

    if not reason.strip():
        raise click.UsageError("--reason must not be empty: it is shown where the listener is listed")
    show_log("pulp_hooks.plugins")
    with journal_of(settings or inherited) as (journal, _):
        with stdout_for_listeners(as_json=as_json), Hooks.discover(settings or inherited) as hooks:
            kinds = {listener.name: listener.kind for listener in hooks.listeners}
        if kinds.get(name) is Kind.NOTIFIER:
            raise click.UsageError(f"{name!r} is a notifier, which has no deliveries; name a listener made of it")
        browsing = Browsing(journal.database)
        if name not in kinds and not browsing.knows(name):
            known_listener(name, [*kinds, *browsing.listeners()])
        confirmed(f"Hold all deliveries to {name}?", yes=yes)
        held = Listeners(journal.database).disable(name, reason)
    if as_json:
        echo_json({"listener": name, "disabled": True, "held": held})
    else:
        click.echo(f"{name} is disabled, {deliveries(held)} held")


@command.command("enable", epilog="\b\nExample:\n  pulp-hooks listeners enable audit")
@click.argument("name", type=ListenerParameter(), callback=checked_text)
@click.option("--settings", type=click.Path(exists=True, dir_okay=False), help="Settings file.")
@json_option
@click.pass_obj
def enable(inherited: str | None, name: str, settings: str | None, *, as_json: bool) -> None:
    """Enable a listener: what was held is delivered, oldest first, as many in each second as the settings say."""
    from pulp_hooks.journal.browsing import Browsing  # noqa: PLC0415 - as above
    from pulp_hooks.journal.listeners import Listeners  # noqa: PLC0415 - as above

    with journal_of(settings or inherited) as (journal, read):
        listeners = Listeners(journal.database)
        disabled = [state.name for state in listeners.known() if state.disabled_at is not None]
        browsing = Browsing(journal.database)
        if name not in disabled and not browsing.knows(name):
            known_listener(name, [*disabled, *browsing.listeners()])
        rate = read.settings.delivery_of(name).resume_per_second
        resumed = listeners.enable(name, rate)
        if name not in disabled and not resumed:
            raise click.UsageError(f"the listener {name!r} is not disabled")
    if as_json:
        echo_json({"listener": name, "disabled": False, "resumed": resumed})
    else:
        click.echo(f"{name} is enabled, {deliveries(resumed)} to be made, {rate:g} in each second")


def _disabled(settings: str | None) -> dict[str, str]:
    """Give why listeners are disabled; nothing where there is no journal to tell."""
    try:
        with journal_of(settings) as (journal, _):
            from pulp_hooks.journal.listeners import Listeners  # noqa: PLC0415 - as above

            known = Listeners(journal.database).known()
    except PulpHooksError:
        return {}
    return {state.name: state.reason or "" for state in known if state.disabled_at is not None}


def _state(listener: Listener, reasons: dict[str, str]) -> str:
    return "disabled" if listener.name in reasons and listener.state is State.LOADED else listener.state


def _reason() -> str:
    if os.environ.get(AUTOLOAD_VARIABLE):
        return f"{AUTOLOAD_VARIABLE} is set"
    return "a package with an entry point in the group pulp_hooks brings one"
