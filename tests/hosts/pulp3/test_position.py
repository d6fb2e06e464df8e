"""Positions survive crashes, and belong to one watcher at a time."""

import multiprocessing
import os
import signal
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks import PulpError
from pulp_hooks.hosts.pulp3.position import Position, StateFolder

TIMES = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as hypothesis wants them
POSITIONS = st.builds(
    Position,
    cursor=st.none() | TIMES,
    reported=st.dictionaries(st.uuids().map(str), TIMES, max_size=5),
    running=st.dictionaries(st.uuids().map(str), st.booleans(), max_size=5),
)


@given(position=POSITIONS)
def test_stored_position_is_read_again(position: Position, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is stored is what is read, to the microsecond."""
    folder = StateFolder(tmp_path_factory.mktemp("state"))
    with folder.locked():
        folder.save("pulp", position)
    assert folder.load("pulp") == position


def test_first_start_has_an_empty_position(tmp_path: Path) -> None:
    """Without a file there is no cursor."""
    assert StateFolder(tmp_path / "none").load("pulp") == Position()


DEEP = "[" * 100_000
YEAR_ONE = '{"cursor": "0001-01-01T00:00:00+00:00", "reported": {}, "running": {}}'


@pytest.mark.parametrize(
    "content", [DEEP, YEAR_ONE, "", "{", "[]", "null", '{"cursor": 7}', '{"cursor": "x", "reported": {}}']
)
def test_damaged_file_is_an_error(tmp_path: Path, content: str) -> None:
    """Beginning anew would leave out events without a word."""
    (tmp_path / "pulp.json").write_text(content)
    with pytest.raises(PulpError, match=r"pulp\.json cannot be read.*--since"):
        StateFolder(tmp_path).load("pulp")


def test_one_watcher_at_a_time(tmp_path: Path) -> None:
    """A second watcher with the same folder is refused; after the first one it may begin."""
    second = StateFolder(tmp_path).locked()
    with StateFolder(tmp_path).locked(), pytest.raises(PulpError, match="another watcher"), second:
        pass
    with StateFolder(tmp_path).locked():
        pass


def test_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "file").touch()
    with pytest.raises(PulpError, match="file/state"), StateFolder(tmp_path / "file" / "state").locked():
        pass


def test_positions_of_a_killed_watcher_are_whole(tmp_path: Path) -> None:
    """Killed at any moment, the file is an old position or a new one."""
    folder = StateFolder(tmp_path)
    begin = datetime(2026, 11, 23, tzinfo=UTC)
    process = multiprocessing.get_context("spawn").Process(target=_save_for_ever, args=(tmp_path, begin))
    process.start()
    while folder.load("pulp").cursor is None:
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    position = folder.load("pulp")
    assert position.cursor is not None
    assert position.reported == {"task": position.cursor}
    process.close()


def _save_for_ever(path: Path, time: datetime) -> None:
    folder = StateFolder(path)
    while True:
        time += timedelta(seconds=1)
        folder.save("pulp", Position(time, {"task": time}))


def test_files_are_for_their_owner(tmp_path: Path) -> None:
    """Nothing in them is secret, and nobody else needs them."""
    folder = StateFolder(tmp_path / "state")
    with folder.locked():
        folder.save("pulp", Position())
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
