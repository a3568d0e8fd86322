"""From differing pixels to the things that move: cleaning, connected regions, confirmation over time."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.background import Plane

_KERNEL = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
_BRIDGE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


class Region(NamedTuple):
    """A connected region: its label in the plane of labels, its pixels, its box in pixels."""

    label: int
    area: int
    x: int
    y: int
    width: int
    height: int


def clean(mask: Plane) -> Plane:
    """Drop specks from a mask of 0 and 255 and close its gaps."""
    if min(mask.shape) < 3:
        return mask
    speckless = cv2.medianBlur(mask, 3)
    return np.asarray(cv2.morphologyEx(speckless, cv2.MORPH_CLOSE, _BRIDGE), np.uint8)


def find_regions(mask: Plane) -> tuple[NDArray[np.uint16], list[Region]]:
    """Return the plane of labels (0: nothing) and the regions of `mask`, largest first."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_16U)
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
    regions = [
        Region(
            int(label),
            int(stats[label, cv2.CC_STAT_AREA]),
            int(stats[label, cv2.CC_STAT_LEFT]),
            int(stats[label, cv2.CC_STAT_TOP]),
            int(stats[label, cv2.CC_STAT_WIDTH]),
            int(stats[label, cv2.CC_STAT_HEIGHT]),
        )
        for label in order
    ]
    return np.asarray(labels, np.uint16), regions


class Confirmation:
    """Remembers the last masks: a region is real when it was there before, near the same place."""

    def __init__(self, frames: int) -> None:
        self._past: deque[Plane] = deque(maxlen=frames)

    def confirmed(self, where: NDArray[np.bool_]) -> bool:
        """Say whether something was seen, in at least one remembered frame, where `where` is True."""
        return any(bool(mask[where].any()) for mask in self._past)

    def remember(self, mask: Plane) -> None:
        """Keep this frame's mask, grown a little, for the next frames."""
        self._past.append(np.asarray(cv2.dilate(mask, _BRIDGE), np.uint8))

    def forget(self) -> None:
        """Start anew, as after a change of the scene."""
        self._past.clear()
