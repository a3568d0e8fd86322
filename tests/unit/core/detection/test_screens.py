"""A screen is found by its cuts and left out; people are taken for none."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.regions import Regions
from async_motion.core.detection.screens import Screens
from async_motion.core.detection.working_image import Plane
from async_motion.core.model import Luma
from tests.support.scenes import patches

SHAPE = (180, 320)
SCREEN = (slice(60, 88), slice(200, 248))
STEP_S = 0.2
TOLERANCE: Plane = np.full(SHAPE, 10, np.uint8)


def television(count: int, fps: float, *, every_s: float = 2.0, seed: int = 4) -> list[Luma]:
    """Return frames of a still room with a television that cuts about each `every_s`, and a little noise."""
    draw, still = np.random.default_rng(seed), patches(*SHAPE)

    def scene() -> Luma:
        coarse = draw.integers(20, 240, (3, 4)).astype(np.uint8)
        return np.asarray(cv2.resize(coarse, (48, 28), interpolation=cv2.INTER_CUBIC), np.uint8)

    frames, shown = [], scene()
    for _ in range(count):
        if draw.random() < 1.0 / (every_s * fps):
            shown = scene()
        frame = still.copy()
        frame[SCREEN] = shown
        frames.append(np.clip(frame + draw.normal(0, 1.0, SHAPE), 0, 255).astype(np.uint8))
    return frames


def judged(frames: list[Luma], fps: float) -> list[bool]:
    detector = Detector(DetectorSettings())
    return [detector.update(frame, step / fps).motion for step, frame in enumerate(frames)]


@pytest.mark.parametrize("fps", [5, 15])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_television_is_no_motion_after_some_cuts(fps: int, seed: int) -> None:
    seen = judged(television(60 * fps, fps, seed=seed), fps)
    assert not any(seen[25 * fps :])


def test_who_walks_before_a_television_is_seen_and_afterwards_it_is_still_left_out() -> None:
    frames = television(90 * 5, 5)
    for step in range(200, 275):
        left = 4 * (step - 200)
        frames[step][50:120, left : left + 24] = 15
    seen = judged(frames, 5)
    assert not any(seen[125:200])
    assert np.mean(seen[204:275]) > 0.95
    assert not any(seen[300:])


def turned(height: int, facing: int, arm: int) -> tuple[Plane, Plane]:
    """Return the outline and the image of a person from the front (0), the side or the back (2)."""
    width = height * 2 // 5
    outline, image = np.zeros((height, width), np.uint8), np.full((height, width), 35, np.uint8)
    cv2.circle(outline, (width // 2, height // 9), height // 10, 255, -1)
    cv2.rectangle(outline, (width // 6, height // 5), (width - width // 6, height * 6 // 10), 255, -1)
    cv2.rectangle(outline, (width // 5, height * 6 // 10), (width - width // 5, height - 1), 255, -1)
    image[: height // 5] = (150, 95, 40)[facing]
    body = image[height // 5 : height * 6 // 10]
    body[:] = (180, 110, 60)[facing]
    body[arm : arm + max(height // 12, 2)] = 20
    return outline, image


@pytest.mark.parametrize("fps", [3, 5])
@pytest.mark.parametrize("height", [30, 50])
def test_a_person_who_stands_and_turns_is_no_screen(fps: int, height: int) -> None:
    draw, still = np.random.default_rng(0), patches(*SHAPE)
    outline, image = turned(height, 0, 2)
    frames = []
    for step in range(50 * fps):
        frame = still.copy()
        if step >= 10 * fps:
            if step % round(1.5 * fps) == 0:
                outline, image = turned(height, int(draw.integers(3)), int(draw.integers(height // 4)))
            place = frame[90 : 90 + height, 200 : 200 + outline.shape[1]]
            place[outline > 0] = image[outline > 0]
        frames.append(np.clip(frame + draw.normal(0, 1.0, SHAPE), 0, 255).astype(np.uint8))
    assert np.mean(judged(frames, fps)[12 * fps :]) > 0.9


def test_a_person_who_waves_all_the_time_is_no_screen() -> None:
    still = patches(*SHAPE)
    draw = np.random.default_rng(3)
    frames: list[Luma] = []
    arm = 0
    for step in range(60 * 5):
        frame = np.clip(still + draw.normal(0, 1.0, SHAPE), 0, 255).astype(np.uint8)
        left = min(4 * step, 150)
        frame[60:130, left : left + 24] = 20
        arm = int(draw.integers(0, 40)) if step % 5 == 0 else arm
        frame[70:76, left + 24 : left + 24 + arm] = 220
        frames.append(frame)
    assert np.mean(judged(frames, 5)[5:]) > 0.95


WHOLE = (100, 60, 40, 24)


class Cuts:
    """Shows regions and images to `Screens`, one each `STEP_S`."""

    def __init__(self) -> None:
        self.screens, self.now = Screens(SHAPE), 0.0

    def show(
        self,
        draw: Callable[[Plane], None],
        box: tuple[int, int, int, int] = WHOLE,
        region: tuple[int, int, int, int] | None = None,
    ) -> bool:
        """Draw into a box (left, top, width, height); return whether the region lies in a screen.

        The region is the box, unless another is given.
        """
        mask, image = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 90, np.uint8)
        draw(_part(image, box))
        _part(mask, region or box)[:] = 255
        regions = Regions(mask)
        self.now += STEP_S
        all_of_it = np.array([False, True])
        self.screens.update(regions, image, TOLERANCE, all_of_it, self.now)
        return bool(self.screens.left_out(regions, all_of_it, self.now)[1])


def _part(image: Plane, box: tuple[int, int, int, int]) -> Plane:
    left, top, width, height = box
    return image[top : top + height, left : left + width]


def level(value: int) -> Callable[[Plane], None]:
    def draw(part: Plane) -> None:
        part[:] = value

    return draw


def scenes(*lengths: int) -> list[int]:
    """Return grey levels: one for each of the scenes, which have these numbers of frames."""
    levels = [150, 200, 30, 240]
    return [levels[scene] for scene, length in enumerate(lengths) for _ in range(length)]


def test_two_cuts_in_the_same_place_make_a_screen() -> None:
    cuts = Cuts()
    assert [cuts.show(level(value)) for value in scenes(3, 5, 3)] == [False] * 9 + [True] * 2


@pytest.mark.parametrize("lengths", [(3, 3, 5), (10,), (1,) * 4])
def test_one_cut_and_cuts_at_once_make_none(lengths: tuple[int, ...]) -> None:
    cuts = Cuts()
    assert not any(cuts.show(level(value)) for value in scenes(*lengths))


@pytest.mark.parametrize(
    "box", [(100, 60, 24, 24), (100, 60, 24, 40), (100, 60, 80, 24), (100, 60, 110, 60), (1, 60, 40, 24)]
)
def test_what_has_not_the_shape_of_a_screen_or_is_partly_out_of_view_is_none(
    box: tuple[int, int, int, int],
) -> None:
    cuts = Cuts()
    assert not any(cuts.show(level(value), box) for value in scenes(3, 5, 5))


@pytest.mark.parametrize(("share", "screen"), [(0.5, False), (0.65, True)])
def test_a_cut_need_not_replace_all_of_a_screen_but_most_of_it(share: float, screen: bool) -> None:
    def in_part(value: int) -> Callable[[Plane], None]:
        def draw(part: Plane) -> None:
            part[:] = 150
            part[:, : round(share * part.shape[1])] = value

        return draw

    cuts = Cuts()
    assert any(cuts.show(in_part(value)) for value in scenes(3, 5, 5)) == screen


def test_cuts_in_places_that_differ_by_more_than_two_pixels_make_none() -> None:
    moved = Cuts()
    values = scenes(3, 5, 5)
    places = [100] * 7 + [103] * 6
    assert not any(
        moved.show(level(value), (left, 60, 40, 24)) for value, left in zip(values, places, strict=True)
    )


def test_a_cut_counts_although_less_differs_from_the_ground_after_it() -> None:
    cuts = Cuts()
    left, low = (100, 60, 20, 24), (100, 70, 40, 14)
    regions = [*[WHOLE] * 4, *[left] * 4, WHOLE, *[low] * 2]
    seen = [cuts.show(level(value), WHOLE, box) for value, box in zip(scenes(3, 5, 3), regions, strict=True)]
    assert seen == [False] * 9 + [True] * 2


def test_changes_that_go_on_in_the_next_frame_are_no_cut() -> None:
    cuts = Cuts()
    assert not any(cuts.show(level((150, 200, 30)[step % 3])) for step in range(15))


def test_frames_that_are_rarer_than_three_a_second_are_not_looked_at() -> None:
    cuts = Cuts()
    for value in scenes(3, 5, 5):
        cuts.now += 0.2
        assert not cuts.show(level(value))


def test_two_screens_are_both_left_out_however_often_one_cuts() -> None:
    cuts = Cuts()
    often, seldom = (20, 60, 40, 24), (200, 60, 40, 24)
    for value in scenes(3, 5, 3):
        cuts.show(level(value), seldom)
    for scene in range(40):
        for _ in range(5):
            cuts.show(level(30 + 40 * (scene % 5)), often)
    assert cuts.show(level(60), often)
    assert cuts.show(level(60), seldom)


def test_a_screen_is_forgotten_five_minutes_after_it_last_differed_as_a_whole() -> None:
    cuts = Cuts()
    for value in scenes(3, 5, 3):
        cuts.show(level(value))
    for _ in range(2):
        cuts.now += 290.0
        assert cuts.show(level(60))
    cuts.now += 290.0
    assert cuts.show(level(60), (104, 64, 20, 10)), "what stirs in a part of it"
    cuts.now += 20.0
    assert not cuts.show(level(60))


def test_what_has_come_from_elsewhere_is_not_asked_for() -> None:
    cuts = Cuts()
    for value in scenes(3, 5, 3):
        cuts.show(level(value))
    mask = np.zeros(SHAPE, np.uint8)
    mask[62:80, 104:112] = 255
    assert not cuts.screens.left_out(Regions(mask), np.zeros(2, np.bool_), cuts.now).any()
    assert cuts.screens.left_out(Regions(mask), np.array([False, True]), cuts.now).tolist() == [False, True]
