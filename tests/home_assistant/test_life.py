"""Devices that appear, change and go: no orphan, no nameless device, no stuck state, stable ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.home_assistant.lab import EMPTIED, Lab, eventually
from tests.support.mqtt import Recorder

DISABLED = 4
"""Entities of a camera that are disabled by default."""


def ids(lab: Lab, camera: str | None = None) -> dict[str, str]:
    """Return the registry's own id and the unique id of each entity of a device."""
    return {entity: f"{entry['id']} {entry['unique_id']}" for entity, entry in lab.entities(camera).items()}


def names(lab: Lab) -> set[str]:
    """Return the names of all devices in Home Assistant; None for a nameless one."""
    return {
        device["name_by_user"] or device["name"] for device in lab.ha.devices() if not device["disabled_by"]
    }


def gone(lab: Lab, entity: str) -> None:
    """Wait until an entity has neither a state nor a registry entry."""
    eventually(
        lambda: (
            lab.ha.state(entity) is None and all(entry["entity_id"] != entity for entry in lab.ha.entities())
        ),
        what=f"the end of {entity}",
    )


def orphans(lab: Lab) -> list[str]:
    """Return the MQTT entities that belong to no device of a running instance, or have no state."""
    ours = {device["id"] for device in lab.devices()}
    mqtt = [entry for entry in lab.ha.entities() if entry["platform"] == "mqtt"]
    states = lab.ha.states()
    return [
        entry["entity_id"]
        for entry in mqtt
        if entry["device_id"] not in ours or (not entry["disabled_by"] and entry["entity_id"] not in states)
    ]


def whole(lab: Lab, camera: str | None = None, *, within_s: float = 240) -> None:
    """Wait until a camera is in Home Assistant with all its entities, available and at rest."""
    name = camera or lab.name
    lab.wait(f"binary_sensor.{name}_motion", "off", within_s=within_s)
    lab.wait(f"binary_sensor.{name}_connection", "on")
    lab.wait(f"number.{name}_min_area", "0.2")
    lab.wait(f"switch.{name}_detection", "on")
    lab.wait(f"image.{name}_last_motion_image", lambda state: state["state"] != "unavailable")


def test_a_restart_keeps_every_id_and_shows_off_in_the_meantime(lab: Lab) -> None:
    settings = lab.settings()
    with lab.running(settings):
        whole(lab)
        before = ids(lab) | ids(lab, "")
    lab.wait(lab.entity("binary_sensor", "connection"), "unavailable")
    lab.wait(lab.entity("binary_sensor", "motion"), "unavailable")
    lab.wait(f"binary_sensor.async_motion_{lab.instance}_status", "off")
    with lab.running(settings):
        whole(lab)
        lab.wait(f"binary_sensor.async_motion_{lab.instance}_status", "on")
        assert ids(lab) | ids(lab, "") == before
        assert orphans(lab) == []


def test_a_crash_in_the_middle_of_motion_leaves_nothing_stuck(lab: Lab) -> None:
    settings = lab.settings()
    with lab.running(settings) as service:
        whole(lab)
        with lab.camera.moving():
            lab.wait(lab.entity("binary_sensor", "motion"), "on")
            lab.wait(lab.entity("event", "motion_event"), lambda s: "event_type" in s["attributes"])
            service.kill()
            lab.wait(lab.entity("binary_sensor", "motion"), "unavailable")
            lab.wait(f"binary_sensor.async_motion_{lab.instance}_status", "off")
            # Coming back from "unavailable" would record the past event again.
            assert lab.state("event", "motion_event") != "unavailable"
    with lab.running(settings):
        whole(lab)
        ended = lab.wait(lab.entity("event", "motion_event"), lambda s: s["attributes"].get("phase") == "end")
        assert ended["attributes"]["reason"] == "interrupted"


def test_a_lost_camera_is_off_and_its_entities_are_unavailable_until_it_is_back(lab: Lab) -> None:
    with lab.running():
        whole(lab)
        lab.camera.stop()
        lab.wait(lab.entity("binary_sensor", "connection"), "off")
        lab.wait(lab.entity("binary_sensor", "motion"), "unavailable")
        lab.wait(lab.entity("sensor", "status"), "Offline")
        problem = lab.wait(lab.entity("binary_sensor", "problem"), "on")
        assert problem["attributes"]["reason"]
        lab.wait(lab.entity("switch", "detection"), "on")
        lab.camera.start()
        whole(lab)
        lab.wait(lab.entity("binary_sensor", "problem"), "off")


