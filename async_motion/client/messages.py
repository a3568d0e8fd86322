"""Parse the MQTT messages that a subscriber receives: an event's phases, and stored frames."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_motion.core.index import WRITER, event_started
from async_motion.core.model import StoredFrame
from async_motion.core.names import is_name
from async_motion.core.payloads import EVENT_SCHEMA, parse_frame, parse_iso
from async_motion.core.strict_json import parse_object
from async_motion.retrieval import Event

MAX_BYTES = 256 * 1024

_BEST = re.compile(r"/(\d{6,9})\.jpg$")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMessage:
    """One phase of an event. `ended` is the event in its end phase, else None.

    It lacks `scores` and `bytes`, which `event.json` has. `epoch` and `delayed` are set in a fleet.
    """

    camera: str
    epoch: int | None = None
    delayed: bool = False
    ended: Event | None = None


class SeenEpochs:
    """The highest epoch seen of each camera, to ignore a fleet's workers that have lost their lease."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def admits(self, camera: str, epoch: int | None, *, delayed: bool) -> bool:
        """Note a message's epoch; return False if it is lower than one seen before, unless delayed."""
        if epoch is None:
            return True
        seen = self._seen.setdefault(camera, epoch)
        self._seen[camera] = max(seen, epoch)
        return epoch >= seen or delayed


def parse_event(payload: bytes, instance: str) -> EventMessage:
    """Parse a phase of an event, at most `MAX_BYTES` of JSON. Raises ValueError."""
    if len(payload) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    fields = parse_object(payload)
    if fields.get("schema") != EVENT_SCHEMA:
        raise ValueError(f"schema: expected {EVENT_SCHEMA}")
    try:
        camera = fields["camera"]
        if fields["instance"] != instance or not isinstance(camera, str) or not is_name(camera):
            raise ValueError("instance or camera")
        return EventMessage(
            camera=camera,
            epoch=_number("epoch", fields.get("epoch")),
            delayed=fields.get("delayed") is True,
            ended=_ended(fields, instance, camera) if fields.get("type") == "end" else None,
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ValueError(f"event: {type(exc).__name__}: {str(exc)[:100]}") from exc


def _ended(fields: Mapping[str, Any], instance: str, camera: str) -> Event:
    event_started(fields["event_id"])
    best = _BEST.search(fields.get("best_frame") or "")
    return Event(
        instance=instance,
        camera=camera,
        event_id=fields["event_id"],
        started_at=parse_iso(fields["started_at"]),
        ended_at=parse_iso(fields["ended_at"]),
        duration_s=float(fields["duration_s"]),
        reason=str(fields["reason"]),
        peak_score=float(fields["peak_score"]),
        zones=tuple(zone for zone in fields["zones"] if isinstance(zone, str) and is_name(zone)),
        frames=int(fields["frames_stored"]),
        best=int(best[1]) if best else None,
        no=_number("no", fields.get("no")),
        writer=_writer(fields.get("writer")),
    )


def parse_announcement(payload: bytes, instance: str) -> StoredFrame:
    """Parse an announcement of a stored frame. Raises ValueError."""
    stored = parse_frame(payload)
    if stored.info.instance != instance:
        raise ValueError("instance: it belongs to another one")
    event_started(stored.info.event_id)
    return stored


def _number(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**53:
        raise ValueError(f"{name}: expected a number, 1 or more")
    return value


def _writer(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not WRITER.fullmatch(value):
        raise ValueError("writer: expected six hex digits")
    return value
