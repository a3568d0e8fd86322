"""Activity without decoding: quiet is learned, no sign is missed, what the detector ignored stays ignored."""

from __future__ import annotations

import numpy as np
import pytest

from async_motion.capture.selective.activity import (
    FIRST_LOOKS,
    FIRST_WEIGHTS,
    SETTLED_LOOKS,
    DetectorFeedback,
    KeyframeActivity,
    PacketActivity,
)
from async_motion.core.model import Detection, Luma, Reason
from tests.support.video import ground

KEY = 20_000
"""A keyframe's size, in bytes."""


class Place:
    """A grey scene with sensor noise and an optional box."""

    def __init__(self, size: tuple[int, int] = (640, 360), noise: float = 2.0) -> None:
        self.back = ground(*size)[..., 1].astype(np.float32)
        self.noise = noise
        self.draw = np.random.default_rng(5)

    def shot(
        self, *, box: tuple[int, int, int, int] | None = None, step: float = 60.0, gain: float = 1.0
    ) -> Luma:
        plane = self.back * gain
        if box is not None:
            x, y, w, h = box
            plane = plane.copy()
            plane[y : y + h, x : x + w] += step
        return np.clip(plane + self.draw.normal(0, self.noise, plane.shape), 0, 255).astype(np.uint8)


def rested(place: Place, looks: int = 20) -> KeyframeActivity:
    scene = KeyframeActivity()
    signs = [scene.look(place.shot()) for _ in range(looks)]
    assert all(signs[:FIRST_LOOKS])
    assert not any(signs[FIRST_LOOKS:])
    return scene


