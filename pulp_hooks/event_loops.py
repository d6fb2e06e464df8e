"""Running coroutines to their end, whatever loop the caller runs or does not run."""

import asyncio
import contextvars
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor


def is_loop_running() -> bool:
    """Tell whether the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_to_end(awaitable: Awaitable[object]) -> None:
    """Run it on an event loop of its own: in this thread, or in a helper where this one runs a loop already."""

    async def awaited() -> None:
        await awaitable

    def run() -> None:
        # A loop factory leaves the thread's current event loop as the host has set it.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(awaited())

    if not is_loop_running():
        run()
        return
    # One thread cannot run two loops.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pulp_hooks") as helper:
        helper.submit(contextvars.copy_context().run, run).result()
