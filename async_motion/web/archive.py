"""The stored events, as the pages need them: the bucket's reader, and what is made of frames."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from async_motion.core.model import FrameInfo
from async_motion.retrieval import Event, EventReader
from async_motion.web.thumbnails import Thumbnails

MakeClip = Callable[[Sequence[FrameInfo], Callable[[FrameInfo], bytes | None], Path], int]
"""(frames, what gives a frame's JPEG, target) -> frames in the MP4. Blocks. Raises ImageError, OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Everything about stored events. `delete` returns how many objects went."""

    reader: EventReader
    thumbnails: Thumbnails
    make_clip: MakeClip
    delete: Callable[[Event], Awaitable[int]]
