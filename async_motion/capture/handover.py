"""The hand-over of frames from a reader thread to the event loop, with a watchdog over that thread.

A blocking library call cannot be stopped from outside, and some never return. So the reader runs in its own
daemon thread. It never uses the default executor: name resolution runs there, and a stuck worker would hold
up the exit. The reader checks `stopping` between calls. The loop's side does not trust it: `get` has its own
deadline, counted from the last progress of the media. Past the deadline the thread is abandoned, and its
later frames are discarded.

Live sources hand over the newest frames: when the loop is slow, the oldest waiting frame is dropped and
counted. Lossless sources (`speed: max`) wait for room instead.
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
"""Frames between the reader and the loop: one being handed over, one being prepared."""

OPEN_GRACE_S = 1.0
"""Our deadline is this much longer than the library's time-out, whose error tells the cause."""

PATIENCE_S = 2.0
"""How long a live reader waits for room with the frames of one burst."""


@dataclass(slots=True)
class CaptureCounters:
    """Counters of one camera's capture since the start. They only grow.

    `opened`: connections that delivered a stream. `frames`: handed to the pipeline. `dropped`: because the
    pipeline was slower than the camera. `corrupt`: damaged frames or packets. `stalls`: connections given up
    because nothing new came. `abandoned`: threads or processes that hung and were replaced. `crashed`:
    processes that died of a signal or at their memory limit. `changed`: frames of another size or codec than
    the one before.
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
    """The reader's view of its connection, in a thread of the service or in a capture process."""

    @property
    def stopping(self) -> bool:
        """Whether the reader should close what it holds and return."""

    @property
    def lossless(self) -> bool:
        """Whether every frame counts, and `reader_offer` waits for its consumer."""

    def reader_wait(self, seconds: float) -> bool:
        """Wait on purpose, without this counting as a stall. Return whether the reader should go on."""

    def reader_opened(self) -> None:
        """Report that the source is open and as expected: stalls count from now on."""

    def reader_progress(self) -> None:
        """Report progress: the source has delivered something newer than before."""

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
        """Whether the reader was abandoned past its deadline."""
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
        """Expect nothing for this long: it is not a stall."""
        self._deadline = max(self._deadline, self._monotonic() + seconds + self._stall_timeout_s)

    def reader_begins(self) -> None:
        """Restart the time-out for opening: what preceded, such as the start of a process, does not count."""
        self._deadline = self._monotonic() + self._open_timeout_s + OPEN_GRACE_S

    def reader_opened(self) -> None:
        """Report that the source is open and as expected: stalls count from now on."""
        self.counters.opened += 1
        self._is_open = True
        self.reader_progress()

    def reader_progress(self) -> None:
        """Report progress: the source has delivered something newer than before."""
        self._deadline = self._monotonic() + self._stall_timeout_s

    def reader_corrupt(self) -> None:
        """Count a frame or packet that was damaged and is dropped."""
        self.counters.corrupt += 1

    def reader_offer(self, frame: Frame, *, patient: bool = False) -> bool:
        """Hand a frame over. Return whether the reader should go on.

        With `patient`, a live source waits briefly for room before it drops a frame: for frames that were
        captured one after the other but arrive in a burst.
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
        """Report that the reader returns, with its error if any: its last call."""
        with self._lock:
            self._ended = True
            self._error = error
        self._notify(self._wake)
        self._notify(self._finished)

    def _notify(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            # The loop is closed: an abandoned thread has returned after the service ended.
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
                    if self.lossless or self.late:
                        # The reader may have waited for this room, however long: that is no stall.
                        self.reader_expects(0.0)
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
        """Wait until the reader has returned, at most this long; return whether it has."""
        if self._ended or within_s <= 0:
            # The reader's last call may precede the loop's notification of it.
            return self._ended
        try:
            async with asyncio.timeout(within_s):
                await self._finished.wait()
        except TimeoutError:
            return False
        return True
