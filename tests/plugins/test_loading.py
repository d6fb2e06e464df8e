"""Loading of listeners: blocking, listing, order, and objects in hand."""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pulp_hooks.dispatch.outcomes import Status
from pulp_hooks.errors import PluginError
from pulp_hooks.event import Event
from pulp_hooks.hooks import Hooks
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.notifier import Notifier
from pulp_hooks.plugins.listeners import Kind, Listener, State

if TYPE_CHECKING:
    from tests.plugins.conftest import Site

SOUND = "@hookimpl\ndef repo_sync_started(body): ..."
NOTIFIER = "class Post(Notifier):\n    def notify(self, event): ..."
LISTENER = "[[listeners]]\nname = 'desk'\nnotifier = 'post'\n"


class Recorder:
    """A listener that records the repositories of started syncs."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    @hookimpl
    def repo_sync_started(self, event: Event) -> None:
        """Keep it."""
        self.seen.append(event.body["repo_id"])


class Carrier(Notifier):
    """A notifier that records the types of its events."""

    def __init__(self) -> None:
        super().__init__({})
        self.types: list[str] = []

    def notify(self, event: Event) -> None:
        """Keep it."""
        self.types.append(event.type)


def states(hooks: Hooks) -> dict[str, State]:
    """Return the state of each listener, by name."""
    return {listener.name: listener.state for listener in hooks.listeners}


def write(text: str) -> Path:
    """Write the settings file in the working directory; return its path."""
    path = Path("pulp-hooks.toml").absolute()
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("block", "variable"),
    [
        pytest.param("evil", "", id="settings"),
        pytest.param("", "evil", id="variable"),
        pytest.param("", " other , evil,", id="variable with blanks"),
        pytest.param("other", "evil", id="variable beside settings"),
        pytest.param("evil", "other", id="settings beside variable"),
    ],
)
def test_blocked_plugin_is_never_imported(
    site: "Site", monkeypatch: pytest.MonkeyPatch, block: str, variable: str
) -> None:
    """A blocked plugin is listed with its distribution and not imported, without a problem; the others load."""
    module = site.plugin("evil", "raise RuntimeError('imported')")
    site.plugin("sound", SOUND)
    monkeypatch.setenv("PULP_HOOKS_BLOCK", variable)
    hooks = site.discover(write(f"[plugins]\nblock = ['{block}']"))
    assert hooks.problems == ()
    assert states(hooks) == {"evil": State.BLOCKED, "sound": State.LOADED}
    assert hooks.listeners[0].distribution == "dist-evil"
    assert module not in sys.modules


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[plugins]\nblock = ['evil'\n", id="invalid TOML"),
        pytest.param("[plugins]\nblok = ['evil']\n", id="misspelt key"),
        pytest.param("[plugins]\nblock = 'evil'\n", id="text for a list"),
        pytest.param("[plugins]\nblock = ['evil', 1]\n", id="number for text"),
        pytest.param("[plugins]\nblock = ['evil']\nallow = []\n", id="unknown key beside it"),
        pytest.param("[[plugins]]\nblock = ['evil']\n", id="array of tables"),
        pytest.param("plugins = ['evil']\n", id="list for a table"),
        pytest.param("[plugin]\nblock = ['evil']\n", id="misspelt table"),
        pytest.param("[Plugins]\nblock = ['evil']\n", id="table in capitals"),
        pytest.param("block = ['evil']\n", id="key outside of its table"),
    ],
)
def test_no_plugin_loads_when_the_blocked_ones_are_unknown(site: "Site", text: str) -> None:
    """If the list of blocked plugins cannot be read, no plugin is loaded, and there is a problem."""
    module = site.plugin("evil", SOUND)
    hooks = site.discover(write(text))
    assert module not in sys.modules
    assert State.LOADED not in states(hooks).values()
    assert hooks.problems


@pytest.mark.parametrize("name", ["missing.toml", "", "a\0b"])
def test_no_plugin_loads_without_the_settings_that_were_named(site: "Site", tmp_path: Path, name: str) -> None:
    """If the named settings file is missing, a folder or an invalid path, no plugin is loaded."""
    module = site.plugin("evil", SOUND)
    hooks = site.discover(tmp_path / name)
    assert len(hooks.problems) == 1
    assert module not in sys.modules


def test_no_plugin_loads_behind_a_broken_link(site: "Site") -> None:
    """If the settings in the working directory are a broken link, no plugin is loaded."""
    module = site.plugin("evil", SOUND)
    Path("pulp-hooks.toml").symlink_to("moved-away.toml")
    hooks = site.discover()
    assert len(hooks.problems) == 1
    assert module not in sys.modules


@pytest.mark.parametrize("text", ["[dispatch]\nslow_seconds = 'x'", "[[listeners]]\nname = 'desk'"])
def test_fault_in_another_table_of_the_settings_stops_no_plugin(site: "Site", text: str) -> None:
    """A fault in another table is a problem, and the plugins load."""
    site.plugin("sound", SOUND)
    hooks = site.discover(write(text))
    assert hooks.problems
    assert states(hooks)["sound"] is State.LOADED


def test_misspelt_name_to_be_blocked_is_a_problem_and_blocks_nothing(site: "Site") -> None:
    """An unknown name is reported with the nearest one, and blocks nothing."""
    site.plugin("shredder", SOUND)
    hooks = site.discover(write("[plugins]\nblock = ['shreder', 'somebody-elses']\n"))
    (problem,) = hooks.problems
    assert "'shreder' is blocked, but no plugin or listener has this name" in problem.cause
    assert problem.remedy == "did you mean 'shredder'?"
    assert states(hooks) == {"shredder": State.LOADED}


def test_disabled_autoload_imports_nothing(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    """`PULP_HOOKS_DISABLE_AUTOLOAD` disables installed plugins and configured listeners, not those of the host."""
    modules = [site.plugin("post", NOTIFIER, "Post"), site.plugin("sound", SOUND)]
    monkeypatch.setenv("PULP_HOOKS_DISABLE_AUTOLOAD", "1")
    with Hooks.discover(write(LISTENER), listeners=[recorder := Recorder()]) as hooks:
        assert hooks.problems == ()
        assert states(hooks) == {"Recorder": State.LOADED}
        hooks.repo_sync_started(repo_id="pulp-f17")
    assert recorder.seen == ["pulp-f17"]
    assert not {*modules} & sys.modules.keys()


def test_blocking_a_notifier_blocks_what_is_configured_of_it(site: "Site") -> None:
    """Neither the blocked notifier nor its listeners are loaded, without a problem."""
    module = site.plugin("post", NOTIFIER, "Post")
    hooks = site.discover(write("[plugins]\nblock = ['post']\n" + LISTENER))
    assert hooks.problems == ()
    assert states(hooks) == {"desk": State.BLOCKED, "post": State.BLOCKED}
    assert module not in sys.modules


def test_blocking_a_configured_listener_leaves_the_others(site: "Site") -> None:
    """A configured listener can be blocked by name; other listeners of its notifier load."""
    site.plugin("post", NOTIFIER, "Post")
    hooks = site.discover(write("[plugins]\nblock = ['desk']\n" + LISTENER + LISTENER.replace("desk", "hall")))
    assert hooks.problems == ()
    assert states(hooks) == {"desk": State.BLOCKED, "hall": State.LOADED, "post": State.LOADED}
    assert [outcome.listener for outcome in hooks.repo_sync_started(repo_id="r").outcomes] == ["hall"]


def test_listeners_list_everything_with_its_state(site: "Site") -> None:
    """Plugins, notifiers and configured listeners are listed by name, each with kind, state, package and hooks."""
    site.plugin("a-sound", SOUND)
    site.plugin("b-broken", "raise RuntimeError")
    site.plugin("c-blocked", SOUND)
    site.plugin("post", NOTIFIER, "Post", version="7")
    site.plugin("spare", NOTIFIER, "Post")
    hooks = site.discover(write("[plugins]\nblock = ['c-blocked']\n" + LISTENER + "event_types = ['repo.sync.finish']"))
    assert [(x.name, x.kind, x.state, x.distribution, x.version, x.hooks) for x in hooks.listeners] == [
        ("a-sound", Kind.PLUGIN, State.LOADED, "dist-a-sound", "1.0", ("repo_sync_started",)),
        ("b-broken", Kind.PLUGIN, State.BROKEN, "dist-b-broken", "1.0", ()),
        ("c-blocked", Kind.PLUGIN, State.BLOCKED, "dist-c-blocked", "1.0", ()),
        ("desk", Kind.CONFIGURED, State.LOADED, "dist-post", "7", ("repo_sync_finished",)),
        ("post", Kind.NOTIFIER, State.LOADED, "dist-post", "7", ()),
        ("spare", Kind.NOTIFIER, State.AVAILABLE, "dist-spare", "1.0", ()),
    ]


def test_hooks_are_listed_in_the_order_of_the_event_types() -> None:
    """The hooks of a listener are in the order of the event types, each once."""
    with Hooks([Carrier()]) as hooks:
        (listener,) = hooks.listeners
    in_order = ("repo_sync_started", "repo_sync_finished", "repo_publish_started", "repo_publish_finished")
    assert isinstance(listener, Listener)
    assert listener.hooks == in_order


def test_partly_faulty_plugin_still_listens(site: "Site") -> None:
    """A plugin with one valid and one faulty hook is loaded with the valid one, and the fault is a problem."""
    site.plugin("half", SOUND + "\n@hookimpl\ndef repo_sync_finishd(body): ...")
    hooks = site.discover()
    (listener,) = hooks.listeners
    assert (listener.state, listener.hooks) == (State.LOADED, ("repo_sync_started",))
    assert [(problem.where, problem.hook) for problem in hooks.problems] == [("half", "repo_sync_finishd")]


def test_every_problem_is_logged_once(site: "Site", caplog: pytest.LogCaptureFixture) -> None:
    """Each problem is logged as one warning with plugin, package, cause and remedy."""
    site.plugin("broken", "raise RuntimeError('no database')")
    site.plugin("half", "def repo_sync_started(body): ...")
    with caplog.at_level(logging.DEBUG, logger="pulp_hooks"):
        hooks = site.discover(write("[[listeners]]\nname = 'desk'"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [str(problem) for problem in hooks.problems]
    assert len(warnings) == 3
    for part in ("half", "dist-half 1.0", "repo_sync_started", "not decorated", "decorate it with @hookimpl"):
        assert part in warnings[-1]


def test_discovering_twice_returns_independent_hooks(site: "Site") -> None:
    """Two `Hooks` in one process are independent; closing one leaves the other open."""
    module = site.plugin("shout", "got = []\n@hookimpl\ndef repo_sync_started(body): got.append(body['repo_id'])")
    first, second = site.discover(), site.discover()
    first.repo_sync_started(repo_id="one")
    first.close()
    first.close()
    second.repo_sync_started(repo_id="two")
    assert vars(sys.modules[module])["got"] == ["one", "two"]


def test_object_in_hand_is_called_beside_an_installed_plugin_of_its_name(site: "Site") -> None:
    """A host's own listener is called although an installed plugin has its name; the two get different names."""
    site.plugin("Recorder", SOUND)
    with Hooks.discover(listeners=[recorder := Recorder()]) as hooks:
        outcomes = hooks.repo_sync_started(repo_id="pulp-f17").outcomes
    assert [outcome.listener for outcome in outcomes] == ["Recorder", "Recorder-2"]
    assert [outcome.status for outcome in outcomes] == [Status.SUCCEEDED] * 2
    assert recorder.seen == ["pulp-f17"]


