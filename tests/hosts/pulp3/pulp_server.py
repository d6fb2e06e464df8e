"""A private Pulp 3 server on loopback: PostgreSQL, API, content app and workers as real processes.

The first use installs Pulp from `.ci/constraints/pulp3.txt` and migrates a database. Both stay in `.cache/pulp3`, so
that later servers, also those of other test processes, start from copies within seconds.
"""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import urllib3
from filelock import FileLock

from tests.proofs.conftest import Server, programs, server_folder

PASSWORD = "of-the-tests"  # noqa: S105 - of a server that only its test can reach
"""Password of the user `admin`."""

_ROOT = Path(__file__).parents[3]
_CONSTRAINTS = _ROOT / ".ci" / "constraints" / "pulp3.txt"
_CACHE = _ROOT / ".cache" / "pulp3"
_ENVIRONMENT = _CACHE / "venv"
_DUMP = _CACHE / "database.sql"
_BEGINS_WITHIN = 180
_ENDS_WITHIN = 30
_DELETE_RECORD = (
    "UPDATE core_task SET app_lock_id = NULL FROM core_appstatus a WHERE a.pulp_id = app_lock_id AND a.name = %s",
    "DELETE FROM core_appstatus WHERE name = %s",
)
_NO_DURABILITY = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"


