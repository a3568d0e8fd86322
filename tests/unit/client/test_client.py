"""The client against a bucket and a broker with seeded faults: no event missed, repeated or out of order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from async_motion.broker.fake import FakeBroker, FakeServer
from async_motion.client import Event, MotionClient
from async_motion.client import client as module
from async_motion.core import payloads
from async_motion.errors import StoreRefused, StoreUnavailable
from async_motion.retrieval import requests as retrieval_requests
from tests.support.bucket import INSTANCE, MadeEvent, MemoryBucket, make_event
from tests.support.records import stored_of

NOW = datetime.now(UTC).replace(microsecond=0)
CAMERAS = ("porch", "yard")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval_requests, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(module, "SEARCH_AGAIN_S", 0.01)
    monkeypatch.setattr(module, "SUMMARY_PAUSES_S", (0.0, 0.001))


class NewsBroker(FakeBroker):
    """The shipped fake broker, which the client connects to, and what a service publishes there."""

    def __init__(self) -> None:
        super().__init__(FakeServer())

    def away(self) -> None:
        self.server.stop()

    def back(self) -> None:
        self.server.start()
        self.connect()

    def tell(self, kind: str, payload: dict[str, Any] | bytes) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.server.take(f"async_motion/{INSTANCE}/x/{kind}", data)


def end_of(made: MadeEvent) -> dict[str, Any]:
    assert made.summary is not None
    head = {name: value for name, value in made.summary.items() if name not in ("schema", "frames")}
    return {**head, "schema": payloads.EVENT_SCHEMA, "type": "end", "event_type": "motion_ended", "url": None}


def announcement_of(made: MadeEvent, seq: int, no: int) -> dict[str, Any]:
    info = made.frames[seq]
    return payloads.frame_payload(stored_of(info, stored_at=info.captured_at, writer="a41c07", no=no))


def made_event(
    no: int, *, camera: str = "porch", writer: str = "a41c07", frames: int = 1, ended: bool = True
) -> MadeEvent:
    at = NOW + timedelta(seconds=no)
    return make_event(camera=camera, at=at, salt=no, no=no, writer=writer, frames=frames, ended=ended)


async def take(events: AsyncIterator[Any], count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(events) for _ in range(count)]


class TestEvents:
    async def test_history_then_live_without_a_seam(self) -> None:
        bucket, broker = MemoryBucket(), NewsBroker()
        made = [made_event(no) for no in range(1, 7)]
        bucket.add(*made[:3])
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            events = client.events(NOW)
            assert [e.no for e in await take(events, 3)] == [1, 2, 3]
            for event in made[3:]:
                bucket.add(event)
                for _ in range(2):
                    broker.tell("event", end_of(event))
            found = await take(events, 3)
            assert [e.no for e in found] == [4, 5, 6]
            assert found[0].scores == (0.01,), "the bucket tells more than the message"
            assert client.cursor

    async def test_without_a_broker_it_polls(self) -> None:
        bucket = MemoryBucket()
        async with MotionClient(bucket, instance=INSTANCE, poll_s=0.01) as client:
            events = client.events(NOW)
            first = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.05)
            bucket.add(made_event(1))
            assert (await asyncio.wait_for(first, 10)).no == 1
            bucket.add(made_event(2))
            assert [e.no for e in await take(events, 1)] == [2]

    async def test_a_message_that_was_lost_is_seen_by_the_hole(self) -> None:
        bucket, broker = MemoryBucket(), NewsBroker()
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            bucket.add(made_event(1))
            events = client.events(NOW)
            await take(events, 1)
            bucket.add(made_event(2), made_event(3))
            broker.tell("event", end_of(made_event(3)))
            assert [e.no for e in await take(events, 2)] == [2, 3]

    async def test_with_the_bucket_away_the_message_is_enough(self) -> None:
        bucket, broker = MemoryBucket(), NewsBroker()
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            bucket.add(made_event(1))
            events = client.events(NOW)
            await take(events, 1)
            bucket.failures = 10**9
            broker.tell("event", end_of(made_event(2, frames=3)))
            (event,) = await take(events, 1)
            assert (event.no, event.frames, event.best, event.peak_score) == (2, 3, 2, 0.03)

    async def test_foreign_messages_are_counted_and_skipped(self) -> None:
        bucket, broker = MemoryBucket(), NewsBroker()
        bucket.add(made_event(1))
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            events = client.events(NOW)
            await take(events, 1)
            good = end_of(made_event(2))
            bad = [
                b"",
                b"\xff",
                b"[]",
                b"[" * 100_000,
                b"x" * 300_000,
                json.dumps({**good, "schema": "other"}).encode(),
                json.dumps({**good, "event_id": "../x"}).encode(),
                json.dumps({**good, "camera": "a/b"}).encode(),
                json.dumps({**good, "instance": "edge2"}).encode(),
                json.dumps({**good, "no": 0}).encode(),
                json.dumps({**good, "writer": {}}).encode(),
                json.dumps({**good, "ended_at": None}).encode(),
                json.dumps({**good, "zones": 3}).encode(),
            ]
            for payload in bad:
                broker.tell("event", payload)
            broker.tell("event", good)
            assert [e.no for e in await take(events, 1)] == [2]
            assert client.rejected == len(bad)

    async def test_a_worker_without_its_lease_is_not_heard(self) -> None:
        """Its events come from the bucket; delayed messages and those of a higher epoch are accepted."""
        bucket, broker = MemoryBucket(), NewsBroker()

        def made(no: int, writer: str) -> MadeEvent:
            return make_event(at=NOW + timedelta(seconds=no), salt=int(writer, 16) + no, no=no, writer=writer)

        def tell(no: int, writer: str, **more: Any) -> None:
            broker.tell("event", end_of(made(no, writer)) | more)

        bucket.add(made(1, "aaaaaa"), made(1, "bbbbbb"))

        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            events = client.events(NOW)
            await take(events, 2)
            bucket.failures = 10**9  # only messages arrive
            tell(2, "bbbbbb", epoch=5, worker="two", delayed=False)
            tell(2, "aaaaaa", epoch=4, worker="one", delayed=False)
            tell(3, "bbbbbb", epoch=5, worker="two", delayed=False)
            assert [(e.writer, e.no) for e in await take(events, 2)] == [("bbbbbb", 2), ("bbbbbb", 3)]
            tell(2, "aaaaaa", epoch=4, worker="one", delayed=True)
            assert [(e.writer, e.no) for e in await take(events, 1)] == [("aaaaaa", 2)]

    async def test_only_news_since_the_start_of_a_known_writer(self) -> None:
        """The client does not wait for the 411 earlier events of a known writer."""
        bucket, broker = MemoryBucket(), NewsBroker()
        old = make_event(at=NOW - timedelta(days=9), no=411)
        bucket.add(old)
        bucket.index([old])
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            events = client.events(NOW)
            bucket.add(made_event(412))
            assert [e.no for e in await take(events, 1)] == [412]

    async def test_a_clock_that_is_ahead_is_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """What has just ended began before the subscription: passed over, with one line."""
        bucket, broker = MemoryBucket(), NewsBroker()
        early = NOW - timedelta(hours=2)
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            events = client.events(NOW)
            bucket.add(made_event(1))
            await take(events, 1)
            for no in (1, 2):
                made = make_event(camera="yard", at=early + timedelta(seconds=no), salt=no, no=no)
                broker.tell("event", end_of(made))
            broker.tell("event", end_of(made_event(2)))
            assert [(e.camera, e.no) for e in await take(events, 1)] == [("porch", 2)]
        assert caplog.text.count("is the clock of this machine or of the service wrong?") == 1

    @pytest.mark.parametrize("indexed", [0, 5, 8])
    async def test_a_subscription_from_a_time_has_no_earlier_event(self, indexed: int) -> None:
        """The days before are searched for late events, and the index lags by minutes."""
        bucket = MemoryBucket()
        made = [make_event(at=NOW - timedelta(days=8 - no), salt=no, no=no) for no in range(1, 7)]
        made += [make_event(at=NOW + timedelta(minutes=5 * n), salt=n + 9, no=(15 + n) // 2) for n in (-1, 1)]
        bucket.add(*made)
        bucket.index(made[:indexed])
        async with MotionClient(bucket, instance=INSTANCE) as client:
            assert [e.no for e in await take(client.events(NOW), 1)] == [8]

    async def test_a_subscription_does_not_wait_for_what_its_first_day_does_not_have(self) -> None:
        """The index of the first day has only later events, that of an earlier day the last number before."""
        bucket = MemoryBucket()
        begin = (NOW - timedelta(days=1)).replace(hour=1, minute=0, second=0)
        old = make_event(at=begin - timedelta(days=20), salt=1, no=41)
        new = [make_event(at=begin + timedelta(minutes=n), salt=n + 1, no=41 + n) for n in (1, 2)]
        bucket.add(old, *new)
        bucket.index([old, *new])
        async with MotionClient(bucket, instance=INSTANCE) as client:
            assert [e.no for e in await take(client.events(begin), 2)] == [42, 43]

    async def test_a_replaced_spool_begins_at_one(self) -> None:
        bucket, broker = MemoryBucket(), NewsBroker()
        bucket.add(made_event(1))
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            events = client.events(NOW)
            await take(events, 1)
            second = make_event(at=NOW + timedelta(seconds=60), no=2, writer="bbbbbb")
            bucket.add(second)
            broker.tell("event", end_of(second))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await anext(events)
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            events = client.events(NOW)
            bucket.add(make_event(at=NOW + timedelta(seconds=50), no=1, writer="bbbbbb"))
            assert [(e.writer, e.no) for e in await take(events, 3)] == [
                ("a41c07", 1),
                ("bbbbbb", 1),
                ("bbbbbb", 2),
            ]

    async def test_late_events_of_another_worker_are_found_without_a_message(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "DEEP_EVERY_S", 0.05)
        bucket = MemoryBucket()
        bucket.add(made_event(1))
        async with MotionClient(bucket, instance=INSTANCE, poll_s=0.01) as client:
            events = client.events(NOW - timedelta(days=2))
            await take(events, 1)
            bucket.add(make_event(at=NOW - timedelta(days=1), no=1, writer="bbbbbb"))
            assert [(e.writer, e.no) for e in await take(events, 1)] == [("bbbbbb", 1)]

    async def test_an_event_whose_worker_was_lost_comes_once(self) -> None:
        """From its frames, from the next owner's message, and whole when its worker is back."""
        bucket, broker = MemoryBucket(), NewsBroker()
        cut, last = made_event(1, frames=2), make_event(at=NOW + timedelta(seconds=20), salt=20, no=2)
        after = make_event(at=NOW + timedelta(seconds=9), salt=9, no=1, writer="bbbbbb")
        bucket.add(after)
        for made, lease in ((cut, {"writer": "a41c07", "no": "1", "epoch": "7"}), (after, {"epoch": "9"})):
            frames = {key: data for key, (data, _) in made.objects.items() if key.endswith(".jpg")}
            about = {frame.object_key: payloads.object_metadata(frame) | lease for frame in made.frames}
            bucket.objects |= {key: (data, about[key]) for key, data in frames.items()}
        async with MotionClient(bucket, broker, instance=INSTANCE, poll_s=0.01) as client:
            events = client.events(NOW)
            found = await take(events, 2)
            assert [(e.writer, e.no, e.reason) for e in found] == [
                ("a41c07", 1, "worker_lost"),
                ("bbbbbb", 1, "quiet"),
            ]
            broker.tell("event", end_of(cut) | {"reason": "worker_lost"})
            bucket.add(cut, last)
            broker.tell("event", end_of(last))
            assert [(e.writer, e.no) for e in await take(events, 1)] == [("a41c07", 2)]

    async def test_a_refusal_ends_the_loop(self) -> None:
        class Refusing(MemoryBucket):
            async def page(self, *_: Any, **__: Any) -> Any:
                raise StoreRefused("wrong key")

        async with MotionClient(Refusing(), instance=INSTANCE) as client:
            with pytest.raises(StoreRefused):
                await take(client.events(NOW), 1)


