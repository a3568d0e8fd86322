"""The JSON contracts, both ways: what is published over MQTT and written to the bucket.

Times are ISO 8601 in UTC with six digits of a second and a Z. Readers ignore fields they do not know; a
breaking change raises the number in `schema`. The JSON Schemas beside this package say the same to others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from async_motion.core.model import Box, FrameInfo, MotionEvent, Phase, StoredFrame

FRAME_SCHEMA = "async_motion.frame/1"
EVENT_SCHEMA = "async_motion.event/1"
SUMMARY_SCHEMA = "async_motion.event_summary/1"
CONTENT_TYPE = "image/jpeg"
EVENT_TYPES = {Phase.START: "motion_started", Phase.UPDATE: "motion_updated", Phase.END: "motion_ended"}


def iso(at: datetime) -> str:
    """Return `at` (aware) as ``2026-11-22T07:31:12.745000Z``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_iso(text: str) -> datetime:
    """Return the aware UTC datetime that `iso` wrote. Raises ValueError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"a time without its zone: {text!r}")
    return at.astimezone(UTC)


def encode(payload: Mapping[str, Any]) -> bytes:
    """Return the compact UTF-8 JSON of a payload."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def frame_payload(stored: StoredFrame) -> dict[str, Any]:
    """Return the announcement of one stored frame."""
    info = stored.info
    return {
        "schema": FRAME_SCHEMA,
        "instance": info.instance,
        "camera": info.camera,
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
    """Return the stored frame that an announcement speaks of.

    Raises ValueError, with the field at fault, for what is not an announcement of this major version.
    """
    data = json.loads(payload)
    if not isinstance(data, dict) or data.get("schema") != FRAME_SCHEMA:
        raise ValueError(f"schema: expected {FRAME_SCHEMA}")
    try:
        info = FrameInfo(
            instance=str(data["instance"]),
            camera=str(data["camera"]),
            event_id=str(data["event_id"]),
            seq=int(data["seq"]),
            captured_at=parse_iso(data["captured_at"]),
            object_key=str(data["object_key"]),
            sha256=str(data["sha256"]),
            size=int(data["size"]),
            width=int(data["width"]),
            height=int(data["height"]),
            score=float(data["score"]),
            boxes=tuple(Box(*(float(side) for side in box)) for box in data["boxes"]),
            zones=tuple(str(zone) for zone in data["zones"]),
        )
        return StoredFrame(
            info=info,
            bucket=str(data["bucket"]),
            etag=str(data["etag"]),
            stored_at=parse_iso(data["stored_at"]),
            delayed=bool(data["delayed"]),
            url=data.get("url"),
        )
    except KeyError as exc:
        raise ValueError(f"{exc.args[0]}: missing") from exc
    except TypeError as exc:
        raise ValueError(str(exc)) from exc


def event_payload(
    phase: Phase,
    event: MotionEvent,
    *,
    now: datetime,
    frames_stored: int,
    best_frame: str | None,
    bucket: str | None = None,
    url: str | None = None,
) -> dict[str, Any]:
    """Return the message for one phase of an event.

    `best_frame` is the object key of the best frame stored so far, `bucket` is where it lies and `url` its
    presigned link. Before the end, `duration_s` runs until `now` and `reason` is "motion"; from the end on,
    `reason` says why it ended.
    """
    until = event.ended_at or now
    return {
        "schema": EVENT_SCHEMA,
        "type": phase.value,
        "event_type": EVENT_TYPES[phase],
        "instance": event.instance,
        "camera": event.camera,
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
    """Return what `event.json` in the bucket says: the event's end and a line for each stored frame.

    `frames` are announcements; what all lines would repeat, and links that expire, are left out.
    """
    shared = {"schema", "instance", "camera", "event_id", "bucket", "content_type", "url", "delayed"}
    lines = [{k: v for k, v in frame.items() if k not in shared} for frame in frames]
    head = {k: v for k, v in end.items() if k not in ("schema", "type", "event_type", "bucket", "url")}
    return {"schema": SUMMARY_SCHEMA, **head, "frames": lines}


def object_metadata(info: FrameInfo) -> dict[str, str]:
    """Return the user metadata of a frame's object: ASCII only, as S3 wants it."""
    return {
        "camera": info.camera,
        "instance": info.instance,
        "event-id": info.event_id,
        "frame-id": info.frame_id,
        "captured-at": iso(info.captured_at),
        "score": f"{info.score:.6f}",
        "sha256": info.sha256,
    }


def object_tags(info: FrameInfo) -> dict[str, str]:
    """Return the tags of a frame's object, for servers that take tags."""
    return {"camera": info.camera, "kind": "frame"}
