"""Camera motion: a pan, a tilt or a zoom is no motion in front of the camera.

The detector undoes a shake, and recognises a camera that was turned between two frames. A camera that turns
for seconds shows new background in every frame. Here each frame is compared with earlier ones: optical flow
follows corners, and RANSAC fits one similarity transform. Where it explains nearly all corners, in all
quarters of the image, the camera moved. An object moves only the corners it covers.

    moving     earlier frames show the same view, and the shift grows in one direction; then, for at most
               `SETTLE_S`, until the image is still
    moved      it is still again and shows another view than before the movement: start a new detector
    steady     everything else

How much of the image differs from the background does not tell a new view: a slow pan teaches the detector
on the way.

It costs about 0.1 ms a frame, and 3 to 8 ms for a frame with motion that differs much from the background.
Pure; time is that of the frames.
"""

from __future__ import annotations

import itertools
from collections import deque
from enum import Enum
from typing import NamedTuple, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.model import Detection, Luma, Reason

Points: TypeAlias = NDArray[np.float32]

WIDTH = 160
"""Width of the small copies; the height follows from the image's shape."""

PAST_S = (0.0, 0.5, 2.0)
"""Ages of the frames to compare with: a slow pan shows only over time."""

STEP_S = 0.1
"""The shortest interval between two copies that are kept."""

MAX_CORNERS = 120
MIN_CORNERS = 16
COMMON = 0.85
"""The minimum share of corners that the transform explains."""

QUARTER = 0.6
"""The same in each quarter with enough corners: around a lorry the street stands still."""

MIN_IN_QUARTER, MIN_QUARTERS = 3, 3
MIN_SHIFT, NO_SHAKE = 0.01, 0.1
"""Shifts as shares of the width: the smallest that counts, and the one that needs no second frame."""

CHANGED = 0.06
"""Frames with a smaller share of changed pixels are not compared."""

NEAR_PX = 1.0
"""RANSAC's threshold in pixels of the small copy."""

CALM_JUMP = 0.05
"""The image is still when less of it differs from the frame before."""

SETTLE_S = 2.0
GAP_S = 5.0
"""Frames before a gap of this length are not compared."""


class View(Enum):
    """What the camera's view does."""

    STEADY = "steady"
    MOVING = "moving"
    MOVED = "moved"


class _Copy(NamedTuple):
    at: float
    image: Luma


class CameraMotion:
    """Follows one camera. Keep it over reconnects."""

    def __init__(self) -> None:
        self._copies: deque[_Copy] = deque()
        self._shift: Points | None = None
        """The shift from the frame before, when frames were last compared."""
        self._before: _Copy | None = None
        """The view before the movement."""
        self._moving_until: float | None = None
        """The time at which the view counts as settled at the latest; None while the camera is steady."""

    def update(self, luma: Luma, monotonic: float, detection: Detection) -> View:
        """Return what the view does, from a frame (H, W) and its verdict; the array is only read.

        MOVED is returned once, when the movement is over and the view is a new one.
        """
        copy = _Copy(monotonic, _small(luma))
        if self._copies:
            last = self._copies[-1]
            if last.image.shape != copy.image.shape or not 0 <= monotonic - last.at <= GAP_S:
                self._copies.clear()
                self._shift = self._moving_until = None
        view = self._judge(copy, detection)
        self._copies.append(copy)
        while len(self._copies) > 2 and self._copies[1].at <= monotonic - max(PAST_S):
            self._copies.popleft()
        if len(self._copies) > 2 and self._copies[-2].at - self._copies[-3].at < STEP_S:
            del self._copies[-2]
        return view

    def _judge(self, copy: _Copy, detection: Detection) -> View:
        seems_moving = detection.reason in (Reason.MOTION, Reason.DEBOUNCE, Reason.ABOVE_AREA)
        doubted = (seems_moving or self._moving_until is not None) and detection.changed >= CHANGED
        if doubted and self._turns(copy):
            if self._moving_until is None:
                self._before = self._copies[0]
            self._moving_until = copy.at + SETTLE_S
            return View.MOVING
        if self._moving_until is None:
            return View.STEADY
        if detection.jump > CALM_JUMP and copy.at < self._moving_until:
            return View.MOVING
        self._moving_until = None
        return View.MOVED if self._is_another(copy, detection) else View.STEADY

    def _is_another(self, copy: _Copy, detection: Detection) -> bool:
        """Return whether the view after a movement is not the one before it."""
        assert self._before is not None
        shift = _shift_of(self._before.image, copy.image)
        if shift is None:
            return detection.changed >= CHANGED
        return bool(_length(shift) >= MIN_SHIFT * copy.image.shape[1])

    def _turns(self, copy: _Copy) -> bool:
        """Return whether the shift grows in one direction: a shake goes back and forth."""
        shifts = [
            shift for past in self._past(copy.at) if (shift := _shift_of(past.image, copy.image)) is not None
        ]
        before, self._shift = self._shift, shifts[0] if shifts else None
        if not shifts:
            return False
        lengths = [_length(shift) for shift in shifts]
        width = copy.image.shape[1]
        if max(lengths) >= NO_SHAKE * width:
            return True
        onwards = all(
            float((old * new).sum()) > 0
            for old, new in itertools.pairwise([*([] if before is None else [before]), *shifts])
        )
        grows = all(younger <= older * 1.25 for younger, older in itertools.pairwise(lengths))
        # A slow pan shows in three frames of the past at once, a faster one in two comparisons.
        known = before is not None or len(shifts) == len(PAST_S)
        return known and onwards and grows and max(lengths) >= MIN_SHIFT * width

    def _past(self, now: float) -> list[_Copy]:
        found: list[_Copy] = []
        for age in PAST_S:
            old = [past for past in self._copies if now - past.at >= age]
            if old and all(old[-1] is not one for one in found):
                found.append(old[-1])
        return found


