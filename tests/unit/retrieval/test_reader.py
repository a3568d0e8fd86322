"""Events, frames and images from the bucket alone: with an index, without, and in a hostile bucket."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.core.index import DELETED, REBUILT, encode_line, index_key, pack, pack_encoded
from async_motion.core.names import event_key
from async_motion.core.payloads import iso
from async_motion.errors import StoreUnavailable, UnreadableObject
from async_motion.retrieval import Event, EventReader, days
from async_motion.retrieval import requests as retrieval_requests
from tests.support.bucket import INSTANCE, MadeEvent, MemoryBucket, make_event

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval_requests, "PAUSES_S", (0.0, 0.0))


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


@pytest.fixture
def reader(bucket: MemoryBucket) -> EventReader:
    return EventReader(bucket, instance=INSTANCE, now=lambda: NOW)


async def ids(reader: EventReader, *args: Any, **kwargs: Any) -> list[str]:
    return [event.event_id async for event in reader.events(*args, **kwargs)]


def of(events: Iterable[MadeEvent]) -> list[str]:
    return [event.event_id for event in events]


def a_month(cameras: tuple[str, ...] = ("porch",)) -> list[MadeEvent]:
    """Return three events a day for thirty days, in order, with numbers."""
    return [
        make_event(camera=camera, at=NOW - DAY * n - HOUR * h, salt=place, no=3 * (31 - n) - h, frames=1)
        for n in range(30, 0, -1)
        for h in (2, 1, 0)
        for place, camera in enumerate(cameras)
    ]


class TestEvents:
    async def test_an_empty_bucket_has_none(self, reader: EventReader) -> None:
        assert await ids(reader) == []
        assert await ids(reader, "porch", since=NOW - HOUR) == []
        assert await reader.cameras() == []

    async def test_they_come_by_their_start_over_all_cameras(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        month = a_month(("porch", "yard"))
        bucket.add(*month)
        assert await reader.cameras() == ["porch", "yard"]
        assert await ids(reader) == of(month)
        assert await ids(reader, reverse=True) == of(month)[::-1]
        assert await ids(reader, "yard") == of(e for e in month if e.camera == "yard")
        assert await ids(reader, ["yard", "porch"], since=NOW - DAY * 2) == of(month)[-8:]

    async def test_with_an_index_the_answer_is_the_same(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        month = a_month()
        bucket.add(*month)
        bare = [event async for event in reader.events()]
        bucket.index(month)
        assert [event async for event in reader.events()] == bare
        assert reader.skipped.count == 0

    async def test_the_whole_event_is_told(self, reader: EventReader, bucket: MemoryBucket) -> None:
        at = NOW - HOUR
        made = make_event(at=at, frames=3, zones=["drive"], no=7)
        bucket.add(made)
        (event,) = [event async for event in reader.events()]
        assert event == Event(
            instance=INSTANCE,
            camera="porch",
            event_id=made.event_id,
            started_at=at,
            ended_at=at + timedelta(seconds=3),
            duration_s=3.0,
            reason="quiet",
            peak_score=0.03,
            zones=("drive",),
            frames=3,
            bytes=sum(frame.size for frame in made.frames),
            best=2,
            scores=(0.01, 0.02, 0.03),
            no=7,
            writer="a41c07",
        )

    @pytest.mark.parametrize("indexed", [False, True])
    async def test_the_filters(self, reader: EventReader, bucket: MemoryBucket, indexed: bool) -> None:
        made = [
            make_event(at=NOW - 3 * HOUR, frames=1, scores=[0.5], no=1),
            make_event(at=NOW - 2 * HOUR, frames=9, zones=["drive", "door"], no=2),
            make_event(at=NOW - HOUR, frames=2, zones=["drive"], no=3),
        ]
        bucket.add(*made)
        if indexed:
            bucket.index(made)
        first, second, third = of(made)
        assert await ids(reader, zone="drive") == [second, third]
        assert await ids(reader, zone=["door", "roof"]) == [second]
        assert await ids(reader, min_score=0.09) == [first, second]
        assert await ids(reader, min_duration=2.0) == [second, third]
        assert await ids(reader, since=NOW - 2 * HOUR) == [second, third]
        assert await ids(reader, until=NOW - 2 * HOUR) == [first]
        assert await ids(reader, since=NOW - 2 * HOUR, until=NOW - HOUR) == [second]

    @pytest.mark.parametrize("indexed", [False, True])
    async def test_a_moment_is_exact_to_the_microsecond(
        self, reader: EventReader, bucket: MemoryBucket, indexed: bool
    ) -> None:
        at = datetime(2026, 11, 22, 7, 31, 12, 345678, tzinfo=UTC)
        made = make_event(at=at, no=1)
        bucket.add(made)
        if indexed:
            bucket.index([made])
        tick = timedelta(microseconds=1)
        assert await ids(reader, since=at) == [made.event_id]
        assert await ids(reader, since=at + tick) == []
        assert await ids(reader, until=at) == []
        assert await ids(reader, until=at + tick) == [made.event_id]

    async def test_midnight_and_the_end_of_a_year_lose_nothing(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        midnight = datetime(2026, 1, 1, tzinfo=UTC)
        made = [make_event(at=midnight + timedelta(milliseconds=n), salt=n + 1) for n in (-1, 0, 1)]
        bucket.add(*made)
        assert await ids(reader, since=midnight - HOUR, until=midnight + HOUR) == of(made)
        assert await ids(reader, until=midnight) == of(made[:1])
        assert await ids(reader, since=midnight) == of(made[1:])

    @pytest.mark.parametrize("apart", [HOUR, DAY])
    async def test_an_event_whose_worker_was_lost_ends_with_its_last_frame(
        self, reader: EventReader, bucket: MemoryBucket, apart: timedelta
    ) -> None:
        cut = make_event(at=NOW - apart - HOUR, frames=3, ended=False)
        later = make_event(at=NOW - HOUR, frames=1, ended=False)
        bucket.add(cut, later)
        for made, epoch in ((cut, "7"), (later, "9")):
            for key in made.objects:
                data, about = bucket.objects[key]
                bucket.objects[key] = (data, {**about, "worker": "w", "epoch": epoch})
        lost, open_event = [event async for event in reader.events()]
        assert (lost.event_id, lost.reason) == (cut.event_id, "worker_lost")
        assert lost.ended_at == cut.frames[-1].captured_at
        assert lost.duration_s == (cut.frames[-1].captured_at - lost.started_at).total_seconds()
        assert (await reader.event(cut.event_id, "porch")) == lost
        # The later one goes on: no event of a higher epoch follows it.
        assert (open_event.event_id, open_event.reason) == (later.event_id, None)

    async def test_a_lost_event_ends_with_its_last_readable_frame_and_has_its_number(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        cut = make_event(at=NOW - 2 * HOUR, frames=3, ended=False)
        later = make_event(at=NOW - HOUR, frames=1, ended=False)
        bucket.add(cut, later)
        lease_of_cut = {"writer": "a41c07", "no": "41", "epoch": "7"}
        for made, lease in ((cut, lease_of_cut), (later, {"epoch": "9"})):
            for key in made.objects:
                data, about = bucket.objects[key]
                bucket.objects[key] = (data, {**about, **lease})
        for unreadable in (cut.frames[0], cut.frames[2]):
            bucket.objects[unreadable.object_key] = (b"x", {})
        lost = await reader.event(cut.event_id)
        assert lost is not None
        assert (lost.reason, lost.writer, lost.no) == ("worker_lost", "a41c07", 41)
        assert (lost.ended_at, lost.duration_s) == (cut.frames[1].captured_at, 1.0)
        # Without any time, its end is not known: `--rebuild` must not write one.
        bucket.objects[cut.frames[1].object_key] = (b"x", {"epoch": "7"})
        unknown = await reader.event(cut.event_id)
        assert unknown is not None
        assert (unknown.reason, unknown.ended_at) == (None, None)

    @pytest.mark.parametrize("epochs", [("7", "7"), ("9", "7"), (None, "7"), ("7", None), ("7", "x" * 20)])
    async def test_without_a_higher_epoch_after_it_an_event_goes_on(
        self, reader: EventReader, bucket: MemoryBucket, epochs: tuple[str | None, str | None]
    ) -> None:
        events = [make_event(at=NOW - n * HOUR, frames=1, ended=False) for n in (2, 1)]
        bucket.add(*events)
        for made, epoch in zip(events, epochs, strict=True):
            for key in made.objects:
                data, about = bucket.objects[key]
                bucket.objects[key] = (data, about if epoch is None else {**about, "epoch": epoch})
        assert [event.reason async for event in reader.events()] == [None, None]

    async def test_an_ongoing_event_is_read_from_its_frames(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        at = NOW - timedelta(minutes=1)
        made = make_event(at=at, frames=40, ended=False)
        bucket.add(made)
        (event,) = [event async for event in reader.events(since=NOW - HOUR)]
        assert (event.started_at, event.ended_at, event.duration_s, event.reason) == (at, None, None, None)
        assert event.frames == 40
        assert event.bytes == sum(frame.size for frame in made.frames)
        assert len(event.scores) <= 16
        assert event.best is not None
        assert event.peak_score == made.frames[event.best].score > 0.3
        assert event.ongoing
        assert await ids(reader, min_duration=0.1) == []

    @pytest.mark.parametrize(("newest", "ongoing"), [(timedelta(minutes=9), True), (2 * HOUR, False)])
    async def test_an_event_without_an_end_is_ongoing_until_its_newest_frame_is_old(
        self, reader: EventReader, bucket: MemoryBucket, newest: timedelta, ongoing: bool
    ) -> None:
        made = make_event(at=NOW - 3 * HOUR, frames=40, ended=False)
        bucket.add(made)
        last = made.frames[-1].object_key
        data, about = bucket.objects[last]
        bucket.objects[last] = (data, {**about, "captured-at": iso(NOW - newest)})
        (event,) = [event async for event in reader.events(since=NOW - 4 * HOUR)]
        assert (event.ended_at, event.ongoing) == (None, ongoing)
        assert event.open_word == ("ongoing" if ongoing else "no end")
        assert await reader.event(made.event_id, "porch") == event
        # Without a readable time, the start counts: it is three hours old.
        bucket.objects[last] = (data, {})
        assert [event.ongoing async for event in reader.events()] == [False]

    async def test_a_frame_of_the_future_is_no_sign_of_life(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        bucket.add(make_event(at=NOW + DAY, ended=False), make_event(at=NOW + HOUR / 60, ended=False))
        assert [event.ongoing async for event in reader.events()] == [True, False]

    async def test_a_camera_named_twice_gives_its_events_once(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = make_event(at=NOW - HOUR)
        bucket.add(made)
        assert await ids(reader, ["porch", "porch"]) == of([made])

    @pytest.mark.parametrize("behind", [timedelta(), 400 * DAY])
    async def test_with_a_wrong_clock_the_days_that_are_indexed_are_there(
        self, bucket: MemoryBucket, behind: timedelta
    ) -> None:
        """The service's clock is days ahead of ours."""
        made = [make_event(at=NOW + n * DAY, salt=n, no=n + 1) for n in range(4)]
        bucket.add(*made)
        bucket.index(made)
        reader = EventReader(bucket, instance=INSTANCE, now=lambda: NOW - behind)
        assert await ids(reader, "porch", since=NOW - HOUR) == of(made)

    async def test_a_folder_name_in_other_digits_is_not_an_event(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = make_event(at=NOW - HOUR)
        bucket.add(made)
        odd = made.folder.replace("0Z-", "\N{ARABIC-INDIC DIGIT ZERO}Z-")
        assert odd != made.folder
        bucket.objects[odd + "000000.jpg"] = (b"x", {})
        assert await ids(reader) == of([made])
        assert reader.skipped.count == 1

    async def test_a_folder_without_frames_is_not_an_event(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = make_event(at=NOW - HOUR, ended=False)
        bucket.objects[made.folder + "notes.txt"] = (b"x", {})
        assert await ids(reader) == []

    async def test_instances_and_prefixes_are_apart(self, bucket: MemoryBucket) -> None:
        bucket.add(
            make_event(at=NOW - HOUR), make_event(at=NOW - HOUR, instance="edge2", prefix="cams/", salt=2)
        )
        other = EventReader(bucket, instance="edge2", prefix="cams/", now=lambda: NOW)
        assert [event.instance async for event in other.events()] == ["edge2"]


class TestIndex:
    async def test_two_hours_cost_three_requests_a_camera(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = [make_event(at=NOW - timedelta(minutes=n), no=60 - n) for n in range(59, -1, -1)]
        bucket.add(*made)
        bucket.index(made)
        assert await ids(reader, "porch", since=NOW - 2 * HOUR) == of(made)
        assert len(bucket.requests) == 3

    async def test_two_hours_without_an_event_cost_two(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = [make_event(at=NOW - 3 * HOUR, no=1)]
        bucket.add(*made)
        bucket.index(made)
        assert await ids(reader, "porch", since=NOW - 2 * HOUR) == []
        assert [kind for kind, _ in bucket.requests] == ["list", "list"]

    async def test_a_settled_month_is_read_from_the_index_alone(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        month = a_month()
        bucket.add(*month)
        bucket.index(month)
        assert await ids(reader, zone="nowhere") == []
        reads = bucket.asked("read")
        assert len(reads) == 30
        assert all("/.index/" in key for key in reads)
        # Listings: the index, years, months, days; then the oldest day and the recent one.
        assert len(bucket.asked("list")) <= 4 + 2 + 2

    async def test_without_index_a_listing_for_each_day(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        month = a_month()
        bucket.add(*month)
        assert await ids(reader, "porch") == of(month)
        assert len(bucket.asked("list")) == 30 + 1 + 1 + 1 + 2

    async def test_what_is_newer_than_the_index_is_there(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = [make_event(at=NOW - timedelta(minutes=n), no=9 - n) for n in range(8, -1, -1)]
        bucket.add(*made)
        bucket.index(made[:4])
        assert await ids(reader, "porch", since=NOW - HOUR) == of(made)
        assert await ids(reader, since=NOW - 90 * DAY) == of(made)

    async def test_a_late_event_that_is_not_indexed_yet_is_found_by_the_hole(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        month = a_month()
        bucket.add(*month)
        bucket.index([event for place, event in enumerate(month) if place != 40])
        assert await ids(reader) == of(month)

    async def test_the_last_events_of_a_lost_spool_are_there(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        """It was lost within five minutes, so that its index lacks them, and no later number shows it."""
        lost = [make_event(at=NOW - 5 * DAY + n * HOUR, salt=n, no=n + 1) for n in range(3)]
        before = make_event(at=NOW - 9 * DAY, salt=8, no=1, writer="bbbbbb")
        after = make_event(at=NOW - HOUR, salt=9, no=1, writer="cccccc")
        bucket.add(before, *lost, after)
        bucket.index(lost[:2])
        bucket.index([before], writer="bbbbbb")
        bucket.index([after], writer="cccccc")
        assert await ids(reader) == of([before, *lost, after])

    async def test_more_writers_than_are_read_hide_no_event(
        self, reader: EventReader, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(days, "MAX_WRITERS", 2)
        made = [
            make_event(at=NOW - (6 - no) * DAY + n * HOUR, salt=n, no=no, writer=f"{n:06x}")
            for no in (1, 2)
            for n in range(1, 5)
        ]
        first, newest = make_event(at=NOW - 9 * DAY, no=1), make_event(at=NOW - HOUR, no=2)
        bucket.add(first, *made, newest)
        bucket.index([first, newest])
        for place in range(4):
            bucket.index(made[place::4], writer=made[place].line.writer or "")
        assert await ids(reader) == of([first, *made, newest])

    async def test_days_from_before_the_index_are_there(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        month = a_month()
        bucket.add(*month)
        bucket.index(month[45:])
        assert await ids(reader) == of(month)

    async def test_writers_are_merged(self, reader: EventReader, bucket: MemoryBucket) -> None:
        month = a_month()
        bucket.add(*month)
        bucket.index(month[0::2], writer="bbbbbb")
        bucket.index(month[1::2], writer="aaaaaa")
        bucket.index(month, writer=REBUILT)
        assert await ids(reader) == of(month)

    async def test_what_is_gone_is_not_told(self, reader: EventReader, bucket: MemoryBucket) -> None:
        month = a_month()
        bucket.add(*month[7:])  # two days and a part of the third have expired
        bucket.index(month)
        assert await ids(reader) == of(month[7:])
        assert await ids(reader, since=NOW - 31 * DAY, until=NOW - 28 * DAY) == of(month[7:8])

    async def test_what_was_deleted_is_not_told(self, reader: EventReader, bucket: MemoryBucket) -> None:
        month = a_month()
        bucket.add(*month)
        bucket.index(month)
        gone = month[40]
        bucket.objects[index_key("", INSTANCE, "porch", gone.day, DELETED)] = (pack([gone.line], DELETED), {})
        assert await ids(reader) == of(event for event in month if event is not gone)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 2)), max_size=30, unique_by=lambda e: e[0]),
        st.integers(0, 20_000),
        st.integers(0, 20_000),
        st.booleans(),
        st.data(),
    )
    async def test_any_part_of_an_index_gives_the_same_answer(
        self, events: list[tuple[int, int]], low: int, high: int, reverse: bool, data: st.DataObject
    ) -> None:
        """An index may lack any event of today and yesterday, or all of it."""
        bucket = MemoryBucket()
        start = NOW - timedelta(minutes=20_000)
        numbers: dict[int, int] = {}
        made: list[MadeEvent] = []
        for minutes, camera in sorted(events):
            no = numbers[camera] = numbers.get(camera, 0) + 1
            at = start + timedelta(minutes=minutes)
            made.append(make_event(camera=f"cam{camera}", at=at, salt=minutes, frames=1, no=no))
        bucket.add(*made)
        reader = EventReader(bucket, instance=INSTANCE, now=lambda: NOW)

        async def read() -> list[Event]:
            since, until = (start + timedelta(minutes=at) for at in sorted((low, high)))
            return [event async for event in reader.events(since=since, until=until, reverse=reverse)]

        bare = await read()
        bucket.index(e for e in made if e.day < (NOW - DAY).date() or data.draw(st.booleans()))
        assert await read() == bare
        assert reader.skipped.count == 0


class TestHostileBucket:
    async def test_foreign_objects_are_skipped(self, reader: EventReader, bucket: MemoryBucket) -> None:
        made = make_event(at=NOW - HOUR)
        bucket.add(made)
        for key in (
            "edge1/porch/2026/11/22/notes.txt",
            "edge1/porch/2026/11/22/20261122T9999/x.jpg",
            "edge1/porch/2026/11/22/20261121T110000000Z-000000/000000.jpg",
            "edge1/porch/2026/11/22/../../x",
            "edge1/porch/2026/13/01/20261301T110000000Z-000000/000000.jpg",
            "edge1/porch/²026/11/22/x",
            "edge1/porch/2026/1/2/x",
            "edge1/Porch!/2026/11/22/20261122T110000000Z-000000/000000.jpg",
            "edge1/.index/1/porch/2026/11/22.zzzzzz.jsonl.gz",
            "edge1/.index/1/porch/2026/11/99.a41c07.jsonl.gz",
            f"{made.folder}../000001.jpg",
            f"{made.folder}x.jpg",
        ):
            bucket.objects[key] = (b"?", {})
        assert await ids(reader) == [made.event_id]
        assert reader.skipped.count == 3

    @pytest.mark.parametrize(
        "data",
        [b"", b"\x00" * 50, b"{}", b"[1, 2]", b'{"schema": "async_motion.event_summary/1"}', b"[" * 5000],
    )
    async def test_an_unreadable_summary_leaves_the_frames(
        self, reader: EventReader, bucket: MemoryBucket, data: bytes
    ) -> None:
        made = make_event(at=NOW - HOUR, frames=2)
        bucket.add(made)
        bucket.objects[event_key(made.folder)] = (data, {})
        (event,) = [event async for event in reader.events()]
        assert (event.frames, event.ended_at) == (2, None)
        assert [frame.seq for frame in await reader.frames(event)] == [0, 1]
        assert reader.skipped.count == 2
        assert reader.skipped.latest[0][0] == event_key(made.folder)

    @pytest.mark.parametrize("data", [b"", b"no gzip", b"\x1f\x8b"])
    async def test_an_unreadable_index_is_as_none(
        self, reader: EventReader, bucket: MemoryBucket, data: bytes
    ) -> None:
        month = a_month()
        bucket.add(*month)
        bucket.index(month)
        broken = index_key("", INSTANCE, "porch", month[40].day, "a41c07")
        bucket.objects[broken] = (data, {})
        assert await ids(reader) == of(month)
        assert reader.skipped.count == 1

    async def test_a_cached_index_gives_the_same_answer_until_it_is_written_again(
        self, bucket: MemoryBucket
    ) -> None:
        reader = EventReader(bucket, instance=INSTANCE, max_cached_lines=100, now=lambda: NOW)
        month = a_month()
        bucket.add(*month)
        bucket.index(month[:39])
        for _ in range(2):
            assert await ids(reader) == of(month)
        assert await ids(reader, since=NOW - DAY * 20, until=NOW - DAY * 10, zone="none") == []
        bucket.index(month)
        assert await ids(reader) == of(month)

    @pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "NaN"])
    async def test_an_immense_number_ends_no_listing(
        self, reader: EventReader, bucket: MemoryBucket, number: str
    ) -> None:
        good = make_event(at=NOW - HOUR, no=2)
        made = [make_event(at=NOW - n * DAY, frames=1, no=1) for n in (1, 2)]
        bucket.add(*made, good)
        for event, name in zip(made, ("seq", "size"), strict=True):
            summary = json.loads(bucket.objects[event_key(event.folder)][0])
            summary["frames"][0][name] = "N"
            text = json.dumps(summary).replace('"N"', number)
            bucket.objects[event_key(event.folder)] = (text.encode(), {})
        line = encode_line(good.line, "a41c07").decode().replace('"duration_s":2.0', f'"duration_s":{number}')
        assert number in line
        key = index_key("", INSTANCE, "porch", good.day, "a41c07")
        bucket.objects[key] = (pack_encoded([line.encode()]), {})
        assert await ids(reader) == of([made[1], made[0], good])
        assert reader.skipped.count

    async def test_a_damaged_index_is_reported_on_every_read(self, bucket: MemoryBucket) -> None:
        reader = EventReader(bucket, instance=INSTANCE, max_cached_lines=100, now=lambda: NOW)
        made = make_event(at=NOW - HOUR)
        bucket.add(made)
        bucket.objects[index_key("", INSTANCE, "porch", made.day, "a41c07")] = (
            pack([made.line], "a41c07")[:-4],
            {},
        )
        for count in (1, 2):
            assert await ids(reader) == [made.event_id]
            assert reader.skipped.count == count

    async def test_a_line_of_another_day_is_skipped(self, reader: EventReader, bucket: MemoryBucket) -> None:
        made, other = make_event(at=NOW - HOUR), make_event(at=NOW - 40 * DAY)
        bucket.add(made)
        bucket.objects[index_key("", INSTANCE, "porch", made.day, "a41c07")] = (
            pack([made.line, other.line], "a41c07"),
            {},
        )
        assert await ids(reader) == [made.event_id]
        assert reader.skipped.count == 1

    async def test_a_summary_cannot_lead_to_another_object(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = make_event(at=NOW - HOUR)
        assert made.summary is not None
        made.summary["frames"][0]["object_key"] = "edge2/secret"
        bucket.add(made)
        bucket.objects[event_key(made.folder)] = (json.dumps(made.summary).encode(), {})
        (event,) = [event async for event in reader.events()]
        assert [frame.object_key for frame in await reader.frames(event)] == [
            frame.object_key for frame in made.frames
        ]

    async def test_ten_thousand_writers_do_not_hold_a_day_up(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = make_event(at=NOW - HOUR)
        bucket.add(made)
        for n in range(300):
            bucket.objects[index_key("", INSTANCE, "porch", made.day, f"{n:06x}")] = (b"", {})
        assert await ids(reader) == [made.event_id]
        assert len(bucket.asked("read")) < 100

    async def test_a_transient_failure_is_retried(self, reader: EventReader, bucket: MemoryBucket) -> None:
        made = make_event(at=NOW - HOUR)
        bucket.add(made)
        bucket.failures = 2
        assert await ids(reader) == [made.event_id]
        bucket.failures = 100
        with pytest.raises(StoreUnavailable):
            await ids(reader)

    async def test_memory_stays_bounded_at_any_size(self, reader: EventReader, bucket: MemoryBucket) -> None:
        for camera in ("porch", "yard"):
            for day in range(40):
                made = [
                    make_event(
                        camera=camera, at=NOW - DAY * (day + 3) - timedelta(minutes=n), frames=0, no=n + 1
                    )
                    for n in range(100)
                ]
                bucket.index(made)
                bucket.objects[f"{made[0].folder}000000.jpg"] = (b"", {})
        tracemalloc.start()
        count = 0
        async for _ in reader.events():
            count += 1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 8_000 - 4 * 99, "of the oldest and the newest day the bucket has one event a camera"
        assert peak < 12_000_000


class TestOneEvent:
    async def test_it_is_found_by_its_id(self, reader: EventReader, bucket: MemoryBucket) -> None:
        made = make_event(camera="yard", at=NOW - 90 * DAY)
        bucket.add(made, make_event(at=NOW))
        event = await reader.event(made.event_id)
        assert event is not None
        assert (event.camera, event.event_id) == ("yard", made.event_id)
        assert await reader.event(made.event_id, "yard") == event
        assert await reader.event(made.event_id, "porch") is None

    @pytest.mark.parametrize("bad", ["", "../x", "20269922T110000000Z-000000", "20261122T110000000Z-00000g"])
    async def test_an_invalid_id_has_no_event(
        self, reader: EventReader, bucket: MemoryBucket, bad: str
    ) -> None:
        bucket.add(make_event(at=NOW))
        assert await reader.event(bad) is None


class TestFrames:
    async def test_frames_of_an_ended_event_are_as_announced(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = make_event(at=NOW - HOUR, frames=3, zones=["drive"])
        bucket.add(made)
        event = await reader.event(made.event_id)
        assert event is not None
        assert await reader.frames(event) == list(made.frames)

    async def test_frames_of_an_ongoing_event_come_from_their_metadata(
        self, reader: EventReader, bucket: MemoryBucket
    ) -> None:
        made = make_event(at=NOW - HOUR, frames=130, ended=False)
        bucket.add(made)
        bucket.objects[made.frames[5].object_key] = (b"x", {})
        event = await reader.event(made.event_id)
        assert event is not None
        frames = await reader.frames(event)
        assert [frame.seq for frame in frames] == [n for n in range(130) if n != 5]
        assert frames[3].sha256 == made.frames[3].sha256
        assert frames[3].captured_at == made.frames[3].captured_at
        assert (frames[3].width, frames[3].boxes) == (0, ())

    async def test_a_frame_is_checked(self, reader: EventReader, bucket: MemoryBucket) -> None:
        made = make_event(at=NOW - HOUR, frames=3)
        bucket.add(made)
        whole, changed, gone = made.frames
        assert await reader.fetch(whole) == bucket.objects[whole.object_key][0]
        bucket.objects[changed.object_key] = (b"x" * changed.size, {})
        del bucket.objects[gone.object_key]
        with pytest.raises(UnreadableObject, match="sha256"):
            await reader.fetch(changed)
        with pytest.raises(UnreadableObject, match="no longer exists"):
            await reader.fetch(gone)
        bucket.objects[changed.object_key] = (b"x" * 5000, {})
        with pytest.raises(UnreadableObject, match="longer than"):
            await reader.fetch(changed)
