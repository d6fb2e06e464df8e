"""`pulp-hooks replay`."""

import click

from pulp_hooks.cli.journal_access import ListenerParameter, confirmed, journal_of, known_listener
from pulp_hooks.cli.output import deliveries, echo_result, json_option, settings_option, yes_option
from pulp_hooks.cli.parameters import check_window, checked_text, window_options
from pulp_hooks.errors import JournalError
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.replay import Finished
from pulp_hooks.journal.schema import FINISHED, State

_DEAD = (State.DEAD,)


@click.command(
    epilog="""\b
Examples:
  pulp-hooks replay 6b0599ec9e2c28dbdf0dfb13/audit
  pulp-hooks replay --listener audit
  pulp-hooks replay --since 2026-11-20 --until 2026-11-21 --state dead --state delivered --yes"""
)
@click.argument("ids", metavar="[ID]...", nargs=-1, callback=checked_text)
@click.option("--listener", type=ListenerParameter(), callback=checked_text, help="All of this listener.")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    type=click.Choice([state.value for state in sorted(FINISHED)]),
    help="dead, delivered or skipped. Repeat it for several states.  [default: dead]",
)
@window_options
@yes_option
@settings_option
@json_option
def command(  # noqa: PLR0913 - one for each option
    *,
    ids: tuple[str, ...],
    listener: str | None,
    states: tuple[str, ...],
    since: float | None,
    until: float | None,
    yes: bool,
    settings: str | None,
    as_json: bool,
) -> None:
    """Make finished deliveries due again.

    Pass IDs of deliveries, as `pulp-hooks deliveries` lists them, or choose them by the options, all of which have to
    match. The ids of the events stay the same. Workers then make the deliveries.
    """
    window = since is not None or until is not None
    if ids and (listener or states or window):
        raise click.UsageError("pass either IDs, or --listener, --state, --since and --until")
    check_window(since, until)
    if not (ids or listener or states or window):
        raise click.UsageError("choose deliveries: pass IDs, --listener, --state, --since or --until")
    with journal_of(settings) as (journal, _):
        if ids:
            count = _by_id(journal, ids)
        else:
            chosen = tuple(State(state) for state in states) or _DEAD
            count = _many(journal, Finished(listener, since, until, chosen), yes=yes)
        disabled = [known.name for known in journal.listeners() if known.disabled_at is not None]
    echo_result({"replayed": count}, f"{deliveries(count)} due again", as_json=as_json)
    named = {listener, *(name.rpartition("/")[2] for name in ids)} - {None}
    for name in disabled:
        if count and (name in named or not named):
            click.echo(f"listener {name} is disabled; its deliveries are on hold", err=True)


def _by_id(journal: Journal, ids: tuple[str, ...]) -> int:
    found = []
    for name in ids:
        event_id, _, listener = name.rpartition("/")
        delivery = next(iter(journal.deliveries_of(event_id, listener)), None) if event_id else None
        if delivery is None:
            raise JournalError(
                f"delivery {name!r} not found, nothing is replayed; run `pulp-hooks deliveries` for the IDs"
            )
        if delivery.state not in FINISHED:
            raise JournalError(f"delivery {name!r} is {delivery.state}, not finished; nothing is replayed")
        found.append((event_id, listener))
    return sum(journal.replay(*key) for key in found)


def _many(journal: Journal, wanted: Finished, *, yes: bool) -> int:
    if wanted.listener is not None:
        known_listener(wanted.listener, [known.name for known in journal.listeners()])
    count = journal.count_finished(wanted)
    states = " and ".join(state.value for state in wanted.states)
    if count:
        confirmed(f"Replay {deliveries(count)} ({states})?", yes=yes)
    return journal.replay_finished(wanted)
