"""Day and night on the real service: by image colour, by the sun, and by command over a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from async_motion.camera.sun import sun_elevation
from async_motion.core.events.day_night import SUN
from tests.support import mqtt
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.video import Image, scene, write_clip

BASE = "async_motion/edge1"
NIGHT = {"sensitivity": "low", "min_area": "1%"}


def infrared(images: Iterator[Image]) -> Iterator[Image]:
    for image in images:
        yield np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


def settings(broker_port: int, clip: Path, profiles: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "instance": "edge1",
        "mqtt": {"host": "127.0.0.1", "port": broker_port},
        "spool": {"path": "spool.db"},
        "web": {"port": free_port()},
        "cameras": {"porch": {"source": str(clip), "profiles": profiles}},
        **more,
    }


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[mqtt.Server]:
    (tmp_path / "broker").mkdir()
    with mqtt.Rumqttd(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def recorder(broker: mqtt.Server) -> Iterator[mqtt.Recorder]:
    with mqtt.Recorder(broker.port, ("#",)) as recorder:
        yield recorder


def said(recorder: mqtt.Recorder, setting: str, payload: bytes) -> None:
    """Wait until the retained value of the camera's setting is `payload`."""
    topic = f"{BASE}/porch/{setting}"
    recorder.wait(lambda message: message.topic == topic and message.payload == payload, within_s=60)


def test_a_camera_that_shows_infrared_has_the_settings_of_the_night(
    tmp_path: Path, broker: mqtt.Server, recorder: mqtt.Recorder
) -> None:
    clip = write_clip(
        tmp_path / "ir.mp4", infrared(scene(seconds=5, fps=10, size=(320, 240), noise=3)), fps=10
    )
    profiles = {"switch": "picture", "night": NIGHT}
    with Service(settings(broker.port, clip, profiles), tmp_path / "service") as service:
        said(recorder, "profile", b"night")
        said(recorder, "sensitivity", b"low")
        said(recorder, "min_area", b"1")
        service.wait_for_log("porch: settings of the night, 0.0% of the picture has colour")


def test_the_sun_decides_and_a_command_holds_over_a_restart(
    tmp_path: Path, broker: mqtt.Server, recorder: mqtt.Recorder
) -> None:
    clip = write_clip(tmp_path / "day.mp4", scene(seconds=5, fps=10, size=(320, 240)), fps=10)
    dark = darkest_longitude()
    chosen = settings(
        broker.port,
        clip,
        {"switch": "sun", "night": NIGHT},
        location={"latitude": 0, "longitude": dark},
    )
    with Service(chosen, tmp_path / "service") as service:
        said(recorder, "profile", b"night")
        recorder.publish(f"{BASE}/porch/profile/set", b"day")
        said(recorder, "profile", b"day")
        service.wait_for_log("porch: profile changed from auto to day by a command")
    recorder.messages.clear()
    with Service(chosen, tmp_path / "service"):
        said(recorder, "profile", b"day")
        recorder.publish(f"{BASE}/porch/profile/set", b"auto")
        said(recorder, "profile", b"night")


def darkest_longitude() -> int:
    """Return a longitude at which it is night on the equator now, and for hours."""
    now = datetime.now(UTC)
    longitude = min(range(-180, 181, 15), key=lambda degrees: sun_elevation(0, degrees, now))
    assert sun_elevation(0, longitude, now) < SUN.night_below - 20
    return longitude
