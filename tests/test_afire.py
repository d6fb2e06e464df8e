"""Firing from a coroutine: listeners run together, the host's loop keeps running, and a cancellation propagates."""

import asyncio
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from pulp_hooks import BodyError, Event, EventType, Hooks, Notifier, Status, UnknownEventTypeError, hookimpl
from pulp_hooks.bodies.examples import EXAMPLES

STARTED = "repo-sync-started"
BODY = {"repo_id": "pulp-f17"}
PATIENCE = 10
"""Seconds after which a test gives up on something that never comes."""


def listener(name: str, function: Callable[..., object], hook: str = "repo_sync_started") -> ModuleType:
    """Make a plugin of one function."""
    plugin = ModuleType(name)
    plugin.__dict__[hook] = hookimpl(function)
    return plugin


async def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize("event_type", EventType)
def test_afire_reports_as_fire_does(event_type: EventType) -> None:
    """The report has the event and the outcomes in the order of names, plain and async listeners mixed."""
    called: list[str] = []

    async def fails() -> None:
        raise LookupError("broken")

    hook = event_type.hook_name
    plugins = [
        listener("d", lambda: called.append("d"), hook),
        listener("c", nothing, hook),
        listener("b", lambda: called.append("b"), hook),
        listener("a", fails, hook),
    ]
    report = asyncio.run(Hooks(plugins).afire(event_type, EXAMPLES[event_type], call_report={"task_id": "1"}))
    assert report.event.type is event_type
    assert report.event.body == EXAMPLES[event_type]
    assert report.event.call_report == {"task_id": "1"}
    assert [(outcome.listener, outcome.hook, outcome.status, outcome.error) for outcome in report.outcomes] == [
        ("a", hook, Status.FAILED, "LookupError: broken"),
        ("b", hook, Status.SUCCEEDED, None),
        ("c", hook, Status.SUCCEEDED, None),
        ("d", hook, Status.SUCCEEDED, None),
    ]
    assert called == ["b", "d"]


def test_afire_without_listeners_returns_an_empty_report() -> None:
    """An event without listeners has an empty report."""
    assert asyncio.run(Hooks().afire(STARTED, BODY)).outcomes == ()


def test_afire_refuses_what_fire_refuses_and_calls_nobody() -> None:
    """An invalid body or event type raises in the host, and no listener is called."""
    called: list[None] = []
    hooks = Hooks([listener("a", lambda: called.append(None))])
    with pytest.raises(BodyError, match="repo_id"):
        asyncio.run(hooks.afire(STARTED, {}))
    with pytest.raises(UnknownEventTypeError):
        asyncio.run(hooks.afire("repo-synced", BODY))
    assert not called


def test_async_listeners_are_awaited_together_on_the_loop_of_the_caller() -> None:
    """Three listeners that wait for each other all finish, on the host's loop."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        together = asyncio.Barrier(3)

        async def meets() -> None:
            await together.wait()
            loops.append(asyncio.get_running_loop())

        hooks = Hooks([listener(name, meets) for name in "abc"])
        async with asyncio.timeout(PATIENCE):
            assert not (await hooks.afire(STARTED, BODY)).failures
        assert loops == [asyncio.get_running_loop()] * 3

    asyncio.run(main())


def test_loop_keeps_running_while_a_plain_listener_blocks() -> None:
    """A plain listener can wait for another task of the host's loop."""

    async def main() -> None:
        loop, reached, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def blocks() -> None:
            loop.call_soon_threadsafe(reached.set)
            assert release.wait(PATIENCE)

        async def releases() -> None:
            await reached.wait()
            release.set()

        releasing = asyncio.create_task(releases())
        report = await Hooks([listener("a", blocks)]).afire(STARTED, BODY)
        await releasing
        assert not report.failures

    asyncio.run(main())


def test_plain_and_async_listeners_run_at_the_same_time() -> None:
    """A plain and an async listener that wait for each other both finish."""

    async def main() -> None:
        from_plain, from_async = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def plain() -> None:
            loop.call_soon_threadsafe(from_plain.set)
            assert from_async.wait(PATIENCE)

        async def awaited() -> None:
            await from_plain.wait()
            from_async.set()

        hooks = Hooks([listener("a", plain), listener("b", awaited)])
        async with asyncio.timeout(PATIENCE):
            assert not (await hooks.afire(STARTED, BODY)).failures

    asyncio.run(main())


def test_plain_listeners_run_in_order_in_one_other_thread() -> None:
    """Plain listeners run in the order of names, as in `fire`."""
    calls: list[tuple[str, int]] = []
    plugins = [listener(name, lambda name=name: calls.append((name, threading.get_ident()))) for name in "cab"]
    asyncio.run(Hooks(plugins).afire(STARTED, BODY))
    assert [name for name, _ in calls] == ["a", "b", "c"]
    assert len({thread for _, thread in calls}) == 1
    assert calls[0][1] != threading.get_ident()


