"""Score verdicts against labels: frames, events, latency, false alarms.

    labels    . . . ? M M M M ? . . . . . . . .      M motion, . nothing, ? not scored
    verdicts  . . . . . M M M M . . . . m m . .
                        │                └ false alarm: a run more than 1 s from any motion
                        └ found, 1 frame late

- *Frames.* Each labelled frame counts as right or wrong.
- *Events.* Runs of labelled motion, joined across gaps of up to 1 s. An event is found when an alarm overlaps
  it. Its latency is the number of frames from its beginning to the first such alarm, 0 if that began earlier.
- *Alarms.* Runs of at least `MIN_RUN` frames with motion, joined across gaps of up to 1 s; or runs of the
  frames at which an alarm is up, if they are given (`confirmed` confirms as the tracker does).
- *False alarms.* Alarms on frames labelled as empty, more than 1 s from labelled motion. A long one counts
  once; therefore the share of empty frames with motion is reported too.

Ranges of frames are (first, last), both inclusive. Everything here is pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNSCORED, EMPTY, MOVING = -1, 0, 1
"""The labels of a frame."""

MIN_RUN = 2
"""Minimum frames with motion in a row that make an alarm."""

KEPT_SHARE = 0.9
"""Minimum share of frames with motion for a span in which a person stands still to count as kept."""

Labels = NDArray[np.int8]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score of one clip, or the total of several.

    `tp`, `fp`, `fn` and `tn` count frames. `latency` (frames) and `latency_s` have one entry for each event
    that was found and whose beginning is known. `alarm_frames` are the empty frames with motion,
    `empty_frames` all empty ones, `empty_s` their length. `standing_frames` are the frames in which a person
    has stopped, `standing_seen` those with motion; of the `spans` of such frames, `spans_kept` have motion in
    at least `KEPT_SHARE` of their frames.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0
    events: int = 0
    missed: int = 0
    latency: tuple[int, ...] = ()
    latency_s: tuple[float, ...] = ()
    false_alarms: int = 0
    empty_s: float = 0.0
    standing_seen: int = 0
    standing_frames: int = 0
    spans_kept: int = 0
    spans: int = 0

    @property
    def alarm_frames(self) -> int:
        return self.fp

    @property
    def empty_frames(self) -> int:
        return self.fp + self.tn

    @property
    def found(self) -> int:
        return self.events - self.missed

    @property
    def event_precision(self) -> float | None:
        """`found / (found + false_alarms)`; None without an alarm."""
        return _share(self.found, self.found + self.false_alarms)

    @property
    def event_recall(self) -> float | None:
        """The share of events that were found; None without events."""
        return _share(self.found, self.events)

    @property
    def precision(self) -> float | None:
        """`tp / (tp + fp)` of the frames; None without frames with motion."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """`tp / (tp + fn)` of the frames; None without frames labelled as motion."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None if neither is known."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def standing_share(self) -> float | None:
        """The share of standing frames with motion; None without standing frames."""
        return _share(self.standing_seen, self.standing_frames)

    @property
    def alarms_an_hour(self) -> float | None:
        """False alarms per hour of empty frames; None without empty frames."""
        return self.false_alarms / self.empty_s * 3600 if self.empty_s else None

    def latency_quantile_s(self, share: float) -> float | None:
        """Return the quantile `share` (0..1) of the latencies, in seconds; None if none is known."""
        return float(np.quantile(self.latency_s, share)) if self.latency_s else None


def total(scores: Iterable[Score]) -> Score:
    """Return the total of several scores."""
    each = list(scores)
    return Score(
        tp=sum(score.tp for score in each),
        fp=sum(score.fp for score in each),
        fn=sum(score.fn for score in each),
        tn=sum(score.tn for score in each),
        events=sum(score.events for score in each),
        missed=sum(score.missed for score in each),
        latency=tuple(frames for score in each for frames in score.latency),
        latency_s=tuple(seconds for score in each for seconds in score.latency_s),
        false_alarms=sum(score.false_alarms for score in each),
        empty_s=sum(score.empty_s for score in each),
        standing_seen=sum(score.standing_seen for score in each),
        standing_frames=sum(score.standing_frames for score in each),
        spans_kept=sum(score.spans_kept for score in each),
        spans=sum(score.spans for score in each),
    )


