"""Discovery: the plugins that are installed, found by their entry points in one scan."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from importlib_metadata import EntryPoint, entry_points

from pulp_hooks.hookspecs import PROJECT_NAME
from pulp_hooks.problems import Problem


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
        return str(self.entry_point.dist.metadata["Name"]) if self.entry_point.dist else "unknown"

    @cached_property
    def version(self) -> str:
        """Version of that package."""
        return str(self.entry_point.dist.metadata["Version"]) if self.entry_point.dist else "unknown"

    @property
    def origin(self) -> str:
        """The package with its version, for messages."""
        return f"{self.distribution} {self.version}"

    def load(self) -> tuple[object, Problem | None]:
        """Import the plugin.

        Returns:
            What the entry point names, or null and the problem.
        """
        try:
            return self.entry_point.load(), None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a module may raise anything at import, SystemExit too
            cause = f"{self.entry_point.value} cannot be imported: {type(error).__name__}: {_first_line(error)}"
            command = f"python -c 'import {self.entry_point.module}'"
            remedy = f"`{command}` shows where; mend it, uninstall {self.distribution}, or block {self.name}"
            return None, Problem(self.name, cause, remedy, self.origin)


def find_installed() -> tuple[list[Installed], list[Problem]]:
    """Find the installed plugins, in order of name.

    Returns:
        The plugins, without those whose name several packages claim, and a problem for each such name.
    """
    claims: dict[str, list[Installed]] = defaultdict(list)
    for entry_point in entry_points(group=PROJECT_NAME):
        claims[entry_point.name].append(Installed(entry_point.name, entry_point))
    installed: list[Installed] = []
    problems: list[Problem] = []
    for name, claimants in sorted(claims.items()):
        if len(claimants) == 1:
            installed += claimants
            continue
        origins = sorted(claimant.origin for claimant in claimants)
        problems.append(
            Problem(
                name,
                f"{len(claimants)} entry points claim this name, so none is loaded: {', '.join(origins)}",
                f"uninstall all but one: `pip uninstall {claimants[0].distribution}`",
                " and ".join(origins),
            )
        )
    return installed, problems


def _first_line(error: BaseException) -> str:
    try:
        return next(iter(str(error).splitlines()), "")
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything
        return ""
