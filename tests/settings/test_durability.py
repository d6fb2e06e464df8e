"""`[journal]` and `[delivery]`: what they may say, and what follows from a mistake in them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_hooks import EventType, Hooks, JournalError
from pulp_hooks.settings.model import DeliverySettings, JournalSettings, Settings

Read = Callable[[str], Settings]

FAULTS = {
    "no table": ("journal = 'sqlite:///a.db'", "journal: must be a table"),
    "no url": ("[journal]\nsynchronous = 'FULL'", "journal: url is missing"),
    "empty url": ("[journal]\nurl = ''", "journal: url must not be empty"),
    "number for url": ("[journal]\nurl = 1", "journal: url must be text"),
    "unset variable": ("[journal]\nurl = { env = 'NOT_SET' }", "journal: url: the environment variable NOT_SET"),
    "misspelt key": ("[journal]\nurl = 'sqlite:///a'\nsync = 'FULL'", "journal: sync is no key of this table"),
    "unknown mode": ("[journal]\nurl = 'sqlite:///a'\nsynchronous = 'OFF'", "must be NORMAL or FULL"),
    "unknown on_error": ("[journal]\nurl = 'sqlite:///a'\non_error = 'ignore'", "must be raise or dispatch"),
    "no time": ("[journal]\nurl = 'sqlite:///a'\nbusy_seconds = 0", "busy_seconds must be more than 0"),
    "wait of years": (
        "[journal]\nurl = 'sqlite:///a'\nbusy_seconds = 1e9",
        "busy_seconds must be at most 86400, which",
    ),
    "kept for ever": (
        "[journal]\nurl = 'sqlite:///a'\nkeep_dead_days = 1e9",
        "must be at most 36525, which is a hundred years",
    ),
    "misspelt table": ("[jurnal]\nurl = 'sqlite:///a'", "jurnal is no table of the settings, did you mean 'journal'?"),
    "unknown database": ("[journal]\nurl = 'mysql://a/b'", "must begin with sqlite:/// or postgresql://"),
}

DELIVERY_FAULTS = {
    "no table": ("delivery = 1", "delivery must be a table"),
    "listeners are no table": ("[delivery]\nlisteners = []", "delivery.listeners must be a table"),
    "text for seconds": ("[delivery]\ntimeout_seconds = '1'", "delivery: timeout_seconds must be a number"),
    "no time at all": ("[delivery]\ntimeout_seconds = 0", "delivery: timeout_seconds must be more than 0"),
    "negative pause": ("[delivery]\nretry_seconds = [1, -1]", "delivery: retry_seconds[1] must not be negative"),
    "endless pause": ("[delivery]\nretry_seconds = [inf]", "delivery: retry_seconds[0] must be finite"),
    "pause of ages": (
        "[delivery]\nretry_seconds = [1e12]",
        "retry_seconds[0] must be at most 31622400, which is 366 days",
    ),
    "time limit of ages": ("[delivery]\ntimeout_seconds = 1e12", "timeout_seconds must be at most 31622400"),
    "patience of ages": ("[delivery]\ndisable_after_hours = 1e5", "disable_after_hours must be at most 8784"),
    "rate of nothing": ("[delivery]\nper_second = 5e-324", "per_second must be from 0.00001, which is about one in a"),
    "rate beyond counting": ("[delivery]\nper_second = 1e300", "per_second must be from 0.00001"),
    "slow resumption": ("[delivery]\nresume_per_second = 5e-324", "resume_per_second must be from 0.00001"),
    "number for pauses": ("[delivery]\nretry_seconds = 5", "delivery: retry_seconds must be a list of numbers"),
    "number for a switch": ("[delivery]\nordered = 1", "delivery: ordered must be true or false"),
    "no attempts at all": ("[delivery]\nconcurrency = 0", "delivery: concurrency must be at least 1"),
    "misspelt key": ("[delivery]\ntimeout = 3", "delivery: timeout is no key of this table, did you mean"),
    "in a listener's table": ("[delivery.listeners.desk]\nordered = 'yes'", "delivery.listeners.desk: ordered"),
    "listener is no table": ("[delivery.listeners]\ndesk = 1", "delivery.listeners.desk: must be a table"),
    "nobody's name": (
        "[delivery.listeners.desk]\nordered = true",
        "delivery.listeners.desk: no listener has this name",
    ),
}


def test_every_key_of_the_journal_is_read(read: Read) -> None:
    """Each key of `[journal]` arrives, and those left out have their defaults."""
    text = """[journal]
