"""`[journal]` and `[delivery]`: their keys, and the consequences of a fault."""

import asyncio
import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_hooks import EventType, Hooks, JournalError
from pulp_hooks.settings.model import DeliverySettings, JournalSettings
from pulp_hooks.settings.reading import FILE_NAME, PATH_VARIABLE, ReadSettings, read_settings

Read = Callable[[str], ReadSettings]

JOURNAL = "[journal]\nurl = 'sqlite:///journal.db'\n"

UNREADABLE = {
    "no TOML": (f"{JOURNAL}[dispatch]\nslow_seconds = 5 seconds\n".encode(), "Expected newline"),
    "table twice": (f"{JOURNAL}{JOURNAL}".encode(), "Cannot declare ('journal',) twice"),
    "UTF-16": (JOURNAL.encode("utf-16"), "it is UTF-16 text, save it as UTF-8"),
    "UTF-16 without a mark": (JOURNAL.encode("utf-16-le"), "it is UTF-16 text, save it as UTF-8"),
    "Latin-1": (f"# für\n{JOURNAL}".encode("latin-1"), "it is not UTF-8 text"),
    "too deep": (f"{JOURNAL}x = {'[' * 100_000}".encode(), "too deep"),
}

FAULTS = {
    "no table": ("journal = 'sqlite:///a.db'", "journal: must be a table"),
    "no url": ("[journal]\nsynchronous = 'FULL'", "journal: url is missing"),
    "empty url": ("[journal]\nurl = ''", "journal: url must not be empty"),
    "number for url": ("[journal]\nurl = 1", "journal: url must be a string"),
    "unset variable": ("[journal]\nurl = { env = 'NOT_SET' }", "journal: url: environment variable NOT_SET"),
    "misspelt key": ("[journal]\nurl = 'sqlite:///a'\nsync = 'FULL'", "journal: sync is not a key of this table"),
    "empty schema": ("[journal]\nurl = 'postgresql://h/d'\nschema = ''", "journal: schema must not be empty"),
    "schema of a file": ("[journal]\nurl = 'sqlite:///a'\nschema = 'hooks'", "SQLite file has no schemas; fix: remove"),
    "unknown mode": ("[journal]\nurl = 'sqlite:///a'\nsynchronous = 'OFF'", "must be NORMAL or FULL"),
    "unknown on_error": ("[journal]\nurl = 'sqlite:///a'\non_error = 'ignore'", "must be raise or dispatch"),
    "no time": ("[journal]\nurl = 'sqlite:///a'\nbusy_seconds = 0", "busy_seconds must be more than 0"),
    "wait of years": (
        "[journal]\nurl = 'sqlite:///a'\nbusy_seconds = 1e9",
        "busy_seconds must be at most 86400 (a day)",
    ),
    "kept for ever": (
        "[journal]\nurl = 'sqlite:///a'\nkeep_dead_days = 1e9",
        "must be at most 36525 (a hundred years)",
    ),
    "misspelt table": ("[jurnal]\nurl = 'sqlite:///a'", "unknown key jurnal, did you mean 'journal'?"),
    "nested table": ("[pulp_hooks.journal]\nurl = 'sqlite:///a'", "unknown key pulp_hooks; no plugin is loaded"),
    "table of another file": ("[tool.pulp-hooks.journal]\nurl = 'a'", "unknown key tool; no plugin is loaded"),
    "capital letter": (
        "[Journal]\nurl = 'sqlite:///a'",
        "unknown key Journal, did you mean 'journal'?",
    ),
    "array of tables": ("[[journal]]\nurl = 'sqlite:///a'", "journal: must be a table"),
    "unknown database": ("[journal]\nurl = 'mysql://a/b'", "must begin with sqlite:/// or postgresql://"),
}

