"""Exceptions that the host's signal handlers raise: they are addressed to the host, wherever they surface."""

import signal
from collections.abc import Iterator
from functools import partial
from inspect import CO_VARARGS
from itertools import pairwise
from types import CodeType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any, cast

_MOST_EXCEPTIONS = 1000
"""So many exceptions of a chain or group are looked at."""

_traceback_of = BaseException.__dict__["__traceback__"].__get__
_cause_of = BaseException.__dict__["__cause__"].__get__
_context_of = BaseException.__dict__["__context__"].__get__
_members_of = BaseExceptionGroup.__dict__["exceptions"].__get__


def interruption_in(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return what was addressed to the host: Ctrl-C, or the exception of one of its signal handlers.

    Foreign code may have wrapped it in another exception or in a group, so causes, contexts and groups are searched.

    Args:
        error: What foreign code raised.
        handled: What was being handled before that code was called, which is its context and not its doing.
    """
    for found in related(error, handled):
        if issubclass(type(found), KeyboardInterrupt) or raised_by_signal_handler(found):
            return found
    return None


def raised_by_signal_handler(error: BaseException) -> bool:
    """Return whether a signal handler of the host raised an exception, as its traceback tells.

    A listener may bound its own work with an alarm. What its handler raises is the listener's failure.
    """
    trace: TracebackType | None = _traceback_of(error)
    installed: set[CodeType] | None = None
    callers: list[CodeType] = []
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        code = frame.f_code
        number = _signal_of(frame)
        # A handler may have deleted its arguments. Code with `*args` is left out: all uses of a decorator share it.
        if number is not None or not code.co_flags & CO_VARARGS:
            installed = set(_installed_handlers()) if installed is None else installed
            if number is not None or code in installed:
                is_reset = number in _TIMERS and code not in installed and "signal" not in code.co_names
                return not is_reset and not any(_installs(caller, code) for caller in callers)
        callers.append(code)
    return False


def related(error: BaseException, handled: BaseException | None = None) -> Iterator[BaseException]:
    """Yield an exception, then its causes, contexts and group members, whatever its class says about them.

    Args:
        error: The exception.
        handled: An exception that is left out, and with it all that is related through it.
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
    """Return the exceptions in a group; none of another exception."""
    found: tuple[BaseException, ...] = _members_of(error) if issubclass(type(error), BaseExceptionGroup) else ()
    return found


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group, however deep, in order; an exception that is not a group is its own leaf."""
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
    """Return the signal that a frame handles: it was called with its number and with the frame that it interrupted."""
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
    """Return whether code that a handler has interrupted has installed it: it names both `signal` and the handler."""
    named = {*caller.co_names, *caller.co_varnames, *caller.co_freevars, *caller.co_cellvars}
    return "signal" in named and (handler.co_name in named or handler in caller.co_consts)


_TIMERS = frozenset((signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF))
"""Whoever bounds a call with one of these resets it afterwards: if it is reset, the bound was inside of the call."""


def _installed_handlers() -> Iterator[CodeType]:
    """Yield the code of each handler that is installed."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while type(handler) is partial:
            handler = handler.func
        if type(handler) is not FunctionType and type(handler) is not MethodType and callable(handler):
            handler = getattr(type(handler), "__call__", None)  # noqa: B004 - its function is what runs
        if type(handler) is MethodType:
            handler = handler.__func__
        if type(handler) is FunctionType:
            yield handler.__code__
