"""What it costs to import, to discover, and to start the command line; each in processes of its own."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Figure, at_most

RUNS = 15
DISTRIBUTIONS = 300
PLUGINS = 10

_TIMED = "import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
_BARE_HELP = "import click\n@click.group()\ndef cli(): pass\ncli(['--help'])"
_OUR_HELP = "import sys; sys.argv = ['pulp-hooks', '--help']; from pulp_hooks.cli import main; main()"
_WALL = (
    "import subprocess, sys, time; start = time.perf_counter(); "
    "subprocess.run([sys.executable, '-c', {code!r}], check=True, capture_output=True); "
    "print(time.perf_counter() - start)"
)


def measure() -> Iterator[Figure]:
    """Yield the figures."""
    ours, bare = _paired("from pulp_hooks import hookimpl", "import pluggy")
    extra = 1000 * statistics.median(a - b for a, b in zip(ours, bare, strict=True))
    yield Figure("from pulp_hooks import hookimpl, above import pluggy", f"{extra:+.1f} ms", "<= +10 ms", extra <= 10)  # noqa: PLR2004 - the bar
    with tempfile.TemporaryDirectory() as folder:
        _install(Path(folder))
        scan = "import sys; sys.path.insert(0, {!r})\nfrom importlib_metadata import entry_points\n{}"
        ours, bare = _paired(
            "found = find_installed(); assert len(found[0]) >= 10",
            "found = list(entry_points(group='pulp_hooks')); assert len(found) >= 10",
            setup=scan.format(folder, "from pulp_hooks.plugins.discovery import find_installed"),
        )
        yield at_most(
            f"discovery among {DISTRIBUTIONS} distributions, {PLUGINS} of them plugins / bare entry_points()",
            _median_ratio(ours, bare),
            1.5,
        )
    ours, bare = _paired_processes(_OUR_HELP, _BARE_HELP)
    yield at_most("pulp-hooks --help / --help of a bare click group", _median_ratio(ours, bare), 2)


def _median_ratio(ours: list[float], bare: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, bare, strict=True))


def _paired(one: str, other: str, setup: str = "pass") -> tuple[list[float], list[float]]:
    """Time two pieces of code in turn, each run in a fresh interpreter, without the interpreter's own start."""
    return _in_turn(*(setup + "\n" + _TIMED.format(code=code) for code in (one, other)))


def _paired_processes(one: str, other: str) -> tuple[list[float], list[float]]:
    """Time two programs in turn as whole processes."""
    return _in_turn(*(_WALL.format(code=code) for code in (one, other)))


def _in_turn(one: str, other: str) -> tuple[list[float], list[float]]:
    for program in (one, other):
        _seconds(program)
    pairs = [(_seconds(one), _seconds(other)) for _ in range(RUNS)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _seconds(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603 - the programs above
    return float(done.stdout)


def _install(folder: Path) -> None:
    for number in range(DISTRIBUTIONS):
        info = folder / f"package_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package-{number}\nVersion: 1.0\n")
        group = "pulp_hooks" if number < PLUGINS else "console_scripts"
        (info / "entry_points.txt").write_text(f"[{group}]\nname-{number} = package_{number}:main\n")
