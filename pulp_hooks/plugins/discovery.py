"""Discovery: find the installed plugins by their entry points, in one scan."""

import csv
import hashlib
import os
import re
from base64 import urlsafe_b64encode
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import Any

from importlib_metadata import DistributionFinder, EntryPoint, MetadataPathFinder, distributions

from pulp_hooks.foreign_code import Raised, call_foreign
from pulp_hooks.hookspecs import PROJECT_NAME
from pulp_hooks.problems import Problem
from pulp_hooks.signals import raised_by_signal_handler
from pulp_hooks.text import one_line

_VALUE = re.compile(r"\s*(?P<module>[\w.]+)\s*(?::\s*(?P<attribute>[\w.]+)\s*)?(?:\[.*\])?\s*$")
"""Value of an entry point (PyPA, "Entry points specification")."""


@dataclass(frozen=True)
class Installed:
    """An installed plugin, not loaded yet.

    Attributes:
        name: Name of the entry point, and so of the plugin.
        entry_point: The entry point.
    """

    name: str
    entry_point: EntryPoint

    @cached_property
    def distribution(self) -> str:
        """Name of the package; read on first use, because a host needs it for messages only."""
        return _metadata(self.entry_point.dist, "Name")

    @cached_property
    def version(self) -> str:
        """Version of the package."""
        return _metadata(self.entry_point.dist, "Version")

    @property
    def folder(self) -> str:
        """Folder of the installed package, for messages."""
        return _place(self.entry_point.dist)[0] if self.entry_point.dist else _UNKNOWN

    @property
    def origin(self) -> str:
        """Name and version of the package, for messages."""
        return f"{self.distribution} {self.version}"

    def load(self) -> tuple[object, Problem | None]:
        """Import the plugin.

        Returns:
            The plugin, or null and the problem.
        """
        plugin = call_foreign(self.entry_point.load)
        if type(plugin) is not Raised:
            return plugin, None
        value = self.entry_point.value
        cause = f"{value} cannot be imported: {one_line(plugin.error)}"
        # The attribute may be dotted, and extras may follow: `module:Class.attribute [extra]`.
        module, attribute = value.partition("[")[0].strip(), ""
        if match := _VALUE.match(value):
            module, attribute = match["module"], match["attribute"] or ""
        code = f"import {module}" + (f"; {module}.{attribute}" if attribute else "")
        remedy = f"run `python -c {quote(code)}` to see where, uninstall {self.distribution}, or block {self.name!r}"
        return None, Problem(self.name, cause, remedy, self.origin)


def find_installed() -> tuple[list[Installed], list[Installed], list[Problem]]:
    """Find the installed plugins, in order of name.

    Returns:
        The plugins; one claimant of each name that several packages claim, which must not be loaded; the problems.
    """
    claims: dict[str, list[Installed]] = defaultdict(list)
    found, problems = _entry_points()
    for entry_point in found:
        claims[entry_point.name].append(Installed(entry_point.name, entry_point))
    installed: list[Installed] = []
    contested: list[Installed] = []
    for name, everybody in sorted(claims.items()):
        # An interrupted installation leaves metadata without a name.
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
                f"{len(claimants)} entry points have this name, so none is loaded: {', '.join(places)}",
                f"uninstall all but one: {' or '.join(commands)}"
                if len(commands) > 1
                else "remove all but one from the package",
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
            owner, stale = _in_use(distribution)
            # A folder may be on the path twice, and stale metadata has the same owner.
            name = _metadata(owner, "Name")
            key = (name, *_place(owner)) if owner else ()
            if owner and (name == _UNKNOWN or key not in seen):
                found += owner.entry_points.select(group=PROJECT_NAME)
                problems += [_left_over(rival, owner) for rival in stale]
                seen.add(key)
        except Exception as error:
            # Metadata may be damaged in any way; one damaged package must not hide the others.
            if raised_by_signal_handler(error):
                raise
            name = _metadata(distribution, "Name")
            cause = f"its entry points cannot be read: {one_line(error)}"
            remedy = f"reinstall it: `pip install --force-reinstall {quote(name)}`"
            problems.append(Problem(name, cause, remedy, name))
    return found, problems


def _in_use(distribution: Any) -> tuple[Any, list[Any]]:  # noqa: ANN401 - a Distribution, or a duck type of it
    """Return the distribution of this name that imports use, and stale metadata of the same name in its folder.

    The distribution is null if only leftovers have this name. Leftovers are folders without `METADATA`, and those that
    pip renames before it removes them, such as `audit-1.0.dist-info` to `~udit-1.0.dist-info`.
    """
    name = _metadata(distribution, "Name")
    if name == _UNKNOWN:
        return distribution, []
    first = next((owner for owner in distributions(name=name) if _metadata(owner, "Name") != _UNKNOWN), None)
    if first is None:
        return None, []
    folder = str(first.locate_file(""))
    beside = DistributionFinder.Context(name=name, path=[folder])  # type: ignore[no-untyped-call] # it has no types
    rivals = [
        other for other in MetadataPathFinder().find_distributions(beside) if _metadata(other, "Name") != _UNKNOWN
    ]
    if len(rivals) <= 1:
        return first, []
    # The installed files match their RECORD, also after a downgrade. File times are no use: copies change them.
    *stale, owner = sorted(rivals, key=lambda rival: (_is_intact(rival), _order(_metadata(rival, "Version"))))
    return owner, stale


def _left_over(stale: Any, owner: Any) -> Problem:  # noqa: ANN401 - as above
    name, path = _metadata(owner, "Name"), _metadata_path(stale)
    cause = (
        f"stale metadata of version {_metadata(stale, 'Version')} in {path}; "
        f"version {_metadata(owner, 'Version')} in {_metadata_path(owner)} is used"
    )
    return Problem(name, cause, f"delete the stale metadata: `rm -r {quote(path)}`", f"{name} {_place(stale)[1]}")


def _is_intact(distribution: Any) -> bool:  # noqa: ANN401 - as above
    """Return whether the files of a distribution match the checksums in its RECORD."""
    try:
        for path, checksum, _ in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            algorithm, _, expected = checksum.partition("=")
            if algorithm:
                digest = hashlib.new(algorithm, distribution.locate_file(path).read_bytes()).digest()
                if urlsafe_b64encode(digest).decode().rstrip("=") != expected:
                    return False
    except (OSError, ValueError):
        return False
    return True


def _order(version: str) -> tuple[object, ...]:
    """Return a sort key of a version; a pre-release comes before its release."""
    rest = version.lstrip("0123456789.")
    release = version.removesuffix(rest)
    is_final = not re.match(r"[-_]?(?:a|b|c|rc|pre|dev)", rest, re.IGNORECASE)
    return _numbers(release), is_final, _numbers(rest)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _metadata_path(distribution: Any) -> str:  # noqa: ANN401 - as above
    # There is no public attribute.
    return str(getattr(distribution, "_path", distribution.locate_file("")))


def _place(distribution: Any) -> tuple[str, str]:  # noqa: ANN401 - as above
    """Return the folder and the version of a distribution."""
    return os.path.realpath(distribution.locate_file("")), _metadata(distribution, "Version")


_UNKNOWN = "unknown"


def _metadata(distribution: Any, key: str) -> str:  # noqa: ANN401 - as above
    try:
        return str(distribution.metadata[key] or _UNKNOWN)
    except Exception as error:
        # Its files may be missing or damaged.
        if raised_by_signal_handler(error):
            raise
        return _UNKNOWN
