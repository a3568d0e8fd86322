"""Labels of frames from changedetection.net's masks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from async_motion.tune.scoring import EMPTY, MOVING, UNSCORED, Labels, Range

MARGIN = 2
"""Unscored frames on each side of a change of label."""
MOVING_SHARE = 0.001
"""A mask is labelled as motion if `moving >= max(MOVING_SHARE * watched, MOVING_PIXELS)` (pixels)."""
MOVING_PIXELS = 8

MASK_OUTSIDE, MASK_UNKNOWN, MASK_MOVING = 85, 170, 255
"""Codes of changedetection.net's masks; the others, 0 (static) and 50 (shadow), are background."""


def mask_labels(
    masks: NDArray[np.uint8],
    *,
    frames: int,
    first: int = 0,
    span: Range | None = None,
    empty: Iterable[Range] = (),
) -> Labels:
    """Return the labels (`frames`,) of a clip from masks (n, H, W) in changedetection.net's codes.

    `first` is the frame of the first mask. Frames with few moving pixels, or with unknown ones, are not
    scored, nor are `MARGIN` frames on each side of a change. `empty` ranges are known to be empty.
    """
    begin, end = span if span is not None else (0, frames - 1)
    labels = np.full(frames, UNSCORED, np.int8)
    for number, mask in enumerate(masks, start=first):
        watched = np.count_nonzero(mask != MASK_OUTSIDE)
        if not watched or not begin <= number <= min(end, frames - 1):
            continue
        moving = np.count_nonzero(mask == MASK_MOVING)
        if moving >= max(MOVING_SHARE * watched, MOVING_PIXELS):
            labels[number] = MOVING
        elif not moving and not np.count_nonzero(mask == MASK_UNKNOWN):
            labels[number] = EMPTY
    for change in np.flatnonzero(np.diff(labels)):
        # In order and in place: a margin may cover the next change, which then adds no margin of its own.
        if labels[change] >= 0 and labels[change + 1] >= 0:
            labels[max(0, change - MARGIN + 1) : change + MARGIN + 1] = UNSCORED
    for begin, end in empty:
        labels[begin : end + 1] = EMPTY
    return labels
