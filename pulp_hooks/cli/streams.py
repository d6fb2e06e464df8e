"""The standard streams of a command: closed, full or cut off, they do not change what the command does."""

import errno
import io
import os
import re
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

UNWRITTEN = 1
"""Exit code of a command that did its work and could not write its output."""

_ANSI = re.compile(r"\x1b\[[;?0-9]*[a-zA-Z]")
_STANDARD = 3
"""How many descriptors the standard streams have."""


class Output(io.TextIOWrapper):
    """A standard stream whose writes never fail: after the first error it discards everything.

    Args:
        stream: The stream that this one replaces.
        is_plain: Whether to leave out colours and other escape sequences.

    Attributes:
        needs_reader: Whether a broken pipe is a failure of the command.
        needs_message: Whether to print on standard error that output was lost.
    """

    needs_reader = True
    needs_message = True

    def __init__(self, stream: io.TextIOWrapper, *, is_plain: bool) -> None:
        self._raw = _Raw(stream.fileno(), "w", closefd=False)
        self._is_plain = is_plain
        super().__init__(
            io.BufferedWriter(self._raw),
            encoding=stream.encoding,
            # A repository's name must not end a command on a terminal that lacks its letters.
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    @property
    def error(self) -> OSError | None:
        """The error of the first write that failed; null if none has."""
        return self._raw.error

    def write(self, text: str) -> int:
        """Write a text, or nothing after an error."""
        return super().write(_ANSI.sub("", text) if self._is_plain else text)


class _Raw(io.FileIO):
    error: OSError | None = None

    def write(self, data: "ReadableBuffer") -> int:
        if self.error is None:
            try:
                while (number := super().write(data)) is None:
                    # Another program has made the pipe or the terminal non-blocking, and it is full for now.
                    select.select([], [self], [])
            except OSError as error:
                self.error = error
            else:
                return number
        return memoryview(data).nbytes


def protect() -> None:
    """Put an `Output` in place of standard output and standard error, and null devices in place of closed streams."""
    # A journal's file must not get the number of a closed stream: whatever is written there would go into it.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < _STANDARD:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes it by position only
    os.close(descriptor)
    # https://no-color.org: any value that is not empty. A dumb terminal would print the codes.
    is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # Its descriptor is the null device's by now.
            null = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - as the others
            setattr(sys, name, null)
        elif number and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, Output(stream, is_plain=is_plain))


def echo_remark(text: str) -> None:
    """Print a line whose loss is not a failure of the command, even if the reader of the pipe is gone."""
    sys.stdout.flush()
    is_whole = isinstance(sys.stdout, Output) and sys.stdout.error is None
    click.echo(text)
    if is_whole and isinstance(sys.stdout, Output):
        sys.stdout.needs_reader = False


def expect_message() -> None:
    """Let `finish` print no message, because standard error says why the command failed."""
    if isinstance(sys.stdout, Output):
        sys.stdout.needs_message = False


def finish(code: int) -> int:
    """Flush the streams, and return the exit code: a command whose output was lost has failed."""
    for stream in (sys.__stdout__, sys.__stderr__):
        # Listeners print on these, not on the streams of `protect`.
        with suppress(OSError, ValueError):
            if stream:
                stream.flush()
    output = sys.stdout
    output.flush()
    sys.stderr.flush()
    if not isinstance(output, Output) or output.error is None:
        return code
    if output.error.errno == errno.EPIPE:
        # As with `| head`: nobody reads a message about the rest.
        return code or (UNWRITTEN if output.needs_reader else 0)
    if output.needs_message:
        # Also after a failure: its cause may be in the lost output, as with the problems of `check`.
        sys.stderr.write(f"Error: standard output cannot be written: {output.error.strerror}\n")
        sys.stderr.flush()
    return code or UNWRITTEN
