"""A camera's clock is found by its seconds, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest

from async_motion.core.detection.alignment import STEADY, Shift
from async_motion.core.detection.background import Background
from async_motion.core.detection.burnt_in import BurntInText
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.regions import Regions
from async_motion.core.detection.working_image import Plane
from async_motion.core.model import Luma, Reason
from tests.support.scenes import texture

SHAPE = (180, 320)
BEGIN = datetime(2026, 11, 29, 11, 59, 30, tzinfo=UTC)


def with_clock(luma: Luma, at_s: float, *, seconds: bool = True, foot: int = 12) -> Luma:
    """Return a copy into which a camera has written the time, `at_s` after half a minute before noon."""
    text = (BEGIN + timedelta(seconds=int(at_s))).strftime(
        "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    )
    plane = luma.copy()
    for colour, thickness in ((0, 3), (255, 1)):
        cv2.putText(plane, text, (6, foot), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness)
    return plane


def grains(still: Luma, seconds: float, fps: float) -> Iterator[tuple[float, Luma]]:
    """Yield frames of a still scene, with the noise of a camera, and their times."""
    draw = np.random.default_rng(5)
    for step in range(round(seconds * fps)):
        noisy = np.clip(still + draw.normal(0, 1.0, still.shape), 0, 255).astype(np.uint8)
        yield step / fps, noisy


def found(frames: Iterator[tuple[float, Luma]]) -> BurntInText:
    """Return the text that was found in frames of the working size."""
    _, first = next(frames)
    text, background = BurntInText((first.shape[0], first.shape[1]), 0.0), Background(first, 0.0)
    text.update(first, background, 0.0)
    for now, frame in frames:
        text.update(frame, background, now)
    return text


def box(left: int, top: int, width: int, height: int) -> Regions:
    mask: Plane = np.zeros(SHAPE, np.uint8)
    mask[top : top + height, left : left + width] = 255
    return Regions(mask)


@pytest.mark.parametrize("fps", [3, 5, 15])
@pytest.mark.parametrize("foot", [12, 174])
def test_a_clock_is_found_with_all_of_its_line(fps: float, foot: int) -> None:
    text = found(
        (at, with_clock(luma, at, foot=foot)) for at, luma in grains(texture(*SHAPE) // 4 + 60, 14, fps)
    )
    assert text.lines is not None
    date, seconds, person = box(8, foot - 9, 30, 8), box(109, foot - 9, 14, 8), box(60, 80, 8, 20)
    for region, is_text in ((date, True), (seconds, True), (person, False)):
        assert text.text(region, STEADY)[1:].all() == is_text
    assert np.count_nonzero(text.lines) < 0.06 * text.lines.size


def test_a_clock_is_found_at_the_lower_edge_of_an_image_of_odd_height() -> None:
    still = texture(135, 240) // 4 + 60
    text = found((at, with_clock(luma, at, foot=131)) for at, luma in grains(still, 14, 5))
    assert text.lines is not None
    assert text.lines[124:131, 8:120].all()
    assert not text.lines[:100].any()


def test_a_tiny_image_has_no_clock() -> None:
    assert found(grains(texture(24, 24)[:12], 3, 5)).lines is None


def test_a_shaking_camera_does_not_move_its_clock() -> None:
    text = found((at, with_clock(luma, at)) for at, luma in grains(texture(*SHAPE) // 4 + 60, 14, 5))
    line = box(8, 3, 114, 9)
    assert text.text(line, Shift(2.0, 0.0))[1]
    assert not text.text(line, Shift(0.0, 9.0))[1]


@pytest.mark.parametrize("what", ["still", "walker", "flicker", "pulses", "minutes", "rare"])
def test_nothing_else_is_a_clock(what: str) -> None:
    draw = np.random.default_rng(8)

    def shown(at: float, luma: Luma) -> Luma:
        if what == "walker":
            left = int(at * 12) % 300
            luma[4:22, left : left + 8] = 20
        if what == "flicker":
            luma[4:22, 100:140] = draw.integers(0, 255)
        if what == "pulses" and at % 1.0 < 0.2:
            luma = np.clip(luma + draw.normal(0, 14.0, SHAPE), 0, 255).astype(np.uint8)
        if what == "minutes":
            luma = with_clock(luma, at * 8, seconds=False)
        return with_clock(luma, at) if what == "rare" else luma

    still, fps = texture(*SHAPE) // 4 + 60, 2 if what == "rare" else 5
    assert found((at, shown(at, luma)) for at, luma in grains(still, 40, fps)).lines is None


def test_a_clock_that_is_switched_off_is_forgotten() -> None:
    def shown(at: float, luma: Luma) -> Luma:
        return with_clock(luma, at) if at < 20 else with_clock(luma, at, foot=174) if at > 85 else luma

    text = found((at, shown(at, luma)) for at, luma in grains(texture(*SHAPE) // 4 + 60, 100, 5))
    assert text.lines is not None
    assert text.lines[170].any()
    assert not text.lines[:20].any()


def test_what_may_be_a_clock_is_not_yet_known_in_the_first_seconds() -> None:
    text = BurntInText(SHAPE, 100.0)
    assert text.perhaps(box(8, 3, 30, 8), 114.0)[1]
    assert not text.perhaps(box(8, 3, 30, 8), 116.0)[1]
    assert not text.perhaps(box(8, 80, 30, 8), 101.0)[1]


def test_at_noon_a_clock_is_no_motion_and_a_person_is() -> None:
    still = texture(*SHAPE) // 4 + 60
    detector = Detector(DetectorSettings())
    verdicts = {}
    for at, luma in grains(still, 45, 5):
        if at > 38:
            left = int((at - 38) * 30)
            luma[60:100, left : left + 14] = 15
        verdicts[at] = detector.update(with_clock(luma, at), at)
    assert not any(verdict.motion for at, verdict in verdicts.items() if at < 38)
    assert all(verdict.motion for at, verdict in verdicts.items() if at > 38.5)
    assert {verdict.reason for at, verdict in verdicts.items() if 20 < at < 38} <= {
        Reason.STILL,
        Reason.MASKED,
        Reason.BELOW_AREA,
    }
