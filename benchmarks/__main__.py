"""`python -m benchmarks [NAME]...` measures everything, or what is named, and prints one table.

Exit code 1 when a bar is missed. `peers` takes minutes, and `amqp` needs RabbitMQ: both are measured only when named.
"""

import sys
from importlib import import_module

_NAMES = ("start", "fire", "journal", "listing", "http")


def main(names: list[str]) -> int:
    """Measure, and print each figure as it is there."""
    missed = 0
    for name in names or _NAMES:
        for figure in import_module(f"benchmarks.{name}").measure():
            verdict = "" if not figure.bar else "met" if figure.met else "MISSED"
            print(f"{figure.what:<100} {figure.ratio:>16}  {figure.bar:>9}  {verdict}", flush=True)
            missed += not figure.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
