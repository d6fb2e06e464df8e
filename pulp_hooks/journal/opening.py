"""Opening a journal: its tables are created in a new database, and their version is checked in one that has them."""

from dataclasses import dataclass

from sqlalchemy import Connection, inspect, select

from pulp_hooks.errors import JournalError
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal import schema

READS = "pulp_hooks_reads"
"""Execution option of a connection that only reads, and need not wait for writers."""

_DEVELOPMENT = {"journal": {"version", "id"}, "delivery": {"event_id", "listener", "lane"}}
"""Tables, and columns of them, that a journal had before the first release."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade changes.

    Attributes:
        found: The schema version before.
        version: The schema version after.
        sql: The statements; empty if there is nothing to do.
    """

    found: str
    version: str
    sql: str


def is_journal(connection: Connection) -> bool:
    """Return whether the database has the tables of a journal, of whatever version."""
    return inspect(connection).has_table(schema.version.name, schema=schema_of(connection))


def schema_of(connection: Connection) -> str | None:
    """Return the database schema that a connection finds the journal's tables in; null for that of the connection."""
    found: str | None = connection.get_execution_options().get("schema_translate_map", {}).get(None)
    return found


def create(connection: Connection) -> None:
    """Create the tables of this release."""
    schema.metadata.create_all(connection, checkfirst=False)
    connection.execute(schema.version.insert().values(version_num=schema.HEAD))
    connection.execute(schema.journal.insert().values(id=new_id(), readable_from=schema.HEAD))


def check_names(connection: Connection, name: str) -> None:
    """Check that nothing is in the way of the tables of a new journal.

    Raises:
        JournalError: The database has tables of their names, or those of a development version of this package.
    """
    found = inspect(connection)
    names = set(found.get_table_names(schema=schema_of(connection)))
    foreign = sorted(names & {table.name for table in schema.metadata.tables.values()})
    if foreign:
        raise JournalError(
            f"the journal {name} could not be opened: it has tables of these names that are not a journal's: "
            f"{', '.join(foreign)}; fix: use another database"
        )
    if names.issuperset(_DEVELOPMENT) and all(
        columns <= {column["name"] for column in found.get_columns(table, schema=schema_of(connection))}
        for table, columns in _DEVELOPMENT.items()
    ):
        raise JournalError(
            f"the journal {name} could not be opened: a development version of pulp-hooks made it, which no release "
            "can read; fix: deliver its events with that version, then use a new database"
        )


def check_version(connection: Connection, name: str) -> None:
    """Check that this release can work on a journal: on that of its own version, and of the releases next to it.

    Raises:
        JournalError: The journal has another version.
    """
    found = version_of(connection)
    readable_from = connection.execute(select(schema.journal.c.readable_from)).scalar()
    if found is None or readable_from is None:
        raise JournalError(f"the journal {name} has no schema version; fix: restore it from a backup")
    if found < schema.OLDEST:
        remedy = "run `pulp-hooks journal upgrade`"
    elif readable_from > schema.HEAD:
        remedy = "upgrade pulp-hooks on this machine"
    else:
        return
    works_on = " and ".join(dict.fromkeys((schema.OLDEST, schema.HEAD)))
    raise JournalError(
        f"the journal {name} has schema version {found}, and this release of the package works on {works_on}; "
        f"fix: {remedy}"
    )


def version_of(connection: Connection) -> str | None:
    """Return the schema version of a journal; null where it was deleted."""
    found: str | None = connection.execute(select(schema.version.c.version_num)).scalar()
    return found
