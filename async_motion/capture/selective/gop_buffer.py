"""Packets kept undecoded: whole GOPs, bounded in bytes and in seconds.

A picture can only be decoded from the keyframe before it, so what is kept begins with a keyframe, and
the oldest group is dropped as a whole. A group that is larger than the bound is dropped altogether:
nothing is kept until the next keyframe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from async_motion.capture.ffmpeg.decoding import VideoPacket


class BufferedPacket(NamedTuple):
    """A packet with the PTS of its picture."""

    pts: float
    packet: VideoPacket


@dataclass(slots=True, eq=False)
class Gop:
    """A keyframe's packet and those that are predicted from it, in the order of decoding."""

    packets: list[BufferedPacket] = field(default_factory=list)
    nbytes: int = 0

    @property
    def start(self) -> float:
        """The PTS of its keyframe."""
        return self.packets[0].pts


class GopBuffer:
    """The newest groups of one stream. Not safe for two threads: its owner locks."""

    def __init__(self, *, max_bytes: int, max_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._groups: deque[Gop] = deque()
        self.nbytes = 0
        self.newest = float("-inf")
        """The highest PTS that is kept."""

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, pts: float, packet: VideoPacket) -> bool:
        """Keep a packet; say whether it is kept: not before the first keyframe, not beyond the bound."""
        if packet.is_keyframe:
            self._groups.append(Gop())
        elif not self._groups:
            return False
        group = self._groups[-1]
        group.packets.append(BufferedPacket(pts, packet))
        group.nbytes += packet.size
        self.nbytes += packet.size
        self.newest = max(self.newest, pts)
        self._trim()
        return bool(self._groups)

    @property
    def is_tight(self) -> bool:
        """Whether the group that is growing alone is about to fill the ring."""
        return bool(self._groups) and self._groups[-1].nbytes > 0.9 * self._max_bytes

    def current(self) -> Gop | None:
        """Return the group that is still growing."""
        return self._groups[-1] if self._groups else None

    def group_of(self, pts: float) -> Gop | None:
        """Return the group that holds the picture of this time; the oldest kept may begin after it: None."""
        for group in reversed(self._groups):
            if group.start <= pts:
                return group
        return None

    def since(self, pts: float) -> list[Gop]:
        """Return the groups that begin at this time or later, in order."""
        return [group for group in self._groups if group.start >= pts]

    def clear(self) -> None:
        """Let everything go."""
        self._groups.clear()
        self.nbytes = 0
        self.newest = float("-inf")

    def _trim(self) -> None:
        while len(self._groups) > 1 and (
            self.nbytes > self._max_bytes or self._groups[1].start <= self.newest - self._max_seconds
        ):
            self.nbytes -= self._groups.popleft().nbytes
        if self.nbytes > self._max_bytes:
            self.clear()
