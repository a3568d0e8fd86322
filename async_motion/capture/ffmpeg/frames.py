"""From a decoder's frame to ours: the luma plane without a copy, the colour image only on demand."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from async_motion.capture.clock import Stamp
from async_motion.capture.display import AS_CODED, MAX_PIXELS, Display
from async_motion.core.model import Frame, Image, Luma
from async_motion.errors import CameraRefused

PLANAR_LUMA = frozenset(
    {"gray", "nv12", "nv21", "nv16", "nv24", "yuv410p", "yuv411p", "yuv420p", "yuv422p", "yuv440p", "yuv444p"}
    | {"yuvj411p", "yuvj420p", "yuvj422p", "yuvj440p", "yuvj444p", "yuva420p", "yuva422p", "yuva444p"}
)
"""Pixel formats whose first plane is 8-bit luma, one byte for each pixel."""

HD_HEIGHT = 720
"""A stream without a colour space, or with one that cannot be converted, is taken as BT.709 from this height
on, else as BT.601."""

UNSPECIFIED = 2
"""AVCOL_SPC_UNSPECIFIED."""

_ROUNDING_S = 1e-6
"""A frame that is a quarter of a step early is not picked, whatever the rounding of its time."""

DEEPEST = 16
"""Maximum bits of a sample. On some deeper formats, FFmpeg's scaler ends the process with an assertion."""


def luma_of(frame: VideoFrame) -> Luma:
    """Return the luma plane (H, W) uint8 of a decoded frame, read-only; a view for the usual formats.

    The view keeps the frame's buffer alive, and its rows may be padded. Raises CameraRefused for a pixel
    format that cannot be converted.
    """
    if frame.format.name not in PLANAR_LUMA:
        frame = _converted(frame, "gray")
    plane = frame.planes[0]
    rows = rows_of(plane)
    luma = rows[:, : plane.width]
    luma.flags.writeable = False
    return luma


def bytes_of(frame: VideoFrame) -> int:
    """Return the memory that a decoded frame occupies, in bytes."""
    return sum(plane.buffer_size for plane in frame.planes)


def to_bgr(frame: VideoFrame) -> Image:
    """Return the (H, W, 3) uint8 BGR image of a decoded frame as coded, not turned, in a new array.

    Raises CameraRefused for a pixel format that cannot be converted.
    """
    unnamed = frame.colorspace == UNSPECIFIED and frame.height >= HD_HEIGHT
    converted = _converted(frame, "bgr24", Colorspace.ITU709.value if unnamed else None)
    plane = converted.planes[0]
    rows = rows_of(plane)
    return np.ascontiguousarray(rows[:, : plane.width * 3]).reshape(plane.height, plane.width, 3)


def _converted(frame: VideoFrame, name: str, colorspace: int | None = None) -> VideoFrame:
    if all(component.bits <= DEEPEST for component in frame.format.components):
        usual = Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601
        # Cameras also name reserved spaces, and some that FFmpeg's scaler does not support.
        for source in (colorspace, usual.value):
            with suppress(av.FFmpegError, ValueError):
                return frame.reformat(format=name, src_colorspace=source, threads=1)
    raise CameraRefused(f"frames in the format {frame.format.name} cannot be converted")


def rows_of(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return a plane as (H, bytes of a padded row), top row first, without a copy."""
    # PyAV's stubs do not declare that a plane is a buffer.
    rows = np.frombuffer(cast(memoryview, plane), np.uint8).reshape(plane.height, abs(plane.line_size))
    return rows if plane.line_size > 0 else rows[::-1]


class DecodedImage:
    """The `bgr` of a frame that is already decoded."""

    __slots__ = ("_lock", "_max_pixels", "display", "frame")

    def __init__(self, frame: VideoFrame, display: Display, max_pixels: int) -> None:
        self.frame = frame
        self.display = display
        self._max_pixels = max_pixels
        # Converting changes the frame's tags for a moment: two threads must not do so at once.
        self._lock = threading.Lock()

    def __call__(self) -> Image:
        with self._lock:
            image = to_bgr(self.frame)
        return image if self.display.as_coded else self.display.image(image, self._max_pixels)


def frame_of(
    camera: str,
    stamp: Stamp,
    decoded: VideoFrame,
    *,
    max_pixels: int = MAX_PIXELS,
    codec: str = "",
    display: Display = AS_CODED,
) -> Frame:
    """Return our frame for a decoder's, with `display` applied.

    Raises CameraRefused for a pixel format that cannot be converted.
    """
    luma = luma_of(decoded)
    return Frame(
        camera=camera,
        captured_at=stamp.captured_at,
        monotonic=stamp.monotonic,
        luma=luma if display.as_coded else display.luma(luma),
        bgr=DecodedImage(decoded, display, max_pixels),
        nbytes=bytes_of(decoded),
        codec=codec,
    )


class FramePicker:
    """Chooses `fps` frames a second by their time, those nearest to an even pace.

    The pace begins with the first frame and goes on through gaps. So `decode: auto`, which shows few frames
    while it idles, picks the frames that `all` picks once it is woken.
    """

    def __init__(self, fps: float) -> None:
        self._step = 1.0 / fps
        self._due: float | None = None

    def wants(self, at: float) -> bool:
        """Return whether to hand out the frame at time `at` (seconds), and count it if so."""
        if not self.would_want(at):
            return False
        if self._due is None or self._is_back(at):
            self._due = at
        # Lost time is not made up with a burst.
        self._due += (self._steps_past(at) + 1) * self._step
        return True

    def would_want(self, at: float) -> bool:
        """Return the same as `wants` would, without counting."""
        return self._due is None or self._is_back(at) or self._steps_past(at) >= 0

    def _steps_past(self, at: float) -> int:
        """Return how many steps `at` is past what is due; a frame may be up to a quarter of a step early."""
        assert self._due is not None
        if not self._step:
            return 0
        return math.floor((at - self._due + self._step / 4 - _ROUNDING_S) / self._step)

    def _is_back(self, at: float) -> bool:
        """Return whether time has jumped back."""
        return self._due is not None and at < self._due - 2.5 * self._step
