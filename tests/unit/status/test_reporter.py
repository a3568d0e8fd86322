"""The reporter: states are never stuck and never flood; commands are validated and remembered."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from async_motion.broker.client import Handler
from async_motion.broker.fake import FakeBroker
from async_motion.camera.day_night import ProfileKeeper
from async_motion.core.commands import Value
from async_motion.core.health import DeliveryHealth, PeerHealth, PeerState
from async_motion.core.model import (
    CameraStatus,
    Detection,
    Reason,
    SceneChange,
    StoredFrame,
)
from async_motion.core.names import Topics
from async_motion.errors import AsyncMotionError, CameraUnavailable, ImageError, SpoolError
from async_motion.status import Reporter
from async_motion.status.commands import BURST
from async_motion.status.reporter import STATE_GAP_S
from tests.support.clock import Clock
from tests.support.records import make_event, make_record, stored_of
from tests.support.wait import eventually_async

BASE = "async_motion/edge1"
TOPICS = Topics(BASE)


class StatusBroker(FakeBroker):
    """The shipped fake broker: what was published on a topic, as text, and commands of a person."""

    def __init__(self) -> None:
        super().__init__()
        self.filters: list[str] = []

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        self.filters.append(topic_filter)
        super().subscribe(topic_filter, handler)

    @property
    def log(self) -> list[tuple[str, str]]:
        """The published messages, oldest first."""
        return [(one.topic, one.payload.decode(errors="replace")) for one in self.server.messages]

    def command(self, camera: str, setting: str, payload: bytes, *, retained: bool = False) -> None:
        self.deliver(TOPICS.command(camera, setting), payload, retained=retained)

    def of(self, topic: str) -> list[str]:
        return [payload for at, payload in self.log if at == topic]

    def last(self, topic: str) -> str:
        return self.of(topic)[-1]

    def state_of(self, camera: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.last(TOPICS.camera_state(camera)))
        return state


class FakeControls:
    """Hold the settings in force; refuse a `min_area` above 0.9, as a real camera does."""

    def __init__(self) -> None:
        self.current: dict[str, Value] = {
            "detection": True,
            "sensitivity": "medium",
            "threshold": None,
            "min_area": 0.002,
        }
        self.snapshots = 0
        self.gate: asyncio.Event | None = None
        self.trouble: Exception | None = None

    def values(self) -> Mapping[str, Value]:
        return dict(self.current)

    def adopt(self, values: Mapping[str, Value]) -> None:
        share = values.get("min_area")
        if isinstance(share, float) and share > 0.9:
            raise ValueError("above max_area, which is 90%")
        self.current |= values

    async def snapshot(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        self.snapshots += 1


class Bench:
    """A reporter of two cameras, on a fake broker, fake controls and a fake clock."""

    def __init__(self, *, attach: bool = True, **options: Any) -> None:
        self.clock = Clock(0.0)
        self.broker = StatusBroker()
        self.memory: dict[str, bytes] = {}
        self.spool_trouble: SpoolError | None = None
        self.store_problem: str | None = None
        self.spool_alarm: str | None = None
        self.restarts = 0
        self.controls = FakeControls()
        self.reporter = Reporter(
            self.broker,
            TOPICS,
            {"porch": ("drive",), "yard": ()},
            **{
                "instance": "edge1",
                "version": "0.1.0",
                "spool_stats": lambda: {
                    "records": 3,
                    "bytes": 1000,
                    "oldest_age_s": 1.5,
                    "problem": None,
                    "alarm": self.spool_alarm,
                },
                "delivery_health": self.health,
                "remember": self.remember,
                "restart_capture": self.restart,
                "now": self.clock.now,
                "monotonic": self.clock,
                "timezone": UTC,
                **options,
            },
        )
        if attach:
            self.reporter.attach("porch", self.controls)

    def health(self) -> DeliveryHealth:
        state = PeerState.OK if self.store_problem is None else PeerState.REFUSED
        return DeliveryHealth(store=PeerHealth(state=state, problem=self.store_problem))

    async def remember(self, key: str, value: bytes) -> None:
        if self.spool_trouble is not None:
            raise self.spool_trouble
        self.memory[key] = value

    def restart(self) -> None:
        self.restarts += 1

    def wait(self, seconds: float) -> None:
        """Advance the clock, with a tick each second."""
        for _ in range(int(seconds)):
            self.clock.sleep(1.0)
            self.reporter.tick()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reporter.run(), name="reporter")
        await eventually_async(lambda: self.broker.of(TOPICS.state), what="the first state")
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def moving(score: float) -> Detection:
    return Detection(motion=True, reason=Reason.MOTION, score=score)


STILL = Detection(motion=False, reason=Reason.STILL)


def stored(camera: str = "porch", *, late_s: float = 0.25, delayed: bool = False) -> StoredFrame:
    one = stored_of(make_record(make_event(camera), 0))
    return replace(one, stored_at=one.info.captured_at + timedelta(seconds=late_s), delayed=delayed)


# ---- never stuck ----


def test_the_start_publishes_off_and_offline_whatever_a_crash_left_behind() -> None:
    bench = Bench()
    bench.reporter.republish()
    for camera in ("porch", "yard"):
        assert bench.broker.of(TOPICS.motion(camera)) == ["OFF"]
        assert bench.broker.of(TOPICS.camera_status(camera)) == ["offline"]
        assert bench.broker.state_of(camera)["status"] == "starting"
    assert bench.broker.of(TOPICS.zone_motion("porch", "drive")) == ["OFF"]


def test_motion_seen_before_the_first_publication_is_not_undone_by_it() -> None:
    bench = Bench()
    bench.reporter.motion("porch", True)
    bench.reporter.republish()
    assert bench.broker.last(TOPICS.motion("porch")) == "ON"


def test_closing_publishes_off_and_offline_and_nothing_after_it() -> None:
    bench = Bench()
    bench.reporter.camera_online("porch")
    bench.reporter.motion("porch", True)
    bench.reporter.zone_motion("porch", "drive", True)
    bench.reporter.close()
    assert bench.broker.last(TOPICS.motion("porch")) == "OFF"
    assert bench.broker.last(TOPICS.zone_motion("porch", "drive")) == "OFF"
    assert bench.broker.last(TOPICS.camera_status("porch")) == "offline"
    assert bench.broker.state_of("porch")["status"] == "offline"
    length = len(bench.broker.log)
    bench.reporter.motion("porch", True)
    bench.reporter.camera_online("porch")
    bench.reporter.close()
    assert len(bench.broker.log) == length


async def test_the_end_of_run_closes() -> None:
    bench = Bench()
    async with bench.running():
        bench.reporter.camera_online("porch")
        bench.reporter.motion("porch", True)
    assert bench.broker.last(TOPICS.motion("porch")) == "OFF"
    assert bench.broker.last(TOPICS.camera_status("porch")) == "offline"


# ---- changes alone, and at once ----


def test_motion_goes_out_in_the_same_call_and_before_the_state() -> None:
    bench = Bench()
    bench.reporter.republish()
    bench.wait(60)
    bench.broker.server.messages.clear()
    bench.reporter.motion("porch", True)
    assert bench.broker.log[0] == (TOPICS.motion("porch"), "ON")


def test_the_same_value_is_not_published_twice() -> None:
    bench = Bench()
    for _ in range(3):
        bench.reporter.motion("porch", True)
        bench.reporter.zone_motion("porch", "drive", True)
        bench.reporter.camera_online("porch")
    assert bench.broker.of(TOPICS.motion("porch")) == ["ON"]
    assert bench.broker.of(TOPICS.zone_motion("porch", "drive")) == ["ON"]
    assert bench.broker.of(TOPICS.camera_status("porch")) == ["online"]


def test_the_frigate_style_topic_says_the_same() -> None:
    bench = Bench(frigate_topic="frigate")
    bench.reporter.republish()
    bench.reporter.motion("porch", True)
    assert bench.broker.of("frigate/porch/motion") == ["OFF", "ON"]
    assert bench.reporter.foreign_topics == {"frigate/porch/motion", "frigate/yard/motion"}


def test_everything_that_is_retained_is_announced_as_ours() -> None:
    bench = Bench()
    bench.reporter.republish()
    assert {topic for topic, _ in bench.broker.log} <= bench.reporter.retained_topics


# ---- states ----


def test_a_state_comes_every_15_seconds_and_no_more_often_when_nothing_changes() -> None:
    bench = Bench()
    bench.reporter.republish()
    before = len(bench.broker.of(TOPICS.camera_state("yard")))
    bench.wait(60)
    assert len(bench.broker.of(TOPICS.camera_state("yard"))) - before == 4
    assert len(bench.broker.of(TOPICS.state)) == 5


def test_a_change_is_published_at_once_and_a_flapping_camera_does_not_flood() -> None:
    bench = Bench()
    bench.reporter.republish()
    bench.wait(20)
    before = len(bench.broker.of(TOPICS.camera_state("porch")))
    bench.reporter.camera_offline("porch", "connection refused")
    # the previous state was published 5 s ago
    assert bench.broker.state_of("porch")["problem"] == "connection refused"
    for _ in range(60):
        bench.reporter.camera_online("porch")
        bench.reporter.camera_offline("porch", "no picture")
        bench.wait(1)
    published = len(bench.broker.of(TOPICS.camera_state("porch"))) - before
    assert published <= 60 / STATE_GAP_S + 2
    bench.reporter.camera_online("porch")
    bench.wait(STATE_GAP_S)
    assert bench.broker.state_of("porch")["status"] == "watching"
    assert bench.broker.state_of("porch")["problem"] is None


def test_statuses() -> None:
    bench = Bench()
    reporter = bench.reporter
    seen = [reporter.snapshot()["cameras"]["porch"]["status"]]
    reporter.camera_online("porch")
    seen.append(reporter.snapshot()["cameras"]["porch"]["status"])
    bench.broker.command("porch", "detection", b"OFF")
    seen.append(reporter.snapshot()["cameras"]["porch"]["status"])
    reporter.camera_offline("porch", "gone")
    seen.append(reporter.snapshot()["cameras"]["porch"]["status"])
    assert seen == list(CameraStatus)


def test_an_image_problem_shows_while_online_and_goes_with_the_camera() -> None:
    bench = Bench()
    bench.reporter.camera_online("porch")
    bench.reporter.problem("porch", "the picture is frozen")
    assert bench.reporter.snapshot()["cameras"]["porch"]["problem"] == "the picture is frozen"
    bench.reporter.camera_offline("porch", "no picture for 5 s")
    assert bench.reporter.snapshot()["cameras"]["porch"]["problem"] == "no picture for 5 s"
    bench.reporter.camera_online("porch")
    assert bench.reporter.snapshot()["cameras"]["porch"]["problem"] is None


def test_what_the_capture_lost_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    counters = {"opened": 3, "frames": 90, "dropped": 2, "corrupt": 0, "stalls": 2, "abandoned": 1}

    def capture() -> dict[str, int]:
        return counters

    bench.reporter.attach("porch", bench.controls, capture=capture)
    bench.reporter.dropped("porch", "too_slow", 3)
    bench.wait(20)
    state = bench.broker.state_of("porch")
    assert (state["dropped"], state["dropped_total"]) == ({"too_slow": 5}, 5)
    assert state["capture"] == counters
    assert bench.reporter.snapshot()["counters"]["dropped"] == 5
    for _ in range(30):
        counters["corrupt"] += 2
        bench.wait(1)
    assert bench.broker.state_of("porch")["dropped"]["corrupt"] >= 10
    bench.wait(60)
    bench.reporter.attach("porch", bench.controls, capture=capture)  # a change in place
    bench.reporter.detach("porch")
    bench.wait(60)
    assert bench.broker.state_of("porch")["dropped_total"] == 65, "a camera that stops takes nothing back"
    said = [line.getMessage() for line in caplog.records if "frames lost" in line.getMessage()]
    assert said == [
        "porch: 5 frames lost, since the start: 5 too_slow",
        "porch: 60 frames lost, since the start: 60 corrupt, 5 too_slow",
    ]


def test_figures_of_a_camera() -> None:
    bench = Bench()
    bench.reporter.republish()
    bench.reporter.camera_online("porch")
    for second in range(30):
        for _ in range(5):
            bench.reporter.detected("porch", moving(0.125) if second == 29 else STILL)
        bench.wait(1)
    bench.reporter.dropped("porch", "too_slow", 2)
    bench.reporter.dropped("porch", "encode", 1)
    bench.reporter.on_stored(stored(late_s=0.25))
    bench.reporter.on_stored(stored(late_s=500, delayed=True))
    bench.reporter.on_stored(stored(camera="no-longer-there"))
    state = bench.reporter.snapshot()["cameras"]["porch"]
    assert state["fps"] == 5.0
    assert (state["frames"], state["motion_frames"], state["stored"]) == (150, 5, 2)
    assert (state["dropped"], state["dropped_total"]) == ({"too_slow": 2, "encode": 1}, 3)
    assert state["upload_latency_s"] == 0.25
    bench.wait(5)
    assert bench.broker.state_of("porch")["score"] == 0.125
    bench.wait(15)
    assert bench.broker.state_of("porch")["score"] == 0.0


def test_verdicts_and_changes_of_the_scene_are_counted_and_said() -> None:
    bench = Bench()
    bench.reporter.republish()
    bench.wait(6)
    state = bench.reporter.snapshot()["cameras"]["porch"]
    assert (state["verdicts"], state["scene_changes"], state["last_scene_change"]) == ({}, {}, None)
    assert state["noise"] is None
    for detection in (STILL, STILL, moving(0.125)):
        bench.reporter.detected("porch", replace(detection, noise=1.234))
    bench.reporter.scene_changed("porch", SceneChange.INFRARED)
    state = bench.broker.state_of("porch")
    assert state["verdicts"] == {"still": 2, "motion": 1}
    assert state["noise"] == 1.23
    assert state["scene_changes"] == {"infrared": 1}
    assert state["last_scene_change"] == {"kind": "infrared", "at": "2026-11-22T07:31:18.345000Z"}


def test_last_motion_is_when_it_began_and_then_when_it_was_last_seen() -> None:
    bench = Bench()
    bench.reporter.motion("porch", True)
    bench.reporter.detected("porch", moving(0.1))
    assert bench.reporter.snapshot()["cameras"]["porch"]["last_motion"] == "2026-11-22T07:31:12.345000Z"
    bench.wait(3)
    bench.reporter.detected("porch", moving(0.1))
    bench.wait(10)
    bench.reporter.motion("porch", False)
    assert bench.reporter.snapshot()["cameras"]["porch"]["last_motion"] == "2026-11-22T07:31:15.345000Z"


def test_records_set_aside_are_published_at_once() -> None:
    bench = Bench()
    bench.reporter.republish()
    bench.wait(6)
    bench.spool_alarm = "1 records are set aside: HTTP 413"
    bench.wait(1)
    assert json.loads(bench.broker.last(TOPICS.state))["spool"]["alarm"] == bench.spool_alarm


def test_trouble_of_the_store_is_published_at_once_and_its_end_too() -> None:
    bench = Bench()
    bench.reporter.republish()
    bench.wait(6)
    bench.store_problem = "wrong credentials"
    bench.wait(1)
    assert json.loads(bench.broker.last(TOPICS.state))["store"]["problem"] == "wrong credentials"
    bench.store_problem = None
    bench.wait(5)
    assert json.loads(bench.broker.last(TOPICS.state))["store"]["problem"] is None


def test_a_clock_of_1970_is_said_and_published_until_it_is_set(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ahead = timedelta(0)
    bench = Bench(now=lambda: datetime(1970, 1, 1, 0, 1, tzinfo=UTC) + ahead)
    bench.reporter.republish()
    bench.wait(6)
    assert "1970-01-01" in json.loads(bench.broker.last(TOPICS.state))["clock_problem"]
    assert caplog.text.count("clock says 1970-01-01") == 1
    ahead = timedelta(days=365.25 * 60)
    bench.wait(1)
    assert json.loads(bench.broker.last(TOPICS.state))["clock_problem"] is None
    assert caplog.text.count("clock has been set") == 1


def test_the_state_of_the_service_sums_its_cameras() -> None:
    bench = Bench()
    bench.reporter.camera_online("porch")
    bench.reporter.detected("porch", STILL)
    bench.reporter.detected("yard", STILL)
    state = bench.reporter.snapshot()
    assert state["counters"]["frames"] == 2
    assert state["counters"]["cameras_online"] == 1
    assert state["spool"]["records"] == 3
    assert state["spool"]["oldest_age_s"] == 1.5
    assert set(state["cameras"]) == {"porch", "yard"}


# ---- today ----


def test_events_of_today_start_again_at_midnight() -> None:
    bench = Bench()
    bench.reporter.event_started(make_event())
    bench.reporter.event_started(make_event())
    assert bench.reporter.snapshot()["cameras"]["porch"]["events_today"] == 2
    bench.clock.sleep(17 * 3600)
    state = bench.reporter.snapshot()["cameras"]["porch"]
    assert (state["events_today"], state["events"]) == (0, 2)


async def test_events_of_today_and_the_last_motion_survive_a_restart() -> None:
    bench = Bench()
    async with bench.running():
        bench.reporter.motion("porch", True)
        bench.reporter.event_started(make_event())
    again = Bench(recalled=bench.memory)
    state = again.reporter.snapshot()["cameras"]["porch"]
    assert state["events_today"] == 1
    assert state["last_motion"] == "2026-11-22T07:31:12.345000Z"


@pytest.mark.parametrize("junk", [b"", b"null", b"{", b'{"day": "soon"}', b'{"day": 3, "last_motion": "x"}'])
def test_a_memory_that_cannot_be_read_is_ignored(junk: bytes) -> None:
    bench = Bench(recalled={"today/porch": junk, "setting/porch/sensitivity": junk})
    assert bench.reporter.snapshot()["cameras"]["porch"]["events_today"] == 0
    assert bench.controls.current["sensitivity"] == "medium"


# ---- commands ----


def test_settings_in_force_are_published_when_a_camera_is_attached() -> None:
    bench = Bench()
    assert {
        setting: bench.broker.last(TOPICS.setting("porch", setting)) for setting in bench.controls.current
    } == {
        "detection": "ON",
        "sensitivity": "medium",
        "threshold": "0",
        "min_area": "0.2",
    }


def test_a_command_is_applied_confirmed_and_says_who_changed_what(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.INFO):
        bench.broker.command("porch", "sensitivity", b"high")
        bench.broker.command("porch", "min_area", b"1.5")
        bench.broker.command("porch", "threshold", b"30")
    assert bench.controls.current == {
        "detection": True,
        "sensitivity": "high",
        "threshold": 30.0,
        "min_area": 0.015,
    }
    assert bench.broker.last(TOPICS.setting("porch", "sensitivity")) == "high"
    assert bench.broker.last(TOPICS.setting("porch", "min_area")) == "1.5"
    assert (
        "porch: sensitivity changed from medium to high by a command on "
        "async_motion/edge1/porch/sensitivity/set" in caplog.messages
    )
    assert len(caplog.messages) == 3


@pytest.mark.parametrize(
    ("setting", "payload"),
    [("sensitivity", b"extreme"), ("threshold", b"1000"), ("min_area", b"95"), ("detection", b"x" * 100_000)],
)
def test_a_refused_command_changes_nothing_and_says_why(
    setting: str, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    before = bench.controls.values()
    confirmed = len(bench.broker.of(TOPICS.setting("porch", setting)))
    bench.broker.command("porch", setting, payload)
    assert bench.controls.values() == before
    assert len(bench.broker.of(TOPICS.setting("porch", setting))) == confirmed + 1
    assert (
        bench.broker.last(TOPICS.setting("porch", setting))
        == bench.broker.of(TOPICS.setting("porch", setting))[0]
    )
    assert len(caplog.messages) == 1
    assert len(caplog.messages[0]) < 250


def test_retained_commands_and_unknown_targets_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.broker.command("porch", "detection", b"OFF", retained=True)
    bench.broker.command("nowhere", "detection", b"OFF")
    bench.broker.command("yard", "detection", b"OFF")  # its controls are not attached
    bench.broker.command("porch", "colour", b"red")
    bench.broker.command("yard", "detection", b"OFF", retained=True)  # its camera has not started yet
    assert bench.controls.current["detection"] is True
    assert ["retain flag" in message for message in caplog.messages] == [True, False, False, False, True]


async def test_a_command_survives_a_restart() -> None:
    bench = Bench()
    async with bench.running():
        bench.broker.command("porch", "sensitivity", b"low")
        bench.broker.command("porch", "sensitivity", b"high")
        await eventually_async(lambda: b"high" in bench.memory.get("setting/porch/sensitivity", b""))
    again = Bench(recalled=bench.memory)
    assert again.controls.current["sensitivity"] == "high"
    assert again.broker.last(TOPICS.setting("porch", "sensitivity")) == "high"


async def test_the_settings_file_wins_once_it_has_changed() -> None:
    bench = Bench()
    async with bench.running():
        bench.broker.command("porch", "sensitivity", b"low")
    edited = FakeControls()
    edited.current["sensitivity"] = "high"
    reporter = Bench(recalled=bench.memory, attach=False).reporter
    reporter.attach("porch", edited)
    assert edited.current["sensitivity"] == "high"
    back = FakeControls()
    reporter.attach("porch", back)
    assert back.current["sensitivity"] == "medium", "the command was forgotten when the file changed"


async def test_a_spool_in_trouble_is_asked_again_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.spool_trouble = SpoolError("disk full")
    async with bench.running():
        bench.broker.command("porch", "sensitivity", b"low")
        await eventually_async(lambda: any("disk full" in line for line in caplog.messages))
        bench.spool_trouble = None
    assert b"low" in bench.memory["setting/porch/sensitivity"]


async def test_a_snapshot_is_taken_once_however_often_the_button_is_pressed() -> None:
    bench = Bench()
    bench.controls.gate = asyncio.Event()
    async with bench.running():
        for _ in range(5):
            bench.broker.command("porch", "snapshot", b"PRESS")
        bench.controls.gate.set()
        await eventually_async(lambda: bench.controls.snapshots)
        assert bench.controls.snapshots == 1
        bench.broker.command("porch", "snapshot", b"PRESS")
        await eventually_async(lambda: bench.controls.snapshots == 2)


async def test_a_snapshot_that_cannot_be_taken_is_logged_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.controls.trouble = CameraUnavailable("porch gives no picture")
    async with bench.running():
        bench.broker.command("porch", "snapshot", b"PRESS")
        await eventually_async(lambda: "porch: no snapshot: porch gives no picture" in caplog.messages)


def test_the_restart_button() -> None:
    bench = Bench()
    press = partial(bench.broker.deliver, TOPICS.restart)
    press(b"PRESS", retained=True)
    press(b"x" * 1000, retained=False)
    assert bench.restarts == 0
    press(b"PRESS", retained=False)
    assert bench.restarts == 1


async def test_previews_are_shown_while_the_camera_is_online() -> None:
    bench = Bench(preview_every_s=0.001)
    outcomes: list[bytes | AsyncMotionError | None] = [None, ImageError("no colours"), b"jpeg"]
    shots = 0

    async def preview() -> bytes | None:
        nonlocal shots
        outcome = outcomes[min(shots, 2)]
        shots += 1
        if isinstance(outcome, AsyncMotionError):
            raise outcome
        return outcome

    bench.reporter.attach("porch", bench.controls, preview)
    async with bench.running():
        assert shots == 0
        bench.reporter.camera_online("porch")
        await eventually_async(lambda: bench.broker.of(TOPICS.preview("porch")))
    assert TOPICS.preview("porch") in bench.reporter.retained_topics
    assert TOPICS.preview("porch") not in Bench().reporter.retained_topics


async def test_a_camera_that_a_reload_removes_ends_no_previews_and_no_snapshots() -> None:
    bench = Bench(attach=False, preview_every_s=0.001)
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow() -> bytes:
        begun.set()
        await gate.wait()
        return b"jpeg"

    async def other() -> bytes:
        return b"other"

    controls = FakeControls()
    bench.reporter.attach("porch", bench.controls, slow)
    bench.reporter.attach("yard", controls, other)
    async with bench.running():
        for camera in ("porch", "yard"):
            bench.reporter.camera_online(camera)
        await begun.wait()
        bench.broker.command("yard", "snapshot", b"PRESS")
        bench.reporter.drop_camera("yard")
        bench.reporter.drop_camera("porch")
        gate.set()
        bench.reporter.put_camera("yard", (), profiled=False)
        bench.reporter.attach("yard", controls, other)
        bench.reporter.camera_online("yard")
        await eventually_async(lambda: bench.broker.of(TOPICS.preview("yard")))
    assert not bench.broker.of(TOPICS.preview("porch")), "it is gone"


async def test_a_snapshot_of_a_camera_that_a_reload_removes_is_none() -> None:
    bench = Bench()
    async with bench.running():
        bench.broker.command("porch", "snapshot", b"PRESS")
        bench.reporter.detach("porch")
        for _ in range(5):
            await asyncio.sleep(0)
        bench.reporter.attach("porch", bench.controls)
        bench.broker.command("porch", "snapshot", b"PRESS")
        await eventually_async(lambda: bench.controls.snapshots == 1)


# ---- day and night ----


class NightBench(Bench):
    """A reporter with a camera that has a night profile with its own sensitivity."""

    def __init__(self, *, basis: str = "manual", night: str = "low", **options: Any) -> None:
        super().__init__(attach=False, profiled=["porch"], **options)
        self.controls = self.nightly = FakeControls()
        self.profiles = ProfileKeeper(
            "porch",
            self.nightly,
            {"sensitivity": night, "threshold": None},
            basis=basis,
            changed=lambda: self.reporter.profile_changed("porch"),
        )
        self.reporter.attach("porch", self.nightly, profiles=self.profiles)

    def profile(self) -> str:
        return self.broker.last(TOPICS.setting("porch", "profile"))

    def sensitivity(self) -> str:
        return self.broker.last(TOPICS.setting("porch", "sensitivity"))


def test_a_profile_is_published_with_the_settings_that_it_puts_in_force(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bench = NightBench()
    assert (bench.profile(), bench.sensitivity()) == ("day", "medium")
    bench.broker.command("porch", "profile", b"Night")
    assert (bench.profile(), bench.sensitivity()) == ("night", "low")
    assert caplog.messages == [
        "porch: settings of the night, by command: sensitivity low, threshold 0",
        f"porch: profile changed from auto to night by a command on {BASE}/porch/profile/set",
    ]
    bench.broker.command("porch", "profile", b"auto")
    assert (bench.profile(), bench.sensitivity()) == ("day", "medium")
    bench.broker.server.messages.clear()
    bench.reporter.republish()
    assert bench.profile() == "day"


def test_a_camera_without_a_night_has_no_profile(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.broker.command("porch", "profile", b"night")
    (said,) = caplog.messages
    assert said.endswith("refused: there is no profile for the night, expected cameras.porch.profiles")
    bench.reporter.republish()
    assert bench.broker.of(TOPICS.setting("porch", "profile")) == []
    assert TOPICS.setting("porch", "profile") not in bench.reporter.retained_topics


def test_a_wrong_profile_is_refused_and_the_one_in_force_is_published_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = NightBench()
    said = len(bench.broker.of(TOPICS.setting("porch", "profile")))
    bench.broker.command("porch", "profile", b"dusk")
    assert "'dusk' is not known, expected day or night or auto" in caplog.text
    assert bench.broker.of(TOPICS.setting("porch", "profile"))[said:] == ["day"]
    bench.broker.command("porch", "profile", b"night", retained=True)
    assert bench.profile() == "day"


def test_the_topic_of_a_profile_is_ours() -> None:
    bench = NightBench()
    bench.broker.command("porch", "profile", b"night")
    bench.reporter.republish()
    assert {topic for topic, _ in bench.broker.log} <= bench.reporter.retained_topics
    assert TOPICS.setting("yard", "profile") not in bench.reporter.retained_topics


async def test_a_chosen_profile_survives_a_restart_until_the_settings_go_by_something_else() -> None:
    bench = NightBench()
    async with bench.running():
        bench.broker.command("porch", "profile", b"night")
    again = NightBench(recalled=bench.memory)
    assert (again.profiles.mode, again.profile(), again.sensitivity()) == ("night", "night", "low")
    assert again.nightly.current["sensitivity"] == "low"
    changed = NightBench(recalled=bench.memory, basis="picture")
    assert (changed.profiles.mode, changed.profile()) == ("auto", "day")


async def test_what_is_commanded_at_night_is_remembered_for_the_night() -> None:
    bench = NightBench()
    async with bench.running():
        bench.broker.command("porch", "min_area", b"1")
        bench.broker.command("porch", "profile", b"night")
        bench.broker.command("porch", "sensitivity", b"high")
        bench.broker.command("porch", "min_area", b"2")
        bench.broker.command("porch", "profile", b"day")
        assert bench.sensitivity() == "medium"
    assert set(bench.memory) <= set(bench.reporter.memory_keys(["porch"]))
    again = NightBench(recalled=bench.memory)
    assert again.nightly.current["sensitivity"] == "medium"
    assert again.nightly.current["min_area"] == 0.02, "the night has none of its own"
    again.broker.command("porch", "profile", b"night")
    assert again.sensitivity() == "high"
    edited = NightBench(recalled=bench.memory, night="medium")
    edited.broker.command("porch", "profile", b"night")
    assert edited.sensitivity() == "medium", "the settings have changed since"


@pytest.mark.parametrize("junk", [b"", b"null", b'{"mode": "dusk", "basis": "manual"}', b'{"mode": 3}'])
def test_a_remembered_profile_that_cannot_be_read_is_none(junk: bytes) -> None:
    bench = NightBench(recalled={"profile/porch": junk})
    assert (bench.profiles.mode, bench.profile()) == ("auto", "day")


# ---- floods ----


def test_a_thousand_commands_are_merged_and_the_newest_wins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    said = len(bench.broker.log)
    for number in range(1000):
        bench.broker.command("porch", "threshold", str(number % 100 + 1).encode())
    assert len(bench.broker.log) - said < 3 * BURST
    bench.wait(2)
    assert bench.controls.current["threshold"] == 100.0
    assert bench.broker.last(TOPICS.setting("porch", "threshold")) == "100"
    assert len([line for line in caplog.messages if "threshold changed" in line]) <= 6
    bench.wait(120)
    bench.broker.command("porch", "threshold", b"12")
    assert bench.controls.current["threshold"] == 12.0, "a person is obeyed at once again"
    assert "more like it)" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("setting", "payload"), [("threshold", b"9000"), ("colour", b"red"), ("x" * 999, b"")]
)
def test_a_thousand_refused_values_are_a_few_lines_and_publications(
    setting: str, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    said = len(bench.broker.log)
    for _ in range(1000):
        bench.broker.command("porch", setting, payload)
    bench.wait(5)
    assert len(caplog.messages) <= 6
    assert max(map(len, caplog.messages)) < 500
    assert len(bench.broker.log) - said < 3 * BURST


def test_a_command_that_waited_does_not_undo_a_newer_one() -> None:
    bench = Bench()
    for _ in range(BURST + 1):
        bench.broker.command("porch", "threshold", b"10")
    bench.broker.command("porch", "threshold", b"20")
    bench.clock.sleep(1.0)
    bench.broker.command("porch", "threshold", b"30")
    bench.wait(5)
    assert bench.controls.current["threshold"] == 30.0


def test_a_flood_to_one_camera_does_not_hold_up_another() -> None:
    bench = Bench()
    yard = FakeControls()
    bench.reporter.attach("yard", yard)
    for number in range(1000):
        bench.broker.command("porch", "threshold", str(number % 50 + 1).encode())
    bench.broker.command("yard", "threshold", b"33")
    assert yard.current["threshold"] == 33.0
    bench.broker.command("porch", "sensitivity", b"high")
    assert bench.controls.current["sensitivity"] == "high"


def test_restarts_by_the_hundred_are_two() -> None:
    bench = Bench()
    press = partial(bench.broker.deliver, TOPICS.restart)
    for _ in range(100):
        press(b"PRESS", retained=False)
    assert bench.restarts == 1
    bench.wait(60)
    assert bench.restarts == 2


async def test_a_hundred_presses_are_few_snapshots() -> None:
    bench = Bench()
    async with bench.running():
        for _ in range(100):
            bench.broker.command("porch", "snapshot", b"PRESS")
        await eventually_async(lambda: bench.controls.snapshots)
        await asyncio.sleep(0)
        assert bench.controls.snapshots <= 2


def test_commands_to_cameras_that_are_not_there_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for number in range(1000):
        bench.broker.command(f"cam{number}\x1b", "threshold", b"1")
    assert len(caplog.messages) <= 6
    assert "\x1b" not in caplog.text


class TwoWorkers:
    """The fleet of two reporters on one broker, each with the cameras that the test gives it."""

    def state(self) -> Mapping[str, Any]:
        return {}

    def lease_of(self, camera: str) -> Mapping[str, Any]:
        return {"worker": "w", "epoch": len(camera)}

    def knows(self, camera: str) -> bool:
        return camera in ("porch", "yard")


async def test_in_a_fleet_commands_and_counts_follow_a_camera_to_its_next_owner() -> None:
    east = Bench(fleet=TwoWorkers())
    west = Bench(attach=False, fleet=TwoWorkers())
    west.reporter.drop_camera("porch")
    east.broker.command("porch", "sensitivity", b"high")
    east.reporter.event_started(make_event())
    east.reporter.event_started(make_event())
    # What the broker keeps reaches the other worker, now or when it starts.
    memory = east.broker.last(TOPICS.memory("porch")).encode()
    west.broker.deliver(TOPICS.memory("porch"), memory, retained=True)
    west.reporter.put_camera("porch", (), profiled=False)
    west.reporter.attach("porch", west.controls)
    assert west.controls.current["sensitivity"] == "high"
    west.wait(STATE_GAP_S + 1)
    assert west.broker.state_of("porch")["events_today"] == 2
    assert TOPICS.memory("porch") in west.reporter.retained_topics


@pytest.mark.parametrize(
    ("camera", "payload"),
    [
        ("porch", b'{"setting/porch/sensitivity": {"value": "high", "configured": "medium"}}'),
        ("yard", b"{" * 5000),
        ("yard", b'{"setting/yard/sensitivity": 7}'),
        ("yard", b'{"setting/yard/sensitivity": {"value": "' + b"x" * 20_000 + b'"}}'),
        ("yard", b'{"setting/porch/sensitivity": {"value": "high", "configured": "medium"}}'),
        ("nowhere", b'{"setting/porch/sensitivity": {"value": "high", "configured": "medium"}}'),
    ],
)
async def test_in_a_fleet_a_memory_that_is_ours_or_makes_no_sense_changes_nothing(
    camera: str, payload: bytes
) -> None:
    bench = Bench(fleet=TwoWorkers())
    bench.reporter.drop_camera("yard")
    bench.broker.deliver(TOPICS.memory(camera), payload, retained=True)
    bench.reporter.put_camera("yard", (), profiled=False)
    for name in ("porch", "yard"):
        controls = FakeControls()
        bench.reporter.attach(name, controls)
        assert controls.current["sensitivity"] == "medium"


async def test_one_host_shares_no_memory() -> None:
    bench = Bench()
    bench.broker.command("porch", "sensitivity", b"high")
    assert TOPICS.memories not in bench.broker.filters
    assert bench.broker.of(TOPICS.memory("porch")) == []
    assert TOPICS.memory("porch") not in bench.reporter.retained_topics
