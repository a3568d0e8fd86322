"""From the settings to the plain values that the packages take."""

from __future__ import annotations

from pathlib import Path

from async_motion.app import specs
from async_motion.camera.spec import UnitSettings
from async_motion.capture import CaptureSpec
from async_motion.core.detection.detector import DetectorSettings
from async_motion.core.events.selection import Keep
from async_motion.settings import Settings, load

PORCH = """
instance: edge1
minio: {endpoint: 's3:9000', prefix: home/, secure: true, access_key: a, secret_key: key-secret}
mqtt: {host: broker, port: 8883, base_topic: motion}
cameras:
  porch:
    source: rtsp://user:cam-secret@cam/stream
    detect:
      sensitivity: high
      min_area: 1%
      zones: {drive: {polygon: [[0, 0], [1, 0], [1, 1]], min_area: 2%}}
    event: {confirm: 2/3, off_delay: 8s, frames: {every: 2s}}
  yard: {source: usb:0, enabled: false}
"""


def read(tmp_path: Path, text: str = PORCH) -> Settings:
    path = tmp_path / "variables.yaml"
    path.write_text(text)
    return load(path, {})


def test_sensitivity_reaches_the_detector(tmp_path: Path) -> None:
    detector = specs.detector_settings(read(tmp_path).cameras["porch"])
    assert (detector.sensitivity, detector.min_area) == ("high", 0.01)
    (zone,) = detector.zones
    assert (zone.name, zone.min_area, zone.sensitivity) == ("drive", 0.02, None)


def test_the_event_settings_reach_the_unit(tmp_path: Path) -> None:
    unit = specs.unit_settings(read(tmp_path), "porch")
    assert (unit.instance, unit.camera, unit.prefix) == ("edge1", "porch", "home/")
    assert (unit.tracking.confirm, unit.tracking.off_delay_s) == ((2, 3), 8.0)
    assert (unit.policy.keep, unit.policy.every_s) == (Keep.EVERY, 2.0)


def test_the_source_reaches_the_capture_with_its_login(tmp_path: Path) -> None:
    spec = specs.capture_spec("porch", read(tmp_path).cameras["porch"])
    assert spec.source == "rtsp://user:cam-secret@cam/stream"
    assert spec.record_source is None


def test_what_is_shown_has_no_secret(tmp_path: Path) -> None:
    settings = read(tmp_path)
    line = specs.summary(settings)
    assert "cameras: porch;" in line
    assert line.endswith("store: https://s3:9000, bucket motion; broker: broker:8883")
    shown = line + specs.scene_of(settings.cameras["porch"])
    assert "secret" not in shown


def test_a_new_password_is_not_a_new_scene(tmp_path: Path) -> None:
    before = read(tmp_path).cameras["porch"]
    after = read(tmp_path, PORCH.replace("cam-secret", "other-secret")).cameras["porch"]
    moved = read(tmp_path, PORCH.replace("@cam/", "@cam2/")).cameras["porch"]
    assert specs.scene_of(before) == specs.scene_of(after) != specs.scene_of(moved)


def test_topics_and_zones_are_those_of_the_instance_and_its_enabled_cameras(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert specs.topics(settings).base == "motion/edge1"
    assert specs.watched_zones(settings) == {"porch": ("drive",)}


def test_a_default_is_the_same_in_the_settings_and_in_the_packages(tmp_path: Path) -> None:
    settings = read(tmp_path, "instance: edge1\ncameras: {porch: {source: 'demo:'}}\n")
    camera = settings.cameras["porch"]
    assert specs.detector_settings(camera) == DetectorSettings()
    unit = specs.unit_settings(settings, "porch")
    assert unit == UnitSettings(instance="edge1", camera="porch")
    capture = specs.capture_spec("porch", camera)
    assert capture == CaptureSpec(camera="porch", source="demo:")
