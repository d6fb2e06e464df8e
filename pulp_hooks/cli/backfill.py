"""`pulp-hooks backfill`."""

import click

from pulp_hooks.cli.journal_access import confirmed, journal_of, known_listener
from pulp_hooks.cli.output import (
    deliveries,
    echo_result,
    json_option,
    settings_option,
    show_log,
    stdout_for_listeners,
    yes_option,
)
from pulp_hooks.cli.parameters import check_window, checked_text, window_options
from pulp_hooks.event import read_stored
from pulp_hooks.event_types import EventType
from pulp_hooks.hooks import Hooks
from pulp_hooks.journal.replay import Missed


@click.command(epilog="\b\nExamples:\n  pulp-hooks backfill archive\n  pulp-hooks backfill archive --since 30d --yes")
@click.argument("listener", callback=checked_text)
@window_options
@yes_option
@settings_option
@json_option
def command(  # noqa: PLR0913 - one for each argument and option
    *, listener: str, since: float | None, until: float | None, yes: bool, settings: str | None, as_json: bool
) -> None:
    """Deliver past events to a listener that was added later.

    Queues every event that passes the listener's filters, and that it has no delivery of. Workers then make the
    deliveries. If the command is interrupted, run it again to do the rest.
    """
    check_window(since, until)
    show_log("pulp_hooks.plugins")
    with journal_of(settings) as (journal, read):
        with stdout_for_listeners(as_json=as_json), Hooks.discover(read.path) as hooks:
            loaded = {one.name: one for one in hooks.listeners if one.event_types}
        found = loaded[known_listener(listener, list(loaded))]
        wants = found.wants
        missed = Missed(
            since,
            until,
            event_types=[event_type.value for event_type in EventType if event_type in found.event_types],
            wants=None if wants is None else lambda content: wants(read_stored(content)),
        )
        count = journal.count_missed(listener, missed)
        if count:
            confirmed(f"Queue {deliveries(count)} for {listener}?", yes=yes)
        stored = journal.backfill(listener, missed, ordered=read.settings.delivery_of(listener).ordered)
        is_disabled = any(one.name == listener and one.disabled_at is not None for one in journal.listeners())
    echo_result({"listener": listener, "stored": stored}, f"{deliveries(stored)} queued", as_json=as_json)
    if is_disabled and stored:
        click.echo(f"listener {listener} is disabled; its deliveries are on hold", err=True)
