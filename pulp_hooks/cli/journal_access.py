"""Opening the journal of the settings, for commands that read or change it."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from pulp_hooks.errors import JournalError, PulpHooksError
from pulp_hooks.outbox import open_journal
from pulp_hooks.settings.reading import FILE_NAME, ReadSettings, read_settings
from pulp_hooks.text import did_you_mean

if TYPE_CHECKING:
    from pulp_hooks.journal.journal import Journal

MISSING = "no journal is configured; fix: add [journal] with a url to the settings"


@contextlib.contextmanager
def journal_of(settings: str | None) -> Iterator[tuple["Journal", ReadSettings]]:
    """Return a context manager with the journal of the settings, and the settings; no plugin is loaded.

    Raises:
        JournalError: None is configured, or it does not exist yet.
    """
    read = read_settings(settings)
    journal_settings = read.journal()
    if journal_settings is None:
        faults = "; ".join(problem.cause for problem in read.problems) if read.path else f"there is no {FILE_NAME} here"
        raise JournalError(f"{MISSING} ({faults})" if faults else f"{MISSING} ({read.path})")
    journal = open_journal(journal_settings)
    if not journal.exists():
        raise JournalError(f"the journal {journal.name} does not exist yet; the first event that is fired creates it")
    try:
        yield journal, read
    finally:
        journal.close()


def known_listener(name: str, known: Sequence[str]) -> str:
    """Return the name if it is known.

    Raises:
        click.UsageError: It is not; the message suggests the nearest one.
    """
    if name not in known:
        hint = did_you_mean(name, known, "run `pulp-hooks listeners` for a list")
        raise click.UsageError(f"unknown listener {name!r}; {hint}")
    return name


class ListenerParameter(click.ParamType[str]):
    """Name of a listener; completes to those that the journal knows."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin with the incomplete one; none without a journal."""
        del param
        try:
            with journal_of(ctx.params.get("settings")) as (journal, _):
                names = [known.name for known in journal.listeners()]
        except PulpHooksError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def confirmed(question: str, *, yes: bool) -> None:
    """Ask for confirmation.

    Raises:
        click.UsageError: Standard input is not a terminal, and `--yes` was not passed.
        click.Abort: The answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Not a terminal; fix: pass --yes to confirm")
    click.confirm(question, abort=True, err=True)
