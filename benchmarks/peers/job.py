"""The job that every system is given, and the two commands of its program: `fire FOLDER NUMBER` and `work FOLDER`."""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

DONE, BEGUN = "done", "begun"
"""The files in which the job leaves a character each time."""


def content() -> str:
    """Return what is fired: 1.1 kB of JSON."""
    return json.dumps({"repo_id": "pulp-f17", "details": "x" * 1050})


def do(content: str) -> None:
    """Read the body, and take as many seconds as `JOB_SECONDS` says."""
    json.loads(content)
    seconds = float(os.environ.get("JOB_SECONDS", "0"))
    if seconds:
        _leave(BEGUN)
        time.sleep(seconds)
    _leave(DONE)


def run(
    firing: Callable[[Path], AbstractContextManager[Callable[[str], object]]], work: Callable[[Path], None]
) -> None:
    """Be the program of a system.

    `fire` prints how many seconds it took to fire, without what comes before the first event.

    Args:
        firing: Gives what fires a body.
        work: Runs one worker that does one job at a time, until it is killed.
    """
    command, folder, *number = sys.argv[1:]
    if command == "work":
        work(Path(folder))
    else:
        with firing(Path(folder)) as fire:
            fire(content())
            began = time.perf_counter()
            for _ in range(int(number[0]) - 1):
                fire(content())
            print(time.perf_counter() - began)


def _leave(name: str) -> None:
    file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, b".")
    finally:
        os.close(file)
