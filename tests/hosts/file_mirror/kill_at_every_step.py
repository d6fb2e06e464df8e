"""Kills a mirror run at each of its steps in turn, and checks the result; started by `test_interrupted.py`.

    python kill_at_every_step.py SOURCE BEFORE DEST

A copy of BEFORE, a mirror as an earlier run has left it or nothing at all, becomes DEST for each kill. A step is
whatever changes the file system (Python tells its audit hooks beforehand): to die before one that only reads is no
other death than to die before the next that writes. Each run is a process of its own.
"""

import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import filelock  # noqa: F401 - imported here once, and not again in every child

from pulp_hooks.hooks import Hooks
from pulp_hooks.hosts.file_mirror import mirror
from pulp_hooks.hosts.file_mirror.manifest import parse_manifest

CHANGES = {"os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}


def run(source: Path, dest: Path, *, die_at: int | None = None) -> int:
    """Run a mirror in a process that kills itself at a step, and return its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        steps = 0

        def count(name: str, details: tuple[Any, ...]) -> None:
            nonlocal steps
            if name in CHANGES or (name == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)):
                steps += 1
                if steps == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        mirror(source, dest, Hooks(), repo_id="repo")
        os._exit(0)
    finally:
        os._exit(1)


def whole(publication: Path) -> dict[str, bytes]:
    """Return the files of a publication, each checked against the manifest."""
    entries = parse_manifest((publication / "PULP_MANIFEST").read_bytes(), "m")
    files = {entry.path: (publication / entry.path).read_bytes() for entry in entries}
    for entry in entries:
        assert hashlib.sha256(files[entry.path]).hexdigest() == entry.sha256, entry
    return files


def main(source: Path, before: Path, dest: Path) -> None:
    """Kill a run at the first step, at the second, and so on, until a run completes; print the number of steps."""
    new = {str(file.relative_to(source)): file.read_bytes() for file in source.rglob("*") if file.is_file()}
    old = whole(before / "current") if before.exists() else None
    step = 0
    status = -1
    while status != 0:
        step += 1
        shutil.rmtree(dest, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, dest, symlinks=True)
        status = run(source, dest, die_at=step)
        assert status in {0, signal.SIGKILL}, (step, status)

        current = dest / "current"
        assert whole(current) in (old, new) if current.is_symlink() else old is None, step

        assert run(source, dest) == 0, step
        assert whole(current) == new, step
        assert list((dest / ".temporary").iterdir()) == [], step
        assert len(list((dest / "publications").iterdir())) == (1 if old is None else 2), step
        objects = sorted(file.name for file in dest.glob("objects/*/*"))
        assert objects == sorted({hashlib.sha256(content).hexdigest() for content in new.values()}), step
    print(step)  # noqa: T201 - this is what it was started for


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
