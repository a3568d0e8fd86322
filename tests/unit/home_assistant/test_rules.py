"""Home Assistant's rules for payloads, release by release; every payload of ours is checked against them.

Each rule is that of the strictest of 2025.4.4, 2026.2.3 and 2026.11.0. `faults` names the violations, and is
tested with invalid payloads too. Two entities may propose the same entity id: the second gets a `_2`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core import names, payloads
from async_motion.core.names import DiscoveryTopics, Topics
from async_motion.home_assistant.entities import CameraSite, ServiceInfo
from async_motion.home_assistant.payloads import Payload, camera_payload, hub_payload, without_hub
from async_motion.home_assistant.removal import removal_of

ROOT = {"device", "origin", "components", "availability", "availability_mode"}
DEVICE = {
    *(
        "identifiers",
        "name",
        "manufacturer",
        "model",
        "model_id",
        "serial_number",
        "sw_version",
        "hw_version",
    ),
    *("suggested_area", "via_device", "configuration_url"),
}
ORIGIN = {"name", "sw_version", "support_url"}
COMMON = {
    *("platform", "unique_id", "object_id", "default_entity_id", "name", "qos", "availability"),
    *("entity_category", "enabled_by_default", "icon", "json_attributes_topic", "json_attributes_template"),
}
STATE = {"state_topic", "value_template", "device_class"}
KEYS = {
    "binary_sensor": COMMON | STATE | {"payload_on", "payload_off"},
    "sensor": COMMON
    | STATE
    | {"unit_of_measurement", "state_class", "suggested_display_precision", "options"},
    "event": COMMON | STATE | {"event_types"},
    "image": COMMON | {"image_topic", "content_type"},
    "camera": COMMON | {"topic"},
    "switch": COMMON | STATE | {"command_topic", "payload_on", "payload_off"},
    "select": COMMON | STATE | {"command_topic", "command_template", "options"},
    "number": COMMON | STATE | {"command_topic", "min", "max", "step", "mode", "unit_of_measurement"},
    "button": COMMON | {"command_topic", "payload_press", "device_class"},
}
TRIGGER = {
    *("platform", "automation_type", "type", "subtype", "topic", "payload", "value_template", "qos"),
}
NEEDED = {
    "binary_sensor": {"state_topic"},
    "sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
    "image": {"image_topic"},
    "camera": {"topic"},
    "switch": {"state_topic", "command_topic"},
    "select": {"state_topic", "command_topic", "options"},
    "number": {"state_topic", "command_topic", "min", "max"},
    "button": {"command_topic"},
}
CLASSES = {
    "binary_sensor": {"motion", "problem", "connectivity"},
    "sensor": {"timestamp", "enum", "duration"},
    "event": {"motion"},
    "button": {"restart"},
}
ONLY_READ = {"binary_sensor", "sensor", "event", "image", "camera"}
"""Read-only platforms: their entities must not be of category `config`."""
ENTITY_ID = re.compile(r"(?!.+__)(?!_)[\da-z_]+(?<!_)\.(?!_)[\da-z_]+(?<!_)")
CONFIG_TOPIC = re.compile(r"[^/+#]+/device/(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+/config")
MAX_BYTES = 2_000_000
"""Mosquitto 2.1 ends the connection for a larger packet."""


def faults(topic: str, payload: Payload) -> list[str]:
    """Return the faults that Home Assistant would find in a device's payload on `topic`."""
    return list(_faults(topic, payload))


