"""The two queues in which a camera's frames wait. Both are bounded, and report what they drop.

    capture ──▶ DropOldestQueue ──▶ watch ──▶ Backlog ──▶ keep ──▶ spool

`DropOldestQueue` holds frames that are not judged yet: when it is full, live video drops the oldest one, and
a file waits. `Backlog` holds the frames that an event keeps: when the encoder or the disk is too slow for
live video, it drops the middle of an event before its opening, and never a phase.

One loop, one producer and one consumer each. `put` never waits, so that a cancellation loses no frame.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from async_motion.core.events.pre_roll import Judged
from async_motion.core.model import EventPhase, Frame, MotionEvent


class DropOldestQueue:
    """At most `depth` frames, in the order of capture."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._frames: deque[Frame] = deque()
        self._closed = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> int:
        """Add the newest frame; return how many of the oldest were dropped."""
        self._frames.append(frame)
        dropped = max(0, len(self._frames) - self._depth)
        for _ in range(dropped):
            self._frames.popleft()
        self._changed()
        return dropped

    async def room(self) -> None:
        """Wait until a frame can be put without dropping one."""
        await self._emptied.wait()

    async def get(self) -> Frame | None:
        """Return the oldest frame; None once the buffer is closed and empty."""
        await self._filled.wait()
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self._changed()
        return frame

    def close(self) -> None:
        """Close: no frame follows."""
        self._closed = True
        self._changed()

    def _changed(self) -> None:
        _set(self._filled, bool(self._frames) or self._closed)
        _set(self._emptied, len(self._frames) < self._depth)


@dataclass(slots=True, kw_only=True)
class Job:
    """What one step of an event wants from the encoder and the spool.

    `stills` are in the order of capture. `phase` is accepted together with them: a START after the first
    `before_phase` of them, an END after all. `hold`: the one still replaces the event's held one.
    """

    event: MotionEvent
    stills: list[Judged] = field(default_factory=list)
    phase: EventPhase | None = None
    before_phase: int = 0
    hold: bool = False

    @property
    def nbytes(self) -> int:
        """The memory of its frames, in bytes."""
        return sum(frame.nbytes for frame, _ in self.stills)

    def let_go_of_one(self) -> int:
        """Drop the least important still and return its bytes.

        In this order: the frames after the opening frame, newest first; the pre-roll, oldest first; the
        opening frame.
        """
        if len(self.stills) > self.before_phase or len(self.stills) == 1:
            frame, _ = self.stills.pop()
        else:
            frame, _ = self.stills.pop(0)
            self.before_phase -= 1
        return frame.nbytes


class Backlog:
    """Jobs that wait for the encoder and the spool, with at most `max_bytes` of frames."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._jobs: deque[Job] = deque()
        self._nbytes = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._within = asyncio.Event()
        self._within.set()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def nbytes(self) -> int:
        """The memory of the waiting frames, in bytes."""
        return self._nbytes

    def put(self, job: Job) -> None:
        """Add a job, regardless of the bound. A job with `hold` replaces earlier ones."""
        if job.hold:
            self._let_go([old for old in self._jobs if old.hold and old.event.event_id == job.event.event_id])
        self._jobs.append(job)
        self._nbytes += job.nbytes
        self._changed()

    def trim(self) -> int:
        """Drop frames until the bound holds; return how many. The middles of events go first."""
        before = sum(len(job.stills) for job in self._jobs)
        for job in [job for job in self._jobs if job.phase is None]:
            if self._nbytes > self._max_bytes:
                self._let_go([job])
        for job in self._jobs:
            while job.stills and self._nbytes > self._max_bytes:
                self._nbytes -= job.let_go_of_one()
        self._changed()
        return before - sum(len(job.stills) for job in self._jobs)

    async def room(self) -> None:
        """Wait until the bound holds."""
        await self._within.wait()

    async def get(self) -> Job | None:
        """Return the oldest job; None once the backlog is closed and empty."""
        await self._filled.wait()
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        self._nbytes -= job.nbytes
        self._changed()
        return job

    def close(self) -> None:
        """Close: no job follows."""
        self._closed = True
        self._changed()

    def drain(self) -> list[Job]:
        """Remove and return all waiting jobs."""
        jobs = list(self._jobs)
        self._let_go(jobs)
        return jobs

    def _let_go(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._jobs.remove(job)
            self._nbytes -= job.nbytes
        self._changed()

    def _changed(self) -> None:
        _set(self._filled, bool(self._jobs) or self._closed)
        _set(self._within, self._nbytes <= self._max_bytes)


def _set(event: asyncio.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()
