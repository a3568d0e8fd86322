"""``python -m tests.fleet [--seed N] [--faults N] [--cameras N] [--ttl S] [--overlap SHARE] [--only FAULT …]
[--on-quorum-loss keep] [--keep DIR]``, as root."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fleet.faults import KINDS, possible
from tests.fleet.hosts import TTL_S, fleet_of_hosts
from tests.fleet.mix import run_mix
from tests.fleet.network import isolated, missing


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description="Break a fleet of workers.")
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same faults")
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--ttl", type=float, default=TTL_S, help="the leases' time to live, in seconds")
    parser.add_argument("--overlap", type=float, default=0.0, help="share of faults that a second one joins")
    parser.add_argument("--only", nargs="+", default=[], metavar="FAULT", choices=sorted(KINDS))
    parser.add_argument("--slack", type=float, default=0.0, help="seconds that a busy machine may add")
    parser.add_argument("--on-quorum-loss", choices=("stop", "keep"), default="stop")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="work here, and keep it")
    parser.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if not args.isolated:
        why = missing()
        if why is not None:
            print(f"not possible here: {why}")
            return 3
        return subprocess.run(isolated(arguments), check=False).returncode
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    names = [name for name in possible() if not args.only or name in args.only]
    if left_out := sorted(set(KINDS) - set(possible())):
        print(f"not possible here: {', '.join(left_out)}")
    print(f"seed {seed}, {args.faults} faults, {args.cameras} cameras", flush=True)
    with tempfile.TemporaryDirectory(prefix="async_motion-fleet-") as temporary:
        folder = args.keep or Path(temporary)
        with fleet_of_hosts(
            folder, cameras=args.cameras, on_quorum_loss=args.on_quorum_loss, ttl_s=args.ttl
        ) as fleet:
            judged = run_mix(
                fleet,
                seed=seed,
                faults=args.faults,
                names=names,
                overlap=args.overlap,
                slack_s=args.slack,
            )
    print(json.dumps(judged.figures))
    for problem in judged.problems:
        print(f"PROBLEM {problem}")
    return 1 if judged.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
