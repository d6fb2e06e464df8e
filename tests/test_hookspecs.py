"""The four hooks from a plugin author's view: types, documentation, and the bodies they receive."""

import inspect
import re
import textwrap
from types import ModuleType
from typing import Any, get_type_hints

import pytest

from pulp_hooks import Event, EventType, Hooks, hookimpl, hookspecs
from pulp_hooks.bodies import types
from pulp_hooks.bodies.examples import EXAMPLES

HOOK_NAMES = [event_type.hook_name for event_type in EventType]


def example_of(hook: str) -> str:
    """Return the code of the example in the docstring of a hook."""
    code = re.search(r"```python\n(.*?)\n *```", inspect.getdoc(getattr(hookspecs, hook)) or "", re.DOTALL)
    assert code, f"{hook} has no example"
    return textwrap.dedent(code.group(1))


async def purge_cache(_repo_id: str) -> None:
    """Stand in for the function called in the example of `repo_publish_finished`."""


def received(event_type: EventType) -> tuple[Any, Event]:
    """Fire the example of an event type, and return the arguments of its hook."""
    calls: list[tuple[object, Event]] = []
    plugin = ModuleType("recorder")

    @hookimpl(specname=event_type.hook_name)
    def record(body: object, event: Event) -> None:
        calls.append((body, event))

    plugin.__dict__["record"] = record
    Hooks([plugin]).fire(event_type, EXAMPLES[event_type])
    ((body, event),) = calls
    return body, event


def test_repo_sync_started() -> None:
    """`repo_sync_started` receives the body of `repo-sync-started`."""
    body, event = received(EventType.REPO_SYNC_STARTED)
    assert body == {"repo_id": "pulp-f17"}
    assert event.type == "repo-sync-started"


def test_repo_sync_finished() -> None:
    """`repo_sync_finished` receives the body of `repo-sync-finished`, field for field."""
    body, event = received(EventType.REPO_SYNC_FINISHED)
    assert body == EXAMPLES[EventType.REPO_SYNC_FINISHED]
    assert event.type == "repo-sync-finished"


def test_repo_publish_started() -> None:
    """`repo_publish_started` receives the body of `repo-publish-started`."""
    body, event = received(EventType.REPO_PUBLISH_STARTED)
    assert body == {"repo_id": "pulp-f17", "distributor_id": "yum_distributor"}
    assert event.type == "repo-publish-started"


def test_repo_publish_finished() -> None:
    """`repo_publish_finished` receives the body of `repo-publish-finished`, field for field."""
    body, event = received(EventType.REPO_PUBLISH_FINISHED)
    assert body == EXAMPLES[EventType.REPO_PUBLISH_FINISHED]
    assert event.type == "repo-publish-finished"


def test_every_hook_has_a_test_named_after_it() -> None:
    """A hook without a test is noticed."""
    marked = {name for name, value in vars(hookspecs).items() if hasattr(value, "pulp_hooks_spec")}
    assert marked == set(HOOK_NAMES)
    assert {f"test_{name}" for name in marked} <= globals().keys()


@pytest.mark.parametrize("event_type", EventType)
def test_hook_is_typed(event_type: EventType) -> None:
    """Each hook takes `body`, typed as the body of its event type, and `event`, and returns nothing."""
    hints = get_type_hints(getattr(hookspecs, event_type.hook_name), localns={**vars(types), "Event": Event})
    assert hints == {"body": getattr(types, event_type.body_name), "event": Event, "return": type(None)}
    assert list(hints) == ["body", "event", "return"]


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_hook_says_when_it_fires_and_what_its_arguments_are(hook: str) -> None:
    """The docstring of each hook starts with when it is called, and describes both arguments."""
    documentation = inspect.getdoc(getattr(hookspecs, hook)) or ""
    assert documentation.startswith("Called when ")
    arguments = documentation.partition("Args:")[2].partition("Example:")[0]
    assert re.findall(r"^    (\w+): \S", arguments, re.MULTILINE) == ["body", "event"]


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_example_of_hook_compiles_to_a_function_with_the_name_of_the_hook(hook: str) -> None:
    """The example in the docstring of each hook defines exactly one function, with the name of the hook."""
    code = compile(example_of(hook), f"<example of {hook}>", "exec")
    functions = [constant.co_name for constant in code.co_consts if inspect.iscode(constant)]
    assert functions == [hook]


@pytest.mark.parametrize("event_type", EventType)
def test_example_of_hook_works_as_a_plugin(event_type: EventType) -> None:
    """The example in the docstring of each hook works as a plugin."""
    plugin = ModuleType("example")
    plugin.__dict__.update(hookimpl=hookimpl, purge_cache=purge_cache)
    exec(example_of(event_type.hook_name), plugin.__dict__)  # noqa: S102 - the code is our own documentation
    report = Hooks([plugin]).fire(event_type, EXAMPLES[event_type])
    assert [(outcome.hook, outcome.error) for outcome in report.outcomes] == [(event_type.hook_name, None)]
