"""Running coroutines from synchronous code, with or without a running event loop in the thread."""

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import TypeAlias, cast

_LOOK_SECONDS = 0.5
"""Interval at which a thread that waits for a helper handles signals."""


def is_loop_running() -> bool:
    """Return whether the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_to_end(awaitable: Awaitable[object]) -> object:
    """Await an object on a new event loop and return its result.

    The loop runs in this thread, or in a helper thread if this thread already runs a loop.
    """
    running = _Running(awaitable)
    pool_call = _call_in_native_thread()
    if pool_call is not None:
        running.run_in_helper(pool_call)
    elif is_loop_running():
        # One thread cannot run two loops.
        running.run_in_helper(_call_in_thread)
    else:
        running.run()
    for error in running.failures:
        raise error
    return running.result


class _Running:
    """An awaitable on a new event loop.

    Attributes:
        failures: The exception raised by the awaitable, or nothing.
        result: The value returned by the awaitable.
    """

    def __init__(self, awaitable: Awaitable[object]) -> None:
        self.failures: list[BaseException] = []
        self.result: object = None
        self._awaitable = awaitable
        self._task: asyncio.Task[None] | None = None
        self._is_left = False

    def run(self) -> None:
        """Run in this thread."""
        # Without a loop factory, `Runner` would replace the thread's current event loop, which is the host's.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._awaited())

    def run_in_helper(self, call: "_Call") -> None:
        """Run in another thread and wait for the end.

        Args:
            call: Calls a function in another thread, and waits until it has returned.
        """
        context = contextvars.copy_context()
        try:
            call(lambda: context.run(self._help))
        finally:
            # If a signal handler of the host raised, nobody waits for the result any more.
            self._is_left = True
            if self._task is not None:
                with suppress(RuntimeError):  # the task has ended and its loop is closed
                    self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def _help(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            self.failures.append(error)

    async def _awaited(self) -> None:
        self._task = asyncio.current_task()
        if self._is_left:
            raise asyncio.CancelledError
        try:
            self.result = await self._awaitable
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the loop would format a foreign exception, which may raise
            self.failures.append(error)


_Call: TypeAlias = Callable[[Callable[[], None]], object]


def _call_in_thread(work: Callable[[], None]) -> None:
    # Not a future: an exception from a signal handler would leave its Condition locked.
    busy = threading.Lock()

    def run() -> None:
        try:
            work()
        finally:
            busy.release()

    busy.acquire()
    threading.Thread(target=run, name="pulp_hooks", daemon=True).start()
    # Without a timeout, a signal that the system delivers to another thread would not wake this one to handle it.
    while not busy.acquire(timeout=_LOOK_SECONDS):
        pass


def _call_in_native_thread() -> _Call | None:
    """Return a function that calls another in a native thread if gevent or eventlet has replaced threads, else `None`.

    All greenlets share one thread, which can run only one event loop.
    """
    gevent = sys.modules.get("gevent")
    if gevent is not None and "gevent.monkey" in sys.modules and gevent.monkey.is_module_patched("threading"):
        return cast("_Call", gevent.get_hub().threadpool.apply)
    eventlet = sys.modules.get("eventlet")
    if eventlet is not None and eventlet.patcher.is_monkey_patched("thread"):
        return cast("_Call", import_module("eventlet.tpool").execute)
    return None
