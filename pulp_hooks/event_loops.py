"""Running coroutines to their end, whatever loop the caller runs or does not run."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable
from contextlib import suppress
from typing import cast


def is_loop_running() -> bool:
    """Tell whether the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_to_end(awaitable: Awaitable[object]) -> None:
    """Await something on an event loop of its own: in this thread, or in a helper if this one runs a loop already."""
    tasks: list[asyncio.Task[None]] = []
    failures: list[BaseException] = []
    is_left = False
    # Not a future: it has a Condition, which a signal handler's exception would leave locked.
    running = threading.Lock()

    async def awaited() -> None:
        tasks.append(cast("asyncio.Task[None]", asyncio.current_task()))
        if is_left:
            raise asyncio.CancelledError
        await awaitable

    def run() -> None:
        # A loop factory leaves the thread's current event loop as the host has set it.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(awaited())

    def run_in_helper() -> None:
        try:
            context.run(run)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)
        finally:
            running.release()

    if not is_loop_running():
        run()
        return
    # One thread cannot run two loops.
    context = contextvars.copy_context()
    running.acquire()
    try:
        threading.Thread(target=run_in_helper, name="pulp_hooks", daemon=True).start()
        running.acquire()
    finally:
        # A signal handler of the host may have raised meanwhile: then nobody waits for the rest.
        is_left = True
        for task in tuple(tasks):
            with suppress(RuntimeError):  # its loop is closed: it has ended
                task.get_loop().call_soon_threadsafe(task.cancel)
    for error in failures:
        raise error
