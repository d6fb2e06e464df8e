"""Tests of the built package and of its pinned environment."""

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from pulp_hooks import EventType

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [ROOT, *sorted(path.parent for path in ROOT.glob("example_plugins/*/pyproject.toml"))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of the library, built from the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_core_needs_four_libraries(wheel: zipfile.ZipFile) -> None:
    """The core needs pluggy, marshmallow, importlib-metadata and click."""
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    requirements = email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist") or []
    core = {re.split(r"[<>=]", text)[0] for text in requirements if "extra ==" not in text}
    assert core == {"click", "importlib-metadata", "marshmallow", "pluggy"}


def test_wheel_contains_types_schemas_and_license(wheel: zipfile.ZipFile) -> None:
    """The wheel contains the files that are not Python too."""
    names = wheel.namelist()
    assert "pulp_hooks/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for event_type in EventType:
        assert f"pulp_hooks/bodies/json_schemas/{event_type}.json" in names


def test_wheel_contains_the_library_only(wheel: zipfile.ZipFile) -> None:
    """The wheel contains no tests, docs or tools."""
    assert {name.split("/")[0] for name in wheel.namelist()} == {"pulp_hooks", "pulp_hooks-0.1.0.dist-info"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_package_is_complete(package: Path) -> None:
    """Each package declares its description, requirements, license and tests."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["license"] == "MIT"
    assert project["requires-python"] == ">=3.11"
    assert project["readme"] == "README.md"
    for name in ("README.md", "LICENSE"):
        assert (package / name).read_text()
    assert list((package / "tests").glob("**/test_*.py"))


@pytest.mark.parametrize("name", ["development.txt", "pulp3.txt", "runtime.txt"])
def test_every_pinned_requirement_has_hashes(name: str) -> None:
    """Only content known beforehand is installed."""
    text = (ROOT / ".ci" / "constraints" / name).read_text().replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert requirements
    for requirement in requirements:
        assert re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


def test_every_requirement_is_pinned() -> None:
    """Every requirement in pyproject.toml is in the lock file."""
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / ".ci/constraints/development.txt").read_text(), re.MULTILINE))
    groups = [*PROJECT["dependency-groups"].values(), *PROJECT["project"]["optional-dependencies"].values()]
    asked = [text for group in [PROJECT["project"]["dependencies"], *groups] for text in group if isinstance(text, str)]
    assert {re.split(r"[\[<>=]", text)[0] for text in asked} <= pinned


def test_no_lock_file_with_download_addresses_is_kept() -> None:
    """Lock files with the addresses of a registry are not in the tree, in a clone or an unpacked archive."""
    if (ROOT / ".git").exists():
        kept = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    else:
        folders = (".", "pulp_hooks", "docs", "tests", "example_plugins/*")
        kept = [str(path) for folder in folders for path in ROOT.glob(f"{folder}/*")]
    names = {Path(path).name for path in kept}
    assert "pyproject.toml" in names
    assert not {"uv.lock", "package-lock.json"} & names
