"""A subscriber's program under seeded faults: killed all the time, its broker emptied, its bucket away.

    outcome = await storm(folder, seaweedfs, seed=4, events=60)

A simulated site stores events and announces them late, repeatedly or never. Meanwhile the program
(`tests.support.subscriber`) is killed at its writes, the broker is killed and loses everything, the bucket is
out of reach, the clock is set back, and the spool is replaced by a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from async_motion.core import payloads
from async_motion.store.minio_reader import MinioReader
from tests.support import mqtt, s3
from tests.support.bucket import INSTANCE, MadeEvent, make_event
from tests.support.proxy import Proxy
from tests.support.service import ROOT, clean_environment

CAMERAS = ("porch", "yard")


@contextlib.asynccontextmanager
async def subscriber(folder: Path, **said: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the subscriber's program; see `tests.support.subscriber` for what it is told."""
    files = {name: str(folder / name) for name in ("seen", "state", "cursor", "stop")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.subscriber",
        json.dumps(files | said),
        cwd=ROOT,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        (folder / "stop").touch()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process, within_s: float = 300.0) -> int:
    """Wait for the program; return how many lives it needed."""
    out, error = await asyncio.wait_for(process.communicate(), within_s)
    assert process.returncode == 0, error.decode()
    return int(out)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The faults by kind, and what became of the events."""

    faults: Counter[str]
    events: int
    missed: int
    repeated: int
    out_of_order: int


async def storm(
    folder: Path, server: s3.S3Server, *, seed: int, events: int, within_s: float = 300.0
) -> Outcome:
    """Send events through a storm of faults; return what the subscriber saw."""
    bucket = await asyncio.to_thread(server.make_bucket)
    began = datetime.now(UTC) - timedelta(days=6)
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        MinioReader(bucket=bucket, put_timeout_s=60.0, **server.admin.arguments()) as store,
    ):
        broker = mqtt.Mosquitto(folder / "broker")  # without persistence: a kill loses everything
        with broker, mqtt.Recorder(broker.port, ()) as recorder:
            site = _Site(seed, store, recorder)
            keys = server.admin.arguments() | {"endpoint": f"{proxy.host}:{proxy.port}", "bucket": bucket}
            connect = keys | {"mqtt_host": "127.0.0.1", "mqtt_port": broker.port}
            said = {
                "seed": seed,
                "every": False,
                "mode": "state",
                "total": events,
                "since": began.isoformat(),
            }
            async with subscriber(folder, **said, connect=connect) as process:
                for number in range(events):
                    if number % 12 == 5:
                        site.faults["broker killed"] += 1
                        await asyncio.to_thread(broker.kill)
                        await asyncio.to_thread(broker.start)
                    if number % 10 == 3:
                        site.faults["bucket away"] += 1
                        await proxy.close_port()
                    if number % 10 == 7:
                        await proxy.open_port()
                    await site.one()
                    await asyncio.sleep(0.1)
                await site.deliver()
                lives = await ended(process, within_s)
    site.faults["killed"] = lives - 1
    seen = json.loads((folder / "state").read_text())["seen"]
    return _judged(site.faults, site.made, seen)


def _judged(faults: Counter[str], made: Sequence[MadeEvent], seen: Sequence[str]) -> Outcome:
    """Compare what the subscriber saw with what was made."""
    told = {event.event_id: event for event in made}
    lanes: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for each in seen:
        line = told[each].line
        assert line.no is not None
        lanes[told[each].camera, line.writer].append(line.no)
    return Outcome(
        faults=faults,
        events=len(made),
        missed=len(set(told) - set(seen)),
        repeated=len(seen) - len(set(seen)),
        out_of_order=sum(
            later < earlier for lane in lanes.values() for earlier, later in itertools.pairwise(lane)
        ),
    )


class _Site:
    """A simulated service: it stores events and announces them, sometimes late or not at all."""

    def __init__(self, seed: int, store: MinioReader, recorder: mqtt.Recorder) -> None:
        self.chance = random.Random(seed)
        self.made: list[MadeEvent] = []
        self.faults: Counter[str] = Counter()
        self._store = store
        self._recorder = recorder
        self._writer = "aaaaaa"
        self._numbers = dict.fromkeys(CAMERAS, 0)
        self._at = datetime.now(UTC) - timedelta(minutes=10)
        self._earliest = self._at - timedelta(
            days=4
        )  # a set-back of up to 20 h stays within what is subscribed
        self._late: list[MadeEvent] = []

    async def one(self) -> None:
        """Simulate one event."""
        chance = self.chance
        if chance.random() < 0.05:  # late events are delivered first
            self.faults["spool replaced"] += 1
            await self.deliver()
            self._writer, self._numbers = f"{chance.getrandbits(23):06x}", dict.fromkeys(CAMERAS, 0)
        if chance.random() < 0.1 and self._at > self._earliest:
            self.faults["clock set back"] += 1
            self._at -= timedelta(hours=chance.randint(1, 20))
        self._at += timedelta(seconds=chance.randint(1, 300))
        camera = chance.choice(CAMERAS)
        self._numbers[camera] += 1
        no, salt = self._numbers[camera], len(self.made)
        event = make_event(camera=camera, at=self._at, salt=salt, no=no, writer=self._writer, frames=1)
        self.made.append(event)
        self._late.append(event)
        if chance.random() < 0.7:
            chance.shuffle(self._late)
            await self.deliver()

    async def deliver(self) -> None:
        """Store what waits, and announce most of it."""
        for event in self._late:
            for key, (data, about) in event.objects.items():
                await self._store.put(key, data, content_type="image/jpeg", metadata=about, tags={})
            assert event.summary is not None
            head = {k: v for k, v in event.summary.items() if k != "frames"}
            end = head | {"schema": payloads.EVENT_SCHEMA, "type": "end", "event_type": "motion_ended"}
            for _ in range(self.chance.choice((0, 1, 1, 2))):
                topic = f"async_motion/{INSTANCE}/{event.camera}/event"
                # Without a broker, the announcement is sent later, or never.
                with contextlib.suppress(RuntimeError):
                    await asyncio.to_thread(self._recorder.publish, topic, payloads.encode(end))
        self._late.clear()
