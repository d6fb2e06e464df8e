"""What runs the pages sees every way in which a page can be wrong."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from sybil.example import SybilFailure

from pulp_hooks import BodyError

RunPage = Callable[[Path], None]


@pytest.fixture
def run_text(tmp_path: Path, run_page: RunPage) -> Callable[[str], None]:
    """Return what runs a text as the page `index`, which has no environment and so begins at once."""

    def run(text: str) -> None:
        page = tmp_path / "index.md"
        page.write_text(textwrap.dedent(text), encoding="utf-8")
        run_page(page)

    return run


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ("$ echo no", "printed:\nno"),
        ("$ echo yes\nyes\nand more", "shown:\nyes\nand more\nprinted:\nyes"),
        ("$ echo yes >&2\nno", "printed:\nyes"),
        ("$ false", "fails with exit code 1"),
        ("$ false\n$ true", "fails with exit code 1"),
        ("$ false\n$ echo $?\n0", "printed:\n1"),
        ("echo", "has to begin with a command"),
        ("$ exit", "the shell ended in `exit`"),
    ],
)
def test_command_that_does_not_do_what_is_shown_fails(
    commands: str, reason: str, run_text: Callable[[str], None]
) -> None:
    """Output that is missing, too much or another, and a failure that is not told, are found."""
    with pytest.raises(AssertionError) as failure:
        run_text(f"```console\n{commands}\n```\n")
    assert reason in str(failure.value)


def test_state_of_the_shell_is_kept_through_a_page(run_text: Callable[[str], None]) -> None:
    """Folder, variables, exit code and files are those that the commands before have left."""
    run_text("""
        ```console
        $ mkdir inner && cd inner
        $ export NAME=value
        $ (exit 3)
        $ echo $?
        3
        ```

        ```{code-block} toml
        :caption: file.toml

        key = 1
        ```

        ```python
        from pathlib import Path
        print(Path("file.toml").read_text())
        ```

        ```output
        key = ...
        ```

        ```console
        $ echo "$NAME" "$(cat file.toml)" \\
        >     "${PWD##*/}"
        value key = 1 inner
        ```
        """)


@pytest.mark.parametrize(
    "block",
    [
        "```python\nprint(1)\n```\n\n```output\n2\n```",
        "```toml\nkey\n```",
        "```json\n{]\n```",
        "```ruby\nputs 1\n```",
        "```{code-block} ruby\nputs 1\n```",
    ],
)
def test_block_that_is_wrong_or_of_no_known_language_fails(block: str, run_text: Callable[[str], None]) -> None:
    """Code that prints something else, data that is malformed, and what cannot be run, are found."""
    with pytest.raises((SybilFailure, ValueError)):
        run_text(f"{block}\n")


def test_python_that_raises_fails(run_text: Callable[[str], None]) -> None:
    """An exception in a block of Python reaches the test."""
    with pytest.raises(BodyError):
        run_text("```python\nfrom pulp_hooks import Hooks\nHooks().fire('repo-sync-started', {})\n```\n")


def test_skipped_block_is_not_run_and_the_next_one_is(run_text: Callable[[str], None]) -> None:
    """A mark holds for one block alone."""
    with pytest.raises(SybilFailure, match=r"\$ echo second"):
        run_text('<!-- skip: next "why" -->\n```console\n$ echo first\n```\n\n```console\n$ echo second\n```\n')
