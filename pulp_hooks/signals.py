"""Detection of exceptions from the host's signal handlers, which must reach the host wherever they surface."""

import signal
from collections.abc import Iterator
from functools import partial
from inspect import CO_VARARGS
from itertools import pairwise
from types import CodeType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any, cast

_MOST_EXCEPTIONS = 1000
"""Maximum number of exceptions of a chain or group that are searched."""

_traceback_of = BaseException.__dict__["__traceback__"].__get__
_cause_of = BaseException.__dict__["__cause__"].__get__
_context_of = BaseException.__dict__["__context__"].__get__
_members_of = BaseExceptionGroup.__dict__["exceptions"].__get__


def interruption_in(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return the exception meant for the host, which is `KeyboardInterrupt` or comes from one of its signal handlers.

    Foreign code may have wrapped it in another exception or in a group, so causes, contexts and groups are searched.

    Args:
        error: The exception raised by foreign code.
        handled: The exception that was being handled when that code was called. It is only a context and is skipped.
    """
    for found in related(error, handled):
        if is_interruption(found):
            return found
    return None


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception itself is meant for the host: Ctrl-C, or from one of its signal handlers."""
    return issubclass(type(error), KeyboardInterrupt) or raised_by_signal_handler(error)


def raised_by_signal_handler(error: BaseException) -> bool:
    """Return whether a signal handler of the host raised an exception, judged by its traceback.

    A listener may limit its own work with an alarm. An exception from that handler is a failure of the listener.
    """
    trace: TracebackType | None = _traceback_of(error)
    installed: set[CodeType] | None = None
    callers: list[CodeType] = []
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        code = frame.f_code
        number = _signal_of(frame)
        # A handler may have deleted its arguments, so also compare code. All uses of a decorator share code with
        # `*args`, which proves nothing.
        if number is not None or not code.co_flags & CO_VARARGS:
            installed = set(_installed_handlers()) if installed is None else installed
            if number is not None or code in installed:
                is_reset = number in _TIMERS and code not in installed and "signal" not in code.co_names
                return not is_reset and not any(_installs(caller, code) for caller in callers)
        callers.append(code)
    return False


def related(error: BaseException, handled: BaseException | None = None) -> Iterator[BaseException]:
    """Yield an exception, then its causes, contexts and group members, even if its class overrides these attributes.

    Args:
        error: The exception.
        handled: An exception to skip, together with all exceptions related only through it.
    """
    seen = {id(handled)}
    waiting = [error]
    while waiting and len(seen) <= _MOST_EXCEPTIONS:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [linked for linked in (_context_of(found), _cause_of(found)) if linked is not None]
        waiting += members_of(found)


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions in a group, or nothing for another exception."""
    found: tuple[BaseException, ...] = _members_of(error) if issubclass(type(error), BaseExceptionGroup) else ()
    return found


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group and its nested groups, in order, or the exception itself if it is not a group."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        members = members_of(found)
        waiting += reversed(members)
        if not members:
            yield found


def _signal_of(frame: FrameType) -> int | None:
    """Return the signal that a frame handles, found by its arguments: the signal's number and the interrupted frame."""
    code = frame.f_code
    flags = code.co_flags
    if frame.f_back is None or not code.co_argcount + bool(flags & CO_VARARGS):
        return None
    names = [*code.co_varnames[: code.co_argcount]]
    if flags & CO_VARARGS:
        names.append(code.co_varnames[code.co_argcount + code.co_kwonlyargcount])
    values = frame.f_locals
    arguments: list[object] = []
    for name in names:
        value = values.get(name)
        arguments += value if type(value) is tuple else [value]
    for number, interrupted in pairwise(arguments):
        if interrupted is frame.f_back and type(number) in (int, signal.Signals) and number in signal.valid_signals():
            return cast("int", number)
    return None


def _installs(caller: CodeType, handler: CodeType) -> bool:
    """Return whether interrupted code installed the handler: whether it names both `signal` and the handler."""
    named = {*caller.co_names, *caller.co_varnames, *caller.co_freevars, *caller.co_cellvars}
    return "signal" in named and (handler.co_name in named or handler in caller.co_consts)


_TIMERS = frozenset((signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF))
"""Time limits of a call use these, and reset them afterwards. If one is reset, the limit was set within the call."""


def _installed_handlers() -> Iterator[CodeType]:
    """Yield the code of each installed handler."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while type(handler) is partial:
            handler = handler.func
        if type(handler) is not FunctionType and type(handler) is not MethodType and callable(handler):
            handler = getattr(type(handler), "__call__", None)  # noqa: B004 - the function of the method is needed
        if type(handler) is MethodType:
            handler = handler.__func__
        if type(handler) is FunctionType:
            yield handler.__code__
