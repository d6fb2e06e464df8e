"""`pulp-hooks journal`."""

import click

from pulp_hooks.cli.journal_access import journal_of
from pulp_hooks.cli.output import echo_json, echo_result, json_option, settings_option


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  pulp-hooks journal
  pulp-hooks journal upgrade --dry-run
  pulp-hooks journal upgrade""",
)
@settings_option
@json_option
@click.pass_context
def command(ctx: click.Context, settings: str | None, *, as_json: bool) -> None:
    """Show the schema version of the journal; upgrade it.

    A release also works on the schema of the release before it: upgrade hosts and workers first, one after the other,
    and the journal afterwards.
    """
    if ctx.invoked_subcommand:
        return
    with journal_of(settings) as (journal, _):
        due = journal.upgrade(dry_run=True)
    upgrade = f"`pulp-hooks journal upgrade` changes it to {due.version}" if due.sql else "no upgrade is due"
    value = {"journal": journal.name, "version": due.found, "upgrade_to": due.version if due.sql else None}
    echo_result(value, f"the journal {journal.name} has schema version {due.found}; {upgrade}", as_json=as_json)


@command.command("upgrade", epilog="\b\nExample:\n  pulp-hooks journal upgrade --dry-run > upgrade.sql")
@click.option("--dry-run", is_flag=True, help="Print the SQL without executing it.")
@settings_option
@json_option
def upgrade(settings: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Change the tables to the schema version of this release, in one transaction."""
    with journal_of(settings) as (journal, _):
        done = journal.upgrade(dry_run=dry_run)
    if as_json:
        echo_json({"journal": journal.name, "from": done.found, "to": done.version, "sql": done.sql})
    elif not done.sql:
        # With --dry-run, standard output is SQL.
        click.echo(f"nothing to do: the journal {journal.name} has schema version {done.found}", err=dry_run)
    elif dry_run:
        click.echo(done.sql, nl=False)
    else:
        click.echo(f"the journal {journal.name} is upgraded from schema version {done.found} to {done.version}")
