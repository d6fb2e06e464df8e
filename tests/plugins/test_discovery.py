"""Discovery of installed plugins by their entry points; those that cannot be loaded are reported."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulp_hooks.dispatch.outcomes import Status
from pulp_hooks.hooks import Hooks
from pulp_hooks.plugins.discovery import find_installed
from pulp_hooks.plugins.listeners import State
from tests.plugins.conftest import PREAMBLE

if TYPE_CHECKING:
    from tests.plugins.conftest import Site

SOUND = "@hookimpl\ndef repo_sync_started(body): ..."

BROKEN_IMPORTS = {
    "ImportError": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "missing name": ("from functools import no_such_name", "ImportError: cannot import name 'no_such_name'"),
    "SyntaxError": ("def repo_sync_started(body) ...", "SyntaxError: "),
    "null bytes": ("\0", "SyntaxError: "),
    "exception": ("raise RuntimeError('no database')", "RuntimeError: no database"),
    "sys.exit": ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
    "silent exit": ("raise SystemExit", "SystemExit"),
    "GeneratorExit": ("raise GeneratorExit('gone')", "GeneratorExit: gone"),
    "BaseException": ("raise BaseException('bare')", "BaseException: bare"),
    "exception group": ("raise ExceptionGroup('many', [ValueError('one')])", "ExceptionGroup: many"),
    "several lines": ("raise RuntimeError('first\\nsecond')", "RuntimeError: first"),
    "recursion": ("def turn(): turn()\nturn()", "RecursionError: "),
    "exception that cannot be shown": (
        "class ShyError(Exception):\n    def __str__(self): raise RuntimeError('no')\nraise ShyError",
        "ShyError",
    ),
}
"""Source of a module, and the beginning of the reason reported."""

BROKEN_TARGETS = {
    "missing module": ("no_such_module_at_all", "ModuleNotFoundError"),
    "missing submodule": ("mod_sound.inner", "ModuleNotFoundError"),
    "missing attribute": ("mod_sound:no_such_name", "no_such_name"),
    "missing inner attribute": ("mod_sound:repo_sync_started.inner", "inner"),
    "no reference at all": ("mod_sound/repo!", "mod_sound/repo!"),
    "nothing": ("", ""),
}
"""What an entry point names, and a part of the reason reported."""


def names(hooks: Hooks, state: State) -> list[str]:
    """Return the names of the listeners in this state."""
    return [listener.name for listener in hooks.listeners if listener.state is state]


def test_no_plugins_is_not_a_problem(site: "Site") -> None:
    """Without plugins there are no listeners and no problems, and a host can fire."""
    hooks = site.discover()
    assert (hooks.listeners, hooks.problems) == ((), ())
    assert hooks.repo_sync_started(repo_id="pulp-f17").outcomes == ()


def test_plugin_is_found_with_its_distribution(site: "Site") -> None:
    """An entry point in the group is a plugin, with the name and version of its package."""
    site.plugin("shout", SOUND, version="2.5")
    (installed,), _, problems = find_installed()
    assert problems == []
    assert (installed.name, installed.distribution, installed.version) == ("shout", "dist-shout", "2.5")
    (listener,) = site.discover().listeners
    assert (listener.name, listener.distribution, listener.version) == ("shout", "dist-shout", "2.5")
    assert (listener.state, listener.hooks) == (State.LOADED, ("repo_sync_started",))


def test_module_object_and_attribute_of_an_object_are_plugins(site: "Site") -> None:
    """An entry point may name a module, an object in it, or an attribute of such an object."""
    source = "class Listener:\n    @hookimpl\n    def repo_sync_started(self, body): ...\nplugin = Listener()"
    inner = f"{source}\nclass Shelf: ...\nShelf.plugin = plugin"
    site.plugin("module", SOUND)
    site.plugin("object", source, "plugin")
    site.plugin("attribute", inner, "Shelf.plugin")
    hooks = site.discover()
    assert hooks.problems == ()
    assert names(hooks, State.LOADED) == ["attribute", "module", "object"]


def test_one_distribution_may_bring_several_plugins(site: "Site") -> None:
    """Each entry point of a package is a plugin."""
    site.install("many", {"b": "mod_many", "a": "mod_more"}, {"mod_many": SOUND, "mod_more": SOUND})
    assert names(site.discover(), State.LOADED) == ["a", "b"]


def test_plugins_come_in_order_of_name(site: "Site") -> None:
    """Neither the order of installation nor the packages' names decide the order."""
    for name in ("b", "c", "a", "Z", "a2", "a10"):
        site.plugin(name, SOUND)
    hooks = site.discover()
    in_order = ["Z", "a", "a10", "a2", "b", "c"]
    assert [listener.name for listener in hooks.listeners] == in_order
    assert [outcome.listener for outcome in hooks.repo_sync_started(repo_id="r").outcomes] == in_order


