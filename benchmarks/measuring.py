"""Timing two things against each other, and the table of what came out."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ROUNDS = 25


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What was measured, beside what.
        ratio: How many times the floor or peer it took.
        bar: What the ratio has to be, as text; empty where the peer is shown for comparison only.
        met: Whether it is.
    """

    what: str
    ratio: str
    bar: str = ""
    met: bool = True


def show(figures: Iterable[Figure]) -> int:
    """Print each figure as it is there; return how many bars were missed."""
    missed = 0
    for figure in figures:
        verdict = "" if not figure.bar else "met" if figure.met else "MISSED"
        print(f"{figure.what:<100} {figure.ratio:>16}  {figure.bar:>9}  {verdict}", flush=True)
        missed += not figure.met
    return missed


def at_most(what: str, ratio: float, bar: float) -> Figure:
    """Return the figure of a ratio that has an upper limit."""
    return Figure(what, f"{ratio:.2f} x", f"<= {bar:g} x", ratio <= bar)


def at_least(what: str, ratio: float, bar: float) -> Figure:
    """Return the figure of a ratio that has a lower limit."""
    return Figure(what, f"{ratio:.2f} x", f">= {bar:g} x", ratio >= bar)


def ratio_of(one: Callable[[], object], other: Callable[[], object], calls: int = 200) -> float:
    """Time two functions in turn, round by round.

    Args:
        one: The function measured.
        other: The one it is measured by.
        calls: How often each is called in a round.

    Returns:
        The median, over the rounds, of how many times as long `one` took.
    """
    for _ in range(calls):
        one()
        other()
    return statistics.median(_seconds(one, calls) / _seconds(other, calls) for _ in range(ROUNDS))


def _seconds(function: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - started
