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


def inspect_plugin(
    plugin: object, name: str, distribution: str | None = None
) -> tuple[list[Implementation], list[Problem]]:
    """Find the hook implementations of a plugin, and what is wrong with it.

    Args:
        plugin: A module, or an object with methods.
        name: Name of the plugin, for the problems.
        distribution: The package that brings it, for the problems.

    Returns:
        The implementations that can be called as they are, and the problems.
    """
    implementations: list[Implementation] = []
    problems: list[Problem] = []

    def problem(cause: str, remedy: str, hook: str | None = None) -> None:
        problems.append(Problem(name, cause, remedy, distribution, hook))

    if inspect.isclass(plugin):
        problem(
            f"it is the class {plugin.__qualname__}, not an object",
            "let the entry point name an instance or a module, or derive the class from pulp_hooks.Notifier",
        )
        return [], problems
    for attribute in _candidates(plugin):
        try:
            implementations.append(attribute.implementation())
        except _RefusedError as refused:
            problem(refused.cause, refused.remedy, attribute.name)
    if not implementations and not problems:
        problem("it implements none of the four hooks", "mark a function with @hookimpl that has a hook's name")
    return implementations, problems


class _RefusedError(Exception):
    """An attribute that cannot be used as an implementation."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class _Attribute:
    """An attribute of a plugin that is marked as an implementation, or has the name of a hook."""

    name: str
    stored: object
    value: object
    options: dict[str, Any] | None

    def implementation(self) -> Implementation:
        if self.options is None:
            raise _RefusedError("it has the name of a hook but is not marked", "put @hookimpl over it, or rename it")
        hook = self.options.get("specname") or self.name
        if hook not in HOOKS:
            nearest = difflib.get_close_matches(hook, HOOKS, n=1)
            suggestion = f"did you mean {nearest[0]}?" if nearest else f"the hooks are {', '.join(HOOKS)}"
            raise _RefusedError(f"there is no hook {hook!r}", suggestion)
        if self.options.get("wrapper") or self.options.get("hookwrapper"):
            raise _RefusedError("a wrapper could swallow what other listeners do", "take wrapper=True out")
        if isinstance(self.stored, staticmethod | classmethod) and not hasattr(self.stored.__func__, _MARKER):
            kind = type(self.stored).__name__
            raise _RefusedError(f"@hookimpl stands over @{kind}", f"put @{kind} over @hookimpl")
        if not (inspect.isfunction(self.value) or inspect.ismethod(self.value)):
            raise _RefusedError(
                f"it is a {type(self.value).__name__}, not a plain function or method", "wrap it in a def"
            )
        if inspect.isgeneratorfunction(self.value) or inspect.isasyncgenfunction(self.value):
            raise _RefusedError("it is a generator function, whose code nobody would run", "take the yield out")
        return Implementation(
            event_type=HOOKS[hook],
            function=self.value,
            arguments=tuple(_arguments(self.value)),
            tryfirst=bool(self.options.get("tryfirst")),
            trylast=bool(self.options.get("trylast")),
        )


def _candidates(plugin: object) -> Iterator[_Attribute]:
    for name in dir(plugin):
        try:
            # Read without running any code of the plugin, which a property or __getattr__ would do.
            stored = inspect.getattr_static(plugin, name)
        except AttributeError:
            continue
        if isinstance(stored, property | functools.cached_property):
            if name in HOOKS:
                yield _Attribute(name, stored, stored, {})
            continue
        try:
            value = getattr(plugin, name)
        except Exception:  # noqa: BLE001, S112 - a foreign descriptor may raise anything, and marks nothing
            continue
        options = _options(value) or _options(stored)
        if options is not None or (name in HOOKS and callable(value)):
            yield _Attribute(name, stored, value, options)


def _options(value: object) -> dict[str, Any] | None:
    options = (
        getattr(value, _MARKER, None) if callable(value) or isinstance(value, staticmethod | classmethod) else None
    )
    return options if isinstance(options, dict) else None


def _arguments(function: Callable[..., object]) -> Iterator[str]:
    for parameter in inspect.signature(function).parameters.values():
        name = parameter.name
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
