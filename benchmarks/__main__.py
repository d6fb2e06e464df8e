"""`python -m benchmarks` measures everything and prints one table; exit code 1 when a bar is missed."""

import sys

from benchmarks import fire, start


def main() -> int:
    """Measure, and print each figure as it is there."""
    missed = 0
    for measurement in (start, fire):
        for figure in measurement.measure():
            verdict = "" if not figure.bar else "met" if figure.met else "MISSED"
            print(f"{figure.what:<84} {figure.ratio:>12}  {figure.bar:>9}  {verdict}", flush=True)
            missed += not figure.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