def test_an_upgrade_that_drops_an_entity_and_a_zone_removes_them(lab: Lab) -> None:
    older = lab.settings(mqtt=lab.mqtt(discovery={"preview_every": "1s"}))
    with lab.running(older):
        whole(lab)
        preview = lab.entity("camera", "preview")
        lab.wait(preview, lambda state: state["state"] != "unavailable")
        before = ids(lab)
    newer = lab.settings(cameras={lab.name: lab.camera_settings(detect={"zones": {}})})
    with lab.running(newer):
        whole(lab)
        gone(lab, preview)
        gone(lab, lab.entity("binary_sensor", "zone_drive"))
        after = ids(lab)
        assert after.items() <= before.items()
        assert len(before) - len(after) == 2
        assert orphans(lab) == []
        eventually(lambda: not [topic for topic in lab.retained() if "preview" in topic or "zone" in topic])


def test_an_upgrade_from_a_release_that_had_other_entities(lab: Lab) -> None:
    """The broker retains an older release's messages, with an entity that this release does not have."""
    with lab.running():
        whole(lab)
    topic = f"homeassistant/device/async_motion_{lab.instance}/{lab.name}/config"
    config: dict[str, Any] = json.loads(lab.retained()[topic])
    config["components"]["bitrate"] = {
        "platform": "sensor",
        "unique_id": f"async_motion:{lab.instance}:{lab.name}:bitrate",
        "object_id": f"{lab.name}_bitrate",
        "default_entity_id": f"sensor.{lab.name}_bitrate",
        "name": "Bit rate",
        "qos": 1,
        "state_topic": f"{lab.base}/{lab.name}/bitrate",
    }
    with Recorder(lab.broker.port, ()) as recorder:
        recorder.publish(topic, json.dumps(config), retain=True)
        recorder.publish(f"{lab.base}/{lab.name}/bitrate", "12", retain=True)
    lab.wait(lab.entity("sensor", "bitrate"), "unavailable")
    with lab.running():
        whole(lab)
        gone(lab, lab.entity("sensor", "bitrate"))
        eventually(lambda: f"{lab.base}/{lab.name}/bitrate" not in lab.retained(), what="a clean broker")
        assert orphans(lab) == []


def test_a_camera_is_added_and_another_removed(lab: Lab) -> None:
    garden = f"garden_of_{lab.name}"
    with lab.running(lab.settings()):
        whole(lab)
        before = ids(lab, "")
    both = {lab.name: lab.camera_settings(), garden: lab.camera_settings()}
    with lab.running(lab.settings(cameras=both)):
        whole(lab)
        whole(lab, garden)
        kept = ids(lab, garden)
    with lab.running(lab.settings(cameras={garden: lab.camera_settings()})):
        whole(lab, garden)
        eventually(lambda: lab.device() is None, what="the end of the device")
        assert lab.entities() == {}
        eventually(lambda: not [topic for topic in lab.retained() if f"/{lab.name}/" in topic])
        assert ids(lab, garden) == kept
        assert ids(lab, "") == before
        assert orphans(lab) == []
    lab.forgive_emptied(lab.name, DISABLED)


def test_a_renamed_camera_is_one_device_and_a_display_name_changes_no_id(lab: Lab) -> None:
    with lab.running(lab.settings(cameras={lab.name: lab.camera_settings(name="Front door")})):
        whole(lab)
        assert "Front door" in names(lab)
        before = ids(lab)
    with lab.running(lab.settings(cameras={lab.name: lab.camera_settings(name="Haustür ☂")})):
        whole(lab)
        eventually(lambda: "Haustür ☂" in names(lab), what="the new name")
        assert "Front door" not in names(lab)
        assert ids(lab) == before
    yard = f"yard_of_{lab.name}"
    with lab.running(lab.settings(cameras={yard: lab.camera_settings(name="Haustür ☂")})):
        whole(lab, yard)
        eventually(lambda: lab.device() is None, what="the end of the old device")
        assert len([name for name in names(lab) if name == "Haustür ☂"]) == 1
        assert orphans(lab) == []
    lab.forgive_emptied(lab.name, DISABLED)


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_a_renamed_instance_keeps_its_devices_whether_home_assistant_is_there_or_away(
    lab: Lab, away: bool
) -> None:
    old = lab.instance
    with lab.running():
        whole(lab)
        before = ids(lab) | ids(lab, "")
    lab.instance = f"{old}_new"
    if away:
        lab.ha.stop()
    with lab.service() as service:
        if away:
            service.wait_for_log("cleared", within_s=240)
            lab.ha.start()
        whole(lab, within_s=240)
        lab.instance = old  # Home Assistant still knows it by this name
        assert ids(lab) | ids(lab, "") == before
        lab.wait(f"binary_sensor.async_motion_{old}_status", "on")
        eventually(lambda: f"async_motion {old}_new" in names(lab), what="the new name")
        eventually(lambda: not [topic for topic in lab.retained() if f"/{old}/" in topic])
        assert orphans(lab) == []
        assert None not in names(lab)
        assert len(lab.devices()) == 2
        with lab.camera.moving():
            lab.wait(lab.entity("binary_sensor", "motion"), "on")
        lab.wait(lab.entity("binary_sensor", "motion"), "off")


