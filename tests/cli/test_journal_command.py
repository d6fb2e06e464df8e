"""`pulp-hooks journal` on a real journal, with a simulated next release of the package."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pulp_hooks.journal import upgrading

Run = Callable[..., subprocess.CompletedProcess[str]]

SETTINGS = "[journal]\nurl = 'sqlite:///journal.db'\n"

NEXT = """
import sqlalchemy
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("pulp_hooks_event", sqlalchemy.Column("origin", sqlalchemy.Text))
"""

RELEASE = """
from pulp_hooks.journal import schema, upgrading

schema.HEAD, upgrading.MIGRATIONS = "0002", {folder!r}
"""


@pytest.fixture
def place(tmp_path: Path, run: Run) -> Path:
    """Return the path of a journal with an event, which the settings of `run` name."""
    folder = tmp_path / "work"
    (folder / "pulp-hooks.toml").write_text(SETTINGS)
    assert run("fire", "repo-sync-started").returncode == 0
    return folder / "journal.db"


@pytest.fixture
def next_release(tmp_path: Path, packages: Path) -> Callable[[], None]:
    """Return a function from whose call on the commands are those of a release with schema version 0002."""

    def release() -> None:
        folder = tmp_path / "next"
        shutil.copytree(upgrading.MIGRATIONS, folder)
        (folder / "versions" / "r0002_next.py").write_text(NEXT)
        # Python imports this module when it starts.
        (packages / "sitecustomize.py").write_text(RELEASE.format(folder=str(folder)))

    return release


def columns(path: Path) -> set[str]:
    """Return the columns of the table of events."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[1] for row in connection.execute("PRAGMA table_info(pulp_hooks_event)")}


def test_journal_of_this_release_needs_no_upgrade(place: Path, run: Run) -> None:
    """Both commands say so and exit with 0; nothing is changed."""
    shown, done, planned = run("journal"), run("journal", "upgrade"), run("journal", "upgrade", "--dry-run")
    assert (shown.returncode, done.returncode, planned.returncode) == (0, 0, 0)
    assert shown.stdout == f"the journal sqlite:///{place} has schema version 0001; no upgrade is due\n"
    assert done.stdout == f"nothing to do: the journal sqlite:///{place} has schema version 0001\n"
    assert (planned.stdout, planned.stderr) == ("", done.stdout)
    found = json.loads(run("journal", "--json").stdout)
    assert found == {"journal": f"sqlite:///{place}", "version": "0001", "upgrade_to": None}


def test_upgrade_says_what_was_done(place: Path, run: Run, next_release: Callable[[], None]) -> None:
    """The tables are those of the next release, and the command names both versions."""
    next_release()
    due = run("journal")
    assert "has schema version 0001; `pulp-hooks journal upgrade` changes it to 0002\n" in due.stdout
    assert json.loads(run("journal", "--json").stdout)["upgrade_to"] == "0002"
    done = run("journal", "upgrade")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"the journal sqlite:///{place} is upgraded from schema version 0001 to 0002\n"
    assert "origin" in columns(place)
    assert "nothing to do" in run("journal", "upgrade").stdout


def test_dry_run_prints_sql_alone(place: Path, run: Run, next_release: Callable[[], None]) -> None:
    """The output can be executed as it is, and leads to the same tables."""
    next_release()
    planned = run("journal", "upgrade", "--dry-run")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "origin" not in columns(place)
    assert json.loads(run("journal", "upgrade", "--dry-run", "--json").stdout) == {
        "journal": f"sqlite:///{place}",
        "from": "0001",
        "to": "0002",
        "sql": planned.stdout,
    }
    with closing(sqlite3.connect(place)) as connection:
        connection.executescript(planned.stdout)
    assert "origin" in columns(place)
    assert "nothing to do" in run("journal", "upgrade").stdout


@pytest.mark.parametrize("arguments", [["journal"], ["journal", "upgrade"], ["journal", "upgrade", "--dry-run"]])
def test_journal_that_is_not_there_is_an_error(arguments: list[str], tmp_path: Path, run: Run) -> None:
    """None is created, and the exit code is 1."""
    assert run(*arguments).returncode == 1
    (tmp_path / "work" / "pulp-hooks.toml").write_text(SETTINGS)
    failed = run(*arguments)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "does not exist yet" in failed.stderr
    assert not (tmp_path / "work" / "journal.db").exists()


def test_upgrade_that_fails_exits_with_1(place: Path, run: Run, next_release: Callable[[], None]) -> None:
    """The message says what the database said, without a traceback."""
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("ALTER TABLE pulp_hooks_event ADD COLUMN origin TEXT")
    next_release()
    failed = run("journal", "upgrade")
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"Error: the journal sqlite:///{place} could not upgrade its tables:")
    assert "Traceback" not in failed.stderr
