"""The comparison of `auto` with `all`: what counts as missed, later, and beyond the next judged frame."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from async_motion.core.model import Detection, Reason
from tests.benchmarks.idling import Recut, Tally, Watched

FPS = 5
LABELS = [0] * 200 + [1] * 50 + [0] * 50


def runs(where: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(int)))
    return [(int(start), int(end) - 1) for start, end in edges.reshape(-1, 2)]


def join(found: list[tuple[int, int]], _gap: int) -> list[tuple[int, int]]:
    return found


EVALUATE = SimpleNamespace(runs=runs, join=join)


def reported(*frames: int, unjudged: tuple[int, ...] = ()) -> Watched:
    """Return a result in which `frames` are motion; all but `unjudged` are judged, and out at once."""
    watched = Watched()
    for at in range(len(LABELS)):
        if at not in unjudged:
            reason = Reason.MOTION if at in frames else Reason.STILL
            watched.verdicts.append((at / FPS, at / FPS, Detection(motion=at in frames, reason=reason)))
    return watched


def compared(every: Watched, auto: Watched) -> Tally:
    tally = Tally()
    tally.add(Recut("hall", Fraction(FPS), [], LABELS), every, auto, EVALUATE)  # type: ignore[arg-type]
    return tally


@pytest.mark.parametrize(
    ("auto", "missed", "later", "beyond", "earlier"),
    [
        ((), 1, 0, 0, 0),
        ((210, 211), 0, 0, 0, 0),
        ((209, 210), 0, 0, 0, 1),
        ((211, 212), 0, 1, 0, 0),
        ((212, 213), 0, 1, 1, 0),
    ],
)
def test_an_event_is_missed_or_later_by_judged_frames(
    auto: tuple[int, ...], missed: int, later: int, beyond: int, earlier: int
) -> None:
    tally = compared(reported(210, 211, 212), reported(*auto))
    assert tally.events == 1
    found = (len(tally.missed), len(tally.later), len(tally.beyond), tally.earlier)
    assert found == (missed, later, beyond, earlier)


def test_the_next_judged_frame_is_that_of_all_however_far_away() -> None:
    every = reported(210, 213, unjudged=(211, 212))
    assert not compared(every, reported(213)).beyond
    assert compared(every, reported(214)).beyond


def test_motion_away_from_labels_and_reports_is_added_once() -> None:
    assert len(compared(reported(210), reported(100, 101, 210)).added) == 1
    assert not compared(reported(100, 210), reported(104, 210)).added
