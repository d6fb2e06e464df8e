"""`pulp-hooks replay`."""

import click

from pulp_hooks.cli.journal_access import ListenerParameter, confirmed, journal_of, known_listener
from pulp_hooks.cli.output import deliveries, echo_json, json_option, settings_option, show_log, stdout_for_listeners
from pulp_hooks.cli.parameters import MomentParameter, check_window, checked_text
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.hooks import Hooks
from pulp_hooks.journal.browsing import Browsing
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.listeners import Listeners
from pulp_hooks.journal.replay import Finished, Missed, Replay
from pulp_hooks.journal.tables import State
from pulp_hooks.settings.reading import ReadSettings

_DEAD = (State.DEAD,)


@click.command(
    epilog="""\b
Examples:
  pulp-hooks replay 6b0599ec9e2c28dbdf0dfb13/audit
  pulp-hooks replay --listener audit
  pulp-hooks replay --since 2026-11-20 --until 2026-11-21 --state dead --state delivered --yes
  pulp-hooks replay --to archive --since 30d"""
)
@click.argument("ids", metavar="[ID]...", nargs=-1, callback=checked_text)
@click.option("--listener", type=ListenerParameter(), callback=checked_text, help="All of this listener.")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    type=click.Choice([State.DEAD.value, State.DELIVERED.value]),
    help="dead or delivered; may be given twice.  [default: dead]",
)
@click.option("--since", type=MomentParameter(), help="Events fired then or later: ISO 8601, or 2h for two hours ago.")
@click.option("--until", type=MomentParameter(), help="Events fired earlier than that.")
@click.option("--to", metavar="NAME", help="Deliver to this listener, added later, the events that it missed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_option
@json_option
def command(  # noqa: PLR0913 - one for each option
    *,
    ids: tuple[str, ...],
    listener: str | None,
    states: tuple[str, ...],
    since: float | None,
    until: float | None,
    to: str | None,
    yes: bool,
    settings: str | None,
    as_json: bool,
) -> None:
    """Deliver again what was delivered or given up.

    Give IDs of deliveries, as `pulp-hooks deliveries` lists them, or say which by the options; they hold together. The
    ids of the events stay the same. A worker then makes the deliveries.
    """
    window = since is not None or until is not None
    if bool(ids) + bool(to) > 1 or ((ids or to) and (listener or states)) or (ids and window):
        raise click.UsageError(
            "give either IDs, or --to with a time window, or --listener, --state, --since and --until"
        )
    check_window(since, until)
    if not (ids or to or listener or states or window):
        raise click.UsageError("say what: IDs, --listener, --state, --since, --until, or --to")
    with journal_of(settings) as (journal, read):
        if ids:
            count = _by_id(journal.database, ids)
        elif to:
            count = _to(journal.database, to, read, (since, until), as_json=as_json, yes=yes)
        else:
            chosen = tuple(State(state) for state in states) or _DEAD
            count = _many(journal.database, Finished(listener, since, until, chosen), yes=yes)
        disabled = [state.name for state in Listeners(journal.database).known() if state.disabled_at is not None]
    if as_json:
        echo_json({"replayed": count})
    else:
        click.echo(f"{deliveries(count)} to be made{' again' if not to else ''}")
    named = {to, listener, *(name.rpartition("/")[2] for name in ids)} - {None}
    for name in disabled:
        if count and (name in named or not named):
            click.echo(f"{name} is disabled: what it is to have is held until it is enabled", err=True)


def _by_id(database: Database, ids: tuple[str, ...]) -> int:
    browsing, replay = Browsing(database), Replay(database)
    found = []
    for name in ids:
        event_id, _, listener = name.rpartition("/")
        lines = browsing.deliveries_of(event_id, listener) if event_id else []
        if not lines:
            raise JournalError(
                f"there is no delivery {name!r}, nothing is replayed; an ID is EVENT/LISTENER, as "
                "`pulp-hooks deliveries` lists them"
            )
        if lines[0].state not in {State.DEAD.value, State.DELIVERED.value}:
            raise JournalError(f"the delivery {name} is {lines[0].state}, not finished: nothing is replayed")
        found.append((event_id, listener))
    return sum(replay.one(*key) for key in found)


def _many(database: Database, wanted: Finished, *, yes: bool) -> int:
    browsing = Browsing(database)
    if wanted.listener is not None and not browsing.knows(wanted.listener):
        known_listener(wanted.listener, browsing.listeners())
    count = Replay(database).count(wanted)
    states = " and ".join(state.value for state in wanted.states)
    if count:
        confirmed(f"Replay {deliveries(count)} ({states})?", yes=yes)
    return Replay(database).many(wanted)


def _to(  # noqa: PLR0913 - what the command was given
    database: Database,
    name: str,
    read: ReadSettings,
    window: tuple[float | None, float | None],
    *,
    as_json: bool,
    yes: bool,
) -> int:
    show_log("pulp_hooks.plugins")
    with stdout_for_listeners(as_json=as_json), Hooks.discover(read.path) as hooks:
        loaded = {listener.name: listener for listener in hooks.listeners if listener.event_types}
        listener = loaded[known_listener(name, list(loaded))]
        wants = listener.wants
        missed = Missed(
            *window,
            event_types=[event_type.value for event_type in EventType if event_type in listener.event_types],
            wants=None if wants is None else lambda content: wants(Event.from_stored(content)),
        )
        count = Replay(database).count_missed(name, missed)
        if count:
            confirmed(f"Make {deliveries(count)} of missed events to {name}?", yes=yes)
        return Replay(database).to(name, missed, ordered=read.settings.delivery_of(name).ordered)
