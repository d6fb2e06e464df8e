"""Notifiers: configuration, validation, closing, and redaction of secrets."""

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from importlib_metadata import entry_points

from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.dispatch.outcomes import Status
from pulp_hooks.event_types import EventType
from pulp_hooks.hooks import Hooks
from pulp_hooks.plugins.listeners import State

MODULE = "mod_post_office"

PREAMBLE = """
import asyncio
from marshmallow import RAISE, Schema, ValidationError, fields, validate
from pulp_hooks import Notifier, hookimpl

log = []

class Table(Schema):
    class Meta:
        unknown = RAISE
        register = False
"""

POST = """
class Post(Notifier):
    class Config(Table):
        to = fields.List(fields.String(), load_default=list)
        token = fields.String(load_default="")
        tries = fields.Integer(strict=True, load_default=3)
        auth = fields.Nested(Table.from_dict({"user": fields.String(required=True)}, name="Auth"))

    def __init__(self, config):
        super().__init__(config)
        log.append(("made", config))

    def notify(self, event):
        log.append(("notified", self.config["to"], event.type))

    def close(self):
        log.append(("closed", self.config["to"]))
"""

SECRET = "s3cr3t-wonder"  # noqa: S105 - the text that nothing may show


@dataclass
class Office:
    """A folder on `sys.path` where one distribution installs notifiers, and the settings beside it."""

    folder: Path
    opened: list[Hooks] = field(default_factory=list)

    def install(self, source: str, **entries: str) -> None:
        """Install the distribution `post-office 1.0`: a module with this source and its entry points."""
        self.write_metadata("post-office", {name: f"{MODULE}:{value}" for name, value in entries.items()})
        (self.folder / f"{MODULE}.py").write_text(PREAMBLE + dedent(source))

    def write_metadata(self, distribution: str, plugins: Mapping[str, str]) -> None:
        """Install a distribution with these plugins."""
        metadata = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in plugins.items())
        (metadata / "entry_points.txt").write_text(f"[pulp_hooks]\n{lines}")
        importlib.invalidate_caches()

    def configure(self, *listeners: str) -> Path:
        """Write settings with these `[[listeners]]`."""
        path = self.folder / "pulp-hooks.toml"
        path.write_text("".join(f"[[listeners]]\n{listener}\n" for listener in listeners), encoding="utf-8")
        return path

    def discover(self, *listeners: str) -> Hooks:
        """Discover with these `[[listeners]]`; the hooks are closed when the test ends."""
        hooks = Hooks.discover(self.configure(*listeners))
        self.opened.append(hooks)
        return hooks

    @property
    def log(self) -> list[Any]:
        """The calls of the notifiers, in order."""
        log: list[Any] = sys.modules[MODULE].log
        return log


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """Return an office without plugins, in an environment without settings."""
    for variable in [name for name in os.environ if name.startswith("PULP_HOOKS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    foreign = {point.dist.name for point in entry_points(group="pulp_hooks") if point.dist}
    monkeypatch.syspath_prepend(tmp_path)
    office = Office(tmp_path)
    for distribution in foreign:
        # Only the first distribution of a name on the path counts.
        office.write_metadata(distribution, {})
    yield office
    for hooks in office.opened:
        # Some tests have notifiers that cannot be closed.
        with suppress(Exception, SystemExit, GeneratorExit):
            hooks.close()
    sys.modules.pop(MODULE, None)


def listener(name: str = "desk", notifier: str = "post", *lines: str) -> str:
    """Return the lines of a `[[listeners]]` table."""
    return "\n".join([f"name = '{name}'", f"notifier = '{notifier}'", *lines])


def states(hooks: Hooks) -> dict[str, State]:
    """Return the state of each listener, by name."""
    return {found.name: found.state for found in hooks.listeners}


def notifier(*lines: str, config: str = "token = fields.String()") -> str:
    """Return the source of a notifier `Post` with these lines in its class."""
    head = ["class Post(Notifier):", "    class Config(Table):", f"        {config}"]
    return "\n".join([*head, *(f"    {line}" for line in lines)])


# Configuration


def test_configuration_is_what_the_schema_loads(office: Office) -> None:
    """The notifier gets its table as `config`, loaded by the schema, with defaults."""
    office.install(POST, post="Post")
    hooks = office.discover(listener("desk", "post", "config = {to = ['ann', 'bob'], auth = {user = 'cat'}}"))
    assert hooks.problems == ()
    assert office.log == [("made", {"to": ["ann", "bob"], "token": "", "tries": 3, "auth": {"user": "cat"}})]


def test_configuration_may_be_left_out(office: Office) -> None:
    """A listener without `[listeners.config]` gets the defaults of the schema."""
    office.install(POST, post="Post")
    assert office.discover(listener()).problems == ()
    assert office.log == [("made", {"to": [], "token": "", "tries": 3})]


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        pytest.param("{tries = 'many'}", ["config.tries"], id="wrong type"),
        pytest.param("{trys = 1}", ["config.trys"], id="misspelt key"),
        pytest.param("{to = ['ann', 1]}", ["config.to[1]"], id="wrong type in a list"),
        pytest.param("{auth = {}}", ["config.auth.user"], id="missing key in a table"),
        pytest.param("{auth = {user = 'a', pass = 'b'}}", ["config.auth.pass"], id="unknown key in a table"),
        pytest.param("{auth = 1}", ["config.auth"], id="number for a table"),
        pytest.param("{tries = 1.5, token = 1}", ["config.token", "config.tries"], id="two faults"),
    ],
)
def test_invalid_configuration_is_a_problem(office: Office, config: str, keys: list[str]) -> None:
    """Each broken rule is reported with file, package, listener and key, and only that listener is missing."""
    office.install(POST, post="Post")
    hooks = office.discover(listener("desk", "post", f"config = {config}"), listener("hall"))
    assert sorted(problem.cause.split()[2].rstrip(":") for problem in hooks.problems) == keys
    for problem in hooks.problems:
        assert problem.where == str(office.folder / "pulp-hooks.toml")
        assert problem.distribution == "post-office 1.0"
        assert problem.cause.startswith("listener 'desk': config.")
        assert len(problem.cause.split()) > 3
        assert problem.remedy
    assert states(hooks) == {"desk": State.BROKEN, "hall": State.LOADED, "post": State.LOADED}
    assert [what for what, *_ in office.log] == ["made"]


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        ("{trys = 1}", "did you mean 'tries'?"),
        ("{wholly_other = 1}", "the keys are to, token, tries, auth"),
        ("{results = ['failed']}", "put it above [listeners.config]"),
    ],
)
def test_unknown_key_of_the_configuration_comes_with_a_hint(office: Office, config: str, hint: str) -> None:
    """The message suggests the nearest key, lists all keys, or names the table that has the key."""
    office.install(POST, post="Post")
    (problem,) = office.discover(listener("desk", "post", f"config = {config}")).problems
    assert hint in problem.cause