def _faults(topic: str, payload: Payload) -> Iterator[str]:
    if CONFIG_TOPIC.fullmatch(topic) is None:
        yield f"{topic}: Home Assistant does not read that"
    if len(payloads.encode(payload)) + len(topic) > MAX_BYTES:
        yield "too large"
    for place, allowed in (("device", DEVICE), ("origin", ORIGIN)):
        yield from (f"{place}: {key}?" for key in payload.get(place, {}).keys() - allowed)
    yield from (f"root: {key}?" for key in payload.keys() - ROOT)
    yield from (f"root: no {key}" for key in ROOT - payload.keys())
    if not payload.get("origin", {}).get("name"):
        yield "origin: no name"
    device = payload.get("device", {})
    if not device.get("identifiers") or not all(isinstance(i, str) for i in device["identifiers"]):
        yield "device: no identifiers"
    if not (device.get("name") or "").strip():
        yield "device: no name"
    for url in filter(None, (device.get("configuration_url"), payload.get("origin", {}).get("support_url"))):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            yield f"not a URL: {url}"
    if payload.get("availability_mode") != "all":
        yield "availability: not all of them"
    yield from _availability("root", payload.get("availability"))
    components = payload.get("components", {})
    ids = [c["unique_id"] for c in components.values() if "unique_id" in c]
    if len(ids) != len(set(ids)):
        yield "unique ids: not unique"
    for key, component in components.items():
        if set(component) == {"platform"}:  # being removed
            if component["platform"] not in {*KEYS, "device_automation"}:
                yield f"{key}: removed from an unknown platform"
            continue
        trigger = component.get("platform") == "device_automation"
        found = _trigger_faults(component) if trigger else _entity_faults(component)
        yield from (f"{key}: {fault}" for fault in found)


def _availability(where: str, entries: Any) -> Iterator[str]:
    if not isinstance(entries, list) or not all(
        entry.keys() - {"payload_available", "payload_not_available"} == {"topic"} for entry in entries
    ):
        yield f"{where}: availability is not a list of topics"


def _trigger_faults(trigger: Payload) -> Iterator[str]:
    if set(trigger) != TRIGGER:
        yield f"keys {sorted(set(trigger) ^ TRIGGER)}"
    if trigger.get("automation_type") != "trigger" or trigger.get("qos") != 1:
        yield "not a trigger with QoS 1"


def _entity_faults(entity: Payload) -> Iterator[str]:
    platform = entity.get("platform", "")
    if platform not in KEYS:
        yield f"unknown platform {platform!r}"
        return
    yield from (f"{key}?" for key in entity.keys() - KEYS[platform])
    yield from (f"no {key}" for key in (NEEDED[platform] | {"unique_id", "name"}) - entity.keys())
    if entity.get("qos") != 1:
        yield "QoS is not given"
    if entity.get("default_entity_id") != f"{platform}.{entity.get('object_id')}":
        yield "object_id and default_entity_id do not agree"
    if ENTITY_ID.fullmatch(str(entity.get("default_entity_id"))) is None:
        yield "no entity id"
    if "availability" in entity:
        yield from _availability("entity", entity["availability"])
    for key, topic in entity.items():
        if (key == "topic" or key.endswith("_topic")) and not _is_topic(topic):
            yield f"{key}: no topic"
    device_class = entity.get("device_class")
    if device_class is not None and device_class not in CLASSES.get(platform, ()):
        yield f"unknown device class {device_class}"
    category = entity.get("entity_category")
    if category not in (None, "diagnostic", "config") or (category == "config" and platform in ONLY_READ):
        yield f"entity category {category}"
    if platform == "sensor":
        yield from _sensor_faults(entity)
    if platform == "image" and not entity.get("content_type", "").startswith("image/"):
        yield "no picture"
    if platform == "number" and not entity.get("min", 0) < entity.get("max", 0):
        yield "an empty range"


def _is_topic(topic: Any) -> bool:
    return isinstance(topic, str) and 0 < len(topic.encode()) < 65536 and not set(topic) & set("+#\0")


def _sensor_faults(sensor: Payload) -> Iterator[str]:
    numeric = {"state_class", "unit_of_measurement", "suggested_display_precision"} & sensor.keys()
    match sensor.get("device_class"):
        case "enum" if numeric or not sensor.get("options"):
            yield "an enumeration with a unit, or without options"
        case "timestamp" if numeric:
            yield "a timestamp with a unit"
        case "duration" if "unit_of_measurement" not in sensor:
            yield "a duration without a unit"
    if sensor.get("state_class") not in (None, "measurement", "total", "total_increasing"):
        yield "unknown state class"


# ---- every payload of ours