class TestFrames:
    async def test_live_frames_come_at_once_and_the_lost_ones_at_the_end(self) -> None:
        bucket, broker = MemoryBucket(), NewsBroker()
        made = made_event(1, frames=5)
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            frames = client.frames(NOW)
            waiting = asyncio.ensure_future(take(frames, 2))
            await asyncio.sleep(0.05)
            bucket.objects |= {k: v for k, v in made.objects.items() if k.endswith(".jpg")}
            for seq in (0, 0, 1, 3):
                broker.tell("frame", announcement_of(made, seq, 1))
            assert [f.seq for f in await waiting] == [0, 1]
            cursor = client.cursor
            bucket.add(made)
            broker.tell("event", end_of(made))
            found = await take(frames, 3)
            assert [f.seq for f in found] == [2, 3, 4]
            assert await client.fetch(found[0]) == made.objects[found[0].object_key][0]
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            assert [f.seq for f in await take(client.frames(cursor), 3)] == [2, 3, 4]

    async def test_killed_between_two_frames_it_goes_on_with_the_next(self) -> None:
        bucket = MemoryBucket()
        bucket.add(*(made_event(no, frames=3) for no in (1, 2, 3)))
        cursor: str | datetime = NOW
        seen: list[str] = []
        for _ in range(9):
            async with MotionClient(bucket, instance=INSTANCE) as client:
                (frame,) = await take(client.frames(cursor), 1)
                seen.append(frame.frame_id)
                cursor = client.cursor
        assert seen == [f.frame_id for no in (1, 2, 3) for f in made_event(no, frames=3).frames]

    async def test_frames_of_a_worker_without_its_lease_wait_for_the_bucket(self) -> None:
        bucket, broker = MemoryBucket(), NewsBroker()
        made = made_event(1, frames=3)
        async with MotionClient(bucket, broker, instance=INSTANCE) as client:
            frames = client.frames(NOW)
            waiting = asyncio.ensure_future(take(frames, 2))
            await asyncio.sleep(0.05)
            bucket.objects |= {k: v for k, v in made.objects.items() if k.endswith(".jpg")}
            broker.tell("frame", announcement_of(made, 0, 1) | {"worker": "two", "epoch": 5})
            broker.tell("frame", announcement_of(made, 1, 1) | {"worker": "one", "epoch": 4})
            late = {"worker": "one", "epoch": 4, "delayed": True}
            broker.tell("frame", announcement_of(made, 1, 1) | late)
            assert [f.epoch for f in await waiting] == [5, 4]


class TestCursor:
    async def test_a_file_keeps_it(self, tmp_path: Path) -> None:
        bucket, file = MemoryBucket(), tmp_path / "cursor"
        bucket.add(*(made_event(no) for no in range(1, 6)))
        async with MotionClient(bucket, instance=INSTANCE, cursor_file=file) as client:
            events = client.events(NOW)
            await take(events, 3)
        async with MotionClient(bucket, instance=INSTANCE, cursor_file=file) as client:
            events = client.events()
            # The third event was not yet processed when the loop ended, so it is repeated.
            assert [e.no for e in await take(events, 2)] == [3, 4]
            client.save()
        async with MotionClient(bucket, instance=INSTANCE, cursor_file=file) as client:
            assert [e.no for e in await take(client.events(), 1)] == [5]

    async def test_an_invalid_cursor_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "cursor").write_text("{}")
        with pytest.raises(ValueError, match="not a cursor"):
            MotionClient(MemoryBucket(), instance=INSTANCE, cursor_file=tmp_path / "cursor")
        async with MotionClient(MemoryBucket(), instance=INSTANCE) as client:
            with pytest.raises(ValueError, match="not a cursor"):
                await anext(client.events("x"))
            with pytest.raises(ValueError, match="before events"):
                _ = client.cursor


