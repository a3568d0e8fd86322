"""The simplest methods of the field on the same footage: OpenCV and numpy, a few lines each.

Each factory is called as evaluate.py calls it, (width, height, fps, zone). It returns a function that takes a
BGR frame and its time in seconds and returns (None, share, mask). Motion is then decided from the mask, in
the same way for all: a blob of at least 0.1 % of the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from async_motion.core.detection.working_image import Plane, u8
from async_motion.core.model import Image

Verdict = tuple[None, float, Plane]
Look = Callable[[Image, float], Verdict]
Factory = Callable[[int, int, float, object], Look]

_SMALL = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_SQUARE = np.ones((3, 3), np.uint8)
_DIFFERENT = 25
"""Grey levels."""
_FOLLOWS = 0.02
"""Learning rate of the running average."""


def _look(mask_of: Callable[[Image], Plane]) -> Look:
    def look(frame: Image, _seconds: float) -> Verdict:
        mask = mask_of(frame)
        return None, float(np.count_nonzero(mask) / mask.size), mask

    return look


def _smooth(frame: Image) -> Plane:
    return u8(cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (5, 5), 0))


def _differs(one: Plane, other: Plane) -> Plane:
    return u8(cv2.threshold(cv2.absdiff(one, other), _DIFFERENT, 255, cv2.THRESH_BINARY)[1])


def _cleaned(mask: Plane) -> Plane:
    certain = u8(cv2.inRange(mask, 255, 255))  # 127 is shadow
    opened = cv2.morphologyEx(cv2.medianBlur(certain, 5), cv2.MORPH_OPEN, _SMALL)
    return u8(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _DISC))


def frame_difference(*_: object) -> Look:
    before: list[Plane] = []

    def mask_of(frame: Image) -> Plane:
        now = _smooth(frame)
        mask = _differs(now, before.pop() if before else now)
        before.append(now)
        return u8(cv2.dilate(mask, _SQUARE, iterations=2))

    return _look(mask_of)


def running_average(*_: object) -> Look:
    mean: list[Any] = []

    def mask_of(frame: Image) -> Plane:
        now = _smooth(frame)
        if not mean:
            mean.append(now.astype(np.float32))
        mask = _differs(now, u8(cv2.convertScaleAbs(mean[0])))
        cv2.accumulateWeighted(now, mean[0], _FOLLOWS)
        return u8(cv2.dilate(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _SMALL), _SQUARE))

    return _look(mask_of)


def mog2(*_: object) -> Look:
    model = cv2.createBackgroundSubtractorMOG2()
    return _look(lambda frame: u8(model.apply(frame)))


def mog2_cleaned(*_: object) -> Look:
    model = cv2.createBackgroundSubtractorMOG2()
    return _look(lambda frame: _cleaned(u8(model.apply(frame))))


def knn_cleaned(*_: object) -> Look:
    model = cv2.createBackgroundSubtractorKNN()
    return _look(lambda frame: _cleaned(u8(model.apply(frame))))


def cnt(*_: object) -> Look:
    model = vars(cv2)["bgsegm"].createBackgroundSubtractorCNT()
    return _look(lambda frame: u8(model.apply(frame)))


BASELINES: dict[str, tuple[str, Factory]] = {
    "frame_difference": ("frame difference", frame_difference),
    "running_average": ("running average", running_average),
    "mog2": ("MOG2", mog2),
    "mog2_cleaned": ("MOG2 + clean-up", mog2_cleaned),
    "knn_cleaned": ("KNN + clean-up", knn_cleaned),
}
"""Factory name -> (display name, factory)."""
if hasattr(cv2, "bgsegm"):  # only in opencv-contrib-python
    BASELINES["cnt"] = ("CNT", cnt)
