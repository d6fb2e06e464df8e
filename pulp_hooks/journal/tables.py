"""The tables of a journal: one schema for SQLite and PostgreSQL."""

from enum import StrEnum

from sqlalchemy import (
    DDL,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy import (
    event as events,
)

VERSION = 1
"""Which schema this is; a journal of another version is refused."""


class State(StrEnum):
    """Where a delivery stands.

    Attributes:
        WAITING: It will be made when it is due; while a worker has claimed it, it is due when the lease ends.
        HELD: Its listener is disabled; it waits until the listener is enabled.
        DELIVERED: The listener took it.
        DEAD: It was given up; only a replay makes it again.
    """

    WAITING = "waiting"
    HELD = "held"
    DELIVERED = "delivered"
    DEAD = "dead"


metadata = MetaData()

# `id` is random, and tells this journal from that of another database, which a host's connection may lead to.
journal = Table(
    "journal",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
)

# Moments are seconds since 1970. A repository's id is stored as bytes because PostgreSQL refuses NUL in text. Unlike
# the others this table has SQLite's row ids: without them an event of a kilobyte takes a page beside that of its row.
event = Table(
    "event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("time", Double, nullable=False, index=True),
    Column("repo_id", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# `lane` is a digest of the repository's id: PostgreSQL's indexes hold no value of more than 2.7 kB. It is null, and
# indexed nowhere, where the order of a repository's events need not be kept. `sent` is when a message that asks for the
# delivery was last sent. An event is not deleted while a delivery names it, not even by a cascade.
delivery = Table(
    "delivery",
    metadata,
    Column("event_id", ForeignKey("event.id"), nullable=False),
    Column("listener", Text, nullable=False),
    Column("lane", LargeBinary),
    Column("state", Text, nullable=False),
    Column("due", Double),
    Column("lease", Text),
    Column("sent", Double),
    Column("tries", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created", Double, nullable=False),
    Column("finished", Double),
    Column("error", Text),
    PrimaryKeyConstraint("event_id", "listener"),
    sqlite_with_rowid=False,
)
_in_order = delivery.c.finished.is_(None) & delivery.c.lane.is_not(None)
for _name, _columns, _condition in (
    ("delivery_due", ("listener", "due", "event_id"), delivery.c.due.is_not(None)),
    ("delivery_lane", ("listener", "lane", "created", "event_id"), _in_order),
    ("delivery_finished", ("finished",), delivery.c.finished.is_not(None)),
):
    Index(_name, *(delivery.c[_column] for _column in _columns), sqlite_where=_condition, postgresql_where=_condition)

# On PostgreSQL whoever stores a delivery, a host within its own transaction too, wakes the workers of all machines.
CHANNEL = "pulp_hooks"
"""What the workers listen to; the message is the schema, as a database may hold several journals."""

for _statement in (
    f"""CREATE FUNCTION pulp_hooks_wake() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('{CHANNEL}', TG_TABLE_SCHEMA); RETURN NULL; END $$""",
    """CREATE TRIGGER pulp_hooks_wake AFTER INSERT ON delivery FOR EACH STATEMENT EXECUTE FUNCTION pulp_hooks_wake()""",
):
    _ddl = DDL(_statement).execute_if(dialect="postgresql")  # type: ignore[no-untyped-call] # SQLAlchemy gives it none
    events.listen(delivery, "after_create", _ddl)

attempt = Table(
    "attempt",
    metadata,
    Column("event_id", Text, nullable=False),
    Column("listener", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("started", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("error", Text),
    PrimaryKeyConstraint("event_id", "listener", "number"),
    ForeignKeyConstraint(["event_id", "listener"], ["delivery.event_id", "delivery.listener"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)

listener = Table(
    "listener",
    metadata,
    Column("name", Text, primary_key=True),
    Column("disabled_at", Double),
    Column("reason", Text),
    Column("failing_since", Double),
    Column("paced_until", Double),
    sqlite_with_rowid=False,
)
