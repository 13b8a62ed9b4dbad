"""`make faults`: every fault at many random points. Prints one line of JSON last, and ends with an error unless the promise was kept."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

import pytest

from tests.faults.tally import TOTAL


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats the random points of a run")
    parser.add_argument("--points", type=int, default=20, help="how many of them the long tests try (default: 20)")
    options, others = parser.parse_known_args()
    os.environ["FAULTS_SEED"], os.environ["FAULTS_POINTS"] = str(options.seed), str(options.points)
    sys.stdout.write(f"Seed {options.seed}: make faults FAULTS='--seed {options.seed}' tries the same again.\n")
    code = pytest.main([str(Path(__file__).parent), "-m", "long or not long", "--verbose", "--tb=short", *others])
    sys.stdout.write(f"{TOTAL}\n")
    return int(code) or int(not TOTAL.kept)


if __name__ == "__main__":
    sys.exit(main())
