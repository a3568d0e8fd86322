"""One camera's detector: its settings in force, its replacement, and what it has learned.

A detector is replaced when the settings, the codec or the shape of the frames change, or after a gap too long
to trust its background. Its successor takes over the learned state where it can.

A change of settings takes effect with the next frame: the detector may be at work in the executor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from async_motion.camera.offload import offload
from async_motion.core.detection.detector import TRUSTED_S, Detector, DetectorSettings
from async_motion.core.detection.working_image import Plane
from async_motion.core.events.camera_motion import CameraMotion, View
from async_motion.core.model import Detection, Frame, Luma, Reason, SceneChange
from async_motion.errors import FrameShapeError

log = logging.getLogger(__name__)

STALE_S = TRUSTED_S
"""After a gap of this length the background is no longer trusted unconditionally."""


class FrameDetector(Protocol):
    """A detector for one camera and one shape of frames."""

    def update(self, luma: Luma, monotonic: float) -> Detection:
        """Return the verdict on the next frame. Raises FrameShapeError when the shape changes."""


@runtime_checkable
class Learned(Protocol):
    """A detector whose learned state a successor can take over."""

    def state(self) -> bytes:
        """Return the learned state; empty before the first frame."""

    @classmethod
    def restore(cls, settings: DetectorSettings, state: bytes, *, away_s: float = 0.0) -> FrameDetector:
        """Return a detector with this state, `away_s` later. Raises ValueError where it does not fit."""


Health = Callable[[Luma, float], str | None]
"""(luma, monotonic) -> what is wrong with the image, or None. Pure."""

MakeDetector = Callable[[DetectorSettings], FrameDetector]


class DetectorHost:
    """Own one camera's detector, and judge its frames in `executor`, one at a time.

    `detector` has a learned state already and was made for `settings`. `is_placeholder`
    recognises an image that a recorder draws in place of the view. There, and while the camera turns,
    nothing is motion.
    """

    def __init__(
        self,
        camera: str,
        settings: DetectorSettings,
        *,
        executor: Executor,
        make_detector: MakeDetector = Detector,
        detector: FrameDetector | None = None,
        health: Health | None = None,
        is_placeholder: Callable[[Luma], bool] | None = None,
    ) -> None:
        self.settings = settings
        """The settings in force from the next frame on."""
        self._camera = camera
        self._executor = executor
        self._make_detector = make_detector
        self._health = health
        self._is_placeholder = is_placeholder
        self._camera_motion = CameraMotion()
        self.detector = detector or make_detector(settings)
        self._made_with = settings
        self._codec = ""
        """The codec of the frames that it has judged."""
        self._taught_at: datetime | None = None
        """The capture time of the last frame whose state `learned` has not returned yet."""
        self._lock = asyncio.Lock()

    async def judge(
        self, frame: Frame, *, detecting: bool, away_s: float
    ) -> tuple[Detection | None, str | None]:
        """Return (verdict, problem of the image); no verdict unless `detecting`.

        `away_s`: seconds without a judged frame before this one.
        """
        async with self._lock:
            before, self._codec = self._codec, frame.codec
            if before and before != frame.codec:
                log.info("%s: the stream is now %s; learning again", self._camera, frame.codec)
                self.detector, self._made_with = self._make_detector(self.settings), self.settings
            detector = self.detector if detecting else None
            settings = self.settings
            used, detection, problem = await offload(
                self._executor, self._judge, detector, frame, settings, away_s
            )
            if used is not None:
                self.detector, self._made_with = used, settings
                self._taught_at = frame.captured_at
        return detection, problem

    async def learned(self) -> tuple[bytes, datetime] | None:
        """Return the learned state and the capture time of its last frame; None without a new frame."""
        async with self._lock:
            detector, taught_at = self.detector, self._taught_at
            if taught_at is None or not isinstance(detector, Learned):
                return None
            state = await offload(self._executor, detector.state)
            self._taught_at = None
        return (state, taught_at) if state else None

    async def maps(self) -> Mapping[str, Plane]:
        """Return the detector's learned planes, by name; none before its first frame."""
        async with self._lock:
            detector = self.detector
            if not isinstance(detector, Detector):
                return {}
            return await offload(self._executor, detector.debug_maps)

    def adopt(self, changes: Mapping[str, Any]) -> None:
        """Change its settings from the next frame on. `changes` has passed `commands.checked`."""
        self.settings = replace(self.settings, **changes)

    def _judge(
        self, detector: FrameDetector | None, frame: Frame, settings: DetectorSettings, away_s: float
    ) -> tuple[FrameDetector | None, Detection | None, str | None]:
        """Return (the detector that was used, verdict, problem of the image). Blocks."""
        problem = self._health(frame.luma, frame.monotonic) if self._health is not None else None
        if detector is None:
            return None, None, problem
        if settings != self._made_with or away_s > STALE_S:
            detector = self._successor(detector, settings, max(away_s, 0.0))
        try:
            detection = detector.update(frame.luma, frame.monotonic)
        except FrameShapeError:
            height, width = frame.luma.shape
            log.info("%s: frames are now %dx%d; learning again", self._camera, width, height)
            detector = self._make_detector(settings)
            detection = detector.update(frame.luma, frame.monotonic)
        detector, detection = self._doubted(detector, frame, detection, settings)
        return detector, detection, problem

    def _doubted(
        self, detector: FrameDetector, frame: Frame, detection: Detection, settings: DetectorSettings
    ) -> tuple[FrameDetector, Detection]:
        """Return the detector for the next frame, and no motion where the camera turns or shows no view.

        Blocks.
        """
        view = self._camera_motion.update(frame.luma, frame.monotonic, detection)
        if view is View.MOVED:
            log.info("%s: the camera has turned; learning the new view", self._camera)
            detector = self._make_detector(settings)
            return detector, detector.update(frame.luma, frame.monotonic)
        if view is View.MOVING:
            kind = detection.scene_change or SceneChange.MOVED
            return detector, replace(detection, motion=False, reason=Reason.SCENE_CHANGE, scene_change=kind)
        if detection.motion and self._is_placeholder is not None and self._is_placeholder(frame.luma):
            still = replace(detection, motion=False, reason=Reason.STILL, score=0.0, boxes=(), zones=())
            return detector, still
        return detector, detection

    def _successor(self, detector: FrameDetector, settings: DetectorSettings, away_s: float) -> FrameDetector:
        """Return a detector for `settings` that takes over the state of `detector` where it can. Blocks."""
        if isinstance(detector, Learned) and (state := detector.state()):
            try:
                return detector.restore(settings, state, away_s=away_s)
            except ValueError as exc:
                log.debug("%s: the learned background does not fit: %s; learning again", self._camera, exc)
        return self._make_detector(settings)
