"""A connection to PostgreSQL that is cut during a commit: the event is stored once, or the host learns its id."""

import logging
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest
from sqlalchemy import create_engine, make_url, select

from pulp_hooks import Event, EventType, Hooks, JournalError, JournalSettings, Settings, Status, hookimpl
from pulp_hooks.journal import schema
from pulp_hooks.journal.journal import Journal

Make = Callable[..., Event]


class Listener:
    """A listener that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl
    def repo_sync_started(self) -> None:
        """Count."""
        self.calls += 1


class Proxy:
    """Stands between a journal and the server, and cuts connections at their COMMIT.

    Attributes:
        cuts: How many commits are cut, from now on.
        forwards: Whether the server gets a COMMIT before the connection is cut.
        url: URL of the journal through the proxy.
    """

    def __init__(self, url: str) -> None:
        server = make_url(url)
        folder = str(server.query.get("host", ""))
        self._server = f"{folder}/.s.PGSQL.{server.port or 5432}" if folder else (server.host, server.port or 5432)
        self._listening = socket.create_server(("127.0.0.1", 0))
        through = server.difference_update_query(["host"]).set(host="127.0.0.1", port=self._listening.getsockname()[1])
        self.url = through.render_as_string(hide_password=False)
        self.cuts, self.forwards = 0, True
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            # To close it is not enough, while the thread waits for the next connection.
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET)
                server.connect(self._server)
                for target, pair in ((self._ask, (client, server)), (self._answer, (server, client))):
                    threading.Thread(target=target, args=pair, daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            while asked := client.recv(65536):
                if b"COMMIT\0" in asked and self.cuts > 0:
                    self.cuts -= 1
                    # The client is cut first, so that no answer reaches it.
                    client.shutdown(socket.SHUT_RDWR)
                    if self.forwards:
                        server.sendall(asked)
                    break
                server.sendall(asked)
            # To close it is not enough, while the other thread waits for what it says.
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while answered := server.recv(65536):
                client.sendall(answered)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[Proxy]:
    """Yield a proxy in front of an empty database."""
    with closing(Proxy(postgresql_url)) as proxy:
        yield proxy


def stored(url: str) -> list[tuple[str, str]]:
    """Return the event and the listener of every delivery, as another program sees them."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(
            select(schema.event.c.id, schema.delivery.c.listener).join_from(schema.event, schema.delivery)
        ).all()
    engine.dispose()
    return sorted((row.id, row.listener) for row in rows)


@pytest.mark.parametrize("forwards", [True, False])
def test_event_whose_commit_was_cut_is_stored_once(proxy: Proxy, postgresql_url: str, *, forwards: bool) -> None:
    """Whether the server got the COMMIT or not, `fire` returns a queued event, and there is one delivery of it."""
    with Hooks({"Listener": Listener()}, journal=proxy.url) as hooks:
        first = hooks.repo_sync_started(repo_id="zoo").event.id
        proxy.cuts, proxy.forwards = 2, forwards
        report = hooks.repo_sync_started(repo_id="zoo")
        assert proxy.cuts == 0
    assert [outcome.status for outcome in report.outcomes] == [Status.QUEUED]
    assert stored(postgresql_url) == sorted([(first, "Listener"), (report.event.id, "Listener")])


def test_known_id_stays_known_when_the_commit_is_cut(proxy: Proxy, postgresql_url: str) -> None:
    """An event that was stored before has no outcomes, as nothing is queued for it now."""
    with Hooks({"Listener": Listener()}, journal=proxy.url) as hooks:
        hooks.repo_sync_started(repo_id="zoo", event_id="task-7")
        proxy.cuts = 1
        report = hooks.repo_sync_started(repo_id="zoo", event_id="task-7")
        assert (proxy.cuts, report.outcomes) == (0, ())
    assert stored(postgresql_url) == [("task-7", "Listener")]


def test_error_has_the_id_of_an_event_that_may_be_stored(proxy: Proxy, postgresql_url: str) -> None:
    """When no commit comes through, the host gets the id, and firing again with it stores no second delivery."""
    journal = Journal(proxy.url, busy_seconds=0.5)
    with Hooks({"Listener": Listener()}, journal=journal) as hooks:
        hooks.repo_sync_started(repo_id="zoo", event_id="before")
        proxy.cuts = 1000
        with pytest.raises(JournalError, match=r"may be stored.*fire again with event_id='") as caught:
            hooks.repo_sync_started(repo_id="zoo")
        event_id = caught.value.event_id
        assert event_id is not None
        assert event_id in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).event_id == event_id  # noqa: S301 - of our own making
        proxy.cuts = 0
        hooks.repo_sync_started(repo_id="zoo", event_id=event_id)
    journal.close()
    assert stored(postgresql_url) == sorted([("before", "Listener"), (event_id, "Listener")])


def test_event_that_may_be_stored_is_not_dispatched(
    proxy: Proxy, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With `on_error = "dispatch"` the listener would get it twice: now, and by a worker."""
    listener = Listener()
    settings = Settings(journal=JournalSettings(proxy.url, busy_seconds=0.5, on_error="dispatch"))
    with Hooks({"Listener": listener}, settings=settings) as hooks, caplog.at_level(logging.ERROR):
        hooks.repo_sync_started(repo_id="zoo")
        proxy.cuts = 1000
        with pytest.raises(JournalError, match="may be stored"):
            hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})
        assert listener.calls == 0
        proxy.close()
    assert len(stored(postgresql_url)) == 2


def test_event_that_is_certainly_not_stored_has_no_id_in_the_error(proxy: Proxy, new_event: Make) -> None:
    """A server that is gone before the COMMIT has stored nothing."""
    journal = Journal(proxy.url, busy_seconds=0.5)
    proxy.close()
    with pytest.raises(JournalError) as caught:
        journal.append(new_event(), ["a"])
    assert caught.value.event_id is None
    journal.close()
