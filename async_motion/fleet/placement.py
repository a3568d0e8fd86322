"""Placement of cameras on workers. Pure: every worker computes the same answer from the same view.

- *Preference.* Weighted rendezvous hashing (Thaler and Ravishankar, 1998; the weights after Schindelhauer and
  Schomaker, 2005): each pair of camera and worker has a score, and the camera prefers the worker with the
  highest one. A worker that joins or leaves moves only its own share of the cameras.
- *Two choices.* Of the two workers that a free camera prefers, the one with more room takes it (Mitzenmacher,
  2001). Choosing the emptiest worker of all would send every free camera to the same one.
- *Stagger.* The other workers follow, each `STAGGER_S` after the one ranked before it. If the first choice
  cannot act, this costs a fraction of a second instead of a lease's time to live.
- *Band.* A worker sheds a camera only if its load is more than `BAND` above the fleet's mean and a preferred
  worker of the camera has room. It does not take the camera back for `COOL_DOWN_S`.

Costs and capacities are in cores: a camera's cost is the share of a core that it keeps busy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

BAND = 0.25
"""How far above the mean load a worker may be before it sheds cameras, as a share of the mean."""

STAGGER_S = 0.4
"""Delay for each rank before a worker tries to acquire a free camera."""

MAX_STAGGER_S = 2.0
"""Maximum delay; with the time for one attempt, a dead owner is replaced within TTL + 3 s."""

COOL_DOWN_S = 120.0
"""How long a worker does not take back a camera that it has shed."""

CHOICES = 2
"""How many preferred workers compete by their load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker as the fleet sees it. `capacity` and `load` are in cores, `capacity` > 0.

    `draining`: it hands its cameras over and takes none. `refused` names cameras that it cannot open.
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
    """Return a camera's preference for a worker, > 0; higher is better."""
    digest = hashlib.blake2b(f"{camera}\0{worker.name}".encode(), digest_size=8).digest()
    # In the open interval (0, 1): at its ends the logarithm is 0 or infinite.
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return worker.capacity / -math.log(uniform)


def preferred(camera: str, workers: Collection[WorkerView]) -> list[WorkerView]:
    """Return the workers that may take a camera, in order of preference."""
    able = [worker for worker in workers if not worker.draining and camera not in worker.refused]
    return sorted(able, key=lambda worker: score(camera, worker), reverse=True)


def candidates(camera: str, cost: float, workers: Collection[WorkerView]) -> list[WorkerView]:
    """Return the workers in the order in which they should try to acquire a free camera.

    The `CHOICES` most preferred come first, sorted by the share of capacity used with the camera.
    """
    ranked = preferred(camera, workers)
    head = sorted(ranked[:CHOICES], key=lambda worker: (worker.load + cost) / worker.capacity)
    return [*head, *ranked[CHOICES:]]


def delay_s(camera: str, cost: float, me: str, workers: Collection[WorkerView]) -> float | None:
    """Return the seconds that `me` waits before it tries to acquire a free camera; None if it must not."""
    names = [worker.name for worker in candidates(camera, cost, workers)]
    if me not in names:
        return None
    return min(names.index(me) * STAGGER_S, MAX_STAGGER_S)


def to_shed(
    me: str, owned: Mapping[str, float], workers: Collection[WorkerView], *, settled: Collection[str]
) -> str | None:
    """Return a camera that `me` should shed to balance the loads; None if it has its fair share.

    `owned` maps the cameras of `me` to their costs. `settled` are those that it has owned for long enough to
    move again. Only one is returned: the next call sees the effect of its move.
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
            # Only if both improve: the other worker must end up below our remaining load.
            if (other.load + cost) / other.capacity < (mine.load - cost) / mine.capacity:
                better = score(camera, other) / score(camera, mine)
                if best is None or (better, camera) > best:
                    best = (better, camera)
    return best[1] if best is not None else None
