"""The clocks: the one that people set, and the one that only goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass

# Where there is one, the clock that goes on while the machine sleeps.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))


def _since_boot() -> float:
    return time.clock_gettime(_BOOT_CLOCK)


@dataclass(frozen=True, slots=True)
class Clock:
    """Two ways of telling the time.

    Attributes:
        time: Gives the seconds since 1970, as people or a time server have set them.
        elapsed: Gives seconds that go on evenly, whatever anybody sets, in all processes of the machine alike.
    """

    time: Callable[[], float] = time.time
    elapsed: Callable[[], float] = _since_boot


SYSTEM_CLOCK = Clock()
"""The clocks of the machine."""