def test_module_object_and_notifier_in_hand_are_listeners(module: Callable[[str], ModuleType]) -> None:
    """A host may pass modules, objects with hooks, and notifiers, which receive every event type."""
    written, recorder, carrier = module("got = []\n" + SOUND.replace("...", "got.append(body)")), Recorder(), Carrier()
    with Hooks([written, recorder, carrier]) as hooks:
        hooks.repo_sync_started(repo_id="pulp-f17")
        hooks.repo_publish_started(repo_id="pulp-f17", distributor_id="yum")
        assert [listener.name for listener in hooks.listeners] == ["Carrier", "Recorder", "written"]
    assert len(written.got) == 1
    assert recorder.seen == ["pulp-f17"]
    assert carrier.types == ["repo-sync-started", "repo-publish-started"]


def test_two_objects_of_one_class_are_two_listeners() -> None:
    """Objects in hand are compared by identity, not by the name of their class."""
    first, second = Recorder(), Recorder()
    with Hooks([first, second]) as hooks:
        outcomes = hooks.repo_sync_started(repo_id="r").outcomes
    assert [outcome.listener for outcome in outcomes] == ["Recorder", "Recorder-2"]
    assert (first.seen, second.seen) == (["r"], ["r"])


def test_object_passed_twice_is_refused() -> None:
    """Passing the same object twice is an error that names it."""
    recorder = Recorder()
    with pytest.raises(PluginError, match="Recorder is passed twice"):
        Hooks([recorder, recorder])


