"""The command line as a user runs it: real processes, and packages installed for them in a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import EXAMPLE_PLUGINS

Run = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[[str, str], None]

GOOD = """
from pulp_hooks import hookimpl

@hookimpl
def repo_sync_finished(body, event):
    print("heard", body["repo_id"], event.type)
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The folder from which the commands' interpreter imports packages."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
def install(packages: Path) -> Install:
    """Install a plugin: one module, and the metadata with its entry point."""

    def install(name: str, code: str) -> None:
        (packages / f"{name}_module.py").write_text(code)
        info = packages / f"{name}_dist-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[pulp_hooks]\n{name} = {name}_module\n")

    return install


@pytest.fixture
def environment(packages: Path) -> dict[str, str]:
    """Variables of the commands: the packages of the test are found, the installed example plugins are blocked."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULP_HOOKS", "_PULP_HOOKS"))}
    return kept | {
        "PYTHONPATH": str(packages),
        "PULP_HOOKS_BLOCK": ",".join(EXAMPLE_PLUGINS),
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run `pulp-hooks` in an empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*arguments: str, text: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pulp_hooks", *arguments],
            capture_output=True,
            check=False,
            cwd=folder,
            encoding="utf-8",
            env=environment | variables,
            input=text,
            timeout=60,
        )

    return run
