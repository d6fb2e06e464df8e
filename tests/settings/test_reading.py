"""Reading `pulp-hooks.toml`: its path, its keys, and every kind of fault."""

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.event_types import EventType
from pulp_hooks.hooks import Hooks
from pulp_hooks.settings.model import DEFAULTS, DispatchSettings, ListenerSettings
from pulp_hooks.settings.reading import ReadSettings, read_settings

Read = Callable[[str], ReadSettings]
Write = Callable[[str], Path]
Forbidden = Callable[[], AbstractContextManager[None]]

LISTENER = "[[listeners]]\nname = 'desk'\nnotifier = 'post'\n"
EVENT_TYPE_LIST = 'event_types must be a list of event types, or "*" for all'

FAULTS = {
    "unknown table": ("[nonsense]", "unknown key nonsense; no plugin is loaded and no event is accepted"),
    "misspelt table": ("[dispach]", "unknown key dispach, did you mean 'dispatch'?"),
    "misspelt listeners": ("[[listener]]\nname = 'a'", "did you mean 'listeners'?"),
    "key outside of tables": ("slow_seconds = 1", "unknown key slow_seconds;"),
    "plugins is not a table": ("plugins = 1", "plugins: must be a table"),
    "plugins is an array of tables": ("[[plugins]]", "plugins: must be a table"),
    "unknown key of plugins": ("[plugins]\nallow = []", "plugins: allow is not a key of this table"),
    "misspelt key of plugins": (
        "[plugins]\nblok = []",
        "plugins: blok is not a key of this table, did you mean 'block'?",
    ),
    "block is text": ("[plugins]\nblock = 'a'", "plugins: block"),
    "block is a table": ("[plugins]\nblock = {}", "plugins: block"),
    "blocked number": ("[plugins]\nblock = ['a', 1]", "plugins: block[1] must be a string"),
    "blocked list": ("[plugins]\nblock = [['a']]", "plugins: block[0] must be a string"),
    "dispatch is not a table": ("dispatch = 'a'", "dispatch: must be a table"),
    "misspelt key of dispatch": (
        "[dispatch]\nslow_second = 1",
        "dispatch: slow_second is not a key of this table, did you mean 'slow_seconds'?",
    ),
    "text for seconds": ("[dispatch]\nslow_seconds = '5'", "dispatch: slow_seconds must be a number"),
    "boolean for seconds": ("[dispatch]\nslow_seconds = true", "dispatch: slow_seconds must be a number"),
    "negative seconds": ("[dispatch]\nslow_seconds = -0.5", "dispatch: slow_seconds must not be negative"),
    "endless seconds": ("[dispatch]\nslow_seconds = inf", "dispatch: slow_seconds"),
    "seconds that are no number": ("[dispatch]\nslow_seconds = nan", "dispatch: slow_seconds"),
    "seconds beyond floats": (f"[dispatch]\nslow_seconds = 1{'0' * 400}", "dispatch: slow_seconds"),
    "text for bytes": ("[dispatch]\nmax_body_bytes = '1MiB'", "dispatch: max_body_bytes must be a number"),
    "boolean for bytes": ("[dispatch]\nmax_body_bytes = true", "dispatch: max_body_bytes must be a number"),
    "fraction of bytes": ("[dispatch]\nmax_body_bytes = 2048.5", "dispatch: max_body_bytes"),
    "too few bytes": ("[dispatch]\nmax_body_bytes = 1023", "dispatch: max_body_bytes must be at least 1024"),
    "listeners is a table": ("[listeners]\nname = 'a'", "listeners must be an array of tables"),
    "listeners is text": ("listeners = 'a'", "listeners must be an array of tables"),
    "listener is a number": ("listeners = [1]", "listeners[0]: must be a table"),
    "listener is a list": ("listeners = [{name = 'a', notifier = 'b'}, []]", "listeners[1]: must be a table"),
    "name is missing": ("[[listeners]]\nnotifier = 'post'", "listeners[0]: name is missing"),
    "name is a number": ("[[listeners]]\nname = 1\nnotifier = 'post'", "listeners[0]: name must be a string"),
    "name is empty": ("[[listeners]]\nname = ''\nnotifier = 'post'", "listener '': name must be"),
    "name with a blank": ("[[listeners]]\nname = 'a b'\nnotifier = 'post'", "listener 'a b': name must be"),
    "name with a line break": ("[[listeners]]\nname = \"a\\n\"\nnotifier = 'post'", "listener 'a\\n': name must be"),
    "notifier is missing": ("[[listeners]]\nname = 'desk'", "listener 'desk': notifier is missing"),
    "notifier is a table": (
        "[[listeners]]\nname = 'desk'\nnotifier = {}",
        "listener 'desk': notifier must be a string",
    ),
    "misspelt key of a listener": (
        f"{LISTENER}evnt_types = []",
        "listener 'desk': evnt_types is not a key of this table, did you mean 'event_types'?",
    ),
    "unknown key of a listener": (f"{LISTENER}colour = 'red'", "listener 'desk': colour is not a key of this table"),
    "one event type without a list": (
        f"{LISTENER}event_types = 'repo-sync-started'",
        f"listener 'desk': {EVENT_TYPE_LIST}",
    ),
    "no event type": (f"{LISTENER}event_types = []", f"listener 'desk': {EVENT_TYPE_LIST}"),
    "event types as a table": (f"{LISTENER}event_types = {{}}", f"listener 'desk': {EVENT_TYPE_LIST}"),
    "misspelt event type": (
        f"{LISTENER}event_types = ['repo-sync-finishd']",
        "listener 'desk': event_types 'repo-sync-finishd' is not an event type; did you mean 'repo-sync-finished'?",
    ),
    "number for an event type": (f"{LISTENER}event_types = [1]", "listener 'desk': event_types 1 is not an event type"),
    "list for an event type": (f"{LISTENER}event_types = [['*']]", "listener 'desk': event_types ['*'] is no"),
    "table for an event type": (
        f"{LISTENER}event_types = [{{}}]",
        "listener 'desk': event_types {} is not an event type",
    ),
    "one glob without a list": (f"{LISTENER}repo_ids = 'a*'", "listener 'desk': repo_ids"),
    "no glob": (f"{LISTENER}repo_ids = []", "listener 'desk': repo_ids must not be empty"),
    "number for a glob": (f"{LISTENER}repo_ids = ['a', 1]", "listener 'desk': repo_ids[1] must be a string"),
    "one result without a list": (f"{LISTENER}results = 'failed'", "listener 'desk': results"),
    "no result": (f"{LISTENER}results = []", "listener 'desk': results must not be empty"),
    "misspelt result": (
        f"{LISTENER}results = ['failed', 'eror']",
        "listener 'desk': results[1] must be one of success, failed, error, canceled, skipped",
    ),
    "number for a result": (f"{LISTENER}results = [1]", "listener 'desk': results[0] must be a string"),
    "config is text": (f"{LISTENER}config = 'a'", "listener 'desk': config"),
    "config is a list": (f"{LISTENER}config = [{{}}]", "listener 'desk': config"),
}
"""A file with one fault, and a part of the cause reported: the listener or table, the key, and the rule."""


