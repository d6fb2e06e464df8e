"""Inspection of plugins: implementations are found, and every silent mistake is reported with cause and remedy."""

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.plugins.inspection import inspect_plugin
from pulp_hooks.plugins.listeners import State
from pulp_hooks.testing import example_event

if TYPE_CHECKING:
    from pulp_hooks.dispatch.outcomes import Outcome
    from pulp_hooks.problems import Problem
    from tests.plugins.conftest import Site

Written = Callable[[str], ModuleType]

STARTED = "repo_sync_started"
ALL_HOOKS = "repo_sync_started, repo_sync_finished, repo_publish_started, repo_publish_finished"
OTHER_HOOK = "\n@hookimpl\ndef repo_publish_started(body): ...\n"


class Fault(NamedTuple):
    """A faulty plugin, and expected parts of its problem; an empty part accepts any text."""

    source: str
    cause: str
    remedy: str
    attribute: str | None = STARTED


def written(*lines: str) -> str:
    """Return the source of a module with these lines."""
    return "".join(f"{line}\n" for line in lines)


def listener(*lines: str) -> str:
    """Return the source of a module whose `plugin` is an object of a class with these lines."""
    return written("class Listener:", *(f"    {line}" for line in lines), "plugin = Listener()")


SILENT_FAULTS = {
    "keyword-only": Fault(
        written("@hookimpl", "def repo_sync_started(*, body): ..."), "'body' is keyword-only", "the *"
    ),
    "positional and keyword-only": Fault(
        written("@hookimpl", "def repo_sync_started(body, *, event): ..."), "'event' is keyword-only", "the *"
    ),
    "*args": Fault(written("@hookimpl", "def repo_sync_started(*args): ..."), "*args", "body, event"),
    "**kwargs": Fault(written("@hookimpl", "def repo_sync_started(**kwargs): ..."), "**kwargs", "body, event"),
    "default for body": Fault(
        written("@hookimpl", "def repo_sync_started(body=None): ..."), "'body' has a default", "default"
    ),
    "default for event": Fault(
        written("@hookimpl", "def repo_sync_started(body, event=None): ..."), "'event' has a default", "default"
    ),
    "unknown argument": Fault(written("@hookimpl", "def repo_sync_started(bdy): ..."), "'bdy'", "did you mean body?"),
    "argument like none": Fault(
        written("@hookimpl", "def repo_sync_started(payload): ..."), "'payload'", "body, event"
    ),
    "misspelt hook": Fault(
        written("@hookimpl", "def repo_sync_startd(body): ..."),
        "no hook 'repo_sync_startd'",
        "did you mean repo_sync_started?",
        "repo_sync_startd",
    ),
    "leading underscore": Fault(
        written("@hookimpl", "def _repo_sync_started(body): ..."),
        "no hook '_repo_sync_started'",
        "did you mean repo_sync_started?",
        "_repo_sync_started",
    ),
    "two leading underscores": Fault(
        listener("@hookimpl", "def __repo_sync_started(self, body): ..."),
        "no hook",
        "did you mean repo_sync_started?",
        "_Listener__repo_sync_started",
    ),
    "misspelt optional hook": Fault(
        written("@hookimpl(optionalhook=True)", "def repo_sync_startd(body): ..."),
        "no hook 'repo_sync_startd'",
        "did you mean repo_sync_started?",
        "repo_sync_startd",
    ),
    "misspelt specname": Fault(
        written("@hookimpl(specname='repo_sync_startd')", "def on_start(body): ..."),
        "no hook 'repo_sync_startd'",
        "did you mean repo_sync_started?",
        "on_start",
    ),
    "name like no hook's": Fault(written("@hookimpl", "def xyz(body): ..."), "no hook 'xyz'", ALL_HOOKS, "xyz"),
    "wrapper": Fault(
        written("@hookimpl(wrapper=True)", "def repo_sync_started(body): yield"), "wrapper", "remove wrapper=True"
    ),
    "hookwrapper": Fault(
        written("@hookimpl(hookwrapper=True)", "def repo_sync_started(body): yield"),
        "wrapper",
        "remove hookwrapper=True",
    ),
    "generator function": Fault(
        written("@hookimpl", "def repo_sync_started(body): yield"), "generator function", "remove the yield"
    ),
    "async generator function": Fault(
        written("@hookimpl", "async def repo_sync_started(body): yield"), "generator function", "remove the yield"
    ),
    "partial": Fault(
        written("def add(number, body): ...", "repo_sync_started = hookimpl(functools.partial(add, 1))"),
        "it is a partial",
        "def",
    ),
    "partial method": Fault(
        listener("def add(self, number, body): ...", "repo_sync_started = hookimpl(functools.partialmethod(add, 1))"),
        "",
        "",
    ),
    "hookimpl over lru_cache": Fault(
        written("@hookimpl", "@functools.lru_cache", "def repo_sync_started(body): ..."), "lru_cache", "def"
    ),
    "lru_cache over hookimpl": Fault(
        written("@functools.lru_cache", "@hookimpl", "def repo_sync_started(body): ..."), "lru_cache", "def"
    ),
    "lru_cache over a method": Fault(
        listener("@hookimpl", "@functools.lru_cache", "def repo_sync_started(self, body): ..."), "lru_cache", "def"
    ),
    "callable object": Fault(
        written("class Caller:", "    def __call__(self, body): ...", "repo_sync_started = hookimpl(Caller())"),
        "it is a Caller",
        "def",
    ),
    "hookimpl over staticmethod": Fault(
        listener("@hookimpl", "@staticmethod", "def repo_sync_started(body): ..."),
        "@hookimpl is above @staticmethod",
        "put @staticmethod above @hookimpl",
    ),
    "hookimpl over classmethod": Fault(
        listener("@hookimpl", "@classmethod", "def repo_sync_started(cls, body): ..."),
        "@hookimpl is above @classmethod",
        "put @classmethod above @hookimpl",
    ),
    "method without self": Fault(listener("@hookimpl", "def repo_sync_started(body): ..."), "self", "self"),
    "method without any argument": Fault(listener("@hookimpl", "def repo_sync_started(): ..."), "", "self"),
    "property": Fault(
        listener("@property", "def repo_sync_started(self): raise AssertionError('evaluated')"),
        "it is a property",
        "def",
    ),
    "property over hookimpl": Fault(
        listener(
            "@property",
            "@hookimpl(specname='repo_sync_started')",
            "def on_start(self): raise AssertionError('evaluated')",
        ),
        "it is a property",
        "def",
        "on_start",
    ),
    "cached property": Fault(
        listener("@functools.cached_property", "def repo_sync_started(self): raise AssertionError('evaluated')"),
        "it is a cached_property",
        "def",
    ),
    "not decorated": Fault(written("def repo_sync_started(body): ..."), "not decorated", "decorate it with @hookimpl"),
    "marked for another project": Fault(
        written("import pluggy", "@pluggy.HookimplMarker('pulp-hooks')", "def repo_sync_started(body): ..."),
        "not decorated",
        "decorate it with @hookimpl",
    ),
    "the specification itself": Fault(
        written("from pulp_hooks.hookspecs import repo_sync_started"), "not decorated", "decorate it with @hookimpl"
    ),
    "signature that cannot be read": Fault(
        written("@hookimpl", "def repo_sync_started(body): ...", "repo_sync_started.__signature__ = 'none'"),
        "",
        "",
    ),
}
"""Every way to write a hook that pluggy would never call or call wrongly."""

