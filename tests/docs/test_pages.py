"""The documentation does what it says: every file, command and piece of code on every page is used as written."""

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_does_what_it_says(page: Path, run_page: Callable[[Path], None]) -> None:
    """A reader who follows the page from top to bottom sees what the page shows."""
    run_page(page)
