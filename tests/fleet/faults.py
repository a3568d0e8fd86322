"""The faults of a fleet of hosts: what each breaks, and a schedule of them drawn by a seed.

A fault breaks its target, holds for `hold_s`, and repairs it. Two faults of one round overlap; their targets
differ.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.fleet.cgroups import DISK, FREEZER, Group, can_freeze, can_slow_disks
from tests.fleet.clocks import can_leap
from tests.fleet.hosts import WORKERS, FleetOfHosts
from tests.fleet.network import Direction

SERVERS = ("n1", "n2", "n3")
LEADERLESS_S = 15.0
"""How long a killed leader stays dead until there is another one; NATS elects one within 4 to 9 s."""
MAJORITY_S = 60.0
"""How long two servers that are started again may take to accept writes."""
LEAPS_S = (-7200, -60, 60, 7200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. `target` is a worker's name, or those of NATS servers; `after_s` counts from its round.

    `everything`: a cut also separates the worker from store, broker and cameras.
    """

    kind: str
    target: str
    hold_s: float
    after_s: float = 0.0
    everything: bool = False
    leap_s: int = 0

    @property
    def worker(self) -> str | None:
        """Return the worker that is broken; None if it is a NATS server."""
        return self.target if self.target in WORKERS else None

    def __str__(self) -> str:
        more = f" {self.leap_s:+d} s" if self.leap_s else " from all" if self.everything else ""
        return f"{self.kind} {self.target}{more} {self.hold_s:.1f} s"

    def inject(self, fleet: FleetOfHosts) -> None:
        """Break, hold, repair; return when it is repaired."""
        KINDS[self.kind](fleet, self)


def kill_worker(fleet: FleetOfHosts, fault: Fault) -> None:
    """SIGKILL; then start it again."""
    service = fleet.service(fault.target)
    service.kill()
    time.sleep(fault.hold_s)
    service.start()


def stop_worker(fleet: FleetOfHosts, fault: Fault) -> None:
    """SIGSTOP, then SIGCONT."""
    pid = fleet.service(fault.target).pid
    fleet.oracle.freeze(fault.target)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(fault.hold_s)
    os.kill(pid, signal.SIGCONT)
    fleet.oracle.thaw(fault.target)


def freeze_worker(fleet: FleetOfHosts, fault: Fault) -> None:
    """Freeze by cgroup, as in a suspended host."""
    group = Group(FREEZER, fault.target)
    group.take(fleet.service(fault.target).pid)
    fleet.oracle.freeze(fault.target)
    group.freeze(True)
    time.sleep(fault.hold_s)
    group.freeze(False)
    fleet.oracle.thaw(fault.target)
    group.close()


def _cut(fleet: FleetOfHosts, fault: Fault, direction: Direction) -> None:
    host = fleet.hosts[fault.target]
    host.cut(direction, fleet.peers(fault.everything))
    time.sleep(fault.hold_s)
    host.heal()


def cut_in(fleet: FleetOfHosts, fault: Fault) -> None:
    """Drop the packets to a worker."""
    _cut(fleet, fault, "in")


def cut_out(fleet: FleetOfHosts, fault: Fault) -> None:
    """Drop the packets from a worker."""
    _cut(fleet, fault, "out")


def cut_both(fleet: FleetOfHosts, fault: Fault) -> None:
    """Drop the packets of both directions."""
    _cut(fleet, fault, "both")


def kill_leader(fleet: FleetOfHosts, fault: Fault) -> None:
    """SIGKILL to the NATS server that leads the leases' stream."""
    leader = next((server for server in fleet.nats if server.leads()), fleet.nats[0])
    killed = time.monotonic()
    leader.kill()
    _wait_for_leader(fleet, killed + LEADERLESS_S)
    fleet.oracle.leaderless.append((killed, time.monotonic()))
    time.sleep(max(0.0, killed + fault.hold_s - time.monotonic()))
    leader.start()


