"""Changes of light, and scene changes of each kind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from async_motion.core.detection.scene import Jumps, Light, find_light, jumped, kind_of, samples_of
from async_motion.core.model import SceneChange
from tests.support.scenes import texture


@pytest.mark.parametrize("light", [Light(0.5, 0.0), Light(1.2, -10.0), Light(1.0, 25.0)])
def test_the_light_is_found_though_something_moves(light: Light) -> None:
    still = texture()
    lit = light.apply(still)
    lit[60:160, 60:140] = 3
    found = find_light(samples_of(lit), samples_of(still))
    assert abs(found.gain - light.gain) < 0.05
    assert abs(found.offset - light.offset) < 4.0
    assert np.abs(found.undo(lit).astype(int) - still)[:50].mean() < 3.0


def test_the_same_light_is_not_a_change() -> None:
    still = texture()
    half = still.copy()
    half[:, :160] = 10
    assert not find_light(samples_of(half), samples_of(still))
    assert not find_light(samples_of(np.zeros_like(still)), samples_of(still))


def test_pixels_that_a_light_clips_are_named() -> None:
    still = texture()
    light = Light(2.0, 0.0)
    lit = light.apply(still)
    clipped = light.clipped(lit, still) > 0
    assert np.array_equal(clipped, (lit >= 248) | (lit <= 6))


def test_a_jump_is_the_share_that_changed() -> None:
    still = texture()
    half = still.copy()
    half[:, :160] = np.clip(half[:, :160].astype(int) + 30, 0, 255)
    assert jumped(still, still) == 0.0
    assert abs(jumped(half, still) - 0.5) < 0.05


@pytest.mark.parametrize(("change", "renewed"), [("keyframe", True), ("lamp", False), ("dark", False)])
def test_a_keyframe_renews_edges_and_a_light_does_not(change: str, renewed: bool) -> None:
    still = texture()
    soft = np.asarray(cv2.GaussianBlur(still, (0, 0), 2.0), np.uint8)
    y, x = np.mgrid[:240, :320]
    lamp = 1.0 + 0.5 * np.exp(-((x - 200) ** 2 + (y - 80) ** 2) / 5_000)
    factors = {"lamp": lamp, "dark": np.full_like(lamp, 0.6)}
    plane = np.clip(soft * factors[change], 0, 255).astype(np.uint8) if change in factors else still
    jumps = Jumps(soft)
    for step in range(5):
        jumps.update(soft, soft, Light(), known=True, passed_s=0.2, age_s=9.0 + 0.2 * step)
    jump = jumps.update(plane, plane, Light(), known=True, passed_s=0.2, age_s=10.0)
    assert jump.part
    assert jump.renewed is renewed


def test_a_lamp_keeps_ratios_and_a_turned_camera_keeps_nothing() -> None:
    still = texture()
    y, x = np.mgrid[:240, :320]
    lamp = 0.6 + 0.7 * np.exp(-((x - 200) ** 2 + (y - 80) ** 2) / 12_000)
    assert kind_of(np.clip(still * lamp, 0, 255).astype(np.uint8), still) is SceneChange.LIGHT
    assert kind_of(texture(seed=6), still) is SceneChange.MOVED


def test_in_infrared_things_have_other_brightnesses() -> None:
    still = texture()
    bands = np.abs(((still.astype(int) * 3) % 256) - 128) + still // 4 + 20
    seen = np.clip(0.5 * still + 0.5 * bands, 0, 255).astype(np.uint8)
    assert kind_of(seen, still) in (SceneChange.INFRARED, SceneChange.MOVED)
