"""Device discovery payloads, built from the table of entities for the service and for each camera.

ServiceInfo, CameraSite + entities ──▶ hub_payload, camera_payload ──▶ {prefix}/device/…/config, retained
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from async_motion.core import payloads
from async_motion.core.names import Topics
from async_motion.home_assistant.entities import (
    CAMERA,
    HUB,
    ORIGIN,
    PREVIEW,
    PROFILE,
    RESTART,
    UPDATE,
    ZONE,
    CameraSite,
    Entity,
    Needs,
    Place,
    ServiceInfo,
)

Payload = dict[str, Any]


def hub_payload(site: ServiceInfo) -> Payload:
    """Return the discovery payload of the service itself."""
    entities = [*HUB, RESTART] if site.restart else list(HUB)
    if site.latest_version_topic is not None:
        entities.append(
            replace(UPDATE, fields={**UPDATE.fields, "latest_version_topic": site.latest_version_topic})
        )
    slug = entity_slug(f"{ORIGIN}_{site.instance}")
    place = Place(topics=site.topics)
    device = {
        "identifiers": [site.unique],
        "name": f"async_motion {site.instance}",
        "manufacturer": ORIGIN,
        "model": "Motion service",
        "sw_version": site.version,
    }
    components = {entity.key: _component(entity, place, site.unique, slug) for entity in entities}
    return _payload(site, device, [site.topics.status], components)


def camera_payload(site: ServiceInfo, camera: CameraSite) -> Payload:
    """Return the discovery payload of one camera."""
    identity = f"{site.unique}:{camera.unique}"
    slug = entity_slug(camera.name)
    place = Place(topics=site.topics, camera=camera.name)
    device = {
        "identifiers": [identity],
        "name": (camera.title or "").strip() or title(camera.name),
        "manufacturer": ORIGIN,
        "model": "Camera",
        "via_device": site.unique,
    }
    if camera.area is not None:
        device["suggested_area"] = camera.area
    optional = [*([PREVIEW] if site.preview else []), *([PROFILE] if camera.profiles else [])]
    entities = [*CAMERA, *optional]
    components = {entity.key: _component(entity, place, identity, slug) for entity in entities}
    for zone in camera.zones:
        at = Place(topics=site.topics, camera=camera.name, zone=zone)
        component = _component(ZONE, at, identity, slug, camera.zone_titles.get(zone))
        components[ZONE.key.format(zone=zone)] = component
    for event_type in payloads.EVENT_TYPES.values():
        components[f"trigger_{event_type}"] = _trigger(site.topics, camera, event_type)
    return _payload(site, device, [site.topics.status, site.topics.camera_status(camera.name)], components)


def without_hub(payload: Mapping[str, Any]) -> Payload:
    """Return a camera's payload without `via_device`: an unknown hub would create a nameless device."""
    device = {key: value for key, value in payload["device"].items() if key != "via_device"}
    return {**payload, "device": device}


def _payload(
    site: ServiceInfo, device: dict[str, Any], availability: Sequence[str], components: dict[str, Payload]
) -> Payload:
    if site.web_url is not None:
        device["configuration_url"] = site.web_url
    return {
        "device": device,
        "origin": {"name": ORIGIN, "sw_version": site.version},
        "availability": [{"topic": topic} for topic in availability],
        "availability_mode": "all",
        "components": components,
    }


def _component(entity: Entity, at: Place, identity: str, slug: str, zone_title: str | None = None) -> Payload:
    key = entity.key.format(zone=at.zone)
    object_id = f"{slug}_{entity_slug(key)}"
    component: Payload = {
        "platform": entity.platform,
        "unique_id": f"{identity}:{key}",
        "object_id": object_id,
        "default_entity_id": f"{entity.platform}.{object_id}",
        "name": entity.name.format(title=zone_title or title(at.zone)) if at.zone else entity.name,
        "qos": 1,
        **entity.topics(at),
        **entity.fields,
    }
    if entity.needs is Needs.SERVICE and at.camera:
        component["availability"] = [{"topic": at.topics.status}]
    if entity.platform == "image":
        # Set explicitly: Home Assistant 2025.4.4 sometimes misses the defaults for its first image entity.
        for entry in component["availability"]:
            entry |= {"payload_available": "online", "payload_not_available": "offline"}
    if entity.needs is Needs.NOTHING:
        component["availability"] = []
    if entity.category is not None:
        component["entity_category"] = entity.category
    if not entity.enabled:
        component["enabled_by_default"] = False
    return component


def _trigger(topics: Topics, camera: CameraSite, event_type: str) -> Payload:
    return {
        "platform": "device_automation",
        "automation_type": "trigger",
        # Automations refer to type and subtype: neither may depend on the display name.
        "type": event_type,
        "subtype": camera.unique,
        "topic": topics.event(camera.name),
        "payload": event_type,
        "value_template": "{{ value_json.event_type }}",
        "qos": 1,
    }


def entity_slug(text: str) -> str:
    """Return `text` as a part of an entity id: [a-z0-9_], no doubled, leading or trailing underscore."""
    return re.sub(r"_+", "_", re.sub(r"[^a-z0-9]", "_", text.lower())).strip("_") or "unnamed"


def title(name: str) -> str:
    """Return a name for display: `front-door` becomes "Front door"."""
    words = re.sub(r"[-_]+", " ", name).strip()
    return words[:1].upper() + words[1:] if words else name
