"""The data of a report on a day or a week: counts of events, heat maps of their boxes, best frames.

`gather` reads the bucket and returns a `Report`: plain values and JPEGs. `retrieval.report_page` renders it
as a page, `retrieval.report_text` as text. What the service suppressed, lost and missed comes from the day
logs (`retrieval.day_logs`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.day_log import Outage
from async_motion.core.model import Box, FrameInfo, Image
from async_motion.core.names import frame_key
from async_motion.errors import ImageError, UnreadableObject
from async_motion.jpeg import encode
from async_motion.retrieval.day_logs import Account, Accounts
from async_motion.retrieval.images import image_of
from async_motion.retrieval.model import Event
from async_motion.retrieval.reader import EventReader
from async_motion.retrieval.requests import together

MAX_HEAT_EVENTS = 300
"""The heat map of a camera uses at most this many events, evenly spread: each costs a request."""
BEST = 12
MAX_DAY_MARKS = 26
"""The number of hour marks, with the end, of the longest day (25 hours)."""

_GRID = (90, 160)
_AT_ONCE = 32
_HEAT_WIDTH, _BEST_WIDTH = 640, 480


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One of the best frames: its event, a small JPEG, and a link if the store has one."""

    event: Event
    jpeg: bytes = field(repr=False)
    link: str | None