def test_notifier_without_a_schema_takes_no_configuration(office: Office) -> None:
    """Any key is unknown for a notifier without `Config`."""
    office.install("class Post(Notifier):\n    def notify(self, event): ...", post="Post")
    hooks = office.discover(listener("desk", "post", "config = {token = 'a'}"), listener("hall"))
    (problem,) = hooks.problems
    assert "listener 'desk': config.token" in problem.cause
    assert states(hooks)["hall"] is State.LOADED


@pytest.mark.parametrize("config", ["Config = None", "Config = 5", "class Config: ...", "def Config(self): ..."])
def test_config_that_is_not_a_schema_is_a_problem(office: Office, config: str) -> None:
    """A `Config` that is not a schema is reported for each of its listeners."""
    office.install(f"class Post(Notifier):\n    {config}\n    def notify(self, event): ...", post="Post")
    hooks = office.discover(listener())
    assert len(hooks.problems) == 1
    assert states(hooks)["desk"] is State.BROKEN


def test_notifier_without_a_listener_is_available(office: Office) -> None:
    """An installed notifier without a listener is listed, but not created, and is not a problem."""
    office.install(POST, post="Post")
    hooks = office.discover()
    assert (hooks.problems, states(hooks), office.log) == ((), {"post": State.AVAILABLE}, [])
    assert hooks.repo_sync_started(repo_id="r").outcomes == ()


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("pst", "'pst' is not installed", "did you mean 'post'?"),
        ("nonsense", "'nonsense' is not installed", "pulp-hooks listeners"),
        ("function", "'function' is not a usable notifier", "pulp-hooks listeners"),
        ("wide", "'wide' is not a usable notifier", "pulp-hooks listeners"),
        ("gone", "'gone' is not a usable notifier", "pulp-hooks listeners"),
        ("twice", "'twice' is not a usable notifier", "pulp-hooks listeners"),
    ],
)
def test_listener_without_a_valid_notifier_is_a_problem(office: Office, name: str, said: str, remedy: str) -> None:
    """A notifier that is misspelt, missing, broken, ambiguous or not a notifier is reported with its listener."""
    wide = "class Wide(Notifier):\n    def notify(self, event, more): ..."
    office.install(f"{POST}\n{wide}\ndef function(): ...", post="Post", wide="Wide", function="function", gone="gone")
    for distribution in ("rival-a", "rival-b"):
        office.write_metadata(distribution, {"twice": f"{MODULE}:Post"})
    hooks = office.discover(listener("desk", name))
    (problem,) = [problem for problem in hooks.problems if problem.where == str(office.folder / "pulp-hooks.toml")]
    assert f"listener 'desk': notifier {said}" in problem.cause
    assert remedy in problem.remedy
    assert states(hooks)["desk"] is State.BROKEN