WHOLE_FAULTS = {
    "class": Fault(
        written("class plugin:", "    @hookimpl", "    def repo_sync_started(self, body): ..."),
        "plugin is a class",
        "instance",
        None,
    ),
    "no hook": Fault(written("def helper(): ..."), "none of the four hooks", "@hookimpl", None),
    "None": Fault(written("plugin = None"), "none of the four hooks", "@hookimpl", None),
    "text": Fault(written("plugin = 'shout'"), "none of the four hooks", "@hookimpl", None),
    "hooks that only __getattr__ knows": Fault(
        listener("def __getattr__(self, name): return hookimpl(lambda body: None)"),
        "none of the four hooks",
        "@hookimpl",
        None,
    ),
    "function": Fault(written("def plugin(body): ..."), "function", "module", None),
    "hook function": Fault(
        written("@hookimpl(specname='repo_sync_started')", "def plugin(body): ..."), "function", "module", None
    ),
}
"""Objects that are not plugins."""

FAULTS = SILENT_FAULTS | WHOLE_FAULTS

HOOK = ("@hookimpl", "def repo_sync_started(body): got.append(body)")
METHOD = ("@hookimpl", "def repo_sync_started(self, body): got.append(body)")
WRAPS = (
    "def loud(function):",
    "    @functools.wraps(function)",
    "    def wrapper(*args, **kwargs): return function(*args, **kwargs)",
    "    return wrapper",
)