def test_discovery_switched_off_takes_the_devices_away_and_on_brings_them_back(lab: Lab) -> None:
    with lab.running():
        whole(lab)
        before = set(lab.entities())
    with lab.service(lab.settings(mqtt=lab.mqtt(discovery={"enabled": False}))):
        eventually(lambda: lab.device() is None and lab.device("") is None, what="the end of the devices")
        eventually(lambda: not [topic for topic in lab.retained() if topic.startswith("homeassistant/")])
        assert lab.retained()[f"{lab.base}/status"] == b"online"
    lab.forgive_emptied(lab.name, DISABLED)
    with lab.running():
        whole(lab)
        assert set(lab.entities()) == before


def test_a_broker_that_has_forgotten_everything_is_told_again(lab: Lab) -> None:
    with lab.running():
        whole(lab)
        before = ids(lab)
        lab.ha.wait_for_birth()
        lab.ha.expect_birth()
        lab.broker.kill()
        lab.wait(lab.entity("binary_sensor", "motion"), "unavailable")
        lab.broker.start()
        whole(lab)
        assert ids(lab) == before
        with lab.camera.moving():
            lab.wait(lab.entity("binary_sensor", "motion"), "on")
        lab.wait(lab.entity("binary_sensor", "motion"), "off")
        lab.ha.wait_for_birth()
    lab.forgive(5, ".*MQTT server")  # the broker was away


def test_home_assistant_restarted_shows_everything_at_once(lab: Lab) -> None:
    with lab.running():
        whole(lab)
        before = ids(lab)
        lab.ha.restart()
        whole(lab)
        assert ids(lab) == before
        with lab.camera.moving():
            lab.wait(lab.entity("binary_sensor", "motion"), "on")
        lab.wait(lab.entity("binary_sensor", "motion"), "off")


def test_what_went_while_home_assistant_was_away_is_gone_when_it_is_back(lab: Lab) -> None:
    garden = f"garden_of_{lab.name}"
    both = {lab.name: lab.camera_settings(), garden: lab.camera_settings()}
    with lab.running(lab.settings(cameras=both)):
        whole(lab)
        whole(lab, garden)
    lab.ha.stop()
    bare = lab.camera_settings(detect={"zones": {}})
    with lab.service(lab.settings(cameras={garden: bare})) as service:
        service.wait_for_log("removed what no longer exists")
        lab.ha.start()
        whole(lab, garden)
        eventually(lambda: lab.device() is None, within_s=60, what="the end of the device")
        gone(lab, f"binary_sensor.{garden}_zone_drive")
        assert orphans(lab) == []
        assert None not in names(lab)
    lab.forgive_emptied(lab.name, DISABLED)


def everything(lab: Lab, camera: str | None = None) -> int:
    """Return the number of a device's entities and triggers."""
    return len(lab.entities(camera)) + len(lab.ha.triggers_for(lab.identifier(camera)))


def test_a_device_that_its_owner_deletes_stays_away_until_the_next_start(lab: Lab) -> None:
    with lab.running() as service:
        whole(lab)
        entities = everything(lab)
        lab.ha.delete_device(lab.identifier())
        service.wait_for_log("was deleted in Home Assistant")
        # The service has published all that it will: what is retained now counts.
        assert f"homeassistant/device/async_motion_{lab.instance}/{lab.name}/config" not in lab.retained()
        assert lab.device() is None
        assert orphans(lab) == []
    lab.forgive_emptied(lab.name, entities)
    with lab.running():
        whole(lab)


