"""What commands print: tables for people, JSON for programs, log lines on standard error."""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TextIO, TypeVar

import click

from pulp_hooks.text import printable

_Function = TypeVar("_Function", bound=Callable[..., object])

_WIDEST_CELL = 100
_TENS = 10
_FIRST, _LAST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2, 9999))


def json_option(function: _Function) -> _Function:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def settings_option(function: _Function) -> _Function:
    """Add `--settings` to a command; a subcommand without it uses that of its group."""
    return click.option(
        "--settings",
        type=click.Path(exists=True, dir_okay=False),
        callback=lambda ctx, _, value: value or (ctx.parent and ctx.parent.params.get("settings")),
        help="Settings file, instead of $PULP_HOOKS_SETTINGS or ./pulp-hooks.toml.",
    )(function)


def yes_option(function: _Function) -> _Function:
    """Add `--yes` to a command that asks for confirmation."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def echo_json(value: object) -> None:
    """Print one JSON document on one line."""
    click.echo(json_for(sys.stdout, json.dumps(value, ensure_ascii=False)))


def echo_result(value: object, text: str, *, as_json: bool) -> None:
    """Print what a command did: a value as JSON, or a line of text."""
    if as_json:
        echo_json(value)
    else:
        click.echo(text)


def json_for(stream: TextIO | None, text: str) -> str:
    """Return a JSON text; if the stream cannot encode it, with everything escaped that is not ASCII."""
    try:
        text.encode((stream and stream.encoding) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text))
    return text


def echo_table(headers: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str] | None = None) -> None:
    """Print rows under headers, each column as wide as its widest cell.

    Args:
        headers: One per column.
        rows: The cells of each row; control characters are escaped, and long cells are cut.
        colours: Colours of the cells with these texts.
    """
    cells = [headers, *([_cell(text) for text in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for number, row in enumerate(cells):
        styled = [click.style(text, bold=number == 0 or None, fg=(colours or {}).get(text)) for text in row]
        blanks = [" " * (width - len(text)) for text, width in zip(row, widths, strict=True)]
        click.echo("  ".join(map("".join, zip(styled, blanks, strict=True))).rstrip())


def show_log(name: str, echo: Callable[..., object] | None = None) -> None:
    """Print the records of a logger, one line each; the other loggers stay silent.

    Args:
        name: Name of the logger.
        echo: Called with each line and its colour as `fg`, instead of printing it on standard error.
    """
    package = logging.getLogger("pulp_hooks")
    package.propagate = False
    package.addHandler(logging.NullHandler())
    logging.getLogger(name).addHandler(_OneLine(echo or partial(click.secho, err=True)))


class _OneLine(logging.Handler):
    """Prints the first line of a record: tracebacks are for log files."""

    def __init__(self, echo: Callable[..., object]) -> None:
        super().__init__()
        self._echo = echo

    def emit(self, record: logging.LogRecord) -> None:
        first, *_ = record.getMessage().splitlines() or [""]
        colour = "red" if record.levelno >= logging.ERROR else "yellow"
        self._echo(f"{record.levelname.lower()}: {first}", fg=colour)


def moment(seconds: float | None) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, to the second; empty text for none."""
    return moment_json(None if seconds is None else _shown(seconds) // 1) or ""


def moment_json(seconds: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC; null for none."""
    return None if seconds is None else datetime.fromtimestamp(_shown(seconds), UTC).isoformat().replace("+00:00", "Z")


def _shown(seconds: float) -> float:
    """Return the time, or the nearest one that has a date: an invalid time must not hide the others."""
    # The comparison is also false for NaN.
    return max(_FIRST, seconds) if seconds < _LAST else _LAST


def duration(seconds: float | None) -> str:
    """Return a time span in its largest fitting unit: `0.004 s`, `12 s`, `4 min`, `3 h`, `5 d`; empty text for none."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= _TENS else f"{seconds:.3f} s"


def counted(number: int, what: str) -> str:
    """Return a number with its noun: `no listeners`, `1 listener`, `2 listeners`."""
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def deliveries(number: int) -> str:
    """Return a number of deliveries: `no deliveries`, `1 delivery`, `2 deliveries`."""
    return "1 delivery" if number == 1 else f"{number or 'no'} deliveries"


@contextlib.contextmanager
def stdout_for_listeners(*, as_json: bool) -> Iterator[None]:
    """Return a context manager in which listeners print on standard error if standard output carries JSON.

    Otherwise they print on the plain standard output: if it is full, the listener fails.
    """
    stream = sys.stderr if as_json else sys.__stdout__ or sys.stdout
    with contextlib.redirect_stdout(stream):
        yield
    with contextlib.suppress(OSError):  # its listeners were called, and what they printed is lost
        stream.flush()


def _cell(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _WIDEST_CELL else shown[: _WIDEST_CELL - 1] + "…"
