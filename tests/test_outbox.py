"""Firing into a journal: the stored event, the report, and a journal that fails."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pulp_hooks import (
    BodyError,
    ClosedError,
    Event,
    EventError,
    EventType,
    Hooks,
    JournalError,
    Status,
    hookimpl,
)
from pulp_hooks.event import read_stored
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal import schema
from pulp_hooks.journal.journal import Journal

STARTED = EventType.REPO_SYNC_STARTED
BODY = {"repo_id": "zoo"}


class Called:
    """A listener that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl
    def repo_sync_started(self) -> None:
        """Count."""
        self.calls += 1


class Other(Called):
    """A listener of another name."""


class Finishing:
    """A listener of other events."""

    @hookimpl
    def repo_sync_finished(self) -> None:
        """Do nothing."""


@pytest.fixture
def called() -> Called:
    """Return a listener that counts its calls."""
    return Called()


def stored(url: str) -> list[tuple[str, str]]:
    """Return the event and the listener of every delivery, read by another connection."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(
            select(schema.event.c.id, schema.delivery.c.listener).join_from(schema.event, schema.delivery)
        ).all()
    engine.dispose()
    return sorted((row.id, row.listener) for row in rows)


def events(url: str) -> list[bytes]:
    """Return the content of every stored event."""
    engine = create_engine(url)
    with engine.connect() as connection:
        contents = list(connection.execute(select(schema.event.c.content)).scalars())
    engine.dispose()
    return contents


def test_fired_event_is_stored_for_each_listener_and_calls_none(url: str, called: Called) -> None:
    """When `fire` returns, the journal has one event and a delivery for each matching listener."""
    with Hooks({"Called": called, "Other": Other(), "Finishing": Finishing()}, journal=url) as hooks:
        report = hooks.fire(STARTED, BODY)
    assert stored(url) == [(report.event.id, "Called"), (report.event.id, "Other")]
    assert [(x.listener, x.hook, x.status, x.error) for x in report.outcomes] == [
        ("Called", "repo_sync_started", Status.QUEUED, None),
        ("Other", "repo_sync_started", Status.QUEUED, None),
    ]
    assert report.failures == ()
    assert called.calls == 0


def test_stored_content_is_the_event(url: str, called: Called) -> None:
    """The stored content is the JSON of the event."""
    with Hooks({"Called": called}, journal=url) as hooks:
        event = hooks.fire(STARTED, BODY, call_report={"task_id": "7d1f"}).event
    (content,) = events(url)
    assert content == event.to_json().encode()
    assert Event.from_json(content) == read_stored(content) == event


def test_event_without_listeners_is_stored_too(url: str) -> None:
    """An event without listeners is stored, so that a listener added later can receive it."""
    with Hooks({"Finishing": Finishing()}, journal=url) as hooks:
        report = hooks.fire(STARTED, BODY)
    assert len(events(url)) == 1
    assert (stored(url), report.outcomes) == ([], ())


def test_known_id_is_not_stored_twice(url: str, called: Called) -> None:
    """Firing an event again with the same id adds no delivery."""
    with Hooks({"Called": called}, journal=url) as hooks:
        first = hooks.fire(STARTED, BODY, event_id="task-7d1f")
        second = hooks.fire(STARTED, {"repo_id": "other"}, event_id="task-7d1f")
    assert stored(url) == [("task-7d1f", "Called")]
    assert [len(report.outcomes) for report in (first, second)] == [1, 0]
    assert b"other" not in events(url)[0]


@pytest.mark.parametrize("event_id", ["", "a/b", "a b", "a\n", "ä", "a" * 129, "a.b"])
def test_invalid_id_is_refused(event_id: str, sqlite_url: str, called: Called) -> None:
    """Identifiers must fit into headers, keys and paths."""
    with Hooks({"Called": called}, journal=sqlite_url) as hooks, pytest.raises(EventError, match="id"):
        hooks.fire(STARTED, BODY, event_id=event_id)


def test_wrong_body_is_not_stored(url: str, called: Called) -> None:
    """An invalid body raises before anything is written."""
    with Hooks({"Called": called}, journal=url) as hooks:
        with pytest.raises(BodyError):
            hooks.fire(STARTED, {"repo_id": 7})
        hooks.fire(STARTED, BODY)
    assert len(events(url)) == 1


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_event_on_a_hosts_connection_is_part_of_its_transaction(ending: str, url: str, called: Called) -> None:
    """On the host's connection the event is committed or rolled back with the host's work."""
    journal = Journal(url)
    journal.backend.open()
    engine = create_engine(url)
    with Hooks({"Called": called}, journal=journal) as hooks, engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE synced (name TEXT)")
        connection.exec_driver_sql("INSERT INTO synced VALUES ('zoo')")
        hooks.fire(STARTED, BODY, connection=connection)
        getattr(connection, ending)()
    engine.dispose()
    journal.close()
    assert len(stored(url)) == (1 if ending == "commit" else 0)


@pytest.mark.parametrize("where", ["engine", "connection"])
def test_connection_in_autocommit_is_refused(where: str, url: str, called: Called) -> None:
    """In autocommit mode the event could not be committed together with the host's work."""
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine(url, **options) if where == "engine" else create_engine(url)
    with Hooks({"Called": called}, journal=url) as hooks:
        with engine.connect() as connection:
            own = connection.execution_options(**options) if where == "connection" else connection
            with pytest.raises(JournalError):
                hooks.repo_sync_started(repo_id="zoo", connection=own)
        assert hooks.repo_sync_started(repo_id="zoo").outcomes
    engine.dispose()


