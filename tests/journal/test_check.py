"""Checking a journal: what stands in the way of events is found, and nothing is created or changed."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, inspect, make_url, select

from pulp_hooks import Event, JournalError
from pulp_hooks.identifiers import new_id
from pulp_hooks.journal import schema
from pulp_hooks.journal.journal import Journal

Make = Callable[..., Event]


def check(url: str) -> None:
    """Check a journal, and leave it."""
    journal = Journal(url, busy_seconds=0.2)
    try:
        journal.check()
    finally:
        journal.close()


@pytest.fixture
def admin(postgresql_url: str) -> Iterator[Engine]:
    """Yield an engine of the tests' own, which may do everything."""
    engine = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture
def role(admin: Engine) -> Iterator[str]:
    """Yield the name of a role that may log in and use the schema, and nothing else."""
    name = f"role_{new_id()}"
    with admin.connect() as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
    yield name
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {name}")
        connection.exec_driver_sql(f"DROP ROLE {name}")


@pytest.fixture
def journal_url(postgresql_url: str, new_event: Make) -> str:
    """Return the URL of a journal with an event in PostgreSQL."""
    journal = Journal(postgresql_url)
    journal.append(new_event(), ["a"])
    journal.close()
    return postgresql_url


def as_role(url: str, role: str) -> str:
    """Return the URL with the rights of a role, whoever may log in."""
    options = make_url(url).query["options"]
    changed = make_url(url).update_query_dict({"options": f"{options} -crole={role}"})
    return changed.render_as_string(hide_password=False)


def test_new_postgresql_database_is_only_read(postgresql_url: str, admin: Engine) -> None:
    """No table and no function is created, and there is no problem."""
    check(postgresql_url)
    assert not Journal(postgresql_url).exists()
    assert inspect(admin).get_table_names() == []


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("is_open", [True, False])
def test_file_of_another_program_is_only_read(mode: str, sqlite_url: str, tmp_path: Path, *, is_open: bool) -> None:
    """Its bytes and its kind of log stay, and no file is left beside it, whether the program has it open or not."""
    path = tmp_path / "journal.db"
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA journal_mode = {mode}")
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    if not is_open:
        other.close()
    before, names = path.read_bytes() if not is_open else b"", {file.name for file in tmp_path.iterdir()}
    check(sqlite_url)
    assert not Journal(sqlite_url).exists()
    assert {file.name for file in tmp_path.iterdir()} == names
    if not is_open:
        assert path.read_bytes() == before
        other = sqlite3.connect(path)
    assert other.execute("PRAGMA journal_mode").fetchone() == (mode.lower(),)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    other.close()


def test_check_of_a_good_journal_leaves_nothing(url: str, new_event: Make) -> None:
    """What was tried is rolled back."""
    journal = Journal(url)
    journal.append(new_event(), ["a"])
    journal.check()
    with journal.backend.reading("count") as connection:
        found = (schema.event, schema.delivery, schema.attempt, schema.listener)
        counts = [connection.execute(select(func.count()).select_from(table)).scalar() for table in found]
    journal.close()
    assert counts == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("granted", "doing"),
    [
        ("SELECT", "store an event"),
        ("SELECT, INSERT", "record a delivery"),
        ("SELECT, INSERT, UPDATE", "prune"),
    ],
)
def test_role_without_a_right_is_found(granted: str, doing: str, journal_url: str, admin: Engine, role: str) -> None:
    """The message says what failed, and that the right is missing."""
    with admin.connect() as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
        connection.exec_driver_sql(f"GRANT {granted} ON ALL TABLES IN SCHEMA {schema} TO {role}")
    with pytest.raises(JournalError, match=f"could not {doing}: the user may not do that; fix: GRANT"):
        check(as_role(journal_url, role))
    with admin.connect() as connection:
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
    check(as_role(journal_url, role))


def test_role_that_may_not_create_tables_is_found(postgresql_url: str, role: str) -> None:
    """In a new database it is told before the first event."""
    with pytest.raises(JournalError, match=r"cannot be created: the user may not create tables in the schema.*fix:"):
        check(as_role(postgresql_url, role))


def test_schema_that_does_not_exist_is_found(postgresql_url: str) -> None:
    """The search path of the URL leads nowhere."""
    url = make_url(postgresql_url).update_query_dict({"options": "-csearch_path=nowhere"})
    with pytest.raises(JournalError, match="no schema of the search_path exists; fix:"):
        check(url.render_as_string(hide_password=False))


@pytest.mark.parametrize("is_new", [True, False])
def test_replica_is_found(postgresql_url: str, new_event: Make, *, is_new: bool) -> None:
    """After a failover the URL may lead to a server that only reads."""
    if not is_new:
        journal = Journal(postgresql_url)
        journal.append(new_event(), ["a"])
        journal.close()
    options = f"{make_url(postgresql_url).query['options']} -cdefault_transaction_read_only=on"
    url = make_url(postgresql_url).update_query_dict({"options": options})
    with pytest.raises(JournalError, match="the server is read-only"):
        check(url.render_as_string(hide_password=False))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a disk of its own; skip where only root may mount one and we are not root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode(errors='replace').strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("content", ["nothing", "a journal", "another program's"])
def test_read_only_disk_is_found(content: str, disk: Path, new_event: Make) -> None:
    """A journal there, a file of another program, or none yet: no event can be stored."""
    url = f"sqlite:///{disk}/journal.db"
    if content == "a journal":
        journal = Journal(url)
        journal.append(new_event(), ["a"])
        journal.close()
    elif content != "nothing":
        with closing(sqlite3.connect(disk / "journal.db")) as connection:
            connection.execute("CREATE TABLE theirs (x)")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(JournalError, match=r"read-only|not writable|cannot be opened"):
        check(url)


def test_full_disk_is_found(tmp_path: Path, new_event: Make) -> None:
    """The trial commits nothing, so it looks at the room that is left."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        url = f"sqlite:///{folder}/journal.db"
        with closing(Journal(url)) as journal:
            journal.append(new_event(), ["a"])
        check(url)
        disk = os.statvfs(folder)
        (folder / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize - 131_072))
        with pytest.raises(JournalError, match="the disk is full"):
            check(url)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_log_of_a_program_that_was_killed_is_left_to_it(sqlite_url: str, tmp_path: Path) -> None:
    """Looking at the file of another program carries nothing over from its write-ahead log."""
    file, log = tmp_path / "journal.db", tmp_path / "journal.db-wal"
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE synced (name TEXT)'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    before = file.read_bytes(), log.read_bytes()
    check(sqlite_url)
    assert (file.read_bytes(), log.read_bytes()) == before
