"""`pulp-hooks stats`."""

from dataclasses import asdict

import click

from pulp_hooks.cli.journal_access import journal_of
from pulp_hooks.cli.output import duration, echo_json, echo_table, json_option, settings_option
from pulp_hooks.cli.parameters import MomentParameter
from pulp_hooks.journal.statistics import Statistics, statistics


@click.command(epilog="\b\nExamples:\n  pulp-hooks stats\n  pulp-hooks stats --since 1d --json")
@click.option("--since", type=MomentParameter(), help="Take the seconds of attempts since then: ISO 8601, or 2h.")
@settings_option
@json_option
def command(*, since: float | None, settings: str | None, as_json: bool) -> None:
    """Tell how each listener does.

    DELIVERED, WAITING, FAILING, HELD and DEAD count deliveries; those that fail are among those that wait. OLDEST is
    for how long the oldest of them has waited; P50 and P99 are how long attempts take.
    """
    with journal_of(settings) as (journal, _):
        found = statistics(journal.database, since)
    if as_json:
        echo_json([asdict(figures) for figures in found])
        return
    if not found:
        click.echo("no deliveries")
        return
    headers = ["LISTENER", "DELIVERED", "WAITING", "FAILING", "HELD", "DEAD", "OLDEST", "P50", "P99", "DISABLED"]
    echo_table(headers, [_row(figures) for figures in found])


def _row(figures: Statistics) -> list[str]:
    counts = (figures.delivered, figures.waiting, figures.failing, figures.held, figures.dead)
    times = (figures.oldest_waiting_seconds, figures.p50_seconds, figures.p99_seconds)
    return [figures.listener, *map(str, counts), *map(duration, times), figures.disabled or ""]
