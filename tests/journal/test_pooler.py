"""A journal behind PgBouncer in transaction mode, which runs each transaction on another connection to the server."""

import logging
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url

from pulp_hooks import Event, Hooks, JournalError, hookimpl
from pulp_hooks.journal.journal import Journal
from tests.proofs.conftest import server_folder

Make = Callable[..., Event]

_PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:" + os.environ["PATH"])


class Listener:
    """A listener that notes the identifiers of its events."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @hookimpl
    def repo_sync_started(self, event: Any) -> None:  # noqa: ANN401 - as pluggy has it
        """Note the identifier."""
        self.heard.append(event.id)


@pytest.fixture
def database(postgresql_url: str) -> Iterator[str]:
    """Yield the URL of an empty database of its own, as a pooler does not let clients choose a schema."""
    url = make_url(postgresql_url).difference_update_query(["options"])
    name = f"pooled_{uuid.uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield an empty folder for PgBouncer."""
    with server_folder() as folder:
        yield folder


@pytest.fixture
def pooled(database: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database behind a pooler; skip where PgBouncer is not installed, except in CI."""
    if _PGBOUNCER is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PgBouncer is not installed")
        pytest.skip("PgBouncer is not installed")
    server = make_url(database)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = server.username or pwd.getpwuid(os.geteuid()).pw_name
    password = f"password={server.password}" if server.password else ""
    host = server.host or server.query.get("host", "127.0.0.1")
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        "[databases]\n"
        f"* = host={host} port={server.port or 5432} user={user} {password}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 3\nserver_round_robin = 1\n"
    )
    # It refuses to be run by root.
    runs_as = "postgres" if os.geteuid() == 0 else None
    if runs_as:
        shutil.chown(folder, runs_as)
        shutil.chown(settings, runs_as)
    with (folder / "pgbouncer.log").open("w") as log:
        process = subprocess.Popen([_PGBOUNCER, str(settings)], user=runs_as, stdout=log, stderr=log, cwd="/")
    try:
        url = server.difference_update_query(["host"]).set(host="127.0.0.1", port=port)
        _until(lambda: _answers(port))
        yield url.render_as_string(hide_password=False)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with closing(socket.socket()) as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def _until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.fixture
def server(database: str) -> Iterator[Engine]:
    """Yield an engine that is connected without the pooler."""
    engine = create_engine(database)
    yield engine
    engine.dispose()


def test_events_are_fired_and_delivered_through_a_pooler(pooled: str, caplog: pytest.LogCaptureFixture) -> None:
    """Threads and workers use any connection to the server, also often enough for statements to be prepared."""
    listener, fired = Listener(), list[str]()
    with Hooks({"Listener": listener}, journal=pooled) as hooks, caplog.at_level(logging.WARNING), hooks.worker():

        def fire() -> None:
            fired.extend(hooks.repo_sync_started(repo_id="zoo").event.id for _ in range(20))

        threads = [threading.Thread(target=fire) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _until(lambda: len(listener.heard) >= 80)
    assert sorted(fired) == sorted(listener.heard)
    assert len(fired) == 80
    assert caplog.messages == []


def test_hosts_transaction_through_a_pooler_shares_the_event(pooled: str) -> None:
    """A host's own connection may go through the pooler as well."""
    listener = Listener()
    engine = create_engine(pooled, connect_args={"prepare_threshold": None})
    with Hooks({"Listener": listener}, journal=pooled) as hooks:
        with engine.connect() as connection:
            hooks.repo_sync_started(repo_id="zoo", connection=connection)
            connection.rollback()
            kept = hooks.repo_sync_started(repo_id="zoo", connection=connection).event.id
            connection.commit()
        hooks.worker().run_once()
    engine.dispose()
    assert listener.heard == [kept]


def test_schema_can_be_named_behind_a_pooler(pooled: str, server: Engine, new_event: Make) -> None:
    """It needs no search path, which a pooler does not let clients choose."""
    with server.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA hooks")
    with closing(Journal(pooled, schema="hooks")) as journal:
        events = [new_event() for _ in range(10)]
        for event in events:
            assert journal.append(event, ["a"])
        assert len(journal.queue.claim("a", 20, 60)) == 10
        assert journal.upgrade().sql == ""
    with server.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM hooks.pulp_hooks_event").scalar() == 10


def test_nothing_is_left_in_the_connections_of_a_pooler(pooled: str, server: Engine) -> None:
    """No prepared statement, no setting and no LISTEN is found by the next client."""
    with Hooks({"Listener": Listener()}, journal=pooled) as hooks, hooks.worker():
        for _ in range(10):
            hooks.repo_sync_started(repo_id="zoo")
        with server.connect() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
            assert connection.exec_driver_sql(query).scalar() == 0
    engine = create_engine(pooled, connect_args={"prepare_threshold": None})
    with engine.connect() as one, engine.connect() as two, engine.connect() as three:
        for connection in (one, two, three):
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"
            assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0
            assert connection.exec_driver_sql("SELECT count(*) FROM pg_listening_channels()").scalar() == 0
    engine.dispose()


def test_locks_are_waited_for_as_long_as_said_behind_a_pooler(pooled: str, server: Engine, new_event: Make) -> None:
    """An event and a transaction of a worker each give up after `busy_seconds`."""
    journal = Journal(pooled, busy_seconds=0.2)
    journal.append(new_event(), ["a"])
    with server.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE pulp_hooks_delivery IN EXCLUSIVE MODE")
        with pytest.raises(JournalError, match="locked it for too long"):
            journal.append(new_event(), ["a"])
        with pytest.raises(JournalError, match="locked it for too long"), journal.backend.writing("try") as other:
            other.exec_driver_sql("DELETE FROM pulp_hooks_delivery")
    assert journal.append(new_event(), ["a"])
    journal.close()


def test_statements_are_prepared_without_a_pooler(database: str, new_event: Make) -> None:
    """They save a third of the time of an event."""
    journal = Journal(database)
    for _ in range(10):
        journal.append(new_event(), ["a"])

    def look(cursor: Any) -> tuple[int, str]:  # noqa: ANN401 - the driver's
        prepared = cursor.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0]
        return prepared, cursor.execute("SHOW lock_timeout").fetchone()[0]

    prepared, lock_timeout = journal.backend.write("look", look)
    assert prepared > 0
    assert lock_timeout == "10s"
    journal.close()


def test_connections_that_are_all_in_use_are_said(database: str, new_event: Make) -> None:
    """A host with many threads learns that it has too many, after `busy_seconds`."""
    journal = Journal(database, busy_seconds=0.2)
    with ExitStack() as readers:
        for _ in range(7):
            readers.enter_context(journal.backend.reading("look"))
        with pytest.raises(JournalError, match="all connections of this process are in use"):
            readers.enter_context(journal.backend.reading("look"))
        # Readers take none of those that events are fired through.
        assert journal.append(new_event(), ["a"])
    journal.close()
