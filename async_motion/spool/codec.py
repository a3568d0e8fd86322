"""Encode values as JSON text for the spool's columns, and decode them.

SQLite checks the structure of its file, not the content: text that cannot be decoded is a damaged row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from async_motion.core import payloads
from async_motion.core.model import FrameInfo, MotionEvent, StoredFrame
from async_motion.core.payloads import encode_text
from async_motion.core.strict_json import parse_object

T = TypeVar("T")


class Unreadable(Exception):
    """A column does not hold what was written to it: its row is lost, the file is not."""


def dump_info(info: FrameInfo) -> str:
    """Return a frame's description as JSON text."""
    return encode_text(
        {
            "instance": info.instance,
            "camera": info.camera,
            "event_id": info.event_id,
            "seq": info.seq,
            "captured_at": payloads.iso(info.captured_at),
            "object_key": info.object_key,
            "sha256": info.sha256,
            "size": info.size,
            "width": info.width,
            "height": info.height,
            "score": info.score,
            "boxes": info.boxes,
            "zones": info.zones,
            **_owner(info),
        }
    )


def load_info(text: str) -> FrameInfo:
    """Return what `dump_info` wrote. Raises Unreadable."""
    return _read(_info, text)


def dump_event(event: MotionEvent) -> str:
    """Return an event as JSON text."""
    return encode_text(
        {
            "event_id": event.event_id,
            "instance": event.instance,
            "camera": event.camera,
            "started_at": payloads.iso(event.started_at),
            "peak_score": event.peak_score,
            "zones": event.zones,
            "ended_at": payloads.iso(event.ended_at) if event.ended_at else None,
            "end_reason": event.end_reason.value if event.end_reason else None,
            **_owner(event),
        }
    )


@lru_cache(maxsize=64)
def load_event(text: str) -> MotionEvent:
    """Return what `dump_event` wrote. Raises Unreadable."""
    # Cached: an open event is read once for each of its frames, and seldom changes between them.
    return _read(_event, text)


def readable_event(text: str) -> MotionEvent | None:
    """Return what `dump_event` wrote, or None if it cannot be read."""
    try:
        return load_event(text)
    except Unreadable:
        return None


def load_time(text: str) -> datetime:
    """Return an aware time that `payloads.iso` wrote. Raises Unreadable."""
    return _read(payloads.parse_iso, text)


def dump_stored(stored: StoredFrame) -> str:
    """Return a stored frame as JSON text: its announcement."""
    return encode_text(payloads.frame_payload(stored))


def load_stored(text: str) -> StoredFrame:
    """Return what `dump_stored` wrote. Raises Unreadable."""
    return _read(payloads.parse_frame, text)


def load_line(text: str) -> dict[str, Any]:
    """Return what `dump_stored` wrote, as `event.json` lists it. Raises Unreadable."""
    return _read(_line, text)


def _owner(of: FrameInfo | MotionEvent) -> dict[str, Any]:
    # Omitted without a fleet, so that an older version can read the text.
    return {} if of.epoch is None else {"worker": of.worker, "epoch": of.epoch}


def _info(text: str) -> FrameInfo:
    return payloads.info_of(parse_object(text))


def _event(text: str) -> MotionEvent:
    return payloads.motion_event_of(parse_object(text))


def _line(text: str) -> dict[str, Any]:
    line = parse_object(text)
    payloads.frame_of(line)  # which checks that it is complete
    return line


def _read(load: Callable[[str], T], text: str) -> T:
    try:
        return load(text)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as exc:
        raise Unreadable(f"a column cannot be read: {exc}") from exc
