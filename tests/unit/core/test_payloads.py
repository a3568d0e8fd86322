"""The JSON contracts: as designed, valid against their schemas, and parsed back unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.core import names, payloads
from async_motion.core.model import Box, EndReason, FrameInfo, MotionEvent, Phase, StoredFrame
from tests.support.records import make_event, make_record, stored_of

AT = datetime(2026, 11, 22, 7, 31, 12, 345000, tzinfo=UTC)
EVENT_ID = "20261122T073112345Z-7c1e9a"
FOLDER = names.event_folder("", "edge1", "porch", EVENT_ID)


def validator(schema: str) -> jsonschema.Draft202012Validator:
    text = (files("async_motion") / "schemas" / f"{schema}.json").read_text()
    checked = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(checked)
    return jsonschema.Draft202012Validator(checked, format_checker=jsonschema.FormatChecker())


FRAME, EVENT, SUMMARY = (validator(name) for name in ("frame-1", "event-1", "event_summary-1"))


def event(**changes: Any) -> MotionEvent:
    began = make_event(event_id=EVENT_ID, started_at=AT, peak_score=0.2, zones=("drive",))
    return replace(began, **changes)


def info(**changes: Any) -> FrameInfo:
    made = replace(
        make_record(event(), 3).info,
        captured_at=AT + timedelta(milliseconds=400),
        sha256="0f" * 32,
        size=83211,
        width=1920,
        height=1080,
        score=0.0341,
        boxes=(Box(0.41, 0.33, 0.08, 0.21),),
    )
    return replace(made, **changes)


def stored(**changes: Any) -> StoredFrame:
    made = stored_of(make_record(event(), 3), etag="9b2cf535f27731c974343645a3985328", no=412)
    return replace(made, info=info(**changes), stored_at=AT + timedelta(milliseconds=445), writer="a41c07")


def test_the_announcement_is_as_the_design_says() -> None:
    assert payloads.frame_payload(stored()) == {
        "schema": "async_motion.frame/1",
        "instance": "edge1",
        "camera": "porch",
        "writer": "a41c07",
        "no": 412,
        "event_id": EVENT_ID,
        "frame_id": f"{EVENT_ID}-000003",
        "seq": 3,
        "captured_at": "2026-11-22T07:31:12.745000Z",
        "stored_at": "2026-11-22T07:31:12.790000Z",
        "delayed": False,
        "bucket": "motion",
        "object_key": f"edge1/porch/2026/11/22/{EVENT_ID}/000003.jpg",
        "etag": "9b2cf535f27731c974343645a3985328",
        "sha256": "0f" * 32,
        "size": 83211,
        "content_type": "image/jpeg",
        "width": 1920,
        "height": 1080,
        "score": 0.0341,
        "boxes": [[0.41, 0.33, 0.08, 0.21]],
        "zones": ["drive"],
        "url": None,
    }


def test_an_announcement_is_compact_utf8() -> None:
    encoded = payloads.encode({"zones": ["Ä"], "url": None})
    assert encoded == '{"zones":["Ä"],"url":null}'.encode()
    with pytest.raises(ValueError, match="Out of range"):
        payloads.encode({"score": float("nan")})


FIELDS = ("schema", "url", "zones", "boxes", "camera", "object_key", "captured_at", "seq", "score", "delayed")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)

names_ = st.from_regex(names.NAME, fullmatch=True)
EARLIEST, LATEST = datetime(1970, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001 - the zone is given apart
times = st.datetimes(
    min_value=EARLIEST,
    max_value=LATEST,
    timezones=st.just(UTC),
)
shares = st.floats(0, 1)
lines = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=40)
frames = st.builds(
    StoredFrame,
    info=st.builds(
        FrameInfo,
        instance=names_,
        camera=names_,
        event_id=st.builds(names.event_id, times, st.integers(0, 2**24 - 1)),
        seq=st.integers(0, 10**7),
        captured_at=times,
        object_key=lines,
        sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
        size=st.integers(1, 10**8),
        width=st.integers(1, 10**4),
        height=st.integers(1, 10**4),
        score=shares,
        boxes=st.lists(st.builds(Box, shares, shares, shares, shares), max_size=4).map(tuple),
        zones=st.lists(names_, max_size=3).map(tuple),
    ),
    bucket=lines,
    etag=lines,
    stored_at=times,
    delayed=st.booleans(),
    url=st.none() | st.just("https://s3.example.org/motion/key?X-Amz-Signature=…"),
)


@given(frames)
@settings(max_examples=100, deadline=None)
def test_any_frame_makes_a_valid_announcement_that_can_be_read_again(frame: StoredFrame) -> None:
    payload = payloads.frame_payload(frame)
    FRAME.validate(payload)
    back = payloads.parse_frame(payloads.encode(payload))
    # Scores and boxes are rounded when written; all other fields are equal.
    assert back.info.score == pytest.approx(frame.info.score, abs=1e-6)
    for box, original in zip(back.info.boxes, frame.info.boxes, strict=True):
        assert box == pytest.approx(original, abs=1e-4)
    assert payloads.frame_payload(back) == payload
    assert back.info.frame_id == frame.info.frame_id


def test_a_reader_ignores_fields_that_it_does_not_know() -> None:
    payload = payloads.frame_payload(stored()) | {"colour": "red"}
    assert payloads.parse_frame(json.dumps(payload)) == stored()
    FRAME.validate(payload)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda p: p | {"schema": "async_motion.frame/2"}, "schema: expected async_motion.frame/1"),
        (lambda p: {k: v for k, v in p.items() if k != "sha256"}, "sha256: missing"),
        (lambda p: p | {"captured_at": "2026-11-22T07:31:12"}, "captured_at: expected a time with a zone"),
        (lambda p: p | {"captured_at": "0001-01-01T00:00:00+14:00"}, "captured_at: expected a time"),
        (lambda p: p | {"captured_at": "yesterday"}, "captured_at: expected a time"),
        (lambda p: p | {"captured_at": 5}, "captured_at: expected a time"),
        (lambda p: p | {"seq": None}, "seq: expected a whole number"),
        (lambda p: p | {"seq": True}, "seq: expected a whole number"),
        (lambda p: p | {"size": -1}, "size: expected a whole number"),
        (lambda p: p | {"score": 10**18}, "score: expected a share"),
        (lambda p: p | {"boxes": [[0.1, 0.2]]}, "boxes: expected four sides"),
        (lambda p: p | {"boxes": 3}, "boxes: expected a list"),
        (lambda p: p | {"zones": ["a\nb"]}, "zones: not a name"),
        (lambda p: p | {"camera": "porch\x1b[2J"}, "camera: not a name"),
        (lambda p: p | {"camera": "x" * 65}, "camera: not a name"),
        (lambda p: p | {"object_key": "a\nb"}, "object_key: expected one line"),
        (lambda p: p | {"object_key": "\x9b2J"}, "object_key: expected one line"),
        (lambda p: p | {"bucket": "\u2028"}, "bucket: expected one line"),
        (lambda p: p | {"url": 3}, "url: expected one line"),
        (lambda p: p | {"etag": "\x00"}, "etag: expected one line"),
        (lambda p: p | {"delayed": "no"}, "delayed: expected true or false"),
        (lambda p: p | {"event_id": "../x"}, "event_id: not the id"),
        (lambda p: p | {"sha256": "f" * 63}, "sha256: expected 64"),
        (lambda p: [p], "expected an object"),
        (lambda _: "text", "expected an object"),
    ],
)
def test_an_invalid_announcement_is_refused_with_the_field_at_fault(
    spoil: Callable[[dict[str, Any]], Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        payloads.parse_frame(json.dumps(spoil(payloads.frame_payload(stored()))))


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe", b"{", b"[]", b"null", "{}"])
def test_noise_is_refused(payload: bytes | str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        payloads.parse_frame(payload)


@given(st.binary(max_size=100) | st.dictionaries(st.sampled_from(FIELDS), JUNK).map(json.dumps))
def test_no_announcement_does_anything_but_be_read_or_be_refused(payload: bytes | str) -> None:
    with suppress(ValueError):
        payloads.parse_frame(payload)


@given(st.sampled_from(FIELDS), JUNK)
def test_one_field_of_an_announcement_may_hold_anything(field: str, junk: Any) -> None:
    spoilt = payloads.frame_payload(stored()) | {field: junk}
    try:
        back = payloads.parse_frame(json.dumps(spoilt))
    except ValueError:
        return
    shown = f"{back.info.camera}{back.info.object_key}{back.info.zones}{back.bucket}{back.url}{back.etag}"
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


def test_times_are_in_utc_with_six_digits() -> None:
    there = AT.replace(microsecond=0).astimezone(timezone(timedelta(hours=-3, minutes=-30)))
    assert payloads.iso(there) == "2026-11-22T07:31:12.000000Z"
    assert payloads.parse_iso("2026-11-22T09:31:12+02:00") == AT.replace(microsecond=0)


def test_an_announcement_from_before_there_were_numbers_is_read() -> None:
    payload = payloads.frame_payload(stored())
    del payload["writer"], payload["no"]
    old = payloads.parse_frame(json.dumps(payload))
    assert (old.writer, old.no) == (None, None)
    assert old.info == stored().info


def test_a_summary_has_its_number_once() -> None:
    ended = event(ended_at=AT + timedelta(seconds=12.25), end_reason=EndReason.QUIET)
    line = payloads.frame_payload(stored())
    summary = payloads.event_summary(ended, [line], writer="a41c07", no=412)
    SUMMARY.validate(summary)
    assert (summary["writer"], summary["no"]) == ("a41c07", 412)
    assert summary["best_frame"] == line["object_key"]
    assert "no" not in summary["frames"][0]


@given(times)
def test_a_time_can_be_read_again(at: datetime) -> None:
    assert payloads.parse_iso(payloads.iso(at)) == at


def test_the_phases_of_an_event_are_as_the_design_says() -> None:
    key = names.frame_key(FOLDER, 3)
    start = payloads.event_payload(
        Phase.START,
        event(),
        now=AT + timedelta(seconds=1.5),
        frames_stored=1,
        best_frame=key,
        writer="a41c07",
        no=412,
    )
    assert start == {
        "schema": "async_motion.event/1",
        "type": "start",
        "event_type": "motion_started",
        "instance": "edge1",
        "camera": "porch",
        "writer": "a41c07",
        "no": 412,
        "event_id": EVENT_ID,
        "started_at": "2026-11-22T07:31:12.345000Z",
        "ended_at": None,
        "duration_s": 1.5,
        "frames_stored": 1,
        "peak_score": 0.2,
        "best_frame": key,
        "bucket": None,
        "url": None,
        "zones": ["drive"],
        "reason": "motion",
    }
    ended = event(ended_at=AT + timedelta(seconds=12.25), end_reason=EndReason.QUIET)
    end = payloads.event_payload(
        Phase.END, ended, now=AT + timedelta(days=1), frames_stored=0, best_frame=None
    )
    assert (end["type"], end["event_type"], end["reason"]) == ("end", "motion_ended", "quiet")
    assert end["ended_at"] == "2026-11-22T07:31:24.595000Z"
    assert end["duration_s"] == 12.25


@given(
    st.sampled_from(Phase),
    times,
    times,
    st.none() | st.sampled_from(EndReason),
    st.integers(0, 10**6),
    st.none() | st.text(min_size=1, max_size=20),
)
@settings(max_examples=100, deadline=None)
def test_any_event_makes_valid_messages_whatever_the_clock_does(
    phase: Phase,
    started_at: datetime,
    now: datetime,
    reason: EndReason | None,
    frames_stored: int,
    best_frame: str | None,
) -> None:
    one = event(started_at=started_at, ended_at=now if reason else None, end_reason=reason)
    payload = payloads.event_payload(
        phase,
        one,
        now=now,
        frames_stored=frames_stored,
        best_frame=best_frame,
        bucket="motion",
        url="https://",
    )
    EVENT.validate(payload)
    assert payload["duration_s"] >= 0


def test_the_summary_explains_the_event_without_the_broker() -> None:
    ended = event(ended_at=AT + timedelta(seconds=12), end_reason=EndReason.QUIET)
    key = names.frame_key(FOLDER, 3)
    end = payloads.event_payload(Phase.END, ended, now=AT, frames_stored=1, best_frame=key)
    summary = payloads.summary_payload(end, [payloads.frame_payload(stored())])
    SUMMARY.validate(summary)
    assert summary["schema"] == "async_motion.event_summary/1"
    assert "type" not in summary
    assert "event_type" not in summary
    assert summary["best_frame"] == key
    (line,) = summary["frames"]
    assert line["object_key"] == key
    assert line["sha256"] == "0f" * 32
    for repeated in ("schema", "instance", "camera", "event_id", "bucket", "url", "delayed"):
        assert repeated not in line


def test_metadata_is_what_s3_takes() -> None:
    metadata = payloads.object_metadata(info())
    assert metadata == {
        "camera": "porch",
        "instance": "edge1",
        "event-id": EVENT_ID,
        "frame-id": f"{EVENT_ID}-000003",
        "captured-at": "2026-11-22T07:31:12.745000Z",
        "score": "0.034100",
        "sha256": "0f" * 32,
    }
    assert all(value.isascii() and "\n" not in value for value in metadata.values())
    assert payloads.object_tags(info()) == {"camera": "porch", "kind": "frame"}
    numbered = payloads.object_metadata(info(), writer="a41c07", no=412)
    assert numbered == metadata | {"writer": "a41c07", "no": "412"}
    assert payloads.object_metadata(info(), writer="a41c07", no=None) == metadata


def test_a_fleet_tells_its_worker_and_epoch_everywhere_and_nothing_else_does() -> None:
    owned = {"worker": "east", "epoch": 41}
    frame = payloads.frame_payload(stored(**owned))
    FRAME.validate(frame)
    assert payloads.parse_frame(payloads.encode(frame)).info.epoch == 41
    ended = event(**owned, end_reason=EndReason.WORKER_LOST, ended_at=event().started_at)
    said = payloads.event_payload(
        Phase.END, ended, now=ended.started_at, frames_stored=1, best_frame=None, writer="a41c07", no=3
    )
    EVENT.validate(said)
    summary = payloads.event_summary(ended, [frame], writer="a41c07", no=3)
    SUMMARY.validate(summary)
    assert [(one["worker"], one["epoch"]) for one in (frame, said, summary)] == [("east", 41)] * 3
    assert summary["frames"][0].keys().isdisjoint(owned)
    assert payloads.object_metadata(info(**owned))["epoch"] == "41"
    assert payloads.object_metadata(info()).keys().isdisjoint(owned)
