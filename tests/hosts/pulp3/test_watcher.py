"""Watching several servers at a time."""

from collections.abc import Sequence

import pytest

from pulp_hooks import PulpError, PulpSettings
from pulp_hooks.hosts.pulp3 import Watcher

PULP = PulpSettings(name="main", url="https://pulp.example")


@pytest.mark.parametrize(
    "servers",
    [
        [PULP, PulpSettings(name="main", url="https://other.example")],
        [PulpSettings(name="main", url="https://pulp.example", domains=("team-a", "team-a"))],
    ],
)
def test_two_of_one_name_are_refused(servers: Sequence[PulpSettings]) -> None:
    """They would share a position, and lose each other's events."""
    with pytest.raises(PulpError, match="named 'main"):
        Watcher(servers, lambda *_: None)


def test_a_domain_is_never_taken_for_a_server() -> None:
    """Names of servers cannot have the sign before that of a domain."""
    of_domain = PulpSettings(name="main", url="https://pulp.example", domains=("team-a",))
    other = PulpSettings(name="main.team-a", url="https://other.example")
    watcher = Watcher([of_domain, other], lambda *_: None)
    assert [one.name for one in watcher.watched] == ["main@team-a", "main.team-a"]
