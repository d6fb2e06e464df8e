"""Sources of a repository: a web server or a folder."""

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
    """A repository to mirror. Several threads may open its files at once."""

    @property
    def name(self) -> str:
        """Name for messages and events, without secrets."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder, or `None` if the source is not a local folder."""
        ...

    def entries(self) -> list[Entry]:
        """Return the entries of all files, in order of path.

        Raises:
            MirrorError: The manifest or the folder cannot be read or is invalid, or a file of a folder cannot be used.
        """
        ...

    def open(self, entry: Entry) -> AbstractContextManager[Iterator[bytes]]:
        """Return a context manager that opens the file of an entry and yields its bytes in chunks.

        Raises:
            MirrorError: The file cannot be read. The message names it.
        """
        ...

    def close(self) -> None:
        """Stop all transfers. May be called twice."""


@contextmanager
def open_source(source: str, min_speed: int = MIN_SPEED) -> Iterator[Source]:
    """Yield the source for a path or URL, and close it at the end. Nothing is read yet.

    Raises:
        MirrorError: The path or URL is invalid, or the HTTP client is not installed.
    """
    opened = _source(source, min_speed)
    try:
        yield opened
    finally:
        opened.close()


def _source(text: str, min_speed: int) -> Source:
    # Never put the text into a message: an invalid URL may contain a password anywhere.
    if not text:
        raise MirrorError("SOURCE is empty; fix: pass a folder's path or a URL")
    if not _URL.match(text):
        if _MISSPELT_URL.match(text):
            raise MirrorError("SOURCE looks like a URL without `//`; fix: add it, or put `./` before a folder's name")
        return _folder_source(Path(text).absolute(), str(Path(text).absolute()))
    try:
        parts = urlsplit(text)
        _ = parts.port  # an invalid one raises
    except ValueError:
        raise MirrorError(f"SOURCE is a URL with an invalid host or port; fix: write {_IN_PASSWORDS}") from None
    if parts.query or parts.fragment:
        raise MirrorError(
            "SOURCE is a URL with a query (`?`) or fragment (`#`), but must be the URL of a folder; "
            "fix: remove it, or write `?` and `#` in a folder's name as %3F and %23"
        )
    match parts.scheme:
        case "http" | "https":
            return _http_source(text, parts, min_speed)
        case "file":
            return _file_source(parts)
        case scheme:
            raise MirrorError(f"SOURCE is a URL with scheme {scheme}; fix: use http, https or file")


def _http_source(url: str, parts: SplitResult, min_speed: int) -> Source:
    if not parts.hostname:
        raise MirrorError("SOURCE is a URL without a host")
    if "@" in parts.path:  # it may be the end of a password with a slash, which must not become a path
        raise MirrorError(f"SOURCE is a URL with `@` after its host; fix: write it as %40, and {_IN_PASSWORDS}")
    try:
        # Imported here, because mirroring a folder needs no HTTP client.
        from pulp_hooks.hosts.file_mirror.http_source import HttpSource  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise MirrorError("mirroring a URL needs urllib3; fix: pip install 'pulp-hooks[mirror]'") from error
    return HttpSource(url, min_speed)


def _file_source(parts: SplitResult) -> Source:
    if parts.netloc not in {"", "localhost"}:
        raise MirrorError("SOURCE is a file URL of another machine; fix: write file:///path/of/the/folder")
    path = os.fsdecode(unquote_to_bytes(parts.path))
    return _folder_source(Path(path), urlunsplit(("file", "", parts.path, "", "")))


def _folder_source(folder: Path, name: str) -> Source:
    if "\0" in str(folder):
        raise MirrorError("SOURCE contains a NUL character, which is not allowed in a folder's name")
    if folder.name == MANIFEST_NAME and folder.is_file():
        folder = folder.parent
    return FolderSource(name if name.isprintable() else ascii(name), folder)
