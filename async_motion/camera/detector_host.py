"""The detector that one camera uses: its settings in force, when it is replaced, and what it has learned.

A detector is replaced when the settings, the codec or the shape of the frames change, or after an absence
that its background cannot be trusted over. Its successor takes over what it knows, where it can.

Changing a setting only notes it: the detector may be at work in the executor, so the next frame finds one
that fits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from async_motion.camera.offload import offload
from async_motion.core.detection.detector import TRUSTED_S, Detector, DetectorSettings
from async_motion.core.detection.working_image import Plane
from async_motion.core.model import Detection, Frame, Luma
from async_motion.errors import FrameShapeError

log = logging.getLogger(__name__)

STALE_S = TRUSTED_S
"""A background that has not been updated for so long is not trusted after a gap without a doubt."""


class FrameDetector(Protocol):
    """A detector for one camera and one shape of frames."""

    def update(self, luma: Luma, monotonic: float) -> Detection:
        """Return the verdict on the next frame. Raises FrameShapeError when the shape changes."""


@runtime_checkable
class Learned(Protocol):
    """A detector whose knowledge of the scene a successor can take over."""

    def state(self) -> bytes:
        """Return what was learned; empty before the first frame."""

    @classmethod
    def restore(cls, settings: DetectorSettings, state: bytes, *, away_s: float = 0.0) -> FrameDetector:
        """Return a detector that knows it, `away_s` later. Raises ValueError where it cannot be used."""


Health = Callable[[Luma, float], str | None]
"""(luma, monotonic) -> what is wrong with the image, or None. Pure."""

MakeDetector = Callable[[DetectorSettings], FrameDetector]


class DetectorHost:
    """Hold one camera's detector, and judge its frames with it, in `executor`, one at a time.

    `detector` is one that knows the scene already, made for `settings`.
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
    ) -> None:
        self.settings = settings
        """The settings in force from the next frame on."""
        self._camera = camera
        self._executor = executor
        self._make_detector = make_detector
        self._health = health
        self.detector = detector or make_detector(settings)
        self._made_with = settings
        self._codec = ""
        """How the frames that it has seen were encoded."""
        self._taught_at: datetime | None = None
        """When the last frame was captured that `learned` has not returned yet."""
        self._lock = asyncio.Lock()

    async def judge(
        self, frame: Frame, *, detecting: bool, away_s: float
    ) -> tuple[Detection | None, str | None]:
        """Return (verdict, problem of the image); no verdict unless `detecting`.

        `away_s`: no frame was judged for so long before this one.
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
        """Return what the detector knows and when its last frame was captured; None where nothing is new."""
        async with self._lock:
            detector, taught_at = self.detector, self._taught_at
            if taught_at is None or not isinstance(detector, Learned):
                return None
            state = await offload(self._executor, detector.state)
            self._taught_at = None
        return (state, taught_at) if state else None

    async def maps(self) -> Mapping[str, Plane]:
        """Return pictures of what the detector knows, by name; none before its first frame."""
        async with self._lock:
            detector = self.detector
            if not isinstance(detector, Detector):
                return {}
            return await offload(self._executor, detector.debug_maps)

    def adopt(self, changes: Mapping[str, Any]) -> None:
        """Change its settings from the next frame on. `changes` has passed `commands.checked`."""
        self.settings = dataclasses.replace(self.settings, **changes)

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
            return detector, detector.update(frame.luma, frame.monotonic), problem
        except FrameShapeError:
            height, width = frame.luma.shape
            log.info("%s: frames are now %dx%d; learning again", self._camera, width, height)
            detector = self._make_detector(settings)
            return detector, detector.update(frame.luma, frame.monotonic), problem

    def _successor(self, detector: FrameDetector, settings: DetectorSettings, away_s: float) -> FrameDetector:
        """Return a detector for `settings` that knows what `detector` knew, where it can. Blocks."""
        if isinstance(detector, Learned) and (state := detector.state()):
            try:
                return detector.restore(settings, state, away_s=away_s)
            except ValueError as exc:
                log.debug("%s: what was learned cannot be taken over: %s", self._camera, exc)
        return self._make_detector(settings)
