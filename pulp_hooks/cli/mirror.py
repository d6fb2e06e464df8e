"""`pulp-hooks mirror`."""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, Self, TextIO

import click
from click import progressbar

from pulp_hooks.cli.output import (
    counted,
    json_for,
    json_option,
    settings_option,
    show_log,
    stdout_for_listeners,
)
from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import MirrorResult, mirror
from pulp_hooks.hosts.file_mirror.transfers import MIN_SPEED
from pulp_hooks.outcomes import Report

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

    With --json each event is a line of JSON, and the result is the last line. Exit code 1 when the sync or the publish
    failed; what was published before then stays. Exit code 1 too if standard output cannot be written; the run itself
    is completed.
    """
    if verify and no_publish:
        raise click.UsageError("--verify checks the publication too; fix: leave out --no-publish")
    show_log("pulp_hooks")
    output = _Output(sys.stdout)
    kind = _PrintingHooks if as_json else Hooks
    with (
        _terminable(),
        stdout_for_listeners(as_json=as_json),
        kind.discover(settings) as hooks,
        _ProgressBar() as progress,
        output,
    ):
        if isinstance(hooks, _PrintingHooks):
            hooks.output = output
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
            with suppress(OSError):
                click.echo("terminated", err=True)
            ctx.exit(TERMINATED)
        if as_json:
            shown = asdict(result) | {"publication": result.publication and str(result.publication)}
            output.print(json.dumps({"result": shown}, ensure_ascii=False))
        else:
            output.print(_summary(result))
    if isinstance(output.error, BrokenPipeError):
        ctx.exit(1)  # the reader has left; other tools are silent then, too
    if output.error:
        raise click.ClickException(f"the mirror is complete, but standard output cannot be written: {output.error}")


class _PrintingHooks(Hooks):
    """Prints each event that was fired as a line of JSON."""

    output: "_Output"

    def fire(self, *arguments: Any, **options: Any) -> Report:  # noqa: ANN401 - as inherited
        report = super().fire(*arguments, **options)
        self.output.print(report.event.to_json())
        return report


class _Output:
    """Standard output, as it was before listeners' output was redirected.

    Printing never raises: a full disk or a reader that left must not end a run between two events.

    Attributes:
        error: Why a line could not be written; those after it are left out.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.error: Exception | None = None
        if stream is None:
            self.error = OSError(errno.EBADF, "it is closed")

    def print(self, line: str) -> None:
        self._attempt(lambda stream: click.echo(json_for(stream, line) if line.startswith("{") else line, file=stream))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._attempt(lambda stream: stream.flush())  # what listeners have printed

    def _attempt(self, write: Callable[[TextIO], object]) -> None:
        if self.error or self._stream is None:
            return
        try:
            write(self._stream)
        except (OSError, ValueError) as error:
            self.error = error
            # What is still in the buffer is written when the interpreter exits, and would fail again.
            with suppress(OSError, ValueError), Path(os.devnull).open("w") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())


class _ProgressBar:
    """Shows on a terminal how far the run is; a terminal that cannot be written to changes nothing."""

    def __init__(self) -> None:
        self._shown = ExitStack()
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._harmless():
            self._end()

    def verify(self, total_bytes: int) -> None:
        self._begin("Verifying", total_bytes)

    def start(self, total_bytes: int) -> None:
        self._begin("Downloading", total_bytes)

    def advance(self, new_bytes: int) -> None:
        if self._bar is None:
            return
        with self._harmless():
            self._bar.update(new_bytes)
            if self._bar.finished:
                # The lines of listeners come below the bar, not after it.
                self._end()

    def _begin(self, label: str, total_bytes: int) -> None:
        with self._harmless():
            self._end()
            if sys.stderr is not None and sys.stderr.isatty() and total_bytes:
                self._bar = self._shown.enter_context(
                    progressbar(length=total_bytes, label=label, show_pos=True, file=sys.stderr)
                )

    def _end(self) -> None:
        self._bar = None
        self._shown.close()

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            self._bar = None
            self._shown.pop_all()


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
