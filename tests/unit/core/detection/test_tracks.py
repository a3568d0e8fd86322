"""Regions tracked over frames, and which of them are kept out of the background."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.core.detection.regions import Regions, Unrest
from async_motion.core.detection.tracks import Tracks, standing, stirring
from async_motion.core.detection.working_image import Plane
from tests.support.planes import plane

STEP_S = 0.2
REST_S = 10.0


class Scene:
    """Shows masks to `Tracks`, one each `STEP_S`; every region counts as an object."""

    def __init__(self) -> None:
        self.unrest = Unrest((60, 160))
        self.tracks = Tracks(REST_S, np.full(self.unrest.cells.shape, 255, np.uint8))
        self.now = 0.0
        self.rested: Plane | None = None

    def show(
        self,
        *boxes: tuple[int, int, int, int],
        stirs: bool = True,
        stands: bool = True,
        settled: bool = True,
        step_s: float = STEP_S,
    ) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Show one mask; return which of its regions were seen before."""
        regions = Regions(plane(*boxes))
        there = regions.area > 0
        self.now += step_s
        seen = self.tracks.follow(regions, self.now)
        self.tracks.update(
            regions, there, there, there & stirs, there & stands, self.unrest, self.now, settled=settled
        )
        self.rested = self.tracks.rested(self.now)
        return seen[1:]

    def walk_in(self) -> None:
        """Let a person of 8x20 pixels walk from the left to x = 80."""
        for left in range(0, 81, 8):
            self.show((left, 20, 8, 20))


def test_an_object_was_seen_before_when_it_is_near() -> None:
    scene = Scene()
    assert not scene.show((20, 20, 8, 8)).any()
    assert scene.show((25, 20, 8, 8)).all()
    assert not scene.show((90, 20, 8, 8)).any()


def test_an_insect_that_darts_was_not_seen_before_and_a_person_was() -> None:
    # 15 frames a second: the insect moves by more than its size in each, the person by a fifth of its width.
    insect, person = Scene(), Scene()
    flight = [insect.show((20 + 9 * step, 20, 6, 6), step_s=1 / 15) for step in range(3)]
    walk = [person.show((20 + 2 * step, 20, 10, 24), step_s=1 / 15) for step in range(3)]
    assert not np.any(flight)
    assert [seen.all() for seen in walk] == [False, True, True]


def test_what_goes_on_darting_is_seen_in_the_end() -> None:
    scene = Scene()
    seen = [scene.show((20 + 9 * step, 20, 6, 6), step_s=1 / 15).all() for step in range(5)]
    assert seen[3:] == [True, True]


def test_at_few_frames_an_insect_that_turns_about_is_not_seen_before() -> None:
    scene = Scene()
    places = [(20, 20), (31, 22), (24, 34), (33, 26), (22, 20), (30, 33), (21, 27)]
    seen = [scene.show((x, y, 6, 6)).any() for x, y in places]
    assert not any(seen)


def test_at_few_frames_what_goes_straight_on_is_seen_in_the_fourth() -> None:
    scene = Scene()
    seen = [scene.show((10 + 11 * step, 20, 6, 6)).all() for step in range(6)]
    assert seen == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("step_s", "proven"), [(0.04, [True] * 5), (0.2, [False] + [True] * 4), (1.0, [True] * 5)]
)
def test_at_few_frames_a_small_track_is_proven_after_two_steps(step_s: float, proven: list[bool]) -> None:
    scene = Scene()
    scene.show((20, 20, 6, 6), step_s=step_s)
    found = []
    for _ in range(5):
        box = (20, 20, 6, 6)
        scene.show(box, settled=False, step_s=step_s)
        # What `show` has moved is asked for as in the next frame.
        regions = Regions(plane(box))
        scene.tracks.follow(regions, scene.now + step_s)
        found.append(not scene.tracks.unproven(regions)[1])
    assert found == proven


@pytest.mark.parametrize("step_s", [0.04, 0.2, 1.0, 2.0])
def test_a_steady_walk_is_one_track_at_any_frame_rate(step_s: float) -> None:
    scene = Scene()
    seen = [
        scene.show((int(left), 20, 8, 20), step_s=step_s).all() for left in np.arange(0, 140, 16 * step_s)
    ]
    assert all(seen[1:])


def test_objects_go_farther_when_frames_are_rare() -> None:
    for step_s, expected in ((0.04, False), (1.0, True)):
        scene = Scene()
        scene.show((20, 20, 8, 8), step_s=step_s)
        assert scene.show((40, 20, 8, 8), step_s=step_s).all() == expected


def test_its_speed_tells_where_an_object_is_next() -> None:
    scene = Scene()
    for left in (0, 12, 24, 36, 48):
        scene.show((left, 20, 6, 6))
    # The last step is 16 pixels: too far for an object at rest, near the prediction for a moving one.
    assert scene.show((64, 20, 6, 6)).all()


