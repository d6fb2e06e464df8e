"""Fixtures for plugins: installed distributions and imported modules, all real."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest
from importlib_metadata import entry_points

from pulp_hooks.hooks import Hooks
from pulp_hooks.problems import Problem

PREAMBLE = "import functools\n\nfrom pulp_hooks import Notifier, hookimpl\n\n"
"""What every module starts with that the tests write."""


@dataclass
class Site:
    """A folder on `sys.path` with installed distributions in it."""

    folder: Path
    _opened: list[Hooks] = field(default_factory=list)

    def install(
        self,
        distribution: str,
        entry_points: Mapping[str, str],
        modules: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
    ) -> Path:
        """Install a distribution with entry points in our group and modules; return its metadata folder.

        A module's source may use `hookimpl`, `Notifier` and `functools`.
        """
        metadata = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
        (metadata / "entry_points.txt").write_text(f"[pulp_hooks]\n{lines}")
        for name, source in (modules or {}).items():
            (self.folder / f"{name}.py").write_text(PREAMBLE + dedent(source))
        importlib.invalidate_caches()
        return metadata

    def plugin(self, name: str, source: str, attribute: str = "", *, version: str = "1.0") -> str:
        """Install plugin `name` as distribution `dist-name` with module `mod_name`; return the name of the module."""
        module = f"mod_{name}".replace("-", "_")
        target = f"{module}:{attribute}" if attribute else module
        self.install(f"dist-{name}", {name: target}, {module: source}, version=version)
        return module

    def discover(self, settings: Path | None = None) -> Hooks:
        """Return discovered hooks, which are closed at the end of the test."""
        hooks = Hooks.discover(settings)
        self._opened.append(hooks)
        return hooks

    def problem(self) -> Problem:
        """Return the only problem of discovered hooks."""
        (problem,) = self.discover().problems
        return problem

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a new interpreter that finds these distributions."""
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def close(self) -> None:
        """Close all hooks, and remove the modules imported from here."""
        for hooks in self._opened:
            hooks.close()
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(self.folder)):
                del sys.modules[name]


@pytest.fixture(scope="session")
def foreign() -> frozenset[str]:
    """Return the names of the distributions with plugins in the test environment."""
    return frozenset(point.dist.name for point in entry_points(group="pulp_hooks") if point.dist)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("PULP_HOOKS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: frozenset[str]) -> Iterator[Site]:
    """Return a site without plugins; the plugins of the test environment are hidden."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    site = Site(folder)
    for distribution in foreign:
        # The first distribution of a name on the path wins, as for imports.
        site.install(distribution, {})
    yield site
    site.close()


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], ModuleType]:
    """Return a function that writes and imports a module, which may use `hookimpl`, `Notifier` and `functools`."""

    def make(source: str) -> ModuleType:
        file = tmp_path / "written.py"
        file.write_text(PREAMBLE + dedent(source))
        spec = importlib.util.spec_from_file_location("written", file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return make