SOUND = {
    "module function": written(*HOOK),
    "specname": written("@hookimpl(specname='repo_sync_started')", "def on_start(body): got.append(body)"),
    "method": listener(*METHOD),
    "inherited method": listener(*METHOD) + written("class Heir(Listener): ...", "plugin = Heir()"),
    "staticmethod over hookimpl": listener("@staticmethod", *HOOK),
    "classmethod over hookimpl": listener(
        "@classmethod", "@hookimpl", "def repo_sync_started(cls, body): got.append(body)"
    ),
    "slots": written(*HOOK)
    + listener(
        "__slots__ = ('repo_sync_started', 'never_set')",
        "def __init__(self): self.repo_sync_started = globals()['repo_sync_started']",
    ),
    "hookimpl over a wraps-decorator": written(*WRAPS, "@hookimpl", "@loud", *HOOK[1:]),
    "wraps-decorator over hookimpl": written(*WRAPS, "@loud", *HOOK),
    "raising property beside it": listener(
        "@property", "def database(self): raise RuntimeError('not connected')", *METHOD
    ),
    "raising descriptor beside it": written(
        "class Never:", "    def __get__(self, instance, owner): raise RuntimeError('not connected')"
    )
    + listener("database = Never()", *METHOD),
    "exiting descriptor beside it": written(
        "class Exit:", "    def __get__(self, instance, owner): raise SystemExit(3)"
    )
    + listener("database = Exit()", *METHOD),
    "module whose __getattr__ raises": written("def __getattr__(name): raise RuntimeError(name)", *HOOK),
    "module whose __getattr__ knows everything": written(
        "def __getattr__(name): return hookimpl(lambda body: got.append('invented'))", *HOOK
    ),
    "context-bound proxy beside it": written(
        "class Request:",
        "    def __call__(self): ...",
        "    def __getattr__(self, name): raise RuntimeError('outside of a request')",
        "request = Request()",
        *HOOK,
    ),
    "proxy without a class beside it": written(
        "class Request:",
        "    @property",
        "    def __class__(self): raise RuntimeError('outside of a request')",
        "request = Request()",
        *HOOK,
    ),
    "another hook switched off with None": listener("repo_sync_finished = None", *METHOD),
}
"""Every valid way to write a hook."""

HOSTILE = {
    "__dir__ raises": "def __dir__(self): raise RuntimeError('no')",
    "__dir__ exits": "def __dir__(self): raise SystemExit(3)",
    "__dir__ gives no names": "def __dir__(self): return [1, 'a']",
    "__class__ raises": "__class__ = property(lambda self: 1 / 0)",
    "__getattr__ exits": "def __getattr__(self, name): raise SystemExit(3)",
    "__getattribute__ raises": "def __getattribute__(self, name): raise RuntimeError('no')",
}
"""Objects whose inspection raises."""


def plugin_of(module: ModuleType) -> object:
    """Return the object named `plugin` in a module, or else the module itself."""
    return vars(module).get("plugin", module)