def test_the_box_of_who_came_is_as_large_as_he_has_been() -> None:
    scene = Scene()
    assert scene.tracks.boxes_of_travelled((60, 160)) is None
    scene.walk_in()
    scene.show((80, 20, 8, 6))  # but for the head
    boxes = scene.tracks.boxes_of_travelled((60, 160))
    assert boxes is not None
    assert boxes[15:31, 80:88].all()
    assert not boxes[:, :70].any()


def test_where_a_person_was_and_may_be_now_is_hidden() -> None:
    scene = Scene()
    assert not scene.tracks.hidden((60, 160), 0.0).any()
    scene.walk_in()
    hidden = scene.tracks.hidden((60, 160), scene.now + STEP_S)
    # A step of 8 pixels further, or half a step more or less; a rim of 4 pixels.
    assert hidden[16:44, 76:104].all()
    assert not hidden[:, :72].any()
    assert not hidden[:, 105:].any()
    # Who stands is hidden where he stands.
    for _ in range(10):
        scene.show((80, 20, 8, 20))
    hidden = scene.tracks.hidden((60, 160), scene.now + STEP_S)
    assert hidden[16:44, 76:92].all()
    assert not hidden[:, 94:].any()


def test_a_glow_is_remembered_for_a_second() -> None:
    scene = Scene()
    there = np.array([False, True])
    for _ in range(3):
        scene.show((20, 20, 8, 8))
    scene.tracks.note_glows(there, scene.now)
    glowed = []
    for _ in range(7):
        scene.show((20, 20, 8, 8))
        glowed.append(bool(scene.tracks.glowed(scene.now + 1e-6)[1]))
    assert glowed == [True] * 4 + [False] * 3


def test_what_was_missing_for_more_than_a_frame_is_not_seen_before() -> None:
    scene = Scene()
    scene.show((20, 20, 8, 8))
    scene.show()
    assert scene.show((20, 20, 8, 8)).all()
    scene.show()
    scene.show()
    assert not scene.show((20, 20, 8, 8)).any()


def test_what_was_missing_takes_nothing_from_a_track_that_was_not() -> None:
    scene = Scene()
    scene.show((104, 24, 2, 6))
    for left in range(0, 81, 8):
        scene.show((left, 20, 8, 20), (104, 24, 2, 6))
    for _ in range(3):
        scene.show((80, 20, 8, 20))
    # The older track is sought in an area that holds the whole person.
    regions = Regions(plane((84, 20, 8, 20)))
    scene.tracks.follow(regions, scene.now + STEP_S)
    assert scene.tracks.kept().tolist() == [False, True]


@pytest.mark.parametrize(("unrest", "parts"), [(0.0, [75, 80, 90]), (0.01, [80, 90])])
def test_drops_beside_a_person_are_no_part_of_the_person(unrest: float, parts: list[int]) -> None:
    scene = Scene()
    scene.unrest.cells[:] = unrest
    scene.walk_in()
    for _ in range(10):
        scene.show((80, 20, 8, 20))
    regions = Regions(plane((80, 20, 8, 20), (75, 24, 2, 3), (90, 22, 4, 14)))
    scene.tracks.follow(regions, scene.now + STEP_S)
    kept = regions.boxes[scene.tracks.kept(), 0]
    assert sorted(kept.tolist()) == parts


def test_an_object_that_stays_and_stirs_is_kept() -> None:
    scene = Scene()
    scene.walk_in()
    for _ in range(round(6 * REST_S / STEP_S)):
        scene.show((80, 20, 8, 20))
        assert scene.rested is None
    place = scene.tracks.place()
    assert place is not None
    assert np.array_equal(place, plane((80, 20, 8, 20)))


def test_what_no_longer_stirs_comes_to_rest_after_the_time_set() -> None:
    scene = Scene()
    scene.walk_in()
    stopped = scene.now
    while scene.rested is None:
        scene.show((80, 20, 8, 20), stirs=False)
        assert scene.now < stopped + REST_S + 1.0
    assert scene.now > stopped + REST_S - 1.0
    assert np.array_equal(scene.rested, plane((80, 20, 8, 20)))
    assert scene.tracks.place() is None


def test_what_flaps_in_one_place_for_ever_comes_to_rest_in_the_end() -> None:
    scene = Scene()
    scene.walk_in()
    for _ in range(round(30 * REST_S)):
        scene.show((80, 20, 8, 20), step_s=1.0)
        if scene.rested is not None:
            return
    pytest.fail("it was kept for thirty times the rest")


def test_what_has_always_stirred_in_one_place_is_kept_for_three_times_the_rest() -> None:
    scene = Scene()
    while scene.rested is None:
        scene.show((40, 20, 30, 20))
        assert scene.now < 3.0 * REST_S + 1.0
    assert scene.now > 3.0 * REST_S - 0.5
    assert scene.tracks.place_of_travelled() is None


