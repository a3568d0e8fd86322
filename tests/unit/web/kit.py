"""A site on fake parts instead of a running service, and a server for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from async_motion.core.model import Box, Detection, Frame, Reason
from async_motion.errors import ImageError
from async_motion.jpeg import decode, dimensions, encode
from async_motion.retrieval import Event, EventReader
from async_motion.web import Archive, CameraFacts, Guard, Live, Site, Thumbnails, Web, ZoneFacts
from async_motion.web.editor import SettingsEditor
from async_motion.web.upkeep import Upkeep
from tests.support.bucket import MemoryBucket
from tests.support.frames import make_frame
from tests.support.wait import eventually_async

NOW = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)
TOKEN, VIEWER = "t0ken-of-the-admin", "t0ken-of-the-viewer"


def state(**changes: Any) -> dict[str, Any]:
    """Return a healthy state in the reporter's form, with `changes` merged in."""
    return {
        "schema": "async_motion.state/1",
        "instance": "edge1",
        "version": "0.1.0",
        "started_at": "2026-11-22T04:31:12.000000Z",
        "spool": {
            "records": 3, "phases": 1, "bytes": 250_000, "max_bytes": 2 << 30, "oldest_age_s": 12.5,
            "set_aside": 0, "accepted": 40, "commits": 30, "dropped": {"age": 2, "full": 1}, "problem": None,
        },
        "store": {"problem": None},
        "broker": {"problem": None},
        "announced": 37,
        "upload_s": {"p50": 0.02, "p99": None},
        "counters": {"cameras": 1},
        "cameras": {"porch": camera()},
    } | changes  # fmt: skip


def camera(**changes: Any) -> dict[str, Any]:
    """Return a healthy camera's state, with `changes` merged in."""
    return {
        "schema": "async_motion.camera_state/1", "status": "watching", "problem": None, "fps": 4.9,
        "score": 0.03,
        "last_motion": "2026-11-22T07:21:12.000000Z", "events_today": 4, "events": 9, "frames": 1000,
        "motion_frames": 60, "stored": 37, "dropped": {"too_slow": 5}, "dropped_total": 5,
        "capture": {"opened": 3, "stalls": 2, "abandoned": 1, "changed": 4},
        "upload_latency_s": 0.08,
    } | changes  # fmt: skip


class State:
    """A state that a test can change; a call returns it."""

    def __init__(self, **changes: Any) -> None:
        self.state: dict[str, Any] = state(**changes)

    def __call__(self) -> Mapping[str, Any]:
        return self.state


FLEET: dict[str, Any] = {
    "worker": "east",
    "speaker": "west",
    "problem": "no worker has yard",
    "unowned": 1,
    "workers": {"east": {"capacity": 4.0, "load": 0.5, "cameras": 2, "draining": False, "spool_records": 7}},
    "cameras": {"porch": {"worker": "east", "epoch": 41}},
}
"""The fleet's part of a state."""


def frame(number: int = 0, camera: str = "porch", width: int = 64) -> Frame:
    """Return a frame whose brightness encodes its number."""
    return make_frame(number, camera=camera, luma=np.full((36, width), number % 256, np.uint8))


def detection(*, score: float = 0.01, motion: bool = True) -> Detection:
    """Return a detection with one box."""
    reason = Reason.MOTION if motion else Reason.STILL
    return Detection(motion=motion, reason=reason, score=score, boxes=(Box(0.1, 0.2, 0.3, 0.4),))


class Encoder:
    """Encode JPEGs, and record the width of each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, frame: Frame, width: int) -> bytes:
        self.calls.append(width)
        return encode(frame.bgr(), 75, width)[0]


CAMERAS = {
    "porch": CameraFacts(
        title="Front porch", zones={"drive": ZoneFacts(polygon=((0.0, 0.5), (1.0, 0.5), (1.0, 1.0)))}
    ),
}


class Stage:
    """The parts of a site, for a test to change before it is served."""

    def __init__(self, *, max_viewers: int = 2, **changes: Any) -> None:
        self.state = State(**changes)
        self.cameras: dict[str, CameraFacts] = dict(CAMERAS)
        self.encoder = Encoder()
        self.executor = ThreadPoolExecutor(2)
        self.live = Live(encode=self.encoder, executor=self.executor, max_viewers=max_viewers)
        self.bucket = MemoryBucket()
        self.deleted: list[str] = []
        self.editor: SettingsEditor | None = None
        self.upkeep: Upkeep | None = None
        self.url = ""

    def site(self) -> Site:
        """Return the site on these parts."""
        return Site(
            instance="edge1",
            version="0.1.0",
            snapshot=self.state,
            cameras=lambda: self.cameras,
            live=self.live,
            archive=self.archive(),
            editor=self.editor,
            upkeep=self.upkeep,
        )

    def archive(self) -> Archive:
        """Return the archive of stored events in `bucket`."""

        async def delete(event: Event) -> int:
            self.deleted.append(event.event_id)
            return event.frames + 1

        def make_clip(frames: Any, read: Any, target: Path) -> int:
            target.write_bytes(b"".join(read(frame) or b"" for frame in frames))
            return len(frames)

        reader = EventReader(self.bucket, instance="edge1", now=lambda: NOW)
        thumbnails = Thumbnails(_thumbnail, self.executor)
        return Archive(reader=reader, thumbnails=thumbnails, make_clip=make_clip, delete=delete)


def _thumbnail(jpeg: bytes, width: int) -> bytes:
    if max(dimensions(jpeg)) > 10_000:
        raise ImageError("too large")
    return encode(decode(jpeg), 75, width)[0]


@asynccontextmanager
async def serving(
    stage: Stage | None = None, *, host: str = "127.0.0.1", **guard: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve a site; yield a session on it that keeps no cookies."""
    stage = stage or Stage()
    web = Web(host=host, port=0, guard=Guard(host=host, instance="edge1", **guard), site=stage.site())
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(web.run(), name="web")
            url = await eventually_async(lambda: web.url, what="the server")
            assert url is not None
            stage.url = url.replace("0.0.0.0", "127.0.0.1")
            try:
                jar = aiohttp.DummyCookieJar()
                async with aiohttp.ClientSession(stage.url, cookie_jar=jar) as session:
                    yield session
            finally:
                running.cancel()
        assert web.url is None
    finally:
        stage.executor.shutdown()


async def get(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    """Return the status and text of the answer to a GET; follow no redirect."""
    async with session.get(path, headers=headers, allow_redirects=False) as answer:
        return answer.status, await answer.text()


def bearer(token: str) -> dict[str, str]:
    """Return the Authorization header that a program sends."""
    return {"Authorization": f"Bearer {token}"}
