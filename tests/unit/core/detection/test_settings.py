"""The settings of a detector: presets, and the measures that override them."""

from __future__ import annotations

from async_motion.core.detection.sensitivity import MEASURES
from async_motion.core.detection.settings import DetectorSettings


def test_a_sensitivity_is_its_measures() -> None:
    for sensitivity, measures in MEASURES.items():
        assert DetectorSettings(sensitivity=sensitivity).measures == measures


def test_a_measure_of_its_own_overrides_only_itself() -> None:
    measures = DetectorSettings(sensitivity="high", threshold=30.0).measures
    assert measures.threshold == 30.0
    assert measures.strong_share == MEASURES["high"].strong_share
