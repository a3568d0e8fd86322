"""The stored events, as the pages need them: the bucket's reader, thumbnails, clips, deletion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from async_motion.core.model import FrameInfo
from async_motion.retrieval import Event, EventReader
from async_motion.web.thumbnails import Thumbnails

MakeClip = Callable[[Sequence[FrameInfo], Callable[[FrameInfo], bytes | None], Path], int]
"""(frames, read a frame's JPEG, target) -> frames written to the MP4. Blocks. Raises ImageError, OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Access to the stored events. `delete` returns the number of objects removed."""

    reader: EventReader
    thumbnails: Thumbnails
    make_clip: MakeClip
    delete: Callable[[Event], Awaitable[int]]
