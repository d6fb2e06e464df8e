"""Parameters that several commands take."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import reduce
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from pulp_hooks.errors import UnknownEventTypeError
from pulp_hooks.event_types import EventType
from pulp_hooks.text import clean_text

_Function = TypeVar("_Function", bound=Callable[..., object])
_Text = TypeVar("_Text", str, str | None, tuple[str, ...])


class EventTypeParameter(click.ParamType["EventType"]):
    """An event type, by any of its names; completes to type IDs."""

    name = "type"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> EventType:
        """Return the event type of this name."""
        try:
            return EventType(value)
        except UnknownEventTypeError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the type IDs that begin with the incomplete one."""
        del ctx, param
        return [CompletionItem(event_type.value) for event_type in EventType if event_type.startswith(incomplete)]


def checked_text(_ctx: click.Context, _param: click.Parameter, value: _Text) -> _Text:
    """Return a parameter for the journal. Bytes that are not UTF-8 reach Python as lone surrogates.

    Raises:
        click.BadParameter: It is not text in UTF-8.
    """
    for text in (value,) if isinstance(value, str) else value or ():
        if text != clean_text(text):
            raise click.BadParameter(f"{text!r} is not text in UTF-8")
    return value


class MomentParameter(click.ParamType["float"]):
    """A time: ISO 8601, in UTC if it has no offset, or how long ago: `90s`, `15m`, `2h`, `3d`, `1w`."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds since 1970."""
        if ago := _AGO.fullmatch(value.strip()):
            return time.time() - float(ago[1]) * _SECONDS[ago[2]]
        try:
            written = datetime.fromisoformat(value.strip())
            return (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"invalid time {value!r}: use 2026-11-23, 2026-11-23T15:00Z, or 2h for two hours ago", param, ctx)


def _adding(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    # click puts the option first that was added last.
    return lambda function: reduce(lambda done, option: option(done), reversed(options), function)


_WINDOW = (
    click.option(
        "--since", type=MomentParameter(), help="Fired then or later: ISO 8601 in UTC, or 2h for two hours ago."
    ),
    click.option("--until", type=MomentParameter(), help="Fired earlier."),
)

window_options = _adding(*_WINDOW)
"""Adds the options for a time window to a command."""


def listing_options(what: str) -> Callable[[_Function], _Function]:
    """Add the options of a command that lists events or deliveries."""
    return _adding(
        click.option("--type", "event_type", type=EventTypeParameter(), help="Of this event type."),
        click.option(
            "--repo-id",
            metavar="PATTERN",
            callback=checked_text,
            help="Of matching repositories: * is any text, ? any character.",
        ),
        *_WINDOW,
        click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most lines."),
        click.option(
            "--before", metavar="ID", callback=checked_text, help=f"Continue after this {what}, for the next page."
        ),
    )


def check_window(since: float | None, until: float | None) -> None:
    """Check that a time window ends after its beginning.

    Raises:
        click.UsageError: It does not.
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--until must be later than --since")


_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
