"""USB cameras, on a fake device."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.capture import CameraSource, CaptureSpec
from async_motion.capture.readers.usb import UsbReader, open_device
from async_motion.core.model import Image
from async_motion.errors import CameraRefused, CameraUnavailable
from tests.support.capture import read


class Webcam:
    """Return each of `images` in one reused buffer, as OpenCV does, then fail."""

    def __init__(self, images: list[Image], *, opened: bool = True) -> None:
        self.images = images
        self.opened = opened
        self.released = 0
        self.retrieved = 0
        self._next = 0
        self._buffer: Image = images[0].copy() if images else np.zeros((1, 1, 3), np.uint8)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened

    def grab(self) -> bool:
        if self._next >= len(self.images):
            return False
        self._next += 1
        return True

    def retrieve(self) -> tuple[bool, Image]:
        self.retrieved += 1
        self._buffer[...] = self.images[self._next - 1]
        return True, self._buffer

    def release(self) -> None:
        self.released += 1


def source(webcam: Webcam, **changes: object) -> CameraSource:
    values: dict[str, object] = {"fps": float("inf"), **changes}
    spec = CaptureSpec(camera="porch", source="usb:0", **values)  # type: ignore[arg-type]
    return CameraSource(spec, UsbReader(0, spec, lambda _number: webcam), live=True)


def images(count: int) -> list[Image]:
    return [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(count)]


def test_frames_keep_their_own_frames() -> None:
    webcam = Webcam(images(2))
    frames = read(source(webcam), 2)
    assert [int(frame.luma[0, 0]) for frame in frames] == [0, 10]
    assert [int(frame.bgr()[0, 0, 0]) for frame in frames] == [0, 10]
    assert webcam.released == 1


def test_an_unplugged_camera_is_unavailable() -> None:
    webcam = Webcam(images(1))
    with pytest.raises(CameraUnavailable, match="unplugged"):
        read(source(webcam))
    assert webcam.released == 1


def test_a_camera_that_is_not_there_is_unavailable() -> None:
    webcam = Webcam([], opened=False)
    with pytest.raises(CameraUnavailable, match=r"usb:0"):
        read(source(webcam))
    assert webcam.released == 1


def test_frames_that_are_not_wanted_are_not_converted() -> None:
    webcam = Webcam(images(20))
    with pytest.raises(CameraUnavailable):
        read(source(webcam, fps=0.5))
    assert webcam.retrieved == 1


def test_frames_that_are_too_large_are_refused() -> None:
    with pytest.raises(CameraRefused, match="pixels"):
        read(source(Webcam(images(1)), max_pixels=100))


def test_the_real_opener_says_no_for_what_is_not_there() -> None:
    device = open_device(63)
    assert device.isOpened() is False
    device.release()
