"""Parameters that several commands take."""

import click
from click.shell_completion import CompletionItem

from pulp_hooks.errors import UnknownEventTypeError
from pulp_hooks.event_types import EventType


class EventTypeParameter(click.ParamType["EventType"]):
    """An event type, by any of its names; completes to type IDs."""

    name = "type"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> EventType:
        """Give the event type of this name."""
        try:
            return EventType(value)
        except UnknownEventTypeError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Give the type IDs that begin so."""
        del ctx, param
        return [CompletionItem(event_type.value) for event_type in EventType if event_type.startswith(incomplete)]
