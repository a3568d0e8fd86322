"""Saving and restoring detector state: the real detector, a fake spool."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from async_motion.camera import detector_state as room
from async_motion.camera.detector_state import LearnedKeeper, fingerprint, recalled, wrap
from async_motion.core.detection.detector import OLD_S, Detector, DetectorSettings
from async_motion.core.model import Reason
from async_motion.errors import SpoolError
from tests.support.scenes import patches
from tests.support.wait import eventually_async

TAKEN = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)
SOURCE = fingerprint("rtsp://user:pass@192.0.2.10/stream2")


def taught() -> bytes:
    detector = Detector(DetectorSettings())
    for number in range(30):
        detector.update(patches(), number / 10)
    return detector.state()


def back(kept: bytes, *, later_s: float = 5.0, source: str = SOURCE) -> Detector | None:
    now = TAKEN + timedelta(seconds=later_s)
    return recalled("porch", DetectorSettings(), kept, source=source, now=now)


class FakeUnit:
    """A camera that returns `state` once, then None."""

    def __init__(self, state: bytes | None) -> None:
        self.state = state

    async def learned(self) -> tuple[bytes, datetime] | None:
        state, self.state = self.state, None
        return (state, TAKEN) if state is not None else None


class FakeSpool:
    """Keep values; refuse the next `refusals` of them, or never answer."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.refusals = 0
        self.hangs = False

    async def remember(self, key: str, value: bytes) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.refusals:
            self.refusals -= 1
            raise SpoolError("spool.db: no space left on its disk")
        self.values[key] = value


async def test_what_is_kept_comes_back_knowing() -> None:
    spool = FakeSpool()
    keeper = LearnedKeeper(spool.remember)
    keeper.attach("porch", FakeUnit(taught()), SOURCE)
    keeper.attach("yard", FakeUnit(None), SOURCE)
    await keeper.save()
    assert list(spool.values) == ["learned/porch"], "nothing new of the yard"
    detector = back(spool.values["learned/porch"])
    assert detector is not None
    assert detector.update(patches(), 1000.0).reason is Reason.STILL
    old = back(spool.values["learned/porch"], later_s=3600.0)
    assert old is not None
    assert old.update(patches(), 1000.0).reason is Reason.LEARNING, "an hour later it is not trusted at once"


def test_a_clock_that_was_set_back_makes_a_state_old_not_new() -> None:
    detector = back(wrap(taught(), TAKEN, SOURCE), later_s=-86400.0)
    assert detector is not None
    assert detector.update(patches(), 1000.0).reason is Reason.LEARNING


@pytest.mark.parametrize(
    ("kept", "later_s", "source", "why"),
    [
        (b"", 5.0, SOURCE, "Expecting value"),
        (b"[]\n", 5.0, SOURCE, "cannot be read"),
        (wrap(b"nonsense", TAKEN, SOURCE), 5.0, SOURCE, "cannot be read"),
        (wrap(b"x", TAKEN, SOURCE), 5.0, fingerprint("usb:0"), "another source"),
        (wrap(b"x", TAKEN, SOURCE), OLD_S + 60, SOURCE, "12 h old"),
        (wrap(b"x", TAKEN, SOURCE).replace(b"2026-", b"then "), 5.0, SOURCE, "not used"),
    ],
)
def test_what_does_not_fit_is_left_alone_with_one_line(
    kept: bytes, later_s: float, source: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert back(kept, later_s=later_s, source=source) is None
    (line,) = caplog.messages
    assert line.startswith("porch: saved background not used (")
    assert why in line


def test_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = wrap(taught(), TAKEN, SOURCE)
    monkeypatch.setattr("async_motion.core.detection.detector._STATE_VERSION", 99)
    assert back(kept) is None


def test_another_password_is_not_another_scene_and_none_is_kept() -> None:
    assert fingerprint("rtsp://user:new@192.0.2.10/stream2") == SOURCE
    assert fingerprint("rtsp://user:pass@192.0.2.11/stream2") != SOURCE
    assert fingerprint("rtsp://user:p?a=1&b@192.0.2.10/stream2") == SOURCE, "as people write passwords"
    recorder = "rtsp://192.0.2.10/live?password={}&channel={}"
    assert fingerprint(recorder.format("old", 1)) == fingerprint(recorder.format("new", 1))
    assert fingerprint(recorder.format("old", 1)) != fingerprint(recorder.format("old", 2))
    assert b"pass" not in wrap(b"", TAKEN, SOURCE)


async def test_it_is_written_soon_then_now_and_then() -> None:
    spool = FakeSpool()
    slept: list[float] = []
    units = [FakeUnit(b"1")]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 1:
            assert spool.values["learned/porch"].endswith(str(len(slept) - 1).encode())
        if len(slept) == 3:
            await asyncio.Event().wait()
        units[0].state = str(len(slept)).encode()

    keeper = LearnedKeeper(spool.remember, sleep=sleep)
    keeper.attach("porch", units[0], SOURCE)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        await eventually_async(lambda: len(slept) == 3)
        running.cancel()
    assert slept == [room.FIRST_SAVE_S, room.SAVE_EVERY_S, room.SAVE_EVERY_S]


async def test_a_failing_spool_costs_the_state_and_is_reported_once_for_each_camera(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = FakeSpool()
    units = {name: FakeUnit(b"x") for name in ("porch", "yard")}
    keeper = LearnedKeeper(spool.remember)
    for name, unit in units.items():
        keeper.attach(name, unit, SOURCE)
    for _ in range(3):
        spool.refusals = 1
        await keeper.save()
        assert list(spool.values) == ["learned/yard"]
        for unit in units.values():
            unit.state = b"x"
    (said,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert said.message.startswith("porch: cannot save the learned background, retrying: spool.db")
    await keeper.save()
    spool.refusals, units["porch"].state = 1, b"y"
    await keeper.save()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2, (
        "it is new trouble"
    )

    monkeypatch.setattr(room, "LAST_SAVE_S", 0.01)
    spool.hangs = True
    units["porch"].state = b"y"
    await keeper.detach("porch")
    assert "porch: the spool did not answer" in caplog.messages[-1]


async def test_a_camera_that_stops_leaves_what_it_learned() -> None:
    spool, unit = FakeSpool(), FakeUnit(b"x")
    keeper = LearnedKeeper(spool.remember)
    keeper.attach("porch", unit, SOURCE)
    await keeper.detach("porch")
    assert list(spool.values) == ["learned/porch"]
    unit.state = b"y"
    await keeper.save()
    await keeper.detach("porch")
    assert list(spool.values) == ["learned/porch"]
