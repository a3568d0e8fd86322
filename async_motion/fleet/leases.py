"""Leases in a NATS JetStream key-value bucket: create, renew, release, by compare-and-set.

    create(camera) ──▶ Lease(epoch = revision, deadline) ──renew──▶ … ──release──▶ free
                                   │ no answer: unknown
                                   └──▶ read it back: ours (same tenure), lost, or not known yet

Invariants
- A key expires `ttl_s` after the server's timestamp of its last write. The deadline counts from before that
  write was *sent*, so that it is never later than the server's.
- The epoch is the revision of the write that created the lease. Revisions grow over the whole bucket, so the
  next owner's epoch is higher.
- A write without an answer may have happened. It is read back and recognised by its `tenure`, a random token
  drawn for each lease.
- Only another owner's entry, which a quorum has written, proves that a lease is lost. A refusal alone does
  not: a leader that has just lost its quorum refuses every second write to a key while the first one waits.
  A missing key does not either: each server expires keys by itself. It is created again, which needs the
  quorum; the lease then goes on with a new epoch.

Errors: `LeaseUnavailable` (no answer, no quorum) and `LeaseLost` (another owner).
"""

from __future__ import annotations

import json
import math
import secrets
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from async_motion.errors import LeaseLost, LeaseUnavailable
from async_motion.fleet.clock import boottime

MAX_VALUE_BYTES = 16 << 10
"""Maximum size of a lease's or a worker's JSON: longer values are not ours."""

CAMERA = "camera."
"""Key prefix of leases."""
MAX_TENURES: Final = 8
"""Acquisitions of a camera to remember: a write without an answer may be done after later ones."""


def bucket_name(instance: str) -> str:
    """Return the name of the bucket of an instance's leases."""
    return f"async_motion_{instance}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of the bucket. `value` is empty if the key was deleted; `revision` grows over the bucket.

    `written_s` is the servers' time of the write (Unix time, seconds); None: unknown.
    """

    key: str
    value: bytes
    revision: int
    written_s: float | None = None


class KeyValueBucket(Protocol):
    """A key-value bucket with compare-and-set and expiring keys.

    All methods raise LeaseUnavailable if there is no answer.
    """

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that does not exist; return its revision. Raises KeyTaken."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write a key whose revision is `revision`; return the new one. Raises KeyTaken."""

    async def get(self, key: str) -> Entry | None:
        """Return a key's entry; None if it does not exist or was deleted."""

    async def delete(self, key: str, revision: int) -> None:
        """Delete a key whose revision is `revision`. Raises KeyTaken."""


class KeyTaken(Exception):
    """The key exists already, or has another revision than expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The owner of a camera, as stored in the bucket.

    `epoch` is 0 in the first write: that write's revision is the epoch. `note` is the camera's open event,
    which the next owner must end if this one is lost.
    """

    worker: str
    tenure: str
    epoch: int
    note: Mapping[str, Any] | None = None

    def encode(self) -> bytes:
        """Return the value for the bucket."""
        value: dict[str, Any] = {"worker": self.worker, "tenure": self.tenure, "epoch": self.epoch}
        if self.note is not None:
            value["note"] = dict(self.note)
        return json.dumps(value, separators=(",", ":")).encode()


def parse_owner(entry: Entry) -> Owner | None:
    """Return a camera's owner; None if the value is invalid: it blocks the camera until it expires."""
    value = parse_object(entry.value)
    worker, tenure, epoch = value.get("worker"), value.get("tenure"), value.get("epoch")
    if not (isinstance(worker, str) and isinstance(tenure, str)):
        return None
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= entry.revision:
        return None
    note = value.get("note")
    return Owner(
        worker=worker,
        tenure=tenure,
        epoch=epoch or entry.revision,
        note=note if isinstance(note, dict) else None,
    )


