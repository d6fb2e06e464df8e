"""What the commands make of a clock, arguments and terminals that are not as they should be."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pulp_hooks.cli import cli
from pulp_hooks.event import Event
from pulp_hooks.journal.claims import Claims
from pulp_hooks.journal.journal import Journal

Make = Callable[..., Event]


@pytest.fixture
def settings(tmp_path: Path, url: str) -> Path:
    """Give settings with a journal, empty, in each of the two databases."""
    path = tmp_path / "site.toml"
    path.write_text(f"[journal]\nurl = {json.dumps(url)}\n")
    return path


def test_claim_is_judged_by_the_time_of_the_journal(
    url: str, settings: Path, new_event: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is wrong sees what is at work as every other one."""
    journal = Journal(url)
    event = new_event()
    journal.append(event, ["desk"])
    Claims(journal.database).claim("desk", 1, 60)
    journal.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    for arguments in (["deliveries"], ["deliveries", "show", event.id]):
        done = CliRunner().invoke(cli, [*arguments, "--settings", str(settings), "--json"])
        assert [x["claimed"] for x in json.loads(done.stdout)["deliveries"]] == [True]