def inspected(plugin: object) -> "tuple[list[str], list[Problem]]":
    """Return the names of the hooks found, and the problems."""
    implementations, problems = inspect_plugin(plugin, "shout")
    return [implementation.event_type.hook_name for implementation in implementations], problems


def called(plugin: object, event: Event) -> "list[Outcome]":
    """Call every implementation of a plugin as a host does, and return the outcomes."""
    implementations, problems = inspect_plugin(plugin, "shout")
    assert problems == []
    return [
        Guard(
            listener="shout",
            event_type=implementation.event_type,
            function=implementation.function,
            arguments=implementation.arguments,
            slow_seconds=60,
        ).run(Original(event))
        for implementation in implementations
    ]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_silent_fault_is_a_problem(module: Written, fault: Fault) -> None:
    """A mistake that pluggy accepts silently is refused, with attribute, cause and remedy."""
    hooks, problems = inspected(plugin_of(module(fault.source)))
    assert hooks == []
    (problem,) = problems
    assert (problem.where, problem.hook) == ("shout", fault.attribute)
    assert fault.cause in problem.cause
    assert fault.remedy in problem.remedy


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_fault_of_an_installed_plugin_names_its_distribution(site: "Site", fault: Fault) -> None:
    """Discovery lists the same plugins as broken, with plugin, distribution, cause and remedy."""
    site.plugin("shout", fault.source, "plugin" if "plugin" in fault.source else "")
    hooks = site.discover()
    (problem,) = hooks.problems
    assert (problem.where, problem.distribution, problem.hook) == ("shout", "dist-shout 1.0", fault.attribute)
    assert problem.cause
    assert problem.remedy
    (found,) = hooks.listeners
    assert (found.name, found.state, found.hooks) == ("shout", State.BROKEN, ())


@pytest.mark.parametrize(
    "fault", [name for name, fault in SILENT_FAULTS.items() if STARTED in fault.source and "plugin" not in fault.source]
)
def test_one_fault_does_not_hide_the_other_hooks(module: Written, fault: str) -> None:
    """A plugin with one faulty hook keeps its valid one, and the fault is reported."""
    hooks, problems = inspected(module(SILENT_FAULTS[fault].source + OTHER_HOOK))
    assert hooks == ["repo_publish_started"]
    assert len(problems) == 1


@given(hook=st.sampled_from(list(EventType)), data=st.data())
def test_typo_gets_the_right_suggestion(hook: EventType, data: st.DataObject) -> None:
    """A hook's name with one missing, doubled, swapped or wrong letter gets the right suggestion."""
    name = hook.hook_name
    at = data.draw(st.integers(0, len(name) - 2))
    slips = (
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        name[:at] + "q" + name[at + 1 :],
    )
    slip = data.draw(st.sampled_from([slip for slip in slips if slip != name]))
    plugin = ModuleType("plugin")
    setattr(plugin, slip, hookimpl(lambda: None))
    hooks, problems = inspected(plugin)
    assert hooks == []
    assert [problem.remedy for problem in problems] == [f"did you mean {name}?"]


def test_each_of_several_faults_is_reported(module: Written) -> None:
    """Two faulty hooks are two problems, so that one `check` shows both."""
    _, problems = inspected(module("def repo_sync_started(body): ...\n@hookimpl\ndef repo_sync_finished(bdy): ..."))
    assert sorted(str(problem.hook) for problem in problems) == ["repo_sync_finished", "repo_sync_started"]


