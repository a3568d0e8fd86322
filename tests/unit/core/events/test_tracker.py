"""The tracker: each rule by itself, then all rules together on generated input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.core.events.tracker import SILENCE_S, Change, Tracker, TrackerSettings, ZoneChange
from async_motion.core.model import Detection, EndReason, EventPhase, Phase, Reason

BEGIN = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)


def moving(*zones: str, score: float = 0.1) -> Detection:
    return Detection(motion=True, reason=Reason.MOTION, score=score, zones=zones)


STILL = Detection(motion=False, reason=Reason.STILL)
SCENE_CHANGE = Detection(motion=False, reason=Reason.SCENE_CHANGE)


def counting_ids() -> Callable[[datetime], str]:
    made = iter(range(10**9))
    return lambda _started_at: f"event-{next(made)}"


def make(
    confirm: tuple[int, int] = (2, 3),
    off_delay_s: float = 1.0,
    max_length_s: float = 300.0,
    cool_down_s: float = 0.0,
) -> Tracker:
    return Tracker(
        TrackerSettings(
            confirm=confirm, off_delay_s=off_delay_s, max_length_s=max_length_s, cool_down_s=cool_down_s
        ),
        instance="edge1",
        camera="porch",
        make_id=counting_ids(),
    )


def feed(
    tracker: Tracker, verdicts: str, *, begin: float = 0.0, step: float = 0.25, ticks: int = 0
) -> list[tuple[int, str]]:
    """Play M (motion), s (scene change), anything else (still); return (frame number, change).

    `ticks` are made before each frame, at even distances.
    """
    told = []
    for place, letter in enumerate(verdicts):
        for number in range(ticks if place else 0):
            tracker.tick(begin + (place - 1 + (number + 1) / (ticks + 1)) * step)
        at = begin + place * step
        detection = moving() if letter == "M" else SCENE_CHANGE if letter == "s" else STILL
        changes = tracker.update(BEGIN + timedelta(seconds=at), at, detection)
        told += [(place, word) for word in words(changes)]
    return told


def words(changes: Sequence[Change]) -> list[str]:
    """Return each change as "start", "end: reason", "+zone" or "-zone"."""
    told = []
    for change in changes:
        if isinstance(change, ZoneChange):
            told.append(f"{'+' if change.on else '-'}{change.zone}")
        elif change.phase is Phase.START:
            told.append("start")
        else:
            told.append(f"end: {change.event.end_reason}")
    return told


def ends(changes: Sequence[Change]) -> list[EventPhase]:
    return [change for change in changes if isinstance(change, EventPhase) and change.phase is Phase.END]


@pytest.mark.parametrize(
    ("confirm", "verdicts", "starts_at"),
    [
        ((2, 3), "..M..M..M..", None),
        ((2, 3), "..MM", 3),
        ((2, 3), "..M.M", 4),
        ((3, 3), "MM.MM.MMM", 8),
        ((1, 1), "..M", 2),
        ((1, 5), "..M", 2),
        ((2, 5), "M...M", 4),
        ((2, 5), "M....M", None),
    ],
)
def test_motion_in_m_of_n_frames_starts_an_event(
    confirm: tuple[int, int], verdicts: str, starts_at: int | None
) -> None:
    told = feed(make(confirm), verdicts)
    assert told == ([] if starts_at is None else [(starts_at, "start")])


def test_a_still_frame_never_starts_an_event() -> None:
    """After a cut, two of the last three frames may have motion while the newest has none."""
    tracker = make(max_length_s=1.0, off_delay_s=10.0)
    told = feed(tracker, "MMMM.M")
    assert told == [(1, "start"), (4, "end: max_length"), (5, "start")]


def test_the_frames_that_waited_for_the_confirmation_belong_to_the_event() -> None:
    tracker = make()
    feed(tracker, "..M")
    assert tracker.event is None
    assert tracker.held_since == 0.5
    assert feed(tracker, ".M", begin=0.75) == [(1, "start")]
    assert tracker.event is not None
    assert tracker.event.started_at == BEGIN + timedelta(seconds=0.5)
    assert tracker.started == 0.5
    assert tracker.held_since is None


def test_a_scene_change_clears_the_motion_before_it() -> None:
    assert feed(make(), "..MsM..") == []
    assert feed(make(), "..MsMM.") == [(5, "start")]


def test_learning_wipes_it_too() -> None:
    tracker = make()
    feed(tracker, "M")
    tracker.update(BEGIN, 0.25, Detection(motion=False, reason=Reason.LEARNING))
    assert feed(tracker, "M", begin=0.5) == []


def test_an_event_ends_at_the_first_still_frame_after_the_off_delay() -> None:
    tracker = make(off_delay_s=1.0)
    # The last motion is frame 4 at 1.0 s; frame 8 comes at 2.0 s.
    assert feed(tracker, "MM..M...") == [(1, "start")]
    changes = tracker.update(BEGIN, 2.0, STILL)
    (end,) = ends(changes)
    assert end.event.end_reason is EndReason.QUIET
    assert end.event.ended_at == BEGIN + timedelta(seconds=2.0)


def test_an_off_delay_of_zero_ends_with_the_first_still_frame() -> None:
    assert feed(make(off_delay_s=0.0), "MMMM.MM") == [(1, "start"), (4, "end: quiet"), (5, "start")]


def test_the_length_comes_from_the_monotonic_clock_whatever_the_wall_clock_does() -> None:
    tracker = make(off_delay_s=1.0)
    begin = 1000.0
    wall = [BEGIN, BEGIN + timedelta(days=1), BEGIN - timedelta(days=1), BEGIN]
    told: list[Change] = []
    for place, at in enumerate(wall):
        told += tracker.update(at, begin + place * 0.25, moving())
    told += tracker.update(BEGIN - timedelta(days=300), begin + 2.0, STILL)
    (end,) = ends(told)
    assert end.event.started_at == BEGIN
    assert end.event.ended_at == BEGIN + timedelta(seconds=1.75)


def test_a_gap_no_longer_than_the_off_delay_does_not_break_an_event() -> None:
    tracker = make(off_delay_s=10.0)
    feed(tracker, "MM")
    assert feed(tracker, "M", begin=10.0) == []


def test_a_slow_camera_keeps_its_event_though_the_off_delay_is_shorter_than_its_frame_interval() -> None:
    tracker = make(off_delay_s=1.0)
    assert feed(tracker, "MMMMM", step=SILENCE_S) == [(1, "start")]


def test_motion_before_and_after_a_long_silence_is_two_events() -> None:
    tracker = make(off_delay_s=10.0)
    feed(tracker, "MM")
    changes = tracker.update(BEGIN + timedelta(hours=1), 3600.0, moving())
    assert words(changes) == ["end: quiet", "start"]
    (end,) = ends(changes)
    assert end.event.ended_at == BEGIN + timedelta(seconds=10.25)
    assert tracker.event is not None
    assert tracker.event.started_at == BEGIN + timedelta(hours=1)


def test_a_camera_with_a_frame_a_minute_can_confirm_motion() -> None:
    assert feed(make(off_delay_s=10.0), "MM.", step=60.0) == [(1, "start"), (2, "end: quiet")]


def test_a_tick_ends_an_event_in_a_silence() -> None:
    tracker = make(off_delay_s=10.0)
    feed(tracker, "MM")
    assert tracker.tick(10.0) == []
    assert words(tracker.tick(10.3)) == ["end: quiet"]
    assert tracker.tick(20.0) == []


def test_a_tick_with_a_short_off_delay_waits_for_a_silence() -> None:
    tracker = make(off_delay_s=1.0)
    feed(tracker, "MM")
    assert tracker.tick(0.25 + SILENCE_S) == []
    assert words(tracker.tick(0.5 + SILENCE_S)) == ["end: quiet"]


def test_the_zones_of_a_slow_camera_stay_on_between_its_frames() -> None:
    tracker = make((1, 1), off_delay_s=1.0)
    tracker.update(BEGIN, 0.0, moving("drive"))
    assert tracker.tick(SILENCE_S) == []
    assert words(tracker.tick(SILENCE_S + 0.1)) == ["end: quiet", "-drive"]


def test_a_tick_cuts_too() -> None:
    tracker = make(off_delay_s=100.0, max_length_s=10.0)
    feed(tracker, "MM", begin=1000.0)
    assert tracker.tick(1009.9) == []
    changes = tracker.tick(1011.0)
    assert words(changes) == ["end: max_length"]
    assert ends(changes)[0].event.ended_at == BEGIN + timedelta(seconds=1010.0)


def test_an_event_is_cut_at_its_maximum_length_and_the_next_begins_with_that_frame() -> None:
    tracker = make(max_length_s=1.0)
    assert feed(tracker, "MMMM") == [(1, "start")]
    changes = tracker.update(BEGIN + timedelta(seconds=1), 1.0, moving())
    assert words(changes) == ["end: max_length", "start"]
    (end,) = ends(changes)
    assert end.event.ended_at == BEGIN + timedelta(seconds=1)
    assert tracker.event is not None
    assert tracker.event.started_at == BEGIN + timedelta(seconds=1)
    assert tracker.event.event_id != end.event.event_id


def test_a_cut_needs_no_second_confirmation() -> None:
    assert feed(make((3, 3), max_length_s=1.0), "MMM.M") == [
        (2, "start"),
        (4, "end: max_length"),
        (4, "start"),
    ]


def test_no_event_begins_during_the_cool_down() -> None:
    tracker = make(off_delay_s=0.5, cool_down_s=1.0)
    # The event ends at frame 3 (0.75 s); the cool-down lasts until frame 7 (1.75 s).
    assert feed(tracker, "MM..MMMMMM") == [(1, "start"), (3, "end: quiet"), (7, "start")]
    assert tracker.event is not None
    assert tracker.event.started_at == BEGIN + timedelta(seconds=1.75)


def test_a_cut_is_followed_by_the_cool_down_too() -> None:
    told = feed(make(max_length_s=1.0, cool_down_s=0.5), "MMMMMMMM")
    assert told == [(1, "start"), (4, "end: max_length"), (6, "start")]


def test_peak_and_zones_are_those_of_frames_with_motion() -> None:
    tracker = make()
    tracker.update(BEGIN, 0.0, moving("drive", score=0.5))
    tracker.update(BEGIN, 0.25, moving("door", score=0.2))
    still = Detection(motion=False, reason=Reason.BELOW_AREA, score=0.9, zones=("lawn",))
    tracker.update(BEGIN, 0.5, still)
    assert tracker.event is not None
    assert tracker.event.peak_score == 0.5
    assert tracker.event.zones == ("drive", "door")


def test_the_zones_of_the_frames_held_back_are_on_from_the_start() -> None:
    tracker = make()
    assert words(tracker.update(BEGIN, 0.0, moving("drive"))) == []
    assert words(tracker.update(BEGIN, 0.25, moving("door"))) == ["start", "+drive", "+door"]


def test_a_zone_goes_off_by_itself_after_the_off_delay() -> None:
    tracker = make((1, 1), off_delay_s=1.0)
    assert words(tracker.update(BEGIN, 0.0, moving("drive"))) == ["start", "+drive"]
    assert words(tracker.update(BEGIN, 0.5, moving("door"))) == ["+door"]
    assert words(tracker.update(BEGIN, 1.0, moving("door"))) == ["-drive"]
    assert words(tracker.update(BEGIN, 1.25, moving("drive"))) == ["+drive"]
    assert words(tracker.update(BEGIN, 2.0, STILL)) == ["-door"]
    assert words(tracker.update(BEGIN, 2.25, STILL)) == ["end: quiet", "-drive"]


def test_a_zone_that_moves_in_every_frame_is_on_though_the_off_delay_is_zero() -> None:
    tracker = make((1, 1), off_delay_s=0.0)
    assert words(tracker.update(BEGIN, 0.0, moving("drive"))) == ["start", "+drive"]
    assert words(tracker.update(BEGIN, 0.2, moving("drive"))) == []
    assert words(tracker.update(BEGIN, 0.4, moving())) == ["-drive"]


def test_a_zone_stays_on_over_a_cut() -> None:
    tracker = make((1, 1), off_delay_s=5.0, max_length_s=1.0)
    tracker.update(BEGIN, 0.0, moving("drive"))
    assert words(tracker.update(BEGIN, 1.0, moving("door"))) == ["end: max_length", "start", "+door"]
    assert tracker.event is not None
    assert tracker.event.zones == ("door",)


@pytest.mark.parametrize("reason", [EndReason.CAMERA_LOST, EndReason.DETECTION_OFF, EndReason.STOPPED])
def test_close_ends_with_its_reason_and_forgets(reason: EndReason) -> None:
    tracker = make(cool_down_s=60.0)
    tracker.update(BEGIN, 0.0, moving("drive"))
    tracker.update(BEGIN, 0.5, moving())
    changes = tracker.close(reason)
    assert words(changes) == [f"end: {reason}", "-drive"]
    assert ends(changes)[0].event.ended_at == BEGIN + timedelta(seconds=0.5)
    assert tracker.close(reason) == []
    # Afterwards confirmation starts again, without a cool-down, and the clock may run back.
    assert feed(tracker, "M", begin=-5.0) == []
    assert feed(tracker, "M", begin=-4.75) == [(0, "start")]


def test_a_monotonic_clock_that_runs_back_counts_as_standing_still() -> None:
    tracker = make(off_delay_s=1.0)
    feed(tracker, "MM", begin=10.0)
    assert tracker.update(BEGIN, 3.0, STILL) == []
    assert words(tracker.update(BEGIN, 11.25, STILL)) == ["end: quiet"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"confirm": (0, 3)},
        {"confirm": (4, 3)},
        {"off_delay_s": -1.0},
        {"cool_down_s": -1.0},
        {"max_length_s": 0.0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        TrackerSettings(**wrong)  # type: ignore[arg-type]


seconds = st.floats(0, 30) | st.sampled_from([0.0, 0.2, 1.0, SILENCE_S, 3600.0])
tracker_settings = st.builds(
    TrackerSettings,
    confirm=st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    off_delay_s=seconds,
    max_length_s=st.floats(0.01, 60),
    cool_down_s=st.just(0.0) | seconds,
)
detections = st.builds(
    lambda reason, score, zones: Detection(
        motion=reason is Reason.MOTION, reason=reason, score=score, zones=tuple(zones)
    ),
    reason=st.sampled_from(
        [Reason.MOTION, Reason.MOTION, Reason.STILL, Reason.SCENE_CHANGE, Reason.LEARNING]
    ),
    score=st.floats(0, 1),
    zones=st.lists(st.sampled_from(["drive", "door"]), unique=True),
)
gaps = st.floats(-5, 60) | st.sampled_from([0.0, 0.2, 0.2, 0.2, 86400.0])
steps = st.lists(
    st.tuples(st.just("frame"), gaps, detections, st.floats(-86400, 86400))
    | st.tuples(st.just("tick"), gaps)
    | st.tuples(st.just("close"), st.sampled_from(EndReason)),
    max_size=60,
)


@given(tracker_settings, steps)
@settings(max_examples=400, deadline=None)
def test_phases_are_well_formed_for_every_input(
    chosen: TrackerSettings, walk: list[tuple[object, ...]]
) -> None:
    tracker = Tracker(chosen, instance="edge1", camera="porch", make_id=counting_ids())
    open_event: str | None = None
    ids: list[str] = []
    zones_on: set[str] = set()
    now = 1000.0
    motion = 0
    for step in [*walk, ("close", EndReason.STOPPED)]:
        changes: list[Change]
        match step:
            case ("frame", float(gap), Detection() as detection, float(jump)):
                now += gap
                motion += detection.motion
                changes = tracker.update(BEGIN + timedelta(seconds=jump), now, detection)
            case ("tick", float(gap)):
                now += gap
                changes = tracker.tick(now)
            case ("close", EndReason() as reason):
                changes = tracker.close(reason)
                assert tracker.event is None
            case _:
                raise AssertionError(step)
        for change in changes:
            if isinstance(change, ZoneChange):
                assert (change.zone in zones_on) is not change.on
                zones_on ^= {change.zone}
                continue
            event = change.event
            if change.phase is Phase.START:
                assert open_event is None
                assert event.event_id not in ids
                assert event.ended_at is None
                assert event.end_reason is None
                open_event = event.event_id
                ids.append(event.event_id)
            else:
                assert change.phase is Phase.END
                assert open_event == event.event_id
                assert event.end_reason is not None
                assert event.ended_at is not None
                assert event.ended_at >= event.started_at
                open_event = None
            assert 0 <= event.peak_score <= 1
        assert (tracker.event is not None) == (open_event is not None)
        if open_event is None:
            assert not zones_on
    assert open_event is None
    assert not zones_on
    assert len(ids) <= motion


@given(tracker_settings, st.lists(detections, max_size=40))
@settings(max_examples=200, deadline=None)
def test_still_frames_for_long_enough_always_bring_off(
    chosen: TrackerSettings, verdicts: list[Detection]
) -> None:
    tracker = Tracker(chosen, instance="edge1", camera="porch", make_id=counting_ids())
    changes: list[Change] = []
    for place, detection in enumerate(verdicts):
        changes += tracker.update(BEGIN, place * 0.2, detection)
    changes += tracker.update(BEGIN, len(verdicts) * 0.2 + chosen.off_delay_s, STILL)
    assert tracker.event is None
    zones = {change.zone: change.on for change in changes if isinstance(change, ZoneChange)}
    assert not any(zones.values())


@pytest.mark.parametrize("ticks", [0, 7])
@pytest.mark.parametrize(
    ("confirm", "step", "verdicts", "starts_at"),
    [
        ((2, 3), 0.5, "...M....", None),
        ((2, 3), 1.0, "...M....", 3),
        ((2, 3), 4.0, "...M....", 3),
        ((3, 5), 1.0, "...M....", None),
        ((3, 5), 1.0, "...MM...", 4),
        ((3, 5), 2.0, "...M....", 3),
    ],
)
def test_frames_that_are_far_apart_confirm_by_their_time(
    confirm: tuple[int, int], step: float, verdicts: str, starts_at: int | None, ticks: int
) -> None:
    told = feed(make(confirm), verdicts, step=step, ticks=ticks)
    assert [place for place, word in told if word == "start"] == ([] if starts_at is None else [starts_at])


def test_a_gap_among_close_frames_confirms_nothing() -> None:
    tracker = make((2, 3))
    feed(tracker, "...", step=0.2)
    assert feed(tracker, "M..", begin=3.0, step=0.2) == []


def test_two_close_frames_do_not_make_a_slow_camera_fast() -> None:
    """Two streams were joined: their keyframes are 2 s apart, but two of them follow each other at once."""
    tracker = make((2, 3))
    tracker.reconfigure(TrackerSettings(confirm=(2, 3)))
    feed(tracker, "...", step=2.0)
    feed(tracker, "..", begin=4.2, step=2.0)
    assert [word for _, word in feed(tracker, "M", begin=8.2, step=2.0)] == ["start"]


def test_the_first_frame_after_an_absence_confirms_nothing() -> None:
    tracker = make((2, 3))
    assert feed(tracker, "M") == []
    tracker.close(EndReason.CAMERA_LOST)
    assert feed(tracker, "M", begin=100.0) == []
