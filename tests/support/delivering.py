"""A test bench for delivery: a store and a broker that fail on command, and records to deliver."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from async_motion.broker.fake import FakeBroker
from async_motion.core.model import Record
from async_motion.core.names import Topics
from async_motion.delivery import Delivery, DeliveryPace
from async_motion.errors import RecordRejected
from async_motion.spool import Spool
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of

BASE = "async_motion/edge1"
QUICK = DeliveryPace(
    first_s=0.001, max_s=0.02, refused_first_s=0.005, refused_max_s=0.02, item_max_s=0.02, poll_s=0.01
)
NEVER = DeliveryPace(first_s=3600, max_s=3600, refused_first_s=3600, refused_max_s=3600, poll_s=0.01)


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
            raise RecordRejected(f"{key}: no such object")
        return self.objects[key]

    async def probe(self) -> None:
        self.probes += 1
        await asyncio.sleep(0)
        error = self.trouble("probe")
        if error is not None:
            raise error

    async def link(self, key: str, expires_s: float) -> str | None:
        return f"https://store/{key}?expires={expires_s:g}"


class TroubledBroker(FakeBroker):
    """The shipped fake broker with failures: `trouble(topic)` returns an error to raise, or None.

    `check` is called with each message before it is accepted.
    """

    def __init__(self, check: Callable[[str, bytes], None] = lambda _topic, _payload: None) -> None:
        super().__init__()
        self.tries = 0
        self.trouble: Callable[[str], Exception | None] = lambda _topic: None
        self.check = check

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, or raise what `trouble` returns."""
        self.tries += 1
        await asyncio.sleep(0)
        error = self.trouble(topic)
        if error is not None:
            raise error
        self.check(topic, payload)
        await super().publish(topic, payload, retain=retain)

    def come_back(self) -> None:
        """End all failures, and reconnect."""
        self.trouble = lambda _topic: None
        self.lose()
        self.connect()

    @property
    def messages(self) -> list[tuple[str, bytes, bool]]:
        """The published messages in order: (topic, payload, retain)."""
        return [(message.topic, message.payload, message.retain) for message in self.server.messages]

    def json_of(self, ending: str) -> list[dict[str, Any]]:
        """Return the JSON messages on topics that end in `ending`, in order."""
        return [json.loads(payload) for topic, payload, _ in self.messages if topic.endswith(ending)]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The announcements, in order."""
        return [
            json.loads(payload)
            for topic, payload, _ in self.messages
            if topic.endswith("/frame") and not topic.endswith("/snapshot/frame")
        ]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events' phases, in order."""
        return self.json_of("/event")


class Bench:
    """A spool in memory, a store and a broker that fail on command, and deliveries between them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        self.broker = TroubledBroker(check=self._check)
        self.spool = Spool(":memory:", clock=self.clock, wall=self.clock.wall)
        self.early: list[str] = []
        self.delivery: Delivery | None = None

    def _check(self, topic: str, payload: bytes) -> None:
        """Assert that the object of an announced key exists."""
        if topic.endswith("/frame"):
            key = json.loads(payload)["object_key"]
            if key not in self.store.objects:
                self.early.append(key)

    @asynccontextmanager
    async def delivering(self, **more: Any) -> AsyncIterator[Delivery]:
        options: dict[str, Any] = {"store": self.store, "broker": self.broker, "pace": QUICK}
        options |= {"clock": self.clock, "draw": lambda: 0.5, **more}
        self.delivery = Delivery(spool=self.spool, topics=Topics(BASE), **options)
        task = asyncio.create_task(self.delivery.run(), name="delivery")
        try:
            yield self.delivery
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert self.early == []

    async def accept_event(self, frames: int = 3, camera: str = "porch", index: int = 0) -> list[Record]:
        """Accept a whole event and return its records."""
        event = make_event(camera, index)
        records = [make_record(event, seq, score=0.1 + seq / 100) for seq in range(frames)]
        await self.spool.accept([records[0], start_of(event)])
        for record in records[1:]:
            await self.spool.accept([record])
        await self.spool.accept([end_of(event)])
        return records

    async def nothing_due(self) -> bool:
        """Return whether all files of the index are written."""
        return await self.spool.due_index() == []

    def announced(self, camera: str = "porch") -> list[int]:
        return [frame["seq"] for frame in self.broker.frames if frame["camera"] == camera]


def failing(times: int, error: Exception, only: str = "") -> Callable[[str], Exception | None]:
    """Return a `trouble` that fails the next `times` calls whose key or topic contains `only`."""
    left = times

    def trouble(name: str) -> Exception | None:
        nonlocal left
        if only not in name or left <= 0:
            return None
        left -= 1
        return error

    return trouble
