"""Delivery: the order of its promises, its lanes, and what it does when a peer is away, refuses or is slow.

The spool is the real one, in memory; the peers are fakes that fail on command; delivery's waits are tiny.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from async_motion.core.health import PeerHealth
from async_motion.core.items import FrameUpload
from async_motion.core.model import Record, StoredFrame
from async_motion.core.names import Topics
from async_motion.delivery import Delivery, Pace
from async_motion.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ImageError,
    RecordRejected,
    SpoolError,
    StoreRefused,
    StoreUnavailable,
)
from async_motion.spool import Spool
from tests.support.delivering import (
    Clock,
    FakeBroker,
    FakeStore,
    end_of,
    make_event,
    make_record,
    start_of,
)
from tests.support.wait import eventually_async

BASE = "async_motion/edge1"
QUICK = Pace(
    first_s=0.001, max_s=0.02, refused_first_s=0.005, refused_most_s=0.02, piece_most_s=0.02, poll_s=0.01
)
NEVER = Pace(first_s=3600, max_s=3600, refused_first_s=3600, refused_most_s=3600, poll_s=0.01)


class Room:
    """A spool, two fakes, and deliveries between them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        self.broker = FakeBroker(check=self._check)
        self.spool = Spool(":memory:", clock=self.clock, wall=self.clock.wall)
        self.early: list[str] = []
        self.delivery: Delivery | None = None

    def _check(self, topic: str, payload: bytes) -> None:
        """An announced key can be fetched at once."""
        if topic.endswith("/frame"):
            key = json.loads(payload)["object_key"]
            if key not in self.store.objects:
                self.early.append(key)

    @asynccontextmanager
    async def delivering(self, **more: Any) -> AsyncIterator[Delivery]:
        options: dict[str, Any] = {"pace": QUICK, "clock": self.clock, "draw": lambda: 0.5, **more}
        self.delivery = Delivery(
            spool=self.spool, store=self.store, broker=self.broker, topics=Topics(BASE), **options
        )
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

    def announced(self, camera: str = "porch") -> list[int]:
        return [frame["seq"] for frame in self.broker.frames if frame["camera"] == camera]


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    async with room.spool:
        yield room


def failing(times: int, error: Exception, only: str = "") -> Callable[[str], Exception | None]:
    """Return a trouble that befalls the next `times` calls whose key or topic contains `only`."""
    left = times

    def trouble(name: str) -> Exception | None:
        nonlocal left
        if only not in name or left <= 0:
            return None
        left -= 1
        return error

    return trouble


# -- the walk


async def test_an_event_from_the_spool_to_the_subscribers(room: Room) -> None:
    records = await room.accept_event(3)
    async with room.delivering(update_every_s=0.0) as delivery:
        assert await delivery.drain(20)
    assert {k: v for k, v in room.store.objects.items() if k.endswith(".jpg")} == {
        r.info.object_key: r.jpeg for r in records
    }
    topics = [topic.removeprefix(f"{BASE}/porch/") for topic, _, _ in room.broker.messages]
    assert topics == ["frame", "event", "frame", "event", "frame", "event", "event"]
    assert [e["type"] for e in room.broker.events] == ["start", "update", "update", "end"]
    assert room.announced() == [0, 1, 2]
    end = room.broker.events[-1]
    assert (end["frames_stored"], end["best_frame"]) == (3, records[2].info.object_key)
    assert (end["bucket"], end["url"]) == (room.store.bucket, None)
    assert [frame["delayed"] for frame in room.broker.frames] == [False] * 3
    assert not any(retain for _, _, retain in room.broker.messages)


async def test_the_spool_is_not_asked_for_what_it_does_not_have(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        take = getattr(room.spool, name)

        async def noted(*args: Any, **how: Any) -> Any:
            asked.append(name)
            return await take(*args, **how)

        return noted

    for name in ("take_uploads", "take_fresh_news", "take_late_news"):
        monkeypatch.setattr(room.spool, name, noting(name))
    rung: list[None] = []
    async with room.delivering() as delivery:
        room.spool.on_work(lambda: rung.append(None))
        for value in (b"1", b"2", b"3"):
            await room.spool.remember("key", value)
        await eventually_async(lambda: len(rung) >= 3, what="the spool's news of its changes")
        assert asked == []
        await room.accept_event(1)
        assert await delivery.drain(20)
        assert "take_late_news" not in asked


async def test_what_is_published_and_written_keeps_to_the_schemas(room: Room) -> None:
    await room.accept_event(3)
    async with room.delivering(update_every_s=0.0, shrink=lambda jpeg: jpeg) as delivery:
        assert await delivery.drain(20)
    for frame in room.broker.json_of("/frame"):
        jsonschema.validate(frame, schema("frame-1"))
    for event in room.broker.events:
        jsonschema.validate(event, schema("event-1"))
    (summary,) = (json.loads(v) for k, v in room.store.objects.items() if k.endswith("/event.json"))
    jsonschema.validate(summary, schema("event_summary-1"))
    assert [line["seq"] for line in summary["frames"]] == [0, 1, 2]
    assert room.store.metadata[next(iter(room.store.objects))]["content-type"] == "image/jpeg"


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("async_motion").joinpath(f"schemas/{name}.json").read_text())
    return loaded


async def test_the_summary_is_there_when_the_end_is_announced(room: Room) -> None:
    seen: list[bool] = []

    def check(topic: str, payload: bytes) -> None:
        if topic.endswith("/event") and json.loads(payload)["type"] == "end":
            seen.append(any(key.endswith("/event.json") for key in room.store.objects))

    room.broker.check = check
    await room.accept_event(2)
    async with room.delivering() as delivery:
        assert await delivery.drain(20)
    assert seen == [True]


async def test_an_event_without_frames_has_a_summary_too(room: Room) -> None:
    event = make_event()
    await room.spool.accept([start_of(event), end_of(event)])
    async with room.delivering(prefix="cams/") as delivery:
        assert await delivery.drain(20)
    (key,) = room.store.objects
    assert key == f"cams/edge1/porch/2026/11/22/{event.event_id}/event.json"
    assert [e["best_frame"] for e in room.broker.events] == [None, None]


async def test_updates_are_throttled(room: Room) -> None:
    event = make_event()
    async with room.delivering(update_every_s=1.0) as delivery:
        await room.spool.accept([make_record(event, 0), start_of(event)])
        assert await delivery.drain(20)
        for seq in range(1, 9):
            room.clock.sleep(0.4)
            await room.spool.accept([make_record(event, seq)])
            assert await delivery.drain(20)
    assert [e["frames_stored"] for e in room.broker.events] == [1, 4, 7]


async def test_a_snapshot_on_command_is_a_frame_alone(room: Room) -> None:
    async with room.delivering() as delivery:
        await room.spool.accept([make_record(make_event(), 0)])
        assert await delivery.drain(20)
    assert room.announced() == [0]
    assert room.broker.events == []


async def test_links_are_in_the_announcement(room: Room) -> None:
    async with room.delivering(presign_s=60.0) as delivery:
        await room.spool.accept([make_record(make_event(), 0)])
        assert await delivery.drain(20)
    (frame,) = room.broker.frames
    assert frame["url"] == f"https://store/{frame['object_key']}?expires=60"


async def test_on_stored_is_called_for_each_frame(room: Room) -> None:
    seen: list[StoredFrame] = []
    records = await room.accept_event(3)
    async with room.delivering() as delivery:
        delivery.on_stored(seen.append)
        assert await delivery.drain(20)
    assert [s.info for s in seen] == [r.info for r in records]


# -- order and concurrency


async def test_order_holds_although_uploads_overtake_each_other(room: Room) -> None:
    event = make_event()
    slow = asyncio.Event()

    class Overtaking(FakeStore):
        async def put(self, key: str, data: bytes, **how: Any) -> str:
            if key == make_record(event, 0).info.object_key:
                await slow.wait()
            return await super().put(key, data, **how)

    room.store = Overtaking()
    await room.spool.accept([make_record(event, 0), start_of(event)])
    for seq in range(1, 6):
        await room.spool.accept([make_record(event, seq)])
    other = make_event("yard")
    await room.spool.accept([make_record(other, 0)])
    async with room.delivering() as delivery:
        await eventually_async(lambda: len(room.store.objects) == 6, what="the others to be stored")
        await eventually_async(lambda: room.announced("yard") == [0], what="the other camera")
        assert room.announced() == []
        slow.set()
        assert await delivery.drain(20)
    assert room.announced() == [0, 1, 2, 3, 4, 5]


