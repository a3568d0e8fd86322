"""Leave one camera out: who chooses for whom, and what is printed."""

from __future__ import annotations

from async_motion.tune.scoring import Score
from tests.benchmarks.holdout import left_out, line_of


def test_a_camera_has_no_say_in_its_own_setting() -> None:
    good, bad = Score(tp=90, fn=10, events=1), Score(tp=10, fn=90, events=1)
    scores = {
        "plain": {"hall": [good], "lane": [good], "yard": [bad]},
        "fitted": {"hall": [bad], "lane": [bad], "yard": [Score(tp=100, events=1)]},
    }
    held_out, chosen = left_out(scores)
    # What fits the yard is chosen for the others alone.
    assert chosen == {"fitted": ["hall", "lane"], "plain": ["yard"]}
    assert held_out == {"hall": [bad], "lane": [bad], "yard": [bad]}


def test_each_camera_gets_what_the_others_choose() -> None:
    good, bad = [Score(tp=9, fn=1)], [Score(tp=1, fn=9)]
    held_out, chosen = left_out({"a": {"x": good, "y": bad}, "b": {"x": bad, "y": good}})
    assert chosen == {"b": ["x"], "a": ["y"]}
    assert held_out == {"x": bad, "y": bad}


def test_a_missed_event_and_a_false_alarm_count_beside_the_frames() -> None:
    quiet, loud = [Score(tp=90, fn=10)], [Score(tp=90, fn=10, false_alarms=1)]
    _, chosen = left_out({"loud": {"x": loud, "y": loud}, "quiet": {"x": quiet, "y": quiet}})
    assert list(chosen) == ["quiet"]


def test_a_line_has_every_figure_of_the_protocol() -> None:
    score = Score(
        tp=90,
        fp=10,
        fn=10,
        tn=90,
        events=4,
        missed=1,
        latency=(0, 5, 10),
        latency_s=(0.0, 0.5, 1.0),
        false_alarms=2,
        empty_s=1800.0,
        standing_seen=3,
        standing_frames=4,
        spans_kept=1,
        spans=2,
    )
    line = line_of("ours", {"hall": [score]})
    assert line == (
        "| ours | 0.900 / 0.900 / 0.900 (0.900–0.900) | 3/4 | 0.50 / 0.90 | 2 | 4 | 10.0 % | 75 %, 1/2 |"
    )
    assert line_of("none", {"hall": [Score(tn=5, empty_s=1.0)]}).endswith("| 0/0 | – | 0 | 0 | 0.0 % | – |")
