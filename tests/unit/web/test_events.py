"""Stored events: lists, pages, frames, archives, links and deletion; and a hostile bucket."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from async_motion.core.model import Box, Image
from async_motion.errors import StoreRefused, StoreUnavailable
from async_motion.jpeg import dimensions, encode
from async_motion.web.api import writing
from async_motion.web.api.events import MAX_ARCHIVES, MAX_CLIPS, day_bounds
from async_motion.web.event_pages import day_words, ended, lasted, spark, timeline
from async_motion.web.thumbnails import Thumbnails
from tests.support.bucket import MadeEvent, MemoryBucket, make_event
from tests.support.wait import eventually_async
from tests.unit.web.kit import NOW, Stage, bearer, get, serving
from tests.unit.web.test_pages import Texts
from tests.unit.web.test_zipping import STORED

MORNING = NOW.replace(hour=6, minute=0, second=0)


def jpeg(width: int = 640) -> bytes:
    """Return a 16:9 JPEG, `width` pixels wide."""
    image: Image = np.zeros((width * 9 // 16, width, 3), np.uint8)
    image[:, : width // 2] = 200
    return encode(image)[0]


def filled(count: int = 3, **changes: Any) -> tuple[Stage, list[MadeEvent]]:
    """Return a stage with `count` events from MORNING on, a minute apart, and the events."""
    stage = Stage()
    made = [
        make_event(
            at=MORNING + timedelta(minutes=number), salt=number, jpegs=[jpeg()] * 2, zones=["drive"],
            boxes=[Box(0.1, 0.2, 0.3, 0.4)], **changes,
        )
        for number in range(count)
    ]  # fmt: skip
    stage.bucket.add(*made)
    return stage, made


async def ask(session: aiohttp.ClientSession, path: str) -> Any:
    status, text = await get(session, f"/api/v1/{path}")
    assert status == 200, text
    return json.loads(text)


# ---- lists ----


async def test_events_come_newest_first_and_page_by_count() -> None:
    stage, made = filled(5)
    async with serving(stage) as session:
        first = await ask(session, "events?limit=2")
        assert [event["event_id"] for event in first["events"]] == [made[4].event_id, made[3].event_id]
        second = await ask(session, f"events?limit=2&before={first['before']}")
        assert [event["event_id"] for event in second["events"]] == [made[2].event_id, made[1].event_id]
        last = await ask(session, f"events?limit=2&before={second['before']}")
        assert [event["event_id"] for event in last["events"]] == [made[0].event_id]
        assert last["before"] is None


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("camera=porch", 3), ("camera=yard", 0), ("zone=drive", 3), ("zone=lawn", 0), ("min_score=0.5", 0),
        ("min_duration=2", 3), ("min_duration=3", 0), ("since=2026-11-22T06:01:00Z", 2),
        ("until=2026-11-22T06:01:00Z", 1), ("day=2026-11-22", 3), ("day=2026-11-20", 0),
    ],
)  # fmt: skip
async def test_filters(query: str, count: int) -> None:
    stage, _ = filled(3)
    async with serving(stage) as session:
        assert len((await ask(session, f"events?{query}"))["events"]) == count


def test_a_day_is_the_services_own_and_knows_when_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 11, 22), 24)):
            since, until = day_bounds(day)
            assert until.timestamp() - since.timestamp() == hours * 3600
            assert since.hour == until.hour == 0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "query",
    [
        "day=9999-12-31", "day=0001-01-01", "since=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00", "before=99991231T235959999Z-aaaaaa",
        "before=00010101T000000000Z-aaaaaa",
    ],
)  # fmt: skip
async def test_the_ends_of_the_calendar_are_refused(query: str) -> None:
    stage, _ = filled(1)
    async with serving(stage) as session:
        assert (await get(session, f"/api/v1/events?{query}"))[0] == 400
        assert (await get(session, f"/events?{query}"))[0] < 500


def test_the_timeline_shows_the_clock_also_on_the_day_it_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        # 23:30 and 12:00 of a day of 25 hours.
        events = [
            replace(STORED, camera="porch", started_at=datetime(2026, 10, 25, hour, minute, tzinfo=UTC))
            for hour, minute in ((22, 30), (11, 0))
        ]
        (row,) = timeline(events, {"porch": "Porch"})
        assert row["count"] == "2"
        assert [path.split()[0] for path in row["path"].split("M")[1:]] == ["1410.0", "720.0"]
    finally:
        monkeypatch.undo()
        time.tzset()


# ---- pages ----


async def test_the_page_of_a_day() -> None:
    stage, made = filled(60)
    async with serving(stage) as session:
        status, text = await get(session, "/events?day=2026-11-22")
        assert status == 200
        page = Texts(text)
        assert "60 events" in page.text
        assert sum("frames/" in address for address in page.addresses) == 48
        (older,) = [address for address in page.addresses if "before=" in address and "hour" not in address][
            -1:
        ]
        behind = Texts((await get(session, f"/{older}"))[1])
        assert sum("frames/" in address for address in behind.addresses) == 12
        hour = Texts((await get(session, "/events?day=2026-11-22&hour=5"))[1])
        assert "No event that the filter lets through." in hour.text
        assert made[0].event_id not in text


async def test_the_newest_day_is_shown_where_today_has_nothing() -> None:
    stage, _ = filled(1)
    async with serving(stage) as session:
        page = Texts((await get(session, "/events"))[1])
        assert "Nothing today" in page.text or datetime.now().astimezone().date() == MORNING.date()
        assert "1 event" in page.text


@pytest.mark.parametrize("before", ["x", "00000000T000000000Z-000000", "20261122T060000000Z-FFFFFF"])
async def test_a_page_after_an_invalid_event_id_is_refused(before: str) -> None:
    async with serving(filled(1)[0]) as session:
        assert (await get(session, f"/api/v1/events?before={before}"))[0] == 400


@pytest.mark.parametrize(
    "query", ["day=x", "day=0001-01-01", "day=9999-12-31", "hour=24", "percent=x", "before=x"]
)
async def test_a_filter_that_cannot_be_read_is_reported(query: str) -> None:
    async with serving(filled(1)[0]) as session:
        assert (await get(session, f"/events?{query}", Accept="text/html"))[0] == 400


async def test_the_page_of_an_event() -> None:
    stage, made = filled(1)
    async with serving(stage) as session:
        page = Texts((await get(session, f"/event?camera=porch&id={made[0].event_id}"))[1])
        for words in (
            "Front porch",
            "Nothing moved any more.",
            "1 % of the image moved in drive.",
            "2 s",
            "drive",
        ):
            assert words in page.text
        for id_ in ("20261122T060000000Z-ffffff", "20269922T060000000Z-ffffff", "x", ""):
            assert (await get(session, f"/event?camera=porch&id={id_}"))[0] == 404


async def test_a_day_of_1500_events_is_few_elements() -> None:
    stage = Stage()
    for number in range(1500):
        stage.bucket.add(make_event(at=MORNING + timedelta(seconds=40 * number), salt=number, frames=1))
    async with serving(stage) as session:
        page = Texts((await get(session, "/events?day=2026-11-22"))[1])
        assert len(page.elements) < 2000
        assert sum("frames/" in address for address in page.addresses) == 48


# ---- frames ----


async def test_a_frame_as_it_is_stored_and_small() -> None:
    stage, made = filled(1)
    async with serving(stage) as session:
        path = f"/api/v1/events/porch/{made[0].event_id}/frames/1"
        async with session.get(path) as answer:
            assert answer.content_type == "image/jpeg"
            assert dimensions(await answer.read()) == (640, 360)
        for _ in range(2):
            async with session.get(f"{path}?width=300") as answer:
                assert dimensions(await answer.read()) == (320, 180)
        assert stage.bucket.asked("read").count(made[0].frames[1].object_key) == 2, "the small one is kept"
        for wrong in ("7", "-1", "x", "0000000", "%2e%2e", "１"):
            assert (await get(session, f"/api/v1/events/porch/{made[0].event_id}/frames/{wrong}"))[0] == 404


async def test_the_grids_thumbnails_are_made_before_they_are_requested() -> None:
    stage, made = filled(3)
    best = [max(each.frames, key=lambda frame: frame.score) for each in made]
    keys = [frame.object_key for frame in best]
    # An image that cannot be read must not stop the others.
    stage.bucket.objects[keys[2]] = (b"no JPEG", {})
    async with serving(stage) as session:
        assert (await get(session, "/events?day=2026-11-22"))[0] == 200
        await eventually_async(
            lambda: set(keys) <= set(stage.bucket.asked("read")), what="thumbnails in advance"
        )
        statuses = []
        for each, frame in zip(made, best, strict=True):
            path = f"/api/v1/events/porch/{each.event_id}/frames/{frame.seq}?width=320"
            async with session.get(path) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 200, 502]
        asked = stage.bucket.asked("read")
        assert [asked.count(key) for key in keys] == [1, 1, 2], "what could be made is made once"


async def test_thumbnails_are_bounded() -> None:
    stage = Stage()
    thumbnails = Thumbnails(lambda jpeg, _: jpeg, stage.executor, max_bytes=1000)

    async def fetched(*keys: str) -> list[str]:
        """Get thumbnails; return the keys that were not cached."""
        found = []
        for key in keys:

            async def read(key: str = key) -> bytes:
                found.append(key)
                return b"x" * 300

            await thumbnails.get(key, 320, read)
        return found

    await fetched(*map(str, range(10)))
    assert await fetched("7", "8", "9") == []
    thumbnails.forget("8")
    await fetched("10")
    assert await fetched("7", "9", "10") == [], "a forgotten image frees its bytes"
    assert await fetched("6", "8") == ["6", "8"]
    stage.executor.shutdown()


async def test_a_thumbnail_that_is_made_twice_counts_once() -> None:
    """Of three requests the first fails; the second has its lock, the third a new one."""
    with ThreadPoolExecutor(1) as executor:
        kept = Thumbnails(lambda jpeg, _: jpeg, executor, max_bytes=1000)
        gates = [asyncio.Event() for _ in range(3)]
        waiting = iter(gates)
        answers = iter((None, b"x" * 400, b"x" * 400))

        async def read() -> bytes | None:
            gate, answer = next(waiting), next(answers)
            await gate.wait()
            return answer

        async with asyncio.TaskGroup() as tasks:
            first, second = (tasks.create_task(kept.get("key", 320, read)) for _ in range(2))
            await asyncio.sleep(0)
            gates[0].set()
            await first
            third = tasks.create_task(kept.get("key", 320, read))
            for gate in gates[1:]:
                gate.set()
        assert (await second, await third) == (b"x" * 400, b"x" * 400)
        for key in ("other", "one more"):
            await kept.get(key, 320, _of(b"x" * 300))
        assert await kept.get("key", 320, _of(None)) == b"x" * 400, "1000 bytes are kept"


def _of(jpeg: bytes | None) -> Callable[[], Awaitable[bytes | None]]:
    async def read() -> bytes | None:
        return jpeg

    return read


async def test_an_archive_holds_what_was_stored() -> None:
    stage, made = filled(1)
    del stage.bucket.objects[made[0].frames[0].object_key]
    async with (
        serving(stage) as session,
        session.get(f"/api/v1/events/porch/{made[0].event_id}/archive") as answer,
    ):
        assert answer.content_type == "application/zip"
        assert made[0].event_id in answer.headers["Content-Disposition"]
        archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
    assert archive.testzip() is None
    files = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert files.keys() == {"000001.jpg", "event.json", "SHA256SUMS", "MISSING"}
    assert files["SHA256SUMS"].decode().split() == [
        hashlib.sha256(files["000001.jpg"]).hexdigest(),
        "000001.jpg",
    ]
    assert "000000.jpg" in files["MISSING"].decode()


@pytest.mark.parametrize(("days", "frames"), [(1, 1), (20, 12)])
async def test_a_day_costs_the_same_requests_however_much_the_bucket_holds(days: int, frames: int) -> None:
    stage = Stage()
    for back in range(days):
        at = MORNING - timedelta(days=back + 1)
        made = [make_event(at=at + timedelta(minutes=n), salt=n, no=n + 1, frames=frames) for n in range(3)]
        stage.bucket.add(*made)
        stage.bucket.index(made)
    async with serving(stage) as session:
        day = (MORNING - timedelta(days=1)).date().isoformat()
        found = await ask(session, f"events?day={day}")
    assert len(found["events"]) == 3
    assert len(stage.bucket.asked("list")) <= 3, "the cameras, the day's index, what is newer than it"
    assert len(stage.bucket.asked("read")) == 1


async def stalled(stage: Stage, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Request a path and read the head of the answer, then nothing."""
    host, port = stage.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    return reader, writer


