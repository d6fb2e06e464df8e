"""Runs a page of the documentation as a reader would: writes its files, runs its code and its commands, in order."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import distributions, entry_points
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias
from unittest import SkipTest

import pytest
from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer
from sybil.parsers.myst import SkipParser
from sybil.parsers.myst.lexers import DirectiveLexer

from tests.hosts.pulp3.conftest import server_or_skip
from tests.hosts.pulp3.pulp_server import PASSWORD, PulpServer
from tests.hosts.pulp3.upstream import Upstream

ROOT = Path(__file__).parents[2]

RunPage: TypeAlias = "Callable[[Path], None]"

_LEXERS = (
    FencedCodeBlockLexer("[a-z]+", {"language": "arguments", "source": "source"}),
    DirectiveLexer("code-block", "[a-z]+"),
)
# A block without a caption may say in its first line which file it is, where pages are read without Sphinx.
_FILE_IN_FIRST_LINE = re.compile(r"# (?P<file>[\w./-]+\.(?:py|toml))\n")
_SECONDS_PER_COMMAND = 120

_DURATION = re.compile(r"0\.0+1?")
_PLACEHOLDER = re.compile(rf"(\.\.\.|\b{_DURATION.pattern}(?= ?s?$))", re.MULTILINE)

MAKE_AN_ENVIRONMENT = {"first-listener", "index", "pulp3"}
"""The pages that make a virtual environment themselves."""

NEED_PULP = {"pulp3"}
"""The pages that need a Pulp 3 server, as which they name `https://pulp.example.org`, and a configured pulp-cli."""

_UPSTREAM = "https://fixtures.pulpproject.org/file/PULP_MANIFEST"
"""What the pages sync from: a repository of three files."""

# A new environment gets its pip from the libraries: to install one takes longer than all that a page does.
_PYTHON3 = """#!/bin/sh
set -eu
if [ "$1 $2" != "-m venv" ]; then
  exec {python} "$@"
fi
{python} -m venv --without-pip "$3"
printf '#!/bin/sh\\nexec "%s/bin/python" -m pip "$@"\\n' "$(realpath "$3")" > "$3/bin/pip"
chmod +x "$3/bin/pip"
"""


# The libraries of the other programs on the path are not those of pulp-cli.
_PULP_CLI = """#!/bin/sh
unset PYTHONPATH
exec {program} "$@"
"""


class Shell:
    """A bash that keeps its state, folder and variables, from one command to the next.

    Args:
        folder: Where it begins.
        environment: All its variables.

    Attributes:
        folder: Where it is now.
        exit_code: That of the last command.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.exit_code = 0
        self._script = Path(environment["TMPDIR"]) / "command"
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Run a command line, and give all that it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._script.write_text(f"{command}\n", encoding="utf-8")
        script = shlex.quote(str(self._script))
        # The first command brings back what `$?` was, the last one says that the end has come.
        line = f"(exit {self.exit_code}); . {script} </dev/null; printf '\\n\\001%d %s\\001\\n' $? \"$PWD\"\n"
        timer = threading.Timer(_SECONDS_PER_COMMAND, self.close)
        timer.start()
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            printed = ""
            while not (end := re.search("\n\001(\\d+) (.*)\001\n\\Z", printed)):
                more = self._process.stdout.readline()
                assert more, f"the shell ended in `{command}`, after it had printed:\n{printed}"
                printed += more
        finally:
            timer.cancel()
        self.exit_code, self.folder = int(end[1]), Path(end[2])
        return printed[: end.start()]

    def close(self) -> None:
        """End the shell, with what it runs in the background."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


class PageRunner:
    """Runs the blocks of one page.

    A `console` block is run, and what it shows has to be all that is printed (`...` stands for anything). A command may
    fail only where the next one is `echo $?`. Python is executed, and an `output` block behind it is what it has to
    print. A block with a file's name is written to that file, in the folder where the shell is. JSON and TOML without
    a name have to be well-formed, and no other language is known.

    Args:
        folder: Where the page begins.
        start_shell: Makes its shell, when the first command is to be run.
    """

    def __init__(self, folder: Path, start_shell: Callable[[], Shell]) -> None:
        self._folder = folder
        self._start_shell = start_shell
        self._shell: Shell | None = None
        self._printed = ""

    def run(self, page: Path) -> None:
        """Run all blocks of a page that are not marked to be skipped."""
        try:
            for example in Document.parse(str(page), self._blocks, SkipParser()):
                with contextlib.suppress(SkipTest):
                    example.evaluate()
        finally:
            if self._shell:
                self._shell.close()

    def _blocks(self, document: Document) -> Iterator[Region]:
        for lexer in _LEXERS:
            for region in lexer(document):
                region.parsed = region.lexemes["source"]
                region.evaluator = self._evaluate
                yield region

    def _evaluate(self, example: Example) -> str | None:
        source, language = str(example.parsed), example.region.lexemes["arguments"]
        folder = self._shell.folder if self._shell else self._folder
        first_line = _FILE_IN_FIRST_LINE.match(source)
        if file := example.region.lexemes.get("options", {}).get("caption") or (first_line and first_line["file"]):
            (folder / file).write_text(source, encoding="utf-8")
            return None
        match language:
            case "console":
                return self._run_commands(source)
            case "python":
                printed = io.StringIO()
                with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
                    PythonEvaluator()(example)
                self._printed = printed.getvalue()
            case "output":
                return _difference(source, self._printed)
            case "json":
                json.loads(source)
            case "toml":
                tomllib.loads(source)
            case _:
                return f"a block of {language} cannot be run"
        return None

    def _run_commands(self, source: str) -> str | None:
        if not source.startswith("$ "):
            return "a console block has to begin with a command"
        self._shell = shell = self._shell or self._start_shell()
        for (command, shown), (following, _) in pairwise([*_commands(source), ("", "")]):
            if difference := _difference(shown, shell.run(command)):
                return f"$ {command}\n{difference}"
            if shell.exit_code and following != "echo $?":
                return f"$ {command}\nfails with exit code {shell.exit_code}, and the page does not say so"
        return None


@pytest.fixture(scope="session")
def offline_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that a page's environment needs without a network.

    `libraries` has what is installed for the tests, but neither this package nor any listener: pages install those
    themselves. `bin` has the `python3` that makes virtual environments, and `wheels` this package.
    """
    folder = tmp_path_factory.mktemp("environment")
    libraries, programs = folder / "libraries", folder / "bin"
    for made in (libraries, programs):
        made.mkdir()
    for distribution in distributions():
        ours = distribution.metadata["Name"].startswith("pulp-hooks")
        names = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for name in () if ours else names:
            if not name.endswith(".pth") and not (libraries / name).exists():
                (libraries / name).symlink_to(str(distribution.locate_file(name)))
    python3 = programs / "python3"
    python3.write_text(_PYTHON3.format(python=shlex.quote(os.path.realpath(sys.executable))), encoding="utf-8")
    python3.chmod(0o755)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--wheel-dir", folder / "wheels", ROOT], check=True)
    return folder


