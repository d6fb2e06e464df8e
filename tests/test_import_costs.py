"""Tests of import costs: plugin modules must not import what only hosts need."""

import subprocess
import sys

import pytest

import pulp_hooks


def modules_after(code: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has imported after this code."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("code", "not_loaded"),
    [
        ("import pulp_hooks", ["pluggy", "marshmallow", "asyncio", "click", "sqlalchemy", "urllib3"]),
        ("from pulp_hooks import hookimpl", ["marshmallow", "asyncio", "click", "importlib_metadata"]),
        ("from pulp_hooks import Event, EventType, BodyError", ["marshmallow", "asyncio", "click", "pluggy"]),
        ("from pulp_hooks.bodies.types import RepoSyncFinished", ["marshmallow", "asyncio", "click", "pluggy"]),
        ("from pulp_hooks import Hooks", ["sqlalchemy", "celery", "opentelemetry", "click", "urllib3"]),
        ("from pulp_hooks import *", ["click", "sqlalchemy", "urllib3", "filelock"]),
    ],
)
def test_import_loads_no_module_that_it_does_not_need(code: str, not_loaded: list[str]) -> None:
    """Each import loads this package, and no heavy module that it does not need."""
    loaded = modules_after(code)
    assert "pulp_hooks" in loaded
    assert loaded.isdisjoint(not_loaded)


def test_host_side_loads_what_it_needs() -> None:
    """The facade does load marshmallow and pluggy, so the test above would notice them."""
    assert modules_after("from pulp_hooks import Hooks") >= {"marshmallow", "pluggy"}


@pytest.mark.parametrize("name", pulp_hooks.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """Every name in `__all__` exists and is listed by `dir`."""
    public: object = getattr(pulp_hooks, name)
    assert getattr(public, "__name__", name) == name
    assert name in dir(pulp_hooks)


def test_unknown_name_is_an_attribute_error() -> None:
    """An unknown name raises `AttributeError`."""
    with pytest.raises(AttributeError, match="module 'pulp_hooks' has no attribute 'fire'"):
        getattr(pulp_hooks, "fire")  # noqa: B009 - as an attribute a type checker refuses it
