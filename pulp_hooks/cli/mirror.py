"""`pulp-hooks mirror`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
from click import progressbar

from pulp_hooks.cli.output import (
    counted,
    echo_result,
    json_for,
    json_option,
    settings_option,
    show_log,
    stdout_for_listeners,
)
from pulp_hooks.dispatch.outcomes import Report
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import MirrorResult, mirror
from pulp_hooks.hosts.file_mirror.transfers import MIN_SPEED

TERMINATED = 143
"""Exit code after SIGTERM: 128 and the number of the signal, as shells have it."""


@click.command(
    epilog="""\b
Examples:
  pulp-hooks mirror https://example.org/files/ /srv/mirror --repo-id files
  pulp-hooks mirror ./dist ./mirror --no-publish
  pulp-hooks mirror file:///srv/files /srv/mirror --json"""
)
@click.argument("source")
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--repo-id", help="Identifier of the repository in the events.  [default: name of DEST]")
@click.option("--no-publish", is_flag=True, help="Sync only; what is published stays as it is.")
@click.option(
    "--allow-shrink", is_flag=True, help="Accept a source that is empty, or lost more than half of its files."
)
@click.option("--verify", is_flag=True, help="Read all stored and published files again, and repair damaged ones.")
@click.option(
    "--min-speed",
    type=click.IntRange(min=0),
    metavar="BYTES",
    default=MIN_SPEED,
    show_default=True,
    help="Fail if a server sends fewer bytes per second for 30 seconds; 0 for no limit.",
)
@settings_option
@json_option
@click.pass_context
def command(  # noqa: PLR0913 - one for each argument and option
    ctx: click.Context,
    source: str,
    dest: Path,
    repo_id: str | None,
    settings: str | None,
    *,
    min_speed: int,
    no_publish: bool,
    allow_shrink: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Sync a file repository and publish it, firing its events.

    SOURCE is an http(s):// or file:// URL, or a folder. One with a PULP_MANIFEST (lines of path,sha256,size) is synced
    by it, a folder without one is scanned. DEST is the folder of the mirror; a web server serves DEST/current.

    With --json each event is a line of JSON, and the result is the last line. Exit code 1 if the sync or the publish
    failed; the previous publication stays. Exit code 1 too if standard output cannot be written; the run itself is
    completed.
    """
    if verify and no_publish:
        raise click.UsageError("--verify checks the publication too; fix: leave out --no-publish")
    show_log("pulp_hooks")
    kind = _PrintingHooks if as_json else Hooks
    _PrintingHooks.output = sys.stdout
    with (
        _terminable(),
        stdout_for_listeners(as_json=as_json),
        kind.discover(settings) as hooks,
        _ProgressBar() as progress,
    ):
        try:
            result = mirror(
                source,
                dest,
                hooks,
                repo_id=repo_id or dest.absolute().name,
                publish=not no_publish,
                progress=progress,
                allow_shrink=allow_shrink,
                verify=verify,
                min_speed=min_speed,
            )
        except Terminated:
            click.echo("terminated", err=True)
            ctx.exit(TERMINATED)
    value = asdict(result) | {"publication": result.publication and str(result.publication)}
    echo_result({"result": value}, _summary(result), as_json=as_json)


class _PrintingHooks(Hooks):
    """Prints each event that was fired as a line of JSON.

    Attributes:
        output: The stream; listeners print on another one, see `stdout_for_listeners`.
    """

    output: TextIO

    def fire(self, *arguments: Any, **options: Any) -> Report:  # noqa: ANN401 - as inherited
        report = super().fire(*arguments, **options)
        click.echo(json_for(self.output, report.event.to_json()), file=self.output)
        return report


class _ProgressBar(ExitStack):
    """Shows on a terminal how far the run is."""

    _bar: Any = None

    def verify(self, total_bytes: int) -> None:
        self._begin("Verifying", total_bytes)

    def start(self, total_bytes: int) -> None:
        self._begin("Downloading", total_bytes)

    def advance(self, new_bytes: int) -> None:
        if self._bar is not None:
            self._bar.update(new_bytes)
            if self._bar.finished:
                # Listeners print on a new line, not after the bar.
                self._end()

    def _end(self) -> None:
        self._bar = None
        self.close()

    def _begin(self, label: str, total_bytes: int) -> None:
        self._end()
        hidden = not sys.stderr.isatty() or total_bytes == 0
        bar = progressbar(length=total_bytes, label=label, show_pos=True, file=sys.stderr, hidden=hidden)
        self._bar = self.enter_context(bar)


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends the run as Ctrl-C does, with the result `canceled`."""


@contextmanager
def _terminable() -> Iterator[None]:
    def terminate(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _summary(result: MirrorResult) -> str:
    changes = f"{result.added_count} added, {result.updated_count} updated, {result.removed_count} removed"
    published = {
        "success": f"published at {result.publication}",
        "skipped": f"nothing new to publish, {result.publication} stays",
        None: "not published",
    }
    return (
        f"{result.repo_id}: {counted(result.files, 'file')}, {counted(result.bytes, 'byte')}; {changes}; "
        f"{published[result.publish_result]}; {result.seconds:.1f} s"
    )
