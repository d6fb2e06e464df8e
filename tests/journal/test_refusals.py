"""A PostgreSQL server that refuses a connection: each reason is named, by real servers."""

import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from sqlalchemy import URL, make_url

from pulp_hooks import Event, JournalError
from pulp_hooks.journal.journal import Journal
from tests.proofs.conftest import Server, server_folder

Make = Callable[..., Event]

PASSWORD = "hunter2-hunter2"  # noqa: S105 - of a server that lives as long as the test
GONE = "the server cannot be reached or is gone"


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """Yield a server that asks for passwords, and has room for two connections of ordinary users."""
    options = "-c max_connections=4 -c superuser_reserved_connections=2"
    with server_folder() as folder:
        server = Server(folder, settings=options, password=PASSWORD)
        server.start()
        with psycopg.connect(_text(make_url(server.url).set(password=PASSWORD)), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE ordinary LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE ROLE nologin PASSWORD 'hunter2-hunter2'")
            connection.execute("CREATE DATABASE closed ALLOW_CONNECTIONS false")
            connection.execute("CREATE DATABASE forbidden")
            connection.execute("REVOKE CONNECT ON DATABASE forbidden FROM PUBLIC")
        yield server
        server.stop()


@pytest.fixture
def good(strict: Server) -> URL:
    """Return the URL with which an ordinary user may connect."""
    return make_url(strict.url).set(username="ordinary", password=PASSWORD)


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def said(url: str, event: Event) -> str:
    """Return what an event is refused with, which shows no password."""
    journal = Journal(url, busy_seconds=2)
    with pytest.raises(JournalError) as caught:
        journal.append(event, ["a"])
    journal.close()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"database": "nowhere"}, "there is no such database; fix:"),
        ({"database": "closed"}, "the database accepts no connections"),
        ({"database": "forbidden"}, "the user may not connect; fix:"),
        ({"password": "hunter2-wrong"}, "the password is wrong or missing; fix:"),
        ({"password": None}, "the password is wrong or missing; fix:"),
        ({"username": "nobody_here"}, "the password is wrong or missing; fix:"),
        ({"username": "nologin"}, "the user may not connect; fix:"),
        ({"query": {"sslmode": "require"}}, "an encrypted connection could not be made; fix:"),
        ({"query": {"sslmode": "verify-full", "sslrootcert": "/nowhere"}}, "an encrypted connection could not be made"),
        ({"host": "nowhere.invalid"}, f"{GONE}: its host was not found"),
        ({"port": 1}, f"{GONE}: nothing listens at this host and port"),
        ({"host": None, "query": {"host": "/nowhere"}}, f"{GONE}: nothing listens at this host and port"),
    ],
)
def test_reason_of_a_refusal_is_named(changes: dict[str, object], reason: str, good: URL, new_event: Make) -> None:
    """An operator sees what to look at, and how to correct it."""
    url = good
    for name, value in changes.items():
        url = URL.create(**{**url._asdict(), name: value})
    assert reason in said(_text(url), new_event())


def test_missing_role_is_named(postgresql_url: str, new_event: Make) -> None:
    """A server that asks for no password says that there is no such role."""
    url = make_url(postgresql_url).set(username="nobody_here", host="127.0.0.1").difference_update_query(["host"])
    assert "there is no such user; fix:" in said(_text(url), new_event())


def test_too_many_connections_are_named(good: URL, new_event: Make) -> None:
    """Other programs have taken all that the server has for ordinary users."""
    with ExitStack() as taken:
        for _ in range(2):
            taken.enter_context(psycopg.connect(_text(good.set(drivername="postgresql"))))
        assert "the server has too many connections; fix:" in said(_text(good), new_event())


def test_server_that_does_not_answer_is_named(new_event: Make) -> None:
    """Something accepts the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:hunter2@127.0.0.1:{silent.getsockname()[1]}/d"
        assert f"{GONE}: it did not answer in time" in said(url, new_event())


def test_server_that_stops_is_named(strict: Server, good: URL, new_event: Make) -> None:
    """It waits for its clients to leave, and takes no others."""
    with closing(psycopg.connect(_text(good.set(drivername="postgresql")))):
        strict.begin_to_stop()
        assert f"{GONE}: it starts or stops" in said(_text(good), new_event())
        strict.stop()
    strict.start()
