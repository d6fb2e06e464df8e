"""Tests of opening a journal, and of what is said when its database fails."""

import os
import sqlite3
import stat
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal import sqlite_file
from pulp_hooks.journal.claims import Result
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.reasons import may_pass
from pulp_hooks.journal.schema import HEAD, State
from pulp_hooks.journal.sqlite_file import Synchronous

Make = Callable[..., Event]
MOUNTS = (
    "/dev/vda / ext4 rw 0 0\nserver:/x /mnt/the\\040share {} rw 0 0\n/dev/vdb /mnt/the\\040share/local xfs rw 0 0\n"
)


@pytest.fixture(params=["1m"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield a folder on a disk of 1 MB; skip where only root may mount one and we are not root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode(errors='replace').strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(("option", "passes"), [("sslmode=nonsense", False), ("port=1", True)])
def test_worker_waits_for_a_server_and_not_for_another_url(option: str, *, passes: bool) -> None:
    """A wrong option stays wrong, while a server that does not answer may be starting."""
    with pytest.raises(JournalError) as caught:
        Journal(f"postgresql://me@127.0.0.1/d?{option}").open()
    assert may_pass(caught.value) is passes


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///x.db?mode=memory&uri=true", "without user, host and options"),
        ("sqlite+aiosqlite:///x.db", "without user, host and options"),
        ("mysql://u:hunter2@h/d", "must begin with"),
        ("sqlite://u:hunter2@/x.db", "without user, host and options"),
        ("sqlite://hunter2/x.db", "without user, host and options"),
        ("hunter2", "cannot be read"),
        ("postgresql://u:hunter2@h:port/d", "cannot be read"),
        ("postgresql://u:p@hunter2@h/d", "write @ as %40"),
        ("postgresql://u:p@hunter2:x@h/d", "write @ as %40"),
        ("postgresql://u:p@ss/hunter2@h/d", "write @ as %40"),
        ("postgresql://u:p@ss?hunter2@h/d", "write @ as %40"),
        ("postgresql://u:p@ss#hunter2@h/d", "write @ as %40"),
        ("postgresql://u/x:hunter2@h/d", "write @ as %40"),
        ("postgresql://u:hunter2/d", "write @ as %40"),
        ("postgresql://u:hunter2@h1:1,h2:2/d", "host=A:5432&host=B:5432"),
        ("postgresql://h:5432/d?password=x@hunter2", "an @ that ends no"),
        ("postgresql://h,g:1/d?sslmode=require&password=x@hunter2", "an @ that ends no"),
        ("postgresql://h/d?host=u%3Ahunter2%40h", "an @ that ends no"),
    ],
)
def test_url_of_no_journal_is_refused_without_being_shown(url: str, said: str) -> None:
    """What is only in memory, of another database or no URL at all is refused at once, and no password is shown."""
    with pytest.raises(JournalError, match=said) as caught:
        Journal(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("password=hunter2&sslmode=require", "?password=***&sslmode=require"),
        ("sslpassword=hunter2", "?sslpassword=***"),
        ("passwort=hunter2", "?***=***"),
        ("hunter2=hunter2", "?***=***"),
        ("options=-csearch_path%3Dours", "?options=-csearch_path%3Dours"),
        ("options=-capp.key%3Dhunter2", "?options=***"),
        ("host=a&host=b&oauth_client_secret=hunter2", "?host=a&host=b&oauth_client_secret=***"),
    ],
)
def test_only_known_options_are_shown(query: str, name: str) -> None:
    """An option that is a mistake may hold anything, and so may its name."""
    journal = Journal(f"postgresql://u@h/d?{query}")
    assert journal.name == f"postgresql://u@h/d{name}"
    assert "hunter2" not in repr(journal)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("sslmod=require", "an option that PostgreSQL does not know; did you mean sslmode"),
        ("row_factory=hunter2", "an option that PostgreSQL does not know; fix: use"),
        ("autocommit=true", "an option that PostgreSQL does not know"),
        ("connect_timeout=soon", "an option of the URL is wrong"),
        ("sslmode=hunt", "an option of the URL is wrong"),
        ("keepalives_idle=soon", "an option of the URL is wrong"),
        ("connect_timeout=1&connect_timeout=2", "an option of the URL is wrong"),
        ("port=x", "an option of the URL is wrong"),
    ],
)
def test_wrong_option_of_a_url_is_one_sentence(option: str, said: str, new_event: Make) -> None:
    """What the driver says of it is not for a user's eyes, nor is a name that may be part of a password."""
    journal = Journal(f"postgresql://u@127.0.0.1/d?{option}", busy_seconds=0.2)
    with pytest.raises(JournalError, match=f"could not .*: .*{said}") as caught:
        journal.append(new_event(), ["a"])
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("password", ["p/hunter2", "p#hunter2", "p?hunter2", "p:hunter2", "p%40hunter2"])
def test_password_is_hidden_whatever_is_in_it(password: str) -> None:
    """What can be read as a password is one, and is not shown."""
    journal = Journal(f"postgresql://u:{password}@h/d")
    assert journal.name == "postgresql://u:***@h/d"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2%40x@127.0.0.1:1/d",
        "postgresql://u@127.0.0.1:1/d?password=hunter2%40x&sslpassword=hunter2",
    ],
)
def test_unreachable_server_is_one_error_without_the_password(url: str, new_event: Make) -> None:
    """The error says which journal and what happened; neither it nor its causes show the password."""
    journal = Journal(url, busy_seconds=2)
    with pytest.raises(JournalError, match=r"127\.0\.0\.1.*the server cannot be reached or is gone") as caught:
        journal.append(new_event(), ["a"])
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)) + repr(journal) + journal.name
    assert "***" in journal.name


def test_new_file_is_for_its_owner_alone(sqlite_url: str, tmp_path: Path, new_event: Make) -> None:
    """Whatever the umask, the file and its companions have mode 0600."""
    before = os.umask(0)
    try:
        journal = Journal(sqlite_url)
        journal.append(new_event(), ["a"])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    journal.close()
    assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}


@pytest.mark.parametrize(("synchronous", "level"), [(Synchronous.NORMAL, 1), (Synchronous.FULL, 2)])
def test_sqlite_is_set_up_on_every_connection(sqlite_url: str, synchronous: Synchronous, level: int) -> None:
    """Write-ahead log, foreign keys and the wanted synchronous level hold on two connections at once."""
    backend = Journal(sqlite_url, synchronous=synchronous).backend
    with backend.reading("look") as one, backend.reading("look") as two:
        for connection in (one, two):
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys")]
            assert found == ["wal", 1]
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
    backend.close()


def test_reader_does_not_wait_for_a_writer(sqlite_url: str) -> None:
    """Reading begins no writing transaction."""
    backend = Journal(sqlite_url, busy_seconds=0.1).backend
    with backend.writing("write"), backend.reading("look") as reader:
        assert reader.exec_driver_sql("SELECT version_num FROM pulp_hooks_version").scalar() == HEAD
    backend.close()


def test_missing_folder_is_said(tmp_path: Path) -> None:
    """No folder is made up."""
    with pytest.raises(JournalError, match="there is no folder"):
        Journal(f"sqlite:///{tmp_path}/no/journal.db").open()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["nfs4", "nfs", "cifs", "smb3", "9p", "fuse.sshfs"])
def test_network_file_system_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deepest mount decides; the names of mount points are read as they are written there."""
    read_text = Path.read_text

    def mounts(path: Path, *arguments: str) -> str:
        return MOUNTS.format(kind) if str(path) == "/proc/mounts" else read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", mounts)
    monkeypatch.setattr(Path, "is_dir", lambda _path: True)
    with pytest.raises(JournalError, match=f"network file system \\({kind}\\)"):
        Journal("sqlite:////mnt/the share/folder/journal.db").open()
    found = [sqlite_file._file_system(Path(folder)) for folder in ("/mnt/the share/local/x", "/mnt/the", "/")]
    assert found == ["xfs", "ext4", "ext4"]


@pytest.mark.parametrize("statement", ["DELETE FROM pulp_hooks_version", "DELETE FROM pulp_hooks_journal"])
def test_journal_of_no_version_is_refused(url: str, statement: str) -> None:
    """A journal whose version was deleted is left alone."""
    backend = Journal(url).backend
    with backend.writing("delete the version") as connection:
        connection.exec_driver_sql(statement)
    backend.close()
    with pytest.raises(JournalError, match="has no schema version; fix: restore it"):
        Journal(url).open()


def test_tables_of_somebody_else_are_refused(url: str) -> None:
    """A database that has a table of one of our names, and no journal, is left as it is."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE pulp_hooks_event (x INTEGER)")
    engine.dispose()
    with pytest.raises(JournalError, match="not a journal's: pulp_hooks_event"):
        Journal(url).open()


@pytest.mark.parametrize("table", ["pulp_hooks_event (x INTEGER)", "pulp_hooks_version (x INTEGER)"])
def test_database_of_somebody_else_is_not_changed(sqlite_url: str, tmp_path: Path, table: str) -> None:
    """What is refused keeps its kind of log, and gets no files beside it."""
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute(f"CREATE TABLE {table}")
    before = (tmp_path / "journal.db").read_bytes()
    with pytest.raises(JournalError, match="could not be opened"):
        Journal(sqlite_url).open()
    assert (tmp_path / "journal.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"]


def test_copy_of_a_journal_gets_its_write_ahead_log_back(sqlite_url: str, tmp_path: Path) -> None:
    """A backup that another program has made is a journal as any other."""
    Journal(sqlite_url).backend.open().dispose()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    backend = Journal(sqlite_url).backend
    with backend.reading("look") as reader:
        assert reader.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    backend.close()


def test_file_that_is_no_database_is_said(sqlite_url: str, tmp_path: Path, new_event: Make) -> None:
    """A text file is not touched."""
    (tmp_path / "journal.db").write_text("my diary, " * 1000)
    with pytest.raises(JournalError, match="corrupt or no SQLite database"):
        Journal(sqlite_url).append(new_event(), ["a"])
    assert (tmp_path / "journal.db").read_text() == "my diary, " * 1000


def test_corrupt_file_is_said(sqlite_url: str, tmp_path: Path, new_event: Make) -> None:
    """A journal whose pages were overwritten refuses the event with the one error."""
    journal = Journal(sqlite_url)
    journal.append(new_event(), ["a"])
    journal.close()
    path = tmp_path / "journal.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(JournalError, match=r"journal\.db could not .* corrupt"):
        journal.append(new_event(), ["a"])
    journal.close()


def test_file_locked_for_too_long_is_said(
    sqlite_url: str, tmp_path: Path, new_event: Make, locked_elsewhere: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """The host gets the error after the busy timeout, and the event was not stored."""
    journal = Journal(sqlite_url, busy_seconds=0.1)
    journal.backend.open()
    event = new_event()
    with (
        locked_elsewhere(tmp_path / "journal.db"),
        pytest.raises(JournalError, match="another process has locked it for too long"),
    ):
        journal.append(event, ["a"])
    assert journal.append(event, ["a"])
    journal.close()


def test_full_disk_is_said_and_no_half_event_stored(small_disk: Path, new_event: Make) -> None:
    """Every event that was accepted is there with its delivery; the one that did not fit is not there at all."""
    journal = Journal(f"sqlite:///{small_disk}/journal.db")
    accepted = set()

    def fill() -> None:
        for _ in range(1000):
            event = new_event("x" * 2000)
            journal.append(event, ["a"])
            accepted.add(event.id)

    with pytest.raises(JournalError, match="the disk is full"):
        fill()
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    # The same connection goes on once there is room again.
    after = new_event()
    assert journal.append(after, ["a"])
    journal.close()
    assert accepted
    accepted.add(after.id)
    connection = sqlite3.connect(small_disk / "journal.db")
    assert {row[0] for row in connection.execute("SELECT id FROM pulp_hooks_event")} == accepted
    delivered = "SELECT id FROM pulp_hooks_delivery JOIN pulp_hooks_event ON number = event"
    assert {row[0] for row in connection.execute(delivered)} == accepted
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize("small_disk", ["2m", "20m"], indirect=True)
def test_disk_that_the_journal_has_filled_can_be_emptied(small_disk: Path, new_event: Make) -> None:
    """Events leave room to record what is delivered and to prune it, and then there is room for events again."""
    journal = Journal(f"sqlite:///{small_disk}/journal.db")
    claims = journal.queue

    def fill() -> None:
        for _ in range(100_000):
            journal.append(new_event("x" * 500), ["a"])

    for _ in range(3):
        with pytest.raises(JournalError, match="the disk is full"):
            fill()
        while claimed := claims.claim("a", 100, 60):
            results = [Result(claim, State.DELIVERED, started=1.0, seconds=0.5, status="done") for claim in claimed]
            assert claims.finish(results) == []
        now = journal.now() + 1
        pruned = journal.prune(delivered_before=now, dead_before=now)
        assert pruned.deliveries == pruned.events > 100
    journal.close()


def test_read_only_file_is_said(small_disk: Path, new_event: Make) -> None:
    """A journal on a disk that is read-only takes no event."""
    journal = Journal(f"sqlite:///{small_disk}/journal.db")
    journal.append(new_event(), ["a"])
    journal.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(JournalError, match=r"journal\.db could not .*(read-only|cannot be opened)"):
        journal.append(new_event(), ["a"])
    journal.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_removed_or_replaced_file_is_opened_anew(
    sqlite_url: str, tmp_path: Path, new_event: Make, caplog: pytest.LogCaptureFixture, *, replaced: bool
) -> None:
    """What is stored from then on is where everybody looks for it, and not in a file that has no name any more."""
    journal = Journal(sqlite_url)
    journal.append(new_event(), ["a"])
    if replaced:
        other = Journal(f"sqlite:///{tmp_path}/other.db")
        other.append(new_event(), ["a"])
        other.close()
    for file in tmp_path.glob("journal.db*"):
        file.unlink()
    if replaced:
        (tmp_path / "other.db").rename(tmp_path / "journal.db")
    time.sleep(0.15)
    journal.append(new_event(), ["a"])
    assert "was removed or replaced" in caplog.text
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("SELECT count(*) FROM pulp_hooks_event").fetchone() == (2 if replaced else 1,)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    journal.close()