def test_listener_with_the_name_of_a_plugin_is_a_problem(office: Office) -> None:
    """A configured listener cannot have the name of an installed plugin, which keeps it."""
    plugin = "class Shout:\n    @hookimpl\n    def repo_sync_started(self): log.append('shout')\nshout = Shout()"
    office.install(f"{POST}\n{plugin}", post="Post", shout="shout")
    hooks = office.discover(listener("shout"), listener("desk"))
    (problem,) = hooks.problems
    assert "listener 'shout': an installed plugin has this name" in problem.cause
    assert "another name" in problem.remedy
    assert [outcome.listener for outcome in hooks.repo_sync_started(repo_id="r").outcomes] == ["desk", "shout"]


def test_listener_may_have_the_name_of_its_notifier(office: Office) -> None:
    """A listener may have the name of its notifier."""
    office.install(POST, post="Post")
    hooks = office.discover(listener("post"))
    assert hooks.problems == ()
    assert [outcome.listener for outcome in hooks.repo_sync_started(repo_id="r").outcomes] == ["post"]


def test_one_class_serves_several_listeners(office: Office) -> None:
    """Each listener is a separate object with its own configuration, event types and filters."""
    office.install(POST, post="Post")
    hooks = office.discover(
        listener("hall", "post", "event_types = ['repo-sync-started']", "config = {to = ['ann']}"),
        listener("desk", "post", "repo_ids = ['pulp-*']", "config = {to = ['bob']}"),
        listener("roof", "post", "event_types = '*'", "results = ['failed']", "config = {to = ['cat']}"),
    )
    made = len(office.log)
    started = hooks.repo_sync_started(repo_id="pulp-f17")
    other = hooks.repo_publish_started(repo_id="rhel-9", distributor_id="yum")
    finished = EventType.REPO_SYNC_FINISHED
    failed = hooks.fire(finished, {**EXAMPLES[finished], "repo_id": "rhel-9", "result": "failed"})
    assert [outcome.listener for outcome in started.outcomes] == ["desk", "hall"]
    assert other.outcomes == ()
    assert [outcome.listener for outcome in failed.outcomes] == ["roof"]
    assert office.log[made:] == [
        ("notified", ["bob"], "repo-sync-started"),
        ("notified", ["ann"], "repo-sync-started"),
        ("notified", ["cat"], "repo-sync-finished"),
    ]


