"""Runs simulations: `python -m tests.simulation 17` one seed, `17..400` many, `--shrink` the first that goes wrong."""

import os
import sys

from tests.simulation.run import shrink, simulate


def main(arguments: list[str]) -> int:
    seeds = [a for a in arguments if not a.startswith("-")]
    if len(seeds) != 1 or not all(s.isdigit() for s in seeds[0].split("..")):
        print("usage: python -m tests.simulation SEED[..SEED] [--shrink]", file=sys.stderr)
        return 2
    if "PYTHONHASHSEED" not in os.environ:  # the order of sets of strings: a seed must mean the same run everywhere
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *arguments], os.environ | {"PYTHONHASHSEED": "0"}
        )
    first, _, last = seeds[0].partition("..")
    wrong = 0
    for seed in range(int(first), int(last or first) + 1):
        outcome = simulate(seed)
        if outcome.violations and "--shrink" in arguments:
            outcome = shrink(outcome, told=lambda what: print(what, file=sys.stderr))
        wrong += bool(outcome.violations)
        print(outcome, flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
