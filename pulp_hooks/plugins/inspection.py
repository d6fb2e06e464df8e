"""Inspection of plugins: their implementations, and mistakes that pluggy accepts but never calls or calls wrongly."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pulp_hooks.event_types import EventType
from pulp_hooks.hookspecs import PROJECT_NAME
from pulp_hooks.problems import Problem
from pulp_hooks.signals import interruption_in, raised_by_signal_handler
from pulp_hooks.text import did_you_mean, one_line, type_name

HOOKS = {event_type.hook_name: event_type for event_type in EventType}
"""The event type of each hook, by the hook's name."""

ARGUMENTS = ("body", "event")
"""The arguments that an implementation may take."""

_DID_YOU_MEAN = "did you mean {}?"

_MARKER = f"{PROJECT_NAME}_impl"
"""Attribute that pluggy's `@hookimpl` marker sets."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """One implementation of one hook.

    Attributes:
        event_type: The event type of the hook.
        function: A function or bound method.
        arguments: Names of its arguments, in order.
        tryfirst: Whether to call it before the others.
        trylast: Whether to call it after the others.
    """

    event_type: EventType
    function: Callable[..., object]
    arguments: tuple[str, ...]
    tryfirst: bool = False
    trylast: bool = False


def inspect_plugin(plugin: object, name: str) -> tuple[list[Implementation], list[Problem]]:
    """Return the hook implementations of a plugin, and its problems.

    Returns:
        The implementations that can be called, and the problems.
    """
    implementations: list[Implementation] = []
    problems: list[Problem] = []

    def inspect_attributes() -> None:
        if inspect.isclass(plugin):
            raise _RefusedError(
                f"{plugin.__qualname__} is a class, not an object",
                "point the entry point at an instance or a module, or derive the class from pulp_hooks.Notifier",
            )
        if inspect.isroutine(plugin):
            raise _RefusedError(
                f"it is a {type_name(plugin)}, not a module or object", "point the entry point at its module"
            )
        for attribute in sorted(set(dir(plugin)), key=str):
            try:
                implementations.extend(_implementations(plugin, attribute))
            except _RefusedError as refused:
                problems.append(Problem(name, refused.cause, refused.remedy, hook=attribute))
        if not implementations and not problems:
            raise _RefusedError(
                "it implements none of the four hooks", "name a function after a hook and decorate it with @hookimpl"
            )

    try:
        inspect_attributes()
    except _RefusedError as refused:
        problems.append(Problem(name, refused.cause, refused.remedy))
    except BaseException as error:
        # Reading attributes of a foreign object may raise anything.
        if interruption_in(error, None):
            raise
        cause = f"it cannot be inspected: {one_line(error)}"
        problems.append(Problem(name, cause, "point the entry point at a plain module or object"))
    return implementations, problems


def marked_names(owner: object) -> list[str]:
    """Return the names of the attributes marked with `@hookimpl`, valid or not."""
    return [name for name in dir(owner) if _options(inspect.getattr_static(owner, name, None)) is not None]


class _RefusedError(Exception):
    """A plugin or attribute that cannot be called."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


def _implementations(plugin: object, name: str) -> Iterator[Implementation]:
    """Yield the implementation in an attribute, if it is one."""
    # Read without running code of the plugin, such as a property.
    stored = inspect.getattr_static(plugin, name, None)
    # isinstance() reads `__class__`, which raises in some proxies.
    if issubclass(type(stored), property | functools.cached_property):
        function = getattr(stored, "fget", None) or getattr(stored, "func", None)
        if name in HOOKS or _options(function) is not None:
            raise _RefusedError(f"it is a {type_name(stored)}, which runs code when it is read", "make it a plain def")
        return
    try:
        value = getattr(plugin, name)
    except BaseException as error:
        # A foreign descriptor may raise anything, and is rarely a hook.
        if interruption_in(error, None):
            raise
        if name in HOOKS or _options(stored) is not None:
            raise _RefusedError(f"it cannot be read: {one_line(error)}", "make it a plain method") from None
        return
    options = _options(value) if _options(value) is not None else _options(stored)
    if options is not None:
        yield _implementation(name, stored, value, options)
    elif name in HOOKS and callable(value):
        raise _RefusedError(
            "it has the name of a hook but is not decorated", "decorate it with @hookimpl, or rename it"
        )


def _options(value: object) -> dict[str, Any] | None:
    try:
        if not callable(value) and not isinstance(value, staticmethod | classmethod):
            return None
        options = getattr(value, _MARKER, None)
    except Exception as error:
        # A proxy without a target is not a hook.
        if raised_by_signal_handler(error):
            raise
        return None
    return options if isinstance(options, dict) else None


def _implementation(name: str, stored: object, value: Any, options: dict[str, Any]) -> Implementation:  # noqa: ANN401 - any decorated object
    hook = options.get("specname") or name
    if hook not in HOOKS:
        otherwise = f"rename it; the hooks are {', '.join(HOOKS)}"
        raise _RefusedError(f"there is no hook {hook!r}", did_you_mean(hook, HOOKS, otherwise, form=_DID_YOU_MEAN))
    for wrapper in ("wrapper", "hookwrapper"):
        if options.get(wrapper):
            raise _RefusedError("a hook wrapper could break other listeners", f"remove {wrapper}=True")
    if isinstance(stored, staticmethod | classmethod) and _options(stored.__func__) is None:
        kind = type(stored).__name__
        raise _RefusedError(f"@hookimpl is above @{kind}", f"put @{kind} above @hookimpl")
    function = value.__func__ if inspect.ismethod(value) else value
    if not inspect.isfunction(function):
        raise _RefusedError(f"it is a {type_name(function)}, not a plain function or method", "wrap it in a def")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _RefusedError("it is a generator function, which would never run", "remove the yield")
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
                raise _RefusedError("it is a method without self", "add self as the first argument")
        arguments = list(_named_arguments(inspect.signature(function)))
        # A decorator may have wrapped it in a function with other arguments.
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except (TypeError, ValueError) as error:
        raise _RefusedError(f"it cannot be called with its arguments: {error}", "make it a plain function") from None
    return arguments


def _named_arguments(signature: inspect.Signature) -> Iterator[str]:
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise _RefusedError(f"it takes {parameter}, which would be empty", "name its arguments: body, event")
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise _RefusedError(f"its argument {name!r} is keyword-only, so pluggy cannot pass it", "remove the *")
        if parameter.default is not parameter.empty:
            if name in ARGUMENTS:
                raise _RefusedError(
                    f"its argument {name!r} has a default, so pluggy would not pass it", "remove the default"
                )
            continue
        if name not in ARGUMENTS:
            otherwise = "take body, event, both or neither"
            suggestion = did_you_mean(name, ARGUMENTS, otherwise, form=_DID_YOU_MEAN)
            raise _RefusedError(f"it takes an unknown argument {name!r}", suggestion)
        yield name
