"""`pulp-hooks fire`."""

import json
from typing import Any, TextIO

import click

from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.cli.output import echo_json, echo_table, json_option, settings_option, show_log, stdout_for_listeners
from pulp_hooks.cli.parameters import EventTypeParameter
from pulp_hooks.dispatch.outcomes import Status
from pulp_hooks.event_types import EventType
from pulp_hooks.hooks import Hooks

_COLOURS: dict[str, str] = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.QUEUED: "cyan",
    Status.NOT_QUEUED: "red",
}


@click.command(
    epilog="""\b
Examples:
  pulp-hooks fire repo-sync-finished
  pulp-hooks fire repo-publish-started --body body.json
  echo '{"repo_id": "files"}' | pulp-hooks fire repo-sync-started --body -"""
)
@click.argument("event_type", metavar="TYPE", type=EventTypeParameter())
@click.option("--body", type=click.File(encoding="utf-8"), help="File with the body as JSON, - for standard input.")
@settings_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, event_type: EventType, body: TextIO | None, settings: str | None, *, as_json: bool
) -> None:
    """Fire an event at the listeners, to try them out.

    TYPE is one of the names that `pulp-hooks event-types` lists. Without --body an example is sent. Prints the outcome
    for each listener. Exit code 1 if one failed, or if the event could not be queued for one.
    """
    show_log("pulp_hooks.hooks")
    content = EXAMPLES[event_type] if body is None else _read(body)
    with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
        report = hooks.fire(event_type, content)
    if as_json:
        keys = ("listener", "hook", "status", "seconds", "error", "detail")
        outcomes = [{key: getattr(outcome, key) for key in keys} for outcome in report.outcomes]
        echo_json({"event": report.event.to_dict(), "outcomes": outcomes})
    elif report.outcomes:
        rows = [[x.listener, x.hook, x.status, f"{x.seconds:.3f}", x.error or ""] for x in report.outcomes]
        echo_table(["LISTENER", "HOOK", "STATUS", "SECONDS", "ERROR"], rows, _COLOURS)
    else:
        click.echo("no listener takes the event; run `pulp-hooks listeners` for a list")
    if report.failures:
        ctx.exit(1)


def _read(body: TextIO) -> Any:  # noqa: ANN401 - whatever JSON it is, the schema says what is wrong with it
    try:
        return json.load(body)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{body.name} is not JSON: {error}", param_hint="--body") from error
