"""What Alembic runs: the revisions, on the connection that `upgrading` gives."""

from typing import Any

from alembic import context

from pulp_hooks.journal.opening import schema_of
from pulp_hooks.journal.schema import metadata, version

connection = context.config.attributes["connection"]
options: dict[str, Any] = {
    "target_metadata": metadata,
    "version_table": version.name,
    "version_table_schema": schema_of(connection),
    "version_table_pk": True,
    "transactional_ddl": True,
}
if context.is_offline_mode():
    context.configure(dialect_name=connection.dialect.name, literal_binds=True, **options)
else:
    context.configure(connection=connection, **options)
with context.begin_transaction():
    context.run_migrations()