@pytest.fixture(scope="session")
def pulp() -> Iterator[PulpServer]:
    """Yield a Pulp server of the pages alone, which show everything that it has."""
    with server_or_skip() as server:
        yield server


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """Yield the URL of a manifest with three files."""
    upstream = Upstream()
    yield upstream.write("file", {"1.iso": "1", "2.iso": "2", "3.iso": "3"})
    upstream.stop()


@pytest.fixture
def run_page(
    tmp_path: Path, offline_environment: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> RunPage:
    """Return what runs a page in an empty folder, and in an environment in which this package alone is installed.

    A page that makes an environment itself begins without one. One that needs a Pulp server names the one that runs.
    """
    folder, temporary, environment = (tmp_path / name for name in ("page", "temporary", "environment"))
    folder.mkdir()
    temporary.mkdir()
    variables = {
        "HOME": str(temporary),
        "LANG": "C.UTF-8",
        "PATH": os.pathsep.join([str(environment / "bin"), str(offline_environment / "bin"), "/usr/bin", "/bin"]),
        "PIP_CACHE_DIR": str(temporary / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # as pip reads it: without isolation, since no build backend could be fetched
        "PIP_NO_INDEX": "1",
        "PULP_HOOKS": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(offline_environment / "libraries"),
        "PYTHONUNBUFFERED": "1",  # what listeners print and what is an error come in the order that a terminal shows
        "TERM": "dumb",
        "TMPDIR": str(temporary),
    }
    # Python blocks run in this process: what is installed for other tests is none of their business.
    monkeypatch.setenv("PULP_HOOKS_BLOCK", ",".join(entry_points(group="pulp_hooks").names))

    def with_pulp(page: Path) -> Path:
        server: PulpServer = request.getfixturevalue("pulp")
        programs, settings, copy = tmp_path / "programs", temporary / ".config" / "pulp", tmp_path / page.name
        for made in (programs, settings):
            made.mkdir(parents=True)
        (programs / "pulp").write_text(_PULP_CLI.format(program=shlex.quote(str(server.programs / "pulp"))))
        (programs / "pulp").chmod(0o755)
        (settings / "cli.toml").write_text(
            f'[cli]\nbase_url = "{server.url}"\nusername = "admin"\npassword = "{PASSWORD}"\n', encoding="utf-8"
        )
        variables["PATH"] = f"{programs}{os.pathsep}{variables['PATH']}"
        text = page.read_text(encoding="utf-8").replace(_UPSTREAM, request.getfixturevalue("upstream"))
        text = text.replace("https://pulp.example.org", server.url)
        # Without settings, the name of a server is that of its host.
        name = server.url.removeprefix("http://").replace(":", "-")
        copy.write_text(text.replace("\npulp.example.org\n", f"\n{name}\n"), encoding="utf-8")
        return copy

    def run(page: Path) -> None:
        page = with_pulp(page) if page.stem in NEED_PULP else page

        def start_shell() -> Shell:
            shell = Shell(folder, variables)
            if page.stem not in MAKE_AN_ENVIRONMENT:
                shell.run(f"python3 -m venv {shlex.quote(str(environment))}")
                printed = shell.run(f"pip install --quiet --no-deps {shlex.quote(str(offline_environment))}/wheels/*")
                assert not shell.exit_code, printed
            return shell

        PageRunner(folder, start_shell).run(page)

    return run


def _commands(source: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block, each with the output that is shown."""
    for part in re.split(r"^\$ ", source, flags=re.MULTILINE)[1:]:
        first, *others = part.splitlines()
        continued = [line[2:] for line in others if line.startswith("> ")]
        yield "\n".join([first, *continued]), "\n".join(others[len(continued) :])


def _difference(shown: str, printed: str) -> str | None:
    """Say how the output differs from what is shown, in which `...` stands for anything, `0.000` for any duration."""
    expected, actual = ("\n".join(line.rstrip() for line in text.strip("\n").splitlines()) for text in (shown, printed))
    parts = (
        ".*?" if part == "..." else rf"\d+\.\d{{{len(part) - 2}}}" if _DURATION.fullmatch(part) else re.escape(part)
        for part in _PLACEHOLDER.split(expected)
    )
    return None if re.fullmatch("".join(parts), actual, re.DOTALL) else f"shown:\n{expected}\nprinted:\n{actual}"
