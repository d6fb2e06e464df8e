"""Upgrading a journal from release to release: stored journals of each schema, and a simulated next release."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url

from pulp_hooks.errors import JournalError
from pulp_hooks.event import Event
from pulp_hooks.journal import schema, upgrading
from pulp_hooks.journal.journal import Journal
from pulp_hooks.journal.opening import Upgrade

Make = Callable[..., Event]

FIXTURES = Path(__file__).parent / "fixtures"

NEXT = """
import sqlalchemy
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("pulp_hooks_event", sqlalchemy.Column("origin", sqlalchemy.Text))
    op.create_index("pulp_hooks_event_origin", "pulp_hooks_event", ["origin"])
"""

BREAKING = """
    op.execute("UPDATE pulp_hooks_journal SET readable_from = '0002'")
"""


UPGRADE = """
import sys
from pulp_hooks.journal import schema, upgrading
from pulp_hooks.journal.journal import Journal

schema.HEAD, upgrading.MIGRATIONS = "0002", sys.argv[2]
journal = Journal(sys.argv[1])
migrating = journal.backend.migrating

def wait_before(doing):
    print("0001 was found", flush=True)
    sys.stdin.readline()
    return migrating(doing)

journal.backend.migrating = wait_before
done = journal.upgrade()
print(done.found, done.version)
"""


def stored(url: str, version: str = schema.HEAD) -> str:
    """Store the journal of a schema version in an empty database, and return its URL."""
    parsed = make_url(url)
    script = (FIXTURES / f"journal-{version}-{parsed.get_backend_name()}.sql").read_text(encoding="utf-8")
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database))) as connection:
            connection.executescript(script)
    else:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.connection.cursor().execute(script)
        engine.dispose()
    return url


def next_release(patch: pytest.MonkeyPatch, folder: Path, revision: str = NEXT, oldest: str = "0001") -> None:
    """Change this release into one of the schema version 0002."""
    if not folder.exists():
        shutil.copytree(upgrading.MIGRATIONS, folder)
        (folder / "versions" / "r0002_next.py").write_text(revision, encoding="utf-8")
    patch.setattr(upgrading, "MIGRATIONS", str(folder))
    patch.setattr(schema, "HEAD", "0002")
    patch.setattr(schema, "OLDEST", oldest)


def upgraded(url: str) -> Upgrade:
    """Upgrade a journal, and leave it."""
    with closing(Journal(url)) as journal:
        return journal.upgrade()


def everything(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of the journal, of the columns that the stored schema has."""
    with closing(Journal(url)) as journal, journal.backend.reading("look") as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
            for table in schema.metadata.sorted_tables
            if table is not schema.version
        }


def columns(url: str) -> set[str]:
    """Return the columns of the table of events."""
    engine = create_engine(url)
    found = {column["name"] for column in inspect(engine).get_columns("pulp_hooks_event")}
    engine.dispose()
    return found


def differences(url: str) -> list[object]:
    """Return what Alembic would change of the tables, to make them those of this release."""
    engine = create_engine(url)
    with engine.connect() as connection:
        # In SQLite an integer key counts up without being an identity.
        options = {"compare_type": True, "compare_server_default": connection.dialect.name != "sqlite"}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata)
    engine.dispose()
    return found


def test_newest_revision_is_the_schema_of_this_release() -> None:
    """A release whose tables changed has a revision that changes them, and a stored journal from before."""
    config = Config()
    config.set_main_option("script_location", upgrading.MIGRATIONS)
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert revisions[0] == schema.HEAD
    assert revisions == sorted(revisions, reverse=True)
    assert {path.name for path in FIXTURES.glob("*.sql")} == {
        f"journal-{revision}-{database}.sql" for revision in revisions for database in ("sqlite", "postgresql")
    }


def test_new_journal_has_the_tables_of_this_release(url: str) -> None:
    """Alembic finds no difference between a new journal and the tables in `schema`."""
    with closing(Journal(url)) as journal:
        journal.open()
    assert differences(url) == []


@pytest.mark.parametrize("version", sorted({path.name.split("-")[1] for path in FIXTURES.glob("*.sql")}))
def test_stored_journal_becomes_one_of_this_release(version: str, url: str) -> None:
    """After the revisions a journal of any earlier schema has the same tables as a new one."""
    upgraded(stored(url, version))
    assert differences(url) == []


def test_journal_of_this_release_is_not_changed(url: str) -> None:
    """Upgrading at the head does nothing."""
    before = everything(stored(url))
    assert upgraded(url) == Upgrade(schema.HEAD, schema.HEAD, "")
    assert everything(url) == before


def test_upgrade_to_the_next_release_loses_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_event: Make
) -> None:
    """Every row of a stored journal is there afterwards, and events are stored and claimed as before."""
    before = everything(stored(url, "0001"))
    assert len(before["pulp_hooks_event"]) == 8
    assert {row[3] for row in before["pulp_hooks_delivery"]} == {str(state) for state in schema.State}
    next_release(monkeypatch, tmp_path / "next")
    done = upgraded(url)
    assert (done.found, done.version) == ("0001", "0002")
    assert "ADD COLUMN origin" in done.sql
    assert everything(url) == before
    assert "origin" in columns(url)
    with closing(Journal(url)) as journal:
        event = new_event()
        assert journal.append(event, ["new"])
        assert [claim.event_id for claim in journal.queue.claim("new", 1, 60)] == [event.id]
    assert upgraded(url) == Upgrade("0002", "0002", "")


def test_dry_run_returns_the_sql_and_changes_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements can be executed by an administrator, and lead to the same journal."""
    before = everything(stored(url, "0001"))
    next_release(monkeypatch, tmp_path / "next")
    with closing(Journal(url)) as journal:
        planned = journal.upgrade(dry_run=True)
    assert (planned.found, planned.version) == ("0001", "0002")
    assert everything(url) == before
    assert "origin" not in columns(url)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(str(make_url(url).database))) as connection:
            connection.executescript(planned.sql)
    else:
        # The search path of whoever executes them does not matter.
        engine = create_engine(make_url(url).difference_update_query(["options"]), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.connection.cursor().execute(planned.sql)
        engine.dispose()
    assert "origin" in columns(url)
    assert upgraded(url) == Upgrade("0002", "0002", "")


def test_release_works_on_the_schema_before_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_event: Make
) -> None:
    """Hosts and workers may be upgraded before the journal is."""
    stored(url, "0001")
    next_release(monkeypatch, tmp_path / "next")
    with closing(Journal(url)) as journal:
        assert journal.append(new_event(), ["new"])
        assert len(journal.queue.claim("new", 1, 60)) == 1


def test_error_names_the_command_where_an_upgrade_is_due(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_event: Make
) -> None:
    """A release that cannot work on an old schema says so at the first event, and works after the upgrade."""
    stored(url, "0001")
    next_release(monkeypatch, tmp_path / "next", oldest="0002")
    with closing(Journal(url)) as journal:
        with pytest.raises(
            JournalError, match=r"has schema version 0001.*works on 0002; fix: run `pulp-hooks journal up"
        ):
            journal.append(new_event(), ["new"])
        journal.upgrade()
        assert journal.append(new_event(), ["new"])


def test_older_release_works_on_the_schema_after_it(url: str, tmp_path: Path, new_event: Make) -> None:
    """After an additive upgrade hosts and workers of the release before go on, and need not even be restarted."""
    with closing(Journal(stored(url, "0001"))) as running:
        assert running.append(new_event(), ["new"])
        with pytest.MonkeyPatch.context() as patch:
            next_release(patch, tmp_path / "next")
            upgraded(url)
        assert running.append(new_event(), ["new"])
    with closing(Journal(url)) as older:
        assert older.append(new_event(), ["new"])
        assert len(older.queue.claim("new", 9, 60)) == 3
        assert older.upgrade() == Upgrade("0002", "0002", "")


def test_older_release_refuses_a_schema_that_it_cannot_work_on(url: str, tmp_path: Path, new_event: Make) -> None:
    """A revision that is not additive says so in the journal, and an older release stores nothing."""
    stored(url, "0001")
    with pytest.MonkeyPatch.context() as patch:
        next_release(patch, tmp_path / "next", NEXT + BREAKING)
        upgraded(url)
    with closing(Journal(url)) as older:
        refusal = "has schema version 0002, .*works on 0001; fix: upgrade pulp-hooks on this machine"
        with pytest.raises(JournalError, match=refusal):
            older.append(new_event(), ["new"])
        with pytest.raises(JournalError, match=refusal):
            older.upgrade()


def test_two_upgrades_at_once_are_one(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two processes succeeds: the second one waits, and finds nothing left to do."""
    stored(url, "0001")
    next_release(monkeypatch, tmp_path / "next")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, url, upgrading.MIGRATIONS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "0001 was found\n"
    engine = create_engine(url)
    with engine.connect() as reader:
        # In PostgreSQL no column can be added while this transaction is open.
        reader.execute(schema.event.select()).all()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        if reader.dialect.name == "postgresql":
            waiting = (
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND (locktype = 'advisory'"
                " OR relation = 'pulp_hooks_event'::regclass)"
            )
            while reader.exec_driver_sql(waiting).scalar_one() < 2:
                assert all(process.poll() is None for process in processes)
    engine.dispose()
    assert [process.communicate(timeout=60) for process in processes] == [("0001 0002\n", "")] * 2
    assert "origin" in columns(url)


def test_failing_revision_changes_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All revisions are one transaction, with the version."""
    before = everything(stored(url, "0001"))
    next_release(monkeypatch, tmp_path / "next", NEXT + '    op.drop_table("nowhere")\n')
    with pytest.raises(JournalError, match="could not upgrade its tables"):
        upgraded(url)
    assert everything(url) == before
    assert "origin" not in columns(url)


def test_upgrade_without_a_journal_is_refused(url: str, tmp_path: Path) -> None:
    """No file and no table is created."""
    with pytest.raises(JournalError, match=r"there is no journal .*; fix:"):
        upgraded(url)
    assert list(tmp_path.iterdir()) == []
