"""The registry: which listeners are called for an event, and in which order."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.dispatch.registry import Registry
from pulp_hooks.event import Event
from pulp_hooks.event_types import EventType
from pulp_hooks.hooks import Hooks
from pulp_hooks.hookspecs import hookimpl
from pulp_hooks.plugins.inspection import Implementation
from pulp_hooks.plugins.listeners import Kind, Listener, State
from pulp_hooks.testing import example_event

STARTED = EventType.REPO_SYNC_STARTED


def listener(
    name: str,
    *event_types: EventType,
    tryfirst: bool = False,
    trylast: bool = False,
    wants: Callable[[Event], bool] | None = None,
) -> Listener:
    """Return a loaded listener for these event types, by default for started syncs."""
    implementations = [
        Implementation(event_type, print, (), tryfirst=tryfirst, trylast=trylast)
        for event_type in event_types or [STARTED]
    ]
    return Listener(name, Kind.PLUGIN, State.LOADED, implementations=implementations, wants=wants)


def called(listeners: Sequence[Listener], event: Event) -> list[str]:
    """Return the names of the listeners that the registry would call, in order."""
    return [guard.listener for guard in Registry(listeners, slow_seconds=60).guards(event)]


def test_listeners_are_called_in_order_of_name() -> None:
    """The order in which listeners are passed does not matter."""
    assert called([listener("b"), listener("c"), listener("a")], example_event(STARTED)) == ["a", "b", "c"]


def test_tryfirst_and_trylast_hold() -> None:
    """`tryfirst` is called before all others, `trylast` after them."""
    listeners = [listener("a", trylast=True), listener("b"), listener("c"), listener("d", tryfirst=True)]
    assert called(listeners, example_event(STARTED)) == ["d", "b", "c", "a"]


def test_equal_options_are_called_in_order_of_name() -> None:
    """Among those with `tryfirst`, and among those with `trylast`, the name decides."""
    first = [listener("b", tryfirst=True), listener("a", tryfirst=True)]
    last = [listener("z", trylast=True), listener("y", trylast=True)]
    assert called([*last, *first], example_event(STARTED)) == ["a", "b", "y", "z"]


@given(
    st.lists(
        st.builds(listener, st.text(), tryfirst=st.booleans(), trylast=st.booleans()),
        max_size=8,
        unique_by=lambda listener: listener.name,
    )
)
def test_order_depends_only_on_names_and_options(listeners: list[Listener]) -> None:
    """The order is by option and then by name, and each is called once."""

    def rank(listener: Listener) -> tuple[int, str]:
        (implementation,) = listener.implementations
        # With both options, pluggy gives `trylast` precedence.
        return (2 if implementation.trylast else 0 if implementation.tryfirst else 1, listener.name)

    with Hooks() as hooks:
        event = hooks.fire(STARTED, EXAMPLES[STARTED]).event
    assert called(listeners, event) == [listener.name for listener in sorted(listeners, key=rank)]


def test_only_implementations_of_the_event_type_are_called() -> None:
    """A listener gets only the events whose hooks it implements."""
    listeners = [
        listener("all", *EventType),
        listener("finished", EventType.REPO_SYNC_FINISHED),
        listener("syncs", STARTED, EventType.REPO_SYNC_FINISHED),
    ]
    assert {event_type: called(listeners, example_event(event_type)) for event_type in EventType} == {
        EventType.REPO_SYNC_STARTED: ["all", "syncs"],
        EventType.REPO_SYNC_FINISHED: ["all", "finished", "syncs"],
        EventType.REPO_PUBLISH_STARTED: ["all"],
        EventType.REPO_PUBLISH_FINISHED: ["all"],
    }


def test_event_that_a_filter_rejects_has_no_guard() -> None:
    """A listener is not called for an event that its filter rejects; the others are."""
    listeners = [listener("a", wants=lambda event: event.body["repo_id"] == "f17"), listener("b")]
    assert called(listeners, example_event(STARTED, repo_id="f17")) == ["a", "b"]
    assert called(listeners, example_event(STARTED, repo_id="f18")) == ["b"]


def test_filter_is_asked_once_for_each_event() -> None:
    """The filter of a listener is called exactly once for each event of its types."""
    asked: list[Event] = []

    def wants(event: Event) -> bool:
        asked.append(event)
        return True

    fired = example_event(STARTED)
    called([listener("a", wants=wants)], fired)
    assert asked == [fired]


def test_no_guards_without_listeners() -> None:
    """Without listeners there are no guards."""
    assert called([], example_event(STARTED)) == []


def test_both_implementations_of_one_hook_are_called() -> None:
    """A listener that implements a hook twice is called twice."""
    assert called([listener("a", STARTED, STARTED), listener("b")], example_event(STARTED)) == ["a", "a", "b"]


def test_plugins_that_compare_equal_are_all_called() -> None:
    """Equal objects are separate listeners, compared by identity."""
    got: list[str] = []

    class Equal:
        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 1

        @hookimpl
        def repo_sync_started(self) -> None:
            got.append(self.name)

    with Hooks([Equal("a"), Equal("b")]) as hooks:
        hooks.repo_sync_started(repo_id="pulp-f17")
    assert got == ["a", "b"]


def test_two_registries_are_independent() -> None:
    """Each registry calls its own listeners only."""
    fired = example_event(STARTED)
    first, second = Registry([listener("a")], slow_seconds=60), Registry([listener("b")], slow_seconds=60)
    assert [guard.listener for guard in first.guards(fired)] == ["a"]
    assert [guard.listener for guard in second.guards(fired)] == ["b"]
