"""What the tests of the journal share: a journal in each of the two databases, and events to put into it."""

from collections.abc import Iterator

import pytest

from pulp_hooks.journal.journal import Journal


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    """Give an empty journal in each of the two databases."""
    journal = Journal(url)
    yield journal
    journal.close()