@dataclass(slots=True, kw_only=True)
class CameraDay:
    """One camera's counts. `hours` counts events by the hour's index in the range; `size` is in bytes."""

    events: int = 0
    frames: int = 0
    size: int = 0
    moving_s: float = 0.0
    hours: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    zones: Counter[str] = field(default_factory=Counter)
    open: int = 0
    lost_events: int = 0
    account: Account = field(default_factory=Account)
    heat: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A day or a week of one instance. `marks` are the starts of its hours and its end, in local time.

    `over_s` are the seconds of the range that are over. `service` is None without any day log.
    """

    instance: str
    marks: Sequence[datetime]
    over_s: float
    cameras: dict[str, CameraDay]
    service: Account | None
    best: Sequence[Shot]
    unreadable: int

    @property
    def is_day(self) -> bool:
        """True for a single day, which has up to 25 hours."""
        return len(self.marks) <= MAX_DAY_MARKS

    @property
    def events(self) -> int:
        """The number of all events."""
        return sum(day.events for day in self.cameras.values())

    def watched(self, account: Account) -> float:
        """Return the share of the range, 0..1, that an account has watched."""
        return min(1.0, account.total.watched_s / self.over_s) if self.over_s > 0 else 0.0

    @property
    def unlisted(self) -> int:
        """The number of further outages, of which the day logs have only the count."""
        accounts = (self.service or Account(), *(day.account for day in self.cameras.values()))
        return sum(account.unlisted.total() for account in accounts)

    def outages(self) -> list[tuple[str, Outage]]:
        """Return the subject and the outage of all, by their start; the service is the empty text."""
        accounts = {"": self.service or Account()}
        accounts |= {camera: day.account for camera, day in self.cameras.items()}
        found = [(subject, each) for subject, account in accounts.items() for each in account.outages]
        return sorted(found, key=lambda each: (each[1].began, each[0]))


async def gather(
    reader: EventReader,
    events: AsyncIterator[Event],
    marks: Sequence[datetime],
    *,
    kept: Accounts,
    now: datetime,
    link_s: float | None = None,
    images: bool = True,
) -> Report:
    """Read the events of a range and return its report; without `images` by far the fewest requests.

    Raises StoreUnavailable, StoreRefused.
    """
    cameras: dict[str, CameraDay] = defaultdict(CameraDay)
    for camera, account in kept.cameras.items():
        cameras[camera].account = account
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    best: list[Event] = []
    drawn: dict[str, list[Event]] = defaultdict(list)
    steps: dict[str, int] = defaultdict(lambda: 1)
    async for event in events:
        day = cameras[event.camera]
        if day.events % steps[event.camera] == 0 and event.frames:
            drawn[event.camera].append(event)
            if len(drawn[event.camera]) >= 2 * MAX_HEAT_EVENTS:
                drawn[event.camera] = drawn[event.camera][1::2]
                steps[event.camera] *= 2
        _count(day, event, marks)
        if event.no is not None and event.writer is not None:
            numbers[event.camera, event.writer].add(event.no)
        if event.best is not None:
            best = sorted([*best, event], key=lambda e: e.peak_score, reverse=True)[:BEST]
    for (camera, _), seen in numbers.items():
        cameras[camera].lost_events += max(seen) - min(seen) + 1 - len(seen)
    for day in cameras.values():  # an event that has not ended has a number too, which is not known yet
        day.lost_events = max(0, day.lost_events - day.open)
    if not images:
        drawn, best = {}, []
    for camera, some in drawn.items():
        cameras[camera].heat = await _heat(reader, some[-MAX_HEAT_EVENTS:])
    shots = await together("read best frames", (_shot(reader, event, link_s) for event in best))
    return Report(
        instance=reader.instance,
        marks=marks,
        over_s=max(0.0, (min(marks[-1], now) - marks[0]).total_seconds()),
        service=kept.service if kept.until is not None else None,
        cameras=dict(sorted(cameras.items())),
        best=[shot for shot in shots if shot is not None],
        unreadable=reader.skipped.count,
    )


def heat_map(boxes: Sequence[Box], ground: Image) -> Image:
    """Return the image in grey with a heat map of the boxes over it, both (H, W, 3) BGR uint8.

    The heat of a place is its number of boxes, relative to the maximum: the most covered is red.
    """
    counts: NDArray[np.float32] = np.zeros(_GRID, np.float32)
    rows, columns = _GRID
    for box in boxes:
        top, left = int(box.y * rows), int(box.x * columns)
        bottom, right = int(np.ceil((box.y + box.height) * rows)), int(np.ceil((box.x + box.width) * columns))
        counts[top:bottom, left:right] += 1
    height, width = ground.shape[:2]
    blurred = cv2.GaussianBlur(counts / max(1.0, float(counts.max())), (0, 0), 1.5)
    share = np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    levels = np.asarray(np.clip(share, 0, 1) * 255, np.uint8)
    colours = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), np.uint8)
    grey = np.repeat(cv2.cvtColor(ground, cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2)
    weight = np.clip(share * 1.6, 0, 0.65)[:, :, None]
    return np.asarray(grey * (1 - weight) + colours * weight, np.uint8)


def _count(day: CameraDay, event: Event, marks: Sequence[datetime]) -> None:
    day.events += 1
    day.frames += event.frames
    day.size += event.bytes
    day.moving_s += event.duration_s or 0.0
    day.zones.update(event.zones)
    if event.reason is None:
        day.open += 1
    else:
        day.reasons[event.reason] += 1
    hour = next((n for n, mark in enumerate(marks[1:]) if event.started_at < mark), len(marks) - 2)
    day.hours[hour] += 1


async def _heat(reader: EventReader, events: Sequence[Event]) -> bytes | None:
    boxes: list[Box] = []
    for at in range(0, len(events), _AT_ONCE):
        found = await together("read boxes", map(reader.frames, events[at : at + _AT_ONCE]))
        boxes += [box for frames in found for frame in frames for box in frame.boxes]
    ground = await _image(reader, events[-1])
    if ground is None:
        return None
    return await asyncio.to_thread(lambda: encode(heat_map(boxes, ground), 80, _HEAT_WIDTH)[0])


async def _shot(reader: EventReader, event: Event, link_s: float | None) -> Shot | None:
    image = await _image(reader, event)
    if image is None or event.best is None:
        return None
    jpeg = await asyncio.to_thread(lambda: encode(image, 80, _BEST_WIDTH)[0])
    key = frame_key(reader.folder(event), event.best)
    link = None if link_s is None else await reader.link(key, link_s)
    return Shot(event=event, jpeg=jpeg, link=link)


async def _image(reader: EventReader, event: Event) -> Image | None:
    """Return an event's best frame at a reduced size, or None if it cannot be read."""
    frames: Sequence[FrameInfo] = await reader.frames(event)
    frame = next((each for each in frames if each.seq == event.best), None)
    if frame is None:
        return None
    try:
        return await asyncio.to_thread(image_of, await reader.fetch(frame), _HEAT_WIDTH)
    except (UnreadableObject, ImageError) as exc:
        reader.skipped.add(frame.object_key, str(exc))
        return None
