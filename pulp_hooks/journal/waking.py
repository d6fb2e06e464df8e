"""Being woken by new work that others have stored: LISTEN and NOTIFY of PostgreSQL."""

import threading
from collections.abc import Callable

from sqlalchemy import Connection

from pulp_hooks.errors import JournalError
from pulp_hooks.journal.database import Database
from pulp_hooks.journal.tables import CHANNEL
from pulp_hooks.safe_logger import safe_logger

_log = safe_logger(__name__)

_LOOK_SECONDS = 0.5
"""How often the thread looks whether it is to end."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
"""How long it waits before it connects again to a server that went away; it grows."""


class Waking:
    """Calls a function whenever somebody has stored a delivery, on whatever machine. With SQLite it does nothing.

    Args:
        database: The journal's.
        wake: The function; it may be called too often.
    """

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pulp_hooks waking", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        if not self._database.is_sqlite:
            self._thread.start()

    def stop(self) -> None:
        """Listen no more; returns within a second."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2 * _LOOK_SECONDS)

    def _work(self) -> None:
        pause = 0.0
        while not self._over.wait(pause):
            try:
                with self._database.listening(CHANNEL) as heard:
                    if heard is None:
                        _log.info("the journal %s is behind a pooler; workers look once a second", self._database.name)
                        return
                    # What was stored while nobody listened is looked for once.
                    self._wake()
                    pause = 0.0
                    while not self._over.is_set():
                        if heard(_LOOK_SECONDS):
                            self._wake()
            except JournalError as error:
                pause = min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)
                _log.info("%s; it is tried again in %.1f s", error, pause)


def notify(connection: Connection) -> None:
    """Wake all workers when the transaction is committed. With SQLite it does nothing."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_notify('{CHANNEL}', current_schema())")
