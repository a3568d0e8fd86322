"""Encode, decode and shrink JPEGs. Everything here blocks: call it in an executor.

An image is resized before it is encoded. To shrink a JPEG, it is decoded at 1/2, 1/4 or 1/8 of its size if
that is wide enough, which saves most of the decoder's work. The service sets OpenCV's number of threads.
"""

from __future__ import annotations

import cv2
import numpy as np

from async_motion.core.model import Image
from async_motion.core.options import JPEG_QUALITY
from async_motion.errors import ImageError

_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))

_WORST_QUALITY = 30
"""Minimum JPEG quality: below it, a smaller image looks better than a lower quality."""

_NARROWEST = 64
"""Minimum width in pixels; `shrink` fails if the JPEG is still too large at it."""


def encode(image: Image, quality: int = JPEG_QUALITY, max_width: int | None = None) -> tuple[bytes, int, int]:
    """Return (JPEG, width, height) of a uint8 image, (H, W, 3) BGR or (H, W) grey.

    `quality` is 1..100. An image wider than `max_width` pixels is reduced to that width, with its aspect
    ratio. The array is only read. Raises ImageError.
    """
    try:
        image = _bounded(image, max_width)
        done, jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    except cv2.error as exc:
        raise ImageError(f"cannot encode an image of shape {image.shape}: {exc.err}") from exc
    if not done:
        raise ImageError(f"cannot encode an image of shape {image.shape}")
    height, width = image.shape[:2]
    return jpeg.tobytes(), width, height


def decode(jpeg: bytes, at_least_width: int | None = None) -> Image:
    """Return a JPEG's image, (H, W, 3) BGR uint8; at a reduced size if that is still `at_least_width` wide.

    Raises ImageError.
    """
    flag = cv2.IMREAD_COLOR
    if at_least_width is not None:
        width, _ = dimensions(jpeg)
        flag = next((flag for by, flag in _REDUCED if width // by >= at_least_width), flag)
    try:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flag)
    except cv2.error as exc:
        raise ImageError(f"cannot decode a JPEG of {len(jpeg)} bytes: {exc.err}") from exc
    if image is None:
        raise ImageError(f"cannot decode a JPEG of {len(jpeg)} bytes")
    return np.asarray(image, dtype=np.uint8)


def shrink(jpeg: bytes, max_width: int, quality: int, max_bytes: int) -> bytes:
    """Return a JPEG at most `max_width` pixels wide and `max_bytes` long, as good as these allow.

    A JPEG that fits is returned unchanged. Otherwise it is encoded with `quality`, then with lower quality,
    then at smaller widths until it fits. Raises ImageError if it cannot be decoded, or never fits.
    """
    width, _ = dimensions(jpeg)
    if width <= max_width and len(jpeg) <= max_bytes:
        return jpeg
    target = min(width, max_width)
    image = decode(jpeg, target)
    while True:
        for at in (quality, (quality + _WORST_QUALITY) // 2, _WORST_QUALITY):
            smaller, _, _ = encode(image, min(quality, at), target)
            if len(smaller) <= max_bytes:
                return smaller
        if target <= _NARROWEST:
            raise ImageError(f"cannot make a JPEG of at most {max_bytes} bytes")
        target = max(_NARROWEST, target * 2 // 3)


def heat(plane: Image, gain: float) -> Image:
    """Return a (H, W) uint8 plane, times `gain`, as a (H, W, 3) BGR heat map from black via red to yellow."""
    scaled = cv2.convertScaleAbs(plane, alpha=gain)
    return np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO), dtype=np.uint8)


def dimensions(jpeg: bytes) -> tuple[int, int]:
    """Return (width, height) from a JPEG's header, without decoding it. Raises ImageError."""
    at = 2
    while jpeg[:2] == b"\xff\xd8" and at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        # The frame headers SOF0..SOF15; the markers DHT, JPG and DAC in this range are none.
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(jpeg[at + 5 : at + 7]), int.from_bytes(jpeg[at + 7 : at + 9])
            if width and height:
                return width, height
            break
        else:
            at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    raise ImageError(f"not a JPEG: {len(jpeg)} bytes")


def _bounded(image: Image, max_width: int | None) -> Image:
    height, width = image.shape[:2]
    if max_width is None or width <= max_width:
        return image
    size = (max_width, max(1, round(height * max_width / width)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
