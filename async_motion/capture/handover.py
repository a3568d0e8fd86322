"""The hand-over from one reader thread to the event loop, and the watch over that thread.

A library call that blocks cannot be stopped from outside, only waited for, and some do not come back. So the
reader is a daemon thread of its own (never the default executor: name resolution waits in it, and a stuck
worker there would hold up the exit), it looks at `stopping` between calls, and the loop's side does not trust
it: `get` has a deadline of its own, judged by when the reader last said that media moved on. Past that
deadline the thread is left to itself; what it still offers goes nowhere.

Live sources hand over the newest frames: when the loop is slow the oldest one waiting is dropped and counted.
Lossless sources (`speed: max`) wait for room instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from async_motion.core.model import Frame
from async_motion.errors import CameraUnavailable

DEPTH = 2
"""Frames that wait between the reader and the loop: one in hand-over, one being prepared."""

OPEN_GRACE_S = 1.0
"""The library's own time-out is given this much longer to speak first: it knows better what is wrong."""

PATIENCE_S = 2.0
"""For how long a live reader waits for room with frames that belong to one burst."""


@dataclass(slots=True)
class CaptureCounters:
    """What happened to one camera's capture since the start. Counts only grow.

    `opened`: connections that delivered a stream. `frames`: handed to the pipeline. `dropped`:
    because the pipeline was slower than the camera. `corrupt`: frames or packets that could not be trusted.
    `stalls`: connections given up since nothing new came. `abandoned`: threads or processes that hung in the
    video library and were replaced. `crashed`: processes that died of a signal or of their bound of memory.
    `changed`: frames of another size or codec than the one before.
    """

    opened: int = 0
    frames: int = 0
    dropped: int = 0
    corrupt: int = 0
    stalls: int = 0
    abandoned: int = 0
    crashed: int = 0
    changed: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class FrameSink(Protocol):
    """What a reader sees of its connection, in a thread of the service or in a process of its own."""

    @property
    def stopping(self) -> bool:
        """Whether the reader should close what it holds and return."""

    @property
    def lossless(self) -> bool:
        """Whether every frame counts, and `reader_offer` waits for its consumer."""

    def reader_wait(self, seconds: float) -> bool:
        """Wait on purpose, without this counting as a stall. Return whether the reader should go on."""

    def reader_opened(self) -> None:
        """Note that the source is open and is what it should be: from now on stalls are judged."""

    def reader_progress(self) -> None:
        """Note that the source has delivered something newer than before."""

    def reader_corrupt(self) -> None:
        """Count a frame or packet that was damaged and is dropped."""

    def reader_offer(self, frame: Frame, *, patient: bool = False) -> bool:
        """Hand a frame over. Return whether the reader should go on."""


class Handover:
    """One connection's hand-over. Made on the event loop; `reader_…` methods belong to the reader thread."""

    def __init__(
        self,
        *,
        counters: CaptureCounters,
        lossless: bool,
        open_timeout_s: float,
        stall_timeout_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.counters = counters
        self.lossless = lossless
        self._open_timeout_s = open_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._finished = asyncio.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._frames: deque[tuple[Frame, bool]] = deque()
        self.late = False
        """Whether the frame fetched last belongs to a burst."""
        self._ended = False
        self._error: BaseException | None = None
        self.overdue = False
        """Whether the reader was given up since it was past its deadline."""
        self._is_open = False
        self._deadline = monotonic() + open_timeout_s + OPEN_GRACE_S

    # The reader's side.

    @property
    def stopping(self) -> bool:
        """Whether the reader should close what it holds and return."""
        return self._stop.is_set()

    def reader_wait(self, seconds: float) -> bool:
        """Wait on purpose, without this counting as a stall. Return whether the reader should go on."""
        self.reader_expects(seconds)
        return not self._stop.wait(max(0.0, seconds))

    def reader_expects(self, seconds: float) -> None:
        """Nothing may come for so long, and that is as it should be."""
        self._deadline = max(self._deadline, self._monotonic() + seconds + self._stall_timeout_s)

    def reader_begins(self) -> None:
        """Start the time to open now: what went before, such as the start of a process, does not count."""
        self._deadline = self._monotonic() + self._open_timeout_s + OPEN_GRACE_S

    def reader_opened(self) -> None:
        """Note that the source is open and is what it should be: from now on stalls are judged."""
        self.counters.opened += 1
        self._is_open = True
        self.reader_progress()

    def reader_progress(self) -> None:
        """Note that the source has delivered something newer than before."""
        self._deadline = self._monotonic() + self._stall_timeout_s

    def reader_corrupt(self) -> None:
        """Count a frame or packet that was damaged and is dropped."""
        self.counters.corrupt += 1

    def reader_offer(self, frame: Frame, *, patient: bool = False) -> bool:
        """Hand a frame over. Return whether the reader should go on.

        With `patient`, a live source waits a little for room before it drops a frame: for frames that come in
        a burst though they were captured one after the other.
        """
        with self._room:
            if self.lossless:
                self._room.wait_for(lambda: len(self._frames) < DEPTH or self.stopping)
                self.reader_progress()
            elif patient:
                self._room.wait_for(lambda: len(self._frames) < DEPTH or self.stopping, PATIENCE_S)
                self.reader_progress()
            if self.stopping:
                return False
            while len(self._frames) >= DEPTH:
                self._frames.popleft()
                self.counters.dropped += 1
            self._frames.append((frame, patient))
        self._notify(self._wake)
        return True

    def reader_ended(self, error: BaseException | None) -> None:
        """Note that the reader returns, with what it met: its last call."""
        with self._lock:
            self._ended = True
            self._error = error
        self._notify(self._wake)
        self._notify(self._finished)

    def _notify(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            # The loop is closed: an abandoned thread came back after everybody had left.
            self._stop.set()

    # The loop's side.

    async def get(self) -> Frame | None:
        """Return the next frame, or None when the source has ended.

        Raises what the reader raised, and CameraUnavailable when the reader is past its deadline.
        """
        while True:
            self._wake.clear()
            with self._room:
                if self._frames:
                    frame, self.late = self._frames.popleft()
                    self._room.notify()
                    self.counters.frames += 1
                    return frame
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return None
            left_s = self._deadline - self._monotonic()
            if left_s <= 0:
                raise self._overdue()
            try:
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _overdue(self) -> CameraUnavailable:
        self.overdue = True
        self.stop()
        if not self._is_open:
            return CameraUnavailable(f"did not open within {self._open_timeout_s:g} s")
        self.counters.stalls += 1
        return CameraUnavailable(f"no new frame for {self._stall_timeout_s:g} s")

    def stop(self) -> None:
        """Tell the reader to return; does not wait. Frames that were not fetched are dropped."""
        self._stop.set()
        with self._room:
            self._frames.clear()
            self._room.notify_all()

    async def finished(self, within_s: float) -> bool:
        """Wait until the reader has returned, at most so long; return whether it has."""
        if self._ended or within_s <= 0:
            # Its last words may be known before the loop hears that they were said.
            return self._ended
        try:
            async with asyncio.timeout(within_s):
                await self._finished.wait()
        except TimeoutError:
            return False
        return True
