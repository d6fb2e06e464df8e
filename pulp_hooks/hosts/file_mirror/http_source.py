"""A repository on a web server: a folder with a `PULP_MANIFEST`."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from urllib.parse import quote, urlsplit, urlunsplit

from pulp_hooks.hosts.file_mirror.http_client import HttpClient
from pulp_hooks.hosts.file_mirror.manifest import MANIFEST_NAME, Entry, read_manifest, shown
from pulp_hooks.hosts.file_mirror.transfers import MIN_SPEED, retry_changed


class HttpSource:
    """A source given by the URL of a folder or of its manifest.

    Attributes:
        name: Name for messages and events: the URL without user name and password.
        folder: `None`, because the source is not a local folder.
    """

    def __init__(self, url: str, min_speed: int = MIN_SPEED) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        path = quote(re.sub("%(?![0-9A-Fa-f]{2})", "%25", parts.path), safe="/%:@!$&'()*+,;=~")
        self.name = urlunsplit((parts.scheme, host, path, "", ""))
        self.folder = None
        self._base = self.name.removesuffix(f"/{MANIFEST_NAME}").rstrip("/")
        self._client = HttpClient(url, min_speed)

    def entries(self) -> list[Entry]:
        """Return the entries of the manifest."""
        url = f"{self._base}/{MANIFEST_NAME}"

        def read() -> list[Entry]:
            with self._client.get(url, url) as chunks:
                return read_manifest(chunks, url)

        return retry_changed(read)

    def open(self, entry: Entry) -> AbstractContextManager[Iterator[bytes]]:
        """Return a context manager that requests a file and yields its bytes in chunks."""
        return self._client.get(
            f"{self._base}/{quote(entry.path)}", f"file {shown(entry.path)} of source {self.name}", entry.size
        )

    def close(self) -> None:
        """Stop all transfers, which then fail."""
        self._client.close()
