"""Running coroutines to their end, whatever loop the caller runs or does not run."""

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import TypeAlias, cast

_LOOK_SECONDS = 0.5
"""How long a thread waits for a helper before it looks whether there are signals."""


def is_loop_running() -> bool:
    """Tell whether the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_to_end(awaitable: Awaitable[object]) -> object:
    """Await something on an event loop of its own, and return its result.

    It runs in this thread, or in a helper if this one runs a loop already.
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
    """Something that is awaited on an event loop of its own.

    Attributes:
        failures: What it raised, if it did.
        result: What it returned.
    """

    def __init__(self, awaitable: Awaitable[object]) -> None:
        self.failures: list[BaseException] = []
        self.result: object = None
        self._awaitable = awaitable
        self._task: asyncio.Task[None] | None = None
        self._is_left = False

    def run(self) -> None:
        """Run it in this thread."""
        # A loop factory leaves the thread's current event loop as the host has set it.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._awaited())

    def run_in_helper(self, call: "_Call") -> None:
        """Run it in another thread, and wait for that.

        Args:
            call: Calls a function in another thread, and returns when that has returned.
        """
        context = contextvars.copy_context()
        try:
            call(lambda: context.run(self._help))
        finally:
            # A signal handler of the host may have raised meanwhile: then nobody waits for the rest.
            self._is_left = True
            if self._task is not None:
                with suppress(RuntimeError):  # its loop is closed: it has ended
                    self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def _help(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.failures.append(error)

    async def _awaited(self) -> None:
        self._task = asyncio.current_task()
        if self._is_left:
            raise asyncio.CancelledError
        try:
            self.result = await self._awaitable
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a loop would show a foreign exception, which may raise then
            self.failures.append(error)


_Call: TypeAlias = Callable[[Callable[[], None]], object]


def _call_in_thread(work: Callable[[], None]) -> None:
    # Not a future: it has a Condition, which a signal handler's exception would leave locked.
    busy = threading.Lock()

    def run() -> None:
        try:
            work()
        finally:
            busy.release()

    busy.acquire()
    threading.Thread(target=run, name="pulp_hooks", daemon=True).start()
    # A signal that the system delivers to another thread does not wake this one, whose handler is to run.
    while not busy.acquire(timeout=_LOOK_SECONDS):
        pass


def _call_in_native_thread() -> _Call | None:
    """Return what calls a function in a thread of the system if gevent or eventlet has replaced threads, else null.

    All greenlets share one thread, which cannot run an event loop for each of them.
    """
    gevent = sys.modules.get("gevent")
    if gevent is not None and "gevent.monkey" in sys.modules and gevent.monkey.is_module_patched("threading"):
        return cast("_Call", gevent.get_hub().threadpool.apply)
    eventlet = sys.modules.get("eventlet")
    if eventlet is not None and eventlet.patcher.is_monkey_patched("thread"):
        return cast("_Call", import_module("eventlet.tpool").execute)
    return None
