"""Pages of a journal's deliveries: each with 3,000,000 stored deliveries beside the same with 3,000."""

import contextlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measuring import Figure, at_most
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.queries import Filter
from pulp_hooks.journal.schema import State

_FEW, _MANY = 1000, 1_000_000
"""Events, each with a delivery for three listeners."""

_RARE = 60
"""Deliveries of a fourth listener, spread over all events."""

_PAGE = 20
_ROUNDS = 60


def measure() -> Iterator[Figure]:
    """Time pages of a small and of a large journal in turn, round by round."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        journals = {}
        for events in (_FEW, _MANY):
            path = Path(folder) / f"{events}.db"
            journals[events] = journal = Journal(f"sqlite:///{path}")
            stack.callback(journal.close)
            journal.open()
            fill(path, events)
        for what, page in _PAGES.items():
            ratios = []
            for _ in range(_ROUNDS):
                few, many = (_seconds(page, journals[events], events) for events in (_FEW, _MANY))
                ratios.append(many / few)
            yield at_most(
                f"{what}, {3 * _MANY:,} stored deliveries / {3 * _FEW:,}",
                statistics.median(ratios[_ROUNDS // 10 :]),
                1.5,
            )


def fill(path: Path, events: int) -> None:
    """Store events, one a second, most of them delivered; one delivery in 40 is dead, and one in 50 is retried."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            "INSERT INTO pulp_hooks_event (number, id, type, time, repo_id, content)"
            " VALUES (?, ?, 'repo-sync-started', ?, x'7a6f6f', ?)",
            ((number, f"old-{number:08}", float(number), b"x" * 260) for number in range(1, events + 1)),
        )
        connection.executemany(
            "INSERT INTO pulp_hooks_delivery (event, listener, state, due, attempts, created, finished)"
            " VALUES (?, ?, ?, ?, 1, ?, ?)",
            _deliveries(events),
        )
        connection.executemany(
            "INSERT INTO pulp_hooks_listener (name) VALUES (?)", [("mail",), ("mirror",), ("rare",), ("search",)]
        )
        connection.commit()


def _deliveries(events: int) -> Iterator[tuple[object, ...]]:
    for number in range(1, events + 1):
        at = float(number)
        for place, listener in enumerate(("mail", "mirror", "search")):
            chance = 3 * number + place
            if chance % 50 == 0:
                yield number, listener, "retrying", 4e9 + number, at, None
            else:
                yield number, listener, "delivered" if chance % 40 else "dead", None, at, at
        if number % (events // _RARE) == 0:
            yield number, "rare", "delivered", None, at, at


def _seconds(page: Callable[[Journal, int], object], journal: Journal, events: int) -> float:
    began = time.perf_counter()
    page(journal, events)
    return time.perf_counter() - began


def _window(journal: Journal, events: int) -> object:
    return journal.deliveries(Filter(since=events / 2, until=events / 2 + 60), _PAGE)


_PAGES: dict[str, Callable[[Journal, int], object]] = {
    "newest page": lambda journal, _: journal.deliveries(limit=_PAGE),
    "newest dead letters": lambda journal, _: journal.deliveries(Filter(states=(State.DEAD,)), _PAGE),
    "page of a rare listener": lambda journal, _: journal.deliveries(Filter(listener="rare"), _PAGE),
    "page of a time window": _window,
}
