"""How one camera is watched: plain values, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

from async_motion.core.detection.detector import DetectorSettings
from async_motion.core.events.selection import PolicySettings
from async_motion.core.events.tracker import TrackerSettings
from async_motion.core.options import PRE_BYTES, PRE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """One camera's settings, and its bounds.

    `pre_s` and `pre_bytes` bound the pre-roll. `depth` frames may wait for the detector. Frames that wait for
    the encoder may take `backlog_bytes` beside a pre-roll. `settle_s` is how long the end of a connection
    waits for the outbox. `worker` and `epoch` tell the lease in a fleet, None without one.
    """

    instance: str
    camera: str
    prefix: str = ""
    detecting: bool = True
    detection: DetectorSettings = field(default_factory=DetectorSettings)
    tracking: TrackerSettings = field(default_factory=TrackerSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    pre_s: float = PRE_S
    pre_bytes: int = PRE_BYTES
    depth: int = 4
    backlog_bytes: int = 64 << 20
    settle_s: float = 5.0
    worker: str | None = None
    epoch: int | None = None
