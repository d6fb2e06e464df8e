"""What goes wrong between the simulated servers and a watcher."""

from enum import Enum, auto
from random import Random

BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
"""Body of a proxy's answer when the server behind it is down."""


class Fault(Enum):
    """A way in which a request fails."""

    RESET = auto()
    BAD_GATEWAY = auto()
    TRUNCATED = auto()
    TIMEOUT = auto()


def draw_fault(random: Random, share: float) -> Fault | None:
    """Return how a request fails, or None if it does not; `share` is how many do."""
    return random.choice(list(Fault)) if random.random() < share else None