def parse_object(value: bytes) -> Mapping[str, Any]:
    """Return the JSON object in `value`; an empty one if it is not one, or longer than `MAX_VALUE_BYTES`."""
    if not 0 < len(value) <= MAX_VALUE_BYTES:
        return {}
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to one camera until `deadline` (boot time, seconds)."""

    camera: str
    epoch: int
    tenure: str
    revision: int
    deadline: float


class LeaseKeeper:
    """Acquire, renew and release the leases of one worker.

    `ttl_s` is how long a key lives in the bucket after its last write.
    """

    def __init__(
        self,
        bucket: KeyValueBucket,
        worker: str,
        *,
        ttl_s: float,
        clock: Callable[[], float] = boottime,
        draw_tenure: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._bucket = bucket
        self._worker = worker
        self._ttl_s = ttl_s
        self._clock = clock
        self._draw_tenure = draw_tenure
        self._tenures: dict[str, deque[str]] = {}
        """The tenures of each camera's last acquisitions, by camera of the settings."""

    def is_ours(self, camera: str, owner: Owner) -> bool:
        """Return whether a camera's lease in the bucket was written by this keeper."""
        return owner.tenure in self._tenures.get(camera, ())

    async def acquire(self, camera: str) -> Lease | None:
        """Return a new lease on a camera; None if there is one in the bucket, or this one is not there.

        One in the bucket may be from an earlier call (`is_ours`): `resume` returns that.
        Raises LeaseUnavailable.
        """
        owner = Owner(worker=self._worker, tenure=self._draw_tenure(), epoch=0)
        self._tenures.setdefault(camera, deque(maxlen=MAX_TENURES)).append(owner.tenure)
        sent = self._clock()
        try:
            revision = await self._bucket.create(CAMERA + camera, owner.encode())
        except KeyTaken:
            return None
        except LeaseUnavailable:
            # The write may have happened. Then it blocks the camera for everyone, so use it. An earlier write
            # of ours may be there instead, whose deadline this is not.
            return await self._written(camera, (owner.tenure,), sent + self._ttl_s)
        return Lease(
            camera=camera,
            epoch=revision,
            tenure=owner.tenure,
            revision=revision,
            deadline=sent + self._ttl_s,
        )

    async def resume(self, camera: str) -> Lease | None:
        """Return this keeper's lease on a camera as it is in the bucket, renewed; None if it is gone.

        A write without an answer may be done long after it was sent, and a release may fail: then the lease
        lives on and blocks the camera for everyone. Raises LeaseUnavailable.
        """
        lease = await self._written(camera, self._tenures.get(camera, ()), -math.inf)
        with suppress(LeaseLost):
            return None if lease is None else await self.renew(lease)
        return None

    async def _written(self, camera: str, tenures: Collection[str], deadline: float) -> Lease | None:
        """Return the lease on a camera in the bucket; None if there is none with one of `tenures`."""
        entry = await self._bucket.get(CAMERA + camera)
        found = parse_owner(entry) if entry is not None else None
        if entry is None or found is None or found.tenure not in tenures:
            return None
        return Lease(
            camera=camera,
            epoch=found.epoch,
            tenure=found.tenure,
            revision=entry.revision,
            deadline=deadline,
        )

    async def renew(self, lease: Lease, note: Mapping[str, Any] | None = None) -> Lease:
        """Return the lease with a later deadline; with a new epoch too if its key had expired meanwhile.

        Raises LeaseLost; LeaseUnavailable, after which the old lease is valid until its deadline.
        """
        sent = self._clock()
        try:
            epoch, revision = lease.epoch, await self._write(lease, lease.epoch, note, lease.revision)
        except KeyTaken:
            # An earlier write without an answer may have been done: then this revision is ours.
            entry = await self._bucket.get(CAMERA + lease.camera)
            found = parse_owner(entry) if entry is not None else None
            if entry is not None and (found is None or found.tenure != lease.tenure):
                who = f"{found.worker} holds it" if found is not None else "its key is not ours"
                raise LeaseLost(f"{lease.camera}: the lease is lost: {who}") from None
            sent = self._clock()
            try:
                if entry is None or found is None:
                    epoch = revision = await self._write(lease, 0, None, None)
                else:
                    epoch, revision = found.epoch, await self._write(lease, found.epoch, note, entry.revision)
            except KeyTaken:
                raise LeaseUnavailable(
                    f"the NATS servers refuse the lease of {lease.camera} without another owner"
                ) from None
        deadline = max(lease.deadline, sent + self._ttl_s)
        return replace(lease, epoch=epoch, revision=revision, deadline=deadline)

    async def _write(
        self, lease: Lease, epoch: int, note: Mapping[str, Any] | None, revision: int | None
    ) -> int:
        """Write a lease over `revision`, None: as a new key; return its revision."""
        value = Owner(worker=self._worker, tenure=lease.tenure, epoch=epoch, note=note).encode()
        key = CAMERA + lease.camera
        if revision is None:
            return await self._bucket.create(key, value)
        return await self._bucket.update(key, value, revision)

    async def release(self, lease: Lease) -> None:
        """Release a lease at once; a lost one is not an error. Raises LeaseUnavailable."""
        key = CAMERA + lease.camera
        entry = await self._bucket.get(key)
        found = parse_owner(entry) if entry is not None else None
        if entry is None or found is None or found.tenure != lease.tenure:
            return
        try:
            await self._bucket.delete(key, entry.revision)
        except KeyTaken:
            return


class Fence:
    """Keeps the time by which each camera must stop, before another worker can get its lease.

    A lease counts as over `margin_s` before its deadline: a stop takes time. `holds` reads the clock at each
    call, because after a suspend the timers fire late.
    """

    def __init__(self, margin_s: float, clock: Callable[[], float] = boottime) -> None:
        self._margin_s = margin_s
        self._clock = clock
        self._deadlines: dict[str, float] = {}

    def set(self, lease: Lease) -> None:
        """Set the deadline of a lease that was acquired or renewed."""
        self._deadlines[lease.camera] = lease.deadline

    def clear(self, camera: str) -> None:
        """Forget a camera whose lease was released."""
        self._deadlines.pop(camera, None)

    def left_s(self, camera: str) -> float:
        """Return the seconds until a camera must have stopped; negative if past, or without a lease."""
        return self._deadlines.get(camera, -math.inf) - self._margin_s - self._clock()

    def holds(self, camera: str) -> bool:
        """Return whether this worker may act as the owner of a camera now."""
        return self.left_s(camera) > 0
