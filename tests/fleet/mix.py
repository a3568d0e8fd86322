"""Break a fleet of hosts by a seed, round by round, then judge it.

The faults of a round are injected, held and repaired; the next round comes when each camera has its one owner
again.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from tests.fleet.faults import Fault, schedule
from tests.fleet.hosts import FleetOfHosts
from tests.fleet.oracle import Span
from tests.fleet.stage import older_epochs
from tests.fleet.verdict import (
    Judgement,
    devices,
    judge_connections,
    judge_end,
    judge_frames,
    moved_of_others,
)
from tests.support.wait import eventually

RECOVERY_S = 240.0
"""Time limit for an owner of each camera, at the start and after each round; a busy machine needs it."""
SETTLE = 0.35
"""Pause after a repair, as a share of the TTL: the leases are renewed once."""


def run_mix(
    fleet: FleetOfHosts,
    *,
    seed: int,
    faults: int,
    names: list[str],
    overlap: float = 0.0,
    slack_s: float = 0.0,
) -> Judgement:
    """Inject `faults` faults, repair, and judge. `slack_s` is what a busy machine adds to a failover."""
    rng = random.Random(seed)
    oracle, stage = fleet.oracle, fleet.stage
    problems: list[str] = []
    counts: Counter[str] = Counter()
    moved: list[int] = []
    hit = 0
    eventually(oracle.covered, within_s=RECOVERY_S, what="an owner for each camera")
    eventually(lambda: len(devices(fleet)) == 1 + len(stage.cameras), within_s=60, what="the devices")
    devices_before = devices(fleet)
    time.sleep(SETTLE * fleet.ttl_s)
    oracle.end_excuse()
    begun = time.monotonic()
    for chosen in schedule(rng, names, faults, ttl_s=fleet.ttl_s, overlap=overlap):
        counts.update(fault.kind for fault in chosen)
        at, before = time.monotonic(), dict(oracle.owners)
        _inject(fleet, chosen)
        repaired = time.monotonic()
        text = " | ".join(map(str, chosen))
        broken = {fault.worker for fault in chosen if fault.worker is not None}
        hit += sum(bool(broken.intersection(owners)) for owners in before.values())
        try:
            if len(broken) < len(chosen):
                eventually(fleet.accepts_writes, within_s=RECOVERY_S, what="a leader of the leases")
                time.sleep(SETTLE * fleet.ttl_s)  # a lease that cannot be saved expires now
            eventually(oracle.covered, within_s=RECOVERY_S, what="one owner for each camera")
        except AssertionError as exc:
            problems.append(f"{text}: {exc}: {oracle.owners}")
            break
        if len(broken) == len(chosen):  # without their leader the servers let leases of any worker expire
            moved.append(moved_of_others(before, oracle.owners, broken=broken))
        worst = max((gap.length_s for gap in oracle.gaps if gap.end_s > at), default=0.0)
        after = time.monotonic() - repaired
        print(
            f"{at - begun:7.1f} s  {text:64} covered {after:5.1f} s later, longest gap {worst:.1f} s,"
            f" moved {moved[-1] if len(broken) == len(chosen) else '-'}",
            flush=True,
        )
        time.sleep(SETTLE * fleet.ttl_s)
    lasted = time.monotonic() - begun
    problems += judge_end(fleet, devices_before)

    def why(span: Span) -> str:
        waited = fleet.pressure.during(span.begin_s - fleet.ttl_s, span.end_s)
        return f", from {span.begin_s - begun:.1f} s; waited {waited}"

    problems += judge_connections(oracle, bound_s=fleet.bound_s, slack_s=slack_s, keeps=fleet.keeps, why=why)
    problems += older_epochs(stage.said())
    lost, figures = judge_frames(fleet)
    problems += lost
    # With slack the machine is busy: workers lose leases by themselves, and more cameras move.
    if not slack_s and max(moved, default=0) > len(stage.cameras) / len(stage.workers) + 2:
        problems.append(f"{max(moved)} cameras moved that the broken worker did not own")
    thawed = [span.length_s for span in oracle.overlaps if span.excused]
    own = [gap.length_s for gap in oracle.gaps if gap.excused is None]
    figures |= {
        "seed": seed,
        "faults": sum(counts.values()),
        "kinds": dict(counts),
        "minutes": round(lasted / 60, 1),
        "cameras": len(stage.cameras),
        "ttl_s": fleet.ttl_s,
        "cameras_of_broken_workers": hit,
        "gaps": len(own),
        "longest_gap_s": round(max(own, default=0.0), 1),
        "gaps_beyond_bound": sum(length > fleet.bound_s for length in own),
        "of_them_without_a_leader": sum(
            gap.length_s > fleet.bound_s >= oracle.led_s(gap) for gap in oracle.gaps if gap.excused is None
        ),
        "overlaps": sum(span.excused is None for span in oracle.overlaps),
        "moved_of_others": max(moved, default=0),
        "after_thaw_s": round(max(thawed, default=0.0), 1),
    }
    return Judgement(problems, figures)


def _inject(fleet: FleetOfHosts, chosen: tuple[Fault, ...]) -> None:
    """Inject the faults of one round, each in a thread; return when all are repaired."""
    failed: list[BaseException] = []

    def inject(fault: Fault) -> None:
        time.sleep(fault.after_s)
        fleet.oracle.faults.append(time.monotonic())
        try:
            fault.inject(fleet)
        except BaseException as exc:  # noqa: BLE001 - raised again below
            failed.append(exc)

    threads = [threading.Thread(target=inject, args=(fault,), name=str(fault)) for fault in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
