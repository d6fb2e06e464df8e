"""`[journal]` and `[delivery]`: what they may say, and what follows from a mistake in them."""

import asyncio
import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_hooks import EventType, Hooks, JournalError
from pulp_hooks.settings.model import DeliverySettings, JournalSettings, Settings
from pulp_hooks.settings.reading import FILE_NAME, PATH_VARIABLE, read_settings

Read = Callable[[str], Settings]

JOURNAL = "[journal]\nurl = 'sqlite:///journal.db'\n"

UNREADABLE = {
    "no TOML": (f"{JOURNAL}[dispatch]\nslow_seconds = 5 seconds\n".encode(), "Expected newline"),
    "table twice": (f"{JOURNAL}{JOURNAL}".encode(), "Cannot declare ('journal',) twice"),
    "UTF-16": (JOURNAL.encode("utf-16"), "it is UTF-16 text; save it as UTF-8"),
    "UTF-16 without a mark": (JOURNAL.encode("utf-16-le"), "it is UTF-16 text; save it as UTF-8"),
    "Latin-1": (f"# für\n{JOURNAL}".encode("latin-1"), "it is not UTF-8 text"),
    "too deep": (f"{JOURNAL}x = {'[' * 100_000}".encode(), "too deep"),
}

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
    "nested table": ("[pulp_hooks.journal]\nurl = 'sqlite:///a'", "pulp_hooks.journal is meant as [journal]"),
    "table of another file": ("[tool.pulp-hooks.journal]\nurl = 'a'", "tool.pulp-hooks.journal is meant as"),
    "below another table": ("[dispatch]\njournal.url = 'sqlite:///a'", "dispatch: journal is no key of this table"),
    "below a listener": ("[[listeners]]\n[listeners.journal]\nurl = 'a'", "listeners[0]: journal is no key"),
    "below the deliveries": ("[delivery.journal]\nurl = 'sqlite:///a'", "delivery: journal is no key of this table"),
    "capital letter": (
        "[Journal]\nurl = 'sqlite:///a'",
        "Journal is no table of the settings, did you mean 'journal'?",
    ),
    "array of tables": ("[[journal]]\nurl = 'sqlite:///a'", "journal: must be a table"),
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
        told = [str(problem) for problem in hooks.problems if "no event is accepted" in str(problem)]
        assert [said in problem for problem in told] == [True]
        with pytest.raises(JournalError):
            hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})


def assert_nothing_is_accepted(hooks: Hooks, reason: str) -> None:
    """Every way to fire raises, and names the file, the reason and the command that tells more."""
    with pytest.raises(JournalError, match="no event is accepted") as raised:
        hooks.repo_sync_started(repo_id="zoo")
    assert FILE_NAME in str(raised.value)
    assert reason in str(raised.value)
    assert "fix: run `pulp-hooks check`" in str(raised.value)
    with pytest.raises(JournalError):
        asyncio.run(hooks.afire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"}))
    with pytest.raises(JournalError), hooks.sync("zoo", importer_id="i", importer_type_id="i"):
        pytest.fail("the block was entered")


@pytest.mark.parametrize(("content", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_settings_that_cannot_be_parsed_accept_no_event(content: bytes, reason: str, folder: Path) -> None:
    """A journal may be configured in them, so an event is refused rather than lost."""
    (folder / FILE_NAME).write_bytes(content)
    with Hooks.discover() as hooks:
        assert_nothing_is_accepted(hooks, reason)
        with pytest.raises(JournalError, match="no event is accepted"):
            hooks.worker()


@pytest.mark.parametrize("named", ["variable", "argument"])
@pytest.mark.parametrize("kind", ["missing", "folder", "broken link"])
def test_settings_that_cannot_be_opened_accept_no_event(
    kind: str, named: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is named, in the environment or in code, must lead to settings."""
    path = folder / "site" / FILE_NAME
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    if kind == "broken link":
        path.symlink_to(folder / "nowhere")
    if named == "variable":
        monkeypatch.setenv(PATH_VARIABLE, str(path))
    with Hooks.discover(path if named == "argument" else None) as hooks:
        assert_nothing_is_accepted(hooks, "Is a directory" if kind == "folder" else "No such file or directory")


def test_journal_of_the_host_outranks_settings_that_cannot_be_read(folder: Path) -> None:
    """With `journal=` the journal is known, whatever the settings would have said."""
    (folder / FILE_NAME).write_text("no TOML")
    with Hooks.discover(journal=f"sqlite:///{folder}/own.db") as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        assert hooks.journal is not None
        assert hooks.journal.database.is_there()


def test_byte_order_mark_is_not_part_of_the_settings(folder: Path) -> None:
    """Settings that an editor saved with a byte order mark are read as those without."""
    (folder / FILE_NAME).write_bytes(codecs.BOM_UTF8 + JOURNAL.encode())
    settings = read_settings()
    assert settings.problems == ()
    assert settings.journal == JournalSettings(f"sqlite:///{folder}/journal.db")


def test_journal_elsewhere_does_not_matter_beside_a_journal(read: Read) -> None:
    """A misplaced table is reported, and the journal that is configured takes the events."""
    settings = read(f"{JOURNAL}[tool.pulp-hooks.journal]\nurl = 'sqlite:///other.db'")
    assert settings.journal is not None
    assert settings.journal.fault is None
    assert len(settings.problems) == 1


def test_free_names_are_not_taken_for_a_misplaced_journal(read: Read) -> None:
    """A listener and a key of a configuration may be called `journal`."""
    settings = read("""[[listeners]]
name = "journal"
notifier = "x"
config.journal = 1
[delivery.listeners.journal]
ordered = true
""")
    assert settings.journal is None
    assert settings.problems == ()


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
