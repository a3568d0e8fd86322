"""How a coded frame is displayed: cropping, rotation, mirroring and pixel aspect ratio.

They come from a container's clean aperture, display matrix (ISO/IEC 14496-12, 12.1.4 and 8.5.2) and pixel
aspect ratio, from a still's EXIF orientation, or from a codec's own fields. Detection, masks, zones, boxes
and stills all refer to the displayed image. Areas are shares of the frame, so detection needs no square
pixels: luma is only cropped, mirrored and turned, while images are also stretched.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np

from async_motion.core.model import Image, Luma

MAX_PIXELS = 1 << 25
"""The default bound on the pixels of a stretched image."""

MAX_ASPECT = 4.0
"""The maximum pixel aspect ratio of a camera: a larger one is damaged data."""

MAX_CHUNKS = 4096
"""How many chunks of a still are searched for its EXIF data."""

_CLOCKWISE = {1: cv2.ROTATE_90_CLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True)
class Display:
    """Display parameters: crop, then mirror left to right, then turn clockwise by `turns` quarter turns.

    `aspect` is the width of a coded pixel over its height. `crop` is how many pixels of the coded frame are
    not displayed at its left, top, right and bottom.
    """

    turns: int = 0
    mirrored: bool = False
    aspect: float = 1.0
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def as_coded(self) -> bool:
        """Whether a frame is displayed as it is coded."""
        return self == AS_CODED

    def luma(self, luma: Luma) -> Luma:
        """Return `luma` (H, W) as displayed: a view of it if it is neither mirrored nor turned."""
        return np.asarray(self._turned(self._cropped(luma)), np.uint8)

    def image(self, image: Image, max_pixels: int = MAX_PIXELS) -> Image:
        """Return a BGR image (H, W, 3) as displayed, with square pixels unless above `max_pixels`."""
        image = self._cropped(image)
        height, width = image.shape[:2]
        if self.aspect > 1.0:
            size = (round(width * self.aspect), height)
        else:
            size = (width, round(height / self.aspect))
        if size != (width, height) and size[0] * size[1] <= max_pixels:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.asarray(self._turned(image), np.uint8)

    def _cropped(self, pixels: Image) -> Image:
        left, top, right, bottom = self.crop
        height, width = pixels.shape[:2]
        if left + right >= width or top + bottom >= height:
            return pixels  # a crop that leaves nothing is damaged data
        return pixels[top : height - bottom, left : width - right]

    def _turned(self, pixels: Image) -> Image:
        if self.mirrored:
            pixels = np.asarray(cv2.flip(pixels, 1), np.uint8)
        if self.turns:
            pixels = np.asarray(cv2.rotate(pixels, _CLOCKWISE[self.turns]), np.uint8)
        return pixels


AS_CODED = Display()

_BY_ORIENTATION = {
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (3, True),
    6: (1, False),
    7: (1, True),
    8: (3, False),
}
"""EXIF's orientation -> (turns, mirrored). 1 is as coded."""


def by_matrix(matrix: bytes) -> tuple[int, bool]:
    """Return (turns, mirrored) of a display matrix: nine 32-bit integers in native byte order."""
    if len(matrix) != 36:
        return 0, False
    a, b, _, c, d = struct.unpack("=9i", matrix)[:5]
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if abs(a) >= abs(b):
        return (0 if a >= 0 else 2), mirrored
    return (1 if b > 0 else 3), mirrored


def by_exif(still: bytes | memoryview) -> tuple[int, bool]:
    """Return (turns, mirrored) from the EXIF orientation of a JPEG, PNG or WebP; (0, False) without one."""
    head = bytes(still[:8])
    if head.startswith(b"\xff\xd8"):
        tiff = _tiff_of_jpeg(bytes(still[:65536]))
    elif head == b"\x89PNG\r\n\x1a\n":
        tiff = _chunk(still, b"eXIf", start=8, png=True)
    elif head.startswith(b"RIFF"):
        tiff = _chunk(still, b"EXIF", start=12, png=False)
    else:
        tiff = b""
    return _BY_ORIENTATION.get(_tag(tiff.removeprefix(b"Exif\0\0")) or 1, (0, False))


def aspect_of(ratio: object) -> float:
    """Return a pixel aspect ratio as a number, 1.0 if it is unknown or impossible."""
    numerator, denominator = getattr(ratio, "numerator", 0), getattr(ratio, "denominator", 0)
    if (
        not (isinstance(numerator, int) and isinstance(denominator, int))
        or numerator <= 0
        or denominator <= 0
    ):
        return 1.0
    aspect = numerator / denominator
    return aspect if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1.0


def _tiff_of_jpeg(jpeg: bytes) -> bytes:
    """Return the TIFF structure in a JPEG's APP1 segment, empty without one."""
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4])
        if marker == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
            return jpeg[at + 10 : at + 2 + length]
        if not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            return b""  # the application segments come first
        at += 2 + length
    return b""


def _chunk(still: bytes | memoryview, name: bytes, *, start: int, png: bool) -> bytes:
    """Return the first 64 KiB of a PNG's or a RIFF file's chunk of this name, empty without one."""
    at = start
    for _ in range(MAX_CHUNKS):
        head = bytes(still[at : at + 8])
        if len(head) < 8:
            break
        if png:
            length, found, end = int.from_bytes(head[:4]), head[4:], 4  # a checksum follows
        else:
            length, found = int.from_bytes(head[4:], "little"), head[:4]
            end = length % 2  # padded to an even length
        if found == name:
            return bytes(still[at + 8 : at + 8 + min(length, 65536)])
        at += 8 + length + end
    return b""


def _tag(tiff: bytes) -> int | None:
    """Return the orientation (tag 0x0112) in a TIFF structure, None without one."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for number in range(min(count, 512)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * number)
            if tag == 0x0112:
                return int(value) if kind == 3 else None
    except struct.error:
        return None
    return None
