"""What all tests share: the example bodies of the specification, a strict eye for JSON, and empty databases."""

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.identifiers import new_id

# How long an example takes says nothing about right or wrong on a busy machine.
settings.register_profile("pulp_hooks", deadline=None)
settings.load_profile("pulp_hooks")

SERVER = os.environ.get("PULP_HOOKS_TEST_POSTGRESQL", "postgresql+psycopg://root@/test?host=/var/run/postgresql")

PACKAGE = f"{Path(__file__).parent.parent / 'pulp_hooks'}{os.sep}"

EXAMPLE_PLUGINS = sorted(
    path.parent.name for path in Path(__file__).parents[1].glob("example_plugins/*/pyproject.toml")
)
"""Names of the example plugins, which are installed where the tests run, and which most tests block."""

_EXAMPLES = sorted((Path(__file__).parent / "bodies" / "examples").glob("*.json"))


def _read(path: Path) -> tuple[EventType, dict[str, Any]]:
    return EventType(path.name.partition(".")[0]), json.loads(path.read_text(encoding="utf-8"))


class FileGuard:
    """Notes, by Python's audit events, which files SQLite opens and which ones code of ours does.

    Closing any descriptor of a file drops every lock of the process on it (sqlite.org, "How To Corrupt An SQLite
    Database File", 2.2): one `open()` in the wrong place damages a journal.

    Attributes:
        package: Folder of the code that is watched.
    """

    def __init__(self) -> None:
        self.package = PACKAGE
        self._databases: set[str] = set()
        self._opened: list[tuple[str, str]] = []
        # An audit hook stays as long as the process.
        sys.addaudithook(self._hear)

    def offences(self) -> list[str]:
        """Return where code of ours opened a database file, or a file beside it, since this was asked last."""
        files = {database + end for database in self._databases for end in ("", "-wal", "-shm", "-journal")}
        found = [f"{path} in {place}" for path, place in self._opened if path in files]
        self._databases, self._opened = set(), []
        return found

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "sqlite3.connect":
            path = os.fsdecode(arguments[0]).removeprefix("file:").partition("?")[0]
            self._databases.add(os.path.realpath(path))
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            # The frames are read as they are: to format them would open files.
            frame: Any = sys._getframe(1)
            while frame and not frame.f_code.co_filename.startswith(self.package):
                frame = frame.f_back
            if frame:
                path = os.path.realpath(os.fsdecode(arguments[0]))
                self._opened.append((path, f"{frame.f_code.co_filename}, line {frame.f_lineno}"))


_file_guard = FileGuard()


@pytest.fixture(autouse=True)
def file_guard() -> Iterator[FileGuard]:
    """Fail a test in which code of ours opened a database file by other means than SQLite."""
    _file_guard.offences()
    yield _file_guard
    assert _file_guard.offences() == []


@pytest.fixture(params=_EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> tuple[EventType, dict[str, Any]]:
    """Return each of the specification's five examples: its event type and its body."""
    return _read(request.param)


@pytest.fixture(scope="session")
def body_of() -> Callable[..., dict[str, Any]]:
    """Return a function that makes a valid body of an event type, with some of its fields changed by keyword."""
    # Sorted by name the successful sync comes last, and is the one that stays.
    texts = {event_type: json.dumps(body) for event_type, body in map(_read, _EXAMPLES)}

    def make(event_type: EventType, **changes: object) -> dict[str, Any]:
        return {**json.loads(texts[event_type]), **changes}

    return make


@pytest.fixture(scope="session")
def as_json() -> Callable[[object], str]:
    """Return a function that writes a value as JSON, and fails if it is not plain data in RFC 8259 and UTF-8."""

    def write(value: object) -> str:
        assert {type(part) for part in _parts(value)} <= {dict, list, str, int, float, bool, type(None)}
        text = json.dumps(value, ensure_ascii=False)
        read = json.loads(text.encode("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert read == value
        return text

    return write


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """Yield the URL of a schema of its own on a real PostgreSQL server; skip where there is none, except in CI."""
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
    """Return the URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database of each of the two kinds."""
    return cast("str", request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def new_event(body_of: Callable[..., dict[str, Any]]) -> Callable[..., Event]:
    """Return a function that makes an event of a repository."""

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


def _parts(value: object) -> Iterator[object]:
    yield value
    children = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for child in children:
        yield from _parts(child)
