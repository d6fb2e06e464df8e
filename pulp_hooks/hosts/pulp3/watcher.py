"""Watching several servers and domains at a time, each in a thread of its own."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from pulp_hooks.errors import PulpError, PulpHooksError
from pulp_hooks.hosts.pulp3.checking import lacking, missing_roles
from pulp_hooks.hosts.pulp3.client import DEFAULT_DOMAIN, PulpClient, api_root
from pulp_hooks.hosts.pulp3.events import PulpEvent
from pulp_hooks.hosts.pulp3.position import Position, StateFolder
from pulp_hooks.hosts.pulp3.server_watcher import ServerWatcher
from pulp_hooks.safe_logger import safe_logger
from pulp_hooks.settings.model import PulpSettings

_log = safe_logger(__name__)

_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Pauses after errors, in seconds, unless the interval is longer."""

_LOOK_SECONDS = 0.5
_CLOSING_SECONDS = 5.0


class Watcher:
    """Watches servers until it is stopped. A server that is slow or down delays no other.

    Args:
        servers: The servers, with their passwords resolved.
        fire: Called with the name of a server and an event, in the thread of the server. An error that it raises is
            logged, and the event is fired again later.
        state: Where the positions are stored; null: they are read and written nowhere.
        since: Without a stored position, report what finished then or later; null: what finishes from now on.
        dry_run: Read stored positions, but store none.

    Raises:
        PulpError: Two servers have one name, or a domain is named twice: they would share a position.
    """

    def __init__(
        self,
        servers: Sequence[PulpSettings],
        fire: Callable[[str, PulpEvent], object],
        *,
        state: StateFolder | None = None,
        since: datetime | None = None,
        dry_run: bool = False,
    ) -> None:
        self.watched = tuple(
            WatchedDomain(server, domain, fire, state, since, dry_run=dry_run)
            for server in servers
            for domain in server.domains
        )
        names = [one.name for one in self.watched]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise PulpError(
                f"two servers or domains are named {doubled[0]!r}; fix: give each [[pulp]] table its own name"
            )
        self._is_stopped = False

    def run(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Watch until `stop` is called.

        Args:
            meanwhile: Called twice a second, in this thread.
        """
        stopping = threading.Event()
        threads = [
            threading.Thread(target=one.run, args=(stopping,), name=f"pulp_hooks {one.name}", daemon=True)
            for one in self.watched
        ]
        for thread in threads:
            thread.start()
        while not self._is_stopped:
            meanwhile()
            time.sleep(_LOOK_SECONDS)
        stopping.set()
        deadline = time.monotonic() + _CLOSING_SECONDS
        for thread in threads:
            # One that still waits for its server has nothing to lose: its position is stored with what was fired.
            thread.join(max(0.0, deadline - time.monotonic()))

    def run_once(self) -> bool:
        """Look once at every server, all at a time; return whether all could be watched."""
        threads = [threading.Thread(target=one.try_to_look, name=f"pulp_hooks {one.name}") for one in self.watched]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return all(one.error is None for one in self.watched)

    def stop(self) -> None:
        """Let `run` return after the looks that are under way. A signal handler may call it."""
        # Not an event: it has a lock, which the interrupted thread may hold.
        self._is_stopped = True


class WatchedDomain:
    """One domain of a server, its connection and its position.

    Attributes:
        name: Name of the server, with that of the domain unless it is the default one.
        error: Why the last look failed; null after a good one, and before the first.
        server: What was seen; null before the first connection.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        settings: PulpSettings,
        domain: str,
        fire: Callable[[str, PulpEvent], object],
        state: StateFolder | None,
        since: datetime | None,
        *,
        dry_run: bool,
    ) -> None:
        self._client = PulpClient(settings, domain)
        self.name = self._client.name
        self.error: str | None = None
        self.server: ServerWatcher | None = None
        self._settings = settings
        self._source = api_root(settings.url) + ("" if domain == DEFAULT_DOMAIN else f"{domain}/")
        self._fire = partial(fire, self.name)
        self._state = state
        self._since = since
        self._dry_run = dry_run
        self._is_connected = False

    def run(self, stopping: threading.Event) -> None:
        """Look at the server again and again, until an event is set."""
        failures = 0
        while not stopping.is_set():
            began = time.monotonic()
            failures = 0 if self.try_to_look() else failures + 1
            stopping.wait(self._pause(failures, time.monotonic() - began))
        self._client.close()

    def try_to_look(self) -> bool:
        """Look at the server once; log an error, and return whether there was none."""
        try:
            self._look()
        except PulpHooksError as error:
            self._is_connected = self._is_connected and not isinstance(error, PulpError)
            self._log_error(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - whatever a server answers must not end its thread
            _log.exception("%s: unexpected error", self.name)
            self.error = f"unexpected {type(error).__name__}: {error}"
            return False
        if self.error is not None:
            _log.warning("%s: watched again", self.name)
            self.error = None
        return True

    def _look(self) -> None:
        if not self._is_connected:
            self._client.connect()
            self._is_connected = True
        if self.server is None:
            position = self._state.load(self.name) if self._state else Position()
            server = ServerWatcher(
                self._client, self._settings, self._source, position, fire=self._fire, save=self._save
            )
            if position.cursor is None:
                server.begin(self._since)
            for role in missing_roles(self._client, self._settings, server.lookups):
                _log.warning("%s: %s", self.name, lacking(role))
            self.server = server
        self.server.look()

    def _save(self, position: Position) -> None:
        if self._state is not None and not self._dry_run:
            self._state.save(self.name, position)

    def _pause(self, failures: int, taken: float) -> float:
        """Return the seconds until the next look; after errors they grow, and differ from server to server.

        Args:
            failures: How many looks have failed since the last good one.
            taken: How long the last look took, in seconds.
        """
        interval = self._settings.interval_seconds
        if not failures:
            # A server that is slow has a rest all the same.
            return max(interval - taken, interval / 2)
        pause = min(_SHORTEST_PAUSE * 2.0 ** min(failures - 1, 10), max(_LONGEST_PAUSE, interval))
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def _log_error(self, text: str) -> None:
        # A server that is down for hours is one line, not thousands.
        if text != self.error:
            _log.warning("%s: %s", self.name, text)
        self.error = text