@dataclass
class World:
    """A service that stores and announces events, with seeded faults of its bucket and broker."""

    seed: int
    bucket: MemoryBucket = field(default_factory=MemoryBucket)
    broker: NewsBroker = field(default_factory=NewsBroker)
    made: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    async def live(self, count: int) -> None:
        """Make `count` events of two cameras; some are stored late, some are never announced."""
        chance = random.Random(self.seed)
        writer, numbers, at = "aaaaaa", dict.fromkeys(CAMERAS, 0), NOW
        late: list[MadeEvent] = []
        for place in range(count):
            fault = chance.random()
            if fault < 0.05:
                # Replace the spool: deliver the late events, then use a new writer and count from 1.
                self.store(late)
                writer, numbers = f"{chance.getrandbits(23):06x}", dict.fromkeys(CAMERAS, 0)
            elif fault < 0.10:
                at -= timedelta(seconds=chance.randrange(1, 80_000))
            elif fault < 0.15:
                self.broker.away()
            elif fault < 0.25:
                self.broker.back()
            elif fault < 0.30:
                self.bucket.failures = chance.randrange(1, 30)
            at += timedelta(seconds=chance.randrange(1, 600))
            camera = chance.choice(CAMERAS)
            numbers[camera] += 1
            event = make_event(camera=camera, at=at, salt=place, no=numbers[camera], writer=writer, frames=1)
            self.made.setdefault(camera, []).append((writer, numbers[camera]))
            if chance.random() < 0.2:
                late.append(event)
            else:
                self.store([event], announced=chance.random() < 0.7)
            if chance.random() < 0.3:
                chance.shuffle(late)
                self.store(late, announced=chance.random() < 0.5)
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))
        self.store(late)
        self.bucket.failures = 0
        self.broker.back()

    def store(self, events: list[MadeEvent], *, announced: bool = True) -> None:
        for event in events:
            self.bucket.add(event)
            if announced:
                self.broker.tell("event", end_of(event))
        events.clear()