def test_mapping_names_the_listeners_of_a_host() -> None:
    """The listeners have the names of the mapping, and are called in order of name."""
    first, second = Recorder(), Recorder()
    with Hooks({"mail": first, "audit": second}) as hooks:
        outcomes = hooks.repo_sync_started(repo_id="r").outcomes
    assert [outcome.listener for outcome in outcomes] == ["audit", "mail"]
    assert (first.seen, second.seen) == (["r"], ["r"])


def test_delivery_finds_its_listener_by_name_after_a_restart(tmp_path: Path) -> None:
    """Whatever the order of the mapping, each object gets the deliveries of its name."""
    first, second = Recorder(), Recorder()
    url = f"sqlite:///{tmp_path}/journal.db"
    with Hooks({"mail": Recorder()}, journal=url) as host:
        host.repo_sync_started(repo_id="r")
    with Hooks({"audit": second, "mail": first}, journal=url) as restarted:
        restarted.worker().run_once()
    assert (first.seen, second.seen) == (["r"], [])


@pytest.mark.parametrize(
    "way", [Hooks, lambda listeners, journal: Hooks.discover(listeners=listeners, journal=journal)]
)
def test_sequence_is_refused_with_a_journal(way: Callable[..., Hooks], tmp_path: Path) -> None:
    """Class names and positions do not identify a listener over a restart; the message says what to pass."""
    with pytest.raises(PluginError, match=r"listeners need names.*fix: pass a mapping"):
        way([Recorder()], journal=f"sqlite:///{tmp_path}/journal.db")


