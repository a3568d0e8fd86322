"""Scoring: the same figures as the footage's own evaluation harness, and each rule by itself."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.tune import scoring
from async_motion.tune.scoring import Score, confirmed, event_labels, join, runs, score_frames
from tests.benchmarks.masks import MASK_MOVING, MASK_OUTSIDE, MASK_UNKNOWN, mask_labels

DATA = Path(__file__).parents[4] / "shared/data"


@pytest.fixture(scope="module")
def harness() -> Any:
    """Load the footage's evaluation harness, which lies beside the repository; skip without it."""
    path = DATA / "evaluate.py"
    if not path.is_file():  # some footage may not be redistributed, so public CI has none
        pytest.skip("needs shared/data/evaluate.py beside the repository")
    spec = importlib.util.spec_from_file_location("evaluate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(variable, "1")  # the harness sets them on import; restored on exit
        spec.loader.exec_module(module)
    return module


def same(ours: Score, theirs: dict[str, Any], harness: Any) -> None:
    assert (ours.tp, ours.fn, ours.fp, ours.tn) == tuple(theirs[key] for key in ("tp", "fn", "fp", "tn"))
    assert (ours.events, ours.missed, ours.false_alarms) == (
        theirs["events"],
        theirs["missed"],
        theirs["false_alarms"],
    )
    assert list(ours.latency) == theirs["latency"]
    assert ours.empty_s == theirs["empty_s"]
    assert (ours.alarm_frames, ours.empty_frames) == (theirs["fa_frames"], theirs["empty_frames"])
    figures = harness.prf(theirs["tp"], theirs["fp"], theirs["fn"])
    mine = [float("nan") if figure is None else figure for figure in (ours.precision, ours.recall, ours.f1)]
    np.testing.assert_allclose(mine, figures)


def verdicts(length: int, seed: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return random verdicts (length,) in runs of 1 to 11 equal ones, as detectors give them."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.random(length) < 0.3, draw.integers(1, 12, length))[:length]


labels_of_any_kind = st.lists(
    st.tuples(st.sampled_from([-1, 0, 1]), st.integers(1, 40)), min_size=1, max_size=12
).map(lambda parts: np.repeat([part[0] for part in parts], [part[1] for part in parts]).astype(np.int8))


@given(labels=labels_of_any_kind, seed=st.integers(0, 999), fps=st.sampled_from([1, 4.6, 5, 9, 12.5, 25]))
def test_any_verdicts_score_as_in_the_harness(harness: Any, labels: Any, seed: int, fps: float) -> None:
    if len(labels) < 2 * round(fps) + 1:
        labels = np.concatenate([labels, np.zeros(2 * round(fps) + 1, np.int8)])  # the harness's minimum
    detected = verdicts(len(labels), seed)
    theirs = harness.score_frames(detected, labels, {"fps": fps})
    same(score_frames(detected, labels, fps), theirs, harness)


@given(
    shares=st.lists(st.sampled_from([0, 0, 0, 3, 7, 8, 12, 400]), min_size=5, max_size=40),
    unknown=st.sets(st.integers(0, 39)),
    outside=st.sets(st.integers(0, 39), max_size=3),
    first=st.integers(0, 3),
    span=st.sampled_from([None, (0, 9), (4, 30), (2, 500)]),
    empty=st.sampled_from([(), ((1, 3),), ((0, 2), (8, 30))]),
)
def test_masks_become_the_labels_of_the_harness(
    harness: Any,
    tmp_path_factory: pytest.TempPathFactory,
    shares: list[int],
    unknown: set[int],
    outside: set[int],
    first: int,
    span: tuple[int, int] | None,
    empty: tuple[tuple[int, int], ...],
) -> None:
    masks = np.zeros((len(shares), 40, 100), np.uint8)
    for number, moving in enumerate(shares):
        masks[number].flat[:moving] = MASK_MOVING
        if number in unknown:
            masks[number, -1, :5] = MASK_UNKNOWN
        if number in outside:
            masks[number] = MASK_OUTSIDE
    frames = first + len(shares)
    folder = tmp_path_factory.mktemp("sequence")
    np.savez(folder / "gt.npz", labels=masks, first=first)
    meta: dict[str, Any] = {"kind": "pixel", "frames": frames, "empty": empty}
    if span is not None:
        meta["eval_span"] = span
    theirs, _ = harness.labels(str(folder), meta)
    ours = mask_labels(masks, frames=frames, first=first, span=span, empty=empty)
    np.testing.assert_array_equal(ours, theirs)


def sequences() -> list[Path]:
    return sorted(path.parent for path in (DATA / "public").glob("*/meta.json"))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_footage_scores_as_in_the_harness(harness: Any, seed: int) -> None:
    scored = 0
    for folder in sequences():
        meta = json.loads((folder / "meta.json").read_text())
        if meta["kind"] not in ("event", "empty") and meta["frames"] > 300:
            continue  # unpacking masks is slow, and short sequences suffice
        theirs, masks = harness.labels(str(folder), meta)
        span = meta.get("eval_span")
        match meta["kind"]:
            case "pixel":
                first = int(np.load(folder / "gt.npz")["first"])
                ours = mask_labels(
                    masks, frames=meta["frames"], first=first, span=span, empty=meta.get("empty", ())
                )
            case "event":
                ours = event_labels(
                    meta["frames"], meta["events"], unscored=meta.get("dontcare", ()), span=span
                )
            case _:
                continue
        np.testing.assert_array_equal(ours, theirs, err_msg=folder.name)
        detected = verdicts(meta["frames"], seed)
        same(
            score_frames(detected, ours, meta["fps"]),
            harness.score_frames(detected, theirs, meta),
            harness,
        )
        scored += 1
    assert scored >= 10


# ---- the rules, one by one ----


def test_runs_and_gaps() -> None:
    assert runs([1, 1, 0, 1, 0, 0, 1]) == [(0, 1), (3, 3), (6, 6)]
    assert runs([]) == []
    assert join([(0, 1), (3, 3), (6, 6)], 1) == [(0, 3), (6, 6)]


def test_one_frame_is_not_an_alarm_and_a_long_alarm_counts_once() -> None:
    labels = event_labels(100, [])
    once = np.zeros(100, np.bool_)
    once[50] = True
    assert score_frames(once, labels, 5).false_alarms == 0
    once[51:80] = True
    score = score_frames(once, labels, 5)
    assert (score.false_alarms, score.alarm_frames, score.empty_frames) == (1, 30, 100)
    assert score.alarms_an_hour == pytest.approx(180)


def test_an_alarm_within_a_second_of_motion_is_not_false() -> None:
    labels = event_labels(60, [(20, 30)])
    detected = np.zeros(60, np.bool_)
    detected[15:36] = True
    score = score_frames(detected, labels, 5)
    assert (score.false_alarms, score.missed, score.latency) == (0, 0, (0,))
    detected[36:39] = True
    assert score_frames(detected, labels, 5).false_alarms == 1


def test_latency_is_from_the_events_beginning() -> None:
    labels = event_labels(60, [(20, 30), (45, 50)])
    detected = np.zeros(60, np.bool_)
    detected[23:28] = True
    score = score_frames(detected, labels, 5)
    assert (score.events, score.found, score.missed) == (2, 1, 1)
    assert score.latency == (3,)
    assert score.latency_s == (0.6,)
    assert score.latency_quantile_s(0.5) == 0.6


def test_unmarked_stretches_are_not_scored() -> None:
    labels = event_labels(30, [(10, 14)], unscored=[(8, 20)], span=(5, 25))
    assert labels.tolist() == [-1] * 5 + [0] * 3 + [-1] * 2 + [1] * 5 + [-1] * 6 + [0] * 5 + [-1] * 4


def test_clips_add_up() -> None:
    labels = event_labels(40, [(20, 30)])
    detected = np.zeros(40, np.bool_)
    detected[22:31] = True
    one = score_frames(detected, labels, 5)
    two = scoring.total([one, one, Score()])
    assert (two.tp, two.events, two.latency, two.empty_s) == (18, 2, (2, 2), 2 * one.empty_s)
    assert two.f1 == one.f1
    assert Score().precision is None
    assert Score().event_precision is None
    assert Score().event_recall is None
    found = Score(events=4, missed=1, false_alarms=2)
    assert (found.event_precision, found.event_recall) == (3 / 5, 3 / 4)
    assert Score().alarms_an_hour is None
    assert Score().latency_quantile_s(0.5) is None


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        score_frames([True], event_labels(2, []), 5)


# ---- alarms as the tracker raises them ----


def test_confirmation_is_m_of_n_and_a_scene_change_wipes_it() -> None:
    motion = [False, True, False, True, True, False, False, True]
    quiet = [False] * len(motion)
    assert runs(confirmed(motion, quiet, (2, 3))) == [(3, 4)]
    assert runs(confirmed(motion, quiet, (1, 1))) == runs(motion)
    assert runs(confirmed(motion, quiet, (3, 3))) == []
    wiped = [False, False, True, False, False, False, False, False]
    assert runs(confirmed(motion, wiped, (2, 3))) == [(4, 4)]


def test_a_confirmed_alarm_may_be_one_frame_long_and_comes_when_it_is_confirmed() -> None:
    labels = event_labels(60, [(20, 30)])
    motion = [20 <= number <= 22 for number in range(60)]
    alarms = confirmed(motion, [False] * 60, (3, 4))
    score = score_frames(motion, labels, 5, alarms=alarms)
    assert (score.missed, score.latency, score.tp) == (0, (2,), 3)


def test_a_clip_with_motion_somewhere_is_found_by_any_alarm() -> None:
    motion = [number in (7, 8) for number in range(20)]
    assert scoring.score_somewhere(motion, 5) == Score(events=1, missed=0)
    assert scoring.score_somewhere([False] * 20, 5) == Score(events=1, missed=1)
    late = confirmed(motion, [False] * 20, (3, 3))
    assert scoring.score_somewhere(motion, 5, alarms=late) == Score(events=1, missed=1)


def test_standing_frames_and_spans_are_scored_apart() -> None:
    labels = event_labels(40, [(5, 34)])
    motion = np.zeros(40, np.bool_)
    motion[5:20] = True
    score = score_frames(motion, labels, 10.0, standing=[(10, 19), (20, 29), (50, 60)])
    assert (score.standing_seen, score.standing_frames) == (10, 20)
    assert (score.spans_kept, score.spans) == (1, 2)
    assert score.standing_share == 0.5
    assert scoring.total([score, score]).spans == 4
    assert score_frames(motion, labels, 10.0).standing_share is None
