"""Tests of a SQLite journal that several parties use at once: two hosts, a host's own engine, commands, file names."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from pulp_hooks import Hooks, hookimpl
from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal.journal import Journal

Make = Callable[..., Event]

COMMAND = """
import sys
from pulp_hooks.journal.journal import Journal
while sys.stdin.readline():
    journal = Journal(sys.argv[1])
    journal.statistics()
    journal.queue.claim("nobody", 1, 1)
    journal.close()
    print("closed", flush=True)
"""

FORKING = """
import os, sqlite3, sys
from sqlalchemy import create_engine, text
from pulp_hooks import Hooks, JournalError, hookimpl

class Desk:
    @hookimpl
    def repo_sync_started(self): pass

with Hooks({"Desk": Desk()}, journal=sys.argv[1]) as hooks:
    hooks.repo_sync_started(repo_id="zoo")
path = sys.argv[1].removeprefix("sqlite:///")
if sys.argv[2] == "engine":
    own = create_engine(sys.argv[1])
    with own.connect() as connection:
        connection.execute(text("SELECT count(*) FROM pulp_hooks_event"))
elif sys.argv[2] == "hooks":
    own = Hooks({"Desk": Desk()}, journal=sys.argv[1])
    assert own.journal.exists()
    own.journal.open()
elif sys.argv[2] == "driver":
    own = sqlite3.connect(path)
    own.execute("SELECT count(*) FROM pulp_hooks_event").fetchone()
elif sys.argv[2] == "descriptor":
    own = os.open(path, os.O_RDONLY)
child = os.fork()
if not child:
    hooks = Hooks({"Desk": Desk()}, journal=sys.argv[1])
    fires = [lambda: hooks.repo_sync_started(repo_id="zoo")]
    if sys.argv[2] == "engine":
        fires.append(lambda: hooks.repo_sync_started(repo_id="zoo", connection=own.connect()))
    for fire in fires:
        try:
            fire()
            print("fired", flush=True)
        except JournalError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


class Desk:
    """Takes started syncs."""

    @hookimpl
    def repo_sync_started(self) -> None:
        """Do nothing."""


def count(path: Path, table: str) -> int:
    """Return how many rows a table has; fail for a damaged file."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - the tests name the tables
    return int(number)


def test_opening_a_journal_twice_in_a_process_keeps_its_locks(sqlite_url: str, tmp_path: Path) -> None:
    """Hosts that come and go beside a host's own engine lose nothing while a command comes and goes."""
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("CREATE TABLE host (n INTEGER)")
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, sqlite_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    over = threading.Event()

    def come_and_go() -> None:
        assert command.stdin
        assert command.stdout
        while not over.is_set():
            command.stdin.write("\n")
            command.stdin.flush()
            assert command.stdout.readline() == "closed\n"

    visiting = threading.Thread(target=come_and_go)
    visiting.start()
    try:
        for _ in range(100):
            with (
                Hooks({"Desk": Desk()}, journal=sqlite_url) as first,
                Hooks({"Desk": Desk()}, journal=sqlite_url) as second,
            ):
                for _ in range(5):
                    first.repo_sync_started(repo_id="zoo")
                    with engine.begin() as connection:
                        connection.execute(text("INSERT INTO host VALUES (1)"))
                second.repo_sync_started(repo_id="zoo")
    finally:
        over.set()
        visiting.join()
        command.communicate()
        engine.dispose()
    path = tmp_path / "journal.db"
    assert (count(path, "pulp_hooks_event"), count(path, "host")) == (600, 500)


@pytest.mark.parametrize("kind", ["hooks", "engine", "driver", "descriptor"])
def test_child_is_refused_a_file_that_it_inherited_from_anybody(sqlite_url: str, tmp_path: Path, kind: str) -> None:
    """The child of a process that had the file open, by whatever means, would write without SQLite's locks."""
    command = [sys.executable, "-c", FORKING, sqlite_url, kind]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said
    assert all("its file was open when the process was forked" in line for line in said), said
    assert count(tmp_path / "journal.db", "pulp_hooks_event") == 1


