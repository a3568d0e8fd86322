"""Which track a region continues where frames are rare.

From one frame to the next an object may then be far away, so search areas are large and overlap. Each track
goes on with the one region most like it in place and size, and its other parts are beside that one: otherwise
all the drops of a rain would be parts of one track. And where many regions have no place of their own, one of
them lies in any large area by chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OCTAVES = 24
"""Sizes are told apart by powers of two, up to this one."""
_USUAL_S = 10.0
"""The usual number of restless regions is a mean over about this time."""
_FEW = 4.0
"""So many restless regions do not count: they may be animals that run."""


def likeliest(
    boxes: NDArray[np.float64],
    last: NDArray[np.float64],
    expected: NDArray[np.float64],
    reaches: NDArray[np.bool_],
    margin: float,
) -> NDArray[np.intp]:
    """Return the index of the track that each of n regions continues; -1 for none.

    `boxes` (n, 4) and the `last` ones of m tracks (m, 4) are left, top, right, bottom in pixels, `expected`
    (m, 2) are the tracks' centres now. `reaches` (n, m): whether a region is in the area where a track is
    searched. The parts of a track are at most `margin` pixels from where its likeliest region puts it.
    """
    owner = np.full(len(boxes), -1)
    region, track = np.nonzero(reaches)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    sizes, last_sizes = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, last))
    away = np.hypot(*(centres[region] - expected[track]).T) / np.sqrt(last_sizes[track])
    unlike = away + np.abs(np.log(sizes[region] / last_sizes[track]))
    chosen: dict[int, int] = {}
    for place in np.argsort(unlike, kind="stable").tolist():
        label, index = int(region[place]), int(track[place])
        if owner[label] < 0 and index not in chosen:
            owner[label], chosen[index] = index, label
    if not chosen:
        return owner
    # Each track where its region puts it.
    tracks, labels = np.array(list(chosen)), np.array(list(chosen.values()))
    half = (last[tracks, 2:] - last[tracks, :2]) / 2.0
    low = np.minimum(centres[labels] - half, boxes[labels, :2]) - margin
    high = np.maximum(centres[labels] + half, boxes[labels, 2:]) + margin
    others = np.flatnonzero((owner < 0) & reaches.any(axis=1))
    sides = np.minimum(boxes[others, None, 2:], high) - np.maximum(boxes[others, None, :2], low)
    common = np.where(reaches[others][:, tracks], np.maximum(sides, 0.0).prod(axis=2), 0.0)
    beside = common.max(axis=1, initial=0.0) > 0.0
    owner[others[beside]] = tracks[common[beside].argmax(axis=1)]
    return owner


class Restless:
    """How many regions a frame has that are nowhere near a track's last place: rain, snow, falling leaves."""

    def __init__(self) -> None:
        self._usual = np.zeros(_OCTAVES)
        """The usual number of at least 2**k pixels."""

    def none(self, passed_s: float) -> None:
        """Note a frame without any, `passed_s` after the one before."""
        self._usual *= np.exp(-passed_s / _USUAL_S)

    def chance(
        self,
        area: NDArray[np.int64],
        restless: NDArray[np.bool_],
        share: NDArray[np.float64],
        passed_s: float,
    ) -> NDArray[np.float64]:
        """Return for each region the chance, 0..1, that one at least half as large lies where it was sought.

        `area` in pixels, `share` the share of the image in which it was sought, `restless` which regions are
        nowhere near a track's last place. Call this once for each frame, or `none`.
        """
        octave = np.log2(np.maximum(area, 1)).astype(np.int64)
        counts = np.bincount(octave[restless], minlength=_OCTAVES)[::-1].cumsum()[::-1]
        self._usual += (1.0 - np.exp(-passed_s / _USUAL_S)) * (counts - self._usual)
        # One octave lower: half as large.
        others = np.maximum(self._usual, counts)[np.maximum(octave - 1, 0)] - _FEW
        return np.asarray(1.0 - np.exp(-np.maximum(others, 0.0) * share), np.float64)
