"""A listener for pulp_hooks: prints one readable line for each event on standard output."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

from pulp_hooks import hookimpl

if TYPE_CHECKING:
    from pulp_hooks import Event
    from pulp_hooks.bodies.types import RepoPublishFinished, RepoPublishStarted, RepoSyncFinished, RepoSyncStarted

_COLOURS = {"success": 32, "skipped": 33, "canceled": 33, "failed": 31, "error": 31}
"""The ANSI code of each result: green, yellow or red."""

_LONGEST = 150
"""How many characters of a text are shown. Two texts fit, even escaped, in the 4096 bytes that pipes do not divide."""


@hookimpl
def repo_sync_started(body: "RepoSyncStarted", event: "Event") -> None:
    """Print that a sync begins."""
    _print(event, "sync started", body["repo_id"])


@hookimpl
def repo_sync_finished(body: "RepoSyncFinished", event: "Event") -> None:
    """Print how a sync has ended, and what it brought."""
    counts = {"added": body["added_count"], "updated": body["updated_count"], "removed": body["removed_count"]}
    remarks = [f"{count} {what}" for what, count in counts.items() if count is not None]
    _print(event, "sync finished", body["repo_id"], body["result"], *remarks, *_error(body))


@hookimpl
def repo_publish_started(body: "RepoPublishStarted", event: "Event") -> None:
    """Print that a publish begins."""
    _print(event, "publish started", body["repo_id"])


@hookimpl
def repo_publish_finished(body: "RepoPublishFinished", event: "Event") -> None:
    """Print how a publish has ended."""
    _print(event, "publish finished", body["repo_id"], body["result"], *_error(body))


def _error(body: "RepoSyncFinished | RepoPublishFinished") -> list[str]:
    """Return the first line of the error, where there is one."""
    text = (body["error_message"] or body["exception"] or "").strip()
    return [_shown(line) for line in text.splitlines()[:1]]


def _shown(text: str) -> str:
    """Return a text that came from elsewhere so that it stays on its line and cannot pass for what we print.

    A repr is quoted, and escapes whatever is not printable: line breaks, control characters, marks that turn the
    direction of writing.
    """
    return repr(text) if len(text) <= _LONGEST else repr(text[:_LONGEST]) + "..."


def _print(event: "Event", what: str, repo_id: str, result: str = "", *remarks: str) -> None:
    stdout = sys.stdout
    if stdout is None:  # in a program that was started without one
        return
    # What cannot be printed, because standard output is closed or broken, is lost; that harms nobody.
    with contextlib.suppress(OSError, ValueError, LookupError):
        line = f"{event.time:%Y-%m-%dT%H:%M:%SZ} {what} {_shown(repo_id)}"
        if result:
            coloured = _is_terminal(stdout) and not os.environ.get("NO_COLOR")
            shown = f"\x1b[{_COLOURS[result]}m{result}\x1b[0m" if coloured else result
            line += ": " + ", ".join([shown, *remarks])
        _write(stdout, f"{line}\n")


def _is_terminal(stdout: TextIO) -> bool:
    isatty = getattr(stdout, "isatty", None)
    return isatty is not None and isatty()


def _write(stdout: TextIO, line: str) -> None:
    """Write a line in one call, so that those of several threads stay apart, with what the encoding lacks escaped.

    It goes past the buffer, where there is one: what cannot be written would stay in there, and be the host's failure
    when the host ends. What a host puts in place of standard output may have nothing but `write`, as `print` needs no
    more; that of a Celery worker has no `encoding`.
    """
    encoding = getattr(stdout, "encoding", None) or "utf-8"
    encoded = line.encode(encoding, "backslashreplace")
    flush = getattr(stdout, "flush", lambda: None)
    flush()
    raw = getattr(getattr(stdout, "buffer", None), "raw", None)
    if raw:
        raw.write(encoded)
    else:
        stdout.write(encoded.decode(encoding))
        flush()