def test_sequence_is_refused_with_the_journal_of_the_settings(site: "Site") -> None:
    """The journal may be configured where the host does not see it."""
    site.plugin("sound", SOUND)
    settings = write("[journal]\nurl = 'sqlite:///journal.db'")
    with pytest.raises(PluginError, match="listeners need names"):
        Hooks.discover(settings, listeners=[Recorder()])


@pytest.mark.parametrize("name", ["", "a b", "-mail", "a/b", "ma\nil", "é", 7])
def test_invalid_name_is_refused(name: object) -> None:
    """Names are arguments of commands and part of the ids of deliveries."""
    listeners: Any = {name: Recorder()}
    with pytest.raises(PluginError, match=r"invalid listener name .*: must be letters, digits, '\.', '_' and '-'"):
        Hooks(listeners)


@pytest.mark.parametrize("block", ["", "[plugins]\nblock = ['desk', 'sound']\n"])
@pytest.mark.parametrize("name", ["sound", "desk"])
def test_name_of_an_installed_or_configured_listener_is_refused(name: str, block: str, site: "Site") -> None:
    """A delivery belongs to one listener, and a blocked listener may have deliveries too."""
    site.plugin("post", NOTIFIER, "Post")
    site.plugin("sound", SOUND)
    with pytest.raises(PluginError, match=f"two listeners are named '{name}'.*fix: rename one"):
        Hooks.discover(write(block + LISTENER), listeners={name: Recorder()})


