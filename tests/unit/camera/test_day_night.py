"""Day and night profiles: switched by command, by light, and by both at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from async_motion.camera.day_night import NO_FIGURE_EVERY_S, LightGauge, ProfileKeeper
from async_motion.core.commands import Value
from async_motion.core.events.day_night import LightLimits, Profile
from async_motion.errors import CameraUnavailable, ImageError
from tests.support.clock import Clock
from tests.support.wait import eventually_async

DAY, NIGHT = Profile.DAY, Profile.NIGHT
NIGHTLY: Mapping[str, Value] = {"sensitivity": "low", "threshold": None}


class FakeCamera:
    """Hold the settings in force, and record every change."""

    def __init__(self) -> None:
        self.current: dict[str, Value] = {"sensitivity": "medium", "threshold": 25.0, "min_area": 0.002}
        self.adopted: list[dict[str, Value]] = []

    def values(self) -> Mapping[str, Value]:
        return dict(self.current)

    def adopt(self, values: Mapping[str, Value]) -> None:
        self.adopted.append(dict(values))
        self.current |= values

    async def snapshot(self) -> None:
        raise AssertionError("not asked for")


class Bench:
    """A ProfileKeeper with a light and a clock that the test controls."""

    def __init__(self, *, light: bool = True, limits: LightLimits | None = None) -> None:
        self.camera = FakeCamera()
        self.figure: float | None = 1.0
        self.trouble: Exception | None = None
        self.reads = 0
        self.gate: asyncio.Event | None = None
        """Blocks each reading of the light until set; None: no delay."""
        self.clock = Clock(0.0)
        self.rests: list[float] = []
        self.go_on = asyncio.Event()
        self.changes: list[Profile] = []
        every = LightGauge(
            limits=limits or LightLimits(night_below=-1, day_above=1, dwell_s=0),
            every_s=30.0,
            read=self.read,
            words=lambda figure: f"figure {figure:g}",
        )
        self.keeper = ProfileKeeper(
            "porch",
            self.camera,
            NIGHTLY,
            basis="sun" if light else "manual",
            light=every if light else None,
            changed=lambda: self.changes.append(self.keeper.profile),
            clock=self.clock,
            sleep=self.sleep,
        )

    async def read(self) -> float | None:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        return self.figure

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        await self.go_on.wait()
        self.go_on.clear()
        self.clock.sleep(seconds)

    async def step(self, figure: float | None = None) -> None:
        """Set the light to `figure`, end the pause, and wait until the keeper pauses again."""
        if figure is not None:
            self.figure = figure
        rests = len(self.rests)
        self.go_on.set()
        await eventually_async(lambda: len(self.rests) > rests)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.keeper.run())
            await eventually_async(lambda: self.rests)
            yield
            task.cancel()


async def test_it_begins_with_the_day_and_leaves_the_camera_alone() -> None:
    b = Bench()
    assert (b.keeper.profile, b.keeper.mode, b.keeper.basis) == (DAY, "auto", "sun")
    assert list(b.keeper.own) == ["sensitivity", "threshold"]
    assert b.camera.adopted == []
    async with b.running():
        await b.step(5)
    assert b.camera.adopted == []
    assert b.changes == []


async def test_the_night_puts_its_values_in_force_at_once_and_the_day_takes_them_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    b = Bench()
    async with b.running():
        await b.step(-5)
        assert b.camera.current == {"sensitivity": "low", "threshold": None, "min_area": 0.002}
        await b.step(5)
        assert b.camera.current == {"sensitivity": "medium", "threshold": 25.0, "min_area": 0.002}
    assert b.camera.adopted == [dict(NIGHTLY), {"sensitivity": "medium", "threshold": 25.0}]
    assert b.changes == [NIGHT, DAY]
    assert caplog.messages == [
        "porch: settings of the night, figure -5: sensitivity low, threshold 0",
        "porch: settings of the day, figure 5: sensitivity medium, threshold 25",
    ]


async def test_a_night_that_is_there_at_the_start_is_seen_at_once() -> None:
    b = Bench()
    b.figure = -5.0
    async with b.running():
        assert b.keeper.profile is NIGHT


async def test_a_command_holds_against_the_light_and_auto_gives_it_back() -> None:
    b = Bench(limits=LightLimits(night_below=-1, day_above=1, agree=3, dwell_s=1e6))
    async with b.running():
        b.keeper.choose("night")
        assert (b.keeper.profile, b.keeper.mode) == (NIGHT, "night")
        reads = b.reads
        await b.step(5)
        await b.step(5)
        assert b.keeper.profile is NIGHT
        assert b.reads == reads, "no image is read while it does not matter"
        rests = len(b.rests)
        b.keeper.choose("auto")
        await eventually_async(lambda: len(b.rests) > rests)
        assert (b.keeper.profile, b.keeper.mode) == (DAY, "auto"), "at once, in spite of the dwell"


async def test_a_command_that_comes_while_the_light_is_read_wins() -> None:
    b = Bench()
    b.figure = -5.0
    b.gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(b.keeper.run())
        await eventually_async(lambda: b.reads)
        b.keeper.choose("day")
        b.gate.set()
        await eventually_async(lambda: b.rests)
        assert (b.keeper.profile, b.keeper.mode) == (DAY, "day")
        task.cancel()


@pytest.mark.parametrize("trouble", [None, CameraUnavailable("away"), ImageError("torn")])
async def test_no_image_changes_nothing_and_is_asked_for_sooner(trouble: Exception | None) -> None:
    b = Bench()
    async with b.running():
        await b.step(-5)
        b.figure, b.trouble = None, trouble
        await b.step()
        assert b.keeper.profile is NIGHT
        assert b.rests[-1] == NO_FIGURE_EVERY_S
        b.trouble = None
        await b.step(5)
        assert b.rests[-1] == 30.0
        assert b.keeper.profile is DAY


async def test_without_a_light_commands_alone_switch() -> None:
    b = Bench(light=False)
    await b.keeper.run()
    assert b.rests == []
    b.keeper.choose("night")
    assert b.keeper.profile is NIGHT
    b.keeper.choose("night")
    assert b.changes == [NIGHT]
    b.keeper.choose("auto")
    assert (b.keeper.profile, b.keeper.mode) == (DAY, "auto")


def test_a_value_changed_by_night_is_the_nights_and_comes_back_the_next() -> None:
    b = Bench(light=False)
    b.keeper.choose("night")
    b.camera.adopt({"sensitivity": "high", "min_area": 0.01})
    b.keeper.choose("day")
    assert b.camera.current == {"sensitivity": "medium", "threshold": 25.0, "min_area": 0.01}
    assert b.keeper.values(NIGHT) == {"sensitivity": "high", "threshold": None}
    b.keeper.choose("night")
    assert b.camera.current["sensitivity"] == "high"


def test_values_can_be_put_into_either_profile() -> None:
    b = Bench(light=False)
    b.keeper.put(NIGHT, "sensitivity", "high")
    assert b.camera.adopted == []
    b.keeper.put(DAY, "sensitivity", "low")
    assert b.camera.current["sensitivity"] == "low"
    assert b.keeper.values(DAY) == {"sensitivity": "low", "threshold": 25.0}
    assert b.keeper.values(NIGHT) == {"sensitivity": "high", "threshold": None}
    b.keeper.choose("night")
    assert b.camera.current["sensitivity"] == "high"
