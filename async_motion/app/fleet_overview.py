"""The fleet as the leases' bucket shows it, for the `fleet` command: overview, move, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from async_motion.app.fleet import fingerprint
from async_motion.errors import LeaseUnavailable, UsageError
from async_motion.fleet.bucket_view import DRAIN, MOVE, WORKER, drain_value, move_value
from async_motion.fleet.leases import CAMERA, Entry, parse_owner
from async_motion.fleet.model import INSTANCE, WatchedBucket
from async_motion.fleet.report import WorkerReport, parse_report
from async_motion.settings import Settings

POLL_S: Final = 0.25
MARGIN_S: Final = 10.0
"""Added to the leases' time to live for the time limit of a move or a drain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLine:
    """One worker's own report, of its present `run`. `capacity` and `load` are in cores.

    `refused` maps cameras to reasons.
    `different`: its settings differ from those of this command.
    """

    name: str
    capacity: float
    load: float
    cameras: int
    draining: bool
    speaker: bool
    different: bool
    spool_records: int
    run: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOverview:
    """All workers, sorted by name, and (worker, epoch) of each camera that has an owner."""

    workers: tuple[WorkerLine, ...]
    cameras: Mapping[str, tuple[str, int]]
    unowned: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `async-motion fleet --json` prints."""
        return {
            "workers": {
                worker.name: {
                    "capacity": worker.capacity,
                    "load": worker.load,
                    "cameras": worker.cameras,
                    "draining": worker.draining,
                    "speaker": worker.speaker,
                    "different": worker.different,
                    "spool_records": worker.spool_records,
                    "refused": dict(worker.refused),
                }
                for worker in self.workers
            },
            "cameras": {
                camera: {"worker": worker, "epoch": epoch} for camera, (worker, epoch) in self.cameras.items()
            },
            "unowned": list(self.unowned),
        }


async def look(bucket: WatchedBucket, settings: Settings) -> FleetOverview:
    """Return the current state of the fleet. Raises LeaseUnavailable."""
    entries: dict[str, Entry] = {}
    async for entry in bucket.watch():
        if entry is None:
            break
        entries[entry.key] = entry
    names = [name for name, camera in settings.cameras.items() if camera.enabled]
    owners = {
        name: owner
        for name in (*names, INSTANCE)
        if (entry := entries.get(CAMERA + name)) is not None and (owner := parse_owner(entry)) is not None
    }
    speaker = owners.pop(INSTANCE, None)
    ours = fingerprint(settings)
    workers = [
        _worker(
            key.removeprefix(WORKER),
            parse_report(entry.value),
            cameras=[name for name, owner in owners.items() if WORKER + owner.worker == key],
            speaker=speaker is not None and WORKER + speaker.worker == key,
            ours=ours,
        )
        for key, entry in sorted(entries.items())
        if key.startswith(WORKER) and entry.value
    ]
    return FleetOverview(
        workers=tuple(workers),
        cameras={name: (owner.worker, owner.epoch) for name, owner in sorted(owners.items())},
        unowned=tuple(name for name in names if name not in owners),
    )


def _worker(name: str, report: WorkerReport, *, cameras: list[str], speaker: bool, ours: str) -> WorkerLine:
    records = report.about.get("spool_records")
    return WorkerLine(
        name=name,
        capacity=report.capacity,
        load=round(sum(report.costs.get(camera, 0.0) for camera in cameras), 3),
        cameras=len(cameras),
        draining=report.draining,
        speaker=speaker,
        different=report.fingerprint != ours,
        spool_records=records if isinstance(records, int) else 0,
        run=report.run,
        refused=report.refused,
    )


async def move(bucket: WatchedBucket, settings: Settings, camera: str, worker: str) -> int:
    """Move a camera to a worker, and return its new epoch.

    Raises UsageError for unknown names or a draining worker; LeaseUnavailable if it does not move in time.
    """
    overview = await look(bucket, settings)
    if camera not in settings.cameras or not settings.cameras[camera].enabled:
        raise UsageError(f"{camera}: there is no such camera in {settings.origin}")
    line = _line(overview, worker)
    if line.draining:
        raise UsageError(
            f"{worker}: it is draining and takes no camera: async-motion fleet drain --undo {worker}"
        )
    before = overview.cameras.get(camera)
    if before is not None and before[0] == worker:
        return before[1]
    await bucket.put(MOVE + camera, move_value(worker))
    async with _patience(settings, f"{camera}: it did not move to {worker}"):
        while True:
            owner, epoch = (await look(bucket, settings)).cameras.get(camera, ("", 0))
            if owner == worker:
                return epoch
            await asyncio.sleep(POLL_S)


async def drain(bucket: WatchedBucket, settings: Settings, worker: str, *, undo: bool = False) -> int:
    """Make a worker hand over its cameras, and return how many are left; `undo`: let it take cameras again.

    Cameras are left if there is no other worker to take them. Raises UsageError; LeaseUnavailable, also if
    the worker is started again meanwhile: a drain is for one run.
    """
    line = _line(await look(bucket, settings), worker)
    run = line.run
    await bucket.put(DRAIN + worker, drain_value(draining=not undo, run=run))
    async with _patience(settings, f"{worker}: it does not answer"):
        while True:
            overview = await look(bucket, settings)
            line = next((one for one in overview.workers if one.name == worker), line)
            others = [one for one in overview.workers if one.name != worker and not one.draining]
            if line.draining is not undo and (undo or not line.cameras or not others):
                return line.cameras
            if line.run != run:
                raise LeaseUnavailable(f"{worker}: it was started again meanwhile; try again")
            await asyncio.sleep(POLL_S)


def _line(overview: FleetOverview, worker: str) -> WorkerLine:
    for line in overview.workers:
        if line.name == worker:
            return line
    known = ", ".join(line.name for line in overview.workers) or "none"
    raise UsageError(f"{worker}: there is no such worker, expected one of: {known}")


@asynccontextmanager
async def _patience(settings: Settings, message: str) -> AsyncIterator[None]:
    """Limit a wait inside the block to `ttl + MARGIN_S`; raise LeaseUnavailable with the text `message`."""
    seconds = settings.fleet.ttl + MARGIN_S
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise LeaseUnavailable(f"{message} within {seconds:g} s") from None
