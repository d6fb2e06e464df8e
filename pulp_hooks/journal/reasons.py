"""Why a database failed, in words that say what to look at."""

import re
import sqlite3

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

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

_WRONG_OPTION = "an option of the URL is wrong"

_GONE = "the server cannot be reached or is gone"

_POSTGRESQL_REASONS = {
    "57P03": _GONE + ": it starts or stops",
    "53300": "the server has too many connections; fix: raise its limit, or use a pooler",
    "25P02": "an earlier statement of the transaction failed; fix: roll it back",
    "53100": "the server's disk is full",
    "25006": "the server is read-only",
    "55P03": "another process has locked it for too long",
    "40P01": "another process has locked it",
    "42501": "the user may not do that; fix: GRANT it",
    "42P01": "it is no journal, or not the one of the settings",
    "3D000": "there is no such database",
    "28P01": "the password is wrong",
    "28000": "the user may not connect",
}


_SERVER_SAYS = (
    # What a server or a pooler says when it refuses a connection: there is no SQLSTATE then.
    ("database .* does not exist|no such database", "there is no such database; fix: create it, or correct the URL"),
    ("role .* does not exist|no such user", "there is no such user; fix: create the role, or correct the URL"),
    (
        "password authentication failed|no password supplied|SASL authentication failed|password is required",
        "the password is wrong or missing; fix: correct the URL",
    ),
    (
        "too many clients|too many connections|connection slots are reserved|no more connections allowed",
        "the server has too many connections; fix: raise its limit, or use a pooler",
    ),
    (
        "no pg_hba.conf entry|authentication failed|not permitted to log in|permission denied for database",
        "the user may not connect; fix: allow it in pg_hba.conf or with GRANT CONNECT, or correct the URL",
    ),
    ("not currently accepting connections", "the database accepts no connections"),
    ("system is (starting up|shutting down|in recovery)|not yet accepting connections", _GONE + ": it starts or stops"),
    (
        "unsupported startup parameter",
        "a pooler refuses an option of the URL; fix: remove it, or set it for the role on the server",
    ),
    ("invalid .*value|bad value|non-integer port|invalid connection option|invalid port", _WRONG_OPTION),
    (
        "SSL|certificate|TLS|GSSAPI",
        "an encrypted connection could not be made; fix: correct sslmode and certificates in the URL or on the server",
    ),
    ("failed to resolve|could not translate host name|Name or service not known", _GONE + ": its host was not found"),
    ("Connection refused|No such file or directory", _GONE + ": nothing listens at this host and port"),
    ("timeout expired|timed out", _GONE + ": it did not answer in time"),
)
"""Parts of messages of a connection that failed, and what they mean; the first one that is found counts."""


_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


def may_pass(error: JournalError) -> bool:
    """Return whether a failure to open a journal may be over later, as when its server is still starting.

    What this package found itself is not: a wrong version, a missing driver or folder. Nor is a file that is not a
    database, a right that is missing, or a wrong option of the URL.
    """
    cause = error.__cause__
    origin = getattr(cause, "orig", None) or cause
    if isinstance(origin, sqlite3.Error):
        return getattr(origin, "sqlite_errorcode", 0) & 0xFF in _PASSING
    # psycopg, which may not be installed, names errors of the server's operation so.
    is_operational = any(kind.__name__ == "OperationalError" for kind in type(origin).__mro__)
    return origin is not None and is_operational and reason(origin) != _WRONG_OPTION


def is_full(error: JournalError) -> bool:
    """Return whether SQLite failed because the disk is full."""
    origin = getattr(error.__cause__, "orig", None) or error.__cause__
    return getattr(origin, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def reason(error: BaseException) -> str:
    """Return why a driver raised this."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return _SQLITE_REASONS.get(code, "SQLite refused")
    if isinstance(error, OSError):
        return "the file cannot be opened"
    if isinstance(error, PoolTimeoutError):
        return "all connections of this process are in use; fix: use it in fewer threads"
    state = getattr(error, "sqlstate", None)
    return _state_reason(state) if state else _connection_reason(error)


def _state_reason(state: str) -> str:
    """Return what an SQLSTATE means."""
    if state in _POSTGRESQL_REASONS:
        return _POSTGRESQL_REASONS[state]
    return _GONE if state.startswith(("57P", "08")) else "the database refused"


def _connection_reason(error: BaseException) -> str:
    """Return why a connection could not be made, or was lost: then there is only text."""
    # Of several addresses that were tried, what a server said counts for more than that another one was not there.
    found = (meaning for said, meaning in _SERVER_SAYS if re.search(said, str(error)))
    is_connection = type(error).__name__ in {"OperationalError", "ConnectionTimeout"}
    return next(found, _GONE if is_connection else "the database refused")
