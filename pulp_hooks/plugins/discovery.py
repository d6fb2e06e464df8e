"""Discovery: the plugins that are installed, found by their entry points in one scan."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from importlib_metadata import EntryPoint, distributions, entry_points

from pulp_hooks.foreign_code import Raised, call_foreign
from pulp_hooks.hookspecs import PROJECT_NAME
from pulp_hooks.problems import Problem
from pulp_hooks.signals import raised_by_signal_handler
from pulp_hooks.text import one_line


@dataclass(frozen=True)
class Installed:
    """An installed plugin, not loaded yet.

    Attributes:
        name: Name of the entry point, and so of the plugin.
        entry_point: What to load.
    """

    name: str
    entry_point: EntryPoint

    @cached_property
    def distribution(self) -> str:
        """Name of the package that brings it; read when asked for, because a host needs it for messages only."""
        return _metadata(self.entry_point.dist, "Name")

    @cached_property
    def version(self) -> str:
        """Version of that package."""
        return _metadata(self.entry_point.dist, "Version")

    @property
    def origin(self) -> str:
        """The package with its version, for messages."""
        return f"{self.distribution} {self.version}"

    def load(self) -> tuple[object, Problem | None]:
        """Import the plugin.

        Returns:
            What the entry point names, or null and the problem.
        """
        plugin = call_foreign(self.entry_point.load)
        if type(plugin) is not Raised:
            return plugin, None
        value = self.entry_point.value
        cause = f"{value} cannot be imported: {one_line(plugin.error)}"
        module, _, attribute = value.partition(":")
        code = f"from {module} import {attribute}" if attribute else f"import {module}"
        command = f"python -c '{code}'"
        remedy = f"`{command}` shows where; mend it, uninstall {self.distribution}, or block {self.name}"
        return None, Problem(self.name, cause, remedy, self.origin)


def find_installed() -> tuple[list[Installed], list[Installed], list[Problem]]:
    """Find the installed plugins, in order of name.

    Returns:
        The plugins; one for each name that several packages claim, of which none may be loaded; and the problems.
    """
    claims: dict[str, list[Installed]] = defaultdict(list)
    found, problems = _entry_points()
    for entry_point in found:
        claims[entry_point.name].append(Installed(entry_point.name, entry_point))
    installed: list[Installed] = []
    contested: list[Installed] = []
    for name, claimants in sorted(claims.items()):
        if len(claimants) == 1:
            installed += claimants
            continue
        contested.append(claimants[0])
        origins = sorted(claimant.origin for claimant in claimants)
        problems.append(
            Problem(
                name,
                f"{len(claimants)} entry points claim this name, so none is loaded: {', '.join(origins)}",
                f"uninstall all but one: `pip uninstall {claimants[0].distribution}`"
                if len(set(origins)) > 1
                else "the package has to keep one of them",
                " and ".join(origins),
            )
        )
    return installed, contested, problems


def _entry_points() -> tuple[list[EntryPoint], list[Problem]]:
    try:
        return list(entry_points(group=PROJECT_NAME)), []
    except Exception as error:
        # One damaged package, plugin or not, would hide all the others.
        if raised_by_signal_handler(error):
            raise
        return _entry_points_one_by_one()


def _entry_points_one_by_one() -> tuple[list[EntryPoint], list[Problem]]:
    found: dict[str, list[EntryPoint]] = {}
    problems: list[Problem] = []
    for distribution in distributions():
        name = _metadata(distribution, "Name")
        if name in found and name != _UNKNOWN:
            continue  # a second one of the same name is never imported from
        try:
            found.setdefault(name, []).extend(distribution.entry_points.select(group=PROJECT_NAME))
        except Exception as error:
            # Its files may have any fault.
            if raised_by_signal_handler(error):
                raise
            cause = f"its entry points cannot be read: {one_line(error)}"
            problems.append(Problem(name, cause, f"install it again: `pip install --force-reinstall {name}`", name))
    return [entry_point for group in found.values() for entry_point in group], problems


_UNKNOWN = "unknown"


def _metadata(distribution: Any, key: str) -> str:  # noqa: ANN401 - a Distribution, or what stands for one
    try:
        return str(distribution.metadata[key] or _UNKNOWN)
    except Exception as error:
        # Its files may be missing or damaged.
        if raised_by_signal_handler(error):
            raise
        return _UNKNOWN
