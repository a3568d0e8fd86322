"""Every control, as a user of Home Assistant operates it: applied, confirmed, kept and logged."""

from __future__ import annotations

from typing import Any

import pytest

from tests.home_assistant.lab import Lab, eventually
from tests.support.mqtt import Recorder

SETTINGS: list[tuple[str, str, str, dict[str, Any], str, str]] = [
    # platform, key, service, data, state in Home Assistant, payload on the topic
    ("switch", "detection", "turn_off", {}, "off", "OFF"),
    ("select", "sensitivity", "select_option", {"option": "High"}, "High", "high"),
    ("number", "threshold", "set_value", {"value": 12.5}, "12.5", "12.5"),
    ("number", "min_area", "set_value", {"value": 1.5}, "1.5", "1.5"),
    ("select", "profile", "select_option", {"option": "Night"}, "Night", "night"),
]


def test_every_setting_is_applied_confirmed_logged_and_survives_a_restart(lab: Lab) -> None:
    night = {"night": {"min_area": "0.1%"}}
    settings = lab.settings(cameras={lab.name: lab.camera_settings(profiles=night)})
    with lab.running(settings) as service:
        with Recorder(lab.broker.port, (f"{lab.base}/#",)) as recorder:
            for platform, key, action, data, state, said in SETTINGS:
                entity = lab.entity(platform, key)
                lab.wait(entity, lambda found: found["state"] not in ("unavailable", "unknown"))
                lab.ha.call_service(platform, action, entity_id=entity, **data)
                lab.wait(entity, state)
                wait_for_newest(recorder, f"{lab.base}/{lab.name}/{key}", said)
                service.wait_for_log(f"{lab.name}: {key} changed from")
        lab.wait(lab.entity("sensor", "status"), "Paused")
        with lab.camera.moving():
            lab.ha.call_service("switch", "turn_on", entity_id=lab.entity("switch", "detection"))
            lab.wait(lab.entity("binary_sensor", "motion"), "on")
            lab.ha.call_service("switch", "turn_off", entity_id=lab.entity("switch", "detection"))
            lab.wait(lab.entity("binary_sensor", "motion"), "off")
    with lab.running(settings):
        profile = lab.entity("select", "profile")
        lab.wait(profile, "Night")
        lab.wait(lab.entity("number", "min_area"), "0.1")
        lab.ha.call_service("select", "select_option", entity_id=profile, option="Day")
        for platform, key, _, _, state, _ in SETTINGS[:-1]:
            lab.wait(lab.entity(platform, key), state)


def wait_for_newest(recorder: Recorder, topic: str, text: str) -> None:
    """Wait until the newest message of a topic is `text`; Home Assistant may have it earlier than we."""
    eventually(lambda: recorder.texts(topic)[-1:] == [text], what=f"{text} on {topic}")


@pytest.mark.parametrize(
    ("platform", "key", "bad", "before"),
    [
        ("switch", "detection", "MAYBE", "on"),
        ("select", "sensitivity", "extreme", "Medium"),
        ("number", "threshold", "256", "0"),
        ("number", "min_area", "x" * 100_000, "0.2"),
    ],
)
def test_a_command_that_makes_no_sense_changes_nothing(
    lab: Lab, platform: str, key: str, bad: str, before: str
) -> None:
    with lab.running() as service, Recorder(lab.broker.port, ()) as recorder:
        lab.wait(lab.entity(platform, key), before)
        recorder.publish(f"{lab.base}/{lab.name}/{key}/set", bad)
        service.wait_for_log(f"/{key}/set refused")
        assert lab.ha.state(lab.entity(platform, key)) == before


def test_a_retained_command_is_ignored(lab: Lab) -> None:
    with Recorder(lab.broker.port, ()) as recorder:
        recorder.publish(f"{lab.base}/{lab.name}/detection/set", "OFF", retain=True)
    with lab.running() as service:
        service.wait_for_log("ignored: it is retained")
        lab.wait(lab.entity("switch", "detection"), "on")


def test_the_snapshot_button_stores_and_shows_a_frame(lab: Lab) -> None:
    with lab.running() as service:
        lab.wait(lab.entity("sensor", "status"), "Watching")
        image = lab.entity("image", "last_motion_image")
        lab.wait(lab.entity("button", "snapshot"), "unknown")
        lab.ha.call_service("button", "press", entity_id=lab.entity("button", "snapshot"))
        service.wait_for_log("snapshot taken, by command")
        shown = lab.wait(image, lambda s: "object_key" in s["attributes"])["attributes"]
        status, kind, data = lab.ha.image(image)
        assert (status, kind) == (200, "image/jpeg")
        assert (
            (lab.folder / "service" / "objects" / shown["object_key"]).read_bytes()[:2]
            == data[:2]
            == b"\xff\xd8"
        )
        assert lab.state("binary_sensor", "motion") == "off"


def test_the_hubs_button_reconnects_every_camera(lab: Lab) -> None:
    with lab.running() as service:
        lab.wait(lab.entity("sensor", "status"), "Watching")
        button = f"button.async_motion_{lab.instance}_restart_capture"
        lab.wait(button, "unknown")
        lab.ha.call_service("button", "press", entity_id=button)
        service.wait_for_log("every camera reconnects")
        eventually(lambda: lab.state("sensor", "status") == "Watching", what="the camera again")
        lab.wait(lab.entity("binary_sensor", "connection"), "on")
