"""Regions of the mask, unrest, and what tells a hole from an object."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from async_motion.core.detection.regions import Regions, Unrest, clean, labels, some
from async_motion.core.detection.shadows import shadows
from async_motion.core.detection.working_image import Plane, gradient, u8
from tests.support.scenes import patches


def plane(*boxes: tuple[int, int, int, int]) -> Plane:
    """Return a mask (60, 80), 0 or 255, with boxes given as (left, top, width, height)."""
    mask = np.zeros((60, 80), np.uint8)
    for left, top, width, height in boxes:
        mask[top : top + height, left : left + width] = 255
    return mask


def test_cleaning_drops_specks_and_fills_holes() -> None:
    mask = plane((10, 10, 20, 20), (50, 50, 1, 1))
    mask[18:22, 18:22] = 0
    ground = np.full_like(mask, 60)
    with_thing = ground.copy()
    with_thing[mask > 0] = 200
    cleaned, window = clean(mask, with_thing, ground)
    assert window == (slice(3, 37), slice(3, 37))
    assert cleaned[50, 50] == 0
    assert cleaned[20, 20] == 255
    tiny = np.zeros((2, 2), np.uint8)
    assert not clean(tiny, tiny, tiny)[0].any()


@pytest.mark.parametrize("seed", range(12))
def test_looking_at_a_part_alone_finds_what_is_in_the_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    ground = random.integers(60, 200, (60, 80), np.uint8)
    left, top = (int(place) for place in random.integers(0, 40, 2))
    thing = plane((left, top, 14, 14))
    image = np.where(thing > 0, ground // 2, ground).astype(np.uint8)
    image[thing > 0] += random.integers(0, 60, (60, 80), np.uint8)[thing > 0] * np.uint8(seed % 2)
    specks = (random.random((60, 80)) < 0.05).astype(np.uint8) * np.uint8(255)
    differs = np.maximum(thing, specks)
    lit = cv2.subtract(differs, shadows(image, ground, differs))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = u8(cv2.morphologyEx(cv2.medianBlur(lit, 3), cv2.MORPH_CLOSE, disc))
    cleaned, _ = clean(differs, image, ground)
    assert np.array_equal(cleaned & closed, closed)
    filled = cleaned != closed
    assert np.count_nonzero(filled) <= 0.02 * filled.size


def test_regions_know_their_pixels() -> None:
    regions = Regions(plane((5, 5, 10, 4), (40, 30, 6, 6)))
    assert regions.count == 3
    assert sorted(regions.area.tolist()) == [0, 36, 40]
    large = regions.area >= 40
    assert np.array_equal(regions.mask_of(large), plane((5, 5, 10, 4)))
    half = plane((5, 5, 5, 4))
    assert regions.share(half)[large][0] == 0.5
    assert np.array_equal(regions.share(half, large), np.where(large, 0.5, 0.0))


def test_flags_by_label_leave_out_the_background() -> None:
    flags = np.array([True, False, True, True])
    assert labels(flags) == [2, 3]
    assert some(flags)
    assert not some(np.zeros(3, np.bool_))


def test_one_region_is_counted_in_its_own_box() -> None:
    # The boxes overlap: an L around a block.
    mask = plane((10, 10, 20, 4), (10, 14, 4, 16), (20, 20, 6, 6))
    regions = Regions(mask)
    lower = plane((0, 22, 80, 38))
    every = regions.area > 0
    part = lower[regions.window]
    assert regions.pixels_inside(part, every).tolist() == regions.pixels_inside(part).tolist()
    assert sorted(regions.pixels_inside(part).tolist()) == [0.0, 24.0, 32.0]
    for label in labels(every):
        assert np.count_nonzero(regions.mask_of(np.arange(3) == label)) == regions.area[label]


def test_a_region_is_measured_alike_alone_and_beside_another() -> None:
    shape = plane((0, 20, 6, 9), (6, 28, 5, 3))
    alone, beside = Regions(shape), Regions(shape | plane((70, 50, 4, 4)))
    assert (alone.count, beside.count) == (2, 3)
    assert alone.area[1] == beside.area[1] == 6 * 9 + 5 * 3
    assert alone.boxes[1].tolist() == beside.boxes[1].tolist() == [0, 20, 11, 11]
    one, two = np.array([False, True]), np.array([False, True, False])
    assert np.array_equal(alone.mask_of(one), beside.mask_of(two))


def test_no_region_in_an_empty_mask() -> None:
    regions = Regions(plane())
    assert regions.count == 1
    assert not regions.area.any()
    ground = np.full((60, 80), 100, np.uint8)
    assert not regions.mask_of(np.ones(1, np.bool_)).any()
    assert not regions.changed(ground, ground + np.uint8(50), ground, np.ones(1, np.bool_))


def test_unrest_rises_where_specks_are_and_falls_again() -> None:
    unrest = Unrest((60, 80))
    for _ in range(100):
        unrest.learn(plane((0, 0, 24, 24)), 0.1, 60.0)
    assert unrest.plane().shape == (60, 80)
    high = float(unrest.plane()[10, 10])
    assert high > 0.5
    assert float(unrest.plane()[50, 70]) == 0.0
    for _ in range(100):
        unrest.learn(plane(), 0.1, 60.0)
    assert float(unrest.plane()[10, 10]) < high / 2


def test_no_specks_are_an_empty_mask_of_specks() -> None:
    with_none, with_mask = Unrest((60, 80)), Unrest((60, 80))
    for specks in (plane((0, 0, 24, 24)), None, plane((30, 30, 20, 20)), None):
        with_none.learn(specks, 0.1, 60.0, plane((40, 40, 8, 8)))
        with_mask.learn(plane() if specks is None else specks, 0.1, 60.0, plane((40, 40, 8, 8)))
    assert np.array_equal(with_none.cells, with_mask.cells)


@pytest.mark.parametrize("count", [1, 12, 40])
def test_few_and_many_regions_are_counted_alike(count: int) -> None:
    random = np.random.default_rng(count)
    places = [(2 + 9 * (at % 8), 2 + 9 * (at // 8)) for at in range(count)]
    sizes = random.integers(2, 7, (count, 2)).tolist()
    regions = Regions(plane(*((x, y, w, h) for (x, y), (w, h) in zip(places, sizes, strict=True))))
    part = (random.random((60, 80)) < 0.5).astype(np.uint8)[regions.window] * np.uint8(255)
    inside = regions.pixels_inside(part)
    assert inside[0] == 0
    assert [regions.pixels_of(label, part) for label in range(1, count + 1)] == inside[1:].tolist()
    assert np.array_equal(inside, regions.pixels_inside(part, np.ones(regions.count, np.bool_)))
    assert regions.corners[1].tolist() == [2, 2, 2 + sizes[0][0], 2 + sizes[0][1]]


def test_unrest_is_not_learned_near_what_is_kept() -> None:
    unrest = Unrest((60, 80))
    for _ in range(20):
        unrest.learn(plane((0, 0, 80, 60)), 0.1, 60.0, plane((0, 0, 16, 16)))
    assert unrest.within((0.0, 0.0, 4.0, 4.0)) < 0.01 < unrest.within((56.0, 40.0, 70.0, 55.0))


def test_unrest_around_a_region_leaves_out_its_own() -> None:
    unrest = Unrest((60, 80))
    regions = Regions(plane((8, 8, 8, 8), (64, 40, 8, 16)))
    for _ in range(100):
        unrest.learn(plane((8, 8, 8, 8), (56, 24, 24, 36)), 0.1, 60.0)
    assert all(unrest.of(regions, label) > 0.05 for label in (1, 2))
    assert unrest.around(regions, 1) == 0.0
    assert unrest.around(regions, 2) > 0.1


def test_unrest_around_a_region_that_fills_the_image_is_that_of_the_image() -> None:
    unrest = Unrest((60, 80))
    unrest.learn(plane((0, 0, 80, 60)), 1.0, 60.0)
    around = unrest.around(Regions(plane((0, 0, 80, 60))), 1)
    assert np.isclose(around, unrest.cells.mean())


def test_where_an_object_is_known_nothing_is_a_shadow() -> None:
    ground = np.full((60, 80), 120, np.uint8)
    dark = ground.copy()
    dark[20:40, 30:50] = 70
    differs = plane((30, 20, 20, 20))
    assert clean(differs, dark, ground)[0].max() == 0
    known = plane((28, 18, 24, 24))
    assert clean(differs, dark, ground, known)[0][21:39, 31:49].all()


def test_a_hole_is_distinguished_from_an_object_by_its_edges() -> None:
    ground = np.full((60, 80), 120, np.uint8)
    with_thing = ground.copy()
    with_thing[20:40, 30:50] = 40
    mask = plane((30, 20, 20, 20))
    tolerance = np.full_like(ground, 12)
    regions = Regions(mask)
    every = regions.area > 0
    hole = regions.left_behind(ground, gradient(with_thing), ground, tolerance, every)
    thing = regions.left_behind(with_thing, gradient(ground), with_thing, tolerance, every)
    moving = regions.left_behind(ground, gradient(with_thing), with_thing, tolerance, every)
    assert hole[1]
    assert not thing[1]
    assert not moving[1]


def test_soft_light_keeps_the_texture_and_has_no_outline() -> None:
    ground = patches() // 2
    y, x = np.mgrid[:120, :160]
    gain = 1 + 0.8 * np.exp(-((x - 80) ** 2 + (y - 60) ** 2) / 800.0)
    sharp = np.where(np.hypot(x - 80, y - 60) < 25, 1.5, 1.0)

    def relit(frame: Plane, at_rest: Plane, *, must_fade: bool = True) -> bool:
        differs = np.where(cv2.absdiff(frame, at_rest) > 12, 255, 0).astype(np.uint8)
        regions = Regions(u8(cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))))
        largest = np.arange(regions.count) == np.argmax(regions.area)
        return bool(regions.relit(frame, at_rest, largest & (regions.area > 0), must_fade=must_fade).any())

    other = patches(seed=5) // 2
    assert relit((ground * gain).astype(np.uint8), ground)
    assert not relit((ground * sharp).astype(np.uint8), ground)
    assert relit((ground * sharp).astype(np.uint8), ground, must_fade=False)  # text that follows no light
    assert not relit(np.where(sharp > 1, other, ground), ground)
    assert not relit(np.where(sharp > 1, other, ground), ground, must_fade=False)
    through = np.where(sharp > 1, 40 + 0.3 * ground, ground).astype(np.uint8)
    assert not relit(through, ground, must_fade=False)  # an object that lets some texture through
    plain = np.full_like(ground, 60)
    assert not relit((plain * gain).astype(np.uint8), plain)  # a blurred object may look the same
    assert not relit(ground, ground)


def blob(kind: str) -> tuple[Plane, Plane]:
    """Return the image of something brighter (or not) on grey ground, and the mask of where it differs."""
    ground = np.full((60, 80), 60, np.uint8)
    rows, columns = np.mgrid[0:60, 0:80]
    away = np.hypot(rows - 30, columns - 40)
    rise = {
        "insect": 120 * np.exp(-(away**2) / (2 * 6.0**2)),
        "small insect": 60 * np.exp(-(away**2) / (2 * 3.2**2)),
        "soft ball": cv2.GaussianBlur(np.where(away < 6, 120.0, 0.0), (0, 0), 1.5),
        "beam": 90 * np.exp(-((columns - 40) ** 2) / (2 * 12.0**2)),
        "dark": -50 * np.exp(-(away**2) / (2 * 6.0**2)),
        "person": np.where((abs(rows - 30) < 12) & (abs(columns - 40) < 6), 120, 0),
        "soft person": cv2.GaussianBlur(
            np.where((abs(rows - 30) < 12) & (abs(columns - 40) < 6), 120.0, 0.0), (0, 0), 1.0
        ),
        "small": 120 * np.exp(-(away**2) / (2 * 1.5**2)),
    }[kind]
    image = np.clip(ground + rise, 0, 255).astype(np.uint8)
    return image, ((cv2.absdiff(image, ground) > 12) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "glows"),
    [
        ("insect", True),
        ("beam", True),
        ("dark", False),
        ("person", False),
        ("soft person", False),
        ("small", False),
    ],
)
def test_a_glow_is_bright_and_nowhere_sharp(kind: str, glows: bool) -> None:
    image, mask = blob(kind)
    regions = Regions(mask)
    assert regions.count == 2
    ground = np.full_like(image, 60)
    assert regions.glows(image, ground, 0.35, np.array([False, True]))[1] == glows
    assert not regions.glows(image, ground, 0.35, np.array([False, False])).any()
    assert not regions.glows(image, ground, 0.0, np.array([False, True])).any(), "no edge to compare with"


@pytest.mark.parametrize(
    ("kind", "glows"), [("small insect", True), ("soft ball", False), ("soft person", False)]
)
def test_in_a_soft_image_only_a_round_blob_without_a_flat_top_is_a_glow(kind: str, glows: bool) -> None:
    image, mask = blob(kind)
    ground = np.full_like(image, 60)
    assert Regions(mask).glows(image, ground, 0.2, np.array([False, True]))[1] == glows


def test_a_region_that_touches_the_edge_is_not_whole() -> None:
    regions = Regions(plane((0, 20, 9, 7), (50, 20, 9, 7), (151, 20, 9, 7), (50, 53, 9, 7)))
    left = regions.boxes[:, 0]
    assert regions.inner[(left == 50) & (regions.boxes[:, 1] == 20)].all()
    assert regions.inner[1:].sum() == 1


def test_regions_far_from_the_corner_are_where_they_are() -> None:
    mask = plane((51, 33, 9, 7), (70, 50, 4, 4))
    regions = Regions(mask)
    ground = np.full((60, 80), 100, np.uint8)
    brighter = ground.copy()
    brighter[33:36, 51:60] = 140
    assert regions.boxes[1:].tolist() == [[51, 33, 9, 7], [70, 50, 4, 4]]
    changed = regions.changed(brighter, ground, np.full_like(ground, 12), regions.area > 0)
    assert changed == {1: 27, 2: 0}
    assert np.array_equal(regions.mask_of(np.array([False, True, True])), mask)


def test_what_one_image_alone_shows_has_not_changed_for_good() -> None:
    ground = np.full((60, 80), 80, np.uint8)
    moved, drop = ground.copy(), ground.copy()
    moved[10:20, 10:14] = 200
    drop[10:20, 16:18] = 200
    regions = Regions(plane((10, 10, 10, 10)))
    tolerance, all_regions = np.full_like(ground, 12), regions.area > 0

    def changed(*images: Plane, past: tuple[Plane, ...]) -> dict[int, int]:
        return regions.changed_for_good(images, past, tolerance, all_regions)

    assert changed(moved, moved, past=(ground, ground)) == {1: 40}
    assert changed(moved | drop, moved, past=(ground, ground)) == {1: 40}
    assert changed(moved, moved, past=(drop, ground)) == {1: 40}
    assert changed(drop, ground, past=(ground, ground)) == {1: 0}
    assert changed(ground, ground, past=(ground, drop)) == {1: 0}
    assert regions.changed_for_good((moved,), (ground,), tolerance, ~all_regions) == {}
