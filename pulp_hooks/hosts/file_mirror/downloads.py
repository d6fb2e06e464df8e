"""Parallel downloads into the store.

The threads are daemons, unlike those of a `ThreadPoolExecutor`, which would keep the process alive after Ctrl-C until
every server has answered.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias, runtime_checkable

from pulp_hooks.hosts.file_mirror.manifest import Entry, shown
from pulp_hooks.hosts.file_mirror.sources import Source
from pulp_hooks.hosts.file_mirror.store import Store
from pulp_hooks.hosts.file_mirror.transfers import ChangedError, retry_changed
from pulp_hooks.safe_logger import safe_logger

THREADS = 8
_Key: TypeAlias = tuple[str, int]  # checksum and size
_log = safe_logger(__name__)
_FAREWELL_SECONDS = 1.0  # enough for threads to clean up, except for one that waits for a server


class Progress(Protocol):
    """Receives the progress of the downloads. Its methods are called in the thread that called `mirror`."""

    def start(self, total_bytes: int) -> None:
        """Start the downloads; called once, after the source was read. The total may be 0."""

    def advance(self, new_bytes: int) -> None:
        """Add downloaded bytes. The number is negative if a file has to be downloaded again."""


@runtime_checkable
class VerifyProgress(Progress, Protocol):
    """Also receives the progress of the verification of stored files, which comes before the downloads."""

    def verify(self, total_bytes: int) -> None:
        """Start the verification of stored files. Calls of `advance` follow."""


class _StoppedError(Exception):
    """A thread stops because another one failed or the user interrupted the run."""


class Downloads:
    """Downloads from a source into a store.

    Attributes:
        files: Number of downloaded files.
        bytes: Number of downloaded bytes, including unfinished files.
    """

    def __init__(self, source: Source, store: Store, progress: Progress | None) -> None:
        self.files = 0
        self.bytes = 0
        self._source = source
        self._store = store
        self._progress = progress
        self._todo: SimpleQueue[Entry] = SimpleQueue()
        self._news: SimpleQueue[int | BaseException | None] = SimpleQueue()  # None: a file is complete
        self._stop = threading.Event()

    def run(self, entries: Sequence[Entry], *, verify: bool) -> None:
        """Download the files missing from the store. The first error stops all threads.

        Raises:
            MirrorError: A file cannot be downloaded or stored. The message names it.
        """
        wanted = {(entry.sha256, entry.size): entry for entry in entries}
        lacking = {key: entry for key, entry in wanted.items() if not self._store.has(entry)}
        if verify:
            lacking |= self._damaged({key: entry for key, entry in wanted.items() if key not in lacking})
        for entry in lacking.values():
            if os.path.lexists(self._store.path(entry)):
                _log.warning("stored file %s is damaged; downloading it again", shown(entry.path))
        if self._progress:
            self._progress.start(sum(entry.size for entry in lacking.values()))
        for entry in lacking.values():
            self._todo.put(entry)
        threads: list[threading.Thread] = []
        try:
            for _ in range(min(THREADS, len(lacking))):
                thread = threading.Thread(target=self._work, daemon=True)
                thread.start()
                threads.append(thread)
            while self.files < len(lacking):
                self._take(self._news.get())
        except BaseException:
            self._stop.set()
            self._source.close()
            raise
        finally:
            deadline = time.monotonic() + _FAREWELL_SECONDS
            for thread in threads:
                thread.join(max(0, deadline - time.monotonic()))

    def _damaged(self, stored: Mapping[_Key, Entry]) -> dict[_Key, Entry]:
        total = sum(entry.size for entry in stored.values())
        read: Callable[[int], object] = lambda _: None  # noqa: E731 - a default, replaced below
        if isinstance(self._progress, VerifyProgress) and total:
            self._progress.verify(total)
            read = self._progress.advance
        return {
            key: entry
            for key, entry in stored.items()
            if not self._store.is_intact(self._store.path(entry), entry, read)
        }

    def _take(self, news: int | BaseException | None) -> None:
        match news:
            case int():
                self.bytes += news
                if self._progress:
                    self._progress.advance(news)
            case None:
                self.files += 1
            case _:
                raise news

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                entry = self._todo.get_nowait()
                retry_changed(partial(self._download, entry))
                self._news.put(None)
        except Empty:
            pass
        except BaseException as error:  # noqa: BLE001 - `run` raises it in the caller's thread
            self._news.put(error)

    def _download(self, entry: Entry) -> None:
        counted = 0

        def count(chunks: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal counted
            for chunk in chunks:
                if self._stop.is_set():
                    raise _StoppedError
                yield chunk
                self._news.put(len(chunk))
                counted += len(chunk)

        try:
            with self._source.open(entry) as chunks:
                self._store.add(entry, count(chunks))
        except ChangedError:
            self._news.put(-counted)
            raise
