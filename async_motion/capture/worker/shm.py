"""Frames between two processes: written once into anonymous shared memory, and read in place.

A frame is sent as a sealed memory file (`memfd_create`): its handle is passed over a socket, with a message
that describes it. Each frame has memory of its own that lives as long as the frame: nothing is reused under a
reader, a kept frame needs no copy, and the limit on what a camera may hold (`Frame.nbytes`) works as in one
process. An anonymous file cannot be left behind: the kernel frees it with its last handle, however either
process ends.

The planes are sent as the decoder left them, with their display parameters, so that the reader can make an
image after the writer is gone. Frames in uncommon formats, and those that are BGR already, are sent as luma
and BGR. The reader trusts nothing: it checks sizes, and the seals keep the memory from changing.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from async_motion.capture.display import AS_CODED, MAX_ASPECT, Display
from async_motion.capture.ffmpeg.frames import PLANAR_LUMA, DecodedImage, rows_of, to_bgr
from async_motion.core.model import Frame, Image

Message = dict[str, Any]

BGR = "bgr"
"""In place of a pixel format: a luma plane, then a BGR plane."""

MAX_PADDING = 256
"""Padding bytes that a row may have: decoders align rows."""

MAX_CODEC = 32
"""The longest codec name accepted from the other process, in characters."""

MAP_FAILED = ctypes.c_void_p(-1).value


def share(parts: Sequence[Any]) -> int:
    """Return the handle of a sealed memory file that holds `parts` (buffers) one after the other."""
    handle = os.memfd_create("async_motion", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = [memoryview(part).cast("B") for part in parts]
        while left:
            done = os.writev(handle, left)
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if left:
                left[0] = left[0][done:]
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _seals())
    except BaseException:
        os.close(handle)
        raise
    return handle


def attach(handle: int, size: int) -> NDArray[np.uint8]:
    """Return the `size` bytes of a sealed memory file, read-only, without a copy.

    They live as long as a view of them does; the handle may be closed at once. Raises ValueError when the
    file has another size, or is not sealed.
    """
    if size <= 0 or os.fstat(handle).st_size != size:
        raise ValueError("the memory does not have the size of its message")
    try:
        seals = fcntl.fcntl(handle, fcntl.F_GET_SEALS)
    except OSError:  # not a memory file
        seals = 0
    if seals & _seals() != _seals():
        raise ValueError("the memory is not sealed")
    return np.asarray(_Mapping(handle, size))


def _seals() -> int:
    return fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class _Mapping:
    """A mapped memory file, unmapped with the last array that views it.

    Not `mmap.mmap`, which keeps a file handle open for each kept frame before Python 3.13.
    """

    def __init__(self, handle: int, size: int) -> None:
        self._size = size
        self._libc = _libc()
        self._address = 0
        # MAP_POPULATE: one call is cheaper than a page fault for each page of every frame.
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        address = self._libc.mmap(None, size, mmap.PROT_READ, flags, handle, 0)
        if address in (None, MAP_FAILED):
            raise MemoryError("no memory to map a frame")
        self._address = address

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "shape": (self._size,), "typestr": "|u1", "data": (self._address, True)}

    def __del__(self) -> None:
        if self._address:
            self._libc.munmap(self._address, self._size)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
        ctypes.c_ssize_t,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


def pack(frame: Frame) -> tuple[Message, int]:
    """Return (the message that describes a frame, the handle of its memory). The caller closes the handle."""
    decoded, display = None, AS_CODED
    if isinstance(frame.bgr, DecodedImage):
        decoded, display = frame.bgr.frame, frame.bgr.display
    message: Message = {
        "captured_at": frame.captured_at.timestamp(),
        "monotonic": frame.monotonic,
        "nbytes": frame.nbytes,
        "codec": frame.codec,
    }
    if (
        decoded is not None
        and decoded.format.name in PLANAR_LUMA
        and all(plane.line_size > 0 for plane in decoded.planes)
    ):
        message |= {
            "width": decoded.width,
            "height": decoded.height,
            "format": decoded.format.name,
            "planes": [(plane.height, plane.line_size) for plane in decoded.planes],
            "colours": (int(decoded.colorspace), int(decoded.color_range)),
            "display": (display.turns, display.mirrored, display.aspect, display.crop),
        }
        return message, share(decoded.planes)
    # Already converted for display. An image may be larger than its luma: its pixels are square.
    luma, image = np.ascontiguousarray(frame.luma), np.ascontiguousarray(frame.bgr())
    message |= {
        "width": luma.shape[1],
        "height": luma.shape[0],
        "format": BGR,
        "planes": [luma.shape, (image.shape[0], image.shape[1] * 3)],
        "colours": (0, 0),
        "display": (0, False, 1.0, (0, 0, 0, 0)),
    }
    return message, share([luma, image])


def unpack(message: Message, handle: int, *, camera: str, max_pixels: int) -> Frame:
    """Return the frame in the memory of `handle`. Raises ValueError, KeyError or TypeError if malformed."""
    height, width = int(message["height"]), int(message["width"])
    planes = [(int(rows), int(stride)) for rows, stride in message["planes"]]
    monotonic, captured_at = float(message["monotonic"]), float(message["captured_at"])
    if not (0 < height * width <= max_pixels and height > 0 and isfinite(monotonic)):
        raise ValueError("a frame of impossible size or time")
    if planes[0][0] != height or planes[0][1] < width or min(map(min, planes)) <= 0:
        raise ValueError("planes that do not fit their frame")
    name = message["format"]
    nbytes = sum(rows * stride for rows, stride in planes)
    # Luma and BGR are four bytes a pixel. Mapping allocates every page, even of a sparse file.
    pixels = height * (width + MAX_PADDING)
    if name == BGR:
        pixels = max(pixels, -(-planes[-1][0] * planes[-1][1] // 3))
        if planes[-1][0] * planes[-1][1] > 3 * max_pixels:
            raise ValueError("an image of impossible size")
    if nbytes > 4 * pixels:
        raise ValueError("more memory than the frame needs")
    display = _display_of(message["display"])
    block = attach(handle, nbytes)
    views: list[NDArray[np.uint8]] = []
    at = 0
    for rows, stride in planes:
        views.append(block[at : at + rows * stride].reshape(rows, stride))
        at += rows * stride
    if name == BGR:
        image = views[1].reshape(planes[1][0], -1, 3)
        bgr: Any = lambda: image  # noqa: E731
    elif name in PLANAR_LUMA:
        colorspace, color_range = (int(value) for value in message["colours"])
        if len(planes) != _planes_of(name) or colorspace not in range(256) or color_range not in range(3):
            raise ValueError("planes or colours that no decoder has")
        bgr = SharedImage(views, width, name, colorspace, color_range, display, max_pixels)
    else:
        raise ValueError("an unknown format")
    luma = views[0][:, :width]
    return Frame(
        camera=camera,
        captured_at=_moment(captured_at),
        monotonic=monotonic,
        luma=luma if display.as_coded else display.luma(luma),
        bgr=bgr,
        nbytes=block.nbytes,
        codec=str(message["codec"])[:MAX_CODEC],
    )


@cache
def _planes_of(name: str) -> int:
    return len(VideoFrame(2, 2, name).planes)


def _moment(at: float) -> datetime:
    """Return a Unix time as a datetime. Raises ValueError if it is out of range."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except OSError:
        raise ValueError("a time out of range") from None


