"""Firing into a journal: what is stored, what is returned, and what happens when the journal cannot take an event."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select

from pulp_hooks import (
    BodyError,
    ClosedError,
    Event,
    EventError,
    EventType,
    Hooks,
    JournalError,
    Notifier,
    Status,
    hookimpl,
)
from pulp_hooks.journal import tables
from pulp_hooks.journal.journal import Journal
from pulp_hooks.plugins.notifiers import notifying
from pulp_hooks.settings.model import ListenerSettings

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
    """Give a listener that counts its calls."""
    return Called()


def stored(url: str) -> list[tuple[str, str]]:
    """Give the event and the listener of every delivery, as another program sees them."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(select(tables.delivery.c.event_id, tables.delivery.c.listener)).all()
    engine.dispose()
    return sorted((row.event_id, row.listener) for row in rows)


def events(url: str) -> list[bytes]:
    """Give the content of every stored event."""
    engine = create_engine(url)
    with engine.connect() as connection:
        contents = list(connection.execute(select(tables.event.c.content)).scalars())
    engine.dispose()
    return contents


def test_fired_event_is_stored_for_each_listener_and_calls_none(url: str, called: Called) -> None:
    """One event and a delivery for each listener that takes it are in the journal when `fire` returns."""
    with Hooks([called, Other(), Finishing()], journal=url) as hooks:
        report = hooks.fire(STARTED, BODY)
    assert stored(url) == [(report.event.id, "Called"), (report.event.id, "Other")]
    assert [(x.plugin, x.hook, x.status, x.error) for x in report.outcomes] == [
        ("Called", "repo_sync_started", Status.QUEUED, None),
        ("Other", "repo_sync_started", Status.QUEUED, None),
    ]
    assert report.failures == ()
    assert called.calls == 0


def test_stored_content_is_the_event(url: str, called: Called) -> None:
    """The bytes in the journal are the event's own JSON."""
    with Hooks([called], journal=url) as hooks:
        event = hooks.fire(STARTED, BODY, call_report={"task_id": "7d1f"}).event
    (content,) = events(url)
    assert content == event.to_json().encode()
    assert Event.from_json(content) == Event.from_stored(content) == event


def test_event_that_nobody_takes_is_stored_too(url: str) -> None:
    """A listener that is added later can have it."""
    with Hooks([Finishing()], journal=url) as hooks:
        report = hooks.fire(STARTED, BODY)
    assert len(events(url)) == 1
    assert (stored(url), report.outcomes) == ([], ())


def test_known_id_is_not_stored_twice(url: str, called: Called) -> None:
    """A host that fires again what it may have fired before causes no second delivery."""
    with Hooks([called], journal=url) as hooks:
        first = hooks.fire(STARTED, BODY, event_id="task-7d1f")
        second = hooks.fire(STARTED, {"repo_id": "other"}, event_id="task-7d1f")
    assert stored(url) == [("task-7d1f", "Called")]
    assert [len(report.outcomes) for report in (first, second)] == [1, 0]
    assert b"other" not in events(url)[0]


@pytest.mark.parametrize("event_id", ["", "a/b", "a b", "a\n", "ä", "a" * 129, "a.b"])
def test_id_that_fits_nowhere_is_refused(event_id: str, sqlite_url: str, called: Called) -> None:
    """Identifiers go into headers, keys and paths."""
    with Hooks([called], journal=sqlite_url) as hooks, pytest.raises(EventError, match="id"):
        hooks.fire(STARTED, BODY, event_id=event_id)


def test_wrong_body_is_not_stored(url: str, called: Called) -> None:
    """What the specification does not allow raises in the host before anything is written."""
    with Hooks([called], journal=url) as hooks:
        with pytest.raises(BodyError):
            hooks.fire(STARTED, {"repo_id": 7})
        hooks.fire(STARTED, BODY)
    assert len(events(url)) == 1


def test_filters_decide_what_is_stored(sqlite_url: str) -> None:
    """A configured listener has deliveries of those events only that its filters let pass."""

    class Post(Notifier):
        def notify(self, event: Event) -> None:
            """Do nothing."""

    hooks = Hooks(journal=sqlite_url)
    hooks._listen([notifying(Post({}), ListenerSettings("desk", "post", repo_ids=("zoo-*",)))], [])
    with hooks:
        hooks.fire(STARTED, BODY)
        wanted = hooks.fire(STARTED, {"repo_id": "zoo-1"})
    assert stored(sqlite_url) == [(wanted.event.id, "desk")]


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_event_on_a_hosts_connection_shares_its_fate(ending: str, url: str, called: Called) -> None:
    """With the host's own connection the event is stored with the host's work, or not at all."""
    journal = Journal(url)
    journal.database.open()
    engine = create_engine(url)
    with Hooks([called], journal=journal) as hooks, engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE synced (name TEXT)")
        connection.exec_driver_sql("INSERT INTO synced VALUES ('zoo')")
        hooks.fire(STARTED, BODY, connection=connection)
        getattr(connection, ending)()
    engine.dispose()
    journal.close()
    assert len(stored(url)) == (1 if ending == "commit" else 0)


