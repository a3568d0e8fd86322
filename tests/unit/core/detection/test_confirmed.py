"""Places where motion was confirmed."""

from __future__ import annotations

import pytest

from async_motion.core.detection.confirmed import Places
from async_motion.core.detection.regions import Regions
from tests.support.planes import Box, plane

STEP_S = 0.1
MAN: Box = (40, 20, 8, 20)


class Scene:
    """Shows motion to `Places`, one mask each `step_s`."""

    def __init__(self) -> None:
        self.places = Places()
        self.now = 0.0

    def move(self, *boxes: Box, frames: int = 1, step_s: float = STEP_S) -> None:
        for _ in range(frames):
            self.now += step_s
            regions = Regions(plane(*boxes))
            self.places.update(regions, regions.area > 0, self.now, step_s)

    def near(self, *boxes: Box) -> list[bool]:
        """Return for each of `boxes`, in the order of their labels, whether it is near a confirmed place."""
        regions = Regions(plane(*boxes))
        return [bool(flag) for flag in self.places.near(regions, regions.area > 0, self.now)[1:]]


def test_half_a_second_of_motion_confirms_a_place() -> None:
    scene = Scene()
    scene.move(MAN, frames=4)
    assert scene.near(MAN) == [False]
    scene.move(MAN)
    assert scene.near(MAN) == [True]


@pytest.mark.parametrize("step_s", [0.5, 2.0])
def test_one_frame_confirms_nothing_however_long_it_stands_for(step_s: float) -> None:
    scene = Scene()
    scene.move(MAN, step_s=step_s)
    assert scene.near(MAN) == [False]
    scene.move(MAN, step_s=step_s)
    assert scene.near(MAN) == [True]


def test_only_what_is_at_the_place_is_near() -> None:
    scene = Scene()
    scene.move(MAN, frames=5)
    assert scene.near((42, 30, 4, 4)) == [True]
    assert scene.near((50, 38, 6, 6)) == [True]
    assert scene.near((60, 20, 8, 20)) == [False]


def test_a_place_follows_the_motion() -> None:
    scene = Scene()
    for left in range(20, 100, 6):
        scene.move((left, 20, 8, 20))
    assert scene.near((98, 20, 8, 20)) == [True]
    assert scene.near((20, 20, 8, 20)) == [False]


def test_the_parts_of_an_object_are_one_place() -> None:
    scene = Scene()
    scene.move(MAN, frames=5)
    scene.move((40, 20, 8, 8), (40, 31, 8, 9))
    assert scene.near((41, 28, 4, 2)) == [True]


def test_a_place_is_closed_ten_seconds_after_its_last_motion() -> None:
    scene = Scene()
    scene.move(MAN, frames=5)
    scene.move((140, 20, 8, 20), frames=99)
    assert scene.near(MAN) == [True]
    scene.move((140, 20, 8, 20), frames=2)
    assert scene.near(MAN) == [False]


def test_nothing_is_near_where_nothing_is() -> None:
    scene = Scene()
    assert scene.near() == []
    scene.move(MAN, frames=5)
    assert scene.near() == []
    scene.move(frames=3)
    assert scene.near(MAN) == [True]


def test_motion_with_pauses_confirms_nothing() -> None:
    scene = Scene()
    for _ in range(8):
        scene.move(MAN)
        scene.move((140, 20, 8, 20), frames=30)
    assert scene.near(MAN) == [False]


def test_many_places_cost_no_more_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_motion.core.detection.confirmed._MOST", 4)
    scene = Scene()
    scene.move(MAN, frames=5)
    for top in range(0, 60, 12):
        flakes: list[Box] = [(left, top, 2, 2) for left in range(60, 160, 12)]
        scene.move(*flakes)
    assert scene.near(MAN) == [True], "flakes take the place of flakes first"
    flakes = [(left, 50, 2, 2) for left in range(60, 108, 12)]
    scene.move(*flakes, frames=5)
    scene.move(*flakes, (20, 20, 2, 2), frames=5)
    assert scene.near((20, 20, 2, 2)) == [False], "all four are in use"


@pytest.mark.parametrize("weak", [True, False])
def test_what_weak_evidence_keeps_alive_ends_all_the_same(weak: bool) -> None:
    scene = Scene()
    scene.move(MAN, frames=5)
    for _ in range(105):
        scene.move(MAN)
        regions = Regions(plane(MAN))
        if weak:
            scene.places.weaken(regions, regions.area > 0, scene.now)
    assert scene.near(MAN) == [not weak]