ODD_TITLES = (
    None,
    " \u00a0",
    "Front door",
    "Haustür ☂ «№ 7»",
    '"; {{ 1/0 }} \\ \n',
    "x" * 5000,
    "motion",
    "async_motion",
    "日本",
    "\u202egnp",
)
ODD_NAMES = ("porch", "_", "--", "a-b_c", "motion", "status", "x" * 64, "0")
MANY_ZONES = tuple(f"zone-{number}_{'z' * 50}" for number in range(100))
SITES = [
    ServiceInfo(
        instance=instance,
        version="1.2.3.dev4+g1234",
        topics=Topics(f"base/{instance}"),
        restart=restart,
        preview=preview,
        web_url=web_url,
        identity=identity,
    )
    for instance, restart, preview, web_url, identity in product(
        ("edge1", "x" * 64, "_"),
        (True, False),
        (True, False),
        (None, "http://192.0.2.1:8585/", "https://[2001:db8::1]/"),
        ("", "first-name"),
    )
]
CAMERAS = [
    CameraSite(name=name, title=title, zones=zones, profiles=profiles)
    for name, title in [*((name, None) for name in ODD_NAMES), *(("porch", title) for title in ODD_TITLES)]
    for zones, profiles in (((), False), (("drive", "-", "_"), True))
] + [CameraSite(name="porch", zones=MANY_ZONES, profiles=True)]


def every_payload(site: ServiceInfo, cameras: list[CameraSite]) -> Iterator[tuple[str, Payload]]:
    """Yield (topic, payload) of everything ever published for a site, steps of removal included."""
    at = DiscoveryTopics("homeassistant", site.identity or site.instance)
    yield at.hub, hub_payload(site)
    bare = ServiceInfo(instance=site.instance, version="1", topics=site.topics, identity=site.identity)
    for camera in cameras:
        payload = camera_payload(site, camera)
        yield at.camera(camera.name), payload
        yield at.camera(camera.name), without_hub(payload)
        removal = removal_of(payload, camera_payload(bare, CameraSite(name=camera.name)))
        for step in (removal.shown, removal.struck, removal.left) if removal else ():
            assert step is not None
            yield at.camera(camera.name), step


@pytest.mark.parametrize("site", SITES[::7], ids=range(len(SITES[::7])))
def test_no_payload_has_a_fault(site: ServiceInfo) -> None:
    for topic, payload in every_payload(site, CAMERAS):
        assert faults(topic, payload) == []
        assert json.loads(payloads.encode(payload)) == payload


NAME = st.from_regex(names.NAME, fullmatch=True)


@given(
    site=st.sampled_from(SITES),
    camera=st.builds(
        CameraSite,
        name=NAME,
        title=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        zones=st.lists(NAME, max_size=8, unique=True).map(tuple),
        profiles=st.booleans(),
    ),
)
def test_whatever_cameras_and_zones_are_called_no_payload_has_a_fault(
    site: ServiceInfo, camera: CameraSite
) -> None:
    for topic, payload in every_payload(site, [camera]):
        assert faults(topic, payload) == []


def test_a_full_camera_takes_nine_kilobytes_and_a_hundred_zones_a_fortieth_of_what_a_broker_takes() -> None:
    site = ServiceInfo(instance="edge1", version="0.1.0", topics=Topics("async_motion/edge1"), preview=True)
    full = CameraSite(name="porch", title="Front porch", zones=("drive",), profiles=True)
    assert len(payloads.encode(camera_payload(site, full))) < 11_500
    many = CameraSite(name="porch", zones=MANY_ZONES)
    assert len(payloads.encode(camera_payload(site, many))) < 80_000


def test_unique_ids_are_unique_over_all_devices() -> None:
    site = SITES[0]
    cameras = [CameraSite(name=name, zones=("a", "b")) for name in ODD_NAMES]
    found = [hub_payload(site), *(camera_payload(site, camera) for camera in cameras)]
    ids = [c["unique_id"] for payload in found for c in payload["components"].values() if "unique_id" in c]
    assert len(ids) == len(set(ids))
    devices = [payload["device"]["identifiers"][0] for payload in found]
    assert len(devices) == len(set(devices))


def test_motion_is_told_both_ways_and_ends_by_a_message_alone() -> None:
    payload = camera_payload(SITES[0], CameraSite(name="porch", zones=("drive",)))
    for key in ("motion", "zone_drive"):
        component = payload["components"][key]
        assert component["device_class"] == "motion"
        assert not {"off_delay", "expire_after", "payload_on", "payload_off", "value_template"} & set(
            component
        )


