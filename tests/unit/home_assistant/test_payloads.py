"""Payloads for Home Assistant: their invariants, for any names of cameras and zones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import SandboxedEnvironment

from async_motion.core import names, payloads
from async_motion.core.model import CameraStatus, Phase
from async_motion.core.names import DiscoveryTopics, Topics
from async_motion.home_assistant.entities import EVENT_TEMPLATE, CameraSite, ServiceInfo
from async_motion.home_assistant.payloads import (
    Payload,
    camera_payload,
    entity_slug,
    hub_payload,
    title,
    without_hub,
)
from tests.support.clock import BEGIN
from tests.support.records import make_event

TOPICS = Topics("async_motion/edge1")
SITE = ServiceInfo(instance="edge1", version="0.1.0", topics=TOPICS, preview=True)
PORCH = CameraSite(name="porch", title="Front porch", zones=("drive", "path"))

NAME = st.from_regex(names.NAME, fullmatch=True)
ZONES = st.lists(NAME, max_size=4, unique=True).map(tuple)
CAMERA = st.builds(
    CameraSite,
    name=NAME,
    title=st.none() | st.text(min_size=1),
    area=st.none() | st.text(min_size=1),
    zones=ZONES,
    profiles=st.booleans(),
    identity=st.just("") | NAME,
)
SITES = st.builds(
    ServiceInfo,
    instance=NAME,
    version=st.just("1.2.3"),
    topics=st.just(TOPICS),
    restart=st.booleans(),
    preview=st.booleans(),
    web_url=st.none() | st.just("http://192.0.2.1:8585/"),
)

PLATFORMS = {
    "binary_sensor",
    "button",
    "camera",
    "device_automation",
    "event",
    "image",
    "number",
    "select",
    "sensor",
    "switch",
}
ROOT = {"device", "origin", "availability", "availability_mode", "components"}
DEVICE = {
    *("identifiers", "name", "manufacturer", "model", "sw_version", "via_device", "configuration_url"),
    "suggested_area",
}
# The entity ids that Home Assistant accepts (homeassistant.core: no doubled, leading or closing underscore).
ENTITY_ID = re.compile(r"(?!.+__)(?!_)[\da-z_]+(?<!_)\.(?!_)[\da-z_]+(?<!_)")
ATTRIBUTES_LIMIT = 16 * 1024


def topics_in(component: Payload) -> Iterator[tuple[str, str]]:
    """Yield (key, topic) of a component, including its availability topics."""
    for key, value in component.items():
        if key == "topic" or key.endswith("_topic"):
            yield key, value
    for entry in component.get("availability", ()):
        yield "availability", entry["topic"]


def known_topics(camera: CameraSite) -> set[str]:
    """Return every topic that the service uses for a camera and for itself."""
    topics = {
        TOPICS.status,
        TOPICS.state,
        TOPICS.restart,
        TOPICS.event(camera.name),
        TOPICS.preview(camera.name),
    }
    topics.update(TOPICS.retained_of(camera.name, camera.zones))
    topics.update(TOPICS.command(camera.name, setting) for setting in (*names.SETTINGS, "snapshot"))
    if camera.profiles:
        topics.update(make(camera.name, names.PROFILE) for make in (TOPICS.setting, TOPICS.command))
    return topics


@given(site=SITES, camera=CAMERA)
def test_every_payload_is_one_that_home_assistant_takes(site: ServiceInfo, camera: CameraSite) -> None:
    for payload in (hub_payload(site), camera_payload(site, camera)):
        assert set(payload) == ROOT
        assert set(payload["device"]) <= DEVICE
        assert payload["device"]["name"]
        assert payload["origin"]["name"]
        assert payload["availability_mode"] == "all"
        ids = [c["unique_id"] for c in payload["components"].values() if "unique_id" in c]
        assert len(ids) == len(set(ids))
        for key, component in payload["components"].items():
            assert component["platform"] in PLATFORMS
            assert component["qos"] == 1
            assert re.fullmatch(r"[a-z0-9_-]+", key)
            for name, topic in topics_in(component):
                assert topic in known_topics(camera), (key, name)
            if component["platform"] == "device_automation":
                continue
            assert component["name"]
            assert ENTITY_ID.fullmatch(component["default_entity_id"])
            assert component["default_entity_id"] == f"{component['platform']}.{component['object_id']}"
            assert not isinstance(component.get("availability", []), str)


@given(first=st.tuples(NAME, NAME), second=st.tuples(NAME, NAME))
def test_no_two_cameras_share_an_id_or_a_topic(first: tuple[str, str], second: tuple[str, str]) -> None:
    def ids(instance: str, camera: str) -> set[str]:
        site = ServiceInfo(instance=instance, version="1", topics=TOPICS)
        payload = camera_payload(site, CameraSite(name=camera, zones=("z",)))
        unique = {c["unique_id"] for c in payload["components"].values() if "unique_id" in c}
        return unique | {payload["device"]["identifiers"][0], DiscoveryTopics("ha", instance).camera(camera)}

    if first != second:
        assert not ids(*first) & ids(*second)


@given(NAME)
def test_a_discovery_topic_is_one_that_home_assistant_reads(name: str) -> None:
    at = DiscoveryTopics("homeassistant", name)
    pattern = r"homeassistant/device/([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+/config"
    assert re.fullmatch(pattern, at.hub)
    assert re.fullmatch(pattern, at.camera(name))


def test_a_birth_is_heard_whatever_the_prefix() -> None:
    assert DiscoveryTopics("homeassistant", "edge1").births == ("homeassistant/status",)
    assert DiscoveryTopics("ha", "edge1").births == ("ha/status", "homeassistant/status")


def test_a_display_name_is_in_no_id() -> None:
    first = camera_payload(SITE, PORCH)
    second = camera_payload(SITE, CameraSite(name="porch", title="Entrée 2", zones=PORCH.zones))
    assert first["device"].pop("name") != second["device"].pop("name")
    assert first == second


def test_the_entities_of_a_camera() -> None:
    components = camera_payload(SITE, PORCH)["components"]
    found = {c["default_entity_id"] for c in components.values() if "default_entity_id" in c}
    assert found == {
        "binary_sensor.porch_motion",
        "binary_sensor.porch_zone_drive",
        "binary_sensor.porch_zone_path",
        "binary_sensor.porch_connection",
        "binary_sensor.porch_problem",
        "button.porch_snapshot",
        "camera.porch_preview",
        "event.porch_motion_event",
        "image.porch_last_motion_image",
        "number.porch_min_area",
        "number.porch_threshold",
        "select.porch_sensitivity",
        "sensor.porch_dropped",
        "sensor.porch_events_today",
        "sensor.porch_fps",
        "sensor.porch_last_motion",
        "sensor.porch_score",
        "sensor.porch_status",
        "sensor.porch_upload_latency",
        "switch.porch_detection",
    }
    assert components["status"]["options"] == [status.value.capitalize() for status in CameraStatus]
    triggers = [c for c in components.values() if c["platform"] == "device_automation"]
    assert {(t["type"], t["subtype"]) for t in triggers} == {
        (event_type, "porch") for event_type in payloads.EVENT_TYPES.values()
    }


def test_the_entities_of_the_hub_and_what_is_optional() -> None:
    found = {c["default_entity_id"] for c in hub_payload(SITE)["components"].values()}
    assert found == {
        "binary_sensor.async_motion_edge1_status",
        "binary_sensor.async_motion_edge1_storage_problem",
        "button.async_motion_edge1_restart_capture",
        "sensor.async_motion_edge1_upload_queue",
        "sensor.async_motion_edge1_version",
    }
    plain = ServiceInfo(instance="edge1", version="0.1.0", topics=TOPICS, restart=False)
    assert "restart_capture" not in hub_payload(plain)["components"]
    assert "preview" not in camera_payload(plain, PORCH)["components"]
    assert "configuration_url" not in hub_payload(plain)["device"]


def test_an_update_entity_is_there_where_the_newest_release_is_retained() -> None:
    site = ServiceInfo(instance="edge1", version="0.1.0", topics=TOPICS, latest_version_topic="site/newest")
    update = hub_payload(site)["components"]["update"]
    assert update["platform"] == "update"
    assert update["state_topic"] == TOPICS.state
    assert update["latest_version_topic"] == "site/newest"
    assert "'installed_version': value_json.version" in update["value_template"]


def test_a_storage_problem_is_the_stores_the_spools_the_clocks_or_records_set_aside() -> None:
    problem = hub_payload(SITE)["components"]["storage_problem"]
    for template in (problem["value_template"], problem["json_attributes_template"]):
        for field in ("store.problem", "spool.problem", "spool.alarm", "clock_problem"):
            assert f"value_json.{field}" in template


def test_a_camera_with_settings_for_the_night_can_be_switched() -> None:
    site = ServiceInfo(instance="edge1", version="1", topics=TOPICS)
    plain = camera_payload(site, CameraSite(name="porch"))["components"]
    nightly = camera_payload(site, CameraSite(name="porch", profiles=True))["components"]
    assert nightly.keys() - plain.keys() == {"profile"}
    assert nightly["profile"]["options"] == ["Day", "Night", "Auto"]
    assert nightly["profile"]["command_topic"].endswith("/porch/profile/set")


def test_the_entity_that_reports_a_loss_stays_available() -> None:
    components = camera_payload(SITE, PORCH)["components"]
    service = [{"topic": TOPICS.status}]
    for key in ("connection", "status", "problem", "detection"):
        assert components[key]["availability"] == service
    spelled_out = {"payload_available": "online", "payload_not_available": "offline"}
    assert components["last_motion_image"]["availability"] == [service[0] | spelled_out]
    assert components["motion_event"]["availability"] == [], "what happened needs no availability"
    assert "availability" not in components["motion"]
    assert hub_payload(SITE)["components"]["status"]["availability"] == []
    assert camera_payload(SITE, PORCH)["availability"] == [
        {"topic": TOPICS.status},
        {"topic": TOPICS.camera_status("porch")},
    ]


def test_what_changes_all_the_time_is_disabled_by_default() -> None:
    components = camera_payload(SITE, PORCH)["components"]
    off = {key for key, component in components.items() if component.get("enabled_by_default") is False}
    assert off == {"score", "fps", "dropped", "upload_latency"}


def test_a_full_camera_is_small() -> None:
    payload = camera_payload(SITE, PORCH)
    size = len(payloads.encode(payload))
    assert size < 12_000
    with_zone = camera_payload(SITE, CameraSite(name="porch", zones=(*PORCH.zones, "lawn")))
    assert len(payloads.encode(with_zone)) - size < 500


def test_names_as_people_read_them() -> None:
    assert title("front-door_2") == "Front door 2"
    assert title("__") == "__"
    assert camera_payload(SITE, CameraSite(name="back-yard"))["device"]["name"] == "Back yard"
    assert entity_slug("-a--b_") == "a_b"
    assert entity_slug("--") == "unnamed"


def test_a_camera_without_its_hub_names_none() -> None:
    payload = camera_payload(SITE, PORCH)
    assert payload["device"]["via_device"] == hub_payload(SITE)["device"]["identifiers"][0]
    alone = without_hub(payload)
    assert "via_device" not in alone["device"]
    assert "via_device" in payload["device"]
    assert alone["components"] == payload["components"]


def test_what_people_call_things_and_where_they_hang() -> None:
    camera = CameraSite(
        name="porch", area="Garden", zones=("drive", "path"), zone_titles={"drive": "Einfahrt"}
    )
    payload = camera_payload(SITE, camera)
    assert payload["device"]["suggested_area"] == "Garden"
    assert payload["components"]["zone_drive"]["name"] == "Einfahrt motion"
    assert payload["components"]["zone_path"]["name"] == "Path motion"
    assert payload["components"]["motion_event"]["event_types"][0] == "Motion started"
    linked = replace(SITE, web_url="http://192.0.2.1:8585/")
    for made in (hub_payload(linked), camera_payload(linked, camera)):
        assert made["device"]["configuration_url"] == "http://192.0.2.1:8585/"


def test_a_renamed_camera_is_the_same_device_with_other_topics() -> None:
    before = camera_payload(SITE, PORCH)
    after = camera_payload(SITE, CameraSite(name="entrance", zones=PORCH.zones, identity="porch"))
    assert after["device"]["identifiers"] == before["device"]["identifiers"]
    for key, component in before["components"].items():
        assert after["components"][key].get("unique_id") == component.get("unique_id")
        assert after["components"][key].get("subtype") == component.get("subtype")
    assert after["components"]["motion"]["state_topic"] == TOPICS.motion("entrance")


def shown_event(was: Payload, message: Payload) -> Payload:
    """Return the attributes that the event entity takes from a message, as Home Assistant renders them."""
    environment = SandboxedEnvironment()
    environment.filters["tojson"] = json.dumps
    environment.globals["now"] = lambda: 0.0
    environment.globals["as_timestamp"] = lambda *_: 0.0
    this = SimpleNamespace(attributes=was, state="2026-11-22T07:31:12+00:00")
    rendered = environment.from_string(EVENT_TEMPLATE).render(value_json=message, this=this)
    found: Payload = json.loads(rendered)
    return found


def event_message(**changes: Any) -> Payload:
    start = payloads.event_payload(
        Phase.START, make_event(), now=BEGIN, frames_stored=1, best_frame=None, bucket="motion"
    )
    return start | changes


def test_the_event_entity_ignores_what_a_lost_worker_delivers_late() -> None:
    shown = shown_event({}, event_message(epoch=9, delayed=False))
    assert (shown["epoch"], shown["phase"]) == (9, "start")
    later = {"started_at": "2026-11-22T07:40:00.000000Z"}
    assert shown_event(shown, event_message(epoch=8, delayed=True, **later)) == {}
    assert shown_event(shown, event_message(epoch=8, delayed=False, started_at="2026-11-22T07:00:00Z")) == {}
    assert shown_event(shown, event_message(epoch=9, delayed=True))["epoch"] == 9
    assert shown_event(shown, event_message(epoch=10, delayed=False))["epoch"] == 10
    # The epochs began again: what is new and not late is shown.
    assert shown_event(shown, event_message(epoch=2, delayed=False, **later))["epoch"] == 2


def test_without_a_fleet_the_event_entity_has_no_epoch() -> None:
    shown = shown_event({}, event_message())
    assert "epoch" not in shown
    assert shown_event(shown, event_message(type="end", event_type="motion_ended"))["phase"] == "end"
