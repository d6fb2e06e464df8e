"""`pulp-hooks events`."""

from dataclasses import asdict

import click

from pulp_hooks.cli.journal_access import journal_of
from pulp_hooks.cli.output import echo_json, echo_table, json_option, moment, moment_json, settings_option
from pulp_hooks.cli.parameters import check_window, listing_options
from pulp_hooks.event_types import EventType
from pulp_hooks.journal.queries import Filter
from pulp_hooks.journal.schema import State


@click.command(
    epilog="""\b
Examples:
  pulp-hooks events --since 1d
  pulp-hooks events --type repo-sync-finished --repo-id 'fedora-*' --json"""
)
@listing_options("event")
@settings_option
@json_option
def command(  # noqa: PLR0913 - one for each option
    *,
    event_type: EventType | None,
    repo_id: str | None,
    since: float | None,
    until: float | None,
    limit: int,
    before: str | None,
    settings: str | None,
    as_json: bool,
) -> None:
    """List the events of the journal.

    The newest come first, each with the states of its deliveries.
    """
    check_window(since, until)
    wanted = Filter((), None, event_type.value if event_type else None, repo_id, since, until)
    with journal_of(settings) as (journal, _):
        page = journal.events(wanted, limit, before)
    if as_json:
        echo_json({"events": [asdict(x) | {"time": moment_json(x.time)} for x in page.items], "next": page.next})
        return
    if not page.items:
        click.echo("no events")
        return
    rows = [[x.id, moment(x.time), x.type, x.repo_id, _counts(x.deliveries)] for x in page.items]
    echo_table(["ID", "TIME", "TYPE", "REPOSITORY", "DELIVERIES"], rows)
    if page.next:
        click.echo(f"more events: add --before {page.next}", err=True)


def _counts(deliveries: dict[State, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(deliveries.items())) or "none"
