"""What a reader of the bucket hands out."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from async_motion.core.index import IndexLine, event_started
from async_motion.core.payloads import iso


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A stretch of motion, as the bucket knows it.

    `ended_at`, `duration_s` and `reason` are None while the event goes on, or where it was never closed.
    `frames` and `bytes` count what is stored. `best` is the `seq` of the best frame, None without frames.
    `scores` are at most 16, 0..1, in the order of capture. `no` counts the events of a camera within one
    `writer`, from 1; both are None for events from before there were numbers, and for those that go on.
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

    @classmethod
    def of_line(cls, instance: str, camera: str, line: IndexLine) -> Event:
        """Return the event that a line of the index tells."""
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

    def payload(self) -> dict[str, Any]:
        """Return the event as JSON has it: the fields of the index, with instance and camera before them."""
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
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events are asked for; the default is all.

    `since` <= start < `until`, both aware. An event is in if it touched any of `zones`, peaked at
    `min_score` (0..1) or higher and lasted for `min_duration_s` or longer; one that goes on has no duration
    yet and is left out where one is asked for.
    """

    since: datetime | None = None
    until: datetime | None = None
    zones: Collection[str] = ()
    min_score: float = 0.0
    min_duration_s: float = 0.0

    def takes(self, event: Event) -> bool:
        """Return whether `event` is asked for."""
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
        """Return whether an event with this id can begin in the time that is asked for.

        An id knows its start to the millisecond: the event itself decides. False for a date that is none.
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
    """What a reader could not use: how much, and the last few with their reasons."""

    count: int = 0
    latest: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=20))

    def add(self, key: str, why: str) -> None:
        """Note one object."""
        self.count += 1
        self.latest.append((key, why))


def utc_now() -> datetime:
    """Return the wall clock, aware."""
    return datetime.now(UTC)
