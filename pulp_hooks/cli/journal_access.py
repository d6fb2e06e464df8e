"""Opening the journal of the settings, for commands that only look into it or work on it."""

import contextlib
import difflib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from pulp_hooks.errors import JournalError, PulpHooksError
from pulp_hooks.outbox import open_journal
from pulp_hooks.settings.reading import FILE_NAME, ReadSettings, read_settings

if TYPE_CHECKING:
    from pulp_hooks.journal.journal import Journal

MISSING = "no journal is configured: add a table [journal] with a url to the settings"


@contextlib.contextmanager
def journal_of(settings: str | None) -> Iterator[tuple["Journal", ReadSettings]]:
    """Return a context manager with the journal of the settings, and the settings; no plugin is loaded.

    Raises:
        JournalError: None is configured, or it is not there yet.
    """
    read = read_settings(settings)
    journal_settings = read.journal()
    if journal_settings is None:
        faults = "; ".join(problem.cause for problem in read.problems) if read.path else f"there is no {FILE_NAME} here"
        raise JournalError(f"{MISSING} ({faults})" if faults else f"{MISSING} ({read.path})")
    journal = open_journal(journal_settings)
    if not journal.exists():
        raise JournalError(f"there is no journal {journal.name} yet: the first event that is fired creates it")
    try:
        yield journal, read
    finally:
        journal.close()


def known_listener(name: str, known: Sequence[str]) -> str:
    """Give the name back when it is known.

    Raises:
        click.UsageError: It is not; names the nearest one.
    """
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "`pulp-hooks listeners` shows those that are there"
        raise click.UsageError(f"there is no listener {name!r}; {hint}")
    return name


class ListenerParameter(click.ParamType[str]):
    """Name of a listener; completes to those that have deliveries."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Give the names that begin so; none where there is no journal."""
        del param
        try:
            with journal_of(ctx.params.get("settings")) as (journal, _):
                names = [known.name for known in journal.listeners()]
        except PulpHooksError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def confirmed(question: str, *, yes: bool) -> None:
    """Ask before something is done that cannot be undone.

    Raises:
        click.UsageError: Nobody can be asked, and `--yes` was not given.
        click.Abort: The answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Not a terminal; pass --yes to confirm")
    click.confirm(question, abort=True, err=True)
