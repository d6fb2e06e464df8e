"""What the tests of the journal share: a journal in each of the two databases, and another process that locks one."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pulp_hooks.journal.journal import Journal

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""

Lock = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    """Return an empty journal in each of the two databases."""
    journal = Journal(url)
    yield journal
    journal.close()


@pytest.fixture
def locked_elsewhere() -> Lock:
    """Return a function that makes a context manager in which another process writes to a SQLite file."""

    @contextmanager
    def lock(path: Path) -> Iterator[None]:
        command = [sys.executable, "-c", LOCK, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            try:
                yield
            finally:
                process.communicate("over\n")

    return lock