def listener_of(read: ReadSettings) -> ListenerSettings:
    """Return the only listener of settings without problems."""
    assert read.problems == ()
    (listener,) = read.settings.listeners
    return listener


def wants(listener: ListenerSettings, event_type: EventType, **changes: object) -> bool:
    """Return whether a listener's filters accept the example event, with these changes to its body."""
    with Hooks() as hooks:
        return listener.wants(hooks.fire(event_type, {**EXAMPLES[event_type], **changes}).event)


def test_without_a_file_the_defaults_apply(folder: Path) -> None:
    """A host without settings loads every plugin, without a problem."""
    assert not list(folder.iterdir())
    assert read_settings() == ReadSettings(settings=DEFAULTS, path=None, autoload=True, problems=())


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "listeners = []", "[plugins]\n[dispatch]\n", "[plugins]\r\nblock = []"]
)
def test_empty_file_is_not_a_problem(read: Read, folder: Path, text: str) -> None:
    """An empty file, and empty tables, mean the defaults."""
    assert read(text) == ReadSettings(path=folder / "pulp-hooks.toml")


def test_file_is_found_in_the_working_directory(write: Write) -> None:
    """`pulp-hooks.toml` in the working directory is read; `path` is absolute."""
    path = write("[plugins]\nblock = ['evil']")
    read = read_settings()
    assert read.path == path
    assert read.blocked == {"evil"}


