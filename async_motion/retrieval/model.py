"""The values that a reader of the bucket takes and returns."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from async_motion.core.index import IndexLine, event_started
from async_motion.core.payloads import iso

ONGOING_S = 600.0
"""An event without an end counts as ongoing until its newest frame is this old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A stretch of motion, as it is stored in the bucket.

    `ended_at`, `duration_s` and `reason` are None while the event goes on, and if it was never closed.
    `frames` and `bytes` count the stored frames. `best` is the `seq` of the best frame, None without frames.
    `scores` are at most 16, 0..1, in order of capture. `no` counts the events of a camera within one
    `writer`, from 1; both are None for events of `scan` and of releases without numbers, and while the event
    goes on. `ongoing` is True for an event that has no end yet and whose newest frame is less than
    `ONGOING_S` old.
    """

    instance: str
    camera: str
    event_id: str
    started_at: datetime
    ended_at: datetime | None = None
    duration_s: float | None = None
    reason: str | None = None
    peak_score: float = 0.0
    zones: tuple[str, ...] = ()
    frames: int = 0
    bytes: int = 0
    best: int | None = None
    scores: tuple[float, ...] = ()
    no: int | None = None
    writer: str | None = None
    ongoing: bool = False

    @classmethod
    def of_line(cls, instance: str, camera: str, line: IndexLine) -> Event:
        """Return the event of an index line."""
        return cls(
            instance=instance,
            camera=camera,
            event_id=line.event_id,
            started_at=line.started_at,
            ended_at=line.ended_at,
            duration_s=line.duration_s,
            reason=line.reason,
            peak_score=line.peak_score,
            zones=line.zones,
            frames=line.frames,
            bytes=line.bytes,
            best=line.best,
            scores=line.scores,
            no=line.no,
            writer=line.writer,
        )

    @property
    def open_word(self) -> str:
        """What stands in place of the duration of an event without an end: `ongoing` or `no end`."""
        return "ongoing" if self.ongoing else "no end"

    def payload(self) -> dict[str, Any]:
        """Return the event as a JSON object: instance and camera, the fields of the index, and `ongoing`."""
        return {
            "instance": self.instance,
            "camera": self.camera,
            "no": self.no,
            "writer": self.writer,
            "event_id": self.event_id,
            "started_at": iso(self.started_at),
            "ended_at": iso(self.ended_at) if self.ended_at else None,
            "duration_s": self.duration_s,
            "reason": self.reason,
            "peak_score": self.peak_score,
            "zones": list(self.zones),
            "frames": self.frames,
            "bytes": self.bytes,
            "best": self.best,
            "scores": list(self.scores),
            "ongoing": self.ongoing,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter for events; the default passes all.

    An event passes if `since` <= start < `until` (both aware), it touched any of `zones`, its peak score is
    at least `min_score` (0..1) and its duration at least `min_duration_s`. One that goes on has no duration,
    and fails if `min_duration_s` is set.
    """

    since: datetime | None = None
    until: datetime | None = None
    zones: Collection[str] = ()
    min_score: float = 0.0
    min_duration_s: float = 0.0

    def takes(self, event: Event | IndexLine) -> bool:
        """Return whether `event` passes the filter."""
        if self.since is not None and event.started_at < self.since:
            return False
        if self.until is not None and event.started_at >= self.until:
            return False
        if event.peak_score < self.min_score:
            return False
        if self.min_duration_s and (event.duration_s is None or event.duration_s < self.min_duration_s):
            return False
        return not self.zones or any(zone in self.zones for zone in event.zones)

    def may_hold(self, event_id: str) -> bool:
        """Return whether an event with this id may begin in the range; False if its date is invalid.

        An id has its start only to the millisecond, so `takes` must check the event itself.
        """
        try:
            started = event_started(event_id)
        except ValueError:
            return False
        if self.since is not None and started < self.since.replace(
            microsecond=self.since.microsecond // 1000 * 1000
        ):
            return False
        return self.until is None or started < self.until


@dataclass(slots=True)
class Skipped:
    """The objects that a reader could not use: how many, and the last 20 with their reasons."""

    count: int = 0
    latest: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=20))

    def add(self, key: str, why: str) -> None:
        """Note one object."""
        self.count += 1
        self.latest.append((key, why))


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)
