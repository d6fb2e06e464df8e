"""Upgrading: Alembic changes the tables of an older journal to the schema of this release."""

import io
from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from pulp_hooks.errors import JournalError
from pulp_hooks.journal import schema
from pulp_hooks.journal.backend import Backend
from pulp_hooks.journal.opening import Upgrade, check_version, version_of

MIGRATIONS = str(resources.files("pulp_hooks.journal") / "migrations")
"""Folder of the revisions."""


def upgrade(backend: Backend, *, dry_run: bool) -> Upgrade:
    """Change the tables to the schema version of this release; see `Journal.upgrade`."""
    if not backend.is_there():
        raise JournalError(f"there is no journal {backend.name}; fix: correct the URL, or fire the first event")
    with backend.looking() as connection:
        found = version_of(connection)
        if found is None or found >= schema.HEAD:
            check_version(connection, backend.name)
            return Upgrade(str(found), str(found), "")
        sql = _run(backend, connection, f"{found}:{schema.HEAD}", dry_run=True)
    if not dry_run:
        with backend.migrating("upgrade its tables") as connection:
            _run(backend, connection, schema.HEAD, dry_run=False)
    return Upgrade(found, schema.HEAD, sql)


def _run(backend: Backend, connection: Connection, target: str, *, dry_run: bool) -> str:
    output = io.StringIO()
    config = Config(output_buffer=output)
    config.set_main_option("script_location", MIGRATIONS.replace("%", "%%"))
    config.attributes.update(connection=connection, preparing=backend.preparing_migration())
    command.upgrade(config, target, sql=dry_run)
    return output.getvalue()