async def subscriber(world: World, chance: random.Random, seen: list[Event], total: int) -> None:
    """Take events until all are seen; crash at random times and resume from the last cursor."""
    # Earlier than every event: the wall clock steps back, and events from before the start are not delivered.
    cursor: str | datetime = NOW - timedelta(days=60)
    while len(seen) < total:
        with_broker = chance.random() < 0.8
        client = MotionClient(
            world.bucket, world.broker if with_broker else None, instance=INSTANCE, poll_s=0.02, patience_s=60
        )
        lives = chance.choice((0.01, 0.05, 0.2, 5.0))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(lives), client:
                async for event in client.events(cursor):
                    # Store the event and the cursor together, without an await between them.
                    seen.append(event)
                    cursor = client.cursor
                    if len(seen) >= total:
                        return


@pytest.mark.parametrize("seed", range(40))
async def test_faults_by_a_seed_lose_repeat_and_disorder_nothing(seed: int) -> None:
    world = World(seed)
    seen: list[Event] = []
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(world.live(25))
        await subscriber(world, random.Random(seed + 10_000), seen, 25)
    for camera in CAMERAS:
        ours = [(e.writer, e.no) for e in seen if e.camera == camera]
        assert sorted(map(str, ours)) == sorted(map(str, world.made.get(camera, [])))
        for writer in {writer for writer, _ in ours}:
            told = [no or 0 for w, no in ours if w == writer]
            assert told == sorted(told)


def test_a_transient_failure_is_not_a_refusal() -> None:
    assert issubclass(StoreRefused, StoreUnavailable)
