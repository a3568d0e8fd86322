"""Which worker should have which camera. Pure: every worker computes the same answer from the same view.

- *Preference.* Weighted rendezvous hashing (Thaler and Ravishankar, 1998; the weights after Schindelhauer and
  Schomaker, 2005): each pair of camera and worker has a score, and the camera prefers the worker with the
  highest one. A worker that joins or leaves moves only its own share of the cameras.
- *Two choices.* Of the two workers that a free camera prefers, the one with more room takes it (Mitzenmacher,
  2001). The emptiest worker of all would be chosen by every free camera at once.
- *Stagger.* Each other worker follows after `STAGGER_S` for each rank, so that a choice that cannot act
  costs a fraction of a second, not a lease.
- *Band.* A worker sheds a camera only while its load is more than `BAND` above the fleet's mean and the
  camera has a preferred worker with room. What it shed, it does not take back for `COOL_DOWN_S`.

Costs and capacities are in cores: a camera costs the share of a core that it keeps busy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

BAND = 0.25
"""How far above the mean load a worker may be before it sheds cameras, as a share of the mean."""

STAGGER_S = 0.4
"""How much later each next worker tries for a free camera."""

MAX_STAGGER_S = 2.0
"""The latest any worker tries: with the time for a try, a dead owner is replaced within its TTL + 3 s."""

COOL_DOWN_S = 120.0
"""How long a worker does not take back a camera that it shed."""

CHOICES = 2
"""How many preferred workers compete by their load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What a worker says of itself. `capacity` and `load` are in cores, `capacity` > 0.

    `draining`: it gives its cameras away and takes none. `refused` names cameras that it cannot open.
    """

    name: str
    capacity: float
    load: float = 0.0
    draining: bool = False
    refused: frozenset[str] = frozenset()

    @property
    def share(self) -> float:
        """Return the load as a share of the capacity."""
        return self.load / self.capacity


def score(camera: str, worker: WorkerView) -> float:
    """Return how much a camera prefers a worker, > 0: the higher, the more."""
    digest = hashlib.blake2b(f"{camera}\0{worker.name}".encode(), digest_size=8).digest()
    # (0, 1): neither end, whose logarithm would be 0 or infinite.
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return worker.capacity / -math.log(uniform)


def preferred(camera: str, workers: Collection[WorkerView]) -> list[WorkerView]:
    """Return the workers that may take a camera, the preferred one first."""
    able = [worker for worker in workers if not worker.draining and camera not in worker.refused]
    return sorted(able, key=lambda worker: score(camera, worker), reverse=True)


def candidates(camera: str, cost: float, workers: Collection[WorkerView]) -> list[WorkerView]:
    """Return the workers in the order in which they should try for a free camera.

    The two preferred ones come first, the one with the lower load (with the camera) before the other.
    """
    ranked = preferred(camera, workers)
    head = sorted(ranked[:CHOICES], key=lambda worker: (worker.load + cost) / worker.capacity)
    return [*head, *ranked[CHOICES:]]


def delay_s(camera: str, cost: float, me: str, workers: Collection[WorkerView]) -> float | None:
    """Return how long `me` waits before it tries for a free camera; None where it must not."""
    names = [worker.name for worker in candidates(camera, cost, workers)]
    if me not in names:
        return None
    return min(names.index(me) * STAGGER_S, MAX_STAGGER_S)


def to_shed(
    me: str, owned: Mapping[str, float], workers: Collection[WorkerView], *, settled: Collection[str]
) -> str | None:
    """Return a camera that `me` should give away to even the loads out; None while it has its fair share.

    `owned` maps the cameras of `me` to their costs, `settled` are those that it has had for long enough to
    move again. One at a time: the next look sees what the first move did.
    """
    active = [worker for worker in workers if not worker.draining]
    mine = next((worker for worker in active if worker.name == me), None)
    if mine is None or len(active) < 2:
        return None
    mean = sum(worker.load for worker in active) / sum(worker.capacity for worker in active)
    if mine.share <= mean * (1 + BAND):
        return None
    best: tuple[float, str] | None = None
    for camera, cost in owned.items():
        if camera not in settled or cost <= 0:
            continue
        for other in preferred(camera, active)[:CHOICES]:
            if other.name == me:
                continue
            # Only where both ends are better off: the other one must stay below what we have now.
            if (other.load + cost) / other.capacity < (mine.load - cost) / mine.capacity:
                better = score(camera, other) / score(camera, mine)
                if best is None or (better, camera) > best:
                    best = (better, camera)
    return best[1] if best is not None else None
