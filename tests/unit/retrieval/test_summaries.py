"""`event.json` as a reader validates it: complete, of the right event, its keys never trusted."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from async_motion.core.model import Box
from async_motion.errors import UnreadableObject
from async_motion.retrieval.summaries import event_of, frame_of_metadata, frames_of, parse_summary
from tests.support.bucket import INSTANCE, make_event
from tests.support.clock import BEGIN

MADE = make_event(at=BEGIN, frames=3, zones=["drive"], boxes=[Box(0.1, 0.2, 0.3, 0.4)], no=7)
assert MADE.summary is not None
SUMMARY: dict[str, Any] = MADE.summary


def summary(**changes: Any) -> bytes:
    return json.dumps({**SUMMARY, **changes}).encode()


def frame(**changes: Any) -> bytes:
    first, *rest = SUMMARY["frames"]
    return summary(frames=[{**first, **changes}, *rest])


def read(data: bytes) -> tuple[Any, list[Any]]:
    said = parse_summary(data, MADE.event_id)
    event = event_of(said, INSTANCE, "porch")
    return event, frames_of(said, event, MADE.folder)


def test_it_gives_the_event_and_its_frames() -> None:
    event, frames = read(summary())
    assert (event.event_id, event.no, event.zones) == (MADE.event_id, 7, ("drive",))
    assert event.ended_at == BEGIN + timedelta(seconds=3)
    assert tuple(frames) == MADE.frames


def test_frames_come_in_order() -> None:
    _, frames = read(summary(frames=SUMMARY["frames"][::-1]))
    assert [frame.seq for frame in frames] == [0, 1, 2]


def test_a_key_is_made_from_the_number_never_taken_from_the_object() -> None:
    _, frames = read(frame(object_key="edge1/../secret"))
    assert frames[0].object_key == MADE.frames[0].object_key


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "expected schema"),
        (summary(schema="async_motion.event/9"), "expected schema"),
        (summary(event_id="20261122T000000000Z-000000"), "of another event"),
        (summary(frames={}), "frames: expected a list"),
        (frame(seq=-1), "frames: expected a whole number"),
        (frame(seq=True), "frames: expected a whole number"),
        (frame(sha256="x"), "sha256: expected 64 hex digits"),
        (frame(score=2), "expected 0 to 1"),
        (frame(boxes=[[0, 0, 1, 1]] * 300), "boxes: expected at most"),
        (frame(zones=["../x"]), "zones: expected names"),
        (summary(frames=[{}]), "seq: missing"),
    ],
)
def test_what_is_wrong_is_reported(data: bytes, problem: str) -> None:
    with pytest.raises(UnreadableObject, match=problem):
        read(data)


def test_a_frame_without_a_summary_comes_from_its_metadata() -> None:
    event, _ = read(summary())
    wanted = MADE.frames[1]
    about = MADE.objects[wanted.object_key][1]
    found = frame_of_metadata(about, event, wanted.object_key, wanted.seq, wanted.size)
    assert (found.sha256, found.captured_at, found.width) == (wanted.sha256, wanted.captured_at, 0)
    with pytest.raises(UnreadableObject, match="captured-at: missing"):
        frame_of_metadata({}, event, wanted.object_key, 1, 1)
