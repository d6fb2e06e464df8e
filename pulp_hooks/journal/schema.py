"""The tables of a journal, the same in SQLite and PostgreSQL, and the states of a delivery.

All names begin with `pulp_hooks_`, so that a journal can share a database with the host's own tables. How the tables
change from release to release is in `migrations`.
"""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

PREFIX = "pulp_hooks_"
"""What the names of all tables, indexes and functions begin with."""

HEAD = "0001"
"""The schema version of this release, which is the newest revision in `migrations`."""

OLDEST = "0001"
"""The oldest schema version that this release can work on: that of the release before it."""


class State(StrEnum):
    """The state of a delivery.

    Attributes:
        PENDING: No attempt has failed so far. It is claimed when it is due.
        RETRYING: The last attempt failed. The next one is made when it is due.
        HELD: Its listener is disabled. It becomes due when the listener is enabled.
        DELIVERED: The listener took it.
        DEAD: It was given up: a dead letter. Only a replay makes it again.
        SKIPPED: The listener does not take the event any more, for example because its filter was narrowed.
    """

    PENDING = "pending"
    RETRYING = "retrying"
    HELD = "held"
    DELIVERED = "delivered"
    DEAD = "dead"
    SKIPPED = "skipped"


FINISHED = frozenset({State.DELIVERED, State.DEAD, State.SKIPPED})
"""The states of deliveries that are not attempted again without a replay."""

UNFINISHED = frozenset(State) - FINISHED

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""A key that the database counts up. In SQLite only `INTEGER` is one."""

# One row. `id` is random: it distinguishes this journal from that of another database, which a host's connection may
# lead to. `readable_from` is the oldest schema version whose release can still work on these tables.
journal = Table(
    f"{PREFIX}journal",
    metadata,
    Column("id", Text, primary_key=True),
    Column("readable_from", Text, nullable=False),
)

# In the format of Alembic, which reads and writes it in an upgrade.
version = Table(f"{PREFIX}version", metadata, Column("version_num", Text, primary_key=True))

# Times are seconds since 1970. `number` is the order of storing; `time` is when the event was stored, and never less
# than that of the event before, so that a time window is a range of numbers and needs no index.
# `repo_id` is bytes because PostgreSQL has no NUL in text.
event = Table(
    f"{PREFIX}event",
    metadata,
    Column("number", _NUMBER, Identity(), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("repo_id", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("trace_context", Text),
)

# `due` is null when there is nothing to claim: held or finished. While a worker has a claim, `lease` is its token and
# `due` is when the lease ends. `step` counts attempts since the event was fired or replayed, those that use up a step
# of the retry schedule; `attempts` counts all. `ordering_key` is a digest of the repository's id, null where the order
# of a repository's events need not be kept. `sent` is when a message that asks for the delivery was last sent.
delivery = Table(
    f"{PREFIX}delivery",
    metadata,
    Column("event", ForeignKey(event.c.number), nullable=False),
    Column("listener", Text, nullable=False),
    Column("ordering_key", _NUMBER),
    Column("state", Text, nullable=False),
    Column("due", Double),
    Column("lease", Text),
    Column("sent", Double),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created", Double, nullable=False),
    Column("finished", Double),
    Column("error", Text),
    PrimaryKeyConstraint("event", "listener"),
    sqlite_with_rowid=False,
)

# An unfinished delivery is in one of the first two, a finished one in the third: each statement of a host or a worker
# changes one index, and no claim reads anything that is finished.
_unfinished = delivery.c.finished.is_(None)
for _name, _columns, _condition in (
    ("due", ("listener", "due", "event"), _unfinished & delivery.c.ordering_key.is_(None)),
    ("ordered", ("listener", "ordering_key", "event"), _unfinished & delivery.c.ordering_key.is_not(None)),
    ("finished", ("listener", "event"), delivery.c.finished.is_not(None)),
    ("claimed", ("listener", "due"), delivery.c.lease.is_not(None)),
    ("dead", ("event",), delivery.c.state == State.DEAD.value),
):
    Index(
        f"{PREFIX}delivery_{_name}",
        *(delivery.c[_column] for _column in _columns),
        sqlite_where=_condition,
        postgresql_where=_condition,
    )

# `detail` is JSON that the listener wants shown of the attempt.
attempt = Table(
    f"{PREFIX}attempt",
    metadata,
    Column("event", _NUMBER, nullable=False),
    Column("listener", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("started", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("traceback", Text),
    Column("detail", Text),
    PrimaryKeyConstraint("event", "listener", "number"),
    ForeignKeyConstraint(
        ["event", "listener"], [delivery.c.event, delivery.c.listener], onupdate="CASCADE", ondelete="CASCADE"
    ),
    sqlite_with_rowid=False,
)

# Every listener that ever had a delivery. `failing_since` is when the first attempt failed after the last success;
# `paced_until` is the state of the rate limit.
listener = Table(
    f"{PREFIX}listener",
    metadata,
    Column("name", Text, primary_key=True),
    Column("disabled_at", Double),
    Column("reason", Text),
    Column("failing_since", Double),
    Column("paced_until", Double),
    sqlite_with_rowid=False,
)
