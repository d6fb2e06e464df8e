"""Connections that a host passes to store an event in its own transaction: which of them can do that."""

from sqlalchemy import Connection, TwoPhaseTransaction

from pulp_hooks.errors import JournalError

AUTOCOMMIT = (
    "the connection is in AUTOCOMMIT, so the event would not be committed together with the host's work; "
    "fix: use a connection with transactions, or fire without connection"
)
"""Error for a host's connection in which each statement is a transaction of its own."""


def check_host_connection(connection: object, dialect: str, name: str) -> None:
    """Check that something can be a host's connection to a journal, in a transaction that events can join.

    Args:
        connection: What the host passed.
        dialect: The kind of database of the journal.
        name: The journal, for messages.

    Raises:
        JournalError: It is not an SQLAlchemy connection, it leads to another kind of database, or it is in AUTOCOMMIT
            or a two-phase transaction.
    """
    if not isinstance(connection, Connection):
        kinds = [kind.__name__ for kind in type(connection).__mro__]
        remedy = next((_CONNECTIONS[kind] for kind in kinds if kind in _CONNECTIONS), _CONNECTIONS["Engine"])
        raise JournalError(f"connection must be an SQLAlchemy Connection, not {kinds[0]}; fix: {remedy}")
    if connection.closed:
        raise JournalError("the connection is closed; fix: fire the event before the end of its block")
    if connection.dialect.name != dialect:
        raise JournalError(f"the connection is to {connection.dialect.name}, and the journal is {name}")
    if isinstance(connection.get_transaction(), TwoPhaseTransaction):
        raise JournalError(
            "the connection is in a two-phase transaction, which PostgreSQL cannot prepare once an event has been "
            "stored in it (NOTIFY); fix: use an ordinary transaction, or fire without connection after the commit"
        )
    if getattr(connection.connection.dbapi_connection, "autocommit", False) is True:
        raise JournalError(AUTOCOMMIT)


_AFIRE = "await hooks.afire(..., connection={})"

_CONNECTIONS = {
    "Engine": "pass the connection of `with engine.begin() as connection`",
    "Session": "pass session.connection()",
    "scoped_session": "pass session.connection()",
    "AsyncConnection": _AFIRE.format("connection"),
    "AsyncSession": _AFIRE.format("await session.connection()"),
    "async_scoped_session": _AFIRE.format("await session.connection()"),
    "AsyncEngine": f"`async with engine.begin() as connection`, and {_AFIRE.format('connection')}",
}
"""How to get a connection, by the type of what was passed instead."""