def _display_of(values: Any) -> Display:
    """Return a frame's display parameters. Raises ValueError or TypeError if malformed."""
    turns, mirrored, aspect, (left, top, right, bottom) = values
    crop = int(left), int(top), int(right), int(bottom)
    display = Display(int(turns), bool(mirrored), float(aspect), crop)
    if (
        display.turns not in range(4)
        or not 1 / MAX_ASPECT <= display.aspect <= MAX_ASPECT
        or min(display.crop) < 0
    ):
        raise ValueError("invalid display parameters")
    return display


class SharedImage:
    """Converts to BGR the planes of a frame that another process has decoded."""

    __slots__ = ("_colorspace", "_display", "_format", "_max_pixels", "_planes", "_range", "_width")

    def __init__(
        self,
        planes: list[NDArray[np.uint8]],
        width: int,
        pixel_format: str,
        colorspace: int,
        color_range: int,
        display: Display,
        max_pixels: int,
    ) -> None:
        self._planes = planes
        self._width = width
        self._format = pixel_format
        self._colorspace = colorspace
        self._range = color_range
        self._display = display
        self._max_pixels = max_pixels

    def __call__(self) -> Image:
        frame = VideoFrame(self._width, len(self._planes[0]), self._format)
        for plane, shared in zip(frame.planes, self._planes, strict=True):
            own = rows_of(plane)
            rows, stride = min(len(own), len(shared)), min(own.shape[1], shared.shape[1])
            own[:rows, :stride] = shared[:rows, :stride]
        frame.colorspace = self._colorspace
        frame.color_range = self._range
        image = to_bgr(frame)
        return image if self._display.as_coded else self._display.image(image, self._max_pixels)
