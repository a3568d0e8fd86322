"""A worker's report about itself: the value of its key in the bucket, written every third of the TTL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from async_motion.fleet.leases import MAX_VALUE_BYTES, parse_object
from async_motion.fleet.placement import WorkerView

MAX_COSTS: Final = 400
"""Maximum number of costs in a report: it must fit into one value of the bucket."""
MAX_REASONS: Final = 16
MAX_REASON_CHARS: Final = 80
MAX_CORES: Final = 1e6
DEFAULT_COST: Final = 0.1
"""The cost, in cores, of a camera that was not measured yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a worker says of itself.

    `capacity` and `costs` (by camera) are in cores; a capacity of 0 was not valid. `refused` maps the cameras
    that it cannot open to the reasons. `about` has further fields, from outside of this package. `run` is
    drawn at each start: it distinguishes two workers of the same name.
    """

    capacity: float
    fingerprint: str | None
    draining: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""

    def encode(self) -> bytes:
        """Return the value for the bucket: JSON, without what is too much for one value."""
        refused = {
            camera: why[:MAX_REASON_CHARS] for camera, why in sorted(self.refused.items())[:MAX_REASONS]
        }
        costs = {camera: round(cost, 3) for camera, cost in list(self.costs.items())[:MAX_COSTS]}
        while len(value := self._encode(refused, costs)) > MAX_VALUE_BYTES and (costs or refused):
            # Names may be long: halve what is longer. A camera without a cost counts with the default one.
            if len(json.dumps(costs)) > len(json.dumps(refused)):
                costs = dict(list(costs.items())[: len(costs) // 2])
            else:
                refused = dict(list(refused.items())[: len(refused) // 2])
        return value

    def _encode(self, refused: Mapping[str, str], costs: Mapping[str, float]) -> bytes:
        value = {
            "capacity": self.capacity,
            "draining": self.draining,
            "refused": refused,
            "costs": costs,
            "about": dict(self.about),
            "fingerprint": self.fingerprint,
            "run": self.run,
        }
        return json.dumps(value, separators=(",", ":")).encode()

    def as_view(self, name: str, cameras: Iterable[str]) -> WorkerView:
        """Return this worker for placement, as the owner of `cameras`."""
        return WorkerView(
            name=name,
            capacity=self.capacity,
            load=sum(self.costs.get(camera, DEFAULT_COST) for camera in cameras),
            draining=self.draining,
            refused=frozenset(self.refused),
        )


def parse_report(value: bytes) -> WorkerReport:
    """Return the report in `value`; fields that are not valid have their defaults."""
    fields = parse_object(value)
    fingerprint, run = fields.get("fingerprint"), fields.get("run")
    return WorkerReport(
        capacity=_cores(fields.get("capacity")) or 0.0,
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        draining=fields.get("draining") is True,
        refused={camera: str(why) for camera, why in _mapping(fields.get("refused")).items()},
        costs={
            camera: cost
            for camera, value in _mapping(fields.get("costs")).items()
            if (cost := _cores(value)) is not None
        },
        about=_mapping(fields.get("about")),
        run=run if isinstance(run, str) else "",
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _cores(value: object) -> float | None:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MAX_CORES
    return float(value) if valid else None  # type: ignore[arg-type]