def kill_majority(fleet: FleetOfHosts, fault: Fault) -> None:
    """SIGKILL to two NATS servers of three."""
    chosen = [server for server in fleet.nats if server.host.name in fault.target.split("+")]
    if not fleet.keeps:
        fleet.oracle.begin_excuse("no quorum")
    for server in chosen:
        server.kill()
    time.sleep(fault.hold_s)
    for server in chosen:
        server.start()
    _wait_for_leader(fleet, time.monotonic() + MAJORITY_S)
    fleet.oracle.end_excuse()


def _wait_for_leader(fleet: FleetOfHosts, until: float) -> None:
    while not fleet.accepts_writes() and time.monotonic() < until:
        time.sleep(0.2)


def leap_clock(fleet: FleetOfHosts, fault: Fault) -> None:
    """Let a worker's wall clock leap, and leap back."""
    clock = fleet.clocks[fault.target]
    clock.leap(fault.leap_s)
    time.sleep(fault.hold_s)
    clock.leap(0)


def slow_disk(fleet: FleetOfHosts, fault: Fault) -> None:
    """Let one NATS server write as slowly as renewals allow: with fewer writes there is no quorum."""
    server = next(server for server in fleet.nats if server.host.name == fault.target)
    assert server.process is not None
    device = fleet.folder.stat().st_dev
    group = Group(DISK, server.host.name)
    group.take(server.process.pid)
    group.limit_writes(device, max(4, round(len(fleet.stage.cameras) * 10 / fleet.ttl_s)))
    time.sleep(fault.hold_s)
    group.limit_writes(device, 0)
    group.close()


KINDS: dict[str, Callable[[FleetOfHosts, Fault], None]] = {
    kind.__name__: kind
    for kind in (
        kill_worker,
        stop_worker,
        freeze_worker,
        cut_in,
        cut_out,
        cut_both,
        kill_leader,
        kill_majority,
        leap_clock,
        slow_disk,
    )
}


def possible() -> list[str]:
    """Return the kinds of faults that this machine allows."""
    left_out = set()
    if not can_freeze():
        left_out.add("freeze_worker")
    if not can_slow_disks():
        left_out.add("slow_disk")
    if not can_leap():
        left_out.add("leap_clock")
    return [name for name in KINDS if name not in left_out]


def schedule(
    rng: random.Random, names: list[str], count: int, *, ttl_s: float, overlap: float = 0.0
) -> Iterator[tuple[Fault, ...]]:
    """Yield `count` faults in rounds of one or two; each kind comes once before any comes again.

    `overlap` is the probability that a second fault begins while the first one holds. It breaks another
    worker, or a NATS server while the first breaks a worker; the loss of the majority comes alone.
    """
    bag: list[str] = []

    def draw() -> Fault:
        if not bag:
            bag.extend(rng.sample(names, len(names)))
        kind = bag.pop()
        long = rng.random() < 0.6
        hold_s = rng.uniform(1.2, 2.0) * ttl_s if long else rng.uniform(0.2, 0.8) * ttl_s
        everything, leap_s = rng.random() < 0.4, rng.choice(LEAPS_S)
        worker, server = rng.choice(WORKERS), rng.sample(SERVERS, 2)
        match kind:
            case "kill_leader":
                return Fault(kind=kind, target="the leader", hold_s=hold_s)
            case "kill_majority":
                return Fault(kind=kind, target="+".join(server), hold_s=hold_s)
            case "slow_disk":
                return Fault(kind=kind, target=server[0], hold_s=hold_s)
            case "leap_clock":
                return Fault(kind=kind, target=WORKERS[0], hold_s=hold_s, leap_s=leap_s)
            case "cut_in" | "cut_out" | "cut_both":
                return Fault(kind=kind, target=worker, hold_s=hold_s, everything=everything)
        return Fault(kind=kind, target=worker, hold_s=hold_s)

    waiting: Fault | None = None
    while count > 0:
        first, waiting = waiting or draw(), None
        count -= 1
        if count > 0 and rng.random() < overlap:
            second = replace(draw(), after_s=rng.uniform(0.0, first.hold_s))
            if _may_overlap(first, second):
                count -= 1
                yield first, second
                continue
            waiting = replace(second, after_s=0.0)
        yield (first,)


def _may_overlap(first: Fault, second: Fault) -> bool:
    return "kill_majority" not in (first.kind, second.kind) and first.worker != second.worker
