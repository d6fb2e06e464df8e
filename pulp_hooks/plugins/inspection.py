"""What a plugin implements, and all in it that pluggy would accept in silence and never call, or call wrongly."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pulp_hooks.event_types import EventType
from pulp_hooks.hookspecs import PROJECT_NAME
from pulp_hooks.problems import Problem
from pulp_hooks.signals import interruption_in, raised_by_signal_handler
from pulp_hooks.text import one_line, type_name

HOOKS = {event_type.hook_name: event_type for event_type in EventType}
"""The event type of each hook, by the hook's name."""

ARGUMENTS = ("body", "event")
"""The arguments that an implementation may take."""

_MARKER = f"{PROJECT_NAME}_impl"
"""Attribute that pluggy's marker sets on what it marks."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """One implementation of one hook.

    Attributes:
        event_type: The event type whose hook this is.
        function: A function or bound method.
        arguments: Names of the arguments that it takes, in its order.
        tryfirst: Whether it asks to be called before the others.
        trylast: Whether it asks to be called behind the others.
    """

    event_type: EventType
    function: Callable[..., object]
    arguments: tuple[str, ...]
    tryfirst: bool = False
    trylast: bool = False


def inspect_plugin(plugin: object, name: str) -> tuple[list[Implementation], list[Problem]]:
    """Find the hook implementations of a plugin, and what is wrong with it.

    Args:
        plugin: A module, or an object with methods.
        name: Name of the plugin, for the problems.

    Returns:
        The implementations that can be called as they are, and the problems.
    """
    implementations: list[Implementation] = []
    problems: list[Problem] = []

    def inspect_attributes() -> None:
        if inspect.isclass(plugin):
            raise _RefusedError(
                f"it is the class {plugin.__qualname__}, not an object",
                "let the entry point name an instance or a module, or derive the class from pulp_hooks.Notifier",
            )
        if inspect.isroutine(plugin):
            raise _RefusedError(
                f"it is a {type_name(plugin)}, not a module or object", "let the entry point name its module"
            )
        for attribute in sorted(set(dir(plugin)), key=str):
            try:
                implementations.extend(_implementations(plugin, attribute))
            except _RefusedError as refused:
                problems.append(Problem(name, refused.cause, refused.remedy, hook=attribute))
        if not implementations and not problems:
            raise _RefusedError(
                "it implements none of the four hooks", "mark a function with @hookimpl that has a hook's name"
            )

    try:
        inspect_attributes()
    except _RefusedError as refused:
        problems.append(Problem(name, refused.cause, refused.remedy))
    except BaseException as error:
        # A foreign object may raise anything when it is looked at.
        if interruption_in(error, None):
            raise
        cause = f"it cannot be inspected: {one_line(error)}"
        problems.append(Problem(name, cause, "let the entry point name a plain module or object"))
    return implementations, problems


def marked_names(owner: object) -> list[str]:
    """Give the names of the attributes that are marked as implementations, whatever else is wrong with them."""
    return [name for name in dir(owner) if _options(inspect.getattr_static(owner, name, None)) is not None]


class _RefusedError(Exception):
    """Something that cannot be used as it is."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


def _implementations(plugin: object, name: str) -> Iterator[Implementation]:
    """Give the implementation that an attribute is, if it is one."""
    # Read without running any code of the plugin, which a property would do.
    stored = inspect.getattr_static(plugin, name, None)
    # isinstance() would ask the object for its __class__, which a proxy may answer with an error.
    if issubclass(type(stored), property | functools.cached_property):
        function = getattr(stored, "fget", None) or getattr(stored, "func", None)
        if name in HOOKS or _options(function) is not None:
            raise _RefusedError(
                f"it is a {type_name(stored)}, which would have to be run to be found", "make it a plain def"
            )
        return
    try:
        value = getattr(plugin, name)
    except BaseException as error:
        # A foreign descriptor may raise anything, and mostly marks nothing.
        if interruption_in(error, None):
            raise
        if name in HOOKS or _options(stored) is not None:
            raise _RefusedError(f"it cannot be read: {one_line(error)}", "make it a plain method") from None
        return
    options = _options(value) if _options(value) is not None else _options(stored)
    if options is not None:
        yield _implementation(name, stored, value, options)
    elif name in HOOKS and callable(value):
        raise _RefusedError("it has the name of a hook but is not marked", "put @hookimpl over it, or rename it")


def _options(value: object) -> dict[str, Any] | None:
    try:
        if not callable(value) and not isinstance(value, staticmethod | classmethod):
            return None
        options = getattr(value, _MARKER, None)
    except Exception as error:
        # A proxy for something that is not there now is no hook.
        if raised_by_signal_handler(error):
            raise
        return None
    return options if isinstance(options, dict) else None


def _implementation(name: str, stored: object, value: Any, options: dict[str, Any]) -> Implementation:  # noqa: ANN401 - whatever was marked
    hook = options.get("specname") or name
    if hook not in HOOKS:
        nearest = difflib.get_close_matches(hook, HOOKS, n=1)
        suggestion = f"did you mean {nearest[0]}?" if nearest else f"the hooks are {', '.join(HOOKS)}"
        raise _RefusedError(f"there is no hook {hook!r}", suggestion)
    for wrapper in ("wrapper", "hookwrapper"):
        if options.get(wrapper):
            raise _RefusedError("a wrapper could swallow what other listeners do", f"take {wrapper}=True out")
    if isinstance(stored, staticmethod | classmethod) and _options(stored.__func__) is None:
        kind = type(stored).__name__
        raise _RefusedError(f"@hookimpl stands over @{kind}", f"put @{kind} over @hookimpl")
    function = value.__func__ if inspect.ismethod(value) else value
    if not inspect.isfunction(function):
        raise _RefusedError(f"it is a {type_name(function)}, not a plain function or method", "wrap it in a def")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _RefusedError("it is a generator function, whose code nobody would run", "take the yield out")
    return Implementation(
        event_type=HOOKS[hook],
        function=value,
        arguments=tuple(_arguments(value)),
        tryfirst=bool(options.get("tryfirst")),
        trylast=bool(options.get("trylast")),
    )


def _arguments(function: Any) -> list[str]:  # noqa: ANN401 - a function or bound method
    try:
        if inspect.ismethod(function):
            first = next(iter(inspect.signature(function.__func__).parameters), None)
            if first is None or first in ARGUMENTS:
                raise _RefusedError("it is a method without self", "add self in front of its arguments")
        arguments = list(_named_arguments(inspect.signature(function)))
        # A decorator may have put a function around it that takes other arguments than the one whose name it bears.
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except (TypeError, ValueError) as error:
        raise _RefusedError(f"it cannot be called with its arguments: {error}", "make it a plain function") from None
    return arguments


def _named_arguments(signature: inspect.Signature) -> Iterator[str]:
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise _RefusedError(f"it takes {parameter}, which would get nothing", "name its arguments: body, event")
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise _RefusedError(f"its argument {name!r} is keyword-only and would get nothing", "take the * out")
        if parameter.default is not parameter.empty:
            if name in ARGUMENTS:
                raise _RefusedError(
                    f"its argument {name!r} has a default and would get nothing else", "take the default out"
                )
            continue
        if name not in ARGUMENTS:
            nearest = difflib.get_close_matches(name, ARGUMENTS, n=1)
            suggestion = f"did you mean {nearest[0]}?" if nearest else "it may take body, event, both or neither"
            raise _RefusedError(f"it takes an unknown argument {name!r}", suggestion)
        yield name