def test_other_groups_are_left_alone(site: "Site") -> None:
    """Entry points of other programs are neither loaded nor reported."""
    metadata = site.install("other", {}, {"mod_other": "raise RuntimeError('imported')"})
    (metadata / "entry_points.txt").write_text(
        "[console_scripts]\nother = mod_other:main\n[pulp.hooks]\nx = mod_other\n"
    )
    assert site.discover().listeners == ()
    assert "mod_other" not in sys.modules


def test_installed_distributions_are_listed_once(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery lists the installed distributions once, however many plugins there are."""
    scans: list[object] = []

    class Finder(MetaPathFinder):
        @staticmethod
        def find_distributions(context: object = None) -> Iterable[object]:
            scans.append(context)
            return []

    for name in "abc":
        site.plugin(name, SOUND)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert len(site.discover().listeners) == 3
    assert len(scans) == 1


@pytest.mark.parametrize("count", [2, 3])
def test_name_claimed_twice_is_not_loaded(site: "Site", count: int) -> None:
    """If several distributions claim a name, all are reported and none is imported; the other plugins load."""
    for number in range(count):
        site.install(f"rival-{number}", {"shout": f"mod_rival_{number}"}, {f"mod_rival_{number}": SOUND}, version="3")
    site.plugin("sound", SOUND)
    hooks = site.discover()
    (problem,) = hooks.problems
    assert problem.where == "shout"
    for number in range(count):
        assert f"rival-{number} 3" in problem.cause
        assert f"rival-{number} 3" in str(problem.distribution)
        assert f"mod_rival_{number}" not in sys.modules
    assert "pip uninstall rival-" in problem.remedy
    assert names(hooks, State.LOADED) == ["sound"]


def test_name_claimed_twice_is_listed_as_broken(site: "Site") -> None:
    """The list of listeners includes a contested name."""
    site.install("rival-a", {"shout": "mod_a"}, {"mod_a": SOUND})
    site.install("rival-b", {"shout": "mod_b"}, {"mod_b": SOUND})
    assert names(site.discover(), State.BROKEN) == ["shout"]


def test_name_claimed_twice_by_one_distribution_is_a_problem(site: "Site") -> None:
    """A package that lists a plugin twice is reported, and the other plugins load."""
    metadata = site.install("twice", {}, {"mod_twice": SOUND})
    (metadata / "entry_points.txt").write_text("[pulp_hooks]\nshout = mod_twice\nshout = mod_other\n")
    site.plugin("sound", SOUND)
    hooks = site.discover()
    assert [problem.where for problem in hooks.problems] == ["shout"]
    assert names(hooks, State.LOADED) == ["sound"]


def test_distribution_in_two_folders_of_the_path_is_loaded_once(
    site: "Site", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One package in two folders of the path is one plugin, with the version that imports use."""
    site.plugin("shout", SOUND, version="1.0")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(other)])
    type(site)(other).plugin("shout", "raise RuntimeError('the wrong one')", version="2.0")
    hooks = site.discover()
    assert hooks.problems == ()
    assert [(listener.name, listener.version) for listener in hooks.listeners] == [("shout", "1.0")]


