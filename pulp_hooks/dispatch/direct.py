"""Direct dispatch: call the listeners of an event now, in turn or concurrently, and log failures."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import TypeVar, cast

from pulp_hooks.dispatch.copies import Original
from pulp_hooks.dispatch.guard import Guard
from pulp_hooks.dispatch.outcomes import Outcome, exception_to_log
from pulp_hooks.event import Event
from pulp_hooks.foreign_code import Raised
from pulp_hooks.safe_logger import safe_logger

_T = TypeVar("_T")

_log = safe_logger("pulp_hooks.dispatch")


def run_in_turn(guards: Sequence[Guard], original: Original) -> list[Outcome]:
    """Run the guards one after the other, and return their outcomes.

    Raises:
        BaseException: Ctrl-C, or an exception raised by a signal handler of the host.
    """
    outcomes = []
    for guard in guards:
        outcome = guard.run(original)
        if outcome.error is not None:
            _log_failure(outcome, original.event)
        outcomes.append(outcome)
    return outcomes


async def run_together(
    guards: Sequence[Guard],
    original: Original,
    hold: Callable[[Callable[[], list[Outcome]]], list[Outcome]],
    context: Context,
) -> list[Outcome]:
    """Run the guards concurrently: the `async def` ones on the caller's loop, the others in order in one thread.

    Args:
        guards: The guards.
        original: The event.
        hold: Calls a function and keeps the listeners open meanwhile; the thread continues if the caller is canceled.
        context: The context of the calls; each gets a copy.

    Returns:
        The outcomes, in the order of the guards.

    Raises:
        BaseException: Ctrl-C, or an exception raised by a signal handler of the host.
    """
    loop = asyncio.get_running_loop()
    caller = cast("asyncio.Task[object]", asyncio.current_task())
    before = caller.cancelling()
    plain = [guard for guard in guards if not guard.is_async]

    async def in_thread() -> list[Outcome]:
        if not plain:
            return []
        return await loop.run_in_executor(None, lambda: context.run(hold, lambda: run_in_turn(plain, original)))

    async def on_loop(guard: Guard) -> Outcome:
        outcome = await guard.run_async(original, is_canceled)
        if outcome.error is not None:
            _log_failure(outcome, original.event)
        return outcome

    def is_canceled() -> bool:
        return caller.cancelling() > before

    # Other tasks and a thread call the listeners from here on, whatever is raised in this one.
    original.is_handed_out = True
    first, *others = await asyncio.gather(
        _carried(in_thread()),
        *(loop.create_task(_carried(on_loop(guard)), context=context.copy()) for guard in guards if guard.is_async),
    )
    # Raised in the caller's task: raised from a task of its own, it would stop the caller's loop.
    for result in (first, *others):
        if isinstance(result, Raised):
            raise result.error
    from_thread, from_loop = iter(cast("list[Outcome]", first)), iter(cast("list[Outcome]", others))
    return [next(from_loop if guard.is_async else from_thread) for guard in guards]


async def _carried(running: Awaitable[_T]) -> _T | Raised:
    try:
        return await running
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - the caller raises it again
        return Raised(error)


def _log_failure(outcome: Outcome, event: Event) -> None:
    _log.error(
        "listener %s failed in %s, event %s: %s",
        *(outcome.listener, outcome.hook, event.id, outcome.error),
        exc_info=exception_to_log([outcome]),
        extra={
            "event_id": event.id,
            "listener": outcome.listener,
            "hook": outcome.hook,
            "status": outcome.status.value,
            "seconds": outcome.seconds,
            "error": outcome.error,
        },
    )