@pytest.mark.parametrize(
    "arguments", ["body", "event", "body, event", "event, body", "", "event, body, /", "body, volume=11"]
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_any_choice_of_arguments_is_passed(module: Written, kind: str, arguments: str) -> None:
    """`body`, `event`, both in either order or neither: plain and async functions get the arguments that they name."""
    plugin = module(f"got = []\n@hookimpl\n{kind} repo_sync_started({arguments}): got.append(dict(locals()))")
    (outcome,) = called(plugin, fired := example_event(EventType.REPO_SYNC_STARTED, repo_id="pulp-f17"))
    assert outcome.error is None
    (got,) = plugin.got
    assert got == {
        name: value for name, value in (("body", fired.body), ("event", fired), ("volume", 11)) if name in arguments
    }


@pytest.mark.parametrize("source", SOUND.values(), ids=SOUND)
def test_valid_implementation_is_called_once(module: Written, source: str) -> None:
    """Every valid way to write a hook is found without a problem, and called exactly once."""
    loaded = module("got = []\n" + source)
    (outcome,) = called(plugin_of(loaded), fired := example_event(EventType.REPO_SYNC_STARTED))
    assert outcome.error is None
    assert loaded.got == [fired.body]


def test_wrapper_with_arguments_of_its_own_is_not_called_wrongly(module: Written) -> None:
    """A `functools.wraps` wrapper with other arguments than its function gets its own, or is reported."""
    source = written(
        "def started(body, event): ...",
        "@hookimpl",
        "@functools.wraps(started)",
        "def repo_sync_started(event): started(event.body, event)",
    )
    plugin = module(source)
    _, problems = inspected(plugin)
    assert problems or called(plugin, example_event(EventType.REPO_SYNC_STARTED))[0].error is None


def test_lazy_hook_that_dir_shows_is_not_dropped(module: Written) -> None:
    """A hook that a module lists in `__dir__` and creates in `__getattr__` is found or reported, never dropped."""
    lazy = written(
        "def __dir__(): return ['repo_sync_started', 'repo_publish_started']",
        "def __getattr__(name):",
        "    if name != 'repo_sync_started': raise AttributeError(name)",
        "    def repo_sync_started(body): ...",
        "    return hookimpl(repo_sync_started)",
    )
    hooks, problems = inspected(module(lazy + OTHER_HOOK))
    assert "repo_publish_started" in hooks
    assert "repo_sync_started" in [*hooks, *(problem.hook for problem in problems)]


def test_hook_that_cannot_be_read_is_not_dropped(module: Written) -> None:
    """An attribute with a hook's name that raises when it is read is reported, also beside a valid hook."""
    never = written("class Never:", "    def __get__(self, instance, owner): raise RuntimeError('not connected')")
    sound = ("@hookimpl", "def repo_publish_started(self, body): ...")
    hooks, problems = inspected(module(never + listener("repo_sync_started = Never()", *sound)).plugin)
    assert hooks == ["repo_publish_started"]
    assert [problem.hook for problem in problems] == ["repo_sync_started"]


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_hostile_object_is_a_problem(module: Written, line: str) -> None:
    """An object whose inspection raises is reported."""
    hooks, problems = inspected(module(listener(line)).plugin)
    assert hooks == []
    assert [problem.where for problem in problems] == ["shout"]


def test_marker_options_are_kept() -> None:
    """`tryfirst` and `trylast` are read from the marker of each implementation."""

    class Listener:
        @hookimpl(tryfirst=True)
        def repo_sync_started(self) -> None:
            """Be called first."""

        @hookimpl(trylast=True)
        def repo_sync_finished(self) -> None:
            """Be called last."""

        @hookimpl
        def repo_publish_started(self) -> None:
            """Be called in order of name."""

    implementations, _ = inspect_plugin(Listener(), "shout")
    options = {i.event_type.hook_name: (i.tryfirst, i.trylast) for i in implementations}
    assert options == {
        "repo_sync_started": (True, False),
        "repo_sync_finished": (False, True),
        "repo_publish_started": (False, False),
    }


def test_two_functions_may_implement_one_hook(module: Written) -> None:
    """A plugin may have a second implementation of a hook under another name."""
    hooks, problems = inspected(
        module(
            "@hookimpl\ndef repo_sync_started(body): ...\n"
            "@hookimpl(specname='repo_sync_started')\ndef second(body): ..."
        )
    )
    assert hooks == ["repo_sync_started", "repo_sync_started"]
    assert problems == []
