"""An event as a ZIP file: complete, in order, with missing frames named."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from async_motion.core.model import FrameInfo
from async_motion.errors import StoreUnavailable
from async_motion.retrieval import Event
from async_motion.web.zipping import MAX_FAILURES, zipped
from tests.support.records import make_event, make_record

EVENT = make_event()
RECORDS = {seq: make_record(EVENT, seq) for seq in (1, 2, 3)}
FRAMES = [record.info for record in RECORDS.values()]
STORED = Event(
    instance=EVENT.instance, camera=EVENT.camera, event_id=EVENT.event_id, started_at=EVENT.started_at
)


async def archive(*, lost: int | None = None) -> tuple[zipfile.ZipFile, list[bytes]]:
    async def fetch(frame: FrameInfo) -> bytes:
        if frame.seq == lost:
            raise StoreUnavailable("no answer")
        return RECORDS[frame.seq].jpeg

    parts = [part async for part in zipped("porch", STORED, FRAMES, fetch)]
    return zipfile.ZipFile(io.BytesIO(b"".join(parts))), parts


async def test_it_holds_the_frames_the_event_and_their_sums() -> None:
    made, parts = await archive()
    assert made.testzip() is None
    assert made.namelist() == [
        "porch/000001.jpg",
        "porch/000002.jpg",
        "porch/000003.jpg",
        "porch/event.json",
        "porch/SHA256SUMS",
    ]
    assert made.read("porch/000002.jpg") == RECORDS[2].jpeg
    assert json.loads(made.read("porch/event.json")) == STORED.payload()
    assert made.read("porch/SHA256SUMS").decode().splitlines()[0] == f"{FRAMES[0].sha256}  000001.jpg"
    assert len(parts) == 4, "a part for each frame: the archive is never in memory as a whole"


async def test_a_store_that_is_away_is_not_asked_for_each_frame() -> None:
    asked = 0

    async def fetch(_: FrameInfo) -> bytes:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("no answer within 15 s")

    frames = [replace(FRAMES[0], seq=seq) for seq in range(100)]
    parts = [part async for part in zipped("porch", STORED, frames, fetch)]
    missing = zipfile.ZipFile(io.BytesIO(b"".join(parts))).read("porch/MISSING").decode()
    assert asked == MAX_FAILURES
    assert missing.splitlines()[-1] == "000099.jpg: no answer within 15 s"
    assert len(missing.splitlines()) == 100


@pytest.mark.parametrize(("year", "packed"), [(1970, 1980), (2026, 2026), (2108, 2107), (9999, 2107)])
async def test_a_frame_of_a_clock_that_is_wrong_is_packed(year: int, packed: int) -> None:
    async def fetch(_: FrameInfo) -> bytes:
        return b"jpeg"

    frames = [replace(FRAMES[0], captured_at=datetime(year, 1, 1, tzinfo=UTC))]
    parts = [part async for part in zipped("porch", STORED, frames, fetch)]
    made = zipfile.ZipFile(io.BytesIO(b"".join(parts)))
    assert made.getinfo("porch/000001.jpg").date_time[0] == packed


async def test_a_frame_that_cannot_be_read_is_named() -> None:
    made, _ = await archive(lost=2)
    assert "porch/000002.jpg" not in made.namelist()
    assert made.read("porch/MISSING") == b"000002.jpg: no answer\n"
    assert len(made.read("porch/SHA256SUMS").splitlines()) == 2
