"""Packets buffered undecoded: whole GOPs, bounded in bytes and in seconds.

A frame can only be decoded from the keyframe before it. So the buffer begins with a keyframe and drops its
oldest GOP as a whole. A GOP that alone exceeds the bound is dropped altogether: nothing is buffered until the
next keyframe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from async_motion.capture.ffmpeg.decoding import VideoPacket


class BufferedPacket(NamedTuple):
    """A packet, and the monotonic time at which its frame was captured."""

    at: float
    packet: VideoPacket


@dataclass(slots=True, eq=False)
class Gop:
    """A keyframe's packet and those of the frames predicted from it, in decoding order."""

    packets: list[BufferedPacket] = field(default_factory=list)
    nbytes: int = 0

    @property
    def start(self) -> float:
        """The monotonic time at which its keyframe was captured."""
        return self.packets[0].at


class GopBuffer:
    """The newest GOPs of one stream. Not thread-safe: the owner locks."""

    def __init__(self, *, max_bytes: int, max_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._gops: deque[Gop] = deque()
        self.nbytes = 0
        self.newest = float("-inf")
        """The latest capture time in the buffer; -inf while it is empty."""

    def __len__(self) -> int:
        return len(self._gops)

    def add(self, at: float, packet: VideoPacket) -> bool:
        """Buffer a packet; return False before the first keyframe, and if its GOP exceeds the bound."""
        if packet.is_keyframe:
            self._gops.append(Gop())
        elif not self._gops:
            return False
        gop = self._gops[-1]
        gop.packets.append(BufferedPacket(at, packet))
        gop.nbytes += packet.size
        self.nbytes += packet.size
        self.newest = max(self.newest, at)
        self._trim()
        return bool(self._gops)

    @property
    def is_tight(self) -> bool:
        """Whether the growing GOP alone nearly fills the buffer."""
        return bool(self._gops) and self._gops[-1].nbytes > 0.9 * self._max_bytes

    def current(self) -> Gop | None:
        """Return the GOP that is still growing, None while the buffer is empty."""
        return self._gops[-1] if self._gops else None

    def gop_of(self, at: float) -> Gop | None:
        """Return the GOP of the frame captured at `at` (monotonic), None if the oldest GOP begins later."""
        for gop in reversed(self._gops):
            if gop.start <= at:
                return gop
        return None

    def since(self, at: float) -> list[Gop]:
        """Return the GOPs that begin at `at` (monotonic) or later, in order."""
        return [gop for gop in self._gops if gop.start >= at]

    def clear(self) -> None:
        """Drop everything."""
        self._gops.clear()
        self.nbytes = 0
        self.newest = float("-inf")

    def _trim(self) -> None:
        while len(self._gops) > 1 and (
            self.nbytes > self._max_bytes or self._gops[1].start <= self.newest - self._max_seconds
        ):
            self.nbytes -= self._gops.popleft().nbytes
        if self.nbytes > self._max_bytes:
            self.clear()
