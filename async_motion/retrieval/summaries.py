"""Parse `event.json`: the summary of an ended event, and a line for each of its frames.

Its content is not trusted: a frame's key is derived from its `seq`, never taken from the object, so that a
summary cannot lead a reader to another object.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from async_motion.core.index import line_of
from async_motion.core.model import Box, FrameInfo
from async_motion.core.names import frame_key, is_name
from async_motion.core.payloads import SUMMARY_SCHEMA, parse_iso
from async_motion.errors import UnreadableObject
from async_motion.retrieval.model import Event

MAX_SUMMARY_BYTES = 64 * 1024 * 1024
MAX_FRAMES = 100_000
MAX_BOXES = 256

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SEQ = 10**9


def parse_summary(data: bytes, event: str) -> dict[str, Any]:
    """Return the fields of the `event.json` of the event with this id. Raises UnreadableObject."""
    try:
        fields = json.loads(data)
    except RecursionError as exc:
        raise UnreadableObject("event summary: nested too deeply") from exc
    except ValueError as exc:
        raise UnreadableObject(f"event summary: not JSON: {str(exc)[:200]}") from exc
    if not isinstance(fields, dict) or fields.get("schema") != SUMMARY_SCHEMA:
        raise UnreadableObject(f"event summary: expected schema {SUMMARY_SCHEMA}")
    if fields.get("event_id") != event:
        raise UnreadableObject("event summary: it is of another event")
    if not isinstance(fields.get("frames"), list) or len(fields["frames"]) > MAX_FRAMES:
        raise UnreadableObject(f"event summary: frames: expected a list of at most {MAX_FRAMES}")
    return fields


def event_of(fields: Mapping[str, Any], instance: str, camera: str) -> Event:
    """Return the event of a summary. Raises UnreadableObject."""
    return Event.of_line(instance, camera, line_of(fields))


def frames_of(fields: Mapping[str, Any], event: Event, folder: str) -> list[FrameInfo]:
    """Return the frames of a summary, by `seq`. `folder` is the event's. Raises UnreadableObject."""
    try:
        frames = [_frame(line, event, folder) for line in fields["frames"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        why = f"{exc.args[0]}: missing" if isinstance(exc, KeyError) else str(exc)[:200]
        raise UnreadableObject(f"event summary: frames: {why}") from exc
    return sorted(frames, key=lambda frame: frame.seq)


def frame_of_metadata(about: Mapping[str, str], event: Event, key: str, seq: int, size: int) -> FrameInfo:
    """Return a frame from its object's metadata, for events without a summary: width and height 0, no boxes.

    Raises UnreadableObject.
    """
    try:
        return FrameInfo(
            instance=event.instance,
            camera=event.camera,
            event_id=event.event_id,
            seq=seq,
            captured_at=parse_iso(about["captured-at"]),
            object_key=key,
            sha256=_digest(about["sha256"]),
            size=size,
            width=0,
            height=0,
            score=_share(float(about.get("score", 0.0))),
        )
    except (KeyError, ValueError, OverflowError) as exc:
        why = f"{exc.args[0]}: missing" if isinstance(exc, KeyError) else str(exc)[:200]
        raise UnreadableObject(f"frame metadata: {why}") from exc


def _frame(line: Mapping[str, Any], event: Event, folder: str) -> FrameInfo:
    seq, boxes = _whole(line["seq"], _MAX_SEQ), line["boxes"]
    if len(boxes) > MAX_BOXES:
        raise ValueError(f"boxes: expected at most {MAX_BOXES}")
    zones = tuple(line["zones"])
    if not all(isinstance(zone, str) and is_name(zone) for zone in zones):
        raise ValueError("zones: expected names")
    return FrameInfo(
        instance=event.instance,
        camera=event.camera,
        event_id=event.event_id,
        seq=seq,
        captured_at=parse_iso(line["captured_at"]),
        object_key=frame_key(folder, seq),
        sha256=_digest(line["sha256"]),
        size=_whole(line["size"], 2**40),
        width=_whole(line["width"], 2**20),
        height=_whole(line["height"], 2**20),
        score=_share(line["score"]),
        boxes=tuple(Box(*(_share(side) for side in box)) for box in boxes),
        zones=zones,
    )


def _digest(text: object) -> str:
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise ValueError("sha256: expected 64 hex digits")
    return text


def _whole(value: object, maximum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise ValueError(f"expected a whole number from 0 to {maximum}")
    return value


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a number")
    if not 0 <= value <= 1:
        raise ValueError("expected 0 to 1")
    return float(value)
