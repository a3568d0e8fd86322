"""What a subscriber takes from MQTT: the end of an event, and a stored frame. All bounded."""

from __future__ import annotations

import re

from async_motion.core.index import WRITER, event_started
from async_motion.core.model import StoredFrame
from async_motion.core.names import is_name
from async_motion.core.payloads import EVENT_SCHEMA, parse_frame, parse_iso
from async_motion.core.strict_json import parse_object
from async_motion.retrieval import Event

MAX_BYTES = 256 * 1024

_BEST = re.compile(r"/(\d{6,9})\.jpg$")


def parse_end(payload: bytes, instance: str) -> Event | None:
    """Return the event that an `end` tells, None for another phase. Raises ValueError.

    It lacks the course of the scores and the size in bytes, which `event.json` has.
    """
    if len(payload) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    said = parse_object(payload)
    if said.get("schema") != EVENT_SCHEMA:
        raise ValueError(f"schema: expected {EVENT_SCHEMA}")
    if said.get("type") != "end":
        return None
    try:
        camera, event_id = said["camera"], said["event_id"]
        if said["instance"] != instance or not isinstance(camera, str) or not is_name(camera):
            raise ValueError("instance or camera")
        event_started(event_id)
        best = _BEST.search(said.get("best_frame") or "")
        zones = said["zones"]
        return Event(
            instance=instance,
            camera=camera,
            event_id=event_id,
            started_at=parse_iso(said["started_at"]),
            ended_at=parse_iso(said["ended_at"]),
            duration_s=float(said["duration_s"]),
            reason=str(said["reason"]),
            peak_score=float(said["peak_score"]),
            zones=tuple(zone for zone in zones if isinstance(zone, str) and is_name(zone)),
            frames=int(said["frames_stored"]),
            best=int(best[1]) if best else None,
            no=_number(said.get("no")),
            writer=_writer(said.get("writer")),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ValueError(f"event: {type(exc).__name__}: {str(exc)[:100]}") from exc


def parse_announcement(payload: bytes, instance: str) -> StoredFrame:
    """Return the frame that an announcement tells. Raises ValueError."""
    stored = parse_frame(payload)
    if stored.info.instance != instance:
        raise ValueError("instance: it is of another one")
    event_started(stored.info.event_id)
    return stored


def _number(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**53:
        raise ValueError("no: expected a number from 1 on")
    return value


def _writer(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not WRITER.fullmatch(value):
        raise ValueError("writer: expected six hex digits")
    return value
