"""The protocol's arithmetic: which camera, how certain, by category."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.tune.scoring import EMPTY, MOVING, UNSCORED, Score
from tests.benchmarks.accuracy import (
    by_category,
    cameras_of,
    differences,
    interval,
    lost_frames,
    standing_of,
    worse,
)


def test_sequences_of_one_file_or_made_of_one_another_share_a_camera() -> None:
    cameras = cameras_of(
        [
            {"name": "lane", "source": "someone/repo night.mp4 (halved)"},
            {"name": "lane_gate", "source": "someone/repo night.mp4 (zone at the gate)"},
            {"name": "hall", "source": "other/set hall.avi"},
            {"name": "made_dark", "source": "made.py: still median of hall", "synthetic": True},
            {"name": "made_alone", "source": "made.py: drawn", "synthetic": True},
            {"name": "made_too", "source": "made.py: drawn", "synthetic": True},
            {"name": "yard", "source": "other/set yard.avi", "camera": "shop"},
            {"name": "shop_door", "source": "other/set door.avi", "camera": "shop"},
        ]
    )
    assert cameras["lane"] == cameras["lane_gate"]
    assert cameras["hall"] == cameras["made_dark"]
    assert cameras["yard"] == cameras["shop_door"] == "shop"
    assert len(set(cameras.values())) == 5


def test_the_interval_is_of_cameras_not_of_frames() -> None:
    good, bad = Score(tp=1000), Score(fn=1000)
    assert interval({"a": [good], "b": [good], "c": [good]}) == (1.0, 1.0)
    low, high = interval({"a": [good], "b": [bad]})
    assert (low, high) == (0.0, 1.0)
    one_camera = interval({"a": [good, bad]})
    assert one_camera[0] == one_camera[1] == pytest.approx(2 / 3)


def test_categories_stand_beside_each_other() -> None:
    night = {"category": "night"}
    lines = by_category(
        {
            "ours": [(night, Score(tp=9, fn=1, events=2, missed=1)), ({"category": "empty"}, Score(tn=5))],
            "theirs": [(night, Score(tp=10, events=2, false_alarms=3))],
        }
    )
    assert lines[0] == "| category | ours | theirs |"
    assert lines[2:] == [
        "| empty | –, 0/0, 0 | –, 0/0, 0 |",
        "| night | 0.947, 1/2, 0 | 1.000, 2/2, 3 |",
    ]


def test_standing_is_clipped_to_the_scored_frames() -> None:
    meta = {"frames": 100, "eval_span": (10, 60), "standing": [(0, 20), (50, 90)]}
    assert standing_of(meta) == [(10, 20), (50, 60)]
    assert standing_of({"frames": 100}) == []


def test_a_difference_in_standing_is_named() -> None:
    score = Score(standing_seen=5, standing_frames=6, spans_kept=0, spans=1)
    theirs: dict[str, object] = dict.fromkeys(
        ("tp", "fp", "fn", "tn", "events", "missed", "empty_s", "false_alarms"), 0
    )
    theirs |= {"fa_frames": 0, "empty_frames": 0}
    same = {"hit": 5, "frames": 6, "kept": 0, "spans": 1}
    assert differences(score, {**theirs, "latency": [], "standing": same}) == []
    assert differences(score, {**theirs, "latency": [], "standing": {**same, "hit": 6}}) == ["standing"]


def test_what_ours_is_worse_in_is_named_with_both_figures() -> None:
    ours = Score(tp=5, fn=3, fp=1, events=2, missed=1, false_alarms=1)
    theirs = Score(tp=6, fn=2, fp=4, events=2, missed=1, false_alarms=0)
    assert worse(ours, theirs) == ["frames missed 3 (2)", "false alarms 1 (0)"]
    assert worse(ours, ours) == []


def test_lost_frames_are_wrong_for_us_alone() -> None:
    labels = np.array([EMPTY, EMPTY, MOVING, MOVING, UNSCORED, MOVING], np.int8)
    ours = {"det": [[1, 2]]}
    theirs = {"det": [[2, 3]]}
    assert lost_frames(ours, theirs, labels) == {1, 3}
