"""Judge candidates on clips (each once), score them, search for the best and cross-validate it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from async_motion.core.detection.detector import DetectorSettings
from async_motion.tune import search
from async_motion.tune.clips import Clip, Verdicts
from async_motion.tune.intervals import sum_interval
from async_motion.tune.scoring import Score, total
from async_motion.tune.search import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The settings to tune, as they are now. `camera` is None for the defaults.

    `night`: the camera's settings at night, which have no `confirm` of their own. `confirm` is (M, N).
    """

    camera: str | None
    night: bool = False
    fps: float
    detection: DetectorSettings
    confirm: tuple[int, int]

    @property
    def confirms(self) -> Sequence[tuple[int, int]]:
        """The confirmations (M, N) to choose from, besides the present one."""
        return () if self.night else search.CONFIRMS

    @property
    def candidate(self) -> Candidate:
        settings = self.detection
        return Candidate(
            sensitivity=settings.sensitivity,
            threshold=settings.threshold,
            min_area=settings.min_area,
            confirm=self.confirm,
        )


class Bench:
    """Scores candidates on clips. Verdicts are cached: no clip is judged twice with the same settings."""

    def __init__(
        self,
        clips: Sequence[Clip],
        detection: DetectorSettings,
        *,
        miss_cost: float,
        on_look: Callable[[int], None] = lambda _tried: None,
    ) -> None:
        self.clips = clips
        self._detection = detection
        self._miss_cost = miss_cost
        self._on_look = on_look
        self._verdicts: dict[tuple[int, DetectorSettings], Verdicts] = {}
        self._scores: dict[tuple[int, Candidate], Score] = {}
        self._tried: dict[DetectorSettings, Candidate] = {}

    @property
    def searchable(self) -> bool:
        """Whether the clips have both events to find and empty frames for false alarms."""
        return any(clip.moves for clip in self.clips) and any(clip.rests for clip in self.clips)

    @property
    def tried(self) -> list[Candidate]:
        """The candidates judged so far; those that differ only in their confirmation count once."""
        return list(self._tried.values())

    def score(self, number: int, candidate: Candidate) -> Score:
        """Return the score of clip `number` with `candidate`."""
        key = (number, candidate)
        if key not in self._scores:
            self._scores[key] = self.clips[number].score(self._look(number, candidate), candidate.confirm)
        return self._scores[key]

    def total(self, candidate: Candidate, numbers: Iterable[int] | None = None) -> Score:
        """Return the total score of `candidate` on the clips `numbers` (None: all)."""
        chosen = range(len(self.clips)) if numbers is None else numbers
        return total(self.score(number, candidate) for number in chosen)

    def cost(self, candidate: Candidate, numbers: Iterable[int] | None = None) -> float:
        """Return the cost of `candidate` on the clips `numbers` (None: all), in false alarms."""
        chosen = range(len(self.clips)) if numbers is None else numbers
        return sum(
            search.cost_of(self.score(number, candidate), self.clips[number].fps, self._miss_cost)
            for number in chosen
        )

    def _look(self, number: int, candidate: Candidate) -> Verdicts:
        settings = dataclasses.replace(
            self._detection,
            sensitivity=candidate.sensitivity,
            threshold=candidate.threshold,
            min_area=candidate.min_area,
        )
        key = (number, settings)
        if key not in self._verdicts:
            self._tried.setdefault(settings, candidate)
            self._on_look(len(self._tried))
            self._verdicts[key] = self.clips[number].judge(settings)
        return self._verdicts[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Scores on held-out clips, of which there are `clips`: of the present settings, and of those found.

    `gains` has the cost that the settings found save on each clip, in false alarms.
    """

    clips: int
    present: Score
    found: Score
    present_cost: float
    found_cost: float
    gains: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether the settings found are better on clips that they were not chosen on."""
        return self.found_cost <= self.present_cost - search.MIN_GAIN

    @property
    def gain(self) -> float:
        """The cost saved on all of them, in false alarms."""
        return self.present_cost - self.found_cost

    @property
    def gain_interval(self) -> tuple[float, float]:
        """The 95 % interval of the gain: bootstrap over clips."""
        return sum_interval(self.gains) or (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of `find`. `held_out` is None if there are too few clips to hold any out."""

    present: Candidate
    found: Candidate
    held_out: HeldOut | None
    searched: bool = True
    """False if only the present settings could be scored."""

    @property
    def recommended(self) -> bool:
        return self.found != self.present and (self.held_out is None or self.held_out.holds)


def find(bench: Bench, present: Present) -> Outcome:
    """Search for the best settings on all clips, and cross-validate the choice on held-out clips.

    Without clips of both kinds nothing is searched: a detector that sees nothing, or one that always fires,
    would win.
    """
    start, confirms = present.candidate, present.confirms
    if not bench.searchable:
        return Outcome(present=start, found=start, held_out=None, searched=False)
    found = search.search(
        start,
        bench.cost,
        # The settings require `min_area` (near) above `min_area_far`.
        min_area=present.detection.min_area_far or 0.0,
        max_area=present.detection.max_area,
        confirms=confirms,
    )
    tried = bench.tried

    def best_without(fold: Sequence[int]) -> Candidate:
        rest = [number for number in range(len(bench.clips)) if number not in fold]
        return search.choose(start, tried, lambda candidate: bench.cost(candidate, rest), confirms=confirms)

    held_out = None
    folds = search.folds([clip.moves for clip in bench.clips], [clip.rests for clip in bench.clips])
    if folds:
        chosen = {fold: best_without(fold) for fold in folds}
        unseen = [number for fold in folds for number in fold]
        held_out = HeldOut(
            clips=len(unseen),
            present=bench.total(start, unseen),
            found=total(bench.total(candidate, fold) for fold, candidate in chosen.items()),
            present_cost=bench.cost(start, unseen),
            found_cost=sum(bench.cost(candidate, fold) for fold, candidate in chosen.items()),
            gains=tuple(
                bench.cost(start, [number]) - bench.cost(candidate, [number])
                for fold, candidate in chosen.items()
                for number in fold
            ),
        )
    return Outcome(present=start, found=found, held_out=held_out)
