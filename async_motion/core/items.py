"""What the spool leases to delivery: items of work, each with a number by which its outcome is reported.

Numbers grow in the order of acceptance, are never used twice, and stay the same over restarts. A leased item
is not leased again until it is released or its outcome is reported.

`writer` is the id of the spool. `no` counts the events of a camera that this spool has accepted, from 1; None
for a frame without an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from async_motion.core.model import EventPhase, FrameInfo, MotionEvent, StoredFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameUpload:
    """A record that the store has not confirmed yet, with its bytes.

    `delayed`: it belongs to the backlog, from an earlier run or older than `delayed_after`. `age_s` is the
    time since its acceptance. `event_number` orders events by acceptance, independent of the wall clock.
    """

    number: int
    event_number: int
    delayed: bool
    age_s: float
    writer: str
    no: int | None
    info: FrameInfo
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryUpload:
    """An ended event whose records are all announced: its `event.json` is due.

    It is due again when a record that was set aside is stored after all. `lines` are the announcements of
    its stored frames, in the order of capture.
    """

    number: int
    delayed: bool
    age_s: float
    writer: str
    no: int | None
    event: MotionEvent
    lines: tuple[Mapping[str, Any], ...] = field(repr=False)


Upload = FrameUpload | SummaryUpload


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAnnouncement:
    """A stored frame to be announced. `has_jpeg`: the spool still holds its bytes.

    `lasted_s`: how long its event had lasted when it was accepted; None without an event, or if an earlier
    run began it.
    """

    number: int
    event_number: int
    delayed: bool
    age_s: float
    stored: StoredFrame
    has_jpeg: bool
    lasted_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseAnnouncement:
    """An event's start or end to be announced. `best_frame` is an object key.

    `lasted_s`: how long the event had lasted when this phase was accepted; None if an earlier run began it.
    """

    number: int
    delayed: bool
    age_s: float
    writer: str
    no: int | None
    phase: EventPhase
    frames_stored: int
    best_frame: str | None
    lasted_s: float | None = None


Announcement = FrameAnnouncement | PhaseAnnouncement


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNow:
    """An event as known now. `announced`: its start has been published. `best_frame` is an object key."""

    writer: str
    no: int | None
    event: MotionEvent
    announced: bool
    frames_stored: int
    best_frame: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDay:
    """A file of the index: the ended events of one camera and day (UTC) that this spool has accepted.

    `version` grows with each change of its lines.
    """

    instance: str
    camera: str
    day: date
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDayLog:
    """The file of a day log (UTC) as it is to be stored. `version` grows with each change."""

    instance: str
    day: date
    version: int
    body: bytes = field(repr=False)
