"""`pulp-hooks stats`."""

from dataclasses import asdict

import click

from pulp_hooks.cli.journal_access import journal_of
from pulp_hooks.cli.output import duration, echo_json, echo_table, json_option, settings_option
from pulp_hooks.cli.parameters import MomentParameter
from pulp_hooks.journal.queries import Statistics
from pulp_hooks.journal.schema import State


@click.command(epilog="\b\nExamples:\n  pulp-hooks stats\n  pulp-hooks stats --since 1d --json")
@click.option("--since", type=MomentParameter(), help="P50 and P99 of attempts since then: ISO 8601, or 2h.")
@settings_option
@json_option
def command(*, since: float | None, settings: str | None, as_json: bool) -> None:
    """Show statistics of each listener.

    Columns with the name of a state count deliveries. OLDEST is the age of the oldest pending or retrying delivery; P50
    and P99 are percentiles of the duration of attempts.
    """
    with journal_of(settings) as (journal, _):
        found = journal.statistics(since)
    if as_json:
        echo_json([asdict(figures) for figures in found])
        return
    if not found:
        click.echo("no deliveries")
        return
    headers = ["LISTENER", *(state.upper() for state in State), "OLDEST", "P50", "P99", "DISABLED"]
    echo_table(headers, [_row(figures) for figures in found])


def _row(figures: Statistics) -> list[str]:
    counts = [getattr(figures, state) for state in State]
    times = (figures.oldest_seconds, figures.p50_seconds, figures.p99_seconds)
    return [figures.listener, *map(str, counts), *map(duration, times), figures.disabled or ""]
