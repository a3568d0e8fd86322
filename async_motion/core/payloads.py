"""The JSON contracts, both ways: what is published over MQTT and written to the bucket.

Times are ISO 8601 in UTC with microseconds and a Z. Readers ignore unknown fields; a breaking change raises
the number in `schema`. The package's JSON Schemas describe the same contracts for other programs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from async_motion.core.model import Box, EndReason, FrameInfo, MotionEvent, Phase, StoredFrame
from async_motion.core.names import EVENT_ID, is_name
from async_motion.core.strict_json import parse_object

T = TypeVar("T")

FRAME_SCHEMA = "async_motion.frame/1"
EVENT_SCHEMA = "async_motion.event/1"
SUMMARY_SCHEMA = "async_motion.event_summary/1"
CONTENT_TYPE = "image/jpeg"
EVENT_TYPES = {Phase.START: "motion_started", Phase.UPDATE: "motion_updated", Phase.END: "motion_ended"}

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

MAX_TEXT: Final = 16_384
"""The maximum length of a text in an announcement: a presigned link may carry a session token."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WRITER = re.compile(r"[0-9a-f]{6}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that could move a terminal's cursor or end a line: C0, DEL, C1, and Unicode's line breaks."""


def iso(at: datetime) -> str:
    """Return `at` (aware) as ``2026-11-22T07:31:12.745000Z``."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_iso(text: str) -> datetime:
    """Return the aware UTC datetime of an ISO 8601 text. Raises ValueError, also without a time zone."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time out of range") from None


def encode(payload: Mapping[str, Any]) -> bytes:
    """Return the compact UTF-8 JSON of a payload. Raises ValueError for NaN and infinities."""
    return encode_text(payload).encode()


def encode_text(payload: Mapping[str, Any]) -> str:
    """Return the compact JSON of a payload as text. Raises ValueError for NaN and infinities."""
    return _ENCODER.encode(payload)


def frame_payload(stored: StoredFrame) -> dict[str, Any]:
    """Return the announcement of one stored frame."""
    info = stored.info
    return {
        "schema": FRAME_SCHEMA,
        "instance": info.instance,
        "camera": info.camera,
        "writer": stored.writer,
        "no": stored.no,
        **_owner(info),
        "event_id": info.event_id,
        "frame_id": info.frame_id,
        "seq": info.seq,
        "captured_at": iso(info.captured_at),
        "stored_at": iso(stored.stored_at),
        "delayed": stored.delayed,
        "bucket": stored.bucket,
        "object_key": info.object_key,
        "etag": stored.etag,
        "sha256": info.sha256,
        "size": info.size,
        "content_type": CONTENT_TYPE,
        "width": info.width,
        "height": info.height,
        "score": round(info.score, 6),
        "boxes": [[round(side, 4) for side in box] for box in info.boxes],
        "zones": list(info.zones),
        "url": stored.url,
    }


def parse_frame(payload: bytes | str) -> StoredFrame:
    """Return the stored frame that an announcement describes.

    Raises ValueError, with the field at fault, if the payload is not an announcement of this major version.
    No text in the result holds a control character, and names are valid names: it is safe on a terminal.
    """
    return frame_of(parse_object(payload))


def frame_of(data: Mapping[str, Any]) -> StoredFrame:
    """Return the stored frame that the fields of an announcement describe. Raises ValueError."""
    if data.get("schema") != FRAME_SCHEMA:
        raise ValueError(f"schema: expected {FRAME_SCHEMA}")
    return StoredFrame(
        info=info_of(data),
        bucket=_field(data, "bucket", _line),
        etag=_field(data, "etag", _line),
        stored_at=_field(data, "stored_at", _time),
        delayed=_field(data, "delayed", _flag),
        url=_optional(data, "url", _line),
        writer=_optional(data, "writer", _writer),
        no=_optional(data, "no", _count),
    )


def info_of(data: Mapping[str, Any]) -> FrameInfo:
    """Return the frame that these fields describe. Raises ValueError, with the field at fault."""
    return FrameInfo(
        instance=_field(data, "instance", _name),
        camera=_field(data, "camera", _name),
        event_id=_field(data, "event_id", _event_id),
        seq=_field(data, "seq", _count),
        captured_at=_field(data, "captured_at", _time),
        object_key=_field(data, "object_key", _line),
        sha256=_field(data, "sha256", _digest),
        size=_field(data, "size", _count),
        width=_field(data, "width", _count),
        height=_field(data, "height", _count),
        score=_field(data, "score", _share),
        boxes=_field(data, "boxes", _boxes),
        zones=_field(data, "zones", _names),
        worker=_optional(data, "worker", _name),
        epoch=_optional(data, "epoch", _count),
    )


def motion_event_of(data: Mapping[str, Any]) -> MotionEvent:
    """Return the event that these fields describe. Raises ValueError, with the field at fault."""
    return MotionEvent(
        event_id=_field(data, "event_id", _event_id),
        instance=_field(data, "instance", _name),
        camera=_field(data, "camera", _name),
        started_at=_field(data, "started_at", _time),
        peak_score=_field(data, "peak_score", _share),
        zones=_field(data, "zones", _names),
        ended_at=_optional(data, "ended_at", _time),
        end_reason=_optional(data, "end_reason", EndReason),
        worker=_optional(data, "worker", _name),
        epoch=_optional(data, "epoch", _count),
    )


def _owner(of: FrameInfo | MotionEvent) -> dict[str, Any]:
    """Return the fields for a fleet's worker and its lease; none without a fleet."""
    return {} if of.epoch is None else {"worker": of.worker, "epoch": of.epoch}