def test_file_is_not_looked_for_in_other_directories(
    write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the parent of the working directory is not read."""
    write("[plugins]\nblock = ['evil']")
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder / "inner")
    assert read_settings() == ReadSettings()


def test_variable_names_the_file(write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PULP_HOOKS_SETTINGS` overrides the working directory."""
    write("[plugins]\nblock = ['directory']")
    (folder / "site.toml").write_text("[plugins]\nblock = ['variable']")
    monkeypatch.setenv("PULP_HOOKS_SETTINGS", "site.toml")
    read = read_settings()
    assert read.path == folder / "site.toml"
    assert read.blocked == {"variable"}


def test_empty_variable_names_no_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as unset."""
    path = write("")
    monkeypatch.setenv("PULP_HOOKS_SETTINGS", "")
    assert read_settings().path == path


@pytest.mark.parametrize("as_text", [True, False])
def test_argument_names_the_file(write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch, *, as_text: bool) -> None:
    """A path argument, as `str` or `Path`, overrides variable and working directory."""
    write("[plugins]\nblock = ['directory']")
    (folder / "variable.toml").write_text("[plugins]\nblock = ['variable']")
    (folder / "argument.toml").write_text("[plugins]\nblock = ['argument']")
    monkeypatch.setenv("PULP_HOOKS_SETTINGS", "variable.toml")
    read = read_settings("argument.toml" if as_text else Path("argument.toml"))
    assert read.path == folder / "argument.toml"
    assert read.blocked == {"argument"}


def test_path_and_file_may_have_any_characters(folder: Path) -> None:
    """The path and the file may have spaces and non-ASCII characters."""
    path = folder / "прив ет.toml"
    path.write_text("[plugins]\nblock = ['зло']", encoding="utf-8")
    assert read_settings(path).blocked == {"зло"}


@pytest.mark.parametrize(
    "content", [b"[plugins\nblock = ['a']", b"\xff\xfe\x00", b"a = 1\na = 2", b"\0", b"a = " + b"9" * 5000]
)
def test_file_that_is_not_toml_loads_no_plugin(folder: Path, content: bytes) -> None:
    """A file that is not TOML in UTF-8 is one problem that names it, and no plugin is loaded."""
    path = folder / "pulp-hooks.toml"
    path.write_bytes(content)
    assert_fails_closed(read_settings(), path)


@pytest.mark.parametrize("name", ["missing.toml", "no/such/folder.toml", ".", "x" * 1000, "a\0b"])
def test_unreadable_path_argument_loads_no_plugin(folder: Path, name: str) -> None:
    """A path argument that is missing, a folder or invalid is one problem."""
    assert_fails_closed(read_settings(name), folder / name)


@pytest.mark.parametrize("name", ["missing.toml", "no/such/folder.toml", ".", "x" * 1000])
def test_unreadable_path_in_the_environment_loads_no_plugin(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A path in the environment is checked like a path argument."""
    monkeypatch.setenv("PULP_HOOKS_SETTINGS", name)
    assert_fails_closed(read_settings(), folder / name)


def test_folder_in_place_of_the_file_loads_no_plugin(folder: Path) -> None:
    """A folder named `pulp-hooks.toml` does not count as no settings."""
    (folder / "pulp-hooks.toml").mkdir()
    assert_fails_closed(read_settings(), folder / "pulp-hooks.toml")


def test_broken_link_in_place_of_the_file_loads_no_plugin(folder: Path) -> None:
    """A broken link does not count as no settings."""
    (folder / "pulp-hooks.toml").symlink_to("moved-away.toml")
    assert_fails_closed(read_settings(), folder / "pulp-hooks.toml")


def test_unreadable_file_loads_no_plugin(write: Write, forbidden: Forbidden) -> None:
    """A file without read permission is one problem."""
    path = write("[plugins]\nblock = ['evil']")
    with forbidden():
        read = read_settings(path)
    assert_fails_closed(read, path)


def test_unreadable_working_directory_loads_no_plugin(folder: Path, forbidden: Forbidden) -> None:
    """In an unreadable directory there may be a file that blocks a plugin."""
    with forbidden():
        read = read_settings()
    assert_fails_closed(read, folder / "pulp-hooks.toml")


def test_deleted_working_directory_is_not_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host in a deleted working directory starts; there is no file."""
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        read = read_settings()
    finally:
        # pytest itself asks where it is.
        os.chdir(folder)
    assert read.settings.listeners == ()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"a = {'[' * 20_000}{']' * 20_000}", id="arrays"),
        pytest.param(f"[{'a.' * 20_000}a]", id="table name"),
    ],
)
def test_too_deep_nesting_is_a_problem(read: Read, text: str) -> None:
    """Too deep nesting is reported like any other fault."""
    assert read(text).problems


def assert_fails_closed(read: ReadSettings, path: Path) -> None:
    """Assert that there is one problem, which names the file, and that no plugin would be loaded."""
    (problem,) = read.problems
    assert problem.where == str(path)
    assert "no plugin is loaded" in problem.cause
    assert "pulp-hooks check" in problem.remedy
    assert (read.path, read.autoload, read.settings.listeners) == (path, True, ())
    assert read.fault is not None
    assert "no event is accepted" in problem.cause


@pytest.mark.parametrize(("text", "cause"), FAULTS.values(), ids=FAULTS)
def test_fault_names_file_place_key_and_rule(read: Read, folder: Path, text: str, cause: str) -> None:
    """Each fault is one problem with its place and the rule."""
    (problem,) = read(text).problems
    assert problem.where == str(folder / "pulp-hooks.toml")
    assert cause in problem.cause
    assert "pulp-hooks check" in problem.remedy


@pytest.mark.parametrize("text", [text for text, _ in FAULTS.values()], ids=FAULTS)
def test_cause_is_a_sentence_without_a_full_stop(read: Read, text: str) -> None:
    """Causes are in our own words, name the rule, and can be joined with the remedy."""
    (problem,) = read(text).problems
    assert not problem.cause.endswith(".")
    assert "Not a valid" not in problem.cause


@pytest.mark.parametrize(
    ("text", "cause"), [fault for fault in FAULTS.values() if not fault[0].startswith(("listeners", "[listeners"))]
)
def test_faulty_settings_leave_the_other_listeners(read: Read, text: str, cause: str) -> None:
    """Despite a fault the valid listener of the same file is read, and the faulty one is not."""
    found = read(f"{text}\n[[listeners]]\nname = 'sound'\nnotifier = 'post'\n")
    assert [listener.name for listener in found.settings.listeners] == ["sound"]
    assert len(found.problems) == 1
    assert cause in found.problems[0].cause


@pytest.mark.parametrize("text", [text for name, (text, _) in FAULTS.items() if "plugins" in name or "block" in name])
def test_fault_in_the_plugins_table_loads_no_plugin(read: Read, text: str) -> None:
    """If the list of blocked plugins is invalid, no plugin is loaded."""
    assert read(text).fault


def test_fault_in_the_plugins_table_says_that_no_plugin_is_loaded(read: Read) -> None:
    """The problem says that no plugin is loaded."""
    (problem,) = read("[plugins]\nblok = ['evil']").problems
    assert "no plugin is loaded" in problem.cause


@pytest.mark.parametrize("text", ["[plugin]\nblock = ['evil']", "[PLUGINS]\nblock = ['evil']", "block = ['evil']"])
def test_misplaced_list_of_blocked_plugins_loads_no_plugin(read: Read, text: str) -> None:
    """A list of blocked plugins in a misspelt table, or outside of a table, makes the file invalid."""
    assert read(text).fault


@pytest.mark.parametrize(
    "text", [text for text, _ in FAULTS.values() if text.startswith(("[dispatch", "dispatch", "[[listeners]]"))]
)
def test_fault_in_another_table_loads_plugins(read: Read, text: str) -> None:
    """A fault outside of `[plugins]` does not keep plugins from loading."""
    found = read(f"{text}\n[plugins]\nblock = ['evil']")
    assert found.fault is None
    assert found.blocked == {"evil"}


def test_every_fault_of_a_file_is_reported_in_its_order(read: Read) -> None:
    """One reading reports all faults, always in the same order."""
    found = read(
        "[alpha]\n[beta]\n[gamma]\n[delta]\n"
        "[plugins]\nblok = []\n"
        "[dispatch]\nslow_seconds = -1\nmax_body_bytes = 1\n"
        "[[listeners]]\nname = 'a'\nrepo_ids = []\nresults = []\n"
        "[[listeners]]\nnotifier = 'post'\n"
    )
    assert [" ".join(problem.cause.split()[:2]) for problem in found.problems] == [
        *("unknown key", "unknown key", "unknown key", "unknown key", "plugins: blok"),
        *("dispatch: slow_seconds", "dispatch: max_body_bytes"),
        *("listener 'a':", "listener 'a':", "listener 'a':", "listeners[1]: name"),
    ]


def test_second_listener_of_a_name_is_left_out(read: Read) -> None:
    """Two listeners with the same name are a problem that names it; the first stays."""
    found = read(f"{LISTENER}{LISTENER.replace('post', 'other')}")
    assert [(listener.name, listener.notifier) for listener in found.settings.listeners] == [("desk", "post")]
    (problem,) = found.problems
    assert "'desk'" in problem.cause
    assert "another listener" in problem.cause


def test_dispatch_sets_limits(read: Read) -> None:
    """`[dispatch]` sets the limits for slow listeners, in seconds, and for bodies, in bytes."""
    found = read("[dispatch]\nslow_seconds = 0\nmax_body_bytes = 1024")
    assert found.problems == ()
    assert found.settings.dispatch == DispatchSettings(slow_seconds=0.0, max_body_bytes=1024)


def test_variable_blocks_in_addition_to_the_file(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PULP_HOOKS_BLOCK` adds names to those of the file; spaces and empty names are ignored."""
    monkeypatch.setenv("PULP_HOOKS_BLOCK", " a, b ,,c\n")
    assert read("[plugins]\nblock = ['c', 'd']").blocked == {"a", "b", "c", "d"}


@pytest.mark.parametrize("text", [None, "", "[plugins"])
def test_variable_blocks_without_a_file_too(write: Write, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """`PULP_HOOKS_BLOCK` applies with and without a file, also if it cannot be read."""
    if text is not None:
        write(text)
    monkeypatch.setenv("PULP_HOOKS_BLOCK", "evil")
    assert read_settings().blocked == {"evil"}


@pytest.mark.parametrize(("value", "autoload"), [("1", False), ("0", False), ("no", False), ("", True)])
@pytest.mark.parametrize("with_file", [True, False])
def test_variable_disables_autoload(
    write: Write, monkeypatch: pytest.MonkeyPatch, value: str, *, autoload: bool, with_file: bool
) -> None:
    """With any text in `PULP_HOOKS_DISABLE_AUTOLOAD` no plugin is loaded; the file is read."""
    if with_file:
        write(LISTENER)
    monkeypatch.setenv("PULP_HOOKS_DISABLE_AUTOLOAD", value)
    read = read_settings()
    assert (read.autoload, len(read.settings.listeners), read.problems) == (autoload, int(with_file), ())


def test_listener_without_filters_receives_every_event(read: Read) -> None:
    """A listener with only a name and a notifier receives every event."""
    listener = listener_of(read(LISTENER))
    assert (listener.name, listener.notifier) == ("desk", "post")
    assert listener.event_types == tuple(EventType)
    assert dict(listener.config) == {}
    assert all(wants(listener, event_type) for event_type in EventType)


def test_listeners_keep_the_order_of_the_file(read: Read) -> None:
    """Listeners are in the order of the file."""
    found = read("".join(LISTENER.replace("desk", name) for name in "cab"))
    assert [listener.name for listener in found.settings.listeners] == ["c", "a", "b"]


@pytest.mark.parametrize("event_type", EventType)
@pytest.mark.parametrize("spelling", ["value", "hook_name", "wire_name"])
def test_event_type_goes_by_any_of_its_names(read: Read, event_type: EventType, spelling: str) -> None:
    """Type ID, hook name and wire name mean the same event type."""
    listener = listener_of(read(f"{LISTENER}event_types = ['{getattr(event_type, spelling)}']"))
    assert listener.event_types == (event_type,)


def test_event_types_named_twice_count_once(read: Read) -> None:
    """An event type under several names counts once; the order is that of the event types."""
    names = ["repo.publish.finish", "repo_sync_started", "repo-sync-started", "repo.sync.start"]
    listener = listener_of(read(f"{LISTENER}event_types = {names}"))
    assert listener.event_types == (EventType.REPO_SYNC_STARTED, EventType.REPO_PUBLISH_FINISHED)


@pytest.mark.parametrize("written", ["'*'", "['*']", "['repo-sync-started', '*']"])
def test_star_is_every_event_type(read: Read, written: str) -> None:
    """`"*"` is all event types, alone, in a list, and beside others."""
    assert listener_of(read(f"{LISTENER}event_types = {written}")).event_types == tuple(EventType)


@pytest.mark.parametrize(
    ("globs", "repo_id", "passes"),
    [
        (["pulp-f17"], "pulp-f17", True),
        (["pulp-f17"], "pulp-f170", False),
        (["pulp-*"], "pulp-f17", True),
        (["pulp-*"], "my-pulp-f17", False),
        (["PULP-*"], "pulp-f17", False),
        (["pulp-f1?"], "pulp-f17", True),
        (["pulp-f1[0-6]"], "pulp-f17", False),
        (["rhel-*", "pulp-*"], "pulp-f17", True),
        (["*"], "ä\nb", True),
        (["a.b"], "axb", False),
    ],
)
def test_repo_ids_are_globs(read: Read, globs: list[str], repo_id: str, *, passes: bool) -> None:
    """An event passes when the whole `repo_id` matches one of the globs, letter case included, for all event types."""
    listener = listener_of(read(f"{LISTENER}repo_ids = {globs}"))
    assert {wants(listener, event_type, repo_id=repo_id) for event_type in EventType} == {passes}


def test_results_accept_only_these_results(read: Read) -> None:
    """Finished events with one of the results are accepted; started events, which have none, are not."""
    listener = listener_of(read(f"{LISTENER}results = ['failed', 'error']"))
    results = ("success", "failed", "error", "canceled")
    passed = [result for result in results if wants(listener, EventType.REPO_SYNC_FINISHED, result=result)]
    assert passed == ["failed", "error"]
    assert not wants(listener, EventType.REPO_SYNC_STARTED)
    assert not wants(listener, EventType.REPO_PUBLISH_STARTED)


def test_list_of_all_results_rejects_started_events(read: Read) -> None:
    """A list of every result is not the same as no list."""
    listener = listener_of(read(f"{LISTENER}results = ['success', 'failed', 'error', 'canceled', 'skipped']"))
    assert wants(listener, EventType.REPO_PUBLISH_FINISHED, result="skipped")
    assert not wants(listener, EventType.REPO_SYNC_STARTED)


def test_filters_are_combined(read: Read) -> None:
    """An event must be accepted by both filters."""
    listener = listener_of(read(f"{LISTENER}repo_ids = ['pulp-*']\nresults = ['failed']"))
    finished = EventType.REPO_SYNC_FINISHED
    assert wants(listener, finished, repo_id="pulp-f17", result="failed")
    assert not wants(listener, finished, repo_id="pulp-f17", result="success")
    assert not wants(listener, finished, repo_id="rhel-9", result="failed")


def test_config_is_passed_unchanged(read: Read) -> None:
    """Values of every TOML type reach the notifier's schema unchanged."""
    values = "text = 'a'\nnumber = 1\nshare = 0.5\nflag = true\nday = 2012-07-06\nlist = [1, 'a', []]\ninner = {a = {}}"
    listener = listener_of(read(f"{LISTENER}[listeners.config]\n{values}"))
    assert dict(listener.config) == tomllib.loads(values)


def test_configuration_is_not_in_the_repr(read: Read) -> None:
    """The repr of the settings does not show values of the configuration; references stay unresolved."""
    found = read(f"{LISTENER}config = {{password = 's3cr3t-written', token = {{env = 'TOKEN'}}}}")
    assert listener_of(found).config == {"password": "s3cr3t-written", "token": {"env": "TOKEN"}}
    assert "s3cr3t" not in repr(found)
    assert "s3cr3t" not in str(found.settings.listeners)


def toml(value: object) -> str:
    """Return a value as TOML, with inline tables."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            # JSON escapes what TOML wants escaped, but for one character.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{toml(key)} = {toml(item)}' for key, item in value.items())}}}"
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return str(value)


KNOWN_KEYS = ("plugins", "dispatch", "listeners", "block", "slow_seconds", "max_body_bytes", "name", "notifier")
FILTER_KEYS = ("event_types", "repo_ids", "results", "config", "env", "file")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["*", "desk", "post", "repo-sync-started", "repo.sync.start", "failed", "HOME", "missing"]
)
KEYS = st.sampled_from([*KNOWN_KEYS, *FILTER_KEYS]) | TEXTS
SCALARS = TEXTS | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.dates() | st.times() | st.datetimes()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.fixed_dictionaries(
    {},
    optional={
        "plugins": st.fixed_dictionaries({}, optional={"block": st.lists(TEXTS, max_size=2) | VALUES}) | VALUES,
        "dispatch": st.fixed_dictionaries({}, optional={"slow_seconds": SCALARS, "max_body_bytes": SCALARS}) | VALUES,
        "listeners": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["desk", "hall"]) | VALUES, "notifier": st.just("post") | VALUES},
                optional={
                    "event_types": st.just("*") | VALUES,
                    "repo_ids": st.lists(TEXTS, max_size=2) | VALUES,
                    "results": st.lists(st.sampled_from(["failed", "eror"]), max_size=2) | VALUES,
                    "config": st.dictionaries(KEYS, VALUES, max_size=2) | VALUES,
                },
            )
            | VALUES,
            max_size=3,
        )
        | VALUES,
    },
)
DOCUMENTS: st.SearchStrategy[dict[str, Any]] = TABLES | st.dictionaries(KEYS, VALUES, max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
@example({"listeners": [{"name": "desk", "notifier": "post", "config": {"env": "HOME"}}]})
def test_any_document_is_read_or_reported(folder: Path, document: Mapping[str, Any]) -> None:
    """Reading any document raises nothing: invalid parts are problems."""
    path = folder / "any.toml"
    text = "".join(f"{toml(key)} = {toml(value)}\n" for key, value in document.items())
    tomllib.loads(text)
    path.write_text(text, encoding="utf-8", newline="\n")
    read = read_settings(path)
    assert read.path == path
    assert all(problem.where == str(path) and problem.cause and problem.remedy for problem in read.problems)
    names = [listener.name for listener in read.settings.listeners]
    assert len(names) == len(set(names))
    assert all(
        listener.event_types and set(listener.event_types) <= {*EventType} for listener in read.settings.listeners
    )
    assert read.settings.dispatch.slow_seconds >= 0
    assert read.settings.dispatch.max_body_bytes >= 1024
    assert bool(read.fault) <= bool(read.problems)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40) | st.text("[]{}='\"*.\n#a1", max_size=40).map(str.encode))
def test_any_bytes_are_read_or_reported(folder: Path, content: bytes) -> None:
    """Reading any bytes raises nothing."""
    path = folder / "any.toml"
    path.write_bytes(content)
    read = read_settings(path)
    assert bool(read.fault) <= bool(read.problems)
