"""Waking: new work is told at once, in the same process and by the server of PostgreSQL."""

import threading
import time
from collections.abc import Callable

from pulp_hooks.journal.waking import Waking
from sqlalchemy import create_engine

from pulp_hooks.event import Event
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.replay import Finished

Make = Callable[..., Event]


def test_subscriber_is_called_after_each_event_until_it_unsubscribes(journal: Journal, new_event: Make) -> None:
    """What is told has been stored already; an event that was known tells nothing."""
    told = []
    event = new_event()
    unsubscribe = journal.subscribe(lambda: told.append(journal.append(event, ["a"])))
    journal.append(event, ["a"])
    assert told == [False]
    unsubscribe()
    journal.append(new_event(), ["a"])
    assert told == [False]


def test_server_tells_of_what_others_store_replay_and_enable(postgresql_url: str, new_event: Make) -> None:
    """A delivery from another connection, a host's own transaction, a replay and an enabling each wake the listener."""
    ours, others = Journal(postgresql_url), Journal(postgresql_url)
    woken = threading.Event()

    def wakes(action: Callable[[], object]) -> bool:
        time.sleep(0.1)
        woken.clear()
        action()
        return woken.wait(5)

    waking = Waking(ours.backend, woken.set)
    waking.start()
    assert woken.wait(5)
    event = new_event()
    assert wakes(lambda: others.append(event, ["a"]))
    host = create_engine(postgresql_url)
    with host.begin() as connection:
        assert not _within(woken, lambda: others.append(new_event(), ["a"], connection))
        woken.clear()
    assert woken.wait(5)
    others.disable("a", "test")
    assert wakes(lambda: others.enable("a", 10))
    assert wakes(lambda: others.replay_finished(Finished("a")))
    waking.stop()
    for closing in (ours, others):
        closing.close()
    host.dispose()


def _within(woken: threading.Event, action: Callable[[], object]) -> bool:
    woken.clear()
    action()
    return woken.wait(0.5)


def test_listening_goes_on_when_the_server_ends_the_connection(postgresql_url: str, new_event: Make) -> None:
    """After the server has ended it, the thread connects again, and looks once for what it missed."""
    journal = Journal(postgresql_url)
    journal.backend.open()
    woken = threading.Event()
    waking = Waking(journal.backend, woken.set)
    waking.start()
    assert woken.wait(5)
    woken.clear()
    with journal.backend.writing("end the listening connection") as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN pulp_hooks' "
            "AND pid <> pg_backend_pid() AND datname = current_database()"
        )
    assert woken.wait(10)
    woken.clear()
    journal.append(new_event(), ["a"])
    assert woken.wait(5)
    waking.stop()
    journal.close()


def test_waking_ends_within_a_second(postgresql_url: str) -> None:
    """A worker that stops does not wait for a message."""
    journal = Journal(postgresql_url)
    waking = Waking(journal.backend, lambda: None)
    waking.start()
    time.sleep(0.3)
    began = time.monotonic()
    waking.stop()
    assert time.monotonic() - began < 2
    assert not waking._thread.is_alive()
    journal.close()