@pytest.mark.parametrize(("source", "reason"), BROKEN_IMPORTS.values(), ids=BROKEN_IMPORTS)
def test_failing_import_is_a_problem(site: "Site", source: str, reason: str) -> None:
    """Any exception of an import is reported on one line, and the other plugins load."""
    module = site.plugin("broken", source)
    site.plugin("sound", SOUND)
    hooks = site.discover()
    (problem,) = hooks.problems
    assert (problem.where, problem.distribution) == ("broken", "dist-broken 1.0")
    assert f"{module} cannot be imported: {reason}" in problem.cause
    assert len(problem.cause.splitlines()) == 1
    assert f"python -c 'import {module}'" in problem.remedy
    assert "dist-broken" in problem.remedy
    assert (names(hooks, State.BROKEN), names(hooks, State.LOADED)) == (["broken"], ["sound"])


@pytest.mark.parametrize(("target", "reason"), BROKEN_TARGETS.values(), ids=BROKEN_TARGETS)
def test_entry_point_that_leads_nowhere_is_a_problem(site: "Site", target: str, reason: str) -> None:
    """A missing module or attribute and an invalid reference are reported, and the other plugins load."""
    site.plugin("sound", SOUND)
    site.install("lost", {"broken": target})
    hooks = site.discover()
    (problem,) = hooks.problems
    assert (problem.where, problem.distribution) == ("broken", "lost 1.0")
    assert reason in problem.cause
    assert problem.remedy
    assert (names(hooks, State.BROKEN), names(hooks, State.LOADED)) == (["broken"], ["sound"])


def test_ctrl_c_during_an_import_stops_discovery(site: "Site") -> None:
    """`KeyboardInterrupt` propagates, so Ctrl-C still works."""
    site.plugin("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Hooks.discover()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("METADATA", None, id="no metadata"),
        pytest.param("METADATA", b"", id="empty metadata"),
        pytest.param("METADATA", b"Metadata-Version: 2.1\n", id="metadata without name and version"),
        pytest.param("METADATA", b"Name: \xff\xfe\n", id="metadata that is no UTF-8"),
        pytest.param("entry_points.txt", b"[pulp_hooks]\nshout\n", id="entry point without a target"),
        pytest.param("entry_points.txt", b"[pulp_hooks\nshout = mod_shout\n", id="broken section"),
        pytest.param("entry_points.txt", b"\xff\xfe", id="entry points that are no UTF-8"),
    ],
)
def test_damaged_distribution_stops_no_other(site: "Site", file: str, content: bytes | None) -> None:
    """A package with damaged metadata does not keep other plugins from being loaded and listed."""
    metadata = site.install("damaged", {"broken": "no_such_module_at_all"})
    (metadata / file).unlink()
    if content is not None:
        (metadata / file).write_bytes(content)
    site.plugin("sound", SOUND)
    hooks = site.discover()
    assert ("sound", "dist-sound", "1.0") in [(x.name, x.distribution, x.version) for x in hooks.listeners]
    assert names(hooks, State.LOADED) == ["sound"]


def test_damaged_name_claimed_twice_stops_no_other(site: "Site") -> None:
    """Two packages without metadata that claim one name are reported, and the other plugins load."""
    for name in ("rival-a", "rival-b"):
        (site.install(name, {"shout": "mod_rival"}) / "METADATA").unlink()
    site.plugin("sound", SOUND)
    hooks = site.discover()
    assert [problem.where for problem in hooks.problems] == ["shout"]
    assert names(hooks, State.LOADED) == ["sound"]


def test_import_may_print_and_warn(site: "Site") -> None:
    """In a new interpreter a plugin that prints and warns during import is loaded."""
    site.plugin("noisy", f"import warnings\nprint('hello')\nwarnings.warn('soon gone', DeprecationWarning)\n{SOUND}")
    run = site.run(
        "-c",
        "from pulp_hooks import Hooks\n"
        "with Hooks.discover() as hooks:\n"
        "    print(hooks.problems, [listener.name for listener in hooks.listeners])",
    )
    assert run.stdout.splitlines() == ["hello", "() ['noisy']"]
    assert run.returncode == 0