def test_a_command_is_never_retained_and_an_image_comes_as_bytes() -> None:
    for _, payload in every_payload(SITES[0], CAMERAS):
        for component in payload["components"].values():
            assert "retain" not in component
            assert not {"url_topic", "url_template", "image_encoding"} & set(component)


def test_what_goes_is_struck_by_its_platform_and_a_device_by_an_empty_payload() -> None:
    site = SITES[0]
    before = camera_payload(site, CameraSite(name="porch", zones=("drive",), profiles=True))
    now = camera_payload(site, CameraSite(name="porch"))
    removal = removal_of(before, now)
    assert removal is not None
    assert removal.struck is not None
    struck = {k: c for k, c in removal.struck["components"].items() if k not in now["components"]}
    assert struck == {"zone_drive": {"platform": "binary_sensor"}, "profile": {"platform": "select"}}
    assert removal.left == now
    whole = removal_of(before, None)
    assert whole is not None
    assert (whole.struck, whole.left) == (None, None)


# ---- the rules find the faults that they are made for


def _set(path: str, value: Any) -> Callable[[Payload], None]:
    def change(payload: Payload) -> None:
        *parts, last = path.split("/")
        for part in parts:
            payload = payload[part]
        payload[last] = value

    return change


def _drop(path: str) -> Callable[[Payload], None]:
    def change(payload: Payload) -> None:
        *parts, last = path.split("/")
        for part in parts:
            payload = payload[part]
        del payload[last]

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_set("qos", 1), "root: qos?"),
        (_drop("origin"), "root: no origin"),
        (_set("origin/url", "http://x/"), "origin: url?"),
        (_set("device/firmware", "1"), "device: firmware?"),
        (_set("device/name", None), "device: no name"),
        (_set("device/configuration_url", "192.0.2.1:8585"), "not a URL: 192.0.2.1:8585"),
        (_set("availability_mode", "any"), "availability: not all of them"),
        (_set("availability", "async_motion/edge1/status"), "root: availability is not a list of topics"),
        (_set("components/motion/availability", "x"), "motion: entity: availability is not a list of topics"),
        (_drop("components/motion/unique_id"), "motion: no unique_id"),
        (_drop("components/motion/object_id"), "motion: object_id and default_entity_id do not agree"),
        (_drop("components/motion/default_entity_id"), "motion: no entity id"),
        (_drop("components/motion/qos"), "motion: QoS is not given"),
        (_set("components/motion/platform", "motion"), "motion: unknown platform 'motion'"),
        (_set("components/motion/off_delay", 5), "motion: off_delay?"),
        (_set("components/motion/entity_category", "config"), "motion: entity category config"),
        (_set("components/motion/state_topic", "a/+"), "motion: state_topic: no topic"),
        (_set("components/score/unique_id", "async_motion:edge1:porch:motion"), "unique ids: not unique"),
        (
            _set("components/status/state_class", "total"),
            "status: an enumeration with a unit, or without options",
        ),
        (_set("components/last_motion/unit_of_measurement", "s"), "last_motion: a timestamp with a unit"),
        (_set("components/zone_x", {"platform": "zone"}), "zone_x: removed from an unknown platform"),
        (
            _set("components/trigger_motion_started/unique_id", "x"),
            "trigger_motion_started: keys ['unique_id']",
        ),
        (_set("device/name", "x" * MAX_BYTES), "too large"),
    ],
)
def test_a_fault_is_found(change: Callable[[Payload], None], fault: str) -> None:
    site = ServiceInfo(instance="edge1", version="1", topics=Topics("async_motion/edge1"))
    payload = copy.deepcopy(camera_payload(site, CameraSite(name="porch")))
    topic = DiscoveryTopics("homeassistant", "edge1").camera("porch")
    assert faults(topic, payload) == []
    change(payload)
    assert fault in faults(topic, payload)


@pytest.mark.parametrize("topic", ["ha/device/a.b/config", "ha/device/ü/config", "ha/device/a/b/c/config"])
def test_a_topic_that_is_not_read_is_a_fault(topic: str) -> None:
    payload = hub_payload(SITES[0])
    assert faults(topic, payload) == [f"{topic}: Home Assistant does not read that"]