url = "postgresql://db/journal"
synchronous = "FULL"
busy_seconds = 3
on_error = "dispatch"
keep_delivered_days = 1.5
keep_dead_days = 2
"""
    assert read(text).journal == JournalSettings("postgresql://db/journal", "FULL", 3, "dispatch", 1.5, 2)
    assert read("[journal]\nurl = 'sqlite:////a.db'").journal == JournalSettings("sqlite:////a.db")
    assert read("").journal is None


def test_longest_and_slowest_settings_are_read(read: Read) -> None:
    """The limits themselves are allowed."""
    text = """[journal]
url = "sqlite:////a.db"
busy_seconds = 86400
keep_dead_days = 36525
[delivery]
timeout_seconds = 31622400
retry_seconds = [31622400, 0]
disable_after_hours = 8784
resume_per_second = 0.00001
per_second = 1000000
"""
    assert read(text).problems == ()


def test_relative_file_of_a_journal_begins_at_the_settings(read: Read, folder: Path) -> None:
    """Whoever reads the settings, from whatever folder, finds the same file."""
    journal = read("[journal]\nurl = 'sqlite:///state/journal.db'").journal
    assert journal is not None
    assert journal.url == f"sqlite:///{folder}/state/journal.db"


def test_url_of_a_journal_may_come_from_the_environment(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL with a password need not stand in the file, and is in no repr."""
    monkeypatch.setenv("JOURNAL", "postgresql://me:secret-word@db/journal")
    read_settings = read("[journal]\nurl = { env = 'JOURNAL' }")
    assert read_settings.journal is not None
    assert read_settings.journal.url == "postgresql://me:secret-word@db/journal"
    assert "secret-word" not in repr(read_settings)


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=FAULTS)
def test_fault_in_the_journal_is_told_and_no_event_is_accepted(text: str, said: str, read: Read) -> None:
    """Nobody may believe that events are kept which are not: every `fire` raises until the fault is mended."""
    read(text)
    with Hooks.discover() as hooks:
        assert [said in str(problem) and "no event is accepted" in str(problem) for problem in hooks.problems] == [True]
        with pytest.raises(JournalError):
            hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})


def test_each_listener_has_its_keys_and_else_the_general_ones(read: Read) -> None:
    """A listener's table changes what it says, for this listener alone."""
    settings = read("""[delivery]
timeout_seconds = 5
retry_seconds = []
[delivery.listeners."a.b"]
ordered = true
concurrency = 2
per_second = 0.5
retry_seconds = [1, 2.5]
disable_after_hours = 1
resume_per_second = 7
""")
    assert settings.delivery_of("other") == DeliverySettings(timeout_seconds=5, retry_seconds=())
    assert settings.delivery_of("a.b") == DeliverySettings(
        timeout_seconds=5,
        retry_seconds=(1, 2.5),
        disable_after_hours=1,
        resume_per_second=7,
        ordered=True,
        concurrency=2,
        per_second=0.5,
    )


@pytest.mark.parametrize(("text", "said"), DELIVERY_FAULTS.values(), ids=DELIVERY_FAULTS)
def test_fault_in_the_delivery_is_told_and_its_defaults_hold(text: str, said: str, read: Read) -> None:
    """A mistake is named with its place, and what is right otherwise stays."""
    settings = read(text)
    with Hooks.discover() as hooks:
        assert sum(said in str(problem) for problem in hooks.problems) == 1
    assert settings.delivery == DeliverySettings()
