"""Lines at the bottom of a terminal that are drawn anew, with finished lines scrolling above them."""

import shutil
import threading
from collections.abc import Sequence
from typing import TextIO

import click

_UP_AND_CLEAR = "\x1b[{}F\x1b[J"


class LiveLines:
    """Draws lines that change below lines that stay; thread-safe.

    Every line is cut to the width of the terminal, and the changing lines to its height.

    Args:
        out: The terminal.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.RLock()
        self._drawn = 0

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def add(self, text: str, fg: str | None = None) -> None:
        """Print a line that stays, above those that change. They are drawn again by the next `draw`."""
        with self._lock:
            self._clear()
            click.secho(text, file=self._out, fg=fg)

    def draw(self, lines: Sequence[str]) -> None:
        """Draw the changing lines in place of the ones before."""
        size = shutil.get_terminal_size()
        with self._lock:
            self._clear()
            shown = [line[: size.columns - 1] for line in lines[: max(1, size.lines - 2)]]
            for line in shown:
                click.secho(line, file=self._out, dim=True)
            self._drawn = len(shown)

    def _clear(self) -> None:
        if self._drawn:
            click.echo(_UP_AND_CLEAR.format(self._drawn), nl=False, file=self._out)
            self._drawn = 0