# The class


FAULTY_CLASSES = {
    "abstract": ("...", "notify"),
    "other method missing": ("@abstractmethod\ndef send(self): ...\ndef notify(self, event): ...", "send"),
    "no argument": ("def notify(self): ...", "one argument, the event"),
    "two arguments": ("def notify(self, event, body): ...", "one argument, the event"),
    "keyword-only": ("def notify(self, *, event): ...", "one argument, the event"),
    "keywords": ("def notify(self, **kwargs): ...", "one argument, the event"),
    "further keyword": ("def notify(self, event, *, loud): ...", "one argument, the event"),
    "generator": ("def notify(self, event): yield", "generator"),
    "async generator": ("async def notify(self, event): yield", "generator"),
    "not callable": ("notify = None", "notify"),
    "property": ("notify = property(lambda self: 1 / 0)", "notify"),
    "no signature": ("notify = staticmethod(dict)", "notify"),
}
"""Lines of a notifier's class, and a part of the cause."""


@pytest.mark.parametrize(("lines", "cause"), FAULTY_CLASSES.values(), ids=FAULTY_CLASSES)
def test_faulty_notifier_is_a_problem(office: Office, lines: str, cause: str) -> None:
    """A class with an invalid `notify` is reported with its package, listed as broken, and never instantiated."""
    faulty = "\n    ".join(["class Faulty(Notifier):", *lines.splitlines()])
    office.install(f"from abc import abstractmethod\n{POST}\n{faulty}", faulty="Faulty", post="Post")
    hooks = office.discover(listener("desk"))
    (problem,) = hooks.problems
    assert (problem.where, problem.distribution) == ("faulty", "post-office 1.0")
    assert cause in problem.cause
    assert "Notifier" in problem.remedy
    assert states(hooks) == {"desk": State.LOADED, "faulty": State.BROKEN, "post": State.LOADED}


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("def notify(self, event): log.append(event.type)", id="plain"),
        pytest.param("def notify(self, message): log.append(message.type)", id="another name"),
        pytest.param("def notify(self, event, /): log.append(event.type)", id="positional-only"),
        pytest.param("def notify(self, event, tries=3): log.append(event.type)", id="harmless default"),
        pytest.param("def notify(self, event, *, loud=False): log.append(event.type)", id="harmless keyword"),
        pytest.param("def notify(self, *args): log.append(args[0].type)", id="*args"),
        pytest.param("@staticmethod\n    def notify(event): log.append(event.type)", id="staticmethod"),
        pytest.param("@classmethod\n    def notify(cls, event): log.append(event.type)", id="classmethod"),
        pytest.param("async def notify(self, event): log.append(event.type)", id="async"),
        pytest.param(
            "async def notify(self, event):\n        await asyncio.sleep(0)\n        log.append(event.type)",
            id="async that waits",
        ),
    ],
)
def test_notify_that_takes_one_argument_is_called(office: Office, lines: str) -> None:
    """Any `notify` that can be called with an event has run when `fire` returns."""
    office.install(f"class Post(Notifier):\n    {lines}", post="Post")
    hooks = office.discover(listener())
    assert hooks.problems == ()
    (outcome,) = hooks.repo_sync_started(repo_id="r").outcomes
    assert outcome.error is None
    assert office.log == ["repo-sync-started"]


def test_hook_of_a_notifier_is_not_dropped(office: Office) -> None:
    """A hook implementation in a notifier class would never be called, and is reported."""
    hook = "    @hookimpl\n    def repo_sync_started(self, body): ...\n"
    office.install(f"class Post(Notifier):\n    def notify(self, event): ...\n{hook}", post="Post")
    (problem,) = office.discover(listener()).problems
    assert (problem.where, problem.hook) == ("post", "repo_sync_started")