def test_new_interpreter_loads_valid_plugins_and_lists_the_others(site: "Site") -> None:
    """A host in its own process, where warnings are errors, starts with broken plugins and calls the others."""
    for number, (source, _) in enumerate(BROKEN_IMPORTS.values()):
        site.plugin(f"broken-{number:02}", source)
    for number, (target, _) in enumerate(BROKEN_TARGETS.values()):
        site.install(f"lost-{number}", {f"lost-{number}": target})
    site.plugin("sound", "@hookimpl\ndef repo_sync_started(body): print(body['repo_id'])")
    run = site.run(
        *("-W", "error", "-c"),
        "import json, logging\n"
        "logging.disable()\n"
        "from pulp_hooks import Hooks\n"
        "with Hooks.discover() as hooks:\n"
        "    (outcome,) = hooks.repo_sync_started(repo_id='pulp-f17').outcomes\n"
        "    print(json.dumps([outcome.status, [problem.where for problem in hooks.problems]]))",
    )
    assert run.stderr == ""
    received, printed = run.stdout.splitlines()
    assert received == "pulp-f17"
    broken = [f"broken-{number:02}" for number in range(len(BROKEN_IMPORTS))]
    lost = [f"lost-{number}" for number in range(len(BROKEN_TARGETS))]
    assert json.loads(printed) == [Status.SUCCEEDED, broken + lost]


def test_check_command_names_the_broken_plugin(site: "Site") -> None:
    """`pulp-hooks check --json` prints plugin, distribution and reason as JSON, and exits with 1."""
    site.plugin("broken", "print('printed at import')\nraise RuntimeError('no database')")
    site.plugin("sound", SOUND)
    run = site.run("-m", "pulp_hooks", "check", "--json")
    assert run.returncode == 1
    answer = json.loads(run.stdout)
    assert (answer["ok"], answer["loaded"]) == (False, 1)
    (problem,) = answer["problems"]
    assert (problem["where"], problem["distribution"]) == ("broken", "dist-broken 1.0")
    assert "RuntimeError: no database" in problem["cause"]


def test_wheel_installed_by_pip_is_found(site: "Site", tmp_path: Path) -> None:
    """A new interpreter loads a plugin that pip installed from a wheel, with its version."""
    info = "pulp_hooks_shout-4.2.dist-info"
    wheel = tmp_path / "pulp_hooks_shout-4.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("shout.py", f"from pulp_hooks import hookimpl\n{SOUND}\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: pulp-hooks-shout\nVersion: 4.2\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", "[pulp_hooks]\nshout = shout\n")
        archive.writestr(f"{info}/RECORD", "")
    options = ["--no-index", "--no-deps", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site.folder), str(wheel)]
    subprocess.run(command, check=True, timeout=60)
    run = site.run("-m", "pulp_hooks", "listeners", "--json")
    (listener,) = json.loads(run.stdout)
    assert (listener["name"], listener["state"]) == ("shout", "loaded")
    assert (listener["distribution"], listener["version"]) == ("pulp-hooks-shout", "4.2")


def test_leftover_of_pip_claims_no_name(site: "Site") -> None:
    """Leftovers of pip and a folder without metadata neither hide the package nor claim its name."""
    left = site.install("audit", {"audit": "mod_audit"}, version="1.0")
    left.rename(left.with_name("~udit-1.0.dist-info"))
    (left.parent / "shop-1.0.dist-info").mkdir()
    site.install("audit", {"audit": "mod_audit"}, {"mod_audit": SOUND}, version="2.0")
    site.install("shop", {"shop": "mod_shop"}, {"mod_shop": SOUND}, version="2.0")
    hooks = site.discover()
    assert hooks.problems == ()
    assert [(listener.name, listener.version) for listener in hooks.listeners] == [("audit", "2.0"), ("shop", "2.0")]


def test_leftover_of_the_same_version_does_not_replace_the_package(site: "Site") -> None:
    """A reinstalled package may have other entry points than its leftovers."""
    left = site.install("audit", {"audit": "mod_gone", "old": "mod_gone"})
    left.rename(left.with_name("~udit-1.0.dist-info"))
    site.install("audit", {"audit": "mod_audit"}, {"mod_audit": SOUND})
    hooks = site.discover()
    assert (hooks.problems, names(hooks, State.LOADED)) == ((), ["audit"])


def test_leftover_of_an_uninstalled_package_is_not_a_plugin(site: "Site") -> None:
    """Nothing is imported, and nothing is reported."""
    left = site.install("audit", {"audit": "mod_gone"})
    left.rename(left.with_name("~udit-1.0.dist-info"))
    assert (site.discover().problems, site.discover().listeners) == ((), ())


