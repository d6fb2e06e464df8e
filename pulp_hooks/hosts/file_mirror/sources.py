"""Where a repository comes from: a web server or a folder."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit, urlunsplit

from pulp_hooks.errors import MirrorError
from pulp_hooks.hosts.file_mirror.folder_source import FolderSource
from pulp_hooks.hosts.file_mirror.manifest import MANIFEST_NAME, Entry
from pulp_hooks.hosts.file_mirror.transfers import MIN_SPEED

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_IN_PASSWORDS = "`/`, `?`, `#` and `@` in a password as %2F, %3F, %23 and %40"
_MISSPELT_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Source(Protocol):
    """A repository to be mirrored; threads may open its files at the same time."""

    @property
    def name(self) -> str:
        """The source as messages and events call it; nothing secret is in it."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder that it is, or None where it is none of this machine."""
        ...

    def entries(self) -> list[Entry]:
        """Give every file of the repository in order of path."""
        ...

    def open(self, entry: Entry) -> AbstractContextManager[Iterator[bytes]]:
        """Open one of `entries()`, and give its bytes in chunks."""
        ...

    def close(self) -> None:
        """End every transfer under way; closing twice is harmless."""
        ...


@contextmanager
def open_source(source: str, min_speed: int = MIN_SPEED) -> Iterator[Source]:
    """Give the source that a text names; nothing of it is read yet, and it is closed in the end.

    Args:
        source: A folder's path, or an `http://`, `https://` or `file://` URL of a folder or of its `PULP_MANIFEST`.
        min_speed: Bytes per second; a server that stays below it fails. 0 is no limit.

    Raises:
        MirrorError: The text names no source, or what would read it is not installed.
    """
    opened = _source(source, min_speed)
    try:
        yield opened
    finally:
        opened.close()


def _source(text: str, min_speed: int) -> Source:
    # No message repeats the text: a URL that is not as it should be may hold a password in any place.
    if not text:
        raise MirrorError("SOURCE is empty: give a folder's path or a URL")
    if not _URL.match(text):
        if _MISSPELT_URL.match(text):
            raise MirrorError("SOURCE looks like a URL that lacks `//` (put `./` before the name of a folder)")
        return _folder_source(Path(text).absolute(), str(Path(text).absolute()))
    try:
        parts = urlsplit(text)
        _ = parts.port  # a wrong one raises
    except ValueError:
        raise MirrorError(f"SOURCE is a URL with a wrong host or port: write {_IN_PASSWORDS}") from None
    if parts.query or parts.fragment:
        raise MirrorError(
            "SOURCE is a URL with a query (`?`) or fragment (`#`), which has no place before the names of files: "
            "give the URL of the folder alone, with %3F and %23 where its name holds these characters"
        )
    match parts.scheme:
        case "http" | "https":
            return _http_source(text, parts, min_speed)
        case "file":
            return _file_source(parts)
        case scheme:
            raise MirrorError(f"SOURCE is a URL of scheme {scheme}, which is none of http, https and file")


def _http_source(url: str, parts: SplitResult, min_speed: int) -> Source:
    if not parts.hostname:
        raise MirrorError("SOURCE is a URL without a host")
    if "@" in parts.path:  # it may be the end of a password with a slash in it, which must not become a path
        raise MirrorError(f"SOURCE is a URL with `@` behind its host: write it as %40, and {_IN_PASSWORDS}")
    try:
        # Imported when used: whoever mirrors a folder needs no HTTP client.
        from pulp_hooks.hosts.file_mirror.http_source import HttpSource  # noqa: PLC0415 - said above
    except ModuleNotFoundError as error:
        raise MirrorError("a mirror of a URL needs urllib3: pip install 'pulp-hooks[mirror]'") from error
    return HttpSource(url, min_speed)


def _file_source(parts: SplitResult) -> Source:
    if parts.netloc not in {"", "localhost"}:
        raise MirrorError("SOURCE is a file URL of another machine: write file:///path/of/the/folder")
    path = os.fsdecode(unquote_to_bytes(parts.path))
    return _folder_source(Path(path), urlunsplit(("file", "", parts.path, "", "")))


def _folder_source(folder: Path, name: str) -> Source:
    if "\0" in str(folder):
        raise MirrorError("SOURCE holds a NUL character, which no folder's name does")
    if folder.name == MANIFEST_NAME and folder.is_file():
        folder = folder.parent
    return FolderSource(name if name.isprintable() else ascii(name), folder)