def test_notifier_object_as_entry_point_is_sent_to_the_class(office: Office) -> None:
    """An entry point with a notifier object is reported: the settings create the objects."""
    office.install(f"{POST}\npost = Post({{'to': []}})", post="post")
    (problem,) = office.discover().problems
    assert problem.where == "post"
    assert "class" in problem.remedy


@pytest.mark.parametrize(
    "error",
    [
        "OSError('no route')",
        "SystemExit('no route')",
        "GeneratorExit('no route')",
        "BaseException('no route')",
        "ValidationError('no route')",
        "ExceptionGroup('no route', [OSError()])",
    ],
)
def test_notifier_that_cannot_start_is_a_problem(office: Office, error: str) -> None:
    """An exception of a constructor is reported with the listener, and the other listeners stay."""
    raising = (
        f"class Raising(Notifier):\n    def __init__(self, config): raise {error}\n    def notify(self, event): ..."
    )
    office.install(f"{POST}\n{raising}", post="Post", raising="Raising")
    hooks = office.discover(listener("desk", "raising"), listener("hall"))
    (problem,) = hooks.problems
    assert "listener 'desk'" in problem.cause
    assert "no route" in problem.cause
    assert problem.distribution == "post-office 1.0"
    assert (states(hooks)["desk"], states(hooks)["hall"]) == (State.BROKEN, State.LOADED)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("def __init__(self): ...", id="no argument for the configuration"),
        pytest.param("def __new__(cls, config): return None", id="nothing made"),
        pytest.param("def __init__(self, config): raise type('Shy', (Exception,), {'__str__': None})", id="shy error"),
        pytest.param("close = property(lambda self: 1 / 0)", id="raising close property"),
        pytest.param("def __getattribute__(self, name): raise RuntimeError('no')", id="raising attributes"),
    ],
)
def test_invalid_notifier_object_is_a_problem(office: Office, line: str) -> None:
    """An invalid object returned by a class is reported, and discovery does not raise."""
    office.install(f"class Post(Notifier):\n    {line}\n    def notify(self, event): ...", post="Post")
    hooks = office.discover(listener())
    assert ["listener 'desk'" in problem.cause for problem in hooks.problems] == [True]
    assert states(hooks)["desk"] is State.BROKEN


def test_reason_of_a_failed_start_is_one_line(office: Office) -> None:
    """A reason with several lines cannot forge log lines."""
    line = "def __init__(self, config): raise OSError('no route\\nWARNING all is well')"
    office.install(f"class Post(Notifier):\n    {line}\n    def notify(self, event): ...", post="Post")
    (problem,) = office.discover(listener()).problems
    assert "no route" in problem.cause
    assert len(problem.cause.splitlines()) == 1


def test_ctrl_c_in_a_constructor_stops_discovery(office: Office) -> None:
    """`KeyboardInterrupt` propagates, so Ctrl-C still works."""
    line = "def __init__(self, config): raise KeyboardInterrupt"
    office.install(f"class Post(Notifier):\n    {line}\n    def notify(self, event): ...", post="Post")
    with pytest.raises(KeyboardInterrupt):
        office.discover(listener())


# Events


def test_notifier_that_raises_does_not_affect_the_others(office: Office) -> None:
    """A failed notification is an outcome, and the next listener is notified."""
    raising = "class Raising(Notifier):\n    def notify(self, event): raise OSError('no route')"
    office.install(f"{POST}\n{raising}", post="Post", raising="Raising")
    hooks = office.discover(listener("a", "raising"), listener("b"))
    outcomes = hooks.repo_sync_started(repo_id="r").outcomes
    assert [(outcome.listener, outcome.hook, outcome.status, outcome.error) for outcome in outcomes] == [
        ("a", "repo_sync_started", Status.FAILED, "OSError: no route"),
        ("b", "repo_sync_started", Status.SUCCEEDED, None),
    ]


# The end


