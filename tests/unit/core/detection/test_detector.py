"""The detector's promises, on synthetic frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from async_motion.core.detection.detector import Detector, DetectorSettings, Zone
from async_motion.core.detection.sensitivity import MEASURES
from async_motion.core.model import Detection, Luma, Reason, SceneChange
from async_motion.errors import FrameShapeError
from tests.support.scenes import patches, texture

FPS = 10
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))


def with_box(luma: Luma, x: int, y: int, width: int = 20, height: int = 30, level: int = 15) -> Luma:
    """Return a copy with a box, dark by default, whose top left corner is at (x, y)."""
    plane = luma.copy()
    plane[max(0, y) : y + height, max(0, x) : x + width] = level
    return plane


def watch(detector: Detector, frames: list[Luma], start: float = 0.0) -> list[Detection]:
    return [detector.update(frame, start + index / FPS) for index, frame in enumerate(frames)]


def rested(luma: Luma, **options: object) -> Detector:
    """Return a detector that has watched the unchanged `luma` for three seconds."""
    detector = Detector(DetectorSettings(**options))  # type: ignore[arg-type]
    watch(detector, [luma] * (3 * FPS))
    return detector


def walk(luma: Luma, xs: range, y: int = 40) -> list[Luma]:
    return [with_box(luma, x, y) for x in xs]


@pytest.mark.parametrize("every_s", [0.2, 2.0])
def test_unrest_is_over_as_soon_at_few_frames_per_second(every_s: float) -> None:
    still = patches()
    detector = rested(still)
    draw = np.random.default_rng(3)
    for step in range(50):
        leaves = still.copy()
        leaves[draw.integers(0, 120, 40), draw.integers(0, 160, 40)] = 250
        detector.update(leaves, 3.0 + step / 5)
    stirred = int(detector.debug_maps()["unrest"].max())
    assert stirred > 10
    for step in range(1, round(16.0 / every_s) + 1):
        detector.update(still, 13.0 + step * every_s)
    assert detector.debug_maps()["unrest"].max() < stirred / 5


SHAPES = st.tuples(st.integers(16, 90), st.integers(16, 90))


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**31), kind=st.sampled_from(["noise", "flat", "scene"]))
def test_a_still_scene_scores_zero_whatever_its_content(shape: tuple[int, int], seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    still: NDArray[np.uint8] = {
        "noise": random.integers(0, 256, shape, np.uint8),
        "flat": np.full(shape, random.integers(0, 256), np.uint8),
        "scene": patches(*shape, seed=seed),
    }[kind]
    for detection in watch(Detector(DetectorSettings()), [still] * 40):
        assert not detection.motion
        assert detection.score == 0.0
        assert detection.reason in (Reason.LEARNING, Reason.STILL)


@settings(max_examples=20, deadline=None)
@given(x=st.integers(10, 60), y=st.integers(2, 80), seed=st.integers(0, 1000))
def test_a_moved_box_moves_its_box(x: int, y: int, seed: int) -> None:
    still = patches(seed=seed)
    detector = rested(still)
    seen = watch(detector, walk(still, range(x, x + 60, 4), y), start=10.0)
    assert all(detection.motion for detection in seen[2:])
    for step, detection in enumerate(seen[2:], start=2):
        box = detection.boxes[0]
        assert abs(box.x * 160 - (x + 4 * step)) <= 6
        assert abs(box.y * 120 - y) <= 4
        assert abs(box.width * 160 - 20) <= 10
        assert abs(box.height * 120 - 30) <= 8
    assert all(detection.reason is Reason.MOTION and detection.score > 0.01 for detection in seen[2:])


@settings(max_examples=30, deadline=None)
@given(gain=st.floats(0.6, 1.3), offset=st.floats(-20, 20), seed=st.integers(0, 1000))
def test_gain_and_offset_of_the_whole_image_change_nothing(gain: float, offset: float, seed: int) -> None:
    still = patches(seed=seed)
    changed = np.clip(still * gain + offset, 0, 255).astype(np.uint8)
    detector = rested(still)
    assert not any(detection.motion for detection in watch(detector, [changed] * 30, start=3.0))
    seen = watch(
        detector,
        [np.clip(f * gain + offset, 0, 255).astype(np.uint8) for f in walk(still, range(20, 80, 4))],
        start=6.0,
    )
    assert all(detection.motion for detection in seen[3:])


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(1.5, 4.0), offset=st.floats(0, 80), seed=st.integers(0, 1000))
def test_an_image_that_a_light_saturates_is_not_motion(gain: float, offset: float, seed: int) -> None:
    still = patches(seed=seed)
    glaring = np.clip(still * gain + offset, 0, 255).astype(np.uint8)
    detector = rested(still)
    assert not any(detection.motion for detection in watch(detector, [glaring] * 20, start=3.0))
    assert not any(detection.motion for detection in watch(detector, [still] * 20, start=5.0))


@settings(max_examples=20, deadline=None)
@given(
    shape=SHAPES, level=st.sampled_from([0, 1, 128, 254, 255]), strides=st.tuples(*[st.integers(1, 3)] * 2)
)
def test_black_white_and_grey_in_any_layout_score_zero(
    shape: tuple[int, int], level: int, strides: tuple[int, int]
) -> None:
    whole = np.full((shape[0] * strides[0], shape[1] * strides[1]), level, np.uint8)
    frame = whole[:: strides[0], :: strides[1]]
    assert all(detection.score == 0.0 for detection in watch(Detector(DetectorSettings()), [frame] * 20))


@settings(max_examples=15, deadline=None)
@given(left=st.floats(0.1, 0.6), top=st.floats(0.1, 0.5), seed=st.integers(0, 1000))
def test_nothing_within_a_mask_is_ever_reported(left: float, top: float, seed: int) -> None:
    still = patches(seed=seed)
    right, bottom = left + 0.35, top + 0.4
    mask = ((left, top), (right, top), (right, bottom), (left, bottom))
    detector = rested(still, masks=(mask,))
    first = round(left * 160) + 3
    inside = walk(still, range(first, first + 30, 4), round(top * 120) + 4)
    for detection in watch(detector, inside, start=10.0):
        assert not detection.motion
        assert detection.score == 0.0
        assert detection.boxes == ()


def test_what_moves_under_a_mask_is_never_reported() -> None:
    still = patches()
    detector = rested(still, masks=(LEFT,))
    seen = watch(detector, walk(still, range(5, 55, 4)), start=10.0)
    assert not any(detection.motion or detection.boxes for detection in seen)
    assert seen[-1].reason is Reason.MASKED


def test_a_mask_over_everything_sees_nothing() -> None:
    still = patches()
    detector = rested(still, masks=(LEFT, RIGHT))
    assert not any(
        detection.motion for detection in watch(detector, walk(still, range(5, 120, 4)), start=10.0)
    )


def test_the_zone_that_is_entered_is_named() -> None:
    still = patches()
    zones = (Zone(name="left", polygon=LEFT), Zone(name="right", polygon=RIGHT))
    detector = rested(still, zones=zones)
    seen = watch(detector, walk(still, range(0, 140, 4)), start=10.0)
    assert seen[6].zones == ("left",)
    assert seen[19].zones == ("left", "right")
    assert seen[-3].zones == ("right",)


def test_a_zone_has_its_own_minimum_area_and_sensitivity() -> None:
    still = patches()
    small = {"x": 30, "y": 50, "width": 6, "height": 8}
    zone = Zone(name="left", polygon=LEFT, min_area=0.0015)
    for zones, expected in (((), Reason.BELOW_AREA), ((zone,), Reason.MOTION)):
        detector = rested(still, min_area=0.01, zones=zones)
        frames = [with_box(still, small["x"] + step, small["y"], 6, 8) for step in range(6)]
        assert watch(detector, frames, start=10.0)[-1].reason is expected

    faint = [np.clip(still.astype(int) + 18 * (np.arange(160) // 30 == 1), 0, 255).astype(np.uint8)] * 6
    blind = rested(still, sensitivity="low")
    keen = rested(still, sensitivity="low", zones=(Zone(name="left", polygon=LEFT, sensitivity="high"),))
    assert not any(detection.motion for detection in watch(blind, faint, start=10.0))
    assert watch(keen, faint, start=10.0)[-1].motion


def test_too_large_and_too_small_are_reported() -> None:
    still = patches()
    assert (
        watch(rested(still, max_area=0.02), walk(still, range(40, 60, 4)), start=10.0)[-1].reason
        is Reason.ABOVE_AREA
    )
    assert (
        watch(rested(still, min_area=0.2), walk(still, range(40, 60, 4)), start=10.0)[-1].reason
        is Reason.BELOW_AREA
    )


def test_another_scene_is_not_motion_and_is_learned_at_once() -> None:
    detector = rested(patches(seed=1))
    other = patches(seed=2)
    seen = watch(detector, [other] * 20, start=10.0)
    assert not any(detection.motion for detection in seen)
    assert seen[0].reason is Reason.SCENE_CHANGE
    assert seen[0].scene_change is not None
    assert watch(detector, walk(other, range(20, 60, 4)), start=12.0)[-1].motion


@pytest.mark.parametrize("level", [20, 60, 110])
def test_a_flat_placeholder_is_another_scene_not_the_same_one_in_a_dim_light(level: int) -> None:
    faint = (patches() * 0.25 + 80).astype(np.uint8)
    placeholder = np.full_like(faint, level)
    placeholder[50:60, 20:90:2] = 255
    detector = Detector(DetectorSettings())
    watch(detector, grains(faint, 6 * FPS))
    seen = watch(detector, grains(placeholder, 20 * FPS, seed=level), start=6.0)
    assert seen[0].scene_change is SceneChange.MOVED
    assert not any(detection.motion for detection in seen)
    back = watch(detector, grains(faint, 5 * FPS, seed=8), start=26.0)
    assert back[0].scene_change is SceneChange.MOVED
    assert not any(detection.motion for detection in back)


def test_the_first_frames_only_teach() -> None:
    seen = watch(Detector(DetectorSettings()), [patches()] * 3)
    assert [detection.reason for detection in seen] == [Reason.LEARNING, Reason.LEARNING, Reason.STILL]


def test_who_walks_in_the_first_frame_is_found_after_a_fifth_of_a_second() -> None:
    seen = watch(Detector(DetectorSettings()), walk(patches(), range(20, 80, 6)))
    assert [detection.motion for detection in seen] == [False] * 2 + [True] * 8


@pytest.mark.parametrize("shape", [(16, 16), (17, 31), (16, 500), (1080, 1920), (480, 640)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_images_of_any_shape(shape: tuple[int, int], level: int) -> None:
    detector = Detector(DetectorSettings())
    frame = np.full(shape, level, np.uint8)
    assert not any(detection.motion for detection in watch(detector, [frame] * 20))


def test_a_luma_that_is_not_contiguous_gives_the_same_verdicts() -> None:
    still = patches()
    plain = [still] * 20 + walk(still, range(10, 60, 4))
    wide = np.zeros((240, 400), np.uint8)
    strided = []
    for frame in plain:
        wide[::2, ::2][:120, :160] = frame
        strided.append(wide.copy()[::2, ::2][:120, :160])
    assert watch(Detector(DetectorSettings()), strided) == watch(Detector(DetectorSettings()), plain)


def test_the_luma_is_only_read() -> None:
    still = patches()
    still.setflags(write=False)
    watch(Detector(DetectorSettings()), [still] * 3)


def test_another_shape_needs_another_detector() -> None:
    detector = rested(patches())
    with pytest.raises(FrameShapeError, match=r"\(120, 160\).*\(60, 160\)"):
        detector.update(patches(60, 160), 9.0)
    with pytest.raises(FrameShapeError, match="two dimensions"):
        detector.update(np.zeros((4, 4, 3), np.uint8), 9.0)


def test_the_same_frames_give_the_same_verdicts() -> None:
    still = patches()
    frames = [still] * 20 + walk(still, range(10, 60, 4))
    assert watch(Detector(DetectorSettings()), frames) == watch(Detector(DetectorSettings()), frames)


def test_what_it_thinks_can_be_looked_at() -> None:
    assert Detector(DetectorSettings()).debug_maps() == {}
    still = patches()
    detector = rested(still)
    watch(detector, walk(still, range(10, 60, 4)), start=10.0)
    maps = detector.debug_maps()
    assert {"background", "noise", "threshold", "distance", "mask"} <= maps.keys()
    assert all(plane.shape == (120, 160) and plane.dtype == np.uint8 for plane in maps.values())
    assert maps["mask"].any()


def test_verdicts_are_counted_by_reason() -> None:
    detector = rested(patches())
    assert detector.counts[Reason.LEARNING] > 0
    assert sum(detector.counts.values()) == 30


def test_a_restart_does_not_blind_the_camera() -> None:
    still = patches()
    first = rested(still)
    second = Detector.restore(DetectorSettings(), first.state())
    assert second.debug_maps() == {}
    assert second.state()
    seen = watch(second, walk(still, range(20, 40, 4)), start=1000.0)
    expected = watch(first, walk(still, range(20, 40, 4)), start=3.0)
    assert [(now.motion, now.reason, now.boxes) for now in seen] == [
        (then.motion, then.reason, then.boxes) for then in expected
    ]
    assert seen[-1].motion


def test_another_scene_after_a_restart_is_a_scene_change() -> None:
    for away_s in (5.0, 6 * 3600.0):
        second = Detector.restore(DetectorSettings(), rested(patches(seed=1)).state(), away_s=away_s)
        other = patches(seed=2)
        seen = watch(second, [other] * 20, start=1000.0)
        assert seen[0].reason is Reason.SCENE_CHANGE
        assert not any(detection.motion for detection in seen)
        assert watch(second, walk(other, range(20, 60, 4)), start=1002.0)[-1].motion


def test_another_light_after_a_restart_is_not_motion() -> None:
    still = patches()
    for gain, offset in ((0.7, 10), (1.25, 0), (1.0, 25)):
        second = Detector.restore(DetectorSettings(), rested(still).state(), away_s=6 * 3600.0)
        dusk = np.clip(still * gain + offset, 0, 255).astype(np.uint8)
        assert not any(detection.motion for detection in watch(second, [dusk] * 60, start=1000.0))
        assert watch(second, walk(dusk, range(20, 60, 4)), start=1006.0)[-1].motion


def test_what_arrived_while_the_service_was_away_is_not_motion() -> None:
    still = patches()
    parked = with_box(still, 90, 60, 40, 30)
    state = rested(still).state()
    old = Detector.restore(DetectorSettings(), state, away_s=3600.0)
    # A state that is passed on before the first frame, as on a reload, keeps its age.
    old = Detector.restore(DetectorSettings(), old.state())
    seen = watch(old, [parked] * 60, start=1000.0)
    assert [detection.reason for detection in seen[:5]] == [Reason.LEARNING] * 5
    assert {detection.reason for detection in seen[6:]} == {Reason.STILL}
    # After an absence of seconds the same car is motion.
    young = Detector.restore(DetectorSettings(), state, away_s=5.0)
    assert any(detection.motion for detection in watch(young, [parked] * 10, start=1000.0))


def test_a_walker_at_the_first_frame_after_hours_is_found_half_a_second_later() -> None:
    still = patches()
    old = Detector.restore(DetectorSettings(), rested(still).state(), away_s=6 * 3600.0)
    seen = watch(old, walk(still, range(20, 100, 4)), start=1000.0)
    assert [detection.reason for detection in seen[:5]] == [Reason.LEARNING] * 5
    assert all(detection.motion for detection in seen[5:])


def test_a_state_that_cannot_be_read_says_so() -> None:
    assert Detector(DetectorSettings()).state() == b""
    for broken in (b"", b"nonsense", rested(patches()).state()[:200]):
        with pytest.raises(ValueError, match="state"):
            Detector.restore(DetectorSettings(), broken)


def test_the_mask_shows_what_moved() -> None:
    still = patches()
    detector = Detector(DetectorSettings())
    assert detector.mask.shape == (1, 1)
    detector = rested(still)
    watch(detector, walk(still, range(20, 60, 4)), start=3.0)
    assert detector.mask[55, 66] == 255
    assert detector.mask[5, 5] == 0


def test_a_light_that_is_switched_is_a_scene_change_at_its_first_frame() -> None:
    still = patches()
    detector = rested(still)
    dark = (still * 0.4).astype(np.uint8)
    seen = watch(detector, [dark] * 10, start=3.0)
    assert seen[0].reason is Reason.SCENE_CHANGE
    assert not any(detection.motion for detection in seen)
    assert watch(detector, walk(dark, range(20, 60, 4)), start=4.0)[-1].motion


def room(light: float) -> NDArray[np.float64]:
    """Return a wall with a switch and a door: few edges, and most of them upright."""
    y, x = np.mgrid[:180, :320]
    wall = 150 + 30 * np.exp(-((x - 120) ** 2 + (y - 110) ** 2) / (2 * 60.0**2))
    wall[60:78, 200:214] = 40
    wall[10:, 220:] = 80
    wall[20:170:24, 226:296] = 70
    wall[10:, 300:] = 60
    return light * np.asarray(cv2.GaussianBlur(wall, (3, 3), 0), np.float64)


@pytest.mark.parametrize("kind", ["off", "exposure gives a part back", "slowly"])
def test_a_light_that_goes_out_moves_no_edge(kind: str) -> None:
    lights = {
        "off": [0.5] * 80,
        "exposure gives a part back": [0.63 - 0.21 * float(np.exp(-step / 12)) for step in range(80)],
        "slowly": [max(0.4, 1 - step / 40) for step in range(80)],
    }[kind]
    detector = Detector(DetectorSettings())
    watch(detector, grains(np.asarray(room(1.0), np.uint8), 100))
    dimmed = [grains(np.asarray(room(light), np.uint8), 1, seed=step)[0] for step, light in enumerate(lights)]
    dimmer = watch(detector, dimmed, start=10.0)
    assert not any(detection.motion for detection in dimmer)
    assert {detection.shift for detection in dimmer} == {(0.0, 0.0)}
    walking = [with_box(plane, 3 * step, 100) for step, plane in enumerate(dimmed[-60:])]
    assert sum(detection.motion for detection in watch(detector, walking, start=18.0)) > 50


def test_a_lamp_that_lights_a_part_of_the_image_is_not_motion_from_its_first_frame() -> None:
    still = patches()
    y, x = np.mgrid[:120, :160]
    glow = 1.0 + 0.6 * np.exp(-((x - 60) ** 2 + (y - 50) ** 2) / (2 * 30.0**2))
    lit = np.clip(still * glow, 0, 255).astype(np.uint8)
    detector = rested(still)
    seen = watch(detector, [lit] * 20 + [still] * 20, start=3.0)
    assert max(detection.changed for detection in seen) > 0.05
    assert not any(detection.motion for detection in seen)
    assert watch(detector, walk(lit, range(20, 60, 4)), start=7.0)[-1].motion


@pytest.mark.parametrize("size", [(30, 45), (60, 64)])
@pytest.mark.parametrize("look", ["dark", "bright", "patterned"])
def test_a_person_who_appears_within_one_frame_and_stands_is_found(size: tuple[int, int], look: str) -> None:
    still = patches()
    width, height = size
    pattern = np.random.default_rng(8).integers(0, 256, (height, width))
    box = {"dark": np.full_like(pattern, 15), "bright": np.full_like(pattern, 235), "patterned": pattern}[
        look
    ]
    standing = still.copy()
    standing[40 : 40 + height, 50 : 50 + width] = box
    detector = rested(still)
    seen = [detector.update(standing, 3.0 + index / 5) for index in range(15)]
    assert all(detection.motion for detection in seen[1:])


SWITCHES: dict[str, Callable[[Luma], NDArray[np.floating]]] = {
    "light off": lambda luma: luma * 0.4,
    "light on": lambda luma: luma * 1.4,
    "exposure": lambda luma: luma * 0.7 + 70.0,
    "gamma": lambda luma: 255.0 * (luma / 255.0) ** 0.6,
    "infrared": lambda luma: 0.5 * luma + 0.5 * np.abs((luma * 3.0) % 256.0 - 128.0) + 20.0,
    "moved": lambda luma: 0.9 * np.roll(luma, 37, axis=1)[::-1],
}


@pytest.mark.parametrize("kind", SWITCHES)
def test_a_person_who_walks_while_the_scene_changes_is_found(kind: str) -> None:
    still = patches()
    switched = np.clip(SWITCHES[kind](still), 0, 255).astype(np.uint8)
    assert watch(rested(still), [switched] * 15, start=3.0)[0].reason is Reason.SCENE_CHANGE
    assert not any(detection.motion for detection in watch(rested(still), [switched] * 15, start=3.0))

    detector = rested(still)
    assert watch(detector, walk(still, range(20, 60, 4)), start=3.0)[-1].motion
    seen = watch(detector, walk(switched, range(60, 120, 4)), start=4.0)
    # A change of gain and offset hides no motion; another scene has to be learned first.
    blind = 4 if kind in ("infrared", "moved") else 0
    assert all(detection.motion for detection in seen[blind:])
    assert blind or all(len(detection.boxes) == 1 for detection in seen)


def test_traffic_that_fills_the_image_is_not_a_scene_change() -> None:
    """Large objects make most of the image jump in every frame; a scene change makes it jump once."""
    still = patches(240, 320)
    random = np.random.default_rng(5)
    lorries = [
        (lane * 40, phase, int(random.integers(10, 250))) for lane in range(6) for phase in range(0, 320, 80)
    ]
    frames = []
    for index in range(60):
        frame = still.copy()
        for y, phase, level in lorries:
            x = (phase + 25 * index) % 320
            frame[y : y + 34, x : x + 45] = level
        frames.append(frame)
    detector = rested(still)
    seen = watch(detector, frames, start=3.0)
    assert max(detection.jump for detection in seen) > 0.5
    assert all(detection.motion for detection in seen[2:])


def test_text_that_stays_in_place_while_the_camera_shakes_is_not_motion() -> None:
    text = np.kron(np.random.default_rng(4).integers(0, 2, (3, 28)) * 235, np.ones((3, 3), int))
    still = patches()
    frames = []
    for index in range(20 * FPS):
        shaken = index >= 8 * FPS and index % 20 < 6
        frame = np.roll(still, 2 if shaken else 0, axis=1)
        frame[6:15, 10:94] = text
        frames.append(frame)
    assert not any(detection.motion for detection in watch(Detector(DetectorSettings()), frames))


def test_what_sways_within_its_own_colours_is_not_motion_but_a_passer_by_is() -> None:
    still = patches()
    random = np.random.default_rng(3)
    leaves = random.integers(40, 200, (60, 160)).astype(np.uint8)
    frames = []
    for index in range(60):
        frame = still.copy()
        frame[:60] = np.roll(leaves, round(3 * np.sin(index)), axis=1)
        frames.append(frame)
    detector = Detector(DetectorSettings())
    assert not any(detection.motion for detection in watch(detector, frames)[20:])
    passing = [with_box(frame, 20 + 4 * index, 30) for index, frame in enumerate(frames[:20])]
    assert watch(detector, passing, start=6.0)[-1].motion


def test_a_person_who_was_there_from_the_start_is_motion_while_stirring() -> None:
    # Every grey level that appears has been nearby before, and the only unrest is the person's own.
    random = np.random.default_rng(3)
    cloth = np.kron(random.integers(40, 200, (12, 40)), np.ones((4, 4), int)).astype(np.uint8)
    still = patches()
    frames = []
    for turn in random.integers(-6, 7, 20):
        frame = still.copy()
        frame[40:88, 60:84] = np.roll(cloth, turn, axis=1)[:, :24]
        frames += [frame] * 7
    detections = watch(Detector(DetectorSettings()), frames)
    assert np.mean([detection.motion for detection in detections[2 * FPS :]]) > 0.8


@pytest.mark.parametrize("speed", [3, 12])
def test_head_lights_that_sweep_over_a_scene_are_not_motion_but_a_walker_in_them_is(speed: int) -> None:
    still = texture(120, 160) // 3
    y, x = np.mgrid[:120, :160]
    lit = [
        still * (1 + 1.2 * np.exp(-((x - at) ** 2 / 900.0 + (y - 70) ** 2 / 1600.0)))
        for at in range(-120, 280, speed)
    ]
    sweep = [plane.astype(np.uint8) for plane in lit]
    detector = rested(still)
    watch(detector, [still] * 5 * FPS, start=3.0)
    assert not any(detection.motion for detection in watch(detector, sweep, start=8.0))
    after = 8.0 + len(sweep) / FPS
    assert not any(detection.motion for detection in watch(detector, [still] * 3 * FPS, start=after))
    walker = [with_box(plane, 20 + 3 * step, 50) for step, plane in enumerate(sweep[: 3 * FPS])]
    seen = watch(detector, walker, start=after + 3.0)
    assert np.mean([detection.motion for detection in seen[2:]]) > 0.9


def test_a_shaking_camera_alone_is_not_motion() -> None:
    wide = patches(160, 220, seed=4)
    random = np.random.default_rng(0)
    frames = []
    for _ in range(60):
        x, y = random.integers(-3, 4, 2)
        frames.append(np.ascontiguousarray(wide[20 + y : 140 + y, 30 + x : 190 + x]))
    seen = watch(Detector(DetectorSettings()), frames)
    assert sum(detection.motion for detection in seen[20:]) == 0


def test_far_things_may_be_smaller_than_near_ones() -> None:
    still = patches()
    options = {"min_area": 0.02, "min_area_far": 0.002, "horizon": 0.25}

    def seen(y: int, **more: object) -> Detection:
        """Return the verdict on a walking object, 10x10 pixels (0.5 % of the image), foot at y + 10."""
        frames = [with_box(still, x, y, 10, 10) for x in range(30, 60, 3)]
        return watch(rested(still, **{**options, **more}), frames, start=10.0)[-1]

    assert seen(15).motion, "above the horizon the far minimum holds"
    assert seen(35).motion, "a foot a fifth of the way down"
    assert seen(100).reason is Reason.BELOW_AREA, "as small and near"
    assert seen(35, min_area_far=None).reason is Reason.BELOW_AREA
    near = Zone(name="low", polygon=((0, 0.5), (1, 0.5), (1, 1), (0, 1)), min_area=0.002)
    assert seen(100, zones=(near,)).motion, "a zone's own minimum holds in all of it"
    # A command may lower the minimum below the far one.
    assert seen(15, min_area=0.001, min_area_far=0.05).motion


def test_each_measure_has_an_effect_of_its_own() -> None:
    still = patches()
    assert DetectorSettings().measures == MEASURES["medium"]
    assert DetectorSettings(sensitivity="high", strong_share=0.9).measures == replace(
        MEASURES["high"], strong_share=0.9
    )

    def faint(levels: int) -> list[Luma]:
        patch = np.zeros((120, 160), int)
        patch[40:80, 60:90] = levels
        return [np.clip(still + patch, 0, 255).astype(np.uint8)] * 4

    def motion(frames: list[Luma], teach: list[Luma] | None = None, **options: object) -> bool:
        detector = Detector(DetectorSettings(**options))  # type: ignore[arg-type]
        watch(detector, teach or [still] * 30)
        return watch(detector, frames, start=10.0)[-1].motion

    # Grey levels: strong means `distance > 5/3 * threshold / 2 + 6 * noise`; calm halves the threshold.
    assert not motion(faint(12))
    assert motion(faint(12), threshold=8.0)
    assert not motion(faint(40), threshold=60.0)
    # The pixel's own noise.
    assert motion(faint(12), threshold=9.0)
    assert not motion(faint(12), threshold=9.0, noise_factor=3.0)
    # The share of strong pixels: a faint object whose strong core is a tenth of its area.
    core = faint(9)[0].copy()
    core[58:62, 70:80] = 250
    assert not motion([core] * 4, min_area=0.01)
    assert motion([core] * 4, min_area=0.01, strong_share=0.1)
    # Specks that come and go raise the threshold, at most by `unrest_factor`.
    random = np.random.default_rng(5)
    restless = []
    for _ in range(150):
        speckled = still.copy()
        speckled[random.random(still.shape) < 0.04] = 250
        restless.append(speckled)
    small = [with_box(frame, 60, 50, 12, 16) for frame in restless[:4]]
    assert not motion(small, restless, min_area=0.004)
    assert motion(small, restless, min_area=0.004, unrest_factor=1.0)


def grains(still: Luma, count: int, sigma: float = 1.0, seed: int = 7) -> list[Luma]:
    """Return `count` frames of a still scene with Gaussian sensor noise of `sigma` grey levels."""
    random = np.random.default_rng(seed)
    return [
        np.clip(still + random.normal(0, sigma, still.shape) + 0.5, 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def test_a_faint_thing_is_seen_where_the_scene_is_calm_but_not_among_specks() -> None:
    still = patches() // 3 + 40
    random = np.random.default_rng(5)
    restless = grains(still, 100)
    for plane in restless:
        plane[random.random(still.shape) < 0.03] += 60

    def seen(teach: list[Luma], base: list[Luma]) -> float:
        detector = Detector(DetectorSettings())
        watch(detector, teach)
        frames = []
        for x, plane in zip(range(10, 110, 4), base, strict=False):
            frame = plane.copy()
            frame[30:60, x : x + 14] += 17
            frames.append(frame)
        return float(np.mean([found.motion for found in watch(detector, frames, start=10.0)[2:]]))

    assert seen(grains(still, 100), grains(still, 25, seed=8)) > 0.9
    assert seen(restless, restless[:25]) < 0.2


def test_a_small_man_who_stands_where_a_torch_has_shone_is_seen_all_the_time() -> None:
    still = patches() // 6 + 20
    random = np.random.default_rng(2)
    dark = grains(still, 400)
    for plane in dark[60:100]:  # a torch, smaller than the minimum area, passes
        x, y = 76 + int(random.integers(0, 8)), 46 + int(random.integers(0, 14))
        plane[y : y + 3, x : x + 3] += 120
    for step, plane in enumerate(dark[200:350]):  # its carrier stands for 15 s and stirs a little
        x = max(60, 78 - step) + (step // 8) % 2
        plane[40:64, x + 16 : x + 22] += 20
    detections = watch(Detector(DetectorSettings()), dark)
    standing = [detection.motion for detection in detections[203:345]]
    assert np.mean(standing) > 0.95
    assert not any(detection.motion for detection in detections[:195])


def test_who_is_too_small_yet_is_not_learned_for_five_seconds_where_all_is_calm() -> None:
    still = patches() // 6 + 60
    detector = Detector(DetectorSettings())
    watch(detector, grains(still, 150, sigma=0.7))
    small = grains(still, 150, sigma=0.7)
    for plane in small:  # 21 pixels, half of the minimum area
        plane[53:60, 80:83] += 30
    place = slice(55, 58), slice(81, 82)
    watch(detector, small[: 4 * FPS], start=15.0)
    maps = detector.debug_maps()
    assert maps["noise"][place].max() <= 8
    assert maps["distance"][place].min() >= 25
    watch(detector, small[4 * FPS :], start=19.0)
    assert detector.debug_maps()["distance"][place].max() <= 5


def test_a_television_is_background_after_a_while_and_who_walks_before_it_is_not() -> None:
    still = patches(180, 320)
    random = np.random.default_rng(4)
    frames = grains(still, 60 * FPS, sigma=1.0)
    for plane in frames:
        shown = random.integers(30, 220, (4, 6)).astype(np.uint8)
        plane[60:92, 200:248] = np.kron(shown, np.ones((8, 8), np.uint8))
    detector = Detector(DetectorSettings())
    seen = [detection.motion for detection in watch(detector, frames)]
    assert not any(seen[40 * FPS :])
    passers = [with_box(plane, 20 + 4 * step, 50, 24, 60) for step, plane in enumerate(frames[:60])]
    assert np.mean([found.motion for found in watch(detector, passers, start=60.0)[2:]]) > 0.9


def test_burnt_in_text_is_not_motion_when_the_light_falls() -> None:
    still = texture(180, 320)
    random = np.random.default_rng(9)
    text = random.random((10, 110)) < 0.4

    def with_text(plane: Luma) -> Luma:
        plane = plane.copy()
        plane[164:174, 200:310][text] = 240
        return plane

    bright = [with_text(plane) for plane in grains(still, 80, sigma=1.0)]
    dim = [with_text(plane) for plane in grains((still * 0.55).astype(np.uint8), 60, sigma=1.0)]
    detector = Detector(DetectorSettings())
    watch(detector, bright)
    assert not any(detection.motion for detection in watch(detector, dim, start=8.0))


def test_at_one_frame_a_second_things_go_further_between_two_frames() -> None:
    still = patches()
    detector = Detector(DetectorSettings())
    for second in range(8):
        detector.update(still, float(second))
    seen = [
        detector.update(frame, 8.0 + second).motion
        for second, frame in enumerate(walk(still, range(5, 140, 38)))
    ]
    assert seen == [False, True, True, True]


@pytest.mark.parametrize(("every_s", "found"), [(2.0, 4), (3.0, 2), (4.0, 2)])
def test_a_walk_is_found_by_keyframes_alone(every_s: float, found: int) -> None:
    """A figure of 6 % width crosses in 8.5 s. Every keyframe that shows it, but the first, is motion."""
    still = patches(180, 320)
    detector = Detector(DetectorSettings())
    motion = 0
    for step in range(20):
        at_s = step * every_s - 10 * every_s
        frame = with_box(still, round(15 + 34 * at_s), 70, 20, 45) if 0.0 <= at_s < 8.5 else still
        motion += detector.update(frame, 100.0 + at_s).motion
    assert motion == found


@pytest.mark.parametrize("every_s", [0.2, 2.0, 4.0])
def test_an_insect_that_crosses_in_half_a_second_is_no_motion_at_any_rate(every_s: float) -> None:
    still = patches(180, 320)
    detector = Detector(DetectorSettings())
    for step in range(round(120 / every_s)):
        at_s = step * every_s
        since_s = at_s % 12.0
        frame = with_box(still, round(640 * since_s) - 20, 60, 20, 20) if since_s < 0.5 else still
        assert not detector.update(frame if at_s > 10 else still, at_s).motion


@pytest.mark.parametrize("seed", range(4))
def test_an_insect_that_turns_about_for_seconds_is_hardly_motion_at_five_frames_a_second(seed: int) -> None:
    still = patches(180, 320)
    random = np.random.default_rng(seed)
    detector = Detector(DetectorSettings())
    motion = 0
    for step in range(60 * 5):
        frame = still
        if step > 50 and step % 50 < 10:
            frame = with_box(still, int(random.integers(20, 280)), int(random.integers(20, 140)), 14, 14)
        motion += detector.update(frame, step / 5).motion
    # It may be twice in one place by chance: without the rule for what darts, it is motion in 3 to 9 frames.
    assert motion <= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_bright_insect_that_hovers_is_hardly_motion_at_five_frames_a_second(seed: int) -> None:
    """It is often near its last place: without the rule for what is bright, motion in 29 to 44 frames."""
    random = np.random.default_rng(seed)
    detector, motion = Detector(DetectorSettings()), 0
    x, y = 160.0, 90.0
    for step, frame in enumerate(grains(np.full((180, 320), 40, np.uint8), 60 * 5)):
        x, y = np.clip((x + random.normal(0, 22), y + random.normal(0, 22)), 20, 150)
        if step > 50 and step % 50 < 25:
            width, height = random.integers(7, 16, 2)
            frame[int(y) : int(y) + height, int(x) : int(x) + width] = 160
        motion += detector.update(frame, step / 5).motion
    assert motion <= 15


@pytest.mark.parametrize(("level", "first"), [(15, 1), (200, 3)])
def test_who_is_small_at_five_frames_a_second_is_seen_in_the_second_or_fourth(level: int, first: int) -> None:
    detector, seen = Detector(DetectorSettings()), []
    for step, frame in enumerate(grains(np.full((180, 320), 80, np.uint8), 100)):
        if step >= 80:
            frame[80:96, 100 + 3 * (step - 80) : 108 + 3 * (step - 80)] = level
        seen.append(detector.update(frame, step / 5).motion)
    assert seen[80:].index(True) == first
    assert all(seen[80 + first :])


def test_learning_and_rest_are_told_in_seconds() -> None:
    still = patches()
    slow = watch(Detector(DetectorSettings(learning_s=2.0)), [still] * 10 + walk(still, range(20, 120, 4)))
    assert [detection.reason for detection in slow[:20]] == [Reason.LEARNING] * 20
    assert slow[20].motion

    def background_after(rest_s: float) -> float:
        """Return after how many seconds an object that has stopped no longer counts as motion."""
        detector = rested(still, rest_s=rest_s)
        walked = walk(still, range(20, 60, 4))
        watch(detector, walked, start=7.0)
        parked = watch(detector, [walked[-1]] * 600, start=8.0)
        return 0.1 * max(number for number, detection in enumerate(parked) if detection.motion)

    assert background_after(5.0) < 10.0
    assert 15.0 < background_after(20.0) < 40.0


def test_every_verdict_says_what_was_compensated() -> None:
    wide = patches(160, 220, seed=4)
    detector = Detector(DetectorSettings())
    watch(detector, [np.ascontiguousarray(wide[20:140, 30:190])] * 30)
    moved = detector.update(np.ascontiguousarray(wide[18:138, 27:187]), 4.0)
    assert moved.shift == pytest.approx((3 / 160, 2 / 120), abs=0.004)
    assert moved.jump == 0.0, "a shake is undone before what jumps is told"
    darker = np.clip(wide[20:140, 30:190] * 0.8 + 25.0, 0, 255).astype(np.uint8)
    dimmed = detector.update(darker, 5.0)
    assert dimmed.gain == pytest.approx(0.8, abs=0.03)
    assert dimmed.offset == pytest.approx(25.0, abs=3.0)
    assert dimmed.noise > 0.0


def walked_in(still: Luma) -> Detector:
    """Return a detector that has watched `still` for 7 s, and then a person walk in to x = 60 until 9.6 s."""
    detector = rested(still)
    watch(detector, [still] * 4 * FPS, start=3.0)
    watch(detector, walk(still, range(-18, 60, 3)), start=7.0)
    return detector


def stirring_person(still: Luma, x: int, step: int) -> Luma:
    """Return a copy with a person who shifts a little once a second."""
    return with_box(still, x + (step // FPS) % 2, 40)


def test_a_person_who_stops_and_stirs_is_motion_for_minutes_and_at_once_when_moving_on() -> None:
    still = patches()
    detector = walked_in(still)
    stands = [stirring_person(still, 60, step) for step in range(120 * FPS)]
    assert all(detection.motion for detection in watch(detector, stands, start=9.6))
    leaves = watch(detector, walk(still, range(63, 141, 3)), start=129.6)
    assert all(detection.motion for detection in leaves)
    # The background behind the person was kept for two minutes: no ghost.
    assert not any(detection.motion for detection in watch(detector, [still] * FPS, start=140.0))


def leaves(still: Luma, step: int) -> Luma:
    """Return a copy with leaves that stir around (70, 56): 40 bright specks, other ones in each frame."""
    plane = still.copy()
    draw = np.random.default_rng(step)
    plane[draw.integers(20, 92, 40), draw.integers(36, 104, 40)] = 250
    return plane


def stand_at_leaves(walked_in: bool) -> list[bool]:
    """Return the verdicts on 35 s of a person who stands beside leaves, and may have walked in."""
    still = np.asarray(90 + patches() // 12, np.uint8)
    detector = Detector(DetectorSettings(min_area=0.015))
    watch(detector, [leaves(still, step) for step in range(10 * FPS)])
    came = walk(still, range(-18, 33, 2)) if walked_in else [still] * 26
    watch(detector, [leaves(plane, 1000 + step) for step, plane in enumerate(came)], start=10.0)
    stands = [leaves(stirring_person(still, 32, step), 2000 + step) for step in range(35 * FPS)]
    return [detection.motion for detection in watch(detector, stands, start=12.6)]


def test_a_person_who_walked_in_and_stands_beside_leaves_is_motion_until_at_rest() -> None:
    motion = stand_at_leaves(walked_in=True)
    assert all(motion[: 9 * FPS])
    assert not any(motion[30 * FPS :])


def test_what_appears_beside_leaves_needs_strong_evidence() -> None:
    assert not any(stand_at_leaves(walked_in=False))


def test_a_parked_car_becomes_background_and_leaves_no_ghost() -> None:
    still = patches()
    detector = walked_in(still)
    parked = watch(detector, [with_box(still, 60, 40)] * 40 * FPS, start=9.6)
    motion = [detection.motion for detection in parked]
    assert all(motion[: 15 * FPS])
    assert not any(motion[25 * FPS :])
    gone = watch(detector, [*walk(still, range(63, 141, 3)), *[still] * 2 * FPS], start=49.6)
    assert all(detection.motion for detection in gone[1:20])
    assert not any(detection.motion for detection in gone[-FPS:])


def renewed(frames: list[Luma], every_s: float) -> list[Luma]:
    """Return frames of a low bit rate: a keyframe makes all edges sharp, which fade within 1.2 s."""
    shown = []
    for step, frame in enumerate(frames):
        sharp = cv2.addWeighted(frame, 1.8, cv2.GaussianBlur(frame, (0, 0), 3.0), -0.8, 0.0)
        share = max(1.0 - (step % round(every_s * FPS)) / 12.0, 0.0)
        shown.append(np.asarray(cv2.addWeighted(sharp, share, frame, 1.0 - share, 0.0), np.uint8))
    return shown


@pytest.mark.parametrize("every_s", [4.5, 6.0])
def test_what_parks_rests_though_keyframes_renew_the_image(every_s: float) -> None:
    still = patches()
    detector = walked_in(still)
    parked = renewed([with_box(still, 60, 40)] * 60 * FPS, every_s)
    motion = [detection.motion for detection in watch(detector, parked, start=9.6)]
    assert all(motion[: 15 * FPS])
    assert not any(motion[27 * FPS :])


def test_who_stirs_is_seen_though_a_keyframe_renews_the_image_each_second() -> None:
    still = patches()
    detector = walked_in(still)
    stands = renewed([stirring_person(still, 60, step) for step in range(40 * FPS)], 1.0)
    assert all(detection.motion for detection in watch(detector, stands, start=9.6))


def lamp(x: int = 110, y: int = 55, gain: float = 1.6, radius: float = 24.0) -> NDArray[np.float64]:
    """Return by which factor a soft light makes the pixels of (120, 160) brighter."""
    rows, columns = np.mgrid[:120, :160]
    glow = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return np.asarray(1.0 + (gain - 1.0) * glow, np.float64)


def switched(frames: list[Luma], factors: NDArray[np.float64], every_s: float, seed: int = 3) -> list[Luma]:
    """Return noisy frames in a light that goes on at the first, and off or on after each `every_s`."""
    draw = np.random.default_rng(seed)
    shown = []
    for step, frame in enumerate(frames):
        on = step // round(every_s * FPS) % 2 == 0
        plane = frame * factors if on else frame.astype(np.float64)
        shown.append(np.clip(plane + draw.normal(0.0, 1.0, frame.shape), 0, 255).astype(np.uint8))
    return shown


def dim() -> Luma:
    """Return patches of a low contrast."""
    return np.asarray(60 + patches() // 4, np.uint8)


@pytest.mark.parametrize("every_s", [1.0, 2.5, 60.0])
@pytest.mark.parametrize("light", ["lamp", "half"])
def test_who_stands_below_a_light_that_is_switched_stands_there_still(light: str, every_s: float) -> None:
    still = dim()
    half = np.tile(1.0 + 0.6 / (1.0 + np.exp((np.arange(160) - 75) / 12.0)), (120, 1))
    factors = lamp() if light == "lamp" else half
    detector = walked_in(still)
    watch(detector, [stirring_person(still, 60, step) for step in range(5 * FPS)], start=9.6)
    stands = [stirring_person(still, 60, step) for step in range(60 * FPS)]
    seen = watch(detector, switched(stands, factors, every_s), start=14.6)
    assert all(detection.motion for detection in seen)
    on = (60.0 / every_s - 1) % 2 < 1
    gone = [np.asarray(still * factors, np.uint8) if on else still] * 3 * FPS
    assert not any(detection.motion for detection in watch(detector, gone, start=74.6)[2 * FPS :])


@pytest.mark.parametrize("every_s", [1.0, 2.5, 5.0])
def test_what_parks_below_a_lamp_that_is_switched_comes_to_rest(every_s: float) -> None:
    still = dim()
    detector = rested(still)
    watch(detector, [still] * 4 * FPS, start=3.0)
    watch(detector, [with_box(still, x, 40, level=150) for x in range(-18, 60, 3)], start=7.0)
    parked = switched([with_box(still, 60, 40, level=150)] * 60 * FPS, lamp(75, 55, 1.4), every_s)
    motion = [detection.motion for detection in watch(detector, parked, start=9.6)]
    assert all(motion[: 15 * FPS])
    assert not any(motion[25 * FPS :])


@pytest.mark.parametrize(("shadow", "every_s"), [(False, 2.5), (False, 16.0), (True, 16.0)])
def test_what_parks_comes_to_rest_though_the_light_of_the_room_is_switched(
    shadow: bool, every_s: float
) -> None:
    still = dim()
    factors = np.full((120, 160), 1.5)
    if shadow:
        factors[44:74, 82:100] *= 0.6
    detector = walked_in(still)
    parked = switched([with_box(still, 60, 40)] * 90 * FPS, factors, every_s)
    motion = [detection.motion for detection in watch(detector, parked, start=9.6)]
    assert not any(motion[30 * FPS :])


def test_who_stirs_only_when_the_light_is_switched_stands_there_still() -> None:
    still = dim()
    detector = walked_in(still)
    stands = [with_box(still, 60 + (step % 50 < 15) * (step // 5 % 2), 40) for step in range(60 * FPS)]
    seen = watch(detector, switched(stands, np.full((120, 160), 1.4), 5.0), start=9.6)
    assert all(detection.motion for detection in seen)


@pytest.mark.parametrize("light", ["room", "lamp"])
def test_a_hard_shadow_that_a_light_puts_beside_a_person_is_background(light: str) -> None:
    still = dim()
    factors = np.full((120, 160), 1.5) if light == "room" else lamp(80, 60, 1.5, 40.0)
    factors[44:74, 82:100] *= 0.6
    detector = walked_in(still)
    watch(detector, [stirring_person(still, 60, step) for step in range(5 * FPS)], start=9.6)
    stands = [stirring_person(still, 60, step) for step in range(30 * FPS)]
    seen = watch(detector, switched(stands, factors, 60.0), start=14.6)
    assert all(detection.motion for detection in seen[FPS:])
    # It is no part of the person either.
    assert all(box.x + box.width < 0.55 for detection in seen[FPS:] for box in detection.boxes)
    gone = watch(detector, switched([still] * 5 * FPS, factors, 60.0), start=44.6)
    assert not any(detection.motion for detection in gone[FPS:])


@pytest.mark.parametrize("fade_s", [0.3, 1.0])
def test_who_stands_below_a_lamp_that_fades_in_and_out_stands_there_still(fade_s: float) -> None:
    still = dim()
    detector = walked_in(still)
    watch(detector, [stirring_person(still, 60, step) for step in range(5 * FPS)], start=9.6)
    on = [
        np.clip(step / FPS / fade_s, 0, 1) - np.clip((step / FPS - 8) / fade_s, 0, 1) for step in range(200)
    ]
    stands = [
        switched([stirring_person(still, 60, step)], 1 + (lamp() - 1) * share, 60.0, seed=step)[0]
        for step, share in enumerate(on)
    ]
    assert np.mean([detection.motion for detection in watch(detector, stands, start=14.6)]) > 0.95
    gone = watch(detector, switched([still] * 4 * FPS, np.ones((120, 160)), 60.0), start=34.6)
    assert not any(detection.motion for detection in gone[2 * FPS :])


def test_a_large_person_who_takes_a_pace_is_no_shadow() -> None:
    still = np.asarray(60 + patches(180, 320) // 4, np.uint8)
    coat = texture(180, 320, seed=9)

    def at(x: int) -> Luma:
        plane = still.copy()
        plane[50:170, max(x, 0) : max(x + 45, 0)] = coat[50:170, : min(max(x + 45, 0), 45)]
        return plane

    detector = rested(still)
    watch(detector, [still] * 4 * FPS, start=3.0)
    watch(detector, [at(x) for x in range(-40, 120, 5)], start=7.0)
    stands = [at(120 + step // FPS % 2) for step in range(5 * FPS)]
    pace = [at(165 + step // FPS % 2) for step in range(15 * FPS)]
    seen = watch(detector, [*stands, *pace], start=10.2)
    assert all(detection.motion for detection in seen)
    # All of the person is seen after the pace, not just what has not been taken for ground.
    assert all(sum(box.width * box.height for box in detection.boxes) > 0.08 for detection in seen[-10:])


@pytest.mark.parametrize("scene", ["black", "flat", "turned"])
def test_another_scene_is_a_scene_change_though_a_person_stands_there(scene: str) -> None:
    still = patches()
    detector = walked_in(still)
    watch(detector, [stirring_person(still, 60, step) for step in range(5 * FPS)], start=9.6)
    other = {"black": still // 20, "flat": np.full_like(still, 60), "turned": patches(seed=5)}[scene]
    seen = watch(detector, [other] * FPS, start=14.6)
    assert seen[0].reason is Reason.SCENE_CHANGE
    assert not any(detection.motion for detection in seen)


@pytest.mark.parametrize("gain", [0.55, 0.8, 1.25])
def test_who_stands_while_the_light_is_switched_stands_there_still(gain: float) -> None:
    still = np.asarray(60 + patches() // 2, np.uint8)
    detector = walked_in(still)
    stands = [stirring_person(still, 60, step) for step in range(10 * FPS)]
    assert all(detection.motion for detection in watch(detector, stands, start=9.6))
    switched = [np.asarray(stirring_person(still, 60, step) * gain, np.uint8) for step in range(15 * FPS)]
    seen = watch(detector, switched, start=19.6)
    assert all(detection.motion for detection in seen[2:])
    # The person is gone: nothing is left.
    gone = watch(detector, [np.asarray(still * gain, np.uint8)] * 3 * FPS, start=34.6)
    assert not any(detection.motion for detection in gone[FPS:])


@pytest.mark.parametrize(("ground", "radius"), [("even", 24.0), ("patches", 18.0)])
def test_who_stands_in_the_light_of_a_lamp_that_goes_on_stands_there_still(
    ground: str, radius: float
) -> None:
    still = (
        np.full((120, 160), 90, np.uint8) if ground == "even" else np.asarray(60 + patches() // 4, np.uint8)
    )
    y, x = np.mgrid[:120, :160]
    glow = 1.0 + 0.8 * np.exp(-((x - 110) ** 2 + (y - 55) ** 2) / (2 * radius**2))
    detector = walked_in(still)
    stands = [stirring_person(still, 60, step) for step in range(10 * FPS)]
    watch(detector, stands, start=9.6)
    lit = [np.asarray(stirring_person(still, 60, step) * glow, np.uint8) for step in range(15 * FPS)]
    seen = watch(detector, lit, start=19.6)
    # What the lamp lights is left out for half a second, with the person in it.
    assert all(detection.motion for detection in seen[FPS:])
    gone = watch(detector, [np.asarray(still * glow, np.uint8)] * 3 * FPS, start=34.6)
    assert not any(detection.motion for detection in gone[FPS:])


@pytest.mark.parametrize("fps", [5, 10])
def test_a_dark_person_who_walks_onto_even_ground_is_no_shadow(fps: int) -> None:
    still = np.full((180, 320), 90, np.float32)
    still[:, :150] = 60 + patches(180, 320)[:, :150] / 3
    detector = Detector(DetectorSettings())
    seen = []
    for step in range(60 * fps):
        at = step / fps
        frame = still.copy()
        if at >= 10:
            left = min(round(30 * (at - 10)) - 16, 220) + int(at) % 2
            frame[80:124, max(left, 0) : max(left + 16, 0)] = 54
        seen.append(detector.update(grains(np.asarray(frame, np.uint8), 1, seed=step)[0], at).motion)
    assert np.mean(seen[12 * fps :]) > 0.95


def test_ground_that_the_sun_reached_below_a_person_is_no_ghost() -> None:
    still = 128 + 0.4 * (patches(180, 320).astype(np.float32) - 128)
    sunny = 1 / (1 + np.exp((np.arange(320) - 170) / 40.0))

    def people(lefts: list[int], lights: NDArray[np.float64]) -> list[Luma]:
        lit = [np.clip(still * (1 + 0.3 * light * sunny), 0, 255).astype(np.uint8) for light in lights]
        shown = [with_box(plane, left, 85) for plane, left in zip(lit, lefts, strict=True)]
        return [grains(plane, 1, seed=step)[0] for step, plane in enumerate(shown)]

    detector = Detector(DetectorSettings())
    watch(detector, people([400] * 100, np.zeros(100)))
    watch(detector, people([*range(-18, 160, 3)], np.zeros(60)), start=10.0)
    stands = people([160 + step // FPS % 2 for step in range(200)], np.arange(200).clip(0, 150) / 150)
    assert np.mean([detection.motion for detection in watch(detector, stands, start=16.0)]) > 0.95
    leaves = people([*range(172, 320, 12)], np.ones(13))
    assert sum(detection.motion for detection in watch(detector, leaves, start=36.0)) >= 11
    gone = watch(detector, people([400] * 50, np.ones(50)), start=37.3)
    assert not any(detection.motion for detection in gone)


def test_what_was_there_from_the_start_and_goes_leaves_no_ghost() -> None:
    still = patches()
    detector = rested(with_box(still, 60, 40))
    watch(detector, [with_box(still, 60, 40)] * 6 * FPS, start=3.0)
    gone = watch(detector, [*walk(still, range(63, 141, 3)), *[still] * 3 * FPS], start=9.0)
    assert all(detection.motion for detection in gone[2:20])
    assert not any(detection.motion for detection in gone[-2 * FPS :])


def still_and_noise(count: int, seed: int = 1) -> tuple[Luma, list[Luma]]:
    """Return a dim scene, and `count` frames of it with the noise of a camera."""
    still = (patches(180, 320) // 6 + 40).astype(np.uint8)
    return still, grains(still, count, sigma=1.0, seed=seed)


def test_who_hardly_stands_out_for_a_moment_is_motion_for_half_a_second() -> None:
    still = np.full((120, 160), 100, np.uint8)
    detector = rested(still)
    watch(detector, [still] * 50, start=3.0)
    watch(detector, [with_box(still, x, 40, level=140) for x in range(-16, 60, 4)], start=8.0)
    stirring = [with_box(still, 56, 40, level=140 - 4 * (step % 2)) for step in range(20)]
    faint = [with_box(still, 56, 40, level=109)] * 12
    seen = watch(detector, [*stirring, *faint[:4], *stirring, *faint], start=10.0)
    motion = [detection.motion for detection in seen]
    assert all(motion[:44])
    assert motion[44:] == [True] * 5 + [False] * 7


def hardly(x: int, width: int = 16, height: int = 30) -> Luma:
    """Return even ground with a box that hardly stands out of it."""
    return with_box(np.full((120, 160), 100, np.uint8), x, 40, width, height, level=109)


def stood_and_faded(detector: Detector, x: int, faded: Luma, stirs_s: float = 2.0) -> list[bool]:
    """Return the verdicts on a second of `faded`, after a box has stirred at `x`."""
    still, steps = np.full((120, 160), 100, np.uint8), range(round(stirs_s * FPS))
    stirring = [with_box(still, x, 40, 16, level=140 - 4 * (step % 2)) for step in steps]
    seen = watch(detector, [*stirring, *[faded] * FPS], start=10.0)
    assert all(detection.motion for detection in seen[2:-FPS])
    return [detection.motion for detection in seen[-FPS:]]


def test_who_hardly_stands_out_at_the_edge_of_the_image_or_as_a_large_thing_is_not_held() -> None:
    still = np.full((120, 160), 100, np.uint8)
    for x, faded, held in ((56, hardly(56), 5), (0, hardly(0), 0), (56, hardly(40, 60, 50), 0)):
        detector = Detector(DetectorSettings(max_area=0.1))
        watch(detector, [still] * 80)
        watch(detector, [with_box(still, left, 40, 16, level=140) for left in range(140, x, -7)], start=8.0)
        assert stood_and_faded(detector, x, faded) == [True] * held + [False] * (FPS - held)


@pytest.mark.parametrize(("stirs_s", "held"), [(3.0, 5), (15.0, 0)])
def test_what_has_moved_in_its_own_place_for_long_is_not_held(stirs_s: float, held: int) -> None:
    detector = Detector(DetectorSettings())
    watch(detector, [np.full((120, 160), 100, np.uint8)] * 100)
    motion = stood_and_faded(detector, 56, hardly(56), stirs_s)
    assert motion == [True] * held + [False] * (FPS - held)


@pytest.mark.parametrize("rise", [20, 24])
def test_a_man_who_appears_slowly_at_night_and_stirs_is_seen_until_he_goes(rise: int) -> None:
    _, frames = still_and_noise(450)
    for step in range(200, 450):
        left = 150 + step // 7 % 2 * 2
        frames[step][80:98, left : left + 7] += np.uint8(min(rise, rise * (step - 199) // 40))
    seen = [detection.motion for detection in watch(Detector(DetectorSettings()), frames)]
    assert not any(seen[:200])
    assert np.mean(seen[260:]) > 0.95


def test_what_sways_in_a_calm_place_is_not_motion() -> None:
    _, frames = still_and_noise(600)
    for step, frame in enumerate(frames):
        left = 150 + round(2.0 * np.sin(step / 4.0))
        frame[40:120, left : left + 5] -= np.uint8(25)
    assert not any(detection.motion for detection in watch(Detector(DetectorSettings()), frames)[60:])


def test_an_insect_that_crawls_in_front_of_an_infrared_lamp_is_not_motion() -> None:
    _, frames = still_and_noise(400)
    rows, columns = np.mgrid[0:180, 0:320]
    draw, x, y = np.random.default_rng(2), 160.0, 90.0
    for frame in frames[200:]:
        x, y = x + draw.normal(0, 1.0), y + draw.normal(0, 1.0)
        glow = 110 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 5.0**2))
        frame[:] = np.clip(frame + glow, 0, 255).astype(np.uint8)
    assert not any(detection.motion for detection in watch(Detector(DetectorSettings()), frames))


@pytest.mark.parametrize(("low", "high", "size"), [(25, 45, 4.0), (20, 60, 5.0)])
def test_an_insect_is_not_motion_because_it_lasts(low: int, high: int, size: float) -> None:
    _, frames = still_and_noise(500)
    rows, columns = np.mgrid[0:180, 0:320]
    draw, x, y = np.random.default_rng(2), 160.0, 90.0
    for step, frame in enumerate(frames[200:]):
        x, y = x + draw.normal(0, 1.0), y + draw.normal(0, 1.0)
        height = (low + high) / 2 + (high - low) / 2 * np.sin(step * np.pi / FPS)
        glow = height * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
        frame[:] = np.clip(frame + glow, 0, 255).astype(np.uint8)
    detector = Detector(DetectorSettings(min_area=0.001))
    assert sum(detection.motion for detection in watch(detector, frames)) <= 3


def test_a_beam_that_sweeps_over_plain_ground_is_not_motion() -> None:
    ground = patches(180, 320) // 2
    ground[80:] = 50
    frames = grains(ground, 160, sigma=1.0)
    columns = np.arange(320)
    for step in range(100, 130):
        beam = 80 * np.exp(-((columns - 10 * (step - 100)) ** 2) / (2 * 25.0**2))
        frames[step][90:150] = np.clip(frames[step][90:150] + beam * np.hanning(60)[:, None], 0, 255)
    assert not any(detection.motion for detection in watch(Detector(DetectorSettings()), frames))


def with_rain(luma: Luma, draw: np.random.Generator, drops: int = 20, width: int = 4) -> Luma:
    """Return a copy of an image of 180x320 pixels with drops of 14 pixels."""
    frame = luma.copy()
    for left, top in zip(draw.integers(0, 316, drops), draw.integers(0, 165, drops), strict=True):
        frame[top : top + 14, left : left + width] = np.clip(
            frame[top : top + 14, left : left + width] + 50, 0, 255
        )
    return frame


@pytest.mark.parametrize("drops", [30, 50])
@pytest.mark.parametrize("walked_in", [True, False])
def test_who_walks_in_and_stands_in_the_rain_is_motion_until_gone(walked_in: bool, drops: int) -> None:
    draw = np.random.default_rng(6)
    still = texture(180, 320) // 3 + 60
    detector, fps = Detector(DetectorSettings(min_area=0.001)), 5
    verdicts = []
    for step in range(100 * fps):
        frame = grains(still, 1, sigma=1.0, seed=step)[0]
        seconds = step / fps
        if walked_in and 20 <= seconds < 80:
            left = min(-16 + round(22 * (seconds - 20)), 150) + 2 * (step // (2 * fps) % 2)
            frame = with_box(frame, left, 80, 16, 44)
        verdicts.append(detector.update(with_rain(frame, draw, drops, width=2), seconds).motion)
    before, stands, after = verdicts[10 * fps : 20 * fps], verdicts[25 * fps : 80 * fps], verdicts[81 * fps :]
    assert np.mean(before) < 0.1
    assert np.mean(stands) > 0.9 if walked_in else np.mean(stands) < 0.1
    assert np.mean(after) < 0.1


def test_who_stands_before_a_textured_wall_and_stirs_is_no_hole() -> None:
    draw, fps = np.random.default_rng(1), 10
    coarse = draw.integers(20, 220, (30, 53), np.uint8)
    wall = np.asarray(cv2.resize(coarse, (320, 180), interpolation=cv2.INTER_CUBIC), np.uint8)
    detector = Detector(DetectorSettings(min_area=0.001))
    arm, motion = False, []
    for step in range(55 * fps):
        frame, seconds = wall, step / fps
        if 15 <= seconds < 48:
            stands = 19.25 <= seconds < 40
            left = 150 if stands else 40 * (seconds - (15.5 if seconds < 40 else 36.25))
            frame = with_box(wall, round(left), 70, 20, 70, level=110)
            if step % 2 == 0:
                arm = bool(draw.integers(2))
            if stands and arm:
                frame = with_box(frame, 150, 100, 20, 7, level=60)
        motion.append(detector.update(grains(frame, 1, sigma=1.0, seed=step)[0], seconds).motion)
    assert not any(motion[: 15 * fps])
    assert np.mean(motion[17 * fps : 40 * fps]) > 0.98
    assert not any(motion[50 * fps :])


@pytest.mark.parametrize("fps", [5, 10])
def test_glints_on_a_puddle_in_the_rain_become_background(fps: int) -> None:
    draw = np.random.default_rng(5)
    still = texture(180, 320) // 3 + 60
    detector = Detector(DetectorSettings(min_area=0.001))
    motion = []
    for step in range(70 * fps):
        seconds = step / fps
        frame = with_rain(grains(still, 1, sigma=1.0, seed=step)[0], draw, 30, width=2)
        across = 9 + round(5 * np.sin(1.3 * seconds))
        for left, top in zip(
            draw.normal(150, 14, 12).astype(int), draw.normal(140, 5, 12).astype(int), strict=True
        ):
            frame[top : top + 2, left : left + across] = 240
        motion.append(detector.update(frame, seconds).motion)
    assert np.mean(motion[40 * fps :]) < 0.1


def flakes(count: int, fall: float, seed: int) -> Callable[[Luma, float], Luma]:
    """Return a function that draws falling flakes into an image of 180x320 pixels, at a time in seconds."""
    draw = np.random.default_rng(seed)
    start, sizes = draw.random((count, 2)) * (180, 320), draw.integers(2, 4, count)
    speeds = np.stack([fall * (0.6 + 0.8 * draw.random(count)), 10.0 * draw.normal(size=count) + 10.0], 1)

    def drawn(luma: Luma, seconds: float) -> Luma:
        frame = luma.copy()
        places = (start + speeds * seconds + draw.normal(0.0, 1.0, start.shape)) % (180, 320)
        for (top, left), size in zip(places.astype(int), sizes, strict=True):
            part = frame[top : top + size, left : left + size]
            part[:] = np.clip(part.astype(int) + 60, 0, 255)
        return frame

    return drawn


@pytest.mark.parametrize(
    ("fps", "count", "fall", "seed"), [(5, 60, 30, 3), (10, 60, 30, 3), (10, 100, 40, 1)]
)
def test_snow_is_not_motion_after_a_person_has_walked_through_it(
    fps: int, count: int, fall: float, seed: int
) -> None:
    still, snow = texture(180, 320) // 3 + 60, flakes(count, fall, seed)
    detector = Detector(DetectorSettings(min_area=0.001))
    walks, after = [], []
    for step in range(60 * fps):
        frame, seconds = grains(still, 1, sigma=1.0, seed=step)[0], step / fps
        if 30 <= seconds < 38:
            frame = with_box(frame, round(-16 + 44 * (seconds - 30)), 80, 16, 44)
        motion = detector.update(snow(frame, seconds), seconds).motion
        if 31 <= seconds < 37:
            walks.append(motion)
        elif seconds >= 40:
            after.append(motion)
    assert np.mean(walks) > 0.9
    assert np.mean(after) < 0.1


@pytest.mark.parametrize("fps", [5, 10])
@pytest.mark.parametrize("weather", ["rain", "snow"])
def test_a_car_that_parks_in_rain_or_snow_becomes_background(fps: int, weather: str) -> None:
    draw, snow = np.random.default_rng(4), flakes(50, 35.0, 5)
    still = texture(180, 320) // 3 + 60
    detector = Detector(DetectorSettings(min_area=0.001))
    motion = []
    for step in range(75 * fps):
        frame, seconds = grains(still, 1, sigma=1.0, seed=step)[0], step / fps
        if seconds >= 20:
            frame = with_box(frame, round(min(-60 + 60 * (seconds - 20), 130)), 70, 60, 30)
        shown = with_rain(frame, draw, 40, width=2) if weather == "rain" else snow(frame, seconds)
        motion.append(detector.update(shown, seconds).motion)
    assert np.mean(motion[24 * fps : 40 * fps]) > 0.8
    assert np.mean(motion[60 * fps :]) < 0.1


@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0])
def test_rain_in_rare_frames_is_not_motion_and_a_person_in_it_is(fps: float) -> None:
    draw = np.random.default_rng(6)
    still = texture(180, 320) // 3 + 60
    detector = Detector(DetectorSettings())
    rain: list[bool] = []
    person: list[bool] = []
    for step in range(120):
        frame = grains(still, 1, sigma=1.0, seed=step)[0]
        frame = with_rain(frame, draw)
        walks = 60 <= step < 75
        if walks:
            frame = with_box(frame, 20 + 14 * (step - 60), 60, 24, 80)
        motion = detector.update(frame, step / fps).motion
        (person if walks else rain).append(motion)
    assert np.mean(rain) < 0.1
    assert np.mean(person) > 0.7


@pytest.mark.parametrize("sigma", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("ground", ["plain", "patches"])
def test_a_bright_person_in_a_soft_image_is_seen(sigma: float, ground: str) -> None:
    still = np.full((135, 240), 60, np.uint8) if ground == "plain" else patches(135, 240) // 3 + 30

    def shown(left: int | None) -> Luma:
        frame = still if left is None else still.copy()
        if left is not None:
            frame[40:85, left : left + 18] = 200
        return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8)

    frames = [shown(None)] * 100 + [shown(20 + 2 * step) for step in range(80)]
    noisy = [grains(frame, 1, sigma=1.0, seed=step)[0] for step, frame in enumerate(frames)]
    assert np.mean([detection.motion for detection in watch(Detector(DetectorSettings()), noisy)[105:]]) > 0.9


@pytest.mark.parametrize("fps", [1.0, 2.0])
@pytest.mark.parametrize("count", [1, 12])
def test_people_in_rare_frames_are_seen_after_rain_and_many_at_once(fps: float, count: int) -> None:
    draw = np.random.default_rng(6)
    still = texture(180, 320) // 3 + 60
    detector, seen = Detector(DetectorSettings()), []
    for step in range(round(75 * fps)):
        frame, now = grains(still, 1, sigma=1.0, seed=step)[0], step / fps
        if now < 30:
            frame = with_rain(frame, draw)
        for person in range(count if now >= 65 else 0):
            left = 10 + 24 * person + round(20 * (now - 65)) % 40
            frame[30 + person % 3 * 50 : 74 + person % 3 * 50, left : left + 14] = 15
        motion = detector.update(frame, now).motion
        if now >= 67:
            seen.append(motion)
    assert np.mean(seen) > 0.8


@pytest.mark.parametrize("shape", [(401, 402), (403, 241), (403, 399)])
def test_noise_at_an_odd_size_is_judged(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    detector = Detector(DetectorSettings())
    for step in range(5):
        detector.update(draw.integers(0, 255, shape, np.uint8), step / FPS)