def test_name_of_a_notifier_is_allowed(site: "Site") -> None:
    """A notifier class receives no events, so a listener may have its name."""
    site.plugin("post", NOTIFIER, "Post")
    with Hooks.discover(listeners={"post": Recorder()}) as hooks:
        assert [outcome.listener for outcome in hooks.repo_sync_started(repo_id="r").outcomes] == ["post"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param(
            "@hookimpl\ndef repo_sync_startd(body): ...", "did you mean repo_sync_started", id="misspelt hook"
        ),
        pytest.param("def repo_sync_started(body): ...", "not decorated", id="not decorated"),
        pytest.param("plugin = None", "none of the four hooks", id="None"),
        pytest.param(
            "class plugin:\n    @hookimpl\n    def repo_sync_started(self): ...", "plugin is a class", id="class"
        ),
        pytest.param(
            "class plugin(Notifier):\n    def notify(self, event): ...", "is a notifier class", id="notifier class"
        ),
        pytest.param(
            "class Wide(Notifier):\n    def notify(self, event, more): ...\nplugin = Wide({})",
            "notify must take one argument",
            id="notify with a wrong signature",
        ),
        pytest.param(
            "class Lazy(Notifier):\n    def notify(self, event): yield\nplugin = Lazy({})",
            "generator",
            id="notify as a generator",
        ),
    ],
)
def test_wrong_plugin_in_hand_is_refused_at_once(module: Callable[[str], ModuleType], source: str, said: str) -> None:
    """A faulty object that a host passes raises `PluginError`."""
    written = module(source)
    with pytest.raises(PluginError, match=said):
        Hooks([vars(written).get("plugin", written)])


def test_discover_refuses_a_wrong_plugin_in_hand(site: "Site") -> None:
    """Objects in hand are checked as strictly with discovery as without."""
    site.plugin("sound", SOUND)
    with pytest.raises(PluginError):
        Hooks.discover(listeners=[object()])


FORKING = """
import os
def fork():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
"""


@pytest.mark.parametrize("place", ["import", "constructor", "close"])
def test_child_that_a_plugin_forks_while_it_is_loaded_or_closed_ends(place: str, site: "Site") -> None:
    """It does not continue as a second host."""
    forks = {"import": "    pass\nfork()", "constructor": "    def __init__(self, config): fork()"}
    body = forks.get(place, "    def close(self): fork()")
    site.plugin("post", f"{FORKING}\nclass Post(Notifier):\n    def notify(self, event): ...\n{body}\n", "Post")
    path = write(LISTENER)
    host = f"from pulp_hooks import Hooks\nHooks.discover({str(path)!r}).close()\nprint('host', flush=True)"
    assert site.run("-c", host).stdout == "host\n"


INTERRUPTED = """
import os, signal
def interrupt(*_):
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
    except Exception as error:
        raise ImportError("it did not work") from error
"""


@pytest.mark.parametrize("place", ["import", "constructor"])
def test_time_limit_of_the_host_leaves_discover_although_a_plugin_wraps_it(place: str, site: "Site") -> None:
    """An exception of the host's signal handler is not a fault of the plugin that is being loaded."""
    body = "interrupt()" if place == "import" else "Post.__init__ = interrupt"
    site.plugin("post", f"{INTERRUPTED}\n{NOTIFIER}\n{body}\n", "Post")
    path = write(LISTENER)

    def limit(_number: int, _frame: object) -> None:
        raise TimeoutError("limit")

    before = signal.signal(signal.SIGUSR1, limit)
    try:
        with pytest.raises(TimeoutError, match="limit"):
            site.discover(path)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_refusal_of_a_configuration_that_cannot_be_shown_is_a_problem(site: "Site") -> None:
    """A validator may raise anything, also an error whose messages raise."""
    source = """
    from marshmallow import ValidationError

    class Odd:
        def __str__(self):
            raise SystemExit

    class Post(Notifier):
        class Config(Notifier.Config):
            def load(self, *_):
                raise ValidationError([Odd()])

        def notify(self, event): ...
    """
    site.plugin("post", source, "Post")
    hooks = site.discover(write(LISTENER))
    assert states(hooks)["desk"] is State.BROKEN
    assert "post cannot start: ValidationError" in hooks.problems[0].cause
