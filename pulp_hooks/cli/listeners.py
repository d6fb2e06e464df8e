"""`pulp-hooks listeners`."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from marshmallow import ValidationError

from pulp_hooks.cli import listener_settings
from pulp_hooks.cli.journal_access import ListenerParameter, confirmed, journal_of, known_listener
from pulp_hooks.cli.output import (
    counted,
    deliveries,
    echo_json,
    echo_result,
    echo_table,
    json_option,
    moment,
    moment_json,
    settings_option,
    show_log,
    stdout_for_listeners,
    yes_option,
)
from pulp_hooks.cli.parameters import EventTypeParameter, checked_text
from pulp_hooks.cli.report import echo_report
from pulp_hooks.errors import PulpHooksError
from pulp_hooks.event_types import EventType
from pulp_hooks.hooks import Hooks
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.settings.reading import AUTOLOAD_VARIABLE
from pulp_hooks.settings.schemas import NAME
from pulp_hooks.text import printable

if TYPE_CHECKING:
    from pulp_hooks.journal.listeners import StoredListener

_COLOURS = {"loaded": "green", "broken": "red", "blocked": "yellow", "disabled": "red"}


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  pulp-hooks listeners
  pulp-hooks listeners --settings site.toml --json
  pulp-hooks listeners add ci --notifier http --set url=https://ci.example.org/hook
  pulp-hooks listeners test ci
  pulp-hooks listeners disable audit --reason "the disk is full"
  pulp-hooks listeners enable audit""",
)
@settings_option
@json_option
@click.pass_context
def command(ctx: click.Context, settings: str | None, *, as_json: bool) -> None:
    """List the installed and configured listeners; add, change, test, disable and rename them.

    A notifier has a line of its own, and one for each listener that the settings make of it. The list never shows
    the configuration of listeners: it may hold secrets.
    """
    if ctx.invoked_subcommand:
        return
    show_log("pulp_hooks.plugins")
    with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
        hooks.build_notifiers()
        listeners, problems = hooks.listeners, hooks.problems
    disabled = _disabled(settings)
    if as_json:
        keys = ("name", "kind", "distribution", "version", "hooks")
        lines = [{key: getattr(x, key) for key in keys} | {"state": _state(x, disabled)} for x in listeners]
        echo_json([line | _disabling(disabled.get(line["name"])) for line in lines])
        return
    if listeners:
        rows = [
            [x.name, x.kind, x.distribution or "", x.version or "", ", ".join(x.hooks), _state(x, disabled)]
            for x in listeners
        ]
        echo_table(["NAME", "KIND", "DISTRIBUTION", "VERSION", "HOOKS", "STATE"], rows, _COLOURS)
    else:
        click.echo(f"no listener is loaded; {_reason()}")
    for name, known in disabled.items():
        text = f"{name} is disabled since {moment(known.disabled_at)}: {known.reason}"
        click.secho(printable(text), fg="yellow", err=True)
    if problems:
        click.secho(f"{counted(len(problems), 'problem')}; run `pulp-hooks check` for details", fg="red", err=True)


for _editing in listener_settings.COMMANDS:
    command.add_command(_editing)


@command.command("disable", epilog='\b\nExample:\n  pulp-hooks listeners disable audit --reason "the disk is full"')
@click.argument("name", type=ListenerParameter(), callback=checked_text)
@click.option(
    "--reason",
    default="by hand",
    show_default=True,
    callback=checked_text,
    help="Why; shown wherever the listener is listed.",
)
@yes_option
@settings_option
@json_option
def disable(name: str, reason: str, settings: str | None, *, yes: bool, as_json: bool) -> None:
    """Disable a listener: its deliveries are on hold until it is enabled."""
    if not reason.strip():
        raise click.UsageError("--reason must not be empty: it is shown wherever the listener is listed")
    show_log("pulp_hooks.plugins")
    with journal_of(settings) as (journal, _):
        with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
            kinds = {listener.name: listener.kind for listener in hooks.listeners}
        if kinds.get(name) is Kind.NOTIFIER:
            raise click.UsageError(f"{name!r} is a notifier, which has no deliveries; name a listener made of it")
        known_listener(name, [*kinds, *(known.name for known in journal.listeners())])
        confirmed(f"Put all deliveries to {name} on hold?", yes=yes)
        before = next((known.reason for known in journal.listeners() if known.name == name and known.disabled_at), None)
        held = journal.disable(name, reason)
    already = "" if before is None else f" already ({printable(before)})"
    text = f"{name} is disabled{already}, {deliveries(held)} on hold"
    echo_result({"listener": name, "disabled": True, "held": held}, text, as_json=as_json)


