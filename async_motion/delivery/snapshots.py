"""Snapshots: for each camera, the best frame so far of its newest event, scaled down and retained.

A snapshot that cannot be made, or is refused (too large), never delays its frame's announcement.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from async_motion.core import payloads, strict_json
from async_motion.core.items import FrameAnnouncement, FrameUpload
from async_motion.core.names import Topics
from async_motion.core.strict_json import parse_object
from async_motion.delivery.protocols import Outbox, Store
from async_motion.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ImageError,
    RecordRejected,
    SpoolError,
    StoreUnavailable,
)

log = logging.getLogger(__name__)

SHOWN = "delivery/shown"
"""The spool's key for the rank of each camera's snapshot: an event's number and a score."""

SHOWN_FRAMES = "delivery/shown_frames"
"""The spool's key for the announcement of each camera's snapshot."""

RESTORE_RETRY_S = 15.0

Rank = tuple[int, float]
"""An event's number and a frame's score: the frame with the highest rank is shown."""

_NONE: Rank = (-1, -1.0)


class Publish(Protocol):
    """Publishes; raises BrokerUnavailable, BrokerRefused."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool = False) -> Awaitable[None]: ...


class Snapshots:
    """Chooses the frames to show, and publishes them. `shrink` scales a JPEG down (in `executor`).

    `shrink` None: there are no snapshots.
    """

    def __init__(
        self,
        spool: Outbox,
        store: Store,
        *,
        topics: Topics,
        publish: Publish,
        shrink: Callable[[bytes], bytes] | None,
        get_timeout_s: float,
    ) -> None:
        self._spool = spool
        self._store = store
        self._topics = topics
        self._publish = publish
        self._shrink = shrink
        self._get_timeout_s = get_timeout_s
        self._candidates: dict[str, Rank] = {}
        self._shown: dict[str, Rank] = {}
        self._announcements: dict[str, str] = {}
        """The announcement (JSON text) of each camera's snapshot."""
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Held for a camera while its snapshot is published: the last one out must be the best one."""
        self._wanted: frozenset[str] = frozenset()
        """The cameras whose snapshots the broker did not retain at the start."""
        self._asked = asyncio.Event()
        self._problems: dict[str, str] = {}
        self.executor: ThreadPoolExecutor | None = None

    async def recall(self) -> None:
        """Load the snapshots' ranks and announcements of an earlier run. Raises SpoolError."""
        remembered = await self._spool.recall(SHOWN)
        self._shown = parse_shown(remembered) if remembered is not None else {}
        self._candidates = dict(self._shown)
        frames = await self._spool.recall(SHOWN_FRAMES)
        self._announcements = parse_announcements(frames) if frames is not None else {}

    def restore(self, cameras: Collection[str], retained: Collection[str]) -> None:
        """Publish the last run's snapshots of `cameras` again, except those whose topics are in `retained`.

        A broker without persistence loses them: Home Assistant would show no image until the next event.
        """
        self._wanted = frozenset(
            camera for camera in cameras if self._topics.snapshot(camera) not in retained
        )
        self._asked.set()

    async def run(self) -> None:
        """Publish the snapshots that `restore` requests; retry while the store or the broker is away."""
        await self._asked.wait()
        missing = [camera for camera in self._announcements if camera in self._wanted]
        while missing:
            missing = [camera for camera in missing if not await self._restored(camera)]
            if missing:
                await asyncio.sleep(RESTORE_RETRY_S)

    async def _restored(self, camera: str) -> bool:
        """Publish one camera's snapshot again. Return False if it must be tried again later."""
        announcement = self._announcements.get(camera)
        if announcement is None:
            return True
        rank = self._shown.get(camera)
        try:
            stored = payloads.parse_frame(announcement)
            async with asyncio.timeout(self._get_timeout_s):
                jpeg = await self._store.get(stored.info.object_key)
            small = await self._shrunk(jpeg)
            async with self._turns[camera]:
                if small is not None and self._shown.get(camera) == rank:
                    await self._publish_all(camera, announcement.encode(), small)
        except (StoreUnavailable, BrokerUnavailable, TimeoutError) as exc:
            log.debug("%s: its last snapshot is not published again yet: %s", camera, exc)
            return isinstance(exc, BrokerRefused)
        except (RecordRejected, ImageError, ValueError) as exc:
            log.debug("%s: its last snapshot cannot be published again: %s", camera, exc)
        return True

    def is_candidate(self, item: FrameUpload) -> bool:
        """Return whether a frame may become the snapshot: the spool then keeps its JPEG until announced."""
        if self._shrink is None:
            return False
        camera, rank = item.info.camera, (item.event_number, item.info.score)
        if rank <= self._candidates.get(camera, _NONE):
            return False
        self._candidates[camera] = rank
        return True

    def is_due(self, item: FrameAnnouncement) -> bool:
        """Return whether this frame ranks above its camera's snapshot."""
        info = item.stored.info
        return self._shrink is not None and (item.event_number, info.score) > self._shown.get(
            info.camera, _NONE
        )

    async def show(self, item: FrameAnnouncement, announcement: bytes) -> None:
        """Publish a frame as its camera's snapshot, with its announcement. Raises BrokerUnavailable.

        A snapshot that cannot be made, or that the broker refuses, is logged and skipped.
        """
        info = item.stored.info
        jpeg = await self._small_jpeg(item)
        if jpeg is None:
            return
        async with self._turns[info.camera]:
            # A camera's fresh frames and its backlog are announced at the same time.
            if self.is_due(item):
                await self._show(item, announcement, jpeg)

    async def _show(self, item: FrameAnnouncement, announcement: bytes, jpeg: bytes) -> None:
        info = item.stored.info
        before = self._announcements.get(info.camera)
        try:
            await self._publish_all(info.camera, announcement, jpeg)
        except BrokerRefused as exc:
            self._problem(info.camera, f"the broker refused the snapshot: {exc}")
            if before is not None:
                with contextlib.suppress(BrokerRefused):
                    attributes = self._topics.snapshot_attributes(info.camera)
                    await self._publish(attributes, before.encode(), retain=True)
            return
        self._problems.pop(info.camera, None)
        self._shown[info.camera] = (item.event_number, info.score)
        self._announcements[info.camera] = announcement.decode()
        for key, shown in ((SHOWN, self._shown), (SHOWN_FRAMES, self._announcements)):
            # The spool logs what fails; the next snapshot's note replaces this one.
            with contextlib.suppress(SpoolError):
                await self._spool.remember(key, json.dumps(shown).encode(), durable=False)

    async def _publish_all(self, camera: str, announcement: bytes, jpeg: bytes) -> None:
        """Publish an image with its announcement, before it and after it.

        Home Assistant reads the attributes from the first, so that they never belong to an older image.
        The last tells other subscribers that the image on the broker is the announced one.
        Raises BrokerUnavailable, BrokerRefused.
        """
        await self._publish(self._topics.snapshot_attributes(camera), announcement, retain=True)
        await self._publish(self._topics.snapshot(camera), jpeg, retain=True)
        await self._publish(self._topics.snapshot_frame(camera), announcement, retain=True)

    async def _small_jpeg(self, item: FrameAnnouncement) -> bytes | None:
        info = item.stored.info
        jpeg = None
        if item.has_jpeg:
            with contextlib.suppress(SpoolError):  # the spool has logged it, and the store has the frame
                jpeg = await self._spool.jpeg(item.number)
        if jpeg is None:
            if self._candidates.get(info.camera, _NONE) > (item.event_number, info.score):
                return None  # a better frame, whose JPEG is kept, will follow
            try:
                async with asyncio.timeout(self._get_timeout_s):
                    jpeg = await self._store.get(info.object_key)
            except (StoreUnavailable, RecordRejected, TimeoutError) as exc:
                log.debug("%s: no snapshot of %s: %s", info.camera, info.object_key, exc)
                return None
        try:
            return await self._shrunk(jpeg)
        except ImageError as exc:
            self._problem(info.camera, str(exc))
            return None

    async def _shrunk(self, jpeg: bytes) -> bytes | None:
        """Return the JPEG scaled down; None without `shrink`. Raises ImageError."""
        if self._shrink is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(self.executor, self._shrink, jpeg)

    def _problem(self, camera: str, problem: str) -> None:
        if self._problems.get(camera) != problem:
            self._problems[camera] = problem
            log.warning("%s: %s; frames are announced without it", camera, problem)


def parse_shown(value: bytes) -> dict[str, Rank]:
    """Return the ranks that `show` remembered, by camera; empty if they cannot be read."""
    try:
        remembered = parse_object(value)
        return {str(camera): (int(number), float(score)) for camera, (number, score) in remembered.items()}
    except (ValueError, TypeError, OverflowError) as exc:
        log.warning("snapshots of the last run cannot be read (%s); the next frames replace them", exc)
        return {}


def parse_announcements(value: bytes) -> dict[str, str]:
    """Return the announcements that `show` remembered, by camera; empty if they cannot be read."""
    try:
        remembered = strict_json.parse_object(value)
    except ValueError:
        return {}
    return {camera: text for camera, text in remembered.items() if isinstance(text, str)}
