"""`pulp-hooks event-types`."""

import click

from pulp_hooks.cli.output import echo_json, echo_table, json_option
from pulp_hooks.event_types import EventType


@click.command(epilog="\b\nExamples:\n  pulp-hooks event-types\n  pulp-hooks event-types --json")
@json_option
def command(*, as_json: bool) -> None:
    """List the four event types with all their names.

    Commands and settings take any of the names: the type ID, the name of the hook, or the dotted wire name.
    """
    if as_json:
        echo_json([{"type": t.value, "hook": t.hook_name, "wire": t.wire_name} for t in EventType])
    else:
        echo_table(["TYPE", "HOOK", "WIRE"], [[t.value, t.hook_name, t.wire_name] for t in EventType])