def large() -> tuple[Stage, str]:
    """Return a stage with an event that no socket's buffers hold, and its path."""
    stage = Stage()
    made = make_event(at=MORNING, jpegs=[bytes(12_000_000)] * 2)
    stage.bucket.add(made)
    return stage, f"/api/v1/events/porch/{made.event_id}"


@pytest.mark.parametrize(("kind", "places"), [("clip", MAX_CLIPS), ("archive", MAX_ARCHIVES)])
async def test_clients_that_stop_reading_delay_no_download_and_are_bounded(
    kind: str, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_motion.web.api.writing.DOWNLOAD_S", 600.0)  # beyond the test, however slow
    stage, path = large()
    async with serving(stage) as session:
        clients = [await stalled(stage, f"{path}/{kind}")]
        async with session.get(f"{path}/{kind}") as answer:
            assert len(await answer.read()) >= 24_000_000
        clients += [await stalled(stage, f"{path}/{kind}") for _ in range(places - 1)]
        async with session.get(f"{path}/{kind}") as answer:
            assert answer.status == 503
            assert "Retry-After" in answer.headers
        for _, writer in clients:
            writer.transport.abort()


@pytest.mark.parametrize("kind", ["clip", "archive"])
async def test_a_download_ends_when_its_client_reads_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_motion.web.api.writing.DOWNLOAD_S", 0.2)
    given_up: list[str] = []
    sizes: list[int] = []
    write = writing.write

    async def watched(response: web.StreamResponse, data: bytes, within_s: float) -> None:
        sizes.append(len(data))
        try:
            await write(response, data, within_s)
        except ConnectionResetError as exc:
            given_up.append(str(exc))
            raise

    monkeypatch.setattr("async_motion.web.api.writing.write", watched)
    stage, path = large()
    async with serving(stage):
        reader, writer = await stalled(stage, f"{path}/{kind}")
        await eventually_async(lambda: given_up, within_s=60, what="the end of the download")
        got = 0
        with suppress(ConnectionResetError):
            while data := await reader.read(1 << 20):
                got += len(data)
        assert got < 24_000_000
        assert max(sizes) <= writing.CHUNK, "what a slow link reads in time"
        writer.transport.abort()


async def test_a_download_that_fails_half_way_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of an error would stand in the middle of the archive."""
    stage, path = large()

    async def broken(*_: object) -> AsyncGenerator[bytes, None]:
        yield b"PK"
        raise StoreRefused("the key was withdrawn")

    monkeypatch.setattr("async_motion.web.api.events.zipped", broken)
    async with serving(stage):
        reader, writer = await stalled(stage, f"{path}/archive")
        with suppress(ConnectionResetError):
            assert b"withdrawn" not in await reader.read()
        writer.transport.abort()


async def test_the_end_of_a_download_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_motion.web.api.writing.DOWNLOAD_S", 0.05)
    response = Mock(write_eof=asyncio.Event().wait)
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionResetError, match="does not read"):
            await writing.finish(response)


async def test_a_clip_a_link_and_deleting() -> None:
    stage, made = filled(1)
    path = f"/api/v1/events/porch/{made[0].event_id}"
    async with serving(stage) as session:
        async with session.get(f"{path}/clip") as answer:
            assert answer.status == 200
            assert answer.content_type == "video/mp4"
            assert await answer.read() == jpeg() * 2
        async with session.post(f"{path}/link", json={"hours": 2}) as answer:
            assert (await answer.json())["url"].endswith("000001.jpg?expires=7200")
        bad: tuple[Any, ...] = ({"hours": 0}, {"hours": 1000}, {"hours": "x"}, {"nix": 1}, [])
        for body in bad:
            async with session.post(f"{path}/link", json=body) as answer:
                assert answer.status == 400
        async with session.delete(path) as answer:
            assert await answer.json() == {"objects": 3}
        assert stage.deleted == [made[0].event_id]
        async with session.delete("/api/v1/events/porch/20261122T060000000Z-ffffff") as answer:
            assert answer.status == 404


async def test_a_viewer_deletes_nothing() -> None:
    stage, made = filled(1)
    async with serving(stage, token="a", viewer_token="b") as session:
        path = f"/api/v1/events/porch/{made[0].event_id}"
        async with session.delete(path, headers=bearer("b")) as answer:
            assert answer.status == 403
        assert stage.deleted == []


# ---- a failing or hostile bucket ----


class Refusing(MemoryBucket):
    """A bucket whose every request raises `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def _asked(self, kind: str, what: str) -> None:  # noqa: ARG002
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (StoreRefused("403 AccessDenied"), 502, "web.store"),
        (StoreUnavailable("connection refused"), 503, "does not answer"),
    ],
)
async def test_a_bucket_that_may_not_be_read_is_reported(
    error: Exception, status: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_motion.retrieval.requests.PAUSES_S", ())
    stage = Stage()
    stage.bucket = Refusing(error)
    async with serving(stage) as session:
        answered, text = await get(session, "/api/v1/events")
        assert answered == status
        assert words in text
        answered, text = await get(session, "/events")
        assert answered == 200
        assert words in Texts(text).text
        assert "0 events" not in Texts(text).text


async def test_a_hostile_bucket_is_survived() -> None:
    stage, made = filled(2)
    folder = made[0].folder
    evil = "<img src=x onerror=alert(1)>"
    stage.bucket.objects |= {
        folder + "event.json": (b'{"zones": [' + b"[" * 100_000, {}),
        made[0].frames[0].object_key: (b"<script>alert(1)</script>", {}),
        made[0].frames[1].object_key: (
            # A JPEG header that declares 65,000 x 65,000 pixels.
            b"\xff\xd8\xff\xc0\x00\x11\x08\xfd\xe8\xfd\xe8\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
            + b"\0" * 64,
            {},
        ),
        "edge1/porch/2026/11/22/no-event/000000.jpg": (b"x", {}),
        f"edge1/{evil}/2026/11/22/{made[0].event_id}/000000.jpg": (b"x", {}),
        "edge1/porch/9999/99/99/x": (b"x", {}),
    }
    hurt = make_event(at=MORNING + timedelta(hours=1), zones=[evil], jpegs=[jpeg()])
    stage.bucket.add(hurt)
    async with serving(stage) as session:
        status, text = await get(session, "/events?day=2026-11-22")
        assert status == 200
        assert evil not in text
        assert Texts(text).elements.count("script") == 1
        status, text = await get(session, f"/event?camera=porch&id={hurt.event_id}")
        assert status == 200
        assert evil not in text
        for seq in (0, 1):
            path = f"/api/v1/events/porch/{made[0].event_id}/frames/{seq}"
            assert (await get(session, f"{path}?width=320"))[0] == 502
            async with session.get(path) as answer:
                assert answer.content_type == "image/jpeg"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert (await get(session, f"/event?camera=porch&id={made[0].event_id}"))[0] == 200


def test_words() -> None:
    today = date(2026, 11, 22)
    assert day_words(today, today) == "Today"
    assert day_words(date(2026, 11, 21), today) == "Yesterday"
    assert day_words(date(2025, 11, 2), today) == "Sun 2 Nov 2025"
    open_event = replace(STORED, ended_at=None, duration_s=None, reason=None)
    assert [lasted(open_event), ended(open_event)[:22]] == ["no end", "Its end is not stored:"]
    ongoing = replace(open_event, ongoing=True)
    assert [lasted(ongoing), ended(ongoing)] == ["ongoing", "It has not ended."]
    assert [lasted(replace(STORED, duration_s=s)) for s in (75, 4000)] == ["1:15 min", "1:06 h"]
    assert ended(replace(STORED, ended_at=STORED.started_at, reason="quiet")) == "Nothing moved any more."
    assert spark([0.0]) == ""
    assert spark([0.0, 0.5, 1.0]) == "0.0,15.0 32.0,8.0 64.0,1.0"
