"""Snapshots: of each camera, the best frame so far of its newest event, small and retained.

A snapshot that cannot be made, or is refused (too large), never holds up its frame's announcement.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from async_motion.core.items import FrameAnnouncement, FrameUpload
from async_motion.core.names import Topics
from async_motion.core.strict_json import parse_object
from async_motion.delivery.protocols import Outbox, Store
from async_motion.delivery.retries import Retries
from async_motion.errors import BrokerRefused, ImageError, RecordRejected, SpoolError, StoreUnavailable

log = logging.getLogger(__name__)

SHOWN = "delivery/shown"
"""The key under which the spool remembers what is shown."""

Rank = tuple[int, float]
"""An event's number and a frame's score: what ranks higher is shown."""

_NONE: Rank = (-1, -1.0)


class Publish(Protocol):
    """Publishes; raises BrokerUnavailable, BrokerRefused."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool = False) -> Awaitable[None]: ...


class Snapshots:
    """Chooses the frames to show, and publishes them. `shrink` makes the small JPEG (in `executor`).

    `shrink` None: there are no snapshots.
    """

    def __init__(
        self,
        spool: Outbox,
        store: Store,
        *,
        topics: Topics,
        publish: Publish,
        retries: Retries,
        shrink: Callable[[bytes], bytes] | None,
        get_timeout_s: float,
    ) -> None:
        self._spool = spool
        self._store = store
        self._topics = topics
        self._publish = publish
        self._retries = retries
        self._shrink = shrink
        self._get_timeout_s = get_timeout_s
        self._candidates: dict[str, Rank] = {}
        self._shown: dict[str, Rank] = {}
        self._problems: dict[str, str] = {}
        self.executor: ThreadPoolExecutor | None = None

    async def recall(self) -> None:
        """Take up what an earlier run showed. Raises SpoolError."""
        remembered = await self._spool.recall(SHOWN)
        self._shown = parse_shown(remembered) if remembered is not None else {}
        self._candidates = dict(self._shown)

    def is_candidate(self, item: FrameUpload) -> bool:
        """Return whether a frame may become the snapshot: then its bytes are kept until it is announced."""
        if self._shrink is None:
            return False
        camera, rank = item.info.camera, (item.event_number, item.info.score)
        if rank <= self._candidates.get(camera, _NONE):
            return False
        self._candidates[camera] = rank
        return True

    def is_due(self, item: FrameAnnouncement) -> bool:
        """Return whether this frame ranks above what its camera shows."""
        info = item.stored.info
        return self._shrink is not None and (item.event_number, info.score) > self._shown.get(
            info.camera, _NONE
        )

    async def show(self, item: FrameAnnouncement, announcement: bytes) -> None:
        """Publish a frame as its camera's snapshot, with its announcement. Raises BrokerUnavailable."""
        info = item.stored.info
        jpeg = await self._small_jpeg(item)
        if jpeg is None:
            return
        try:
            await self._publish(self._topics.snapshot(info.camera), jpeg, retain=True)
            await self._publish(self._topics.snapshot_frame(info.camera), announcement, retain=True)
        except BrokerRefused as exc:
            self._problem(info.camera, f"the broker refused the snapshot: {exc}")
            return
        self._problems.pop(info.camera, None)
        self._shown[info.camera] = (item.event_number, info.score)
        value = json.dumps(self._shown).encode()
        await self._retries.insist(lambda: self._spool.remember(SHOWN, value, durable=False))

    async def _small_jpeg(self, item: FrameAnnouncement) -> bytes | None:
        info = item.stored.info
        jpeg = None
        if item.has_jpeg:
            with contextlib.suppress(SpoolError):  # the spool has logged it, and the store has the frame
                jpeg = await self._spool.jpeg(item.number)
        if jpeg is None:
            if self._candidates.get(info.camera, _NONE) > (item.event_number, info.score):
                return None  # a better one is on its way, with its bytes
            try:
                async with asyncio.timeout(self._get_timeout_s):
                    jpeg = await self._store.get(info.object_key)
            except (StoreUnavailable, RecordRejected, TimeoutError) as exc:
                log.debug("%s: no snapshot of %s: %s", info.camera, info.object_key, exc)
                return None
        assert self._shrink is not None
        try:
            return await asyncio.get_running_loop().run_in_executor(self.executor, self._shrink, jpeg)
        except ImageError as exc:
            self._problem(info.camera, str(exc))
            return None

    def _problem(self, camera: str, problem: str) -> None:
        if self._problems.get(camera) != problem:
            self._problems[camera] = problem
            log.warning("%s: %s; frames are announced without it", camera, problem)


def parse_shown(value: bytes) -> dict[str, Rank]:
    """Return what `show` remembered. What cannot be read is left out: the next frame is shown instead."""
    try:
        remembered = parse_object(value)
        return {str(camera): (int(number), float(score)) for camera, (number, score) in remembered.items()}
    except (ValueError, TypeError, OverflowError) as exc:
        log.warning("what the last run showed cannot be read (%s); showing the next frames", exc)
        return {}