def test_connection_without_a_journal_is_refused(called: Called) -> None:
    """Without a journal, `connection` is refused: the event could not be committed with the host's work."""
    with Hooks([called]) as hooks, pytest.raises(JournalError, match=r"there is no journal; fix: add \[journal\]"):
        hooks.fire(STARTED, BODY, connection=object())  # type: ignore[arg-type] # it is not looked at
    assert called.calls == 0


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the path of a file in the settings that is not a database."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no database" * 100)
    yield path
    assert path.read_bytes() == b"this is no database" * 100


def test_journal_that_cannot_store_an_event_raises(broken: Path, called: Called) -> None:
    """By default an error of the journal raises in the host, and no listener is called."""
    broken.with_name("pulp-hooks.toml").write_text("[journal]\nurl = 'sqlite:///journal.db'\n")
    with Hooks.discover(listeners={"Called": called}) as hooks, pytest.raises(JournalError, match=r"journal\.db"):
        hooks.fire(STARTED, BODY)
    assert called.calls == 0


def test_journal_that_cannot_store_an_event_may_be_bypassed(
    broken: Path, called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    """With the setting, the event is dispatched directly, and the error is logged."""
    broken.with_name("pulp-hooks.toml").write_text(
        "[journal]\nurl = 'sqlite:///journal.db'\non_error = 'dispatch'\n[plugins]\nblock = ['console']\n"
    )
    with Hooks.discover(listeners={"Called": called}) as hooks, caplog.at_level(logging.ERROR):
        report = hooks.fire(STARTED, BODY)
        asyncio.run(hooks.afire(STARTED, BODY))
    assert [outcome.status for outcome in report.outcomes] == [Status.SUCCEEDED]
    assert called.calls == 2
    assert "is dispatched directly and not stored: the journal sqlite:///" in caplog.text


def test_coroutines_fire_into_the_journal_too(url: str, called: Called) -> None:
    """`afire` and the async blocks store events like `fire`."""

    async def host(hooks: Hooks) -> None:
        await hooks.afire(STARTED, BODY)
        async with hooks.sync("zoo", importer_id="i", importer_type_id="t"):
            pass

    with Hooks({"Called": called, "Finishing": Finishing()}, journal=url) as hooks:
        asyncio.run(host(hooks))
    assert [name for _, name in stored(url)].count("Called") == 2
    assert [name for _, name in stored(url)].count("Finishing") == 1
    assert called.calls == 0


def test_closed_hooks_store_nothing(sqlite_url: str, called: Called) -> None:
    """After `close`, firing into a journal raises."""
    hooks = Hooks({"Called": called}, journal=sqlite_url)
    hooks.close()
    with pytest.raises(ClosedError):
        hooks.fire(STARTED, BODY)


@pytest.mark.parametrize("journal", ["mysql://a/b", "sqlite://", "nonsense"])
def test_invalid_journal_of_a_host_raises_at_once(journal: str, called: Called) -> None:
    """An invalid journal URL of the host raises at once."""
    with pytest.raises(JournalError):
        Hooks({"Called": called}, journal=journal)
    with pytest.raises(JournalError):
        Hooks.discover(listeners={"Called": called}, journal=journal)


def test_worker_needs_a_journal(called: Called) -> None:
    """The message says how to add one."""
    with Hooks([called]) as hooks, pytest.raises(JournalError, match=r"add \[journal\] with a url"):
        hooks.worker()


def test_journal_of_the_host_stays_open(sqlite_url: str, called: Called) -> None:
    """The host closes the journal that it has opened."""
    journal = Journal(sqlite_url)
    with Hooks({"Called": called}, journal=journal) as hooks:
        event = hooks.fire(STARTED, BODY).event
        assert hooks.journal is journal
    assert journal.append(event, ["Called"]) is False
    journal.close()


def test_journal_of_the_settings_is_closed_with_the_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: Called
) -> None:
    """SQLite's companion files are gone after the last connection is closed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pulp-hooks.toml").write_text("[journal]\nurl = 'sqlite:///journal.db'\n")
    with Hooks.discover(listeners={"Called": called}) as hooks:
        hooks.fire(STARTED, BODY)
        assert (tmp_path / "journal.db-wal").exists()
    assert not (tmp_path / "journal.db-wal").exists()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        names: Any = connection.execute("SELECT listener FROM pulp_hooks_delivery ORDER BY listener").fetchall()
    assert ("Called",) in names


def test_autocommit_of_the_driver_is_refused(url: str, called: Called) -> None:
    """The driver would commit each statement without SQLAlchemy knowing."""
    options: dict[str, Any] = {"isolation_level": None} if url.startswith("sqlite") else {"autocommit": True}
    engine = create_engine(url, connect_args=options)
    with Hooks({"Called": called}, journal=url) as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        with engine.connect() as connection, pytest.raises(JournalError, match=r"is in AUTOCOMMIT.*fix:"):
            hooks.repo_sync_started(repo_id="zoo", connection=connection)
    engine.dispose()
    assert len(events(url)) == 1


def test_connection_with_another_search_path_reaches_the_journal(postgresql_url: str, called: Called) -> None:
    """The event is stored in the journal's schema, even if the search path leads to a second journal."""
    engine = create_engine(postgresql_url)
    name = f"other_{new_id()}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    try:
        with closing(Journal(postgresql_url, schema=name)) as other:
            other.open()
        with Hooks({"Called": called}, journal=postgresql_url) as hooks, engine.connect() as connection:
            connection.exec_driver_sql(f"SET LOCAL search_path = {name}")
            fired = hooks.repo_sync_started(repo_id="zoo", connection=connection)
            assert connection.exec_driver_sql("SELECT count(*) FROM pulp_hooks_event").scalar() == 0
            connection.commit()
            again = hooks.repo_sync_started(repo_id="zoo", connection=connection, event_id=fired.event.id)
            assert again.outcomes == ()
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
        engine.dispose()
    assert stored(postgresql_url) == [(fired.event.id, "Called")]