def test_metadata_without_a_name_contests_no_name(site: "Site") -> None:
    """An interrupted installation leaves it; the package beside it is loaded."""
    (site.install("broken-install", {"audit": "mod_gone"}) / "METADATA").unlink()
    site.install("audit", {"audit": "mod_audit"}, {"mod_audit": SOUND})
    hooks = site.discover()
    assert (hooks.problems, names(hooks, State.LOADED)) == ((), ["audit"])


@pytest.mark.parametrize(("older", "newer"), [("1.0", "2.0"), ("9.0", "10.0"), ("2.0rc1", "2.0"), ("2.0", "2.0.post1")])
@pytest.mark.parametrize("later", ["older", "newer"])
def test_newest_of_two_complete_versions_is_used(site: "Site", older: str, newer: str, later: str) -> None:
    """Metadata of an older version does not replace a plugin, whichever was written last; `check` reports the fix."""
    infos = {
        version: site.install("audit", {"audit": "mod_audit" if version == newer else "mod_gone"}, version=version)
        for version in ([newer, older] if later == "older" else [older, newer])
    }
    (site.folder / "mod_audit.py").write_text(PREAMBLE + SOUND)
    hooks = site.discover()
    assert [(listener.name, listener.state, listener.version) for listener in hooks.listeners] == [
        ("audit", State.LOADED, newer)
    ]
    (problem,) = hooks.problems
    assert (
        problem.cause
        == f"stale metadata of version {older} in {infos[older]}; version {newer} in {infos[newer]} is used"
    )
    subprocess.run(["sh", "-c", problem.remedy.split("`")[1]], check=True)
    assert (site.discover().problems, infos[newer].exists()) == ((), True)


def test_installed_version_is_used_after_a_downgrade(site: "Site") -> None:
    """The files are those that the RECORD of the older version lists."""
    for version, source in (("2.0", "raise RuntimeError"), ("1.0", SOUND)):
        metadata = site.install("audit", {"audit": "mod_audit"}, {"mod_audit": source}, version=version)
        digest = hashlib.sha256((site.folder / "mod_audit.py").read_bytes()).digest()
        checksum = urlsafe_b64encode(digest).decode().rstrip("=")
        (metadata / "RECORD").write_text(f"mod_audit.py,sha256={checksum},1\n{metadata.name}/RECORD,,\n")
    hooks = site.discover()
    assert [(listener.name, listener.version) for listener in hooks.listeners] == [("audit", "1.0")]
    (problem,) = hooks.problems
    assert "stale metadata of version 2.0 in " in problem.cause


def test_folder_that_is_on_the_path_twice_is_read_once(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery, for example, puts the working directory on the path a second time."""
    site.plugin("sound", SOUND)
    monkeypatch.chdir(site.folder)
    for path in ("", str(site.folder / ".." / site.folder.name)):
        monkeypatch.syspath_prepend(path)
    hooks = site.discover()
    assert (hooks.problems, names(hooks, State.LOADED)) == ((), ["sound"])


def test_claimants_of_a_name_are_shown_with_their_places(site: "Site") -> None:
    """The remedy names each of the packages, and the cause where it is."""
    for name in ("rival-a", "rival-b"):
        site.install(name, {"shout": "mod_rival"}, {"mod_rival": SOUND})
    (problem,) = site.discover().problems
    assert f"rival-a 1.0 in {site.folder}" in problem.cause
    assert problem.remedy == "uninstall all but one: `pip uninstall rival-a` or `pip uninstall rival-b`"


@pytest.mark.parametrize(
    "value", ["mod_gone", "mod_gone:Plugin.hooks", "mod_gone:plugin [extra]", " mod_gone : plugin"]
)
def test_command_of_the_remedy_shows_the_error(site: "Site", value: str) -> None:
    """It is valid in a shell for any entry point, and fails like the import."""
    site.install("gone", {"gone": value}, {"mod_gone": 'raise RuntimeError("it\'s gone")'})
    (problem,) = site.discover().problems
    command = problem.remedy.split("`")[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(site.folder), "PATH": path}
    shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert "it's gone" in shown.stderr
