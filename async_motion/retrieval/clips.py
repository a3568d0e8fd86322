"""Encode an event's frames as a clip: H.264 in MP4, each frame at its capture time. All functions block.

For all browsers: yuv420p, even width and height, `moov` at the front of the file (faststart). The PTS are
capture times, so a clip has a variable frame rate and the event's duration. The last frame is shown for one
second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.error import FFmpegError

from async_motion.core.model import FrameInfo, Image
from async_motion.errors import ImageError

MAX_SIDE = 1920
"""Larger images are scaled down to this longer side, in pixels: not every phone decodes more."""

_TICKS = 90_000
_CODECS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "crf": "23"}),
    ("libopenh264", {}),
)
_LAST_S = 1.0


def make_clip(frames: Sequence[FrameInfo], read: Callable[[FrameInfo], Image | None], target: Path) -> int:
    """Write the clip; return how many frames it has. Frames for which `read` returns None are left out.

    The first image sets the clip's size; others are fitted into it. The file is renamed into place once it is
    complete. Raises ImageError if there is no image or no encoder, OSError.
    """
    first = None
    with ClipWriter(target) as clip:
        for frame in sorted(frames, key=lambda frame: (frame.captured_at, frame.seq)):
            image = read(frame)
            if image is None:
                continue
            first = first or frame.captured_at
            clip.add(image, (frame.captured_at - first).total_seconds())
        return clip.finish()


class ClipWriter:
    """Writes images as a clip, one by one. Without `finish` no file is left.

    `threads` is the encoder's number of threads, 0: its default. The encoded bytes depend on it.
    """

    def __init__(self, target: Path, *, threads: int = 0) -> None:
        """Open nothing yet: the first image sets the clip's size."""
        self._target = target
        self._part = target.with_name(f".{target.name}.part")
        self._threads = threads
        self._container: Any = None
        self._stream: Any = None
        self._last: Image | None = None
        self._at = -1
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._container is not None:
                with suppress(FFmpegError):  # the incomplete file is deleted below
                    self._container.close()
        finally:
            self._part.unlink(missing_ok=True)

    def add(self, image: Image, at_s: float) -> None:
        """Add an image, (H, W, 3) BGR uint8, shown from `at_s` on: seconds after the first image.

        Raises ImageError, OSError.
        """
        with self._translating():
            if self._stream is None:
                self._container = av.open(
                    os.fspath(self._part), "w", format="mp4", options={"movflags": "+faststart"}
                )
                self._stream = _open(self._container, image, self._threads)
            # PTS must increase, even for two frames of the same time.
            self._at = max(self._at + 1, round(at_s * _TICKS))
            self._last = _fitted(image, self._stream.width, self._stream.height)
            _encode(self._container, self._stream, self._last, self._at)
        self._count += 1

    def finish(self, last_s: float = _LAST_S) -> int:
        """Show the last image for `last_s`, rename the file into place; return how many images it has.

        Raises ImageError if there is none, OSError.
        """
        if self._stream is None or self._last is None:
            raise ImageError(f"{self._target.name}: no image to make a clip of")
        with self._translating():
            _encode(self._container, self._stream, self._last, self._at + max(1, round(last_s * _TICKS)))
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._container = None
        self._part.replace(self._target)
        return self._count

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as exc:
            raise ImageError(f"{self._target.name}: {exc.strerror or type(exc).__name__}") from exc


def _open(container: Any, image: Image, threads: int) -> Any:
    height, width = image.shape[:2]
    shrink = min(1.0, MAX_SIDE / max(width, height))
    for codec, options in _CODECS:
        try:
            stream = container.add_stream(codec, rate=30, options=options)
        except ValueError:
            continue
        stream.width, stream.height = (max(2, int(side * shrink) // 2 * 2) for side in (width, height))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = threads
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
        return stream
    raise ImageError("this PyAV has no H.264 encoder")


def _encode(container: Any, stream: Any, image: Image, at: int) -> None:
    frame = av.VideoFrame.from_ndarray(image, format="bgr24")
    frame.pts, frame.time_base = at, Fraction(1, _TICKS)
    container.mux(stream.encode(frame))


def _fitted(image: Image, width: int, height: int) -> Image:
    """Return the image in this size with its aspect ratio kept, centred on black."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas
