"""The detector in use: when it is replaced, and which state its successor takes over."""

# ruff: noqa: SLF001  (the detector in use, which a unit keeps to itself)

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from async_motion.camera.detector_host import STALE_S, DetectorHost, Learned
from async_motion.camera.unit import CameraUnit
from async_motion.core import names
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.model import (
    Detection,
    Luma,
    Reason,
)
from tests.support.clock import BEGIN
from tests.support.unit_bench import (
    FakeDetector,
    ListSource,
    in_step,
    judged_frame,
    make,
    scene,
)
from tests.support.wait import eventually_async


async def test_another_codec_starts_a_new_detector() -> None:
    frames = [replace(frame, codec="h264" if i < 3 else "hevc") for i, frame in enumerate(scene("......"))]
    b = make(ListSource(frames))
    await b.run()
    assert len(b.detectors) == 2
    assert len(b.seen.of("detected")) == 6


async def test_a_long_absence_makes_the_background_worthless() -> None:
    b = make(ListSource(scene("...")))
    await b.run()
    b.source.items = scene("...", begin=0.4 + STALE_S)
    await b.run()
    assert len(b.detectors) == 1
    b.source.items = scene("...", begin=1.0 + 2 * STALE_S)
    await b.run()
    assert len(b.detectors) == 2


async def test_a_change_of_shape_starts_a_new_detector() -> None:
    small, large = scene("..MM"), [judged_frame(0.8 + i / 5, moving=i > 1, shape=(32, 32)) for i in range(4)]
    b = make(ListSource([*small, *large]))
    await b.run()
    assert [detector.shape for detector in b.detectors] == [(16, 16), (32, 32)]
    assert len(b.seen.of("detected")) == 8
    assert len(b.outbox.phases) == 2, "the event goes on"


async def test_settings_change_while_it_runs_and_a_new_detector_takes_them() -> None:
    b = make(ListSource(scene("..")), detection=DetectorSettings(min_area=0.01))
    assert b.unit.values() == {
        "detection": True,
        "sensitivity": "medium",
        "threshold": None,
        "min_area": 0.01,
    }
    assert tuple(b.unit.values()) == names.SETTINGS
    b.unit.adopt({"sensitivity": "high"})
    b.unit.adopt({"threshold": 12.5})
    b.unit.adopt({"min_area": 0.5})
    assert b.unit.values() == {
        "detection": True,
        "sensitivity": "high",
        "threshold": 12.5,
        "min_area": 0.5,
    }
    b.unit.adopt({"threshold": None})
    await b.run()
    assert [detector.settings for detector in b.detectors[1:]] == [
        DetectorSettings(sensitivity="high", min_area=0.5)
    ], "one for all changes"
    assert b.detectors[-1].shape == (16, 16)
    assert b.detectors[0].shape is None


async def test_several_settings_change_at_once_or_none() -> None:
    b = make(ListSource(scene("..")))
    b.unit.adopt({"sensitivity": "low", "threshold": None, "min_area": 0.01})
    with pytest.raises(ValueError, match="min_area: expected 0 to 1"):
        b.unit.adopt({"sensitivity": "high", "min_area": 1.5})
    with pytest.raises(
        ValueError, match="colour: expected one of detection, sensitivity, threshold, min_area"
    ):
        b.unit.adopt({"sensitivity": "high", "colour": "red"})
    assert b.unit.values()["sensitivity"] == "low"
    await b.run()
    assert [detector.settings for detector in b.detectors[1:]] == [
        DetectorSettings(sensitivity="low", min_area=0.01)
    ]


class LearnedDetector(FakeDetector):
    """A detector with a state to hand over: the threshold at which each frame was judged."""

    def __init__(self, settings: DetectorSettings) -> None:
        super().__init__(settings)
        self.judged_by: list[float | None] = []
        self.threads: set[str] = set()
        self.torn = False
        self.away_s = 0.0

    def update(self, luma: Luma, monotonic: float) -> Detection:
        self.judged_by.append(self.settings.threshold)
        self.threads.add(threading.current_thread().name)
        return super().update(luma, monotonic)

    def state(self) -> bytes:
        self.threads.add(threading.current_thread().name)
        return b"torn" if self.torn else json.dumps(self.judged_by).encode() if self.judged_by else b""

    @classmethod
    def restore(cls, settings: DetectorSettings, state: bytes, *, away_s: float = 0.0) -> LearnedDetector:
        heir = cls(settings)
        heir.away_s = away_s
        heir.judged_by = json.loads(state)
        return heir


async def retuned(*thresholds: float | None, torn: bool = False) -> tuple[CameraUnit, list[FakeDetector]]:
    """Set each threshold after one more frame; return the unit, and the detectors built without a state.

    With `torn`, the detector's state cannot be restored.
    """
    source = in_step("." * (len(thresholds) + 1))
    pace = source.pace
    assert pace is not None
    with ThreadPoolExecutor(1, thread_name_prefix="work") as executor:
        b = make(source, executor=executor, make_detector=LearnedDetector)
        b.seen.pace = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(b.run())
            for count, threshold in enumerate(thresholds, start=1):
                await eventually_async(lambda count=count: len(b.seen.of("detected")) == count)  # type: ignore[misc]
                detector = b.unit._host.detector
                assert isinstance(detector, LearnedDetector)
                detector.torn = torn
                b.unit.adopt({"threshold": threshold})
                pace.put_nowait(None)
            await eventually_async(lambda: len(b.seen.of("detected")) == len(thresholds) + 1)
            await b.unit.stop()
    return b.unit, b.detectors


