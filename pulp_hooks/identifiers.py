"""Identifiers of events and of results."""

import os
import time

_FRACTIONS_OF_A_SECOND = 2**24


def new_id() -> str:
    """Give a new identifier: 24 hexadecimal digits, later ones sorting behind earlier ones.

    As in the specification's examples the first eight digits are the seconds since 1970. Six more are the fraction of
    the second (60 ns), so that ids of one second are in order too; the last ten are random.
    """
    ticks = time.time_ns() * _FRACTIONS_OF_A_SECOND // 1_000_000_000
    return f"{ticks:014x}{os.urandom(5).hex()}"
