"""Why a database failed, in words that say what to look at."""

import sqlite3

from pulp_hooks.errors import JournalError

_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: "another process has locked it for too long",
    sqlite3.SQLITE_LOCKED: "another process has locked it for too long",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CORRUPT: "the file is corrupt",
    sqlite3.SQLITE_NOTADB: "the file is corrupt or no SQLite database",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk failed",
}

_POSTGRESQL_REASONS = {
    "53100": "the server's disk is full",
    "25006": "the server is read-only",
    "55P03": "another process has locked it for too long",
    "40P01": "another process has locked it",
    "42501": "the user may not do that",
    "42P01": "it is no journal, or not the one of the settings",
    "3D000": "there is no such database",
    "28P01": "the password is wrong",
    "28000": "the user may not connect",
}


_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


def may_pass(error: JournalError) -> bool:
    """Return whether a failure to open a journal may be over later, as when its server is still starting.

    What this package found itself is not: a wrong version, a missing driver or folder. Nor is a file that is not a
    database, or a right that is missing.
    """
    cause = error.__cause__
    origin = getattr(cause, "orig", None) or cause
    if isinstance(origin, sqlite3.Error):
        return getattr(origin, "sqlite_errorcode", 0) & 0xFF in _PASSING
    # psycopg, which may not be installed, names errors of the server's operation so.
    return any(kind.__name__ == "OperationalError" for kind in type(origin).__mro__)


def is_full(error: JournalError) -> bool:
    """Return whether SQLite failed because the disk is full."""
    origin = getattr(error.__cause__, "orig", None) or error.__cause__
    return getattr(origin, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def reason(error: BaseException) -> str:
    """Give why a driver raised this."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return _SQLITE_REASONS.get(code, "SQLite refused")
    if isinstance(error, OSError):
        return "the file cannot be opened"
    state = getattr(error, "sqlstate", None)
    if type(error).__name__ in {"OperationalError", "AdminShutdown", "ConnectionTimeout"} and not state:
        return "the server cannot be reached or is gone"
    if state and state.startswith(("57P", "08")):
        return "the server cannot be reached or is gone"
    return _POSTGRESQL_REASONS.get(state or "", "the database refused")
