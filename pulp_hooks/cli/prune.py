"""`pulp-hooks prune`."""

import sys
from dataclasses import asdict

import click
from click import progressbar

from pulp_hooks.cli.journal_access import confirmed, journal_of
from pulp_hooks.cli.output import counted, deliveries, echo_result, json_option, settings_option, yes_option

_DAY = 86_400


@click.command(epilog="\b\nExamples:\n  pulp-hooks prune\n  pulp-hooks prune --delivered-days 7 --dead-days 30 --yes")
@click.option(
    "--delivered-days",
    type=click.FloatRange(min=0),
    help="Delete deliveries that were delivered or skipped longer ago.  [default: keep_delivered_days of the settings]",
)
@click.option(
    "--dead-days",
    type=click.FloatRange(min=0),
    help="Delete dead letters that are older.  [default: keep_dead_days of the settings]",
)
@yes_option
@settings_option
@json_option
def command(
    *, delivered_days: float | None, dead_days: float | None, yes: bool, settings: str | None, as_json: bool
) -> None:
    """Delete finished deliveries past their retention, and events without any.

    Unfinished deliveries are never deleted. Workers do the same once an hour, by the settings.
    """
    with journal_of(settings) as (journal, read):
        now, kept = journal.now(), read.settings.journal
        days = {
            "delivered_before": delivered_days if delivered_days is not None or not kept else kept.keep_delivered_days,
            "dead_before": dead_days if dead_days is not None or not kept else kept.keep_dead_days,
        }
        before = {name: now - (number or 0) * _DAY for name, number in days.items()}
        count = journal.count_prunable(**before)
        if count:
            confirmed(f"Delete {deliveries(count)} permanently?", yes=yes)
        hidden = not sys.stderr.isatty() or not count
        with progressbar(length=count, label="Deleting", file=sys.stderr, hidden=hidden) as bar:
            pruned = journal.prune(**before, progress=bar.update)
    text = f"{deliveries(pruned.deliveries)} and {counted(pruned.events, 'event')} deleted"
    echo_result(asdict(pruned), text, as_json=as_json)