@pytest.mark.parametrize("size", [(320, 240), (640, 360), (1920, 1080)])
def test_the_smallest_thing_that_a_detector_reports_is_a_sign(size: tuple[int, int]) -> None:
    place = Place(size)
    scene = rested(place)
    side = int((0.002 * size[0] * size[1]) ** 0.5)  # the default minimum area: 0.2 %
    assert scene.look(place.shot(box=(size[0] // 3, size[1] // 3, side, side), step=25))


def test_light_as_a_whole_is_not_a_sign() -> None:
    place = Place()
    scene = rested(place)
    assert not scene.look(np.clip(place.shot().astype(int) + 12, 0, 255).astype(np.uint8))


def test_what_stays_belongs_to_the_scene_after_a_while() -> None:
    place = Place()
    scene = rested(place)
    parked = [scene.look(place.shot(box=(200, 150, 120, 60))) for _ in range(SETTLED_LOOKS * 2)]
    assert parked[0]
    assert not any(parked[SETTLED_LOOKS + 2 :])
    assert scene.look(place.shot())  # the object has left


def test_what_the_detector_ignores_is_not_a_sign_again_but_more_of_it_is() -> None:
    place = Place()
    scene = rested(place)
    leaves = (300, 100, 60, 60)
    assert scene.look(place.shot(box=leaves, step=18))
    scene.forgive()
    scene.look(place.shot())
    assert not scene.look(place.shot(box=leaves, step=18))
    assert scene.look(place.shot(box=leaves, step=70))


def test_the_floor_of_sensitivity_cannot_be_unlearned() -> None:
    place = Place()
    scene = rested(place)
    for _ in range(30):
        scene.look(place.shot(box=(300, 100, 80, 80), step=90))
        scene.forgive()
        scene.look(place.shot())
        scene.forgive()
    assert scene.look(place.shot(box=(300, 100, 80, 80), step=60))


def test_another_resolution_begins_again() -> None:
    scene = rested(Place())
    assert scene.look(Place((320, 240)).shot())


def weighed(*, groups: int = 20, length: int = 50, scatter: float = 0.1, size: int = 400) -> PacketActivity:
    """Return a trained PacketActivity: 25 packets a second, whose size grows along each GOP."""
    draw = np.random.default_rng(3)
    weights = PacketActivity(25.0)
    for _ in range(groups):
        weights.key(KEY, None)
        for place in range(1, length):
            grown = size * (1 + place / length) * draw.lognormal(0, scatter)
            weights.weigh(int(grown), place, quiet=True)
    return weights


def usual(place: int, times: float = 1.0) -> int:
    return int(400 * (1 + place / 50) * times)


def test_quiet_packets_are_quiet_anywhere_in_their_gop() -> None:
    weights = weighed()
    draw = np.random.default_rng(4)
    signs = 0
    for _ in range(50):
        weights.key(KEY, None)
        for place in range(1, 50):
            signs += weights.weigh(usual(place, draw.lognormal(0, 0.1)), place, quiet=None)
    assert signs <= 2


@pytest.mark.parametrize(("times", "within"), [(1.8, 8), (1.2, 20)])
def test_heavier_packets_are_a_sign_the_sooner_the_heavier(times: float, within: int) -> None:
    weights = weighed()
    weights.key(KEY, None)
    signs = [
        weights.weigh(usual(place, 1.0 if place < 20 else times), place, quiet=None) for place in range(1, 50)
    ]
    assert not any(signs[:19])
    assert any(signs[19 : 19 + within])


def signs_of_one(weights: PacketActivity, times: float) -> bool:
    """Return whether one packet, `times` as heavy as usual, among usual ones is a sign."""
    weights.key(KEY, None)
    sizes = {place: usual(place, times if place == 20 else 1) for place in range(15, 26)}
    signs = [weights.weigh(size, place, quiet=None) for place, size in sizes.items()]
    return any(signs)


def test_a_single_packet_is_a_sign_only_if_it_is_far_heavier() -> None:
    assert not signs_of_one(weighed(), 1.3)
    assert signs_of_one(weighed(), 10)


def test_single_packets_of_a_weight_that_meant_nothing_are_usual() -> None:
    # A clock in the image costs one packet a second.
    weights = weighed()
    assert signs_of_one(weights, 4)
    weights.forgive()
    assert not any(signs_of_one(weights, 4) for _ in range(20))
    assert signs_of_one(weights, 40)


def test_a_single_packet_that_meant_nothing_leaves_the_sums_as_sensitive() -> None:
    def packets_until_a_sign(weights: PacketActivity) -> int:
        weights.key(KEY, None)
        signs = [weights.weigh(usual(place, 1.4), place, quiet=None) for place in range(1, 50)]
        return signs.index(True)

    startled = weighed()
    assert signs_of_one(startled, 10)
    startled.forgive()
    assert packets_until_a_sign(startled) <= packets_until_a_sign(weighed()) + 1


def test_packets_that_become_lighter_are_a_sign() -> None:
    # Something smooth hides the noise that the packets have encoded.
    weights = weighed()
    weights.key(KEY, None)
    assert not any(weights.weigh(usual(place), place, quiet=None) for place in range(1, 20))
    assert any(weights.weigh(usual(place, 0.5), place, quiet=None) for place in range(20, 30))


def test_an_encoder_that_holds_its_rate_tells_by_its_qp() -> None:
    weights = PacketActivity(25.0)
    draw = np.random.default_rng(3)

    def signs(qp: int) -> list[bool]:
        weights.key(KEY, 24)
        return [
            weights.weigh(int(700 * draw.lognormal(0, 0.1)), place, quiet=None, qp=qp)
            for place in range(1, 50)
        ]

    for _ in range(20):
        signs(28)
    assert not any(signs(28))
    assert any(signs(31))


def test_what_a_detector_sees_nothing_in_becomes_usual() -> None:
    weights = weighed()
    for _ in range(20):
        weights.key(KEY, None)
        for place in range(1, 50):
            weights.weigh(usual(place, 1.5), place, quiet=True)
    weights.explained()
    weights.key(KEY, None)
    assert not any(weights.weigh(usual(place, 1.5), place, quiet=None) for place in range(1, 50))


def test_a_sign_that_means_nothing_makes_the_next_one_rarer_but_not_impossible() -> None:
    weights = weighed()

    def packets_until_a_sign() -> int:
        weights.key(KEY, None)
        for place in range(1, 50):
            if weights.weigh(usual(place, 1.4), place, quiet=False):
                return place
        raise AssertionError("no sign")

    first = packets_until_a_sign()
    for _ in range(30):
        weights.forgive()
    last = packets_until_a_sign()
    assert first < last < 4 * first


@pytest.mark.parametrize(("size", "tells"), [(200, True), (600, True), (8000, False)])
def test_packets_tell_only_where_something_small_would_stand_out(size: int, tells: bool) -> None:
    assert not PacketActivity(25.0).tell  # untrained
    assert weighed(size=size, scatter=0.05).tell == tells


def test_packets_that_scatter_do_not_tell() -> None:
    assert not weighed(size=200, scatter=0.9).tell


def test_nothing_is_reported_before_anything_is_known() -> None:
    weights = PacketActivity(25.0)
    assert not any(
        weights.weigh(100 if n < 20 else 5000, n + 1, quiet=None) for n in range(FIRST_WEIGHTS // 2)
    )


@pytest.mark.parametrize(
    ("reason", "interesting"),
    [
        (Reason.MOTION, True),
        (Reason.DEBOUNCE, True),
        (Reason.BELOW_AREA, False),
        (Reason.LEARNING, True),
        (Reason.SCENE_CHANGE, True),
        (Reason.STILL, False),
        (Reason.MASKED, False),
        (Reason.ABOVE_AREA, False),
    ],
)
def test_interest(reason: Reason, interesting: bool) -> None:
    feedback = DetectorFeedback()
    assert not feedback.has_reported
    feedback.tell(7.0, Detection(motion=reason is Reason.MOTION, reason=reason))
    assert feedback.has_reported
    assert (feedback.latest == 7.0) == interesting


def test_specks_hold_the_attention_where_they_are_more_than_usual() -> None:
    feedback = DetectorFeedback()

    def tell(at: float, changed: float) -> bool:
        feedback.tell(at, Detection(motion=False, reason=Reason.BELOW_AREA, changed=changed))
        return feedback.latest == at

    for at in range(100):
        tell(float(at), 0.002)
    assert not tell(100.0, 0.002)
    assert tell(101.0, 0.006)