def test_child_of_a_process_that_closed_the_file_may_use_it(sqlite_url: str, tmp_path: Path) -> None:
    """The parent's own hooks are closed before the fork, so that the child has none of their descriptors."""
    said = subprocess.run(
        [sys.executable, "-c", FORKING, sqlite_url, "none"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "fired\n"
    assert count(tmp_path / "journal.db", "pulp_hooks_event") == 2


def test_file_with_two_names_is_refused(tmp_path: Path, new_event: Make) -> None:
    """Each name would have a write-ahead log of its own; neither may be used until one is removed."""
    names = [tmp_path / folder / "journal.db" for folder in ("a", "b")]
    for name in names:
        name.parent.mkdir()
    journal = Journal(f"sqlite:///{names[0]}")
    journal.append(new_event(), ["a"])
    names[1].hardlink_to(names[0])
    other = Journal(f"sqlite:///{names[1]}")
    with pytest.raises(JournalError, match=r"its file has 2 names \(hard links\).*fix: remove the other names"):
        other.append(new_event(), ["a"])
    names[1].unlink()
    journal.append(new_event(), ["a"])
    journal.close()
    assert count(names[0], "pulp_hooks_event") == 2


@pytest.mark.parametrize("used", [0, 1])
def test_hosts_connection_to_a_file_with_two_names_is_refused(tmp_path: Path, used: int) -> None:
    """Whichever name the connection uses: what is committed under one of them would be lost under the other."""
    names = [tmp_path / folder / "journal.db" for folder in ("a", "b")]
    for name in names:
        name.parent.mkdir()
    engine = create_engine(f"sqlite:///{names[used]}")
    with Hooks({"Desk": Desk()}, journal=f"sqlite:///{names[0]}") as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        names[1].hardlink_to(names[0])
        with engine.connect() as connection, pytest.raises(JournalError, match=r"2 names.*fix: remove the other"):
            hooks.repo_sync_started(repo_id="zoo", connection=connection)
        engine.dispose()
        names[1 - used].unlink()
    names[used].rename(names[0])
    with Hooks({"Desk": Desk()}, journal=f"sqlite:///{names[0]}") as hooks:
        engine = create_engine(f"sqlite:///{names[0]}")
        with engine.begin() as connection:
            hooks.repo_sync_started(repo_id="zoo", connection=connection)
        engine.dispose()
    assert count(names[0], "pulp_hooks_event") == 2


def test_file_that_is_mounted_by_itself_is_refused(tmp_path: Path, new_event: Make) -> None:
    """As with a hard link, the two paths would have two write-ahead logs."""
    names = [tmp_path / folder / "journal.db" for folder in ("a", "b")]
    for name in names:
        name.parent.mkdir()
    with Hooks({"Desk": Desk()}, journal=f"sqlite:///{names[0]}") as hooks:
        hooks.repo_sync_started(repo_id="zoo")
    names[1].touch()
    mounted = subprocess.run(["mount", "--bind", *map(str, names)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file can be mounted here: {mounted.stderr.decode(errors='replace').strip()}")
    try:
        with pytest.raises(JournalError, match=r"is mounted as a single file.*fix: mount its folder"):
            Journal(f"sqlite:///{names[1]}").append(new_event(), ["a"])
        engine = create_engine(f"sqlite:///{names[1]}")
        for name in names:
            with (
                engine.connect() as connection,
                pytest.raises(JournalError, match=r"is mounted as a single file.*fix: mount its folder"),
            ):
                Journal(f"sqlite:///{name}").append(new_event(), ["a"], connection)
        engine.dispose()
    finally:
        subprocess.run(["umount", str(names[1])], check=True)


@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_link_is_the_file_that_it_leads_to(tmp_path: Path, new_event: Make, *, exists: bool) -> None:
    """Both names use one write-ahead log, whichever of them was there first."""
    path, link = tmp_path / "journal.db", tmp_path / "links" / "journal.db"
    link.parent.mkdir()
    link.symlink_to(path)
    journal, linked = Journal(f"sqlite:///{path}"), Journal(f"sqlite:///{link}")
    order = (journal, linked) if exists else (linked, journal)
    for one in (*order, *order):
        one.append(new_event(), ["a"])
    assert [file.name for file in link.parent.iterdir()] == ["journal.db"]
    journal.close()
    linked.close()
    assert count(path, "pulp_hooks_event") == 4


@pytest.mark.parametrize("companion", ["", "-wal"])
def test_code_of_ours_that_opens_a_database_file_is_noticed(  # noqa: PLR0913, PLR0917 - each is a fixture
    sqlite_url: str,
    tmp_path: Path,
    new_event: Make,
    file_guard: Any,  # noqa: ANN401 - of the conftest, which cannot be imported
    monkeypatch: pytest.MonkeyPatch,
    companion: str,
) -> None:
    """The guard that every test runs under fails for an `open()` in a folder that it watches, and not for SQLite's."""
    journal = Journal(sqlite_url)
    journal.append(new_event(), ["a"])
    monkeypatch.setattr(file_guard, "package", str(Path(__file__).parent))
    (tmp_path / "journal.db.txt").touch()
    assert file_guard.offences() == []
    journal.append(new_event(), ["a"])
    Journal(sqlite_url).backend.open().dispose()
    (tmp_path / f"journal.db{companion}").read_bytes()
    (offence,) = file_guard.offences()
    assert "test_shared_file.py" in offence
    journal.close()


def test_creating_a_file_leaves_no_other_name(sqlite_url: str, tmp_path: Path, new_event: Make) -> None:
    """Only the file and what SQLite puts beside it are left."""
    journal = Journal(sqlite_url)
    journal.append(new_event(), ["a"])
    assert {file.name for file in tmp_path.iterdir()} == {"journal.db", "journal.db-shm", "journal.db-wal"}
    journal.close()
