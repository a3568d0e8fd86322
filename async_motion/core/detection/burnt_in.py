"""Burnt-in text: where a camera writes the time of day into its image.

The seconds of a clock are the one thing in an image that changes once a second and not at all between: a cell
of 8x8 pixels that has done so `_TICKS` times in a row, in the upper or lower part of the image, shows them.
The rest of its line, which changes once a minute or once a day, is what continues it to both sides with edges
as sharp. A frame in which much more changes, such as a keyframe of low quality, tells nothing.

A clock without seconds is not found, nor one in fewer than three frames a second, nor thin digits that hardly
differ from what is behind them. What lies wholly in a clock's line is not seen, as if it were masked.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.alignment import Shift, shifted
from async_motion.core.detection.background import Background
from async_motion.core.detection.regions import Regions
from async_motion.core.detection.working_image import Plane, eighth, u8

_CHANGED = 5
"""Mean change of a cell, in grey levels, above which a digit in it has changed."""
_TICKS = 8
_EARLY_S, _IMPROVES_S = 0.15, 0.25
"""How far a tick may be from its second, and how long the picture of a new digit may still improve."""
_LONGEST_S = 3.5
"""Some digits differ too little from the one before. After a longer pause the count starts again."""
_RAREST_S = 0.34
"""Frames at longer intervals are not looked at: what moves would tick."""
_FORGOTTEN_S = 60.0
"""A clock that has not been seen to tick for this long is not there."""
_SEARCH_S = 15.0
"""How long a clock takes to be found, at most, if it is one that can be."""
_STRIP = 0.15
"""Share of the image's height, from above and from below, in which clocks are looked for."""
_MOST_CHANGED = 0.05
"""Share of these cells above which it is no digit that has changed."""
_AS_SHARP = 0.3
"""The rest of a line has at least this share of the mean gradient of its seconds."""
_LONGEST_LINE = 24
"""A line has at most this many cells on each side of its seconds."""
_WITHIN = 0.7
"""A region is text if this share of it lies in a line."""
_NEVER = -1e9


class BurntInText:
    """The clock of one camera. Call `update` for each frame."""

    def __init__(self, shape: tuple[int, int], now: float) -> None:
        """Look for clocks in images of `shape` (h, w), from `now` on."""
        self._shape, self._began, self._last = shape, now, now
        # Whole cells, counted from the upper and from the lower edge: a clock may be close to either.
        self._strip = max(round(_STRIP * shape[0] / 8), 1)
        self._before: Plane | None = None
        size = 2 * self._strip, max(shape[1] // 8, 1)
        self._ticked_at, self._found_at = np.full(size, _NEVER), np.full(size, _NEVER)
        self._ticks = np.zeros(size, np.int64)
        self._seconds = b""
        self.lines: Plane | None = None
        """The mask (h, w) of the lines of text, in the image as it comes; None for none."""

    def update(self, plane: Plane, background: Background, now: float) -> None:
        """Look for digits that have changed in the image (h, w) as it came."""
        if min(self._shape) < 16:
            return
        passed, self._last = now - self._last, now
        strips, before = self._both(plane), self._before
        self._before = strips
        if before is None or passed > _RAREST_S:
            return
        change = u8(cv2.absdiff(strips, before))
        if change.max() <= _CHANGED:
            return
        differs = eighth(change) > _CHANGED
        if not 0 < np.count_nonzero(differs) <= _MOST_CHANGED * differs.size:
            return
        since = now - self._ticked_at
        late = _EARLY_S + passed
        ticks = differs & (since > 1.0 - late)
        on_time = ticks & (np.abs(since - np.round(since)) < late) & (since < _LONGEST_S)
        self._ticks[on_time] += 1
        self._ticks[(ticks & ~on_time) | (differs & ~ticks & (since > _IMPROVES_S))] = 0
        self._ticked_at[ticks] = now
        self._found_at[on_time & (self._ticks >= _TICKS)] = now
        found = now - self._found_at < _FORGOTTEN_S
        if (seconds := found.tobytes()) != self._seconds:
            self._seconds, self.lines = seconds, self._lines(found, background)

    def text(self, regions: Regions, shift: Shift) -> NDArray[np.bool_]:
        """Return which regions are text. `shift` is the camera's, which has been undone in the regions."""
        if self.lines is None:
            return np.zeros(regions.count, np.bool_)
        lines = shifted(self.lines, shift) if shift else self.lines
        return np.asarray(regions.share(lines) >= _WITHIN, np.bool_)

    def perhaps(self, regions: Regions, now: float) -> NDArray[np.bool_]:
        """Return which regions may be text that is not known yet."""
        if now - self._began > _SEARCH_S:
            return np.zeros(regions.count, np.bool_)
        height = self._shape[0]
        return np.asarray(
            (regions.corners[:, 1] < _STRIP * height) | (regions.corners[:, 3] > (1.0 - _STRIP) * height),
            np.bool_,
        )

    def _lines(self, found: NDArray[np.bool_], background: Background) -> Plane | None:
        """Return the mask of the lines to which the cells with seconds belong; None for none."""
        sharp = eighth(self._both(background.edges))
        lines = np.zeros_like(sharp)
        for strip in (slice(0, self._strip), slice(self._strip, 2 * self._strip)):
            seconds = found[strip]
            rows, columns = np.flatnonzero(seconds.any(axis=1)), np.flatnonzero(seconds.any(axis=0))
            if rows.size:
                band = slice(strip.start + int(rows[0]), strip.start + int(rows[-1]) + 1)
                sharpest = sharp[band].max(axis=0)
                as_sharp = sharpest >= _AS_SHARP * sharpest[columns].max()
                first = int(columns[0]) - _reach(as_sharp[: columns[0]][::-1])
                last = int(columns[-1]) + _reach(as_sharp[columns[-1] + 1 :])
                # A digit is not as wide as a cell: it may stick out by one.
                lines[band, max(first - 1, 0) : last + 2] = 255
        if not lines.any():
            return None
        whole = cv2.resize(lines, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
        # An incomplete cell at the right edge belongs to the last complete one.
        whole = u8(cv2.copyMakeBorder(whole, 0, 0, 0, self._shape[1] - whole.shape[1], cv2.BORDER_REPLICATE))
        mask, height = np.zeros(self._shape, np.uint8), 8 * self._strip
        mask[:height] = whole[:height]
        mask[-height:] |= whole[height:]
        return mask

    def _both(self, plane: Plane) -> Plane:
        """Return the upper and the lower strip of an image, one below the other."""
        height = 8 * self._strip
        return np.concatenate((plane[:height], plane[-height:]))


def _reach(as_sharp: NDArray[np.bool_]) -> int:
    """Return how many cells a line goes on, counted from its seconds; a gap of one cell does not end it."""
    reach = 0
    for distance, continues in enumerate(as_sharp[:_LONGEST_LINE].tolist(), start=1):
        if continues:
            reach = distance
        elif distance > reach + 1:
            break
    return reach