def test_connection_to_a_copy_of_the_journal_is_refused(postgresql_url: str, called: Called) -> None:
    """A database made from the journal's as a template has the same id, but another name."""
    first = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    names = [f"copy_{new_id()}" for _ in range(2)]
    urls = [make_url(postgresql_url).set(database=name) for name in names]
    plain = [url.difference_update_query(["options"]).render_as_string(hide_password=False) for url in urls]
    try:
        with first.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {names[0]}")
            Journal(plain[0]).backend.open().dispose()
            connection.exec_driver_sql(f"CREATE DATABASE {names[1]} TEMPLATE {names[0]}")
        copy = create_engine(plain[1])
        with Hooks({"Called": called}, journal=plain[0]) as hooks, copy.begin() as connection:
            with pytest.raises(JournalError, match="leads to another journal"):
                hooks.repo_sync_started(repo_id="zoo", connection=connection)
            assert connection.exec_driver_sql("SELECT count(*) FROM pulp_hooks_event").scalar() == 0
        copy.dispose()
    finally:
        with first.connect() as connection:
            for name in names:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        first.dispose()


def test_connection_to_a_database_without_a_journal_is_refused(postgresql_url: str, called: Called) -> None:
    """The host learns that its connection has no journal, and its transaction continues."""
    name = f"without_{new_id()}"
    admin = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    engine = create_engine(make_url(postgresql_url).set(database=name))
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        with Hooks({"Called": called}, journal=postgresql_url) as hooks, engine.begin() as connection:
            with pytest.raises(JournalError, match="it is no journal, or not the one of the settings"):
                hooks.repo_sync_started(repo_id="zoo", connection=connection)
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    finally:
        engine.dispose()
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


