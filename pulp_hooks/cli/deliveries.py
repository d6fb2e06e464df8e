"""`pulp-hooks deliveries`."""

import json
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
    settings_option,
)
from pulp_hooks.cli.parameters import check_window, checked_text, listing_options
from pulp_hooks.errors import JournalError
from pulp_hooks.event_types import EventType
from pulp_hooks.journal.queries import Filter, StoredAttempt, StoredDelivery
from pulp_hooks.journal.schema import State
from pulp_hooks.text import printable

_COLOURS = {"delivered": "green", "dead": "red", "retrying": "yellow", "held": "yellow", "pending": "cyan"}

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
    type=click.Choice([state.value for state in State]),
    help="pending, retrying, held, delivered, dead or skipped. Repeat it for several states.",
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
    if ctx.invoked_subcommand:
        return
    check_window(since, until)
    wanted = Filter(
        tuple(map(State, states)), listener, event_type.value if event_type else None, repo_id, since, until
    )
    with journal_of(settings) as (journal, _):
        page = journal.deliveries(wanted, limit, before)
        if listener is not None and not page.items:
            known_listener(listener, [known.name for known in journal.listeners()])
        now = journal.now()
    if as_json:
        echo_json({"deliveries": [_json(delivery, now) for delivery in page.items], "next": page.next})
        return
    if not page.items:
        click.echo("no deliveries")
        return
    headers = ["ID", "TIME", "TYPE", "REPOSITORY", "STATE", "ATTEMPTS", "DUE", "ERROR"]
    echo_table(headers, [_row(delivery, now) for delivery in page.items], _COLOURS)
    if page.next:
        click.echo(f"more deliveries: add --before {page.next}", err=True)


@command.command("show")
@click.argument("delivery", metavar="ID", callback=checked_text)
@settings_option
@json_option
def show(delivery: str, settings: str | None, *, as_json: bool) -> None:
    """Show a delivery: the event, its body, and every attempt.

    ID is EVENT/LISTENER as the list has it; EVENT alone shows all deliveries of the event.
    """
    with journal_of(settings) as (journal, _):
        found = journal.deliveries_of(delivery)
        content = journal.content(delivery)
        if content is None:
            event_id, _, listener = delivery.rpartition("/")
            found, content = journal.deliveries_of(event_id, listener), journal.content(event_id)
        if content is None or ("/" in delivery and not found):
            raise JournalError(f"delivery {delivery!r} not found; run `pulp-hooks deliveries` for a list")
        attempts = [journal.attempts(one.event_id, one.listener) for one in found]
        now = journal.now()
    event = json.loads(content)
    if as_json:
        shown = [
            _json(one, now) | {"attempts": [_attempt_json(attempt) for attempt in made]}
            for one, made in zip(found, attempts, strict=True)
        ]
        echo_json({"event": event, "deliveries": shown})
        return
    for name in ("id", "type", "time", "source", "operation_id", "caused_by"):
        if event.get(name):
            click.echo(f"{name:<12} {printable(str(event[name]))}")
    for name in ("body", "call_report"):
        click.echo(f"{name}: {json.dumps(event[name], indent=2, ensure_ascii=True)}")
    for one, made in zip(found, attempts, strict=True):
        click.secho(f"\n{printable(one.id)}", bold=True)
        due = f", {_due(one, now)}" if one.due is not None else ""
        click.echo(f"{one.state}, {counted(one.attempts, 'attempt')}{due}")
        rows = [[str(x.number), moment(x.started), _seconds(x.seconds), x.status, x.error or ""] for x in made]
        if rows:
            echo_table(["ATTEMPT", "STARTED", "SECONDS", "STATUS", "ERROR"], rows, _ENDINGS)
        for attempt in made:
            _show_more(attempt)


def _show_more(attempt: StoredAttempt) -> None:
    """Print the detail and the traceback of an attempt."""
    if attempt.detail is not None:
        text = json.dumps(json.loads(attempt.detail), indent=2, ensure_ascii=True)
        click.echo(f"detail of attempt {attempt.number}: {text}")
    if attempt.traceback is not None:
        click.echo(f"traceback of attempt {attempt.number}:")
        for line in attempt.traceback.splitlines():
            click.echo(f"  {printable(line)}")


def _attempt_json(attempt: StoredAttempt) -> dict[str, Any]:
    detail = None if attempt.detail is None else json.loads(attempt.detail)
    return asdict(attempt) | {"started": moment_json(attempt.started), "detail": detail}


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"


def _due(delivery: StoredDelivery, now: float) -> str:
    if delivery.due is None:
        return ""
    if delivery.claimed and delivery.due > now:
        return "at work"
    return "now" if delivery.due <= now else f"in {duration(delivery.due - now)}"


def _row(delivery: StoredDelivery, now: float) -> list[str]:
    return [
        delivery.id,
        moment(delivery.time),
        delivery.type,
        delivery.repo_id,
        delivery.state,
        str(delivery.attempts),
        _due(delivery, now),
        delivery.error or "",
    ]


def _json(delivery: StoredDelivery, now: float) -> dict[str, Any]:
    moments = {name: moment_json(getattr(delivery, name)) for name in ("time", "due", "finished")}
    working = delivery.claimed and delivery.due is not None and delivery.due > now
    return {"id": delivery.id} | asdict(delivery) | moments | {"claimed": working}
