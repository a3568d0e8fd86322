"""One worker's view of the bucket: who owns which camera, which workers live, and what is asked of them.

The view is a cache. Only the compare-and-set decides: a stale view costs an attempt, never a second owner.
A key counts as expired `ttl_s` after its last write. The view may see a write late: at its start, after an
outage, or because it stood still. So the age of a write is the longer of two: the time since the view saw it,
and its distance in the servers' time from the newest write, plus the time since the view saw that. If its
writer is alive after all, the bucket refuses the attempt.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

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


def drain_value(*, draining: bool, run: str) -> bytes:
    """Return the value of a manual drain, or of its end. It is for this `run` of the worker only."""
    return json.dumps({"draining": draining, "run": run}).encode()


@dataclass(slots=True)
class _SeenEntry:
    entry: Entry
    at: float
    owner: Owner | None = None
    report: WorkerReport | None = None
    """What the entry's value says: each value is parsed once, however often it is looked at."""


class BucketView:
    """What a `run` of `worker` sees of the bucket while `follow` runs, and whether the bucket answers.

    `connected` is whether the last request was answered, `problem` why not. `complete` is whether a watch has
    reported every key since the last request without an answer. `drained` is whether the worker was told to
    hand its cameras over.
    """

    def __init__(
        self,
        bucket: WatchedBucket,
        *,
        worker: str,
        run: str,
        cameras: Collection[str],
        ttl_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._bucket = bucket
        self._worker = worker
        self._run = run
        self._ttl_s = ttl_s
        self._clock = clock
        self._camera_keys = frozenset(CAMERA + camera for camera in cameras)
        self._max_keys = MAX_OTHER_KEYS + 2 * len(cameras)
        self._seen: dict[str, _SeenEntry] = {}
        self._newest: _SeenEntry | None = None
        """The entry with the highest revision."""
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
        seen = self._seen[entry.key] = _SeenEntry(entry, self._clock())
        if self._newest is None or self._newest.entry.revision < entry.revision:
            self._newest = seen
        if entry.key.startswith(CAMERA):
            seen.owner = parse_owner(entry)
        elif entry.key.startswith(WORKER):
            seen.report = parse_report(entry.value)
        if entry.key == DRAIN + self._worker and entry.value:
            self._obey(parse_object(entry.value))

    def _obey(self, drain: Mapping[str, Any]) -> None:
        """Start or end a drain, and keep that in memory: the key itself expires."""
        if drain.get("run", self._run) != self._run:
            return  # for this worker before it was started again
        self.drained = drain.get("draining") is True
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
        seen = self._live(CAMERA + camera)
        return seen.owner if seen is not None else None

    def is_free(self, camera: str) -> bool:
        """Return whether a camera has no live key."""
        return self._live(CAMERA + camera) is None

    def last_owner(self, camera: str) -> Owner | None:
        """Return a camera's owner, also after its lease has expired; None if it was released."""
        seen = self._seen.get(CAMERA + camera)
        return seen.owner if seen is not None else None

    def forget(self, camera: str) -> None:
        """Forget a camera's owner: this worker has released its lease."""
        self._seen.pop(CAMERA + camera, None)

    def target(self, camera: str) -> str | None:
        """Return the target of a camera's manual move; None without one."""
        seen = self._live(MOVE + camera)
        worker = parse_object(seen.entry.value).get("worker") if seen is not None else None
        return worker if isinstance(worker, str) else None

    # Workers

    def reports(self) -> dict[str, WorkerReport]:
        """Return the reports of all workers that live, this one included, by name."""
        return {
            key.removeprefix(WORKER): seen.report
            for key in list(self._seen)
            if key.startswith(WORKER) and (seen := self._live(key)) is not None and seen.report is not None
        }

    def heard_since(self, worker: str, moment: float) -> bool:
        """Return whether a worker's report came after `moment`, by the clock of this view."""
        seen = self._seen.get(WORKER + worker)
        return seen is not None and seen.at >= moment

    def told_since(self, worker: str, revision: int) -> WorkerReport | None:
        """Return a worker's report if it is newer than `revision`."""
        seen = self._live(WORKER + worker)
        return seen.report if seen is not None and seen.entry.revision > revision else None

    def _live(self, key: str) -> _SeenEntry | None:
        """Return a key's entry; None if it was deleted, or has expired by our clock."""
        seen = self._seen.get(key)
        if seen is None or not seen.entry.value or self._age_s(seen) >= self._ttl_s:
            return None
        return seen

    def _age_s(self, seen: _SeenEntry) -> float:
        now, newest = self._clock(), self._newest
        age_s = now - seen.at
        if newest is None or newest.entry.written_s is None or seen.entry.written_s is None:
            return age_s
        return max(age_s, newest.entry.written_s - seen.entry.written_s + now - newest.at)
