"""The edges: what reads each format that comes from outside, the error it names, and a value it accepts.

A fuzzer starts from the accepted value: bytes that nothing accepts would test the first check alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from async_motion.camera.detector_state import recalled, wrap
from async_motion.client import messages
from async_motion.core import commands, day_log, index, names, payloads, strict_json
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.model import Phase
from async_motion.errors import SettingsError, UnreadableObject, UsageError
from async_motion.home_assistant import places
from async_motion.retrieval.summaries import parse_summary
from async_motion.settings import load_text
from async_motion.spool import codec
from async_motion.status.memory import RememberedValues
from async_motion.store.s3errors import S3Answer
from async_motion.tune.clips import parse_labels
from tests.support.records import end_of, make_event, make_record, stored_of
from tests.support.scenes import patches

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class NoError(Exception):
    """The error of an edge that raises none: nothing raises it."""


class Edge(NamedTuple):
    """A reader, the one error that it raises (`NoError` for none), and bytes that it accepts."""

    read: Callable[[bytes], object]
    error: type[Exception]
    accepted: bytes


def read_at(edge: Edge, data: bytes) -> object:
    """Return what the edge reads from `data`; None for the error that it names."""
    with suppress(edge.error):
        return edge.read(data)
    return None


def _read_answer(data: bytes) -> object:
    """Read an S3 error whose headers and body are `data`."""
    text = data.decode("latin-1")
    headers = dict.fromkeys(("Date", "Retry-After", "x-amz-bucket-region"), text)
    answer = S3Answer.read(503, headers, data, NOW)
    json.dumps([answer.code, answer.message, answer.region], ensure_ascii=False).encode()
    return answer.code


def _read_value(data: bytes) -> dict[str, Any]:
    async def forget(_key: str, _value: bytes) -> None: ...

    return RememberedValues(forget, {"a": data}).recall("a")


def _learned() -> bytes:
    detector = Detector(DetectorSettings())
    for number in range(3):
        detector.update(patches(), number / 10)
    return wrap(detector.state(), NOW, "")


def _day() -> bytes:
    hour = day_log.HourLog(watched_s=60.0, frames=5)
    return day_log.encode_day_line("porch", day_log.SubjectLog(hours={7: hour}))


_ENDED = end_of(make_event(index=1)).event
_STORED = stored_of(make_record(_ENDED, 0))
_FRAME = payloads.frame_payload(_STORED)
_SUMMARY = payloads.event_summary(_ENDED, [_FRAME], writer="a41c07", no=1)
_LINE = index.encode_line(index.line_of(_SUMMARY), "a41c07")
_PHASE = payloads.event_payload(
    Phase.END, _ENDED, now=_ENDED.started_at, frames_stored=1, best_frame=None, writer="a41c07", no=1
)
_DEVICE = {"device": {"identifiers": ["a"]}, "components": {"motion": {"platform": "sensor", "name": "b"}}}
_PLACE = places.AnnouncedPlace("async_motion/edge1", "homeassistant", "edge1")
_MISSED = {"homeassistant/device/a/config": {"since": payloads.iso(NOW), "before": _DEVICE}}
_REFUSAL = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>m</Message></Error>'

EDGES: dict[str, Edge] = {
    "a command": Edge(lambda data: commands.parse("threshold", data), ValueError, b"12"),
    "JSON": Edge(strict_json.parse, ValueError, b'{"a": [1, 2.5, "b", null, true]}'),
    "an announcement": Edge(payloads.parse_frame, ValueError, payloads.encode(_FRAME)),
    "a phase of an event": Edge(
        lambda data: messages.parse_event(data, "edge1"), ValueError, payloads.encode(_PHASE)
    ),
    "a retained device": Edge(places.read_config, NoError, payloads.encode(_DEVICE)),
    "remembered places": Edge(
        lambda data: places.read_places({places.PLACES_KEY: data}),
        NoError,
        payloads.encode({"places": [_PLACE.to_json()]}),
    ),
    "what was missed": Edge(
        lambda data: places.read_missed({places.MISSED_KEY: data}, NOW), NoError, payloads.encode(_MISSED)
    ),
    "an address": Edge(
        lambda data: names.redact_url(data.decode("latin-1")), NoError, b"rtsp://user:secret@192.0.2.9/a?b=c"
    ),
    "settings": Edge(
        lambda data: load_text(data, Path("v.yaml"), {}),
        SettingsError,
        b"instance: edge1\ncameras:\n  a: &a {source: 'demo:', detect: {fps: 5}}\n  b: {<<: *a, name: B}\n",
    ),
    "labels": Edge(
        lambda data: parse_labels(Path("labels.yaml"), data),
        UsageError,
        b"a.mp4: [[12.5, 18], [1:02, 1:04]]\nb.mp4: quiet\n",
    ),
    "labels in JSON": Edge(
        lambda data: parse_labels(Path("labels.json"), data), UsageError, b'{"a.mp4": [[12.5, 18]]}'
    ),
    "labels in CSV": Edge(
        lambda data: parse_labels(Path("labels.csv"), data),
        UsageError,
        b"clip,start,end,label\na.mp4,1,2,motion\n",
    ),
    "an S3 answer": Edge(_read_answer, NoError, _REFUSAL),
    "a frame in the spool": Edge(
        lambda data: codec.load_info(data.decode("latin-1")),
        codec.Unreadable,
        codec.dump_info(_STORED.info).encode(),
    ),
    "an event in the spool": Edge(
        lambda data: codec.load_event(data.decode("latin-1")),
        codec.Unreadable,
        codec.dump_event(_ENDED).encode(),
    ),
    "a time in the spool": Edge(
        lambda data: codec.load_time(data.decode("latin-1")), codec.Unreadable, payloads.iso(NOW).encode()
    ),
    "a stored frame in the spool": Edge(
        lambda data: codec.load_line(data.decode("latin-1")),
        codec.Unreadable,
        codec.dump_stored(_STORED).encode(),
    ),
    "a remembered value": Edge(_read_value, NoError, b'{"value": 12, "configured": null}'),
    "a learned state": Edge(
        lambda data: recalled("a", DetectorSettings(), data, source="", now=NOW), NoError, _learned()
    ),
    "a line of the index": Edge(lambda data: index.parse_line(data, "a41c07"), UnreadableObject, _LINE),
    "a line of a day log": Edge(day_log.parse_day_line, UnreadableObject, _day()),
    "an event's summary": Edge(
        lambda data: parse_summary(data, _ENDED.event_id), UnreadableObject, payloads.encode(_SUMMARY)
    ),
}
