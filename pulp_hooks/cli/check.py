"""`pulp-hooks check`."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict

import click

from pulp_hooks.cli.output import counted, echo_json, json_option, settings_option, show_log, stdout_for_listeners
from pulp_hooks.errors import JournalError
from pulp_hooks.hooks import Hooks
from pulp_hooks.problems import Problem
from pulp_hooks.text import printable


@click.command(epilog="\b\nExamples:\n  pulp-hooks check\n  pulp-hooks check --settings site.toml --json")
@settings_option
@json_option
@click.pass_context
def command(ctx: click.Context, settings: str | None, *, as_json: bool) -> None:
    """Check plugins, settings and journal, and say how to fix what is wrong.

    Loads every installed plugin and every configured listener, as a host does. If there is a journal, stores and
    records a delivery in a transaction that is rolled back; a journal that does not exist is not created. Exit code 1
    if something is wrong.
    """
    show_log("pulp_hooks.plugins")
    with stdout_for_listeners(as_json=as_json), Hooks.discover(settings) as hooks:
        hooks.build_notifiers()
        problems = [*hooks.problems, *_problems_of_journal(hooks)]
        loaded = sum(bool(listener.implementations) for listener in hooks.listeners)
    if as_json:
        echo_json({"ok": not problems, "loaded": loaded, "problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            origin = f" ({problem.distribution})" if problem.distribution else ""
            hook = f", {problem.hook}" if problem.hook else ""
            click.secho(printable(f"{problem.where}{origin}{hook}"), bold=True)
            click.secho(f"    {printable(problem.cause)}", fg="red")
            click.echo(f"    fix: {printable(problem.remedy)}")
        click.echo(f"{counted(loaded, 'listener')} loaded, {counted(len(problems), 'problem')}")
    if problems:
        ctx.exit(1)


def _problems_of_journal(hooks: Hooks) -> Iterator[Problem]:
    journal = None
    with suppress(JournalError):  # it is among the problems already
        journal = hooks.journal
    if journal is None:
        return
    try:
        journal.check()
    except JournalError as error:
        yield Problem(
            "[journal]", str(error), "correct the database, or use another url; until then no event is accepted"
        )
