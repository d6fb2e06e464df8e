"""Discovery: the plugins that are installed, found by their entry points in one scan."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import Any

from importlib_metadata import EntryPoint, distributions

from pulp_hooks.foreign_code import Raised, call_foreign
from pulp_hooks.hookspecs import PROJECT_NAME
from pulp_hooks.problems import Problem
from pulp_hooks.signals import raised_by_signal_handler
from pulp_hooks.text import one_line

_VALUE = re.compile(r"\s*(?P<module>[\w.]+)\s*(?::\s*(?P<attribute>[\w.]+)\s*)?(?:\[.*\])?\s*$")
"""The value of an entry point (PyPA, "Entry points specification")."""


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
    def folder(self) -> str:
        """The folder that the package is installed in, for messages."""
        return _place(self.entry_point.dist)[0] if self.entry_point.dist else _UNKNOWN

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
        # In parts, as an attribute may be one of an attribute, and extras may follow: `module:Class.attribute [extra]`.
        module, attribute = value.partition("[")[0].strip(), ""
        if match := _VALUE.match(value):
            module, attribute = match["module"], match["attribute"] or ""
        code = f"import {module}" + (f"; {module}.{attribute}" if attribute else "")
        remedy = f"`python -c {quote(code)}` shows where; fix it, uninstall {self.distribution}, or block {self.name!r}"
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
    for name, everybody in sorted(claims.items()):
        # Metadata without a name is what an interrupted installation leaves behind.
        claimants = [claimant for claimant in everybody if claimant.distribution != _UNKNOWN] or everybody
        if len(claimants) == 1:
            installed += claimants
            continue
        contested.append(claimants[0])
        origins = sorted(claimant.origin for claimant in claimants)
        places = sorted(f"{claimant.origin} in {claimant.folder}" for claimant in claimants)
        commands = sorted({f"`pip uninstall {quote(claimant.distribution)}`" for claimant in claimants})
        problems.append(
            Problem(
                name,
                f"{len(claimants)} entry points claim this name, so none is loaded: {', '.join(places)}",
                f"uninstall all but one: {' or '.join(commands)}"
                if len(commands) > 1
                else "the package has to keep one of them",
                " and ".join(origins),
            )
        )
    return installed, contested, problems


def _entry_points() -> tuple[list[EntryPoint], list[Problem]]:
    found: list[EntryPoint] = []
    problems: list[Problem] = []
    seen: set[tuple[str, ...]] = set()
    for distribution in distributions():
        try:
            if PROJECT_NAME not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, owner = _metadata(distribution, "Name"), _in_use(distribution)
            # A folder may be on the path twice, and several distributions may have one owner.
            key = (name, *_place(owner)) if owner else ()
            if owner and (name == _UNKNOWN or key not in seen):
                found += owner.entry_points.select(group=PROJECT_NAME)
                seen.add(key)
        except Exception as error:
            # Its files may have any fault; one damaged package must not hide all the others.
            if raised_by_signal_handler(error):
                raise
            name = _metadata(distribution, "Name")
            cause = f"its entry points cannot be read: {one_line(error)}"
            remedy = f"install it again: `pip install --force-reinstall {quote(name)}`"
            problems.append(Problem(name, cause, remedy, name))
    return found, problems


def _in_use(distribution: Any) -> Any:  # noqa: ANN401 - a Distribution, or what stands for one
    """Return the distribution of this name that is imported from; null for the leftover of one that is gone.

    Others are the same package further down the path, and leftovers: pip renames `audit-1.0.dist-info` to
    `~udit-1.0.dist-info` before it removes it, and a folder without `METADATA` hides nothing.
    """
    name = _metadata(distribution, "Name")
    if name == _UNKNOWN:
        return distribution
    return next((owner for owner in distributions(name=name) if _metadata(owner, "Name") != _UNKNOWN), None)


def _place(distribution: Any) -> tuple[str, str]:  # noqa: ANN401 - as above
    """Return the folder that a distribution is installed in, and its version."""
    return os.path.realpath(distribution.locate_file("")), _metadata(distribution, "Version")


_UNKNOWN = "unknown"


def _metadata(distribution: Any, key: str) -> str:  # noqa: ANN401 - a Distribution, or what stands for one
    try:
        return str(distribution.metadata[key] or _UNKNOWN)
    except Exception as error:
        # Its files may be missing or damaged.
        if raised_by_signal_handler(error):
            raise
        return _UNKNOWN
