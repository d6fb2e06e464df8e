"""`python -m benchmarks [NAME]...` measures everything, or what is named, and prints one table.

Exit code 1 when a bar is missed. `peers` and `pulp3` take minutes, and `amqp` needs RabbitMQ: they are measured only
when named.
"""

import sys
from importlib import import_module

from benchmarks.measuring import show

_NAMES = ("start", "fire", "journal", "listing", "http")


def main(names: list[str]) -> int:
    """Measure, and print each figure as it is there."""
    return 1 if sum(show(import_module(f"benchmarks.{name}").measure()) for name in names or _NAMES) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
