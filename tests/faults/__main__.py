"""``python -m tests.faults [--seed N] [--minutes M] [--only FAULT …] [--spare KIND …] [--keep DIR]``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.breaking import CATALOGUE
from tests.faults.mix import report, run_mix


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Break things around the service."
    )
    parser.add_argument("--seed", type=int, default=None, help="the same seed breaks the same things")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", nargs="+", default=[], metavar="FAULT", choices=sorted(CATALOGUE))
    parser.add_argument(
        "--spare",
        nargs="+",
        default=[],
        metavar="KIND",
        choices=sorted({fault.touches for fault in CATALOGUE.values()}),
        help="nothing of this kind; without `service` one process lives through all, and leaks add up",
    )
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="work here, and keep it")
    parser.add_argument("--list", action="store_true", help="show what can be broken")
    args = parser.parse_args()
    if args.list:
        for fault in CATALOGUE.values():
            missing = "" if fault.possible() else "   (not possible here)"
            print(f"{fault.touches:8} {fault.name:28} {(fault.run.__doc__ or '').splitlines()[0]}{missing}")
        return 0
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, {args.minutes:g} minutes", flush=True)
    seconds = args.minutes * 60
    if args.keep is not None:
        return report(asyncio.run(run_mix(args.keep, seed, seconds, args.only, args.spare)))
    with tempfile.TemporaryDirectory(prefix="async_motion-faults-") as folder:
        return report(asyncio.run(run_mix(Path(folder), seed, seconds, args.only, args.spare)))


if __name__ == "__main__":
    sys.exit(main())
