"""Where frames are rare, each track goes on with one region, and chance is not trusted."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.core.detection.association import Restless, likeliest
from async_motion.core.detection.regions import Regions, Unrest
from async_motion.core.detection.tracks import Tracks

SHAPE = (180, 320)
WIDE = 60.0


def boxes_of(*boxes: tuple[float, float, float, float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return boxes given as left, top, width, height as left, top, right, bottom."""
    found = np.array(boxes, np.float64)
    found[:, 2:] += found[:, :2]
    return found


def owners(
    regions: list[tuple[float, float, float, float]], tracks: list[tuple[float, float, float, float]]
) -> list[int]:
    """Return the track of each region if all are within reach and no track has a speed."""
    boxes, last = boxes_of(*regions), boxes_of(*tracks)
    reaches = np.ones((len(boxes), len(last)), np.bool_)
    found = likeliest(boxes, last, (last[:, :2] + last[:, 2:]) / 2.0, reaches, 4.0)
    return [int(track) for track in found]


def test_each_track_goes_on_with_the_region_most_like_it() -> None:
    person, car = (50.0, 50.0, 8.0, 24.0), (120.0, 80.0, 60.0, 30.0)
    assert owners([(110.0, 82.0, 60.0, 29.0), (62.0, 50.0, 9.0, 23.0)], [person, car]) == [1, 0]


def test_the_parts_of_an_object_are_beside_each_other() -> None:
    head, legs, far = (82.0, 50.0, 8.0, 14.0), (81.0, 66.0, 8.0, 9.0), (150.0, 50.0, 8.0, 12.0)
    assert owners([head, legs, far], [(50.0, 50.0, 8.0, 24.0)]) == [0, 0, -1]


def test_what_is_out_of_reach_continues_nothing() -> None:
    boxes = boxes_of((50, 50, 8, 20), (90, 50, 8, 20))
    reaches = np.array([[False], [False]])
    assert likeliest(boxes, boxes[:1], np.array([[54.0, 60.0]]), reaches, 4.0).tolist() == [-1, -1]


def test_chance_needs_many_restless_regions_at_least_half_as_large() -> None:
    restless = Restless()
    area = np.array([0, *[40] * 20, 300])
    drops = np.array([False, *[True] * 20, False])
    chance = restless.chance(area, drops, np.full(22, 0.15), 1.0)
    assert chance[1] == pytest.approx(1.0 - np.exp(-16 * 0.15))
    assert chance[-1] == 0.0, "a person among drops"
    assert Restless().chance(area[:5], drops[:5], np.full(5, 0.15), 1.0).max() == 0.0, "people who walk"


def test_after_the_rain_chance_is_forgotten() -> None:
    restless = Restless()
    area, drops = np.array([0, *[40] * 20]), np.array([False, *[True] * 20])
    for _ in range(30):
        restless.chance(area, drops, np.full(21, 0.15), 1.0)
    one = np.array([0, 40]), np.array([False, True]), np.full(2, 0.15)
    assert restless.chance(*one, 1.0)[1] > 0.5
    for _ in range(30):
        restless.none(1.0)
    assert restless.chance(*one, 1.0)[1] == 0.0


def watched(step_s: float, frames: list[list[tuple[int, int, int, int]]]) -> list[list[bool]]:
    """Return which regions of each frame were seen before."""
    unrest, seen = Unrest(SHAPE), []
    tracks = Tracks(20.0, np.full(unrest.cells.shape, 255, np.uint8))
    for step, boxes in enumerate(frames):
        mask = np.zeros(SHAPE, np.uint8)
        for left, top, width, height in boxes:
            mask[top : top + height, left : left + width] = 255
        regions = Regions(mask)
        there = regions.area > 0
        before = tracks.follow(regions, step * step_s)
        tracks.update(regions, there, there & before, there, there, unrest, step * step_s, settled=True)
        order = [regions.boxes[1:].tolist().index(list(box)) for box in boxes]
        seen.append([bool(before[1 + label]) for label in order])
    return seen


@pytest.mark.parametrize("step_s", [0.5, 1.0, 2.0])
def test_rain_was_not_seen_before_and_a_person_in_it_was(step_s: float) -> None:
    draw = np.random.default_rng(4)
    frames = []
    for step in range(25):
        # On a grid, so that no two of them touch.
        cells = draw.permutation(100)[:20]
        drops = [(10 + 30 * int(cell % 10), 8 + 16 * int(cell // 10), 4, 12) for cell in cells]
        person = (20 + round(12 * step_s * step) % 270, 60, 14, 44)
        clear = [drop for drop in drops if not (40 < drop[1] < 120 and abs(drop[0] - person[0]) < 24)]
        frames.append([person, *clear])
    seen = watched(step_s, frames)
    flags = [flag for frame in seen[5:] for flag in frame[1:]]
    assert sum(flags) < 0.15 * len(flags)
    assert sum(frame[0] for frame in seen[1:]) >= 21


@pytest.mark.parametrize("step_s", [0.5, 1.0, 2.0])
def test_people_who_walk_past_each_other_are_seen_before(step_s: float) -> None:
    frames = [
        [(10 + round(20 * step_s) * step, 40, 10, 30), (290 - round(20 * step_s) * step, 100, 10, 30)]
        for step in range(6)
    ]
    assert watched(step_s, frames)[1:] == [[True, True]] * 5
