"""The types of the public interface, proven by a type checker."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_public_interface_is_typed_for_plugin_authors_and_hosts() -> None:
    """Right uses in `api.py` pass mypy in strict mode, and each marked mistake is found."""
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "tests/typing/api.py"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


def test_mistakes_in_the_checked_file_would_be_reported(tmp_path: Path) -> None:
    """The same run without the marks fails at every marked line, so it is the types that are checked."""
    source = (ROOT / "tests/typing/api.py").read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(source, 1) if "# type: ignore[" in line}
    unmarked = tmp_path / "unmarked.py"
    unmarked.write_text("\n".join(line.partition("# type: ignore[")[0] for line in source), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", str(unmarked)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert {int(line.split(":")[1]) for line in errors} == marked
