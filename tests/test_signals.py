"""Exceptions from signal handlers of the host while a listener runs reach the host."""

import asyncio
import contextlib
import functools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Self

import pytest

from pulp_hooks import Hooks, Report, hookimpl
from pulp_hooks.journal.queries import Filter
from pulp_hooks.operations import Operation
from pulp_hooks.signals import raised_by_signal_handler

BODY = {"repo_id": "zoo"}
NUMBER = signal.SIGUSR1


class LimitError(Exception):
    """A time limit, as raised by job queues."""


class ExitRequest(BaseException):
    """A requested exit."""


def listener(name: str, function: Callable[..., object], hook: str = "repo_sync_started") -> ModuleType:
    """Make a plugin of one function."""
    plugin = ModuleType(name)
    plugin.__dict__[hook] = hookimpl(function)
    return plugin


def plain(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler that is a function."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise error

    return handler


def star(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler that takes any arguments."""

    def handler(*_: object) -> None:
        raise error

    return handler


def resetting(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler that is no longer installed when it raises."""

    def handler(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise error

    return handler


def forgetful(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler that has deleted its arguments when it raises."""

    def handler(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise error

    return handler


def partial(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler that is a `functools.partial`."""

    def handler(raised: BaseException, number: int, frame: FrameType | None) -> None:
        del number, frame
        raise raised

    return functools.partial(handler, error)


def method(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler that is a bound method."""

    class Penalty:
        def handle(self, _number: int, _frame: FrameType | None) -> None:
            raise error

    return Penalty().handle


def callable_object(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler that is an object."""

    class Penalty:
        def __call__(self, number: int, frame: FrameType | None) -> None:
            del number, frame
            raise error

    return Penalty()


def nested(error: BaseException) -> Any:  # noqa: ANN401 - any handler
    """Return a handler whose helper raises."""

    def give_up() -> None:
        raise error

    def handler(_number: int, _frame: FrameType | None) -> None:
        give_up()

    return handler


HANDLERS = [plain, star, resetting, forgetful, partial, method, callable_object, nested]


@pytest.fixture
def install() -> Iterator[Callable[[Any], None]]:
    """Return a function that installs a handler, which is replaced by the previous one afterwards."""
    before = signal.getsignal(NUMBER)
    yield lambda handler: (signal.signal(NUMBER, handler), None)[1]
    signal.signal(NUMBER, before)


def raise_it() -> None:
    """Let the signal arrive in a plain listener."""
    signal.raise_signal(NUMBER)


async def raise_it_later() -> None:
    """Let the signal arrive in a coroutine."""
    await asyncio.sleep(0)
    signal.raise_signal(NUMBER)


def fire(hooks: Hooks) -> Report:
    """Fire without an event loop."""
    return hooks.fire("repo-sync-started", BODY)


def afire(hooks: Hooks) -> Report:
    """Fire from a coroutine."""

    async def main() -> Report | BaseException:
        # Caught inside of the loop, because asyncio handles some of them itself.
        try:
            return await hooks.afire("repo-sync-started", BODY)
        except BaseException as error:  # noqa: BLE001 - raised again outside
            return error

    result = asyncio.run(main())
    if isinstance(result, BaseException):
        raise result
    return result


def fire_inside_a_loop(hooks: Hooks) -> Report:
    """Fire in a thread that already runs an event loop."""

    async def main() -> Report:
        return hooks.fire("repo-sync-started", BODY)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "error", [LimitError("limit"), ExitRequest("exit"), SystemExit(143)], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("kind", ["plain", "async", "async with afire"])
def test_exception_of_a_signal_handler_leaves_fire(
    kind: str, handler: Callable[[BaseException], Any], error: BaseException, install: Callable[[Any], None]
) -> None:
    """The exception is neither the listener's failure nor swallowed, for every kind of handler and exception."""
    install(handler(error))
    hooks = Hooks([listener("a", raise_it if kind == "plain" else raise_it_later)])
    with pytest.raises(type(error)) as caught:
        (afire if kind == "async with afire" else fire)(hooks)
    assert caught.value is error


def test_exception_of_a_signal_handler_ends_the_wait_for_a_helper_thread(install: Callable[[Any], None]) -> None:
    """An `async def` listener in a helper thread is canceled, so that the host can continue."""
    install(plain(LimitError("limit")))
    ended = threading.Event()

    async def listen() -> None:
        try:
            signal.raise_signal(NUMBER)
            await asyncio.sleep(600)
        finally:
            ended.set()

    with pytest.raises(LimitError):
        fire_inside_a_loop(Hooks([listener("a", listen)]))
    assert ended.wait(10)


def test_interrupted_system_call_of_a_listener_leaves_fire() -> None:
    """A real timer ends a listener that sleeps."""
    before = signal.signal(signal.SIGALRM, plain(LimitError("limit")))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(LimitError):
            fire(Hooks([listener("a", lambda: time.sleep(600))]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def swallowed_by_cause() -> None:
    """Wrap the exception, as client libraries do."""
    try:
        raise_it()
    except BaseException as error:
        raise ConnectionError("the request failed") from error


def swallowed_by_context() -> None:
    """Raise while the exception is handled."""
    try:
        raise_it()
    finally:
        raise ConnectionError("the clean-up failed")


async def in_a_task_group() -> None:
    """Let the signal arrive in a task of a group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(raise_it_later())


def in_nested_groups() -> None:
    """Let the signal arrive in a task gathered with others."""
    try:
        raise_it()
    except LimitError as error:
        raise ExceptionGroup("outer", [ValueError(), ExceptionGroup("inner", [KeyError(), error])]) from None


@pytest.mark.parametrize("listen", [swallowed_by_cause, swallowed_by_context, in_a_task_group, in_nested_groups])
def test_wrapped_exception_of_a_signal_handler_leaves_fire_as_it_was_raised(
    listen: Callable[..., object], install: Callable[[Any], None]
) -> None:
    """The host gets its own exception, even if a listener wrapped it."""
    error = LimitError("limit")
    install(plain(error))
    with pytest.raises(LimitError) as caught:
        fire(Hooks([listener("a", listen)]))
    assert caught.value is error


def fails() -> None:
    """Raise for a reason of the listener's own."""
    raise ValueError("own")


async def fails_later() -> None:
    """Raise in a coroutine."""
    raise ValueError("own")


@pytest.mark.parametrize("listen", [fails, fails_later])
@pytest.mark.parametrize("way", [fire, afire])
def test_listener_that_fails_while_the_host_handles_a_signal_fails_alone(
    listen: Callable[..., object], way: Callable[[Hooks], Report], install: Callable[[Any], None]
) -> None:
    """An exception that the host is already handling is only the context of the listener's failure."""
    install(plain(LimitError("limit")))
    hooks = Hooks([listener("a", listen)])
    try:
        raise_it()
    except LimitError:
        report = way(hooks)
    assert [outcome.error for outcome in report.outcomes] == ["ValueError: own"]


@pytest.mark.parametrize("error", [LimitError("own"), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_same_exception_raised_by_the_listener_is_its_failure(
    error: BaseException, install: Callable[[Any], None]
) -> None:
    """Only an exception from a handler is the host's, whatever its class."""

    def listen() -> None:
        raise error

    install(plain(type(error)()))
    report = fire(Hooks([listener("a", listen)]))
    assert len(report.failures) == 1


class Alarm:
    """A time limit on a block, as set by listeners and client libraries."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """End the block."""
        raise LimitError("own")

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def bounded() -> None:
    """Limit the time of a request."""
    with Alarm():
        time.sleep(600)


async def bounded_later() -> None:
    """Limit the time in a coroutine."""
    bounded()


def bounded_for_good() -> None:
    """Limit the time by a handler that stays installed."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise LimitError("own")

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(600)


@pytest.mark.parametrize("listen", [bounded, bounded_later, bounded_for_good])
def test_alarm_that_a_listener_has_set_is_its_own_failure(listen: Callable[..., object]) -> None:
    """An exception from a handler that the listener installed is the listener's failure."""
    before = signal.getsignal(signal.SIGALRM)
    try:
        report = fire(Hooks([listener("a", listen)]))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [outcome.error for outcome in report.outcomes] == ["LimitError: own"]


def test_signal_of_the_host_leaves_fire_through_an_alarm_of_the_listener(install: Callable[[Any], None]) -> None:
    """A time limit of the listener does not make the host's exception its own."""
    install(plain(SystemExit(143)))

    def listen() -> None:
        with Alarm():
            raise_it()

    with pytest.raises(SystemExit):
        fire(Hooks([listener("a", listen)]))


def test_listener_with_the_decorator_of_a_handler_fails_alone(install: Callable[[Any], None]) -> None:
    """A decorator shared by handlers and listeners does not make a listener a handler."""

    class Nothing(contextlib.ContextDecorator):
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Do nothing."""

    @Nothing()
    def handler(number: int, frame: FrameType | None) -> None:
        """Do nothing."""

    @Nothing()
    def fail() -> None:
        raise ValueError("own")

    def decorated() -> None:
        fail()

    install(handler)
    report = fire(Hooks([listener("a", decorated)]))
    assert [outcome.error for outcome in report.outcomes] == ["ValueError: own"]


def test_other_threads_listeners_fail_alone(install: Callable[[Any], None]) -> None:
    """Signals arrive in the main thread, so exceptions in other threads are the listener's."""
    install(plain(LimitError("limit")))
    with ThreadPoolExecutor(1) as threads:
        report = threads.submit(fire, Hooks([listener("a", fails)])).result()
    assert len(report.failures) == 1


def run_block(operation: Any) -> None:  # noqa: ANN401 - either operation
    """Run an empty block."""
    with operation:
        pass


def run_async_block(operation: Any) -> None:  # noqa: ANN401 - either operation
    """Run an empty block on a loop."""

    async def main() -> BaseException | None:
        try:
            async with operation:
                pass
        except BaseException as error:  # noqa: BLE001 - raised again outside
            return error
        return None

    if error := asyncio.run(main()):
        raise error


@pytest.mark.parametrize("error", [LimitError("limit"), SystemExit(143)], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("form", [run_block, run_async_block])
@pytest.mark.parametrize("hook", ["repo_sync_started", "repo_sync_finished"])
def test_operation_fires_finished_once_when_a_signal_handler_raises(
    hook: str, form: Callable[[Any], None], error: BaseException, install: Callable[[Any], None]
) -> None:
    """The host gets its exception, whether it arrives in a listener of `started` or of `finished`."""
    install(plain(error))
    results: list[str] = []
    hooks = Hooks(
        [
            listener("a", lambda body: results.append(body["result"]), "repo_sync_finished"),
            listener("b", raise_it_later if form is run_async_block else raise_it, hook),
        ]
    )
    with pytest.raises(type(error)):
        form(hooks.sync("zoo", importer_id="i", importer_type_id="t"))
    assert results == ["error" if hook == "repo_sync_started" else "success"]


@pytest.mark.parametrize("form", [run_block, run_async_block])
@pytest.mark.parametrize("has_journal", [False, True])
def test_signal_at_any_call_at_the_end_of_a_block_loses_no_finished(
    form: Callable[[Any], None], install: Callable[[Any], None], tmp_path: Path, *, has_journal: bool
) -> None:
    """Until a listener is called, `finished` is fired once more, as an error; never is it delivered twice."""
    install(plain(SystemExit(143)))
    results: list[str] = []
    journal = f"sqlite:///{tmp_path / 'journal.db'}" if has_journal else None
    plugin = listener("a", lambda body: results.append(body["result"]), "repo_sync_finished")
    hooks = Hooks({"a": plugin}, journal=journal)
    ends = {Operation.__exit__.__code__, Operation._afinish.__code__}
    moment, left, is_at_end = 0, 0, False

    def count(frame: FrameType, what: str, _: object) -> None:
        nonlocal left, is_at_end
        if what != "call" or "/pulp_hooks/" not in frame.f_code.co_filename:
            return
        if not is_at_end:
            is_at_end = frame.f_code in ends
            return
        if frame.f_code.co_name == "run_together":
            # From there on other tasks call the listeners, and none may be called twice.
            sys.setprofile(None)
            return
        left -= 1
        if not left:
            sys.setprofile(None)
            raise_it()

    while left <= 0:
        moment += 1
        left, is_at_end = moment, False
        operation = hooks.sync(f"zoo-{moment}", importer_id="i", importer_type_id="t")
        sys.setprofile(count)
        try:
            form(operation)
        except SystemExit:
            assert not left
        else:
            assert left
        finally:
            sys.setprofile(None)
        if hooks.journal is not None:
            wanted = Filter(event_type="repo-sync-finished", repo_id=f"zoo-{moment}")
            results = [event.id for event in hooks.journal.events(wanted).items]
        assert len(results) == 1, (moment, results)
        results.clear()
    hooks.close()
    assert moment > 20


@pytest.mark.parametrize("form", [run_block, run_async_block])
def test_signal_while_finished_is_delivered_is_not_hidden_by_the_exception_of_the_block(
    form: Callable[[Any], None], install: Callable[[Any], None]
) -> None:
    """As in a `finally` clause, the later exception propagates with the earlier one as its context."""
    install(plain(SystemExit(143)))
    listen = raise_it_later if form is run_async_block else raise_it
    hooks = Hooks([listener("a", listen, "repo_sync_finished")])

    operation = hooks.sync("zoo", importer_id="i", importer_type_id="t")

    def plain_form() -> None:
        with operation:
            raise ValueError("own")

    async def async_form() -> None:
        async with operation:
            raise ValueError("own")

    async def main() -> BaseException | None:
        try:
            await async_form()
        except BaseException as error:  # noqa: BLE001 - raised again outside
            return error
        return None

    if form is run_block:
        with pytest.raises(SystemExit):
            plain_form()
    else:
        assert isinstance(asyncio.run(main()), SystemExit)


def test_signal_while_a_report_is_read_leaves_fire(install: Callable[[Any], None]) -> None:
    """A signal may also arrive in foreign code of the host's report."""

    class Slow(dict[str, Any]):
        def items(self) -> Any:  # noqa: ANN401 - it returns nothing
            raise_it()

    install(plain(LimitError("limit")))
    with pytest.raises(LimitError):
        Hooks([listener("a", lambda: None)]).fire("repo-sync-started", BODY, call_report=Slow())


def test_signal_while_a_failure_is_logged_leaves_fire(install: Callable[[Any], None]) -> None:
    """A signal may also arrive while a failure is logged."""
    install(plain(LimitError("limit")))
    logger = logging.getLogger("pulp_hooks.dispatch")

    def interrupt(_: logging.LogRecord) -> bool:
        raise_it()
        return True

    logger.addFilter(interrupt)
    try:
        with pytest.raises(LimitError):
            fire(Hooks([listener("a", fails)]))
    finally:
        logger.removeFilter(interrupt)


def test_exception_without_traceback_is_not_from_a_handler() -> None:
    """An exception that was not raised has no traceback and no handler."""
    assert not raised_by_signal_handler(ValueError())
