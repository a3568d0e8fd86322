"""What a worker is told, what it tells, and the protocols that it needs: values, with no behaviour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from async_motion.core.options import LEASE_TTL_S, ON_QUORUM_LOSS, OnQuorumLoss
from async_motion.fleet.leases import Entry, KeyValueBucket
from async_motion.fleet.placement import WorkerView

INSTANCE: Final = "=instance"
"""Stands for the instance itself among the cameras: its owner speaks for it. Not a valid camera name."""


class OwnedCameras(Protocol):
    """Starts and stops this worker's cameras. No method raises."""

    def start(self, camera: str, epoch: int, note: Mapping[str, Any] | None) -> None:
        """Start the capture and return at once. `note` is that of the last owner if it was lost."""

    async def stop(self, camera: str) -> None:
        """End the capture at once; return when its frames are in the spool. May hang."""

    def cut(self, camera: str) -> bool:
        """End the camera's connections at once; return whether it is free.

        Called from any thread; must not wait. A camera that was cut is stopped next.
        """


class WatchedBucket(KeyValueBucket, Protocol):
    """A bucket whose changes can be followed."""

    def watch(self) -> AsyncIterator[Entry | None]:
        """Yield every key, then None, then each change. Raises LeaseUnavailable."""

    async def put(self, key: str, value: bytes) -> int:
        """Write a key unconditionally; return its revision. Raises LeaseUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A camera of this worker. `held` is False while it goes on only because of `keep`."""

    camera: str
    epoch: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """What this worker knows of the fleet. `owners` maps each owned camera to its worker.

    `about` maps each worker to what it reports about itself, `speaker` is the worker that owns the instance.
    """

    connected: bool
    workers: tuple[WorkerView, ...]
    owners: Mapping[str, str]
    epochs: Mapping[str, int]
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    speaker: str | None = None
    keeping: bool = False
    """Whether cameras go on although their leases cannot be renewed."""
    problem: str | None = None
    different: tuple[str, ...] = ()
    """Workers with other settings than this one."""
    namesake: bool = False
    """Whether another worker has this worker's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """Settings of a worker. `capacity` is in cores, > 0.

    `fingerprint` is a hash of the settings that all workers must share.
    """

    worker: str
    cameras: tuple[str, ...]
    capacity: float
    fingerprint: str
    ttl_s: float = LEASE_TTL_S
    on_quorum_loss: OnQuorumLoss = ON_QUORUM_LOSS

    @property
    def margin_s(self) -> float:
        """Return how long before the deadline a camera is stopped."""
        return min(1.5, self.ttl_s / 4)

    @property
    def cut_s(self) -> float:
        """Return how long before the deadline the connections of a camera that was not stopped are cut."""
        return self.margin_s / 2
