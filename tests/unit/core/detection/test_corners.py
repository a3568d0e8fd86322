"""What boxes have in common."""

from __future__ import annotations

import pytest

from async_motion.core.detection.corners import common, enclosing, meet, size

BOX = (10.0, 20.0, 30.0, 40.0)


def test_boxes_have_in_common_what_lies_in_both() -> None:
    assert size(BOX) == 400.0
    assert common(BOX, BOX) == 400.0
    assert common(BOX, (25.0, 30.0, 50.0, 35.0)) == 25.0
    assert common(BOX, (30.0, 20.0, 40.0, 40.0)) == 0.0
    assert common(BOX, (40.0, 50.0, 60.0, 70.0)) == 0.0


@pytest.mark.parametrize(
    ("other", "margin", "expected"),
    [
        ((29.0, 39.0, 50.0, 50.0), 0.0, True),
        ((32.0, 20.0, 50.0, 40.0), 2.0, False),
        ((32.0, 20.0, 50.0, 40.0), 3.0, True),
        ((10.0, 42.0, 30.0, 50.0), 3.0, True),
        ((32.0, 44.0, 50.0, 60.0), 3.0, False),
    ],
)
def test_boxes_meet_within_a_margin(
    other: tuple[float, float, float, float], margin: float, expected: bool
) -> None:
    assert meet(BOX, other, margin) == meet(other, BOX, margin) == expected


def test_the_enclosing_box_holds_all() -> None:
    assert enclosing([BOX]) == BOX
    assert enclosing([BOX, (5.0, 30.0, 12.0, 90.0)]) == (5.0, 20.0, 30.0, 90.0)
