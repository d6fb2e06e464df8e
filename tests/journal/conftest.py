"""What the tests of the journal share: a journal in each of the two databases, and events to put into it."""

import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal.journal import Journal

SERVER = os.environ.get("PULP_HOOKS_TEST_POSTGRESQL", "postgresql+psycopg://root@/test?host=/var/run/postgresql")


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """Give the URL of a schema of its own on a real PostgreSQL server; skip where there is none, except in CI."""
    schema = f"journal_{uuid.uuid4().hex}"
    engine = create_engine(SERVER, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    except OperationalError as error:
        reason = f"no PostgreSQL server answers: {error.orig}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield f"{SERVER}{'&' if '?' in SERVER else '?'}options=-csearch_path%3D{schema}"
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        engine.dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database of each of the two kinds."""
    return cast("str", request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    """Give an empty journal in each of the two databases."""
    journal = Journal(url)
    yield journal
    journal.close()


@pytest.fixture(scope="session")
def new_event(body_of: Callable[..., dict[str, Any]]) -> Callable[..., Event]:
    """Give a function that makes an event of a repository."""

    def make(repo_id: str = "zoo", moment: float = 1000.0, event_id: str | None = None) -> Event:
        event_type = EventType.REPO_SYNC_FINISHED
        body = cast("Any", body_of(event_type, repo_id=repo_id))
        return Event(
            id=event_id or new_id(),
            type=event_type,
            time=datetime.fromtimestamp(moment, UTC),
            source="urn:test",
            body=body,
            call_report=None,
        )

    return make
