"""Fixtures for settings: a clean environment, and functions that write and read a file."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pulp_hooks.settings.reading import FILE_NAME, ReadSettings, read_settings

_NOBODY = 65534


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, which is empty, in an environment without our variables."""
    for variable in [name for name in os.environ if name.startswith("PULP_HOOKS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[[str], Path]:
    """Return a function that writes `pulp-hooks.toml` in the working directory."""

    def write(text: str) -> Path:
        path = folder / FILE_NAME
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def read(write: Callable[[str], Path]) -> Callable[[str], ReadSettings]:
    """Return a function that writes the settings and reads them."""
    return lambda text: read_settings(write(text))


@pytest.fixture
def forbidden(folder: Path) -> Callable[[], AbstractContextManager[None]]:
    """Return a context manager in which the working directory cannot be entered, not even by root."""

    @contextmanager
    def block() -> Iterator[None]:
        user = os.geteuid()
        folder.chmod(0)
        if user == 0:
            os.seteuid(_NOBODY)
        try:
            yield
        finally:
            if user == 0:
                os.seteuid(user)
            folder.chmod(0o700)

    return block