@command.command("enable", epilog="\b\nExample:\n  pulp-hooks listeners enable audit")
@click.argument("name", type=ListenerParameter(), callback=checked_text)
@settings_option
@json_option
def enable(name: str, settings: str | None, *, as_json: bool) -> None:
    """Enable a listener: deliveries on hold become due, oldest first, `resume_per_second` of the settings."""
    with journal_of(settings) as (journal, read):
        listeners = journal.listeners()
        disabled = [known.name for known in listeners if known.disabled_at is not None]
        known_listener(name, [known.name for known in listeners])
        rate = read.settings.delivery_of(name).resume_per_second
        resumed = journal.enable(name, rate)
        if name not in disabled and not resumed:
            raise click.UsageError(f"listener {name!r} is not disabled")
    text = f"{name} is enabled, {deliveries(resumed)} due, {rate:g} per second"
    echo_result({"listener": name, "disabled": False, "resumed": resumed}, text, as_json=as_json)


@command.command("rename", epilog="\b\nExample:\n  pulp-hooks listeners rename Mailer mail")
@click.argument("old", type=ListenerParameter(), callback=checked_text)
@click.argument("new", callback=checked_text)
@yes_option
@settings_option
@json_option
def rename(old: str, new: str, settings: str | None, *, yes: bool, as_json: bool) -> None:
    """Move all deliveries of a listener to a new name, after you renamed the listener.

    Stop the workers that know the old name first, and run `pulp-hooks backfill` only afterwards. If an event has a
    delivery under both names, a finished one is kept, otherwise the one under the new name; the other one is deleted.
    """
    if old == new:
        raise click.UsageError("the new name must be another name")
    try:
        NAME(new)
    except ValidationError as error:
        raise click.UsageError(f"the new name {new!r} {error.messages[0]}") from error
    with journal_of(settings) as (journal, _):
        known_listener(old, [known.name for known in journal.listeners()])
        confirmed(f"Move all deliveries of {old} to {new}?", yes=yes)
        renamed = journal.rename(old, new)
    deleted = f", {deliveries(renamed.deleted)} of the same events deleted" if renamed.deleted else ""
    text = f"{deliveries(renamed.moved)} moved from {old} to {new}{deleted}"
    echo_result({"old": old, "new": new} | asdict(renamed), text, as_json=as_json)


@command.command(
    "test",
    epilog="""\b
Examples:
  pulp-hooks listeners test ci
  pulp-hooks listeners test ci --event-type repo-sync-finished""",
)
@click.argument("name", type=ListenerParameter(), callback=checked_text)
@click.option("--event-type", type=EventTypeParameter(), help="By default the first one that the listener receives.")
@settings_option
@json_option
@click.pass_context
def test(ctx: click.Context, name: str, event_type: EventType | None, settings: str | None, *, as_json: bool) -> None:
    """Send one example event to a listener, and print what it did.

    The event goes past the filters of the listener and past the journal, and is marked as a test: its ID begins with
    `test-`, and its repository is `pulp-hooks-test`. Exit code 1 if the listener failed.
    """
    show_log("pulp_hooks.plugins")
    with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
        report = hooks.test(name, event_type)
    echo_report(report, as_json=as_json, with_detail=True)
    if report.failures:
        ctx.exit(1)


def _disabled(settings: str | None) -> dict[str, "StoredListener"]:
    """Return the listeners that are disabled, by name; none if the journal cannot be read."""
    try:
        with journal_of(settings) as (journal, _):
            known = journal.listeners()
    except PulpHooksError:
        return {}
    return {stored.name: stored for stored in known if stored.disabled_at is not None}


def _disabling(known: "StoredListener | None") -> dict[str, str | None]:
    """Return why and since when a listener is disabled, as JSON has it."""
    return {
        "disabled": known.reason if known else None,
        "disabled_at": moment_json(known.disabled_at) if known else None,
    }


def _state(listener: Listener, disabled: Mapping[str, object]) -> str:
    return "disabled" if listener.name in disabled and listener.state is State.LOADED else listener.state


def _reason() -> str:
    if os.environ.get(AUTOLOAD_VARIABLE):
        return f"{AUTOLOAD_VARIABLE} is set"
    return "install a package with an entry point in the group pulp_hooks"