def test_two_phase_transaction_is_refused(postgresql_url: str, called: Called) -> None:
    """PostgreSQL would refuse to prepare the transaction after the report said `queued`."""
    engine = create_engine(postgresql_url)
    with Hooks({"Called": called}, journal=postgresql_url) as hooks, engine.connect() as connection:
        with connection.begin_twophase() as transaction:
            with pytest.raises(JournalError, match=r"two-phase transaction.*fix:"):
                hooks.repo_sync_started(repo_id="zoo", connection=connection)
            with connection.begin_nested(), pytest.raises(JournalError, match="two-phase transaction"):
                hooks.repo_sync_started(repo_id="zoo", connection=connection)
            transaction.rollback()
        with connection.begin():
            hooks.repo_sync_started(repo_id="zoo", connection=connection)
    engine.dispose()
    assert len(stored(postgresql_url)) == 1


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda engine: engine, "with engine.begin"),
        (Session, r"session\.connection\(\)"),
        (lambda engine: scoped_session(sessionmaker(engine)), r"session\.connection\(\)"),
        (lambda _: create_async_engine("postgresql+psycopg://h/d"), r"async with engine\.begin.*await hooks\.afire"),
        (
            lambda _: create_async_engine("postgresql+psycopg://h/d").connect(),
            r"await hooks\.afire\(\.\.\., connection=connection\)",
        ),
        (
            lambda _: AsyncSession(create_async_engine("postgresql+psycopg://h/d")),
            r"await hooks\.afire\(\.\.\., connection=await session\.connection\(\)\)",
        ),
        (lambda engine: engine.raw_connection(), "with engine.begin"),
        (lambda _: "postgresql://h/d", "with engine.begin"),
    ],
)
def test_what_is_not_a_connection_is_refused_with_a_remedy(
    make: Callable[[Any], object], remedy: str, sqlite_url: str, called: Called
) -> None:
    """The message says how to get a connection."""
    engine = create_engine(sqlite_url)
    other: Any = make(engine)
    with Hooks({"Called": called}, journal=sqlite_url) as hooks, pytest.raises(JournalError, match=f"fix: .*{remedy}"):
        hooks.repo_sync_started(repo_id="zoo", connection=other)
    if type(other).__name__ == "_ConnectionFairy":
        other.close()
    engine.dispose()


def test_closed_connection_is_refused(url: str, called: Called) -> None:
    """Its transaction is over."""
    engine = create_engine(url)
    connection = engine.connect()
    connection.close()
    with (
        Hooks({"Called": called}, journal=url) as hooks,
        pytest.raises(JournalError, match="the connection is closed; fix:"),
    ):
        hooks.repo_sync_started(repo_id="zoo", connection=connection)
    engine.dispose()
