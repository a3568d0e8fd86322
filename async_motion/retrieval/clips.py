"""An event's frames as a clip: H.264 in MP4, each frame at its own time. All of it blocks.

What browsers play everywhere: yuv420p, even sides, the index at the front of the file. The times are those of
capture, so a clip has a variable frame rate and lasts as long as the event did. The last frame is shown for
a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError

from async_motion.core.model import FrameInfo, Image
from async_motion.errors import ImageError

MAX_SIDE = 1920
"""A longer side is reduced to this: above it not every phone decodes."""

_TICKS = 90_000
_CODECS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "crf": "23"}),
    ("libopenh264", {}),
)
_LAST_S = 1.0


def make_clip(frames: Sequence[FrameInfo], read: Callable[[FrameInfo], Image | None], target: Path) -> int:
    """Write the clip; return how many frames it has. Frames that `read` has no picture of are left out.

    The first picture's size is that of the clip; others are fitted into it. The file appears whole or not at
    all. Raises ImageError where there is no picture, or no encoder; OSError.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        count = _write(frames, read, part)
        part.replace(target)
    except FFmpegError as exc:
        raise ImageError(f"{target.name}: {exc.strerror or type(exc).__name__}") from exc
    finally:
        part.unlink(missing_ok=True)
    return count


def _write(frames: Sequence[FrameInfo], read: Callable[[FrameInfo], Image | None], target: Path) -> int:
    first = frames[0].captured_at if frames else None
    count, at, last = 0, -1, None
    with av.open(os.fspath(target), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = None
        for frame in sorted(frames, key=lambda frame: (frame.captured_at, frame.seq)):
            picture = read(frame)
            if picture is None:
                continue
            if stream is None:
                stream, first = _open(container, picture), frame.captured_at
            assert first is not None
            # Two frames of one moment still need two times.
            at = max(at + 1, round((frame.captured_at - first).total_seconds() * _TICKS))
            last = _fitted(picture, stream.width, stream.height)
            _encode(container, stream, last, at)
            count += 1
        if stream is None or last is None:
            raise ImageError(f"{target.name}: no picture to make a clip of")
        _encode(container, stream, last, at + round(_LAST_S * _TICKS))
        container.mux(stream.encode(None))
    return count


def _open(container: Any, picture: Image) -> Any:
    height, width = picture.shape[:2]
    shrink = min(1.0, MAX_SIDE / max(width, height))
    for codec, options in _CODECS:
        try:
            stream = container.add_stream(codec, rate=30, options=options)
        except ValueError:
            continue
        stream.width, stream.height = (max(2, int(side * shrink) // 2 * 2) for side in (width, height))
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
        return stream
    raise ImageError("this PyAV has no H.264 encoder")


def _encode(container: Any, stream: Any, picture: Image, at: int) -> None:
    frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
    frame.pts, frame.time_base = at, Fraction(1, _TICKS)
    container.mux(stream.encode(frame))


def _fitted(picture: Image, width: int, height: int) -> Image:
    """Return the picture in this size, its shape kept, black around it."""
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    small = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas
