"""95 % intervals by bootstrap: how much a figure depends on the cameras, or clips, that happened to be there.

The draws have a fixed seed: the same scores give the same interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from async_motion.tune.scoring import Score

_DRAWS = 1000


def f1_interval(groups: Iterable[Score]) -> tuple[float, float] | None:
    """Return the 95 % interval of frame F1 over groups (cameras, clips) of frames; None without groups.

    The errors on frames of one group are correlated, so whole groups are resampled.
    """
    counts = [(score.tp, score.fp, score.fn) for score in groups]
    if not counts:
        return None
    tp, fp, fn = _resampled(np.array(counts, np.float64)).T
    return _middle_95(2 * tp / np.maximum(2 * tp + fp + fn, 1.0))


def sum_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the sum of independent `values`; None without values."""
    return _middle_95(_resampled(np.array(values, np.float64)[:, None])[:, 0]) if values else None


def _resampled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bootstrap: return the sums (`_DRAWS`, k) of as many `rows` (n, k), drawn with replacement."""
    drawn = np.random.default_rng(1).integers(0, len(rows), (_DRAWS, len(rows)))
    return np.asarray(rows[drawn].sum(axis=1), np.float64)


def _middle_95(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
