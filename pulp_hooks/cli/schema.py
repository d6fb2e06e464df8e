"""`pulp-hooks schema`."""

import click

from pulp_hooks.bodies.json_schema import json_schema
from pulp_hooks.cli.output import json_option
from pulp_hooks.cli.parameters import EventTypeParameter
from pulp_hooks.event_types import EventType


@click.command(
    epilog="\b\nExamples:\n  pulp-hooks schema repo-sync-finished\n  pulp-hooks schema repo.sync.finish > s.json"
)
@click.argument("event_type", metavar="TYPE", type=EventTypeParameter())
@json_option
def command(event_type: EventType, *, as_json: bool) -> None:
    """Print the JSON Schema of an event type's body.

    TYPE is one of the names that `pulp-hooks event-types` lists. The schema is JSON with or without --json.
    """
    del as_json
    click.echo(json_schema(event_type), nl=False)
