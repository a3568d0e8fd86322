"""The mix: faults drawn from the catalogue by a seed, alone and two at a time, until the time is over."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.faults.breaking import CATALOGUE, Fault
from tests.faults.oracle import SLOWLY_S, Healed, Verdict
from tests.faults.stage import MAX_BYTES, Stage, staged

HOLD_S = (0.5, 6.0)
LOG_BYTES = 16 * 1024 * 1024
"""What the spool's log and the pages that it keeps for later may take beside its bound."""
LONG_HOLD_S = (12.0, 20.0)
"""Now and then an outage lasts until frames are delayed."""


def drawn(rng: random.Random, faults: Sequence[Fault]) -> list[tuple[Fault, float]]:
    """Draw what is broken next: one thing, or two of different kinds, and for how long."""
    first = rng.choice(faults)
    hold_s = rng.uniform(*LONG_HOLD_S) if rng.random() < 0.15 else rng.uniform(*HOLD_S)
    chosen = [(first, hold_s)]
    others = [f for f in faults if f.touches != first.touches]
    # A service that is being traced or squeezed must not be exchanged meanwhile.
    others = [f for f in others if {f.touches, first.touches} != {"service", "machine"}]
    if others and rng.random() < 0.35:
        chosen.append((rng.choice(others), rng.uniform(*HOLD_S)))
    return chosen


async def run_mix(
    folder: Path,
    seed: int,
    seconds: float,
    names: Sequence[str] = (),
    spared: Sequence[str] = (),
    say: bool = True,
) -> Verdict:
    """Break things for `seconds`, heal, settle, and let the oracle judge.

    `names` are the faults to draw from, none: all; `spared` what no fault may touch.
    """
    rng = random.Random(seed)
    faults = [f for f in CATALOGUE.values() if f.possible() and (not names or f.name in names)]
    faults = [f for f in faults if f.touches not in spared]
    counts: Counter[str] = Counter()
    async with staged(folder, seed, whole=True) as stage:
        begun = time.monotonic()
        deadline = begun + seconds
        try:
            while time.monotonic() < deadline:
                chosen = drawn(rng, faults)
                if say:
                    what = " and ".join(f"{f.name} for {hold_s:.1f} s" for f, hold_s in chosen)
                    print(f"{time.monotonic() - begun:7.1f} s  {what}", flush=True)
                await break_things(stage, chosen)
                counts.update(f.name for f, _ in chosen)
                # Mostly the next comes before all is well again. Now and then it may recover, and is judged
                # by it.
                await asyncio.sleep(SLOWLY_S + 1.0 if rng.random() < 0.08 else rng.uniform(0.5, 3.0))
            verdict = await finish(stage)
        except* AssertionError as group:
            # What did not happen in time, with all that is known beside it.
            verdict = await stage.oracle.judge()
            verdict.problems += [str(exc) for exc in _leaves(group)]
        seconds = round(time.monotonic() - begun)
        verdict.figures |= {"seed": seed, "seconds": seconds, "faults": counts.total(), **counts}
        return verdict


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the exceptions in a group and its groups."""
    return [
        leaf
        for exc in group.exceptions
        for leaf in (_leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc])
    ]


async def break_things(stage: Stage, chosen: Sequence[tuple[Fault, float]]) -> None:
    """Break these at once; return when all is healed."""
    if stage.oracle.healed:
        stage.oracle.healed[-1].until = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for each, hold_s in chosen:
            tasks.create_task(_run(each, stage, hold_s), name=each.name)
    is_refusal = any(f.is_refusal for f, _ in chosen)
    stage.oracle.healed.append(Healed(" and ".join(f.name for f, _ in chosen), time.monotonic(), is_refusal))


async def _run(each: Fault, stage: Stage, hold_s: float) -> None:
    await each.run(stage, hold_s)


async def finish(stage: Stage) -> Verdict:
    """Let everything settle, judge, and stop the service in order."""
    await stage.fresh_frame()
    await stage.settle()
    verdict = await stage.oracle.judge()
    verdict.problems += [f"leaked: {leak}" for leak in await stage.leaks()]
    verdict.problems += [f"not retained: {topic}" for topic in await stage.not_retained()]
    verdict.require(stage.oracle.spool_bytes <= MAX_BYTES + LOG_BYTES, "the spool outgrew its bound")
    code = await asyncio.to_thread(stage.service.stop)
    verdict.require(code == 0, f"exit code {code} after SIGTERM")
    for secret in (stage.store.admin.secret_key, "the-service"):
        verdict.require(secret not in stage.service.log_text(), "a secret is in the log")
    return verdict


def report(verdict: Verdict) -> int:
    """Print a verdict; return the exit code."""
    print(json.dumps(verdict.figures, indent=2))
    for problem in verdict.problems:
        print(f"BROKEN PROMISE: {problem}", file=sys.stderr)
    return 1 if verdict.problems else 0
