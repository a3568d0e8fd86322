"""A camera and its service as Home Assistant shows them: every entity, trigger and device."""

from __future__ import annotations

from typing import Any

from async_motion import __version__
from tests.home_assistant.lab import Lab, eventually
from tests.support.mqtt import Recorder

CAMERA = {
    # entity: (device class, category, enabled, state at rest)
    "binary_sensor.{c}_motion": ("motion", None, True, "off"),
    "binary_sensor.{c}_zone_drive": ("motion", None, True, "off"),
    "event.{c}_motion_event": ("motion", None, True, "unknown"),
    "image.{c}_last_motion_image": (None, None, True, "unknown"),
    "switch.{c}_detection": (None, None, True, "on"),
    "select.{c}_sensitivity": (None, "config", True, "Medium"),
    "number.{c}_threshold": (None, "config", True, "0"),
    "number.{c}_min_area": (None, "config", True, "0.2"),
    "button.{c}_snapshot": (None, None, True, "unknown"),
    "sensor.{c}_last_motion": ("timestamp", None, True, "unknown"),
    "sensor.{c}_score": (None, None, False, None),
    "sensor.{c}_events_today": (None, None, True, "0"),
    "sensor.{c}_status": ("enum", "diagnostic", True, None),
    "binary_sensor.{c}_connection": ("connectivity", "diagnostic", True, "on"),
    "binary_sensor.{c}_problem": ("problem", "diagnostic", True, "off"),
    "sensor.{c}_fps": (None, "diagnostic", False, None),
    "sensor.{c}_dropped": (None, "diagnostic", False, None),
    "sensor.{c}_upload_latency": ("duration", "diagnostic", False, None),
}
HUB = {
    "binary_sensor.async_motion_{i}_status": ("connectivity", "diagnostic", True, "on"),
    "binary_sensor.async_motion_{i}_storage_problem": ("problem", "diagnostic", True, "off"),
    "sensor.async_motion_{i}_upload_queue": (None, "diagnostic", True, "0"),
    "sensor.async_motion_{i}_version": (None, "diagnostic", True, None),
    "button.async_motion_{i}_restart_capture": ("restart", "config", True, "unknown"),
}


def seen(entry: dict[str, Any], wanted: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the registry's values of an entity, in the form of the tables above."""
    enabled = entry["disabled_by"] is None
    state = entry["state"]["state"] if entry["state"] and wanted[3] is not None else None
    device_class = (entry["state"] or {}).get("attributes", {}).get("device_class", wanted[0])
    return device_class, entry["entity_category"], enabled, state


def all_entities(lab: Lab, camera: str | None, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Return a device's entities once all wanted ones exist: platforms are loaded one by one."""
    return eventually(
        lambda: found if (found := lab.entities(camera)).keys() >= wanted else {}, what=f"{wanted}"
    )


def test_every_entity_with_its_id_class_category_and_state(lab: Lab) -> None:
    with lab.running():
        lab.wait(lab.entity("sensor", "events_today"), "0")
        lab.wait(lab.entity("number", "min_area"), "0.2")
        for table, camera in ((CAMERA, None), (HUB, "")):
            wanted = {key.format(c=lab.name, i=lab.instance): value for key, value in table.items()}
            found = all_entities(lab, camera, set(wanted))
            assert set(found) == set(wanted)
            assert {key: seen(found[key], value) for key, value in wanted.items()} == wanted
        porch, hub = lab.device(), lab.device("")
        assert porch is not None
        assert hub is not None
        assert porch["via_device_id"] == hub["id"]
        assert porch["name"] == lab.name.capitalize()
        assert hub["name"] == f"async_motion {lab.instance}"
        assert {trigger["type"] for trigger in lab.ha.triggers_for(lab.identifier())} == {
            "motion_started",
            "motion_updated",
            "motion_ended",
        }


def test_odd_names_many_zones_and_all_that_is_optional(lab: Lab) -> None:
    title = 'Haustür ☂ «7» "{{ 1/0 }}"'
    zones = {f"zone-{n}": {"polygon": [[0, 0], [0.5, 0], [0.5, 1]]} for n in range(20)}
    camera = lab.camera_settings(
        name=title, detect={"zones": zones}, profiles={"night": {"sensitivity": "low"}}
    )
    latest = f"lab/{lab.instance}/latest"
    mqtt = lab.mqtt(discovery={"preview_every": "1s", "latest_version_topic": latest})
    with lab.running(lab.settings(mqtt=mqtt, cameras={lab.name: camera})):
        wanted = {key.format(c=lab.name) for key in CAMERA} - {f"binary_sensor.{lab.name}_zone_drive"}
        wanted |= {f"binary_sensor.{lab.name}_zone_zone_{n}" for n in range(20)}
        wanted |= {f"select.{lab.name}_profile", f"camera.{lab.name}_preview"}
        found = all_entities(lab, None, wanted)
        assert set(found) == wanted
        device = lab.device()
        assert device is not None
        assert device["name"] == title
        lab.wait(f"binary_sensor.{lab.name}_zone_zone_19", "off")
        lab.wait(f"select.{lab.name}_profile", "Auto")
        preview = f"camera.{lab.name}_preview"
        eventually(lambda: lab.ha.image(preview)[0] == 200, what="a preview")
        status, kind, data = lab.ha.image(preview)
        assert (status, kind) == (200, "image/jpeg")
        assert data[:2] == b"\xff\xd8"

        update = f"update.async_motion_{lab.instance}_update"
        lab.wait(update, "unknown")
        with Recorder(lab.broker.port, ()) as recorder:
            for newest, state in ((__version__, "off"), ("99.1", "on")):
                recorder.publish(latest, newest, retain=True)
                shown = lab.wait(update, state)["attributes"]
                assert shown["installed_version"] == __version__
                assert shown["title"] == "async_motion"
                assert shown["latest_version"] == newest
            recorder.publish(latest, b"", retain=True)