def _field(data: Mapping[str, Any], key: str, check: Callable[[Any], T]) -> T:
    """Return a checked field. Raises ValueError that names it."""
    if key not in data:
        raise ValueError(f"{key}: missing")
    try:
        return check(data[key])
    except ValueError as exc:
        raise ValueError(f"{key}: {exc}") from None


def _optional(data: Mapping[str, Any], key: str, check: Callable[[Any], T]) -> T | None:
    """Return a checked field, or None where it is null or missing. Raises ValueError that names it."""
    return None if data.get(key) is None else _field(data, key, check)


def _line(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or _CONTROL.search(value):
        raise ValueError(f"expected one line of at most {MAX_TEXT} characters without control characters")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise ValueError("not a name, expected 1 to 64 of a-z, 0-9, _ and -")
    return value


def _names(value: Any) -> tuple[str, ...]:
    return tuple(_name(zone) for zone in _items(value))


def _event_id(value: Any) -> str:
    if not isinstance(value, str) or EVENT_ID.fullmatch(value) is None:
        raise ValueError("not the id of an event")
    return value


def _writer(value: Any) -> str:
    if not isinstance(value, str) or _WRITER.fullmatch(value) is None:
        raise ValueError("expected six hexadecimal digits")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise ValueError("expected 64 hexadecimal digits")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("expected a whole number, 0 or more")
    return value


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("expected a share from 0 to 1")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("expected a time")
    try:
        return parse_iso(value)
    except ValueError:
        raise ValueError("expected a time with a zone") from None


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("expected a list")
    return value


def _boxes(value: Any) -> tuple[Box, ...]:
    boxes = []
    for sides in _items(value):
        if len(_items(sides)) != 4:
            raise ValueError("expected four sides to a box")
        boxes.append(Box(*(_share(side) for side in sides)))
    return tuple(boxes)


def event_payload(
    phase: Phase,
    event: MotionEvent,
    *,
    now: datetime,
    frames_stored: int,
    best_frame: str | None,
    writer: str | None = None,
    no: int | None = None,
    bucket: str | None = None,
    url: str | None = None,
    delayed: bool = False,
) -> dict[str, Any]:
    """Return the message for one phase of an event, number `no` of its camera within `writer`.

    `best_frame` is the object key of the best frame stored so far, `bucket` its bucket and `url` its
    presigned link. Before the end, `duration_s` runs until `now`, in the time of `started_at`, and `reason`
    is "motion"; from the end on, `reason` is why it ended. `delayed` is included only in a
    fleet: the lease is no longer held.
    """
    until = event.ended_at or now
    return {
        "schema": EVENT_SCHEMA,
        "type": phase.value,
        "event_type": EVENT_TYPES[phase],
        "instance": event.instance,
        "camera": event.camera,
        "writer": writer,
        "no": no,
        **_owner(event),
        **({} if event.epoch is None else {"delayed": delayed}),
        "event_id": event.event_id,
        "started_at": iso(event.started_at),
        "ended_at": iso(event.ended_at) if event.ended_at else None,
        "duration_s": round(max(0.0, (until - event.started_at).total_seconds()), 3),
        "frames_stored": frames_stored,
        "peak_score": round(event.peak_score, 6),
        "best_frame": best_frame,
        "bucket": bucket,
        "url": url,
        "zones": list(event.zones),
        "reason": event.end_reason.value if event.end_reason else "motion",
    }


def summary_payload(end: Mapping[str, Any], frames: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of `event.json` in the bucket: the event's end and a line for each stored frame.

    `frames` are announcements. Fields that every line would repeat, and links that expire, are left out.
    """
    shared = {"schema", "instance", "camera", "writer", "no", "event_id"}
    shared |= {"worker", "epoch", "bucket", "content_type", "url", "delayed"}
    lines = [{k: v for k, v in frame.items() if k not in shared} for frame in frames]
    left_out = ("schema", "type", "event_type", "bucket", "url", "delayed")
    head = {k: v for k, v in end.items() if k not in left_out}
    return {"schema": SUMMARY_SCHEMA, **head, "frames": lines}


def event_summary(
    event: MotionEvent, frames: Sequence[Mapping[str, Any]], *, writer: str | None, no: int | None
) -> dict[str, Any]:
    """Return `event.json` of an event that has ended. `frames` are the announcements of its stored frames."""
    best = max(frames, key=lambda line: (line["score"], -line["seq"]), default=None)
    end = event_payload(
        Phase.END,
        event,
        now=event.ended_at or event.started_at,
        frames_stored=len(frames),
        best_frame=best["object_key"] if best else None,
        writer=writer,
        no=no,
    )
    return summary_payload(end, frames)


def object_metadata(info: FrameInfo, *, writer: str | None = None, no: int | None = None) -> dict[str, str]:
    """Return the user metadata of a frame's object: ASCII only, as S3 requires.

    `no` is its event's number within `writer`.
    """
    return {
        "camera": info.camera,
        "instance": info.instance,
        "event-id": info.event_id,
        "frame-id": info.frame_id,
        "captured-at": iso(info.captured_at),
        "score": f"{info.score:.6f}",
        "sha256": info.sha256,
        **({} if writer is None or no is None else {"writer": writer, "no": str(no)}),
        **({} if info.epoch is None else {"worker": info.worker or "", "epoch": str(info.epoch)}),
    }


def object_tags(info: FrameInfo) -> dict[str, str]:
    """Return the tags of a frame's object, for servers that support tags."""
    return {"camera": info.camera, "kind": "frame"}
