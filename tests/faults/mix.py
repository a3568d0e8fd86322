"""The mix: faults drawn from the catalogue by a seed, one or two at a time, until the time is over."""

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
"""What the spool's WAL and its free pages may take beyond its bound."""
LONG_HOLD_S = (12.0, 20.0)
"""Range of an occasional long outage, in which frames become delayed."""


def drawn(rng: random.Random, faults: Sequence[Fault]) -> list[tuple[Fault, float]]:
    """Draw the next faults, one or two of different kinds, and their durations in seconds."""
    first = rng.choice(faults)
    hold_s = rng.uniform(*LONG_HOLD_S) if rng.random() < 0.15 else rng.uniform(*HOLD_S)
    chosen = [(first, hold_s)]
    others = [f for f in faults if f.touches != first.touches]
    # A service that is traced or squeezed must not be replaced meanwhile.
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
    """Inject faults for `seconds`, repair, settle, and let the oracle judge.

    `names` are the faults to draw from (empty: all), `spared` the kinds that no fault may touch.
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
                # Usually the next fault comes before a full recovery. Sometimes the service has time to
                # recover, and the recovery is judged.
                await asyncio.sleep(SLOWLY_S + 1.0 if rng.random() < 0.08 else rng.uniform(0.5, 3.0))
            verdict = await finish(stage)
        except* AssertionError as group:
            # Report the time-out together with everything else that is known.
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
    """Inject these faults concurrently; return once all are repaired."""
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
