"""`pulp-hooks prune`."""

import sys
from dataclasses import asdict

import click
from click import progressbar

from pulp_hooks.cli.journal_access import confirmed, journal_of
from pulp_hooks.cli.output import echo_json, json_option, settings_option
from pulp_hooks.journal.pruning import prunable, prune

_DAY = 86_400


@click.command(epilog="\b\nExamples:\n  pulp-hooks prune\n  pulp-hooks prune --delivered-days 7 --dead-days 30 --yes")
@click.option(
    "--delivered-days",
    type=click.FloatRange(min=0),
    help="Forget what was delivered longer ago.  [default: keep_delivered_days of the settings]",
)
@click.option(
    "--dead-days",
    type=click.FloatRange(min=0),
    help="Forget what was given up longer ago.  [default: keep_dead_days of the settings]",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_option
@json_option
def command(
    *, delivered_days: float | None, dead_days: float | None, yes: bool, settings: str | None, as_json: bool
) -> None:
    """Forget what was finished long ago.

    That is deliveries with their attempts, and events that have no delivery left. What waits or is held is never
    forgotten. Workers do the same once an hour, by the settings.
    """
    with journal_of(settings) as (journal, read):
        now, kept = journal.database.now(), read.settings.journal
        days = {
            "delivered_before": delivered_days if delivered_days is not None or not kept else kept.keep_delivered_days,
            "dead_before": dead_days if dead_days is not None or not kept else kept.keep_dead_days,
        }
        before = {name: now - (number or 0) * _DAY for name, number in days.items()}
        count = prunable(journal.database, **before)
        if count:
            confirmed(f"Forget {'1 delivery' if count == 1 else f'{count} deliveries'} for ever?", yes=yes)
        hidden = not sys.stderr.isatty() or not count
        with progressbar(length=count, label="Forgetting", file=sys.stderr, hidden=hidden) as bar:
            pruned = prune(journal.database, **before, progress=bar.update)
    if as_json:
        echo_json(asdict(pruned))
    else:
        click.echo(f"forgot {pruned.deliveries} deliveries and {pruned.events} events")
