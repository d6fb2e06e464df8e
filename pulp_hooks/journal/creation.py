"""The tables of a journal: they are created in a new database, and looked at in one that is there."""

from sqlalchemy import Connection, Engine, func, inspect, select

from pulp_hooks.errors import JournalError
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal import tables
from pulp_hooks.journal.sqlite_file import READS, turn_on_write_ahead_log

_LOCK = 0x70756C70
"""Number of PostgreSQL's advisory lock under which one process at a time creates the tables."""


def prepare(engine: Engine, name: str) -> None:
    """Create the tables in a new database, which is left as it is when it is none for a journal.

    Args:
        engine: The database.
        name: What it is called in messages.

    Raises:
        JournalError: The database is no journal, or one of another version.
    """
    is_sqlite = engine.dialect.name == "sqlite"
    # A journal that is there is only read, so that it can be opened while others write.
    with engine.connect().execution_options(**{READS: True}) as connection:
        is_new = not is_journal(connection)
        if not is_new:
            _check_version(connection, name)
        elif is_sqlite:
            # With PostgreSQL, which needs no setting up, another process may be creating them right now.
            _check_names(connection, name)
    if is_sqlite:
        turn_on_write_ahead_log(engine)
    if is_new:
        with engine.begin() as connection:
            prepare_within(connection, name)


def prepare_within(connection: Connection, name: str) -> None:
    """Create the tables in a new database, in the transaction of a connection.

    Raises:
        JournalError: The database is no journal, or one of another version.
    """
    if connection.dialect.name == "postgresql":
        # Another process may be about to do the same.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    if not is_journal(connection):
        _check_names(connection, name)
        tables.metadata.create_all(connection, checkfirst=False)
        connection.execute(tables.journal.insert().values(version=tables.VERSION, id=new_id()))
    _check_version(connection, name)


def is_journal(connection: Connection) -> bool:
    """Tell whether there are the tables of a journal, of whatever version."""
    return inspect(connection).has_table(tables.journal.name)


def check_new(connection: Connection, name: str) -> None:
    """Check that a journal can be created in a database, without creating it.

    Raises:
        JournalError: There are tables of the same names; or it is read-only, or the user may not create tables.
    """
    _check_names(connection, name)
    if connection.dialect.name == "postgresql":
        schema, may_create, read_only = connection.exec_driver_sql(
            "SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE'), "
            "current_setting('transaction_read_only') = 'on'"
        ).one()
        why = ""
        if schema is None:
            why = "no schema of the search_path exists; fix: create it, or correct the search_path"
        elif read_only:
            why = "the server is read-only; fix: use the primary server, or correct default_transaction_read_only"
        elif not may_create:
            why = f"the user may not create tables in the schema {schema}; fix: GRANT CREATE ON SCHEMA {schema}"
        if why:
            raise JournalError(f"the journal {name} cannot be created: {why}")


def journal_identity(connection: Connection) -> dict[str, str]:
    """Return the name of the PostgreSQL database that a connection leads to, and the id of the journal there."""
    row = connection.execute(select(func.current_database(), tables.journal.c.id)).one()
    return {"of_database": row[0], "of_journal": row[1]}


def _check_names(connection: Connection, name: str) -> None:
    foreign = sorted(set(inspect(connection).get_table_names()) & set(tables.metadata.tables))
    if foreign:
        raise JournalError(
            f"the journal {name} could not be opened: it has tables of these names that are no "
            f"journal's: {', '.join(foreign)}; take another database"
        )


def _check_version(connection: Connection, name: str) -> None:
    versions = list(connection.execute(select(tables.journal.c.version)).scalars())
    if versions != [tables.VERSION]:
        found = ", ".join(map(str, versions)) or "unknown"
        remedy = "upgrade pulp-hooks" if versions and max(versions) > tables.VERSION else "take another database"
        raise JournalError(
            f"the journal {name} could not be opened: its version is {found}, and this release of "
            f"pulp-hooks knows version {tables.VERSION}; {remedy}"
        )