def test_where_something_has_stirred_for_long_only_what_comes_from_elsewhere_is_kept() -> None:
    scene = Scene()
    while scene.rested is None:
        scene.show((76, 16, 30, 24))
    assert scene.tracks.worn is not None
    for _ in range(20):
        scene.show((76, 16, 30, 24))
    assert scene.tracks.place() is None
    for _ in range(20):
        scene.show()
    scene.walk_in()
    assert scene.tracks.place() is not None
    for _ in range(320):
        scene.show(step_s=1.0)
    assert scene.tracks.worn is None


def test_what_came_from_elsewhere_has_travelled() -> None:
    scene = Scene()
    scene.walk_in()
    assert scene.tracks.place_of_travelled() is not None


def test_a_region_has_calmed_when_its_track_is_no_longer_motion() -> None:
    scene = Scene()
    scene.walk_in()
    there = Regions(plane((80, 20, 8, 20)))
    nothing = np.zeros(2, np.bool_)
    calmed = []
    for _ in range(5):
        scene.now += STEP_S
        scene.tracks.follow(there, scene.now)
        calmed.append(bool(scene.tracks.calmed(scene.now)[1]))
        scene.tracks.update(
            there, there.area > 0, nothing, nothing, nothing, scene.unrest, scene.now, settled=True
        )
    # It is kept, so it may stand there: after 0.5 s without motion it may also be what it left behind.
    assert calmed == [False, False, True, True, True]


@pytest.mark.parametrize("unrest", [0.0, 0.05])
def test_what_is_kept_is_held_for_half_a_second(unrest: float) -> None:
    scene = Scene()
    scene.unrest.cells[:] = unrest
    scene.walk_in()
    there = Regions(plane((80, 20, 8, 20), (20, 20, 8, 20)))
    nothing = np.zeros(3, np.bool_)
    held = []
    for _ in range(4):
        scene.now += STEP_S
        scene.tracks.follow(there, scene.now)
        held.append(scene.tracks.held(scene.now)[there.boxes[:, 0] == 80].tolist())
        assert not scene.tracks.held(scene.now)[there.boxes[:, 0] == 20].any()
        scene.tracks.update(
            there, there.area > 0, nothing, nothing, nothing, scene.unrest, scene.now, settled=True
        )
    # Among leaves nothing is kept.
    assert held == [[not unrest], [not unrest], [False], [False]]


def test_a_person_who_walks_up_and_down_never_comes_to_rest() -> None:
    scene = Scene()
    for turn in range(40):
        for left in range(0, 120, 8) if turn % 2 == 0 else range(120, 0, -8):
            scene.show((left, 20, 8, 20), step_s=0.5)
            assert scene.rested is None


def test_an_insect_that_crosses_in_half_a_second_is_not_kept() -> None:
    scene = Scene()
    for left in (0, 30, 60, 90):
        scene.show((left, 20, 8, 8), step_s=0.1)
    assert scene.tracks.place() is None


def test_nothing_is_kept_where_it_was_not_calm_or_before_the_background_is_settled() -> None:
    restless = Scene()
    restless.unrest.cells[:] = 0.03
    restless.walk_in()
    assert restless.tracks.place() is None
    early = Scene()
    for left in range(0, 81, 8):
        early.show((left, 20, 8, 20), settled=False)
    assert early.tracks.place() is None


def test_in_rain_only_what_comes_from_elsewhere_is_kept() -> None:
    walker, native = Scene(), Scene()
    for scene in (walker, native):
        scene.unrest.cells[:] = 0.01
    walker.walk_in()
    assert walker.tracks.place() is not None
    for _ in range(10):
        native.show((80, 20, 8, 20))
    assert native.tracks.place() is None


@pytest.mark.parametrize(("unrest", "kept"), [(0.01, True), (0.02, False)])
def test_in_heavier_rain_what_flickers_in_its_place_is_not_kept(unrest: float, kept: bool) -> None:
    scene = Scene()
    scene.unrest.cells[:] = unrest
    for left in range(0, 81, 8):
        scene.show((left, 20, 8, 20), stands=False)
    assert scene.tracks.place() is not None, "who walks does not stand either"
    for _ in range(3):
        scene.show((80, 20, 8, 20), stands=True)
    for _ in range(9):
        scene.show((80, 20, 8, 20), stands=False)
    assert scene.tracks.place() is not None
    for _ in range(3):
        scene.show((80, 20, 8, 20), stands=False)
    assert (scene.tracks.place() is not None) == kept


