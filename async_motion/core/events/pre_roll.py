"""The pre-roll: the frames before motion, kept undecoded to BGR, because most of them are never needed.

Frames hold decoder buffers, so the ring is bounded in bytes as well as in seconds, and releases at once what
exceeds a bound. After every `add`, `nbytes <= max_bytes`, and no frame is older than `seconds` before
`since`. Frames are in the order of their arrival.
"""

from __future__ import annotations

from collections import deque

from async_motion.core.model import Detection, Frame

Judged = tuple[Frame, Detection]
"""A frame and the verdict on it."""


class PreRoll:
    """Hold the newest judged frames, at most `seconds` and `max_bytes` of them."""

    def __init__(self, *, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._held: deque[Judged] = deque()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """The memory of the held frames, in bytes."""
        return self._nbytes

    def resize(self, *, seconds: float, max_bytes: int) -> None:
        """Set other bounds, which apply from the next `add` on."""
        self._seconds = seconds
        self._max_bytes = max_bytes

    def add(self, frame: Frame, detection: Detection, *, since: float) -> None:
        """Hold `frame`, and drop what is older than `seconds` before `since` (monotonic).

        `since` is when an event would start: the frame's own time, or that of an earlier frame with motion
        that waits for confirmation. A frame that is too large for the ring is not held and empties it, so
        that the held frames have no gap.
        """
        self._held.append((frame, detection))
        self._nbytes += frame.nbytes
        while self._held and (
            self._nbytes > self._max_bytes or self._held[0][0].monotonic < since - self._seconds
        ):
            self._nbytes -= self._held.popleft()[0].nbytes

    def take(self) -> list[Judged]:
        """Remove and return the held frames, oldest first."""
        held = list(self._held)
        self.clear()
        return held

    def clear(self) -> None:
        """Drop all frames."""
        self._held.clear()
        self._nbytes = 0
