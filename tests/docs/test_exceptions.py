"""The few commands of the documentation that no test runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

NOT_RUN = [
    ("README.md", "make demo", "it installs everything from a network; CI runs it as it stands"),
    ("README.md", "make test", "it runs these tests"),
    ("README.md", "python3 -m venv .venv", "the tests run in another folder than this one"),
    ("README.md", ".venv/bin/sphinx-build docs build/docs", "a test of its own builds the documentation"),
    (
        "durable.md",
        "celery -A tasks worker --loglevel info",
        "it runs until it is stopped, and needs a broker; a test of its own runs this app",
    ),
    ("first-listener.md", 'export PULP_HOOKS="$HOME/pulp_hooks"', "it is the reader who knows where the clone is"),
    ("index.md", 'export PULP_HOOKS="$HOME/pulp_hooks"', "it is the reader who knows where the clone is"),
]


def test_nothing_else_is_skipped() -> None:
    """Only these blocks are marked, each with its reason, and no more than one block by each mark."""
    skipped = [
        (page.name, command, reason)
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for action, reason, command in re.findall(
            r'^<!-- skip: (\w+) "(.+)" -->\n```console\n\$ (.+)$', page.read_text(encoding="utf-8"), re.MULTILINE
        )
        if action == "next"
    ]
    assert skipped == NOT_RUN


def test_every_mark_skips_one_console_block() -> None:
    """There is no mark of another form, which the list above would not see."""
    texts = [page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]]
    assert sum(len(re.findall(r"skip: ?\w+", text)) for text in texts) == len(NOT_RUN)
