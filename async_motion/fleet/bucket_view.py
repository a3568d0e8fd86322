"""One worker's view of the bucket: who owns which camera, which workers live, and what is asked of them.

The view is a cache. Only the compare-and-set decides: a stale view costs an attempt, never a second owner.
A key counts as expired `ttl_s` after the view last saw it change, by its own clock. If its writer is alive
after all, the bucket refuses the attempt.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from async_motion.errors import LeaseUnavailable
from async_motion.fleet.leases import CAMERA, Entry, Owner, parse_object, parse_owner
from async_motion.fleet.model import WatchedBucket
from async_motion.fleet.report import WorkerReport, parse_report

log = logging.getLogger(__name__)

WORKER: Final = "worker."
"""Key prefix of the workers' reports."""
MOVE: Final = "move."
"""Key prefix of manual moves: the camera's next owner."""
DRAIN: Final = "drain."
"""Key prefix of manual drains: the worker hands its cameras over, and takes none until it starts again."""

MAX_OTHER_KEYS: Final = 256
"""Maximum number of other keys in the view: a bucket full of garbage must not fill memory."""
RETRY_S: Final = 0.5
"""The wait after a request that the bucket did not answer."""
PROBE_S: Final = 1.0
"""Time limit of a request that finds out whether the bucket answers again."""


def move_value(worker: str) -> bytes:
    """Return the value of a manual move to a worker."""
    return json.dumps({"worker": worker}).encode()


def drain_value(*, draining: bool) -> bytes:
    """Return the value of a manual drain, or of its end."""
    return json.dumps({"draining": draining}).encode()


@dataclass(slots=True)
class _SeenEntry:
    entry: Entry
    at: float


class BucketView:
    """What `worker` sees of the bucket while `follow` runs, and whether the bucket answers.

    `connected` is whether the last request was answered, `problem` why not. `complete` is whether a watch has
    reported every key since the last request without an answer. `drained` is whether the worker was told to
    hand its cameras over.
    """

    def __init__(
        self,
        bucket: WatchedBucket,
        *,
        worker: str,
        cameras: Collection[str],
        ttl_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._bucket = bucket
        self._worker = worker
        self._ttl_s = ttl_s
        self._clock = clock
        self._camera_keys = frozenset(CAMERA + camera for camera in cameras)
        self._max_keys = MAX_OTHER_KEYS + 2 * len(cameras)
        self._seen: dict[str, _SeenEntry] = {}
        self._watching: asyncio.Timeout | None = None
        self.connected = False
        self.complete = False
        self.problem: str | None = None
        self.drained = False

    # The bucket

    async def follow(self) -> None:
        """Keep the view up to date. The watch restarts every `ttl_s`, and after every outage."""
        while True:
            try:
                await self._watch()
            except TimeoutError:
                continue
            except LeaseUnavailable as exc:
                self.failed(str(exc))
                await asyncio.sleep(RETRY_S)

    async def _watch(self) -> None:
        async with asyncio.timeout(self._ttl_s) as watching:
            self._watching = watching
            try:
                async for entry in self._bucket.watch():
                    if entry is not None:
                        self.see(entry)
                    else:
                        self.completed()
            finally:
                self._watching = None

    def _watch_again(self) -> None:
        """End the present watch: its request may be lost, which it would notice much later."""
        if self._watching is not None and not self._watching.expired():
            self._watching.reschedule(asyncio.get_running_loop().time())

    def see(self, entry: Entry) -> None:
        """Add an entry, unless it is older than what the view has."""
        known = self._seen.get(entry.key)
        if known is not None and known.entry.revision >= entry.revision:
            return
        if known is None and entry.key not in self._camera_keys and not self._has_room():
            return
        self._seen[entry.key] = _SeenEntry(entry, self._clock())
        if entry.key == DRAIN + self._worker and entry.value:
            # Keep it in memory: the key itself expires.
            self.drained = parse_object(entry.value).get("draining") is True
            log.info("fleet: %s by command", "draining" if self.drained else "taking cameras again")

    def _has_room(self) -> bool:
        """Return whether another key fits; forget those that have expired, except cameras' last owners."""
        if len(self._seen) > self._max_keys:
            for key in self._seen.keys() - self._camera_keys:
                if self._live(key) is None:
                    del self._seen[key]
        return len(self._seen) <= self._max_keys

    def answered(self) -> None:
        """Note that the bucket has answered."""
        if not self.connected:
            log.info("fleet: connected to the NATS servers as worker %s", self._worker)
            if not self.complete:
                self._watch_again()
        self.connected, self.problem = True, None

    def completed(self) -> None:
        """Note that the watch has reported every key."""
        self.complete = True
        self.answered()

    def failed(self, problem: str) -> None:
        """Note that the bucket has not answered."""
        if self.connected or self.problem is None:
            log.warning("fleet: %s; retrying", problem)
        self.connected, self.complete, self.problem = False, False, problem

    # Cameras

    def owner(self, camera: str) -> Owner | None:
        """Return a camera's owner; None without one, or if the key's value is not valid."""
        entry = self._live(CAMERA + camera)
        return parse_owner(entry) if entry is not None else None

    def is_free(self, camera: str) -> bool:
        """Return whether a camera has no live key."""
        return self._live(CAMERA + camera) is None

    def last_owner(self, camera: str) -> Owner | None:
        """Return a camera's owner, also after its lease has expired; None if it was released."""
        seen = self._seen.get(CAMERA + camera)
        return parse_owner(seen.entry) if seen is not None else None

    def forget(self, camera: str) -> None:
        """Forget a camera's owner: this worker has released its lease."""
        self._seen.pop(CAMERA + camera, None)

    def target(self, camera: str) -> str | None:
        """Return the target of a camera's manual move; None without one."""
        entry = self._live(MOVE + camera)
        worker = parse_object(entry.value).get("worker") if entry is not None else None
        return worker if isinstance(worker, str) else None

    # Workers

    def reports(self) -> dict[str, WorkerReport]:
        """Return the reports of all workers that live, this one included, by name."""
        return {
            key.removeprefix(WORKER): parse_report(entry.value)
            for key in list(self._seen)
            if key.startswith(WORKER) and (entry := self._live(key)) is not None
        }

    def heard_since(self, worker: str, moment: float) -> bool:
        """Return whether a worker's report came after `moment`, by the clock of this view."""
        seen = self._seen.get(WORKER + worker)
        return seen is not None and seen.at >= moment

    def told_since(self, worker: str, revision: int) -> WorkerReport | None:
        """Return a worker's report if it is newer than `revision`."""
        entry = self._live(WORKER + worker)
        return parse_report(entry.value) if entry is not None and entry.revision > revision else None

    def _live(self, key: str) -> Entry | None:
        """Return a key's entry; None if it was deleted, or has expired by our clock."""
        seen = self._seen.get(key)
        if seen is None or not seen.entry.value or self._clock() - seen.at >= self._ttl_s:
            return None
        return seen.entry
