"""Upgrading: Alembic changes the tables of an older journal to the schema of this release."""

import io
from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import select

from pulp_hooks.errors import JournalError
from pulp_hooks.journal import schema
from pulp_hooks.journal.backend import Backend


def upgrade(backend: Backend, *, dry_run: bool) -> str:
    """Change the tables to the schema version of this release; see `Journal.upgrade`."""
    with backend.looking() as connection:
        found = connection.execute(select(schema.version.c.version_num)).scalar()
    if found is None or found > schema.HEAD:
        raise JournalError(
            f"the journal {backend.name} has schema version {found or 'unknown'}, and this release of pulp-hooks knows "
            f"{schema.HEAD}; fix: upgrade pulp-hooks on this machine"
        )
    if found == schema.HEAD:
        return ""
    statements = _run(backend, f"{found}:{schema.HEAD}", dry_run=True)
    if not dry_run:
        _run(backend, schema.HEAD, dry_run=False)
    return statements


def _run(backend: Backend, target: str, *, dry_run: bool) -> str:
    output = io.StringIO()
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(resources.files("pulp_hooks.journal") / "migrations"))
    with backend.migrating("upgrade its tables") as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, target, sql=dry_run)
    return output.getvalue()
