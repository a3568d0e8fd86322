"""USB and other V4L2 cameras through OpenCV.

OpenCV provides no PTS: a frame's time is that of its arrival.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from async_motion.capture.clock import PtsClock
from async_motion.capture.ffmpeg.frames import FramePicker
from async_motion.capture.handover import FrameSink
from async_motion.capture.spec import CaptureSpec
from async_motion.core.model import Frame, Image
from async_motion.errors import CameraRefused, CameraUnavailable


class Device(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's name
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Image]: ...
    def release(self) -> None: ...


def open_device(number: int) -> Device:
    """Open camera `number` and request 1280x720 MJPEG, which fits USB 2; the camera may ignore this."""
    device = cv2.VideoCapture(number, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    if device.isOpened():
        device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        device.set(cv2.CAP_PROP_FRAME_WIDTH, 1280)
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, 720)
        device.set(cv2.CAP_PROP_BUFFERSIZE, 2)
    return device  # type: ignore[return-value]  # OpenCV's stubs leave the dtype open


class UsbReader:
    """Reads one USB camera until it is unplugged or `sink.stopping`."""

    def __init__(self, number: int, spec: CaptureSpec, opener: Callable[[int], Device] = open_device) -> None:
        self._number = number
        self._spec = spec
        self._opener = opener

    def __call__(self, sink: FrameSink, clock: PtsClock) -> None:
        """Read until the camera is unplugged or `sink.stopping`. Raises CameraUnavailable, CameraRefused."""
        spec, shown = self._spec, f"usb:{self._number}"
        device = self._opener(self._number)
        try:
            if not device.isOpened():
                raise self._closed(shown)
            sink.reader_opened()
            picker = FramePicker(spec.fps)
            while not sink.stopping:
                if not device.grab():
                    raise CameraUnavailable(f"{shown}: gives no more frames; was it unplugged?")
                at = spec.monotonic()
                sink.reader_progress()
                if not picker.wants(at):
                    continue
                good, image = device.retrieve()
                if not good:
                    sink.reader_corrupt()
                    continue
                if image.shape[0] * image.shape[1] > spec.max_pixels:
                    raise CameraRefused(f"{shown}: frames of more than {spec.max_pixels} pixels")
                if not sink.reader_offer(self._frame(image, clock, at)):
                    return
        finally:
            # Release only in this thread: release() during another thread's read() is a segmentation fault.
            device.release()

    def _closed(self, shown: str) -> CameraUnavailable:
        path = Path(f"/dev/video{self._number}")
        if sys.platform == "linux" and path.exists():
            try:
                path.open("rb").close()
            except PermissionError:
                return CameraRefused(
                    f"{shown}: no permission to read {path}; is the user in the group video?"
                )
            except OSError:
                return CameraUnavailable(f"{shown}: {path} cannot be opened; does another program use it?")
        return CameraUnavailable(f"{shown}: no such camera is plugged in")

    def _frame(self, image: Image, clock: PtsClock, at: float) -> Frame:
        # OpenCV returns its own buffer, which the next frame overwrites.
        bgr = image.copy() if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        luma = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
        stamp = clock.stamp(at)
        return Frame(
            camera=self._spec.camera,
            captured_at=stamp.captured_at,
            monotonic=stamp.monotonic,
            luma=luma,
            bgr=partial(np.copy, bgr),
            nbytes=bgr.nbytes + luma.nbytes,
        )
