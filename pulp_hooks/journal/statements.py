"""Statements that the two databases spell differently."""

from functools import cache

from sqlalchemy import Connection, Dialect, Insert, Table, Update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg

from pulp_hooks.journal.tables import delivery


def insert_new(dialect: str, table: Table) -> Insert:
    """Give the statement that inserts rows and passes over those that are there."""
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing().inline()
    return postgresql.insert(table).on_conflict_do_nothing().inline()


@cache
def driver_text(statement: Insert | Update, dialect: str) -> str:
    """Give a statement as the text that the driver of a dialect takes, with the names of its parameters.

    Args:
        statement: The statement, which lives as long as the process.
        dialect: `sqlite` or `postgresql`.
    """
    spoken: Dialect = sqlite.dialect(paramstyle="named") if dialect == "sqlite" else psycopg.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy gives it none
    return str(statement.compile(dialect=spoken))


def lock_deliveries(connection: Connection) -> None:
    """Keep others from changing deliveries until the transaction ends; it is to be the first thing in it.

    Who changes many rows without that would wait in a circle with others. SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {delivery.name} IN EXCLUSIVE MODE")


def share_deliveries(connection: Connection) -> None:
    """Keep `lock_deliveries` of others off until the transaction ends; it is to be the first thing in it.

    Who took it only when a delivery is changed, after another lock, would wait in a circle with those who lock all.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {delivery.name} IN ROW EXCLUSIVE MODE")