async def test_a_change_of_thresholds_does_not_cost_what_was_learned() -> None:
    unit, made = await retuned(20.0, 20.0, 30.0)
    detector = unit._host.detector
    assert isinstance(detector, LearnedDetector)
    assert detector.judged_by == [None, 20.0, 20.0, 30.0]
    assert detector.threads == {"work_0"}, "never from the loop: it may be at work"
    assert len(made) == 1


async def test_what_cannot_be_taken_over_is_learned_again() -> None:
    unit, made = await retuned(20.0, torn=True)
    assert unit._host.detector is made[-1]
    assert [detector.settings.threshold for detector in made] == [None, 20.0]


async def test_thresholds_changed_while_detection_is_off_hold_when_it_is_on_again() -> None:
    b = make(in_step("...."), make_detector=LearnedDetector)
    pace = b.source.pace
    assert pace is not None
    b.seen.pace = None
    b.unit.adopt({"detection": False})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(b.run())
        await eventually_async(lambda: b.seen.of("online"))
        b.unit.adopt({"threshold": 20.0})
        pace.put_nowait(None)
        b.unit.adopt({"detection": True})
        for _ in range(3):
            pace.put_nowait(None)
        await eventually_async(lambda: b.seen.of("detected"))
        await b.unit.stop()
    detector = b.unit._host.detector
    assert isinstance(detector, LearnedDetector)
    assert set(detector.judged_by) == {20.0}


async def test_what_was_learned_is_told_once_with_the_time_of_its_last_frame() -> None:
    b = make(ListSource(scene("....")), make_detector=LearnedDetector)
    assert await b.unit.learned() is None
    await b.run()
    assert await b.unit.learned() == (b"[null, null, null, null]", BEGIN + timedelta(seconds=0.6))
    assert await b.unit.learned() is None
    b.source.items = scene(".", begin=1.0)
    await b.run()
    assert await b.unit.learned() == (b"[null, null, null, null, null]", BEGIN + timedelta(seconds=1.0))
    plain = make(ListSource(scene("....")))
    await plain.run()
    assert await plain.unit.learned() is None, "a detector that has nothing to hand on"


async def test_after_a_long_absence_the_detector_is_told_how_long_it_was() -> None:
    b = make(ListSource(scene("...")), make_detector=LearnedDetector)
    await b.run()
    b.source.items = scene("...", begin=0.4 + STALE_S)
    await b.run()
    detector = b.unit._host.detector
    assert isinstance(detector, LearnedDetector)
    assert detector.away_s == 0.0
    b.source.items = scene("...", begin=1.0 + 2 * STALE_S)
    await b.run()
    heir = b.unit._host.detector
    assert isinstance(heir, LearnedDetector)
    assert heir.away_s == pytest.approx(STALE_S + 0.2)
    assert len(heir.judged_by) == 9


async def test_a_unit_takes_over_a_detector_that_knows_the_scene() -> None:
    knowing = LearnedDetector(DetectorSettings())
    b = make(ListSource(scene("..")), make_detector=LearnedDetector, detector=knowing)
    await b.run()
    assert b.detectors == []
    assert len(knowing.judged_by) == 2


def test_the_real_detector_hands_on_what_it_has_learned() -> None:
    luma = np.random.default_rng(1).integers(0, 255, (90, 160), np.uint8)
    detector: object = Detector(DetectorSettings())
    assert isinstance(detector, Detector)
    for number in range(30):
        detector.update(luma, number / 5)
    assert isinstance(detector, Learned)
    heir = detector.restore(DetectorSettings(sensitivity="high"), detector.state())
    assert heir.update(luma, 6.0).reason is Reason.STILL
    assert Detector(DetectorSettings()).update(luma, 6.0).reason is Reason.LEARNING


async def test_values_that_cannot_be_meant_are_refused() -> None:
    b = make(ListSource([]))
    before = b.unit.values()
    with pytest.raises(ValueError, match="low, medium, high"):
        b.unit.adopt({"sensitivity": "extreme"})
    for threshold in (-1.0, 256.0, float("nan")):
        with pytest.raises(ValueError, match="0 to 255"):
            b.unit.adopt({"threshold": threshold})
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="0 to 1"):
            b.unit.adopt({"min_area": share})
    assert b.unit.values() == before


async def test_what_a_recorder_draws_in_place_of_the_view_is_still() -> None:
    """It is no scene change either: a text that blinks would be one each second."""
    seen: list[Luma] = []

    def is_placeholder(luma: Luma) -> bool:
        seen.append(luma)
        return True

    with ThreadPoolExecutor(1) as executor:
        host = DetectorHost(
            "porch",
            DetectorSettings(),
            executor=executor,
            make_detector=FakeDetector,
            is_placeholder=is_placeholder,
        )
        said = [
            (await host.judge(judged_frame(i / 5, moving=i == 2), detecting=True, away_s=0.0))[0]
            for i in range(3)
        ]
    assert len(seen) == 1, "asked about motion only"
    assert said[2] is not None
    assert (said[2].motion, said[2].reason, said[2].boxes) == (False, Reason.STILL, ())
    assert said[2].scene_change is None
