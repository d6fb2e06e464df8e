"""Tests of what an import brings along: an author's module must not pay for what a host needs."""

import subprocess
import sys

import pytest

import pulp_hooks


def modules_after(code: str) -> set[str]:
    """Give the names of all modules that a fresh interpreter has loaded when it has run this code."""
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
def test_import_leaves_alone_what_it_does_not_need(code: str, not_loaded: list[str]) -> None:
    """Each import loads this package, and none of the heavy modules that only others need."""
    loaded = modules_after(code)
    assert "pulp_hooks" in loaded
    assert loaded.isdisjoint(not_loaded)


def test_host_side_loads_what_it_needs() -> None:
    """The facade does load marshmallow and pluggy, so the tests above would see them."""
    assert modules_after("from pulp_hooks import Hooks") >= {"marshmallow", "pluggy"}


@pytest.mark.parametrize("name", pulp_hooks.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """What `__all__` promises is there, goes by its name, and is listed by `dir`."""
    public: object = getattr(pulp_hooks, name)
    assert getattr(public, "__name__", name) == name
    assert name in dir(pulp_hooks)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that the package does not have is missing in the usual way."""
    with pytest.raises(AttributeError, match="module 'pulp_hooks' has no attribute 'fire'"):
        getattr(pulp_hooks, "fire")  # noqa: B009 - as an attribute a type checker refuses it
