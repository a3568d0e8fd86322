"""What version 0.1 has published and stored stays readable by the current readers and schemas.

The files in `stored/` come from a running service and are never changed. A failure here means that a
contract is broken: restore it, or raise the number in `schema`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from async_motion.client.messages import parse_announcement, parse_event
from async_motion.core.day_log import parse_day_line
from async_motion.core.index import line_of, parse_line, unpack
from async_motion.retrieval.summaries import event_of, frames_of, parse_summary
from tests.support.service import ROOT

STORED = Path(__file__).parent / "stored"
EVENT = "20261129T011601460Z-22dd7b"
FOLDER = f"edge1/porch/2026/11/29/{EVENT}/"
STARTED = datetime(2026, 11, 29, 1, 16, 1, 460489, UTC)


def stored(name: str) -> bytes:
    return (STORED / f"{name}.json").read_bytes()


def validate(schema: str, said: Any) -> None:
    text = (ROOT / f"async_motion/schemas/{schema}-1.json").read_text()
    jsonschema.Draft202012Validator(json.loads(text)).validate(said)


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("frame", "frame"),
        ("event_start", "event"),
        ("event_update", "event"),
        ("event_end", "event"),
        ("event_summary", "event_summary"),
        ("state", "state"),
        ("camera_state", "camera_state"),
    ],
)
def test_it_follows_the_schema_of_its_number(name: str, schema: str) -> None:
    validate(schema, json.loads(stored(name)))


def test_an_announcement() -> None:
    frame = parse_announcement(stored("frame"), "edge1")
    assert frame.info.frame_id == f"{EVENT}-000000"
    assert frame.info.object_key == f"{FOLDER}000000.jpg"
    assert (frame.writer, frame.no, frame.delayed) == ("11e837", 1, False)


def test_the_end_of_an_event() -> None:
    event = parse_event(stored("event_end"), "edge1").ended
    assert event is not None
    assert (event.event_id, event.no, event.writer) == (EVENT, 1, "11e837")
    assert (event.started_at, event.frames, event.best, event.zones) == (STARTED, 7, 3, ("left",))
    assert parse_event(stored("event_start"), "edge1").ended is None
    assert parse_event(stored("event_update"), "edge1").ended is None


@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "before numbers"])
def test_a_summary(numbered: bool) -> None:
    said = json.loads(stored("event_summary"))
    if not numbered:
        del said["no"], said["writer"]
        validate("event_summary", said)
    event = event_of(parse_summary(json.dumps(said).encode(), EVENT), "edge1", "porch")
    assert (event.started_at, event.frames, event.best, event.peak_score) == (STARTED, 7, 3, 0.014358)
    assert (event.no, event.writer) == ((1, "11e837") if numbered else (None, None))
    frames = frames_of(said, event, FOLDER)
    assert [frame.seq for frame in frames] == list(range(7))
    assert frames[3].sha256 == said["frames"][3]["sha256"]
    assert line_of(said).bytes == 631334


def test_a_line_of_the_index() -> None:
    (text,) = unpack((STORED / "29.11e837.jsonl.gz").read_bytes())
    validate("index_line", json.loads(text))
    line = parse_line(text, "11e837")
    assert (line.event_id, line.no, line.writer) == (EVENT, 1, "11e837")
    assert line.started_at == STARTED
    assert line.scores == (0.0, 0.0036, 0.0111, 0.0124, 0.0077, 0.0079, 0.0075)


def test_a_day_log() -> None:
    lines = list(unpack((STORED / "day_log.jsonl.gz").read_bytes()))
    for line in lines:
        validate("day_log", json.loads(line))
    logs = dict(map(parse_day_line, lines))
    assert list(logs) == [None, "porch", "yard"]
    assert logs["porch"].hours[10].frames > 0
    assert logs["porch"].hours[10].stretches["debounce"] > 0
    assert [outage.kind for outage in logs["yard"].outages] == ["offline"]