def test_in_heavier_rain_what_stirs_is_kept_for_a_shorter_time() -> None:
    for unrest, at_once in ((0.01, False), (0.02, True)):
        scene = Scene()
        scene.unrest.cells[:] = unrest
        scene.walk_in()
        rested = []
        for _ in range(round(3.5 * REST_S / STEP_S)):
            scene.show((80, 20, 8, 20))
            rested.append(scene.rested is not None)
        assert any(rested) == at_once


def test_that_time_begins_with_the_heavier_rain() -> None:
    scene = Scene()
    scene.unrest.cells[:] = 0.01
    scene.walk_in()
    for _ in range(round(4 * REST_S / STEP_S)):
        scene.show((80, 20, 8, 20))
    scene.unrest.cells[:] = 0.02
    rested = []
    for _ in range(round(3.5 * REST_S / STEP_S)):
        scene.show((80, 20, 8, 20))
        rested.append(scene.rested is not None)
    assert rested.index(True) == pytest.approx(3 * REST_S / STEP_S, abs=2)


def test_what_is_not_watched_tells_nothing_about_rain() -> None:
    scene = Scene()
    scene.unrest.cells[:] = 0.02
    scene.unrest.cells[:, :5] = 0.0
    watched = np.zeros(scene.unrest.cells.shape, np.uint8)
    watched[:, :9] = 255
    scene.tracks = Tracks(REST_S, watched)
    scene.walk_in()
    assert scene.tracks.place() is None


def test_in_heavier_rain_what_is_small_is_not_kept() -> None:
    for height, kept in ((5, False), (7, True)):
        scene = Scene()
        scene.unrest.cells[:] = 0.02
        for left in range(0, 81, 8):
            scene.show((left, 20, 8, height))
        assert (scene.tracks.place() is not None) == kept


def test_who_came_and_stirs_has_stirred_lately() -> None:
    scene = Scene()
    scene.walk_in()
    all_of_it = np.array([False, True])
    assert scene.tracks.stirred(all_of_it, scene.now)[1]
    assert not scene.tracks.stirred(~all_of_it, scene.now).any()
    for _ in range(4):
        scene.show((80, 20, 8, 20), stirs=False)
    assert scene.tracks.stirred(all_of_it, scene.now)[1]
    scene.show((80, 20, 8, 20), stirs=False)
    assert not scene.tracks.stirred(all_of_it, scene.now).any()
    scene.show((80, 20, 8, 20))
    scene.show((80, 20, 8, 8), (80, 30, 8, 10))
    both = np.array([False, True, True])
    assert not scene.tracks.stirred(both, scene.now).any(), "one of its parts may be a hole"
    assert scene.tracks.stirred(np.array([False, True, False]), scene.now).tolist() == [False, True, False]


def test_the_parts_of_an_object_are_taken_together() -> None:
    scene = Scene()
    scene.walk_in()
    regions = Regions(plane((80, 20, 8, 6), (80, 30, 8, 6), (140, 50, 8, 6)))
    scene.tracks.follow(regions, scene.now + STEP_S)
    areas = regions.area.astype(np.float64)
    assert sorted(scene.tracks.totals(areas).tolist()) == [0.0, 48.0, 96.0, 96.0]
    assert sorted(scene.tracks.kept().tolist()) == [False, False, True, True]


def test_what_moved_is_what_was_believed_in_the_frame_before() -> None:
    scene = Scene()
    scene.show((20, 20, 8, 8))
    there = Regions(plane((22, 20, 8, 8)))
    scene.tracks.follow(there, scene.now + STEP_S)
    assert scene.tracks.moved()[1]
    nothing = np.zeros(2, np.bool_)
    scene.tracks.update(
        there, there.area > 0, nothing, nothing, nothing, scene.unrest, scene.now + STEP_S, settled=True
    )
    scene.tracks.follow(there, scene.now + 2 * STEP_S)
    assert not scene.tracks.moved().any()


def test_a_region_stands_when_most_of_it_is_as_before() -> None:
    before = np.full((60, 160), 100, np.uint8)
    after = before.copy()
    after[20:30, 20:28] = 160
    after[20:36, 80:88] = 160
    regions = Regions(plane((20, 20, 8, 20), (80, 20, 8, 20), (120, 20, 8, 20)))
    asked = np.array([False, True, True, False])
    stands = standing(regions, after, before, np.full_like(before, 12), asked)
    assert stands.tolist() == [False, True, False, False]


def test_a_region_stirs_when_a_part_of_it_has_changed() -> None:
    before = np.full((60, 160), 100, np.uint8)
    after = before.copy()
    after[20:24, 20:28] = 160
    regions = Regions(plane((20, 20, 8, 20), (80, 20, 8, 20)))
    stirs = stirring(regions, after, before, np.full_like(before, 12), regions.area > 0)
    left = regions.boxes[:, 0]
    assert stirs[left == 20].all()
    assert not stirs[left == 80].any()