@pytest.mark.parametrize("where", ["engine", "connection"])
def test_connection_in_autocommit_is_refused(where: str, url: str, called: Called) -> None:
    """The event would be stored apart from the host's work, or not at all."""
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    engine = create_engine(url, **options) if where == "engine" else create_engine(url)
    with Hooks([called], journal=url) as hooks:
        with engine.connect() as connection:
            own = connection.execution_options(**options) if where == "connection" else connection
            with pytest.raises(JournalError):
                hooks.repo_sync_started(repo_id="zoo", connection=own)
        assert hooks.repo_sync_started(repo_id="zoo").outcomes
    engine.dispose()


def test_connection_without_a_journal_is_refused(called: Called) -> None:
    """Nobody may believe that an event is committed with the host's work when it is not."""
    with Hooks([called]) as hooks, pytest.raises(JournalError, match=r"there is no journal: add \[journal\]"):
        hooks.fire(STARTED, BODY, connection=object())  # type: ignore[arg-type] # it is not looked at
    assert called.calls == 0


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the path of a journal that takes nothing, as it is no database; the settings name it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no database" * 100)
    yield path
    assert path.read_bytes() == b"this is no database" * 100


def test_journal_that_cannot_take_an_event_raises(broken: Path, called: Called) -> None:
    """By default the host learns at once that the event is not safe, and no listener was called."""
    broken.with_name("pulp-hooks.toml").write_text("[journal]\nurl = 'sqlite:///journal.db'\n")
    with Hooks.discover(plugins=[called]) as hooks, pytest.raises(JournalError, match=r"journal\.db"):
        hooks.fire(STARTED, BODY)
    assert called.calls == 0


def test_journal_that_cannot_take_an_event_may_be_passed_by(
    broken: Path, called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    """By the setting the event is dispatched directly, and the log says so."""
    broken.with_name("pulp-hooks.toml").write_text(
        "[journal]\nurl = 'sqlite:///journal.db'\non_error = 'dispatch'\n[plugins]\nblock = ['console']\n"
    )
    with Hooks.discover(plugins=[called]) as hooks, caplog.at_level(logging.ERROR):
        report = hooks.fire(STARTED, BODY)
        asyncio.run(hooks.afire(STARTED, BODY))
    assert [outcome.status for outcome in report.outcomes] == [Status.SUCCEEDED]
    assert called.calls == 2
    assert "is dispatched directly, nothing keeps it: the journal sqlite:///" in caplog.text


def test_coroutines_fire_into_the_journal_too(url: str, called: Called) -> None:
    """`afire` and the blocks of a sync store their events as `fire` does."""

    async def host(hooks: Hooks) -> None:
        await hooks.afire(STARTED, BODY)
        async with hooks.sync("zoo", importer_id="i", importer_type_id="t"):
            pass

    with Hooks([called, Finishing()], journal=url) as hooks:
        asyncio.run(host(hooks))
    assert [name for _, name in stored(url)].count("Called") == 2
    assert [name for _, name in stored(url)].count("Finishing") == 1
    assert called.calls == 0


def test_closed_hooks_store_nothing(sqlite_url: str, called: Called) -> None:
    """After `close` nobody fires, with a journal neither."""
    hooks = Hooks([called], journal=sqlite_url)
    hooks.close()
    with pytest.raises(ClosedError):
        hooks.fire(STARTED, BODY)


@pytest.mark.parametrize("journal", ["mysql://a/b", "sqlite://", "nonsense"])
def test_impossible_journal_of_a_host_raises_at_once(journal: str, called: Called) -> None:
    """The host's own URL is the host's own mistake."""
    with pytest.raises(JournalError):
        Hooks([called], journal=journal)
    with pytest.raises(JournalError):
        Hooks.discover(plugins=[called], journal=journal)


def test_worker_needs_a_journal(called: Called) -> None:
    """The message says what to add."""
    with Hooks([called]) as hooks, pytest.raises(JournalError, match=r"add \[journal\] with a url"):
        hooks.worker()


def test_journal_of_the_host_stays_open(sqlite_url: str, called: Called) -> None:
    """What the host has opened the host closes."""
    journal = Journal(sqlite_url)
    with Hooks([called], journal=journal) as hooks:
        event = hooks.fire(STARTED, BODY).event
        assert hooks.journal is journal
    assert journal.append(event, ["Called"]) is False
    journal.close()


def test_journal_of_the_settings_is_closed_with_the_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: Called
) -> None:
    """SQLite's companions of the file are gone when nobody has it open."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pulp-hooks.toml").write_text("[journal]\nurl = 'sqlite:///journal.db'\n")
    with Hooks.discover(plugins=[called]) as hooks:
        hooks.fire(STARTED, BODY)
        assert (tmp_path / "journal.db-wal").exists()
    assert not (tmp_path / "journal.db-wal").exists()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        names: Any = connection.execute("SELECT listener FROM delivery ORDER BY listener").fetchall()
    assert ("Called",) in names
