"""What it costs to fire a finished event, beside the floor and beside other ways to call many listeners."""

import gc
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import blinker
import django.dispatch
import marshmallow
import pluggy
from stevedore.extension import Extension, ExtensionManager

from benchmarks.measuring import Figure, at_least, at_most, ratio_of
from pulp_hooks import EventType, Hooks, hookimpl
from pulp_hooks.bodies.examples import EXAMPLES
from pulp_hooks.bodies.schemas import schema_of

TYPE = EventType.REPO_SYNC_FINISHED
BODY = EXAMPLES[TYPE]
SCHEMA = schema_of(TYPE)
MEMORY_FIRES = 100_000


class Listener:
    """Takes all there is to take, and does nothing with it."""

    @hookimpl
    def repo_sync_finished(self, body: object, event: object) -> None:
        """Do nothing."""


def serialized() -> Any:  # noqa: ANN401 - a body
    """Serialize the body once, as marshmallow does where no schema has a shorter way of its own."""
    return marshmallow.Schema.dump(SCHEMA, marshmallow.Schema.load(SCHEMA, BODY))


def ours(listeners: int) -> Callable[[], object]:
    """Return the firing of an event at so many listeners."""
    hooks = Hooks([Listener() for _ in range(listeners)])
    return lambda: hooks.fire(TYPE, BODY)


def floor(listeners: int, receive: Callable[[Any], None] = lambda _: None) -> Callable[[], object]:
    """Return the least: serialize the body once, and let pluggy call so many listeners as they are."""
    spec, impl = pluggy.HookspecMarker("floor"), pluggy.HookimplMarker("floor")

    class Spec:
        @spec
        def finished(self, body: object, event: object) -> None: ...

    class Plugin:
        @impl
        def finished(self, body: object, event: object) -> None:
            del event
            receive(body)

    manager = pluggy.PluginManager("floor")
    manager.add_hookspecs(Spec)
    for _ in range(listeners):
        manager.register(Plugin())
    return lambda: manager.hook.finished(body=serialized(), event=None)


def each_for_itself(listeners: int) -> Callable[[], object]:
    """Return what happens without a common serialization: every listener does it again."""
    return floor(listeners - 1, lambda _: serialized())


def with_blinker(listeners: int) -> Callable[[], object]:
    """Return the same with blinker: shared body, no guards."""
    signal = blinker.Signal()
    receivers = [lambda sender, body: None for _ in range(listeners)]  # noqa: ARG005 - what blinker calls
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return lambda: signal.send(None, body=serialized())


def with_stevedore(listeners: int) -> Callable[[], object]:
    """Return the same with stevedore: shared body, exceptions logged."""
    extensions = [Extension(f"listener{number}", None, None, Listener()) for number in range(listeners)]  # type: ignore[arg-type] # no entry point needed
    manager = ExtensionManager.make_test_instance(extensions)
    return lambda: manager.map_method("repo_sync_finished", body=serialized(), event=None)


def with_django(listeners: int) -> Callable[[], object]:
    """Return the same with Django's `send_robust`: shared body, exceptions returned."""
    signal = django.dispatch.Signal()
    receivers = [lambda sender, body, **kwargs: None for _ in range(listeners)]  # noqa: ARG005 - what Django calls
    for number, receiver in enumerate(receivers):
        signal.connect(receiver, weak=False, dispatch_uid=str(number))
    return lambda: signal.send_robust(None, body=serialized())


def measure() -> Iterator[Figure]:
    """Yield the figures."""
    logging.getLogger("pulp_hooks").addHandler(logging.NullHandler())
    for listeners, bar in ((0, 1.2), (10, 1.6), (100, 4.5)):
        yield at_most(f"fire to {listeners} listeners / the floor", ratio_of(ours(listeners), floor(listeners)), bar)
    yield at_least("10 listeners that each serialize / fire", ratio_of(each_for_itself(10), ours(10), calls=50), 3)
    peers = {"blinker": with_blinker, "stevedore": with_stevedore, "Django send_robust": with_django}
    for name, peer in peers.items():
        for listeners in (10, 100):
            ratio = ratio_of(peer(listeners), floor(listeners))
            yield Figure(f"{name} to {listeners} listeners, one shared body / the floor", f"{ratio:.2f} x")
    yield memory()


def memory() -> Figure:
    """Measure by how much many fires let the process's memory grow."""
    fire = ours(10)
    for _ in range(100):
        fire()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(MEMORY_FIRES):
        fire()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    grown = (after - before) / 2**20
    return Figure(f"memory grown by {MEMORY_FIRES:,} fires to 10 listeners", f"{grown:.3f} MiB", "< 1 MiB", grown < 1)
