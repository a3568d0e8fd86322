"""``python -m tests.fuzz [--seed N] [--minutes M | --cases K] [--only NUMBER]``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import Fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Hostile cameras and files.")
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same cases")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--cases", type=int, default=None, help="so many in place of a time")
    parser.add_argument(
        "--only", type=int, default=None, metavar="NUMBER", help="this case of the seed alone"
    )
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="async_motion-fuzz-") as folder, Fuzz(Path(folder), seed) as fuzz:
        if args.only is not None:
            print(fuzz.case(args.only))
        else:
            fuzz.run(seconds=args.minutes * 60, cases=args.cases)
        return fuzz.report()


if __name__ == "__main__":
    sys.exit(main())
