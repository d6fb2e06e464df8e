"""Facts about every command: help, errors, exit codes."""

import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from pulp_hooks.cli import COMMANDS, cli

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_module_and_script_are_the_same_command(run: Run) -> None:
    """`python -m pulp_hooks` and the installed script present themselves with one name."""
    script = Path(sysconfig.get_path("scripts")) / "pulp-hooks"
    assert script.exists()
    assert run("--version").stdout.startswith("pulp-hooks, version ")


@pytest.mark.parametrize("name", COMMANDS)
def test_short_help_is_the_first_sentence_of_the_command(name: str) -> None:
    """The list of commands, which imports none of them, says what the commands themselves say."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.help or "").startswith(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(run: Run, name: str) -> None:
    """Each command's help shows how it is used."""
    shown = run(name, "--help")
    assert shown.returncode == 0
    assert re.search(rf"Examples:\n +(\S.* \| )?pulp-hooks {name}", shown.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_takes_json(name: str) -> None:
    """Each command can print JSON."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert "--json" in [option for parameter in command.params for option in parameter.opts]


def test_help_imports_no_command() -> None:
    """The list of commands answers without marshmallow, pluggy or any plugin."""
    code = (
        "import sys; from pulp_hooks.cli import cli; cli(['--help'], standalone_mode=False); "
        "sys.exit(bool({'marshmallow', 'pluggy', 'importlib_metadata'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_misspelt_command_is_corrected(run: Run) -> None:
    """A command that does not exist is answered with the nearest one."""
    shown = run("listner")
    assert shown.returncode == 2
    assert "did you mean 'listeners'?" in shown.stderr


def test_misspelt_event_type_is_corrected(run: Run) -> None:
    """An event type that does not exist is answered with the nearest one."""
    shown = run("fire", "repo-sync-start")
    assert shown.returncode == 2
    assert "did you mean 'repo-sync-started'?" in shown.stderr


@pytest.mark.parametrize("arguments", [["fire", "repo-sync-started", "--settings", "none.toml"], ["schema"], ["--no"]])
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    """Wrong usage is told apart from failure."""
    shown = run(*arguments)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


def test_unexpected_error_is_one_message(run: Run, install: Callable[[str, str], None]) -> None:
    """Even a fault of our own, here provoked by breaking the package from within, shows no traceback."""
    install("breaker", "import pulp_hooks.plugins.loading as loading\nloading.inspect_plugin = None\n")
    shown = run("check")
    assert shown.returncode == 1
    assert "unexpected TypeError" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_there(run: Run, shell: str) -> None:
    """Each shell gets its completion script."""
    shown = run(_PULP_HOOKS_COMPLETE=f"{shell}_source")
    assert shown.returncode == 0
    assert "pulp-hooks" in shown.stdout


def test_event_types_are_completed(run: Run) -> None:
    """The argument of `fire` completes to type IDs."""
    shown = run(_PULP_HOOKS_COMPLETE="bash_complete", COMP_WORDS="pulp-hooks fire repo-s", COMP_CWORD="2")
    assert re.findall(r"repo-\S+", shown.stdout) == ["repo-sync-started", "repo-sync-finished"]
