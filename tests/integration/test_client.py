"""The client in a program that is killed at its writes, with a real broker and a real bucket that fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from async_motion.core import payloads
from async_motion.store.minio_reader import MinioReader
from tests.support import mqtt, s3
from tests.support.bucket import INSTANCE, MadeEvent, fill, make_event
from tests.support.proxy import Proxy
from tests.support.service import ROOT, clean_environment

EVENTS = 60
CAMERAS = ("porch", "yard")


@contextlib.asynccontextmanager
async def subscriber(folder: Path, **said: Any) -> AsyncIterator[asyncio.subprocess.Process]:
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


async def ended(process: asyncio.subprocess.Process) -> int:
    """Wait for the process; return how many lives it needed."""
    out, error = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0, error.decode()
    return int(out)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["cursor_file", "state"])
async def test_killed_at_every_write_it_goes_on_without_a_hole(tmp_path: Path, mode: str) -> None:
    began = datetime.now(UTC) - timedelta(minutes=30)
    made = [make_event(at=began + timedelta(seconds=no), salt=no, no=no) for no in range(1, 9)]
    await asyncio.to_thread(fill, tmp_path / "objects", *made)
    said = {"seed": 1, "every": True, "mode": mode, "total": len(made), "since": began.isoformat()}
    async with subscriber(tmp_path, **said, connect={"directory": str(tmp_path / "objects")}) as process:
        lives = await ended(process)
    # Killed before, during and after the write: three lives for each event.
    assert lives >= 3 * len(made) - 2
    ids = [event.event_id for event in made]
    if mode == "state":
        assert json.loads((tmp_path / "state").read_text())["seen"] == ids
    else:
        handed_out = (tmp_path / "seen").read_text().split()
        # If it is killed before its cursor is written, a program sees only the current event again.
        assert [event for event, _ in itertools.groupby(handed_out)] == ids
        assert len(handed_out) > len(ids)


class Site:
    """A simulated service: it stores events and announces them, sometimes late or not at all."""

    def __init__(
        self, seed: int, store: MinioReader, broker: mqtt.Mosquitto, recorder: mqtt.Recorder
    ) -> None:
        self.chance = random.Random(seed)
        self.made: list[MadeEvent] = []
        self._store = store
        self._broker = broker
        self._recorder = recorder
        self._writer = "aaaaaa"
        self._numbers = dict.fromkeys(CAMERAS, 0)
        self._at = datetime.now(UTC) - timedelta(minutes=10)
        self._late: list[MadeEvent] = []

    async def one(self) -> None:
        """Simulate one event."""
        chance = self.chance
        if chance.random() < 0.05:  # the spool is replaced; late events are delivered first
            await self.deliver()
            self._writer, self._numbers = f"{chance.getrandbits(23):06x}", dict.fromkeys(CAMERAS, 0)
        if chance.random() < 0.1:
            self._at -= timedelta(hours=chance.randint(1, 20))  # the clock is set back
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


@pytest.mark.timeout(240)
async def test_broker_emptied_bucket_away_and_killed_all_the_time(
    tmp_path: Path, seaweedfs: s3.S3Server
) -> None:
    bucket = await asyncio.to_thread(seaweedfs.make_bucket)
    began = datetime.now(UTC) - timedelta(days=6)
    async with (
        Proxy("127.0.0.1", seaweedfs.port) as proxy,
        MinioReader(bucket=bucket, **seaweedfs.admin.arguments()) as store,
    ):
        broker = mqtt.Mosquitto(tmp_path / "broker")  # without persistence: a kill loses everything
        with broker, mqtt.Recorder(broker.port, ()) as recorder:
            site = Site(5, store, broker, recorder)
            keys = seaweedfs.admin.arguments() | {"endpoint": f"{proxy.host}:{proxy.port}", "bucket": bucket}
            connect = keys | {"mqtt_host": "127.0.0.1", "mqtt_port": broker.port}
            said = {"seed": 5, "every": False, "mode": "state", "total": EVENTS, "since": began.isoformat()}
            async with subscriber(tmp_path, **said, connect=connect) as process:
                for number in range(EVENTS):
                    if number % 12 == 5:
                        await asyncio.to_thread(broker.kill)
                        await asyncio.to_thread(broker.start)
                    if number % 10 == 3:
                        await proxy.close_port()
                    if number % 10 == 7:
                        await proxy.open_port()
                    await site.one()
                    await asyncio.sleep(0.1)
                await site.deliver()
                lives = await ended(process)
    seen = json.loads((tmp_path / "state").read_text())["seen"]
    told = {event.event_id: event for event in site.made}
    assert len(seen) == len(set(seen)), "none twice"
    assert set(seen) == set(told), "none missed"
    for camera in CAMERAS:
        for writer in {event.line.writer for event in site.made}:
            lane = [told[each].line for each in seen if told[each].camera == camera]
            numbers = [line.no for line in lane if line.writer == writer]
            assert numbers == sorted(numbers), "in order"  # type: ignore[type-var]
    assert lives > EVENTS / 4
