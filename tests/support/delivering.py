"""Records, and peers to deliver them to, for tests: a store and a broker that fail on command."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from async_motion.core import names
from async_motion.core.model import EndReason, EventPhase, FrameInfo, MotionEvent, Phase, Record
from async_motion.errors import RecordRejected

BEGIN = datetime(2026, 11, 22, 7, 31, 12, 345000, UTC)


class Clock:
    """Seconds that pass when a test says so; `wall` goes with them."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return BEGIN.timestamp() + self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def make_event(camera: str = "porch", index: int = 0, **more: Any) -> MotionEvent:
    """Return an event that began `index` seconds after BEGIN."""
    started_at = BEGIN + timedelta(seconds=index)
    return MotionEvent(
        event_id=names.event_id(started_at, zlib.crc32(camera.encode())),
        instance="edge1",
        camera=camera,
        started_at=started_at,
        **more,
    )


def make_record(event: MotionEvent, seq: int, *, score: float = 0.1, size: int = 3000) -> Record:
    """Return frame `seq` of an event, `size` bytes that no other frame has."""
    seed = f"{event.event_id}-{seq}".encode()
    jpeg = (hashlib.sha256(seed).digest() * (size // 32 + 1))[:size]
    folder = names.event_folder("", event.instance, event.camera, event.event_id)
    info = FrameInfo(
        instance=event.instance,
        camera=event.camera,
        event_id=event.event_id,
        seq=seq,
        captured_at=event.started_at + timedelta(milliseconds=200 * seq),
        object_key=names.frame_key(folder, seq),
        sha256=hashlib.sha256(jpeg).hexdigest(),
        size=size,
        width=640,
        height=480,
        score=score,
        zones=("drive",),
    )
    return Record(info=info, jpeg=jpeg)


def start_of(event: MotionEvent) -> EventPhase:
    return EventPhase(phase=Phase.START, event=event)


def end_of(event: MotionEvent, after_s: float = 5.0) -> EventPhase:
    ended_at = event.started_at + timedelta(seconds=after_s)
    return EventPhase(
        phase=Phase.END, event=replace(event, ended_at=ended_at, end_reason=EndReason.QUIET, peak_score=0.5)
    )


@dataclass
class FakeStore:
    """A bucket in memory. `trouble(key)` returns an error to raise, or None; `hold` makes puts wait."""

    bucket: str = "motion"
    objects: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, Mapping[str, str]] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    probes: int = 0
    trouble: Callable[[str], Exception | None] = lambda _key: None
    hold: asyncio.Event | None = None
    busy: int = 0
    max_busy: int = 0

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        self.puts.append(key)
        self.busy += 1
        self.max_busy = max(self.busy, self.max_busy)
        try:
            if self.hold is not None:
                await self.hold.wait()
            await asyncio.sleep(0)
            error = self.trouble(key)
            if error is not None:
                raise error
            self.objects[key] = data
            self.metadata[key] = {
                **metadata,
                "content-type": content_type,
                **{f"tag-{k}": v for k, v in tags.items()},
            }
            return hashlib.md5(data, usedforsecurity=False).hexdigest()
        finally:
            self.busy -= 1

    async def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise RecordRejected(f"{key}: there is no such object")
        return self.objects[key]

    async def probe(self) -> None:
        self.probes += 1
        await asyncio.sleep(0)
        error = self.trouble("probe")
        if error is not None:
            raise error

    async def link(self, key: str, expires_s: float) -> str | None:
        return f"https://store/{key}?expires={expires_s:g}"


@dataclass
class FakeBroker:
    """A broker that keeps what it was given. `trouble(topic)` returns an error to raise, or None.

    `check` is called with each announcement before it is taken.
    """

    connected: bool = True
    messages: list[tuple[str, bytes, bool]] = field(default_factory=list)
    tries: int = 0
    trouble: Callable[[str], Exception | None] = lambda _topic: None
    check: Callable[[str, bytes], None] = lambda _topic, _payload: None
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.tries += 1
        await asyncio.sleep(0)
        error = self.trouble(topic)
        if error is not None:
            raise error
        self.check(topic, payload)
        self.messages.append((topic, payload, retain))

    def on_connect(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def come_back(self) -> None:
        self.connected = True
        self.trouble = lambda _topic: None
        for callback in self.callbacks:
            callback()

    def json_of(self, ending: str) -> list[dict[str, Any]]:
        """Return the JSON messages on topics that end so, in their order."""
        return [json.loads(payload) for topic, payload, _ in self.messages if topic.endswith(ending)]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The announcements, in their order."""
        return [
            json.loads(payload)
            for topic, payload, _ in self.messages
            if topic.endswith("/frame") and not topic.endswith("/snapshot/frame")
        ]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events' phases, in their order."""
        return self.json_of("/event")