def test_a_deleted_hub_comes_back_as_no_nameless_device(lab: Lab) -> None:
    with lab.running() as service:
        whole(lab)
        entities = everything(lab, "")
        lab.ha.delete_device(lab.identifier(""))
        service.wait_for_log("was deleted in Home Assistant")
        whole(lab)
        assert lab.device("") is None
        assert None not in names(lab)
        assert orphans(lab) == []
    lab.forgive(entities, rf"{EMPTIED} async_motion_{lab.instance}, node_id 'None'$")


def test_an_entity_that_its_owner_deletes_does_not_take_the_device_with_it(lab: Lab) -> None:
    button = lab.entity("button", "snapshot")
    readded = f"Although entity {button} was removed"
    with lab.running() as service, Recorder(lab.broker.port, ()) as recorder:
        whole(lab)
        lab.ha.ws(type="config/entity_registry/remove", entity_id=button)
        lab.settle()
        # Older releases lose the whole device with it; newer ones wait for the next announcement.
        if any(readded in record.message for record in lab.ha.problems()):
            recorder.publish("homeassistant/status", "online")
        else:
            service.wait_for_log("announced again")
        whole(lab)
        lab.wait(button, "unknown")
        assert orphans(lab) == []
    lab.forgive(DISABLED, rf"{EMPTIED} {lab.name}, node_id 'async_motion_{lab.instance}'$", readded)


def test_home_assistant_wonders_about_its_own_messages(lab: Lab) -> None:
    """Any device that is removed as the manual says causes the records that `forgive_emptied` accepts."""
    component = {"platform": "sensor", "state_topic": "lab/of/somebody/else"}
    disabled = {**component, "enabled_by_default": False}
    config: dict[str, Any] = {
        "device": {"identifiers": ["else"], "name": "Somebody else's"},
        "origin": {"name": "somebody else"},
        "components": {
            "one": {**component, "unique_id": "else-1", "default_entity_id": "sensor.else_one"},
            "two": {**disabled, "unique_id": "else-2", "default_entity_id": "sensor.else_two"},
        },
    }
    for key, config_of in config["components"].items():
        config_of["object_id"] = f"else_{key}"
    said = []
    with Recorder(lab.broker.port, ()) as recorder:
        for by_its_owner in (False, True):
            recorder.publish("homeassistant/device/node/else/config", json.dumps(config), retain=True)
            eventually(lambda: len(lab.ha.entities_for("else")) == 2, what="both entities")
            lab.wait("sensor.else_one", "unknown")
            if by_its_owner:
                lab.ha.delete_device("else")
            else:
                recorder.publish("homeassistant/device/node/else/config", b"", retain=True)
            eventually(lambda: lab.ha.device("else") is None, what="the end of the device")
            said.append(lab.forgive(2, rf"{EMPTIED} else, node_id 'node'$"))
    assert said[1] > 0
    print(f"after a removal {said[0]}, after a deletion {said[1]} times")


def test_an_entity_that_its_owner_renames_or_disables_stays_so(lab: Lab) -> None:
    settings = lab.settings()
    mine = f"binary_sensor.my_{lab.name}"
    with lab.running(settings):
        whole(lab)
        lab.ha.ws(
            type="config/entity_registry/update",
            entity_id=lab.entity("binary_sensor", "zone_drive"),
            new_entity_id=mine,
            name="My drive",
        )
        lab.ha.ws(
            type="config/entity_registry/update",
            entity_id=lab.entity("sensor", "score"),
            disabled_by="user",
        )
        lab.wait(mine, "off")
    with lab.running(settings):
        whole(lab)
        assert lab.wait(mine, "off")["attributes"]["friendly_name"].endswith("My drive")
        assert lab.entities()[lab.entity("sensor", "score")]["disabled_by"] == "user"
        assert orphans(lab) == []


def test_the_frigate_style_topic_follows_motion_too(lab: Lab) -> None:
    settings = lab.settings(mqtt=lab.mqtt(frigate_topic=f"frigate_{lab.instance}"))
    topic = f"frigate_{lab.instance}/{lab.name}/motion"
    with lab.running(settings), Recorder(lab.broker.port, (topic,)) as recorder:
        lab.wait(lab.entity("sensor", "status"), "Watching")
        with lab.camera.moving():
            recorder.wait(lambda message: message.text == "ON")
        eventually(lambda: recorder.texts(topic)[-2:] == ["ON", "OFF"], what="ON and OFF")
