"""Which frames are kept: the interval, the cap, and the places that the cap reserves."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.core.events.selection import PEAK_GAIN, Choice, Keep, PolicySettings, Selection


def kept(
    policy: PolicySettings, times: list[float], scores: list[float] | None = None, opening: float = 0.0
) -> list[float]:
    """Return the times of the kept frames; all have motion, and score 0.1 by default."""
    selection = Selection(policy, opening)
    scores = scores or [0.1] * len(times)
    return [
        at
        for at, score in zip(times, scores, strict=True)
        if selection.choose(at, score, motion=True) is Choice.KEEP
    ]


def frames(seconds: float, fps: float = 5.0) -> list[float]:
    return [i / fps for i in range(round(seconds * fps))]


def test_all_keeps_every_frame_with_motion() -> None:
    assert kept(PolicySettings(keep=Keep.ALL), frames(3)) == frames(3)


@pytest.mark.parametrize("keep", list(Keep))
def test_a_still_frame_is_never_kept(keep: Keep) -> None:
    selection = Selection(PolicySettings(keep=keep), 0.0)
    assert selection.choose(0.0, 0.1, motion=True) is not Choice.SKIP
    assert selection.choose(9.0, 0.9, motion=False) is Choice.SKIP


def test_first_keeps_the_opening_frame_alone() -> None:
    policy = PolicySettings(keep=Keep.FIRST)
    assert kept(policy, [0.0, 1.0, 2.0], [0.1, 0.9, 0.9]) == [0.0]
    assert Selection(policy, 0.0).pre_roll([-1.0, -0.5]) == []


def test_a_first_frame_that_scores_nothing_is_still_the_only_one() -> None:
    assert kept(PolicySettings(keep=Keep.FIRST), [0.0, 1.0, 2.0], [0.0, 0.0, 0.5]) == [0.0]


def test_a_better_frame_does_not_break_the_rhythm_while_there_are_places() -> None:
    assert kept(PolicySettings(every_s=1.0), [0.0, 0.5, 1.0], [0.1, 0.9, 0.1]) == [0.0, 1.0]


def test_best_holds_each_frame_that_beats_all_before_it() -> None:
    selection = Selection(PolicySettings(keep=Keep.BEST, max_frames=1), 0.0)
    assert selection.pre_roll([-1.0]) == []
    choices = [selection.choose(i, score, motion=True) for i, score in enumerate([0.1, 0.1, 0.3, 0.2, 0.4])]
    assert choices == [Choice.HOLD, Choice.SKIP, Choice.HOLD, Choice.SKIP, Choice.HOLD]


def test_best_takes_a_frame_that_scores_nothing_when_there_is_no_other() -> None:
    assert Selection(PolicySettings(keep=Keep.BEST), 0.0).choose(0.0, 0.0, motion=True) is Choice.HOLD


def test_every_keeps_the_first_frame_of_each_interval() -> None:
    assert kept(PolicySettings(every_s=1.0), frames(4)) == [0.0, 1.0, 2.0, 3.0]


def test_every_does_not_drift_when_frames_jitter() -> None:
    times = [0.0, 0.99, 1.19, 1.99, 2.2, 3.0, 3.9, 4.4]
    assert kept(PolicySettings(every_s=1.0), times) == [0.0, 1.19, 2.2, 3.0, 4.4]


def test_every_takes_a_sum_of_floats_for_what_it_means() -> None:
    opening = 1234567.1
    times, at = [], opening
    for _ in range(40):
        times.append(at)
        at += 0.1
    assert len(kept(PolicySettings(every_s=1.0), times, opening=opening)) == 4


def test_every_with_a_gap_goes_on_with_the_next_frame() -> None:
    assert kept(PolicySettings(every_s=1.0), [0.0, 0.2, 60.3, 60.5, 61.0]) == [0.0, 60.3, 61.0]


def test_an_interval_shorter_than_the_frames_keeps_all() -> None:
    assert kept(PolicySettings(every_s=0.01), frames(3)) == frames(3)


def test_the_pre_roll_of_all_is_whole() -> None:
    assert Selection(PolicySettings(keep=Keep.ALL), 0.0).pre_roll([-1.0, -0.6, -0.2]) == [0, 1, 2]


def test_the_pre_roll_of_every_has_its_rhythm_counted_from_the_opening() -> None:
    times = [-2.0, -1.8, -1.2, -1.0, -0.8, -0.2]
    assert Selection(PolicySettings(every_s=1.0), 0.0).pre_roll(times) == [0, 3]
    assert Selection(PolicySettings(every_s=1.0), 0.0).pre_roll([-0.97, -0.5]) == [0]
    assert Selection(PolicySettings(every_s=1.0), 0.0).pre_roll([]) == []


def test_the_pre_roll_takes_at_most_a_quarter_of_the_places_the_newest() -> None:
    selection = Selection(PolicySettings(keep=Keep.ALL, max_frames=8), 0.0)
    assert selection.pre_roll([-4.0, -3.0, -2.0, -1.0]) == [2, 3]
    # One place is reserved for the opening frame, and one for a better frame later.
    assert selection.choose(0.0, 0.1, motion=True) is Choice.KEEP
    assert Selection(PolicySettings(keep=Keep.ALL, max_frames=3), 0.0).pre_roll([-1.0]) == []


def test_the_cap_thins_an_event_so_that_the_whole_of_it_is_covered() -> None:
    times = kept(PolicySettings(keep=Keep.ALL, max_frames=16), [float(i) for i in range(200)])
    assert times[:8] == [0, 1, 2, 3, 4, 5, 6, 7]
    strides = [b - a for a, b in pairwise(times)]
    assert strides == sorted(strides)
    assert len(times) == 15, "the last place is for a frame that is better than all before"
    assert times[-1] > 30


def test_a_thinned_event_leaves_out_whole_intervals() -> None:
    times = kept(PolicySettings(every_s=1.0, max_frames=8), frames(30))
    assert times == [0, 1, 2, 3, 5, 7, 11]


def test_the_default_cap_covers_the_default_maximum_length() -> None:
    """300 s at 5 frames/s: the first 30 s are kept in full, the rest thinned to reach beyond 100 s."""
    times = kept(PolicySettings(keep=Keep.ALL, max_frames=300), frames(300))
    assert times[:150] == frames(30)
    assert len(times) < 300
    assert times[-1] > 100


def test_a_clearly_better_frame_is_kept_out_of_turn_once_the_event_is_thinned() -> None:
    policy = PolicySettings(keep=Keep.ALL, max_frames=4)
    times = [float(i) for i in range(40)]
    scores = [0.1] * 40
    scores[30] = 0.1 * PEAK_GAIN + 1e-9
    assert 30.0 in kept(policy, times, scores)
    assert 30.0 not in kept(policy, times)
    scores[35] = 0.11
    assert 35.0 not in kept(policy, times, scores)


def test_a_slowly_growing_score_does_not_use_up_the_places() -> None:
    """A person who walks towards the camera scores more in every frame."""
    times = [float(i) for i in range(300)]
    scores = [0.01 + i * 0.003 for i in range(300)]
    chosen = kept(PolicySettings(keep=Keep.ALL, max_frames=40), times, scores)
    assert len(chosen) <= 40
    assert chosen[-1] > 70


@pytest.mark.parametrize("wrong", [{"every_s": 0.0}, {"every_s": float("nan")}, {"max_frames": 0}])
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PolicySettings(**wrong)  # type: ignore[arg-type]


@given(
    st.builds(
        PolicySettings,
        keep=st.sampled_from(Keep),
        every_s=st.floats(0.01, 100),
        max_frames=st.integers(1, 50),
    ),
    st.lists(st.floats(0, 60), max_size=30),
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1), st.booleans()), max_size=150),
)
@settings(max_examples=300, deadline=None)
def test_the_cap_holds_and_the_opening_is_kept_for_every_input(
    policy: PolicySettings, before: list[float], after: list[tuple[float, float, bool]]
) -> None:
    selection = Selection(policy, 0.0)
    times = sorted(-at for at in before if at)
    chosen = selection.pre_roll(times)
    assert chosen == sorted(set(chosen))
    assert all(0 <= place < len(times) for place in chosen)

    choices = [selection.choose(0.0, 0.1, motion=True)]
    best, holds = 0.1, 1
    now = 0.0
    for gap, score, motion in after:
        now += gap
        choices.append(selection.choose(now, score, motion=motion))
        if policy.keep is Keep.BEST and motion and score > best:
            best, holds = score, holds + 1
    count = len(chosen) + choices.count(Choice.KEEP)
    if policy.keep is Keep.BEST:
        assert choices.count(Choice.HOLD) == holds
        assert count == 0
    else:
        assert choices[0] is Choice.KEEP
        assert Choice.HOLD not in choices
        assert count <= policy.max_frames
        assert policy.keep is not Keep.FIRST or count == 1
