"""The search for settings, on synthetic costs; the folds of held-out clips."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.tune.scoring import Score
from async_motion.tune.search import (
    KEYS,
    MAX_FOLDS,
    MIN_OF_A_KIND,
    MISS_COST,
    Candidate,
    choose,
    cost_of,
    folds,
    search,
)

PRESENT = Candidate(sensitivity="medium", threshold=None, min_area=0.002, confirm=(2, 3))


def test_a_cost_is_in_false_alarms() -> None:
    assert cost_of(Score(false_alarms=3), 5) == 3
    assert cost_of(Score(events=2, missed=2), 5) == 2 * MISS_COST
    assert cost_of(Score(events=2, missed=2), 5, miss_cost=2) == 4
    assert cost_of(Score(events=1, latency=(50,), latency_s=(10.0,)), 5) == pytest.approx(1)
    assert cost_of(Score(fp=200, fn=100), 5) == pytest.approx(1)


@pytest.mark.parametrize(
    "wanted",
    [
        replace(PRESENT, min_area=0.03),
        replace(PRESENT, threshold=36.0, min_area=0.0005),
        replace(PRESENT, sensitivity="high", confirm=(3, 4)),
        replace(PRESENT, sensitivity="low", threshold=64.0, min_area=0.0002, confirm=(1, 1)),
    ],
)
def test_what_is_best_by_each_setting_is_found(wanted: Candidate) -> None:
    def cost(at: Candidate) -> float:
        return float(len([key for key in KEYS if getattr(at, key) != getattr(wanted, key)]))

    assert search(PRESENT, cost) == wanted


def test_nothing_is_tried_where_nothing_can_be_gained() -> None:
    asked = []

    def cost(at: Candidate) -> float:
        asked.append(at)
        return 0.09

    assert search(PRESENT, cost) == PRESENT
    assert asked == [PRESENT]


def test_a_gain_too_small_changes_nothing() -> None:
    assert search(PRESENT, lambda at: 1.0 - 0.05 * (at.sensitivity == "high")) == PRESENT


def test_of_equals_the_nearest_is_taken_and_what_brings_nothing_is_taken_back() -> None:
    found = search(PRESENT, lambda at: 5.0 if at.min_area < 0.007 else 1.0)
    assert found == replace(PRESENT, min_area=0.008)
    either = search(PRESENT, lambda at: 1.0 if at.sensitivity == "low" or at.confirm == (3, 3) else 5.0)
    assert sum(getattr(either, key) != getattr(PRESENT, key) for key in KEYS) == 1


def test_areas_stay_below_the_largest_and_confirmations_can_be_fixed() -> None:
    tried = set()

    def cost(at: Candidate) -> float:
        tried.add(at)
        return 10.0 - at.min_area * 100 - at.confirm[1]

    search(PRESENT, cost, max_area=0.01, confirms=())
    assert max(at.min_area for at in tried) < 0.01
    assert {at.confirm for at in tried} == {PRESENT.confirm}
    assert min(at.min_area for at in tried) < 0.002
    tried.clear()
    search(PRESENT, cost, min_area=0.002, confirms=())
    assert min(at.min_area for at in tried) == 0.002


def test_a_choice_is_among_what_was_tried() -> None:
    tried = [PRESENT, replace(PRESENT, min_area=0.01), replace(PRESENT, min_area=0.02)]
    assert choose(PRESENT, tried, lambda at: 5 - at.min_area * 100, confirms=()) == tried[2]
    assert choose(PRESENT, tried, lambda _at: 5.0) == PRESENT


@given(st.lists(st.sampled_from([(True, False), (False, True), (True, True)]), max_size=30))
def test_folds_hold_each_clip_out_once_at_most_and_leave_both_kinds(kinds: list[tuple[bool, bool]]) -> None:
    moving, quiet = [kind[0] for kind in kinds], [kind[1] for kind in kinds]
    parts = folds(moving, quiet)
    held_out = [number for part in parts for number in part]
    assert len(held_out) == len(set(held_out))
    assert len(parts) <= MAX_FOLDS
    for part in parts:
        rest = [number for number in range(len(kinds)) if number not in part]
        assert any(moving[number] for number in rest)
        assert any(quiet[number] for number in rest)
    enough = min(sum(moving), sum(quiet)) >= MIN_OF_A_KIND
    assert bool(parts) == enough
    if enough and len(kinds) <= MAX_FOLDS:
        assert sorted(held_out) == list(range(len(kinds)))
