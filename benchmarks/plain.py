"""The floor of all that stores: plain sqlite3, INSERT and COMMIT."""

import sqlite3
import tempfile
import time
from pathlib import Path

from pulp_hooks.journal.sqlite_file import Synchronous


def plain(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Return a connection to a new file with one table of one column, `event`."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE event (content BLOB)")
    connection.commit()
    return connection


def insert(connection: sqlite3.Connection, content: bytes) -> None:
    """Insert one row, and commit it."""
    connection.execute("INSERT INTO event VALUES (?)", (content,))
    connection.commit()


def plain_seconds(content: bytes, synchronous: Synchronous, number: int) -> float:
    """Return how long one of so many takes."""
    with tempfile.TemporaryDirectory() as folder:
        connection = plain(Path(folder) / "plain.db", synchronous)
        began = time.perf_counter()
        for _ in range(number):
            insert(connection, content)
        seconds = time.perf_counter() - began
        connection.close()
    return seconds / number