class PulpServer:
    """A Pulp server with a database, an API, a content app and workers.

    Args:
        folder: An empty folder that `server_folder` made.
        environment: Folder of the virtual environment in which Pulp is installed.
        settings: Pulp's settings besides those that every test server needs.

    Attributes:
        url: Where the API answers; it stays the same when the API is restarted.
        programs: Folder of the programs of Pulp, and of pulp-cli.
    """

    def __init__(self, folder: Path, environment: Path = _ENVIRONMENT, settings: Mapping[str, object] = {}) -> None:
        self._folder = folder
        self.programs = environment / "bin"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            self._api, self._content = (f"127.0.0.1:{free.getsockname()[1]}" for free in (first, second))
        self.url = f"http://{self._api}"
        self._database = Server(folder, settings=_NO_DURABILITY)
        address = urllib3.util.parse_url(self._database.url)
        for name in ("media", "assets", "tmp"):
            (folder / name).mkdir()
        (folder / "key").write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
        values = {
            "SECRET_KEY": os.urandom(32).hex(),
            "DB_ENCRYPTION_KEY": str(folder / "key"),
            "DATABASES": {
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": "postgres",
                    "USER": address.auth,
                    "HOST": address.host,
                    "PORT": address.port,
                }
            },
            "CONTENT_ORIGIN": f"http://{self._content}",
            "DEPLOY_ROOT": str(folder),
            "MEDIA_ROOT": str(folder / "media"),
            "STATIC_ROOT": str(folder / "assets"),
            "WORKING_DIRECTORY": str(folder / "tmp"),
            "FILE_UPLOAD_TEMP_DIR": str(folder / "tmp"),
            "CACHE_ENABLED": False,  # needs Redis
            "ANALYTICS": False,  # sends usage data once a day by default
            # Pulp checks the password in each request with basic authentication; by default that costs 0.2 seconds.
            "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
            **settings,
        }
        (folder / "settings.py").write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
        self._environment = {
            **os.environ,
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "PULP_SETTINGS": str(folder / "settings.py"),
            "DJANGO_SETTINGS_MODULE": "pulpcore.app.settings",
        }

    def start(self, dump: Path | None = _DUMP, workers: int = 2) -> None:
        """Start every part, and wait until all of them answer.

        Args:
            dump: A dump of a migrated database; None migrates an empty one.
            workers: How many workers to start.
        """
        self._database.start()
        if dump is None:
            self.migrate()
        else:
            command: list[str | Path] = [
                programs() / "psql",
                "--quiet",
                "--no-psqlrc",
                "--set=ON_ERROR_STOP=1",
                f"--file={dump}",
            ]
            subprocess.run([*command, self._database.url], check=True, stdout=subprocess.DEVNULL)
        self._spawn("content", "pulpcore-content", "--bind", self._content, "--workers", "1")
        for number in range(workers):
            self._spawn(f"worker{number + 1}", "pulpcore-worker")
        self.start_api()

    def migrate(self) -> None:
        """Migrate the database, and give `admin` its password."""
        self._manage("migrate", "--no-input")
        self._manage("reset-admin-password", "--password", PASSWORD)

    def dump(self, path: Path) -> None:
        """Write the database to a file that `start` reads."""
        # A dump that was cut short is never found under the name.
        partial = path.with_suffix(".partial")
        subprocess.run([programs() / "pg_dump", f"--file={partial}", self._database.url], check=True)
        partial.rename(path)

    def stop(self) -> None:
        """Stop every part that was started, and the database."""
        for process in self._processes.values():
            process.terminate()
        for name in list(self._processes):
            self._end(name)
        self._database.stop()

    def start_api(self) -> None:
        """Start the API, and wait until it answers and all parts are online."""
        self._spawn("api", "pulpcore-api", "--bind", self._api, "--workers", "1")
        self._await_health()

    def stop_api(self) -> None:
        """Stop the API; workers go on."""
        self._end("api")

    def start_worker(self, name: str) -> None:
        """Start another worker, and wait until it is online."""
        self._spawn(name, "pulpcore-worker")
        self._await_health()

    def kill_busy_workers(self) -> None:
        """Kill the workers that run a task at once, with the task, and delete their records.

        Other workers delete the record of a lost worker too, but only after five minutes or more.
        """
        for name in self._running_tasks():
            process = self._processes.pop(name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with psycopg.connect(self._database.url) as connection:
                for statement in _DELETE_RECORD:
                    connection.execute(statement, [_online_name(process)])

    def kill_running_tasks(self) -> None:
        """Kill the processes in which workers run their tasks; the workers go on."""
        for task in self._running_tasks().values():
            os.kill(task, signal.SIGKILL)

    def _running_tasks(self) -> dict[str, int]:
        workers = {process.pid: name for name, process in self._processes.items() if name.startswith("worker")}
        tasks = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent in workers:
                    tasks[workers[parent]] = int(stat.parent.name)
        return tasks

    def _manage(self, *arguments: str) -> None:
        with (self._folder / "manager.log").open("a+") as log:
            ended = subprocess.run(
                [self.programs / "pulpcore-manager", *arguments],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                check=False,
            )
            log.seek(0)
            assert ended.returncode == 0, log.read()[-4000:]

    def _spawn(self, name: str, program: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [self.programs / program, *arguments],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _await_health(self) -> None:
        deadline = time.monotonic() + _BEGINS_WITHIN
        while not self._is_healthy():
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended: {self._log(name)}"
            assert time.monotonic() < deadline, f"Pulp is not healthy: {self._log('api')}"
            time.sleep(0.2)

    def _is_healthy(self) -> bool:
        try:
            status = urllib3.request("GET", f"{self.url}/pulp/api/v3/status/", retries=False).json()
        except (urllib3.exceptions.HTTPError, ValueError):
            return False
        # Older servers put the full name of the host after the process id.
        workers = {worker["name"].partition("@")[0] for worker in status["online_workers"]}
        expected = {str(process.pid) for name, process in self._processes.items() if name.startswith("worker")}
        return bool(expected <= workers and status["online_content_apps"])

    def _log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-4000:]


def _online_name(worker: "subprocess.Popen[bytes]") -> str:
    return f"{worker.pid}@{socket.gethostname()}"


@contextmanager
def running_server() -> Iterator[PulpServer]:
    """Return a context manager with a running server of the pinned Pulp, which is installed on first use.

    Raises:
        RuntimeError: Pulp cannot be installed.
    """
    programs()
    _prepare()
    with stopped_server() as server:
        server.start()
        yield server


@contextmanager
def stopped_server(environment: Path = _ENVIRONMENT, settings: Mapping[str, object] = {}) -> Iterator[PulpServer]:
    """Return a context manager with a server, which is stopped at the end.

    Args:
        environment: Folder of the virtual environment in which Pulp is installed.
        settings: Pulp's settings besides those that every test server needs.
    """
    with server_folder() as folder:
        server = PulpServer(folder, environment, settings)
        try:
            yield server
        finally:
            server.stop()


def _prepare() -> None:
    _CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(_CACHE / "lock"):
        installed = _ENVIRONMENT / "constraints.txt"
        if not (installed.exists() and installed.read_text() == _CONSTRAINTS.read_text()):
            shutil.rmtree(_ENVIRONMENT, ignore_errors=True)
            _DUMP.unlink(missing_ok=True)
            subprocess.run([sys.executable, "-m", "venv", _ENVIRONMENT], check=True)
            ended = subprocess.run(
                [_ENVIRONMENT / "bin" / "pip", "install", "--quiet", "--require-hashes", "--requirement", _CONSTRAINTS],
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if ended.returncode != 0:
                raise RuntimeError(f"Pulp cannot be installed: {ended.stderr[-2000:]}")
            shutil.copy(_CONSTRAINTS, installed)
        if not _DUMP.exists():
            with stopped_server() as server:
                server._database.start()
                server.migrate()
                server.dump(_DUMP)