DELIVERY_FAULTS = {
    "no table": ("delivery = 1", "delivery must be a table"),
    "listeners are not a table": ("[delivery]\nlisteners = []", "delivery.listeners must be a table"),
    "text for seconds": ("[delivery]\ntimeout_seconds = '1'", "delivery: timeout_seconds must be a number"),
    "no time at all": ("[delivery]\ntimeout_seconds = 0", "delivery: timeout_seconds must be more than 0"),
    "negative pause": ("[delivery]\nretry_seconds = [1, -1]", "delivery: retry_seconds[1] must not be negative"),
    "endless pause": ("[delivery]\nretry_seconds = [inf]", "delivery: retry_seconds[0] must be finite"),
    "pause of ages": (
        "[delivery]\nretry_seconds = [1e12]",
        "retry_seconds[0] must be at most 31622400 (366 days)",
    ),
    "time limit of ages": ("[delivery]\ntimeout_seconds = 1e12", "timeout_seconds must be at most 31622400"),
    "patience of ages": ("[delivery]\ndisable_after_hours = 1e5", "disable_after_hours must be at most 8784"),
    "rate of nothing": (
        "[delivery]\nglobal_rate_per_second = 5e-324",
        "global_rate_per_second must be from 0.00001 (about one a day) to",
    ),
    "rate beyond counting": (
        "[delivery]\nglobal_rate_per_second = 1e300",
        "global_rate_per_second must be from 0.00001",
    ),
    "slow resumption": ("[delivery]\nresume_per_second = 5e-324", "resume_per_second must be from 0.00001"),
    "number for pauses": ("[delivery]\nretry_seconds = 5", "delivery: retry_seconds must be a list of numbers"),
    "number for a switch": ("[delivery]\nordered = 1", "delivery: ordered must be true or false"),
    "no attempts at all": ("[delivery]\nglobal_concurrency = 0", "delivery: global_concurrency must be at least 1"),
    "misspelt key": ("[delivery]\ntimeout = 3", "delivery: timeout is not a key of this table, did you mean"),
    "in a listener's table": ("[delivery.listeners.desk]\nordered = 'yes'", "delivery.listeners.desk: ordered"),
    "listener is not a table": ("[delivery.listeners]\ndesk = 1", "delivery.listeners.desk: must be a table"),
    "unknown listener": (
        "[delivery.listeners.desk]\nordered = true",
        "delivery.listeners.desk: no listener has this name",
    ),
}


def test_every_key_of_the_journal_is_read(read: Read) -> None:
    """Each key of `[journal]` is read; omitted keys have their defaults."""
    text = """[journal]
url = "postgresql://db/journal"
schema = "hooks"
synchronous = "FULL"
busy_seconds = 3
on_error = "dispatch"
keep_delivered_days = 1.5
keep_dead_days = 2
"""
    assert read(text).settings.journal == JournalSettings(
        "postgresql://db/journal", "hooks", "FULL", 3, "dispatch", 1.5, 2
    )
    assert read("[journal]\nurl = 'sqlite:////a.db'").settings.journal == JournalSettings("sqlite:////a.db")
    assert read("").settings.journal is None


def test_longest_and_slowest_settings_are_read(read: Read) -> None:
    """The limits themselves are valid."""
    text = """[journal]
url = "sqlite:////a.db"
busy_seconds = 86400
keep_dead_days = 36525
[delivery]
timeout_seconds = 31622400
retry_seconds = [31622400, 0]
disable_after_hours = 8784
resume_per_second = 0.00001
global_rate_per_second = 1000000
"""
    assert read(text).problems == ()


def test_relative_file_of_a_journal_begins_at_the_settings(read: Read, folder: Path) -> None:
    """The file is the same whatever the working directory is."""
    journal = read("[journal]\nurl = 'sqlite:///state/journal.db'").settings.journal
    assert journal is not None
    assert journal.url == f"sqlite:///{folder}/state/journal.db"


def test_url_without_a_file_is_not_taken_for_the_folder_of_the_settings(read: Read) -> None:
    """It stays as it was written, so that opening the journal says what is wrong with it."""
    journal = read('[journal]\nurl = "sqlite:///"').settings.journal
    assert journal is not None
    assert journal.url == "sqlite:///"


