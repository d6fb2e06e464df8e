"""What Alembic runs: the revisions, on the connection that `upgrading` passes."""

from typing import Any

from alembic import context

from pulp_hooks.journal.opening import schema_of
from pulp_hooks.journal.schema import version

connection = context.config.attributes["connection"]
options: dict[str, Any] = {
    "version_table": version.name,
    "version_table_schema": schema_of(connection),
    "transactional_ddl": True,
}
if context.is_offline_mode():
    context.configure(dialect_name=connection.dialect.name, literal_binds=True, **options)
else:
    context.configure(connection=connection, **options)
with context.begin_transaction():
    for statement in context.config.attributes["preparing"]:
        context.execute(statement)
    context.run_migrations()