def _small(luma: Luma) -> Luma:
    """Return a copy of the image, `WIDTH` wide or less."""
    step = max(1, luma.shape[1] // (2 * WIDTH))
    part = luma[::step, ::step]
    size = (min(WIDTH, part.shape[1]), max(1, round(part.shape[0] * min(1.0, WIDTH / part.shape[1]))))
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


def _shift_of(before: Luma, after: Luma) -> Points | None:
    """Return how four points shift, (4, 2) in pixels, if `after` is `before` moved, rotated or scaled."""
    height, width = after.shape
    corners = cast("NDArray[np.float32] | None", cv2.goodFeaturesToTrack(before, MAX_CORNERS, 0.02, 4))
    if corners is None or len(corners) < MIN_CORNERS:
        return None
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    guessed, _ = cv2.phaseCorrelate(before.astype(np.float32), after.astype(np.float32), window)
    guess = corners + np.array(guessed, np.float32)
    found, kept, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, guess, winSize=(11, 11), maxLevel=2, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    start, end = (np.asarray(points, np.float32).reshape(-1, 2) for points in (corners, found))
    followed = (kept.ravel() == 1) & _inside(end, width, height)
    if followed.sum() < MIN_CORNERS:
        return None
    matrix, _ = cv2.estimateAffinePartial2D(start[followed], end[followed], ransacReprojThreshold=NEAR_PX)
    if matrix is None:
        return None
    expected = start @ matrix[:, :2].T + matrix[:, 2]
    # Corners that left the image do not count. Corners lost within it count against the transform.
    seen = _inside(expected, width, height)
    common = followed & (np.linalg.norm(end - expected, axis=1) <= 2 * NEAR_PX)
    if seen.sum() < MIN_CORNERS or common[seen].mean() < COMMON:
        return None
    right, lower = expected[:, 0] >= width / 2, expected[:, 1] >= height / 2
    quarters = [seen & (right == one) & (lower == other) for one in (False, True) for other in (False, True)]
    shares = [float(common[quarter].mean()) for quarter in quarters if quarter.sum() >= MIN_IN_QUARTER]
    if len(shares) < MIN_QUARTERS or min(shares) < QUARTER:
        return None
    points = np.array([(x, y) for x in (0.25, 0.75) for y in (0.25, 0.75)], np.float32) * (width, height)
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2] - points, np.float32)


def _length(shift: Points) -> float:
    return float(np.linalg.norm(shift, axis=1).mean())


def _inside(points: NDArray[np.floating], width: int, height: int) -> NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points < (width, height))).all(axis=1))