def test_url_of_a_journal_may_come_from_the_environment(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL with a password can stay out of the file, and is not in the repr."""
    monkeypatch.setenv("JOURNAL", "postgresql://me:secret-word@db/journal")
    found = read("[journal]\nurl = { env = 'JOURNAL' }")
    assert found.settings.journal == JournalSettings("postgresql://me:secret-word@db/journal")
    assert "secret-word" not in repr(found)


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=FAULTS)
def test_fault_in_the_journal_is_reported_and_no_event_is_accepted(text: str, said: str, read: Read) -> None:
    """Every `fire` raises until the fault is fixed, so that no event bypasses the journal."""
    read(text)
    with Hooks.discover() as hooks:
        problems = [str(problem) for problem in hooks.problems if "no event is accepted" in str(problem)]
        assert [said in problem for problem in problems] == [True]
        with pytest.raises(JournalError):
            hooks.fire(EventType.REPO_SYNC_STARTED, {"repo_id": "zoo"})


def assert_nothing_is_accepted(hooks: Hooks, reason: str) -> None:
    """Assert that every way to fire raises, and names the file, the reason and the command for details."""
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
    """The settings may configure a journal, so an event is refused rather than lost."""
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
    """A path in the environment or in code must lead to settings."""
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


def test_journal_of_the_host_replaces_an_invalid_table(folder: Path) -> None:
    """With `journal=` the table does not matter."""
    (folder / FILE_NAME).write_text("[journal]\nurl = 1\n")
    with Hooks.discover(journal=f"sqlite:///{folder}/own.db") as hooks:
        hooks.repo_sync_started(repo_id="zoo")
        assert hooks.journal is not None
        assert hooks.journal.exists()


def test_byte_order_mark_is_not_part_of_the_settings(folder: Path) -> None:
    """A byte order mark at the start of the settings is ignored."""
    (folder / FILE_NAME).write_bytes(codecs.BOM_UTF8 + JOURNAL.encode())
    settings = read_settings()
    assert settings.problems == ()
    assert settings.settings.journal == JournalSettings(f"sqlite:///{folder}/journal.db")


def test_journal_of_the_host_does_not_help_where_the_file_is_invalid(folder: Path) -> None:
    """The listeners are unknown, so their deliveries would be lost silently."""
    (folder / FILE_NAME).write_text("no TOML")
    with Hooks.discover(journal=f"sqlite:///{folder}/own.db") as hooks:
        assert_nothing_is_accepted(hooks, "the settings cannot be read")
    assert not (folder / "own.db").exists()


@pytest.mark.parametrize("text", ["[dispatch]\njournal.url = 'a'", "[delivery]\njournal.url = 'a'"])
def test_unknown_key_of_another_table_is_not_taken_for_the_journal(text: str, read: Read) -> None:
    """It is a problem of that table, without other consequences."""
    found = read(text)
    assert [problem.cause.partition(":")[2] for problem in found.problems] == [" journal is not a key of this table"]
    assert (found.fault, found.journal_fault) == (None, None)


@pytest.mark.parametrize("text", ["[jurnal]\nurl = 'a'", "colour = 'red'", "[plugins]\nblok = []"])
def test_invalid_file_loads_nothing_and_accepts_nothing(text: str, read: Read) -> None:
    """With an unknown key at the top or an invalid list of blocked plugins, no event may bypass a listener."""
    read(text)
    with Hooks.discover(listeners=[]) as hooks:
        assert hooks.listeners == ()
        assert_nothing_is_accepted(hooks, text.split(maxsplit=1)[0].strip("[]"))


def test_listener_inherits_the_general_keys(read: Read) -> None:
    """The keys in a listener's table apply to this listener only."""
    settings = read("""[delivery]
timeout_seconds = 5
retry_seconds = []
[delivery.listeners."a.b"]
ordered = true
global_concurrency = 2
global_rate_per_second = 0.5
retry_seconds = [1, 2.5]
disable_after_hours = 1
resume_per_second = 7
""")
    assert settings.settings.delivery_of("other") == DeliverySettings(timeout_seconds=5, retry_seconds=())
    assert settings.settings.delivery_of("a.b") == DeliverySettings(
        timeout_seconds=5,
        retry_seconds=(1, 2.5),
        disable_after_hours=1,
        resume_per_second=7,
        ordered=True,
        global_concurrency=2,
        global_rate_per_second=0.5,
    )


@pytest.mark.parametrize(("text", "said"), DELIVERY_FAULTS.values(), ids=DELIVERY_FAULTS)
def test_fault_in_the_delivery_is_reported_and_its_defaults_apply(text: str, said: str, read: Read) -> None:
    """A fault is reported with its place; the valid tables apply."""
    settings = read(text)
    with Hooks.discover() as hooks:
        assert sum(said in str(problem) for problem in hooks.problems) == 1
    assert settings.settings.delivery == DeliverySettings()
