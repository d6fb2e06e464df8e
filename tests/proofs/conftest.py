"""What the proofs share: programs that are real processes and may be killed, and a PostgreSQL of their own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

_IS_ROOT = os.geteuid() == 0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Yield a function that starts a Python program in a process group of its own; in the end all are killed."""
    with ExitStack() as stack:

        def start(code: str, *arguments: object) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
                    cwd=tmp_path,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
            stack.callback(kill, process)
            return process

        yield start


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill a process at once, with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Server:
    """A PostgreSQL server of the test's own, on loopback.

    Args:
        folder: A folder that `server_folder` made.
        settings: Options of the server.
        password: What its administrator connects with.
    """

    def __init__(self, folder: Path, *, settings: str = "", password: str | None = None) -> None:
        self._data = folder / "data"
        self._programs = programs()
        self._settings = settings
        # PostgreSQL refuses to be run by root.
        self._user = "postgres" if _IS_ROOT else None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql://{self._user or pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1:{self._port}/postgres"
        if self._user:
            shutil.chown(folder, self._user)
        if password is None:
            self._run("initdb", "-D", self._data, "-A", "trust", "-N")
        else:
            (folder / "password").write_text(password)
            (folder / "password").chmod(0o644)
            self._run("initdb", "-D", self._data, "-A", "scram-sha-256", "-N", "--pwfile", folder / "password")

    def start(self) -> None:
        """Start it and wait until it answers."""
        # No socket file: where the tests' folder lies deep, its path would be too long for one.
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' {self._settings}"
        self._run("pg_ctl", "-D", self._data, "-w", "-o", options, "-l", self._data / "log", "start")

    def stop(self) -> None:
        """Stop it at once, without ending anybody's transaction in order."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def begin_to_stop(self) -> None:
        """Let it stop when nobody is connected any more."""
        self._run("pg_ctl", "-D", self._data, "-m", "smart", "-W", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        subprocess.run(command, check=True, user=self._user, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def server_folder() -> Iterator[Path]:
    """Return a context manager with an empty folder that the user who runs a server can reach.

    It is not in `tmp_path`: pytest makes `pytest-of-root` private whenever a run begins, and the server of another run
    would lose its files.
    """
    place = Path(tempfile.gettempdir())
    if _IS_ROOT and not all(path.stat().st_mode & 0o001 for path in (place, *place.parents)):
        place = Path("/tmp")  # noqa: S108 - the name of the folder in it is random
    with tempfile.TemporaryDirectory(prefix="pulp_hooks-", dir=place) as name:
        yield Path(name)


def programs() -> Path:
    """Return the folder of PostgreSQL's programs; skip where they are not installed, except in CI."""
    found = shutil.which("pg_ctl") or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))[-1:]), None
    )
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL's server is not installed")
        pytest.skip("PostgreSQL's server is not installed")
    return Path(found).resolve().parent


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a running PostgreSQL server; skip where its programs are not installed, except in CI."""
    with server_folder() as folder:
        server = Server(folder)
        server.start()
        yield server
        server.stop()


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds, and fail when it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