def test_failure_of_one_async_listener_does_not_cancel_the_others() -> None:
    """If one listener raises, the others run to their end."""
    ended: list[str] = []

    async def main() -> None:
        raised = asyncio.Event()

        async def fails() -> None:
            asyncio.get_running_loop().call_soon(raised.set)
            raise SystemExit(3)

        async def waits() -> None:
            await raised.wait()
            ended.append("b")

        async with asyncio.timeout(PATIENCE):
            report = await Hooks([listener("a", fails), listener("b", waits)]).afire(STARTED, BODY)
        assert [outcome.error for outcome in report.outcomes] == ["SystemExit: 3", None]

    asyncio.run(main())
    assert ended == ["b"]


def test_cancellation_of_afire_cancels_the_async_listeners(caplog: pytest.LogCaptureFixture) -> None:
    """Canceling the task cancels each async listener, and does not count as their failure."""
    canceled: list[str] = []

    async def main() -> None:
        reached = {name: asyncio.Event() for name in "ab"}

        def waits(name: str) -> Callable[[], Any]:
            async def wait() -> None:
                try:
                    reached[name].set()
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    canceled.append(name)
                    raise

            return wait

        hooks = Hooks([listener(name, waits(name)) for name in "ab"])
        firing = asyncio.create_task(hooks.afire(STARTED, BODY))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(event.wait() for event in reached.values()))
            firing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await firing
        assert firing.cancelled()
        hooks.close()

    asyncio.run(main())
    assert sorted(canceled) == ["a", "b"]
    assert "failed" not in caplog.text


def test_timeout_of_the_host_ends_afire() -> None:
    """`asyncio.timeout` around `afire` raises `TimeoutError`, even if a listener raises when canceled."""

    async def main() -> None:
        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise LookupError("not now")

        hooks = Hooks([listener("a", stubborn)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await hooks.afire(STARTED, BODY)
        hooks.close()

    asyncio.run(main())


def test_canceled_listener_does_not_end_a_host_that_was_canceled_before() -> None:
    """A host that handles a cancellation gets its report, and only a new cancellation ends `afire`."""

    async def main() -> None:
        async def cancels() -> None:
            raise asyncio.CancelledError

        hooks = Hooks([listener("a", cancels), listener("b", nothing)])

        async def host() -> list[str | None]:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return [outcome.error for outcome in (await hooks.afire(STARTED, BODY)).outcomes]
            return []

        task = asyncio.create_task(host())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == ["CancelledError", None]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_keyboard_interrupt_of_a_listener_propagates_from_afire(kind: str) -> None:
    """The host can catch a `KeyboardInterrupt` around `afire`, as around `fire`."""
    caught: list[str] = []

    def plain() -> None:
        raise KeyboardInterrupt

    async def awaited() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        try:
            await Hooks([listener("a", plain if kind == "plain" else awaited)]).afire(STARTED, BODY)
        except BaseException as error:
            caught.append(type(error).__name__)
            raise

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert caught == ["KeyboardInterrupt"]


def test_many_tasks_may_afire_at_once() -> None:
    """Events fired at the same time are not mixed up."""
    seen: list[tuple[str, object]] = []

    async def awaited(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append((event.id, event.body["repo_id"]))

    def plain(event: Event) -> None:
        seen.append((event.id, event.body["repo_id"]))

    async def main() -> list[tuple[str, object]]:
        hooks = Hooks([listener("a", awaited), listener("b", plain)])
        reports = await asyncio.gather(*(hooks.afire(STARTED, {"repo_id": f"r{n}"}) for n in range(50)))
        hooks.close()
        return [(report.event.id, f"r{n}") for n, report in enumerate(reports)]

    fired = asyncio.run(main())
    assert sorted(seen, key=str) == sorted(fired * 2, key=str)


def test_async_and_plain_notifiers_are_notified() -> None:
    """An async `notify` is awaited on the loop, and a plain one runs in a thread."""
    threads: dict[str, bool] = {}

    class Awaited(Notifier):
        async def notify(self, event: Event) -> None:
            threads[f"awaited {event.type}"] = threading.current_thread() is threading.main_thread()

    class Plain(Notifier):
        def notify(self, event: Event) -> None:
            threads[f"plain {event.type}"] = threading.current_thread() is threading.main_thread()

    report = asyncio.run(Hooks([Awaited({}), Plain({})]).afire(STARTED, BODY))
    assert not report.failures
    here = threading.current_thread() is threading.main_thread()
    assert threads == {f"awaited {STARTED}": here, f"plain {STARTED}": False}
