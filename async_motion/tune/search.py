"""Search for better settings by coordinate search, and cross-validate them on held-out clips.

The unit of cost is a false alarm. A missed event costs `miss_cost`; ten seconds of latency cost 1, and so
does a minute of wrongly judged frames. The costs of clips add up.

The search tries every sensitivity with some minimum areas, then changes one setting at a time until nothing
is gained. `confirm` needs no new run of the detector, so every value is tried with each candidate. A step
must save `MIN_GAIN`. Among equal candidates the nearest to the present settings wins, and at the end, changes
that save nothing are reverted. The result thus differs from the present settings only where that helps.

Settings chosen on clips score too well on the same clips. `folds` returns the clips to hold out together:
for each fold, the best of all settings that the search has tried is chosen on the other clips and scored on
the held-out ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from async_motion.core.detection.detector import Sensitivity
from async_motion.tune.scoring import Score

MISS_COST = 5.0
"""The cost of a missed event, in false alarms."""
LATE_COST = 0.1
"""The cost of one second from an event's beginning to its alarm."""
WRONG_COST = 1 / 60
"""The cost of one second of wrongly judged frames."""
MIN_GAIN = 0.1

SENSITIVITIES: tuple[Sensitivity, ...] = get_args(Sensitivity)
THRESHOLDS: tuple[float, ...] = (6, 8, 11, 15, 20, 27, 36, 48, 64)
"""Thresholds to try, in grey levels, instead of the sensitivity's own."""
AREAS: tuple[float, ...] = (0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03)
"""Minimum areas to try, as shares of the image."""
CONFIRMS: tuple[tuple[int, int], ...] = ((1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (3, 5), (4, 6), (5, 8))
ROUNDS = 3

MAX_FOLDS = 8
MIN_OF_A_KIND = 2
"""Clips with motion, and clips with quiet in them, that are needed to hold any out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Settings to try, named as in the settings file, in base units.

    `threshold` is in grey levels, None for the sensitivity's own; `min_area` is a share of the image, 0..1;
    `confirm` is (M, N).
    """

    sensitivity: Sensitivity
    threshold: float | None
    min_area: float
    confirm: tuple[int, int]


KEYS = ("sensitivity", "threshold", "min_area", "confirm")
"""The settings of a candidate, by name."""

Cost = Callable[[Candidate], float]


def cost_of(score: Score, fps: float, miss_cost: float = MISS_COST) -> float:
    """Return the cost of a clip with `fps` judged frames a second, in false alarms."""
    late_s = sum(score.latency_s)
    wrong_s = (score.fp + score.fn) / fps
    return miss_cost * score.missed + score.false_alarms + LATE_COST * late_s + WRONG_COST * wrong_s


def search(
    present: Candidate,
    cost: Cost,
    *,
    min_area: float = 0.0,
    max_area: float = 1.0,
    confirms: Sequence[tuple[int, int]] = CONFIRMS,
) -> Candidate:
    """Return the best candidate that the search finds from `present`, possibly `present` itself.

    `cost` is called more than once for the same candidate and should cache. Minimum areas are limited to
    `min_area <= area < max_area`. `confirms` are the confirmations to choose from, besides the present one.
    """
    if cost(present) < MIN_GAIN:
        return present  # nothing can be gained
    axes = _Axes(present, [area for area in AREAS if min_area <= area < max_area], confirms)
    best = _cheapest(present, (present, *axes.everywhere(present)), cost, axes)
    for _ in range(ROUNDS):
        before = best
        for line in (axes.thresholds, axes.areas, axes.sensitivities):
            best = _cheapest(best, line(best), cost, axes)
        if best == before:
            break
    return _simplest(present, best, cost)


def choose(
    present: Candidate,
    candidates: Sequence[Candidate],
    cost: Cost,
    *,
    confirms: Sequence[tuple[int, int]] = CONFIRMS,
) -> Candidate:
    """Return the best of `candidates`, each with every confirmation, as `search` would; or `present`."""
    areas = tuple(candidate.min_area for candidate in candidates)
    best = _cheapest(present, candidates, cost, _Axes(present, areas, confirms))
    return _simplest(present, best, cost)


class _Axes:
    """The neighbours of a candidate, along each setting."""

    def __init__(
        self, present: Candidate, areas: Sequence[float], confirms: Sequence[tuple[int, int]]
    ) -> None:
        self._present = present
        self._areas = sorted({present.min_area, *areas})
        self._confirms = sorted({present.confirm, *confirms})

    def everywhere(self, at: Candidate) -> Iterator[Candidate]:
        """Yield every sensitivity, and the present one with its threshold, with every second area."""
        for one in self.sensitivities(at):
            for area in self._areas[::2]:
                yield replace(one, min_area=area)

    def sensitivities(self, at: Candidate) -> Iterator[Candidate]:
        for sensitivity in SENSITIVITIES:
            yield replace(at, sensitivity=sensitivity, threshold=None)
        yield replace(at, sensitivity=self._present.sensitivity, threshold=self._present.threshold)

    def thresholds(self, at: Candidate) -> Iterator[Candidate]:
        for threshold in (None, *THRESHOLDS):
            yield replace(at, threshold=threshold)

    def areas(self, at: Candidate) -> Iterator[Candidate]:
        for area in self._areas:
            yield replace(at, min_area=area)

    def confirmations(self, at: Candidate) -> Iterator[Candidate]:
        for confirm in self._confirms:
            yield replace(at, confirm=confirm)

    def distance(self, at: Candidate) -> float:
        """Return a candidate's distance from the present settings.

        `100 * settings changed + steps along the axes + change of threshold / 256`.
        """
        present = self._present
        steps = abs(SENSITIVITIES.index(at.sensitivity) - SENSITIVITIES.index(present.sensitivity))
        steps += abs(self._areas.index(at.min_area) - self._areas.index(present.min_area))
        steps += abs(self._confirms.index(at.confirm) - self._confirms.index(present.confirm))
        changed = len([key for key in KEYS if getattr(at, key) != getattr(present, key)])
        levels = abs((at.threshold or 0.0) - (present.threshold or 0.0))
        return 100 * changed + steps + levels / 256


def _cheapest(
    now: Candidate, candidates: Iterator[Candidate] | Sequence[Candidate], cost: Cost, axes: _Axes
) -> Candidate:
    """Return the cheapest of `candidates`, each with every confirmation; `now` if it saves too little."""
    each = [confirmed for candidate in candidates for confirmed in axes.confirmations(candidate)]
    costs = {candidate: cost(candidate) for candidate in each}
    lowest = min(costs.values())
    near = [candidate for candidate, value in costs.items() if value < lowest + MIN_GAIN / 2]
    best = min(near, key=lambda candidate: (axes.distance(candidate), costs[candidate]))
    nearer = axes.distance(best) < axes.distance(now)
    return best if costs[best] <= cost(now) - (0.0 if nearer else MIN_GAIN) else now


def _simplest(present: Candidate, best: Candidate, cost: Cost) -> Candidate:
    """Return `best` with each setting reverted that costs less than `MIN_GAIN / 2` to revert."""
    max_cost = cost(best) + MIN_GAIN / 2
    for key in KEYS:
        other = replace(best, **{key: getattr(present, key)})
        if cost(other) <= max_cost:
            best = other
    return best


def folds(moving: Sequence[bool], quiet: Sequence[bool]) -> list[tuple[int, ...]]:
    """Return the folds: the indices of the clips to hold out together; empty if there are too few clips.

    `moving` and `quiet` hold for each clip whether it has events, and whether it has footage without any. The
    clips outside a fold always have both.
    """
    if min(sum(moving), sum(quiet)) < MIN_OF_A_KIND:
        return []
    # Deal the clips, sorted by kind, to the folds in turn, so that no fold takes all of one kind.
    order = sorted(range(len(moving)), key=lambda number: (moving[number], quiet[number]))
    count = min(MAX_FOLDS, len(order))
    parts = [tuple(order[start::count]) for start in range(count)]
    return [part for part in parts if _leaves_both(part, moving) and _leaves_both(part, quiet)]


def _leaves_both(part: Sequence[int], has: Sequence[bool]) -> bool:
    return any(flag for number, flag in enumerate(has) if number not in part)
