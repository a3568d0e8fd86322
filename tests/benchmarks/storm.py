"""The client under seeded faults: python -m tests.benchmarks.storm [--faults 1000] [--seed 1].

A subscriber's program is killed at its writes, the broker killed and emptied, the bucket out of reach, the
clock set back, the spool replaced (`tests.support.storm`), against SeaweedFS and mosquitto. Each round has
120 events and a seed of its own, until there were that many faults. It prints the faults by kind, and how
many events were missed, repeated and out of order: the goal is none. The exit code is 1 if there were any.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from tests.support.s3 import seaweedfs
from tests.support.storm import storm

EVENTS = 120
WITHIN_S = 1800.0


def main() -> int:
    """Run the storm; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    faults: Counter[str] = Counter()
    events = wrong = 0
    with tempfile.TemporaryDirectory() as name, seaweedfs(Path(name) / "weed") as server:
        seed = args.seed
        while faults.total() < args.faults:
            folder = Path(name) / str(seed)
            folder.mkdir()
            outcome = asyncio.run(storm(folder, server, seed=seed, events=EVENTS, within_s=WITHIN_S))
            events += outcome.events
            faults += outcome.faults
            wrong += outcome.missed + outcome.repeated + outcome.out_of_order
            print(
                f"seed {seed}: {outcome.faults.total()} faults, missed {outcome.missed}, repeated"
                f" {outcome.repeated}, out of order {outcome.out_of_order}",
                flush=True,
            )
            seed += 1
    kinds = ", ".join(f"{count} {kind}" for kind, count in faults.most_common())
    print(f"{events} events, {faults.total()} faults ({kinds}): {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
