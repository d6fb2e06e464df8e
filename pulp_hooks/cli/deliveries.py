"""`pulp-hooks deliveries`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from pulp_hooks.cli.journal_access import ListenerParameter, journal_of, known_listener
from pulp_hooks.cli.output import (
    counted,
    duration,
    echo_json,
    echo_table,
    json_option,
    moment,
    moment_json,
    printable,
    settings_option,
)
from pulp_hooks.cli.parameters import check_window, checked_text, listing_options
from pulp_hooks.errors import JournalError
from pulp_hooks.event_types import EventType
from pulp_hooks.journal.browsing import FAILING, AttemptLine, Browsing, DeliveryLine, Filter
from pulp_hooks.journal.tables import State

COLOURS = {"delivered": "green", "dead": "red", "failing": "yellow", "held": "yellow", "waiting": "cyan"}

_ENDINGS = {"succeeded": "green", "failed": "red", "timed-out": "red"}


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  pulp-hooks deliveries --state dead --listener audit
  pulp-hooks deliveries --repo-id 'fedora-*' --since 2h
  pulp-hooks deliveries show 6b0599ec9e2c28dbdf0dfb13/audit""",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    type=click.Choice([*(state.value for state in State), FAILING]),
    help="waiting, held, delivered, dead, or failing: waiting after a failure. May be given several times.",
)
@click.option("--listener", type=ListenerParameter(), callback=checked_text, help="To this listener.")
@listing_options("delivery")
@settings_option
@json_option
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
    *,
    states: tuple[str, ...],
    listener: str | None,
    event_type: EventType | None,
    repo_id: str | None,
    since: float | None,
    until: float | None,
    limit: int,
    before: str | None,
    settings: str | None,
    as_json: bool,
) -> None:
    """List the deliveries of the journal, or show one with its attempts.

    Those of the newest events come first. A delivery is one event for one listener; its ID is EVENT/LISTENER.
    """
    ctx.obj = settings
    if ctx.invoked_subcommand:
        return
    check_window(since, until)
    wanted = Filter(states, listener, event_type.value if event_type else None, repo_id, since, until)
    with journal_of(settings) as (journal, _):
        browsing = Browsing(journal.database)
        lines = browsing.deliveries(wanted, limit + 1, before)
        if listener is not None and not lines and not browsing.knows(listener):
            known_listener(listener, browsing.listeners())
        now = journal.database.now()
    page, next_page = lines[:limit], lines[limit - 1].id if len(lines) > limit else None
    if as_json:
        echo_json({"deliveries": [_json(line, now) for line in page], "next": next_page})
        return
    if not page:
        click.echo("no deliveries")
        return
    echo_table(
        ["ID", "TIME", "TYPE", "REPOSITORY", "STATE", "ATTEMPTS", "DUE", "ERROR"],
        [_row(line, now) for line in page],
        COLOURS,
    )
    if next_page:
        click.echo(f"there are more: add --before {next_page}", err=True)


@command.command("show")
@click.argument("delivery", metavar="ID", callback=checked_text)
@click.option("--settings", type=click.Path(exists=True, dir_okay=False), help="Settings file.")
@json_option
@click.pass_obj
def show(inherited: str | None, delivery: str, settings: str | None, *, as_json: bool) -> None:
    """Show a delivery: the event, its body, and every attempt.

    ID is EVENT/LISTENER as the list has it; EVENT alone shows all deliveries of the event.
    """
    with journal_of(settings or inherited) as (journal, _):
        browsing = Browsing(journal.database)
        lines = browsing.deliveries_of(delivery)
        content = browsing.content_of(delivery)
        if content is None:
            event_id, _, listener = delivery.rpartition("/")
            lines, content = browsing.deliveries_of(event_id, listener), browsing.content_of(event_id)
        if content is None or ("/" in delivery and not lines):
            raise JournalError(f"there is no delivery {delivery!r}; `pulp-hooks deliveries` lists them")
        attempts = [list(_complete(line, browsing.attempts_of(line.event_id, line.listener))) for line in lines]
        now = journal.database.now()
    event = json.loads(content)
    if as_json:
        shown = [
            _json(line, now) | {"attempts": [asdict(one) | {"started": moment_json(one.started)} for one in made]}
            for line, made in zip(lines, attempts, strict=True)
        ]
        echo_json({"event": event, "deliveries": shown})
        return
    for name in ("id", "type", "time", "source", "operation_id", "caused_by"):
        if event.get(name):
            click.echo(f"{name:<12} {printable(str(event[name]))}")
    for name in ("body", "call_report"):
        click.echo(f"{name}: {json.dumps(event[name], indent=2, ensure_ascii=True)}")
    for line, made in zip(lines, attempts, strict=True):
        click.secho(f"\n{printable(line.id)}", bold=True)
        due = f", {_due(line, now)}" if line.due is not None else ""
        click.echo(f"{_state(line)}, {counted(line.attempts, 'attempt')}{due}")
        rows = [[str(x.number), moment(x.started), _seconds(x.seconds), x.status, x.error or ""] for x in made]
        if rows:
            echo_table(["ATTEMPT", "STARTED", "SECONDS", "STATUS", "ERROR"], rows, _ENDINGS)


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"


def _state(line: DeliveryLine) -> str:
    return FAILING if line.state == State.WAITING.value and line.error else line.state


def _due(line: DeliveryLine, now: float) -> str:
    if line.due is None:
        return ""
    if line.claimed and line.due > now:
        return "at work"
    return "now" if line.due <= now else f"in {duration(line.due - now)}"


def _complete(line: DeliveryLine, recorded: list[AttemptLine]) -> Iterator[AttemptLine]:
    """Give the attempts, those included of which nothing was recorded: the worker died, or was too late."""
    by_number = {one.number: one for one in recorded}
    begun = line.attempts - line.claimed
    for number in range(1, begun + 1):
        yield by_number.get(number, AttemptLine(number, None, None, "unrecorded", None))


def _row(line: DeliveryLine, now: float) -> list[str]:
    return [
        line.id,
        moment(line.time),
        line.type,
        line.repo_id,
        _state(line),
        str(line.attempts),
        _due(line, now),
        line.error or "",
    ]


def _json(line: DeliveryLine, now: float) -> dict[str, Any]:
    moments = {name: moment_json(getattr(line, name)) for name in ("time", "due", "finished")}
    working = line.claimed and line.due is not None and line.due > now
    return {"id": line.id} | asdict(line) | moments | {"claimed": working}