def test_notifiers_are_closed_once_in_reverse_order(office: Office) -> None:
    """Closing the hooks closes every listener once in reverse order, and closing again does nothing."""
    office.install(POST, post="Post")
    hooks = office.discover(*(listener(name, "post", f"config = {{to = ['{name}']}}") for name in "bca"))
    assert not [entry for entry in office.log if entry[0] == "closed"]
    hooks.close()
    hooks.close()
    assert [entry for entry in office.log if entry[0] == "closed"] == [("closed", [name]) for name in "cba"]


def test_leaving_the_block_closes_notifiers(office: Office) -> None:
    """A `with` block closes its notifiers after the last event, even if the host fails."""
    office.install(POST, post="Post")
    with suppress(ZeroDivisionError), office.discover(listener()) as hooks:
        hooks.repo_sync_started(repo_id="r")
        raise ZeroDivisionError
    assert [what for what, *_ in office.log] == ["made", "notified", "closed"]


@pytest.mark.parametrize("error", ["OSError('stuck')", "SystemExit('stuck')", "GeneratorExit('stuck')"])
def test_notifier_that_cannot_be_closed_does_not_affect_the_others(
    office: Office, caplog: pytest.LogCaptureFixture, error: str
) -> None:
    """An exception from `close` is logged with the listener's name, and the others are closed."""
    stuck = f"class Stuck(Post):\n    def close(self): raise {error}"
    office.install(f"{POST}\n{stuck}", post="Post", stuck="Stuck")
    hooks = office.discover(listener("a", "post"), listener("b", "stuck"), listener("c", "post"))
    hooks.close()
    assert [what for what, *_ in office.log if what == "closed"] == ["closed", "closed"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "listener b " in record.getMessage()


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_async_close_is_not_dropped(office: Office) -> None:
    """An `async def close` runs to its end, or is reported when the class is loaded."""
    office.install(
        "class Post(Notifier):\n"
        "    def notify(self, event): ...\n"
        "    async def close(self):\n"
        "        await asyncio.sleep(0)\n"
        "        log.append(('closed',))\n",
        post="Post",
    )
    hooks = office.discover(listener())
    hooks.close()
    assert office.log == [("closed",)] or [problem.where for problem in hooks.problems] == ["post"]


# Secrets


LEAKS = {
    "constructor": notifier(
        "def __init__(self, config): raise OSError(f'no login with {config[\"token\"]}')",
        "def notify(self, event): ...",
    ),
    "validator": notifier(
        "def notify(self, event): ...",
        config="token = fields.String(validate=validate.Length(max=1, error='{input} is too long'))",
    ),
    "raising validator": notifier(
        "def notify(self, event): ...", config="token = fields.String(validate=lambda value: {}[value])"
    ),
    "validator of the table": notifier(
        "def notify(self, event): ...",
        config="token = fields.String()\n"
        "        def handle_error(self, error, data, **kwargs): raise ValidationError({data['token']: [str(data)]})\n"
        "        number = fields.Integer(required=True)",
    ),
    "notify": notifier("def notify(self, event): raise OSError(f'no login with {self.config[\"token\"]}')"),
    "async notify": notifier("async def notify(self, event): raise OSError(self.config['token'])"),
    "notify with a cause": notifier(
        "def notify(self, event):",
        "    try: {}[self.config['token']]",
        "    except KeyError as error: raise OSError('no login') from error",
    ),
    "notify with a note": notifier(
        "def notify(self, event):",
        "    error = OSError('no login')",
        "    error.add_note(self.config['token'])",
        "    raise error",
    ),
    "notify with a group": notifier(
        "def notify(self, event): raise ExceptionGroup('no login', [OSError(self.config['token'])])"
    ),
    "notify with a type": notifier(
        "def notify(self, event): raise type(self.config['token'], (Exception,), {})('no login')"
    ),
    "notify with a syntax error": notifier("def notify(self, event): exec('(' + self.config['token'])"),
    "close": notifier("def notify(self, event): ...", "def close(self): raise OSError(self.config['token'])"),
    "repr": notifier("def notify(self, event): ...", "def __repr__(self): return self.config['token']"),
    "configuration that is printed": notifier("def notify(self, event): raise OSError(self.config)"),
}
"""Notifiers that put the token of their configuration where it may be seen."""


def everything_shown(office: Office, caplog: pytest.LogCaptureFixture, token: str) -> str:
    """Return all data, log records with tracebacks, and reports of a run with this token in a listener's TOML."""
    with caplog.at_level(logging.DEBUG):
        hooks = office.discover(listener("desk", "post", f"config = {{token = {token}}}"))
        reports = [hooks.fire(event_type, EXAMPLES[event_type]) for event_type in EventType]
        hooks.close()
    problems = [f"{problem!r} {problem}" for problem in hooks.problems]
    outcomes = [f"{outcome!r} {outcome}" for report in reports for outcome in report.outcomes]
    records = [repr(vars(record)) for record in caplog.records]
    shown = "\n".join([*problems, *outcomes, *records, caplog.text, repr(hooks.listeners), repr(reports), repr(hooks)])
    assert "desk" in shown
    return shown


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize("source", LEAKS.values(), ids=LEAKS)
def test_secret_is_shown_nowhere(
    office: Office, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, source: str, *, from_file: bool
) -> None:
    """A token from the environment or a file is in no problem, outcome, log record, traceback or `repr`."""
    monkeypatch.setenv("TOKEN", SECRET)
    (office.folder / "token").write_text(f"{SECRET}\n")
    office.install(source, post="Post")
    assert SECRET not in everything_shown(office, caplog, "{file = 'token'}" if from_file else "{env = 'TOKEN'}")


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        pytest.param("s3cr3t'\"wonder", "repr(token)", id="quoted"),
        pytest.param("s3cr3t\\wonder", "repr(token)", id="with a backslash"),
        pytest.param("s3cr3t\nwonder", "repr(token)", id="of two lines, quoted"),
        pytest.param("s3cr3t\nwonder", "token", id="of two lines"),
        pytest.param("s3cr3t-wonder\n", "token.strip()", id="stripped"),
        pytest.param("s3cr3t wonder", "__import__('urllib.parse').parse.quote(token)", id="as part of a URL"),
        pytest.param("s3cr3t" + "x" * 5000, "token", id="very long"),
    ],
)
def test_secret_is_not_shown_in_another_form(
    office: Office, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, secret: str, shown: str
) -> None:
    """A token that an error shows quoted, stripped or escaped is redacted too."""
    monkeypatch.setenv("TOKEN", secret)
    office.install(
        notifier(f"def notify(self, event): token = self.config['token']; raise OSError({shown})"), post="Post"
    )
    assert "s3cr3t" not in everything_shown(office, caplog, "{env = 'TOKEN'}")


def test_wrong_value_is_not_shown(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """The message has the rule of the schema, but not the invalid value, which may be a misplaced secret."""
    office.install(POST, post="Post")
    shown = everything_shown(office, caplog, "12345678")
    assert "config.token" in shown
    assert "12345678" not in shown


@pytest.mark.parametrize(
    ("leak", "command"),
    [
        ("constructor", ("check",)),
        ("constructor", ("check", "--json")),
        ("validator", ("listeners", "--json")),
        ("notify", ("fire", "repo-sync-started")),
        ("close", ("fire", "repo-sync-started", "--json")),
    ],
)
def test_secret_is_printed_by_no_command(office: Office, leak: str, command: tuple[str, ...]) -> None:
    """No command prints the token."""
    office.install(LEAKS[leak], post="Post")
    settings = office.configure(listener("desk", "post", "config = {token = {env = 'TOKEN'}}"))
    run = subprocess.run(
        [sys.executable, "-m", "pulp_hooks", *command, "--settings", str(settings)],
        env={**os.environ, "PYTHONPATH": str(office.folder), "TOKEN": SECRET},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in run.stdout
    assert run.returncode in (0, 1)
    assert SECRET not in run.stdout + run.stderr
    if "--json" in command:
        json.loads(run.stdout)
