"""Identifiers of events and of results."""

import os
import time

_FRACTIONS_OF_A_SECOND = 2**24


def new_id() -> str:
    """Return a new identifier of 24 hexadecimal digits. Identifiers sort by the time they were made.

    As in the specification's examples, the first eight digits are the seconds since 1970. The next six are the
    fraction of the second in steps of 60 ns, which sorts identifiers within a second. The last ten are random.
    """
    ticks = time.time_ns() * _FRACTIONS_OF_A_SECOND // 1_000_000_000
    return f"{ticks:014x}{os.urandom(5).hex()}"