def score_frames(
    detected: ArrayLike,
    labels: Labels,
    fps: float,
    *,
    alarms: ArrayLike | None = None,
    standing: Iterable[Range] = (),
) -> Score:
    """Score the verdicts `detected` (n,) against `labels` (n,), at `fps` frames a second.

    `alarms` (n,) is true where an alarm is up; None: in runs of at least `MIN_RUN` frames with motion.
    `standing` are the ranges in which a person who came in has stopped. Raises ValueError if the lengths
    differ.
    """
    motion = _flags(detected, len(labels))
    moving, empty = labels == MOVING, labels == EMPTY
    second = round(fps)
    up, min_run = (motion, MIN_RUN) if alarms is None else (_flags(alarms, len(labels)), 1)
    raised = _alarms(up, min_run, second)

    latency = []
    missed = 0
    events = join(runs(moving), second)
    for first, last in events:
        found = next((alarm for alarm in raised if alarm[1] >= first and alarm[0] <= last), None)
        if found is None:
            missed += 1
        else:
            latency.append(max(0, found[0] - first))

    stood = [motion[max(0, first) : last + 1] for first, last in standing]
    stood = [span for span in stood if len(span)]
    away = empty.copy()
    for first, last in runs(moving):
        away[max(0, first - second) : last + second + 1] = False
    return Score(
        tp=int(np.count_nonzero(motion & moving)),
        fp=int(np.count_nonzero(motion & empty)),
        fn=int(np.count_nonzero(~motion & moving)),
        tn=int(np.count_nonzero(~motion & empty)),
        events=len(events),
        missed=missed,
        latency=tuple(latency),
        latency_s=tuple(frames / fps for frames in latency),
        false_alarms=len(_alarms(up & away, min_run, second)),
        empty_s=float(np.count_nonzero(empty) / fps),
        standing_seen=sum(int(np.count_nonzero(span)) for span in stood),
        standing_frames=sum(len(span) for span in stood),
        spans_kept=sum(bool(np.mean(span) >= KEPT_SHARE) for span in stood),
        spans=len(stood),
    )


def score_somewhere(detected: ArrayLike, fps: float, *, alarms: ArrayLike | None = None) -> Score:
    """Score a clip that is only known to contain motion: one event, found by any alarm.

    Frames and latency are not scored, as the event's beginning is unknown.
    """
    motion = np.asarray(detected, np.bool_)
    up, min_run = (motion, MIN_RUN) if alarms is None else (_flags(alarms, len(motion)), 1)
    return Score(events=1, missed=0 if _alarms(up, min_run, round(fps)) else 1)


def confirmed(motion: Sequence[bool], wiped: Sequence[bool], confirm: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (n,) where an alarm is up by the tracker's rule: motion now, and in M of the last N frames.

    `confirm` is (M, N). `wiped` (n,): the tracker clears its window, as the scene changed or is learned.
    """
    needed, of = confirm
    window: deque[bool] = deque(maxlen=of)
    up = np.zeros(len(motion), np.bool_)
    for number, (moves, forget) in enumerate(zip(motion, wiped, strict=True)):
        if forget:
            window.clear()
        window.append(moves)
        up[number] = moves and sum(window) >= needed
    return up


def event_labels(
    frames: int, events: Iterable[Range], *, unscored: Iterable[Range] = (), span: Range | None = None
) -> Labels:
    """Return the labels (`frames`,) of a clip with known times of motion.

    `unscored` ranges are ambiguous; motion marked within them counts. Frames outside `span` are not scored.
    """
    first, last = span if span is not None else (0, frames - 1)
    labels = np.full(frames, UNSCORED, np.int8)
    labels[first : last + 1] = EMPTY
    for begin, end in events:
        labels[max(first, begin) : min(last, end) + 1] = MOVING
    for begin, end in unscored:
        part = labels[max(0, begin) : end + 1]
        part[part == EMPTY] = UNSCORED
    return labels


def runs(flags: ArrayLike) -> list[Range]:
    """Return the ranges in which `flags` (n,) are true."""
    steps = np.diff(np.concatenate(([0], np.asarray(flags, np.int8), [0])))
    begins, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
    return [(int(first), int(last)) for first, last in zip(begins, ends, strict=True)]


def join(ranges: Iterable[Range], gap: int) -> list[Range]:
    """Join ranges with at most `gap` frames between them. `ranges` are in order."""
    joined: list[Range] = []
    for first, last in ranges:
        if joined and first - joined[-1][1] - 1 <= gap:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def _alarms(up: NDArray[np.bool_], min_run: int, gap: int) -> list[Range]:
    return join([(first, last) for first, last in runs(up) if last - first + 1 >= min_run], gap)


def _flags(flags: ArrayLike, length: int) -> NDArray[np.bool_]:
    array = np.asarray(flags, np.bool_)
    if array.shape != (length,):
        raise ValueError(f"{array.shape} verdicts for {length} labels")
    return array


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