async def test_uploads_are_bounded_and_concurrent(room: Room) -> None:
    room.store.hold = asyncio.Event()
    await room.accept_event(20)
    async with room.delivering(concurrency=4) as delivery:
        await eventually_async(lambda: room.store.busy == 4, what="four uploads")
        room.store.hold.set()
        assert await delivery.drain(20)
    assert room.store.max_busy == 4


@pytest.mark.parametrize("late", [False, True])
async def test_where_no_note_can_be_made_no_more_pictures_are_taken(
    room: Room, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    real, failures, writable = room.spool.mark_stored, 0, False

    async def mark_stored(*what: Any, **how: Any) -> None:
        nonlocal failures
        if not writable:
            failures += 1
            raise SpoolError("the disk is read-only")
        await real(*what, **how)

    monkeypatch.setattr(room.spool, "mark_stored", mark_stored)
    await room.accept_event(30)
    if late:
        room.clock.sleep(11)
    async with room.delivering(concurrency=2) as delivery:
        # Each of at most four notes is tried again and again: by then all that may be taken has been.
        await eventually_async(lambda: failures >= 100, what="many tries")
        assert 2 <= len(room.store.puts) <= 4
        writable = True
        assert await delivery.drain(20)
    assert sorted(room.announced()) == list(range(30))
    assert len(set(room.store.puts)) == len(room.store.puts)


# -- the store in trouble


async def test_a_store_that_comes_back_gets_everything(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    room.store.trouble = lambda _: StoreUnavailable("connection refused")
    records = await room.accept_event(5)
    async with room.delivering() as delivery:
        await eventually_async(lambda: room.store.probes >= 3, what="some probes")
        assert str(delivery.health().store) == "unavailable: connection refused"
        assert room.broker.messages == []
        tries = len(room.store.puts)
        await eventually_async(lambda: room.store.probes >= 8, what="more probes")
        # The workers wait together: only probes go out.
        assert len(room.store.puts) == tries
        room.store.trouble = lambda _: None
        assert await delivery.drain(20)
        assert str(delivery.health().store) == "ok"
    assert room.announced() == [0, 1, 2, 3, 4]
    assert len(room.store.objects) == len(records) + 1
    assert "store: unavailable: connection refused; next try in" in caplog.text
    assert caplog.text.count("store: works again") == 1


async def test_one_broken_connection_is_no_outage(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.store.trouble = failing(1, StoreUnavailable("reset"), ".jpg")
    await room.accept_event(8)
    async with room.delivering(concurrency=2) as delivery:
        assert await delivery.drain(20)
        assert delivery.health().retries == 1
        assert delivery.health().repeats >= 1
    assert room.announced() == list(range(8))
    assert caplog.text == ""


async def test_retry_after_is_kept(room: Room) -> None:
    room.store.trouble = failing(1, StoreUnavailable("503", retry_after_s=0.3))
    await room.accept_event(3)
    loop = asyncio.get_running_loop()
    async with room.delivering(concurrency=1) as delivery:
        await eventually_async(lambda: len(room.store.puts) == 1, what="the first try")
        refused_at = loop.time()
        await eventually_async(lambda: room.store.probes == 1, what="the probe")
        assert loop.time() - refused_at > 0.25
        assert await delivery.drain(20)


async def test_what_was_taken_ahead_is_given_back_when_the_store_fails(room: Room) -> None:
    room.store.trouble = failing(1, StoreUnavailable("503", retry_after_s=0.3))
    await room.accept_event(3)
    async with room.delivering(concurrency=1) as delivery:
        await eventually_async(lambda: delivery.health().retries == 1, what="the first try")
        again = await room.spool.take_uploads(fresh=True, limit=10)
        assert 1 in [item.info.seq for item in again if isinstance(item, FrameUpload)]
        assert len(room.store.puts) == 1
        await room.spool.release([item.number for item in again])
        assert await delivery.drain(20)
    assert room.announced() == [0, 1, 2]


async def test_what_was_being_taken_when_the_store_failed_does_not_begin(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.store.hold, taken = asyncio.Event(), asyncio.Event()
    room.store.trouble = failing(1, StoreUnavailable("503", retry_after_s=3600.0))
    await room.accept_event(1)
    take, release = room.spool.take_uploads, room.spool.release
    in_hand: list[int] = []
    released: list[int] = []

    async def slow_take(**how: Any) -> Any:
        found = await take(**how)
        in_hand.extend(item.number for item in found)
        if found:
            await taken.wait()
        return found

    async def noted_release(numbers: Collection[int], delay_s: float = 0.0) -> None:
        await release(numbers, delay_s)
        released.extend(numbers)

    monkeypatch.setattr(room.spool, "release", noted_release)
    async with room.delivering(concurrency=2) as delivery:
        await eventually_async(lambda: room.store.busy == 1, what="the first upload")
        monkeypatch.setattr(room.spool, "take_uploads", slow_take)
        await room.accept_event(1, index=1)
        await eventually_async(lambda: in_hand, what="the second one on its way")
        room.store.hold.set()
        await eventually_async(lambda: delivery.health().retries == 1, what="the failure")
        taken.set()
        await eventually_async(lambda: in_hand[0] in released, what="its way back")
    assert len(room.store.puts) == 1


async def test_the_next_upload_begins_in_the_moment_in_which_one_is_stored(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.store.hold = asyncio.Event()
    await room.accept_event(3)
    async with room.delivering(concurrency=1):
        await eventually_async(lambda: room.store.busy == 1, what="the first upload")
        monkeypatch.setattr(room.spool, "take_uploads", lambda **_: asyncio.Event().wait())
        room.store.hold.set()
        await eventually_async(lambda: len(room.store.puts) == 2, what="the second one")


async def test_a_refusal_pauses_and_is_said_once(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.store.trouble = lambda _: StoreRefused("InvalidAccessKeyId: the access key is not known")
    await room.accept_event(3)
    async with room.delivering() as delivery:
        await eventually_async(lambda: room.store.probes >= 5, what="some probes")
        assert str(delivery.health().store) == "refused: InvalidAccessKeyId: the access key is not known"
        room.store.trouble = lambda _: StoreRefused("NoSuchBucket: motion")
        await eventually_async(lambda: "NoSuchBucket" in str(delivery.health().store), what="the new reason")
        assert room.spool.stats.set_aside == 0
        room.store.trouble = lambda _: None
        assert await delivery.drain(20)
    assert caplog.text.count("InvalidAccessKeyId") == 1
    assert caplog.text.count("NoSuchBucket") == 1
    assert room.announced() == [0, 1, 2]


async def test_a_rejected_record_is_set_aside_and_the_line_goes_on(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.store.trouble = lambda key: RecordRejected("EntityTooLarge") if "000001" in key else None
    await room.accept_event(4)
    async with room.delivering() as delivery:
        assert await delivery.drain(20)
        assert delivery.health().set_aside == 1
    assert room.announced() == [0, 2, 3]
    assert room.spool.stats.set_aside == 1
    assert "is set aside: EntityTooLarge" in caplog.text
    assert room.broker.events[-1]["frames_stored"] == 3


async def test_a_rejected_summary_does_not_hold_up_the_end(room: Room) -> None:
    room.store.trouble = lambda key: RecordRejected("no JSON here") if "event.json" in key else None
    await room.accept_event(2)
    async with room.delivering() as delivery:
        assert await delivery.drain(20)
    assert room.broker.events[-1]["type"] == "end"


async def test_a_piece_that_always_fails_holds_up_its_line_only_until_it_is_late(room: Room) -> None:
    room.store.trouble = lambda key: StoreUnavailable("cut off") if "000001" in key else None
    event = make_event()
    async with room.delivering(concurrency=2) as delivery:
        for seq in range(4):
            await room.spool.accept([make_record(event, seq)])
        await eventually_async(lambda: len(room.store.objects) == 3, what="the others to be stored")
        assert room.announced() == [0]
        room.clock.sleep(11)
        await eventually_async(lambda: room.announced() == [0, 2, 3], what="the others to be announced")
        await room.spool.accept([make_record(event, 4)])
        await eventually_async(lambda: room.announced() == [0, 2, 3, 4], what="a fresh one")
        room.store.trouble = lambda _: None

        def time_passes() -> bool:
            room.clock.sleep(1)
            return room.announced() == [0, 2, 3, 4, 1]

        await eventually_async(time_passes, what="the late one")
        assert await delivery.drain(20)
    assert [f["delayed"] for f in room.broker.frames] == [False, True, True, False, True]


async def test_a_store_that_never_answers_meets_a_deadline(room: Room) -> None:
    room.store.hold = asyncio.Event()
    await room.accept_event(1)
    async with room.delivering(put_timeout_s=0.05) as delivery:
        await eventually_async(lambda: "no answer" in str(delivery.health().store), what="the deadline")
        room.store.hold.set()
        assert await delivery.drain(20)


# -- the broker in trouble


async def test_without_a_broker_frames_are_stored_once_and_announced_later(room: Room) -> None:
    room.broker.connected = False
    room.broker.trouble = lambda _: BrokerUnavailable("not connected")
    records = await room.accept_event(5)
    async with room.delivering(pace=NEVER) as delivery:
        await eventually_async(lambda: len(room.store.objects) == 5, what="the frames to be stored")
        assert str(delivery.health().broker) == "unavailable: not connected"
        await eventually_async(lambda: delivery.health().retries >= 1, what="the first try to fail")
        tries = room.broker.tries
        room.clock.sleep(60)
        # What was handed out before the gate closed fails too.
        for _ in range(3):
            await asyncio.sleep(0)
        assert room.broker.tries <= tries + 1
        # The wait of an hour ends with the connection.
        room.broker.come_back()
        assert await delivery.drain(20)
    assert sorted(room.announced()) == [0, 1, 2, 3, 4]
    assert all(frame["delayed"] for frame in room.broker.frames)
    assert len(room.store.puts) == len(records) + 1
    assert [e["type"] for e in room.broker.events] == ["start", "end"]


async def test_what_becomes_late_behind_others_of_its_batch_is_delayed(room: Room) -> None:
    frames = 0

    def slow(topic: str) -> None:
        nonlocal frames
        frames += topic.endswith("/frame")
        if topic.endswith("/frame") and frames == 2:
            room.clock.sleep(11)

    room.broker.connected = False
    room.broker.trouble = lambda _: BrokerUnavailable("not connected")
    await room.accept_event(4)
    async with room.delivering(pace=NEVER) as delivery:
        await eventually_async(lambda: len(room.store.objects) == 4, what="the frames to be stored")
        # The first frame is the trial after the outage; the others are one batch.
        room.broker.come_back()
        room.broker.trouble = slow
        assert await delivery.drain(20)
    assert room.announced() == [0, 1, 2, 3]
    assert [frame["delayed"] for frame in room.broker.frames] == [False, False, True, True]


async def test_a_broker_that_refuses_is_tried_one_at_a_time(room: Room) -> None:
    room.broker.trouble = lambda _: BrokerRefused("not authorized")
    for camera in ("porch", "yard", "gate"):
        await room.accept_event(4, camera)
    async with room.delivering() as delivery:
        await eventually_async(lambda: room.broker.tries >= 8, what="some tries")
        assert str(delivery.health().broker) == "refused: not authorized"
        assert room.spool.stats.set_aside == 0
        room.broker.trouble = lambda _: None
        assert await delivery.drain(20)
    for camera in ("porch", "yard", "gate"):
        assert room.announced(camera) == [0, 1, 2, 3]


async def test_one_refused_topic_does_not_stop_the_others(room: Room) -> None:
    room.broker.trouble = lambda topic: BrokerRefused("not authorized") if "/porch/" in topic else None
    async with room.delivering() as delivery:
        await room.accept_event(3, "porch")
        for index in range(5):
            await room.accept_event(2, "yard", index)
        await eventually_async(lambda: len(room.announced("yard")) == 10, what="the other camera's frames")
        assert room.announced("porch") == []
        room.broker.trouble = lambda _: None

        def time_passes() -> bool:
            room.clock.sleep(0.1)
            return room.spool.stats.empty

        await eventually_async(time_passes, what="the rest")
    assert sorted(room.announced("porch")) == [0, 1, 2]
    assert delivery.health().announced == 13


async def test_an_unanswered_publish_is_repeated_with_the_same_identity(room: Room) -> None:
    room.broker.trouble = failing(2, BrokerUnavailable("no answer"), "/frame")
    await room.accept_event(2)
    async with room.delivering() as delivery:
        assert await delivery.drain(20)
        assert delivery.health().retries >= 1
    assert room.announced() == [0, 1]


async def test_an_update_that_fails_does_not_repeat_its_frame(room: Room) -> None:
    event = make_event()
    async with room.delivering(update_every_s=0.0) as delivery:
        await room.spool.accept([make_record(event, 0), start_of(event)])
        assert await delivery.drain(20)
        room.broker.trouble = failing(1, BrokerUnavailable("no answer"), "/event")
        await room.spool.accept([make_record(event, 1)])
        assert await delivery.drain(20)
        await room.spool.accept([make_record(event, 2)])
        assert await delivery.drain(20)
    assert room.announced() == [0, 1, 2]
    assert [e["frames_stored"] for e in room.broker.events] == [1, 3]


async def test_a_link_that_cannot_be_made_for_an_update_does_not_repeat_its_frame(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, asked = make_event(), 0

    async def link(_key: str, _expires_s: float) -> str:
        nonlocal asked
        asked += 1
        if asked == 4:  # the frame's and the start's were made, then the next frame's
            raise StoreUnavailable("no credentials now")
        return "https://store/x"

    monkeypatch.setattr(room.store, "link", link)
    async with room.delivering(update_every_s=0.0, presign_s=60.0) as delivery:
        for seq in range(3):
            items: list[Any] = [make_record(event, seq)]
            await room.spool.accept(items + ([start_of(event)] if seq == 0 else []))
            assert await delivery.drain(20)
    assert room.announced() == [0, 1, 2]
    assert [e["frames_stored"] for e in room.broker.events] == [1, 3]


# -- snapshots


async def test_the_snapshot_is_the_best_frame_so_far_of_the_newest_event(room: Room) -> None:
    first, second = make_event(), make_event(index=60)
    async with room.delivering(shrink=lambda jpeg: b"small" + jpeg[:8]) as delivery:
        for event, seq, score in (
            (first, 0, 0.3),
            (first, 1, 0.2),
            (first, 2, 0.5),
            (second, 0, 0.1),
            (first, 3, 0.9),  # of an older event by now
            (second, 1, 0.2),
        ):
            items: list[Any] = [make_record(event, seq, score=score)]
            await room.spool.accept(items + ([start_of(event)] if seq == 0 else []))
            assert await delivery.drain(20)
    shown = [(f["event_id"], f["seq"]) for f in room.broker.json_of("/snapshot/frame")]
    assert shown == [(first.event_id, 0), (first.event_id, 2), (second.event_id, 0), (second.event_id, 1)]
    topics = [t.removeprefix(f"{BASE}/porch/") for t, _, _ in room.broker.messages]
    assert topics[:4] == ["snapshot", "snapshot/frame", "frame", "event"]
    pictures = [p for t, p, retain in room.broker.messages if t.endswith("/snapshot") and retain]
    assert pictures[0] == b"small" + make_record(first, 0).jpeg[:8]
    assert room.spool.stats.bytes < 10_000  # no bytes are kept beyond the announcement


async def test_a_restart_does_not_show_an_older_event_again(room: Room) -> None:
    event = make_event()
    async with room.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await room.spool.accept([make_record(event, 0, score=0.5), start_of(event)])
        assert await delivery.drain(20)
    room.broker.messages.clear()
    async with room.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await room.spool.accept([make_record(event, 1, score=0.4)])
        assert await delivery.drain(20)
    assert room.broker.json_of("/snapshot/frame") == []
    assert room.announced() == [1]


async def test_snapshots_come_after_an_outage_of_the_broker(room: Room) -> None:
    room.broker.trouble = lambda _: BrokerUnavailable("away")
    await room.accept_event(3)
    async with room.delivering(shrink=lambda jpeg: jpeg) as delivery:
        await eventually_async(lambda: len(room.store.objects) == 3, what="the frames to be stored")
        room.broker.come_back()
        assert await delivery.drain(20)
    assert room.broker.json_of("/snapshot/frame")[-1]["seq"] == 2


@pytest.mark.parametrize("how", ["refused", "picture"])
async def test_a_snapshot_in_trouble_holds_up_nothing(
    room: Room, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    def shrink(jpeg: bytes) -> bytes:
        if how == "picture":
            raise ImageError("cannot decode a JPEG")
        return jpeg

    if how == "refused":
        room.broker.trouble = lambda t: BrokerRefused("packet too large") if "/snapshot" in t else None
    await room.accept_event(4)
    async with room.delivering(shrink=shrink) as delivery:
        assert await delivery.drain(20)
        assert str(delivery.health().broker) == "ok"
    assert room.announced() == [0, 1, 2, 3]
    assert len([r for r in caplog.records if "announced without it" in r.message]) == 1


# -- backlog


async def test_after_an_outage_fresh_frames_pass_the_backlog(room: Room) -> None:
    room.store.trouble = lambda _: StoreUnavailable("away")
    for index in range(30):
        await room.accept_event(2, index=index)
    room.clock.sleep(100)
    room.store.trouble = lambda _: None
    room.store.hold = asyncio.Event()
    async with room.delivering(concurrency=4, backlog_share=0.5) as delivery:
        await eventually_async(lambda: room.store.busy == 2, what="the backlog's share")
        fresh = make_event("porch", 1000)
        await room.spool.accept([make_record(fresh, 0), start_of(fresh)])
        await eventually_async(lambda: room.store.busy == 3, what="the fresh frame's slot")
        assert room.store.puts[-1] == make_record(fresh, 0).info.object_key
        room.store.hold.set()
        await eventually_async(
            lambda: any(f["event_id"] == fresh.event_id for f in room.broker.frames), what="the fresh frame"
        )
        assert await delivery.drain(20)
    position = [f["event_id"] for f in room.broker.frames].index(fresh.event_id)
    assert position < 30
    delayed = {f["event_id"]: f["delayed"] for f in room.broker.frames}
    assert not delayed.pop(fresh.event_id)
    assert all(delayed.values())
    assert len(delayed) == 30


async def test_with_one_slot_or_no_share_the_backlog_still_drains(room: Room) -> None:
    await room.accept_event(3)
    room.clock.sleep(100)
    async with room.delivering(concurrency=1, backlog_share=0.0) as delivery:
        assert await delivery.drain(20)
    assert sorted(room.announced()) == [0, 1, 2]


async def test_what_an_earlier_run_left_is_delayed(room: Room) -> None:
    room.store.hold = asyncio.Event()
    await room.accept_event(3)
    async with room.delivering():
        await eventually_async(lambda: room.store.busy == 3, what="uploads")
    room.store.hold = None
    room.clock.sleep(30)
    async with room.delivering() as delivery:
        assert await delivery.drain(20)
    assert sorted(room.announced()) == [0, 1, 2]
    assert all(frame["delayed"] for frame in room.broker.frames)


# -- the rest


async def test_a_spool_in_trouble_is_waited_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    real_remove, real_take = room.spool.remove, room.spool.take_uploads
    troubles = {"remove": 2, "take": 2}

    async def remove(numbers: Any) -> None:
        if troubles["remove"]:
            troubles["remove"] -= 1
            raise SpoolError("no space left")
        await real_remove(numbers)

    async def take(**how: Any) -> Any:
        if troubles["take"]:
            troubles["take"] -= 1
            raise SpoolError("the disk fails")
        return await real_take(**how)

    monkeypatch.setattr(room.spool, "remove", remove)
    monkeypatch.setattr(room.spool, "take_uploads", take)
    await room.accept_event(2)
    async with room.delivering() as delivery:
        assert await delivery.drain(20)
    assert troubles == {"remove": 0, "take": 0}
    assert room.announced() == [0, 1]


async def test_draining_gives_up_in_time(room: Room) -> None:
    room.store.trouble = lambda _: StoreUnavailable("away")
    await room.accept_event(2)
    async with room.delivering() as delivery:
        assert not await delivery.drain(0.05)
    assert room.spool.stats.records == 2


async def test_health_has_the_figures(room: Room) -> None:
    await room.accept_event(3)
    async with room.delivering() as delivery:
        assert delivery.health().upload_s == {"p50": None, "p99": None}
        assert await delivery.drain(20)
        health = delivery.health()
    assert (health.store, health.broker) == (PeerHealth(), PeerHealth())
    assert (health.stored, health.announced, health.stored_bytes) == (3, 3, 9000)
    assert health.upload_s["p99"] is not None
    json.dumps(asdict(health))
