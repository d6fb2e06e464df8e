"""Waking: new work is told at once, in the same process and by the server of PostgreSQL."""

import threading
import time
from collections.abc import Callable

from sqlalchemy import create_engine

from pulp_hooks.event import Event
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.replay import Finished

Make = Callable[..., Event]


def test_subscriber_is_called_after_each_event_until_it_unsubscribes(journal: Journal, new_event: Make) -> None:
    """The event has been stored by then; an event that was known before wakes nobody."""
    found = []
    event = new_event()

    def wake() -> None:
        # The server's messages are noticed in a thread of their own.
        if threading.current_thread() is threading.main_thread():
            found.append(journal.append(event, ["a"]))

    with journal.subscribed(wake):
        journal.append(event, ["a"])
        assert found == [False]
    journal.append(new_event(), ["a"])
    assert found == [False]


def test_server_tells_of_what_others_store_replay_and_enable(postgresql_url: str, new_event: Make) -> None:
    """A delivery from another connection, a host's own transaction, a replay and an enabling each wake the listener."""
    ours, others = Journal(postgresql_url), Journal(postgresql_url)
    woken = threading.Event()

    def wakes(action: Callable[[], object]) -> bool:
        time.sleep(0.1)
        woken.clear()
        action()
        return woken.wait(5)

    host = create_engine(postgresql_url)
    with ours.subscribed(woken.set):
        assert woken.wait(5)
        event = new_event()
        assert wakes(lambda: others.append(event, ["a"]))
        with host.begin() as connection:
            assert not _within(woken, lambda: others.append(new_event(), ["a"], connection))
            woken.clear()
        assert woken.wait(5)
        others.disable("a", "test")
        assert wakes(lambda: others.enable("a", 10))
        assert wakes(lambda: others.replay_finished(Finished("a")))
    for closing in (ours, others):
        closing.close()
    host.dispose()


def _within(woken: threading.Event, action: Callable[[], object]) -> bool:
    woken.clear()
    action()
    return woken.wait(0.5)


def test_listening_goes_on_when_the_server_ends_the_connection(postgresql_url: str, new_event: Make) -> None:
    """After the server has ended it, the thread connects again, and looks once for what it missed."""
    ours, others = Journal(postgresql_url), Journal(postgresql_url)
    woken = threading.Event()
    with ours.subscribed(woken.set):
        assert woken.wait(5)
        woken.clear()
        with others.backend.writing("end the listening connection") as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN pulp_hooks' "
                "AND pid <> pg_backend_pid() AND datname = current_database()"
            )
        assert woken.wait(10)
        woken.clear()
        others.append(new_event(), ["a"])
        assert woken.wait(5)
    for closing in (ours, others):
        closing.close()


def test_listening_ends_with_the_subscription(postgresql_url: str) -> None:
    """A worker that stops does not wait for a message."""
    journal = Journal(postgresql_url)
    woken = threading.Event()
    with journal.subscribed(woken.set):
        assert woken.wait(5)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "pulp_hooks waking")
    thread.join(10)
    assert not thread.is_alive()
    journal.close()


def test_journals_of_one_database_wake_their_own_workers(postgresql_url: str, new_event: Make) -> None:
    """The server's message names the schema: what is stored in another one wakes nobody here."""
    schema = f"other_{new_id()}"
    ours, others = Journal(postgresql_url), Journal(postgresql_url, schema=schema)
    admin = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    woken = threading.Event()
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        try:
            with ours.subscribed(woken.set):
                assert woken.wait(5)
                assert not _within(woken, lambda: others.append(new_event(), ["a"]))
        finally:
            others.close()
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    admin.dispose()
    ours.close()
