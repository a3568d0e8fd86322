"""The table of entities that Home Assistant shows for the service, a camera and a zone.

    HUB, CAMERA, ZONE ──▶ payloads: hub_payload, camera_payload ──▶ {prefix}/device/…/config, retained

Home Assistant's behaviour, and the rules that follow from it:
- One refused component can make Home Assistant refuse its whole device: every component has a platform and a
  unique id, and no unknown keys or made-up URLs.
- Ids are permanent. A unique id consists of the service's identity, the camera and the entity's key, with a
  separator that none of them can hold. It holds no display name and no instance, which may be renamed.
  `object_id` and `default_entity_id` are both sent: releases read one or the other, and each proposes the
  same entity id.
- `qos` is set in each component: older releases ignore it at the root.
- An entity that depends on a camera is unavailable while the camera or the service is offline. An entity that
  reports the loss of a camera, or is valid during it (connection, status, problem, last image, settings),
  depends on the service only. The service's own status depends on nothing, so that it shows *off*, not
  *unavailable*.
- Leaving a component out does not remove it; `removal` does.
- Home Assistant's database stores only changed states. So values are rounded, entities that change all the
  time are disabled by default, and the event entity accepts an update only if it has news (`EVENT_TEMPLATE`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from async_motion.core import commands, names, payloads
from async_motion.core.model import CameraStatus
from async_motion.core.names import Topics

ORIGIN: Final = "async_motion"
_STORAGE = (
    "(value_json.store.problem or value_json.spool.problem or value_json.spool.alarm"
    " or value_json.clock_problem)"
)
"""What is wrong: the store, the spool, records that are set aside or dropped, the clock."""

EVENT_GAP_S = 10
"""Minimum seconds between two updates of the event entity that bring only a better frame."""

EVENT_WORDS: Final = {word: word.replace("_", " ").capitalize() for word in payloads.EVENT_TYPES.values()}
"""The event types as Home Assistant shows them; automations can use `phase`: start, update, end."""

EVENT_TEMPLATE: Final = f"""\
{{%- set words = {EVENT_WORDS} -%}}
{{%- set was = this.attributes -%}}
{{%- set recent = as_timestamp(now()) - as_timestamp(this.state, 0) < {EVENT_GAP_S} -%}}
{{%- set old = value_json.event_type == 'motion_updated'
  and was.get('event_id') == value_json.event_id and was.get('zones') == value_json.zones
  and (recent or was.get('object_key') == value_json.best_frame) -%}}
{{%- set epoch = value_json.get('epoch') -%}}
{{%- set outdated = epoch is not none and epoch < (was.get('epoch') or 0)
  and (value_json.delayed or value_json.started_at < was.get('started_at')) -%}}
{{{{ ({{}} if old or outdated else dict({{}} if epoch is none else {{'epoch': epoch}}, **{{
  'event_type': words[value_json.event_type], 'phase': value_json.type,
  'event_id': value_json.event_id, 'camera': value_json.camera,
  'object_key': value_json.best_frame, 'bucket': value_json.bucket, 'url': value_json.url,
  'score': value_json.peak_score, 'zones': value_json.zones, 'frames_stored': value_json.frames_stored,
  'started_at': value_json.started_at, 'ended_at': value_json.ended_at,
  'duration_s': value_json.duration_s, 'reason': value_json.reason}})) | tojson }}}}"""
"""An event's message as the event entity's attributes; empty, and so ignored, if there is no news.

News is a change of zones, at once, or a better frame, at most once in `EVENT_GAP_S`. In a fleet, a worker
with a lower epoch has none: what it delivers late must not replace a newer event. Its later events are shown
if they are not delayed: epochs begin again if the leases' bucket is lost.
"""

FRAME_TEMPLATE: Final = """\
{{ {'event_id': value_json.event_id, 'frame_id': value_json.frame_id, 'captured_at': value_json.captured_at,
  'object_key': value_json.object_key, 'bucket': value_json.bucket, 'url': value_json.url,
  'score': value_json.score, 'zones': value_json.zones} | tojson }}"""
"""An announcement as attributes of the image entity: the frame's ids, and where the original is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInfo:
    """The service as Home Assistant shows it. `web_url` is the page's address as people reach it.

    `latest_version_topic` is the topic on which the owner retains the newest release's number; None: no
    update entity. `identity` is its permanent id in Home Assistant, also after the instance was renamed; the
    default is the instance.
    """

    instance: str
    version: str
    topics: Topics
    restart: bool = True
    preview: bool = False
    latest_version_topic: str | None = None
    web_url: str | None = None
    identity: str = ""

    @property
    def unique(self) -> str:
        """The prefix of all ids of this service."""
        return f"{ORIGIN}:{self.identity or self.instance}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSite:
    """A camera as Home Assistant shows it. `title` is its display name, `area` the suggested area.

    `zones` are names; `zone_titles` maps some of them to display names. `profiles`: it has settings for the
    night. `identity` is its permanent id in Home Assistant, also after a renaming; the default is its name.
    """

    name: str
    title: str | None = None
    area: str | None = None
    zones: tuple[str, ...] = ()
    zone_titles: Mapping[str, str] = field(default_factory=dict)
    profiles: bool = False
    identity: str = ""

    @property
    def unique(self) -> str:
        return self.identity or self.name


class Needs(Enum):
    """What must be online for an entity to be available."""

    CAMERA = "camera"
    SERVICE = "service"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an entity's topics are: in the instance, a camera or a zone."""

    topics: Topics
    camera: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One line of the table.

    `key` is the entity's permanent name within its device. `fields` are the platform's own keys; `topics`
    returns the keys that hold topics, for a place.
    """

    platform: str
    key: str
    name: str
    topics: Callable[[Place], Mapping[str, Any]]
    fields: Mapping[str, Any]
    needs: Needs = Needs.CAMERA
    category: str | None = None
    enabled: bool = True


def _state(at: Place) -> Mapping[str, Any]:
    return {"state_topic": at.topics.camera_state(at.camera)}


def _service_state(at: Place) -> Mapping[str, Any]:
    return {"state_topic": at.topics.state}


def _words(values: Iterable[str]) -> list[str]:
    """Return the values capitalised, for display."""
    return [value.capitalize() for value in values]


_WORDS: Final = {"value_template": "{{ value | capitalize }}", "command_template": "{{ value | lower }}"}
"""How a select shows and sends a value whose options are `_words`."""


def _setting(setting: str) -> Callable[[Place], Mapping[str, Any]]:
    def topics(at: Place) -> Mapping[str, Any]:
        return {
            "state_topic": at.topics.setting(at.camera, setting),
            "command_topic": at.topics.command(at.camera, setting),
        }

    return topics


CAMERA: Final[Sequence[Entity]] = (
    Entity(
        platform="binary_sensor",
        key="motion",
        name="Motion",
        topics=lambda at: {"state_topic": at.topics.motion(at.camera)},
        fields={"device_class": "motion"},
    ),
    Entity(
        platform="event",
        key="motion_event",
        name="Motion event",
        topics=lambda at: {"state_topic": at.topics.event(at.camera)},
        fields={
            "device_class": "motion",
            "event_types": list(EVENT_WORDS.values()),
            "value_template": EVENT_TEMPLATE,
        },
        # A past event needs no availability: returning from "unavailable" would record the old event again
        # and run its automations.
        needs=Needs.NOTHING,
    ),
    Entity(
        platform="image",
        key="last_motion_image",
        name="Picture",
        topics=lambda at: {
            "image_topic": at.topics.snapshot(at.camera),
            # Published before the image, so that an automation on the image sees the same frame's attributes.
            "json_attributes_topic": at.topics.snapshot_attributes(at.camera),
        },
        fields={
            "content_type": payloads.CONTENT_TYPE,
            "json_attributes_template": FRAME_TEMPLATE,
            "icon": "mdi:cctv",  # until there is an image
        },
        needs=Needs.SERVICE,
    ),
    Entity(
        platform="switch",
        key="detection",
        name="Detection",
        topics=_setting("detection"),
        fields={"payload_on": commands.ON, "payload_off": commands.OFF, "icon": "mdi:motion-sensor"},
        needs=Needs.SERVICE,
    ),
    Entity(
        platform="select",
        key="sensitivity",
        name="Sensitivity",
        topics=_setting("sensitivity"),
        fields={"options": _words(commands.SENSITIVITIES), "icon": "mdi:tune-vertical", **_WORDS},
        needs=Needs.SERVICE,
        category="config",
    ),
    Entity(
        platform="number",
        key="threshold",
        name="Threshold",
        topics=_setting("threshold"),
        fields={
            "min": commands.THRESHOLD_RANGE[0],
            "max": commands.THRESHOLD_RANGE[1],
            "step": 0.5,
            "mode": "box",
            "icon": "mdi:brightness-6",
        },
        needs=Needs.SERVICE,
        category="config",
    ),
    Entity(
        platform="number",
        key="min_area",
        name="Minimum area",
        topics=_setting("min_area"),
        fields={
            "min": commands.MIN_AREA_RANGE[0],
            "max": commands.MIN_AREA_RANGE[1],
            "step": 0.01,
            "mode": "box",
            "unit_of_measurement": "%",
            "icon": "mdi:resize",
        },
        needs=Needs.SERVICE,
        category="config",
    ),
    Entity(
        platform="button",
        key="snapshot",
        name="Snapshot",
        topics=lambda at: {"command_topic": at.topics.command(at.camera, commands.SNAPSHOT)},
        fields={"payload_press": commands.PRESS, "icon": "mdi:camera"},
    ),
    Entity(
        platform="sensor",
        key="last_motion",
        name="Last motion",
        topics=_state,
        fields={"device_class": "timestamp", "value_template": "{{ value_json.last_motion }}"},
        needs=Needs.SERVICE,
    ),
    Entity(
        platform="sensor",
        key="score",
        name="Motion score",
        topics=_state,
        fields={
            "value_template": "{{ (value_json.score * 100) | round(1) }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "suggested_display_precision": 1,
            "icon": "mdi:chart-bell-curve",
        },
        enabled=False,
    ),
    Entity(
        platform="sensor",
        key="events_today",
        name="Events today",
        topics=_state,
        fields={
            "value_template": "{{ value_json.events_today }}",
            "state_class": "total_increasing",
            "icon": "mdi:counter",
        },
        needs=Needs.SERVICE,
    ),
    Entity(
        platform="sensor",
        key="status",
        name="Status",
        topics=_state,
        fields={
            "device_class": "enum",
            "options": _words(status.value for status in CameraStatus),
            "value_template": "{{ value_json.status | capitalize }}",
        },
        needs=Needs.SERVICE,
        category="diagnostic",
    ),
    Entity(
        platform="binary_sensor",
        key="connection",
        name="Connection",
        topics=lambda at: {"state_topic": at.topics.camera_status(at.camera)},
        fields={"device_class": "connectivity", "payload_on": "online", "payload_off": "offline"},
        needs=Needs.SERVICE,
        category="diagnostic",
    ),
    Entity(
        platform="binary_sensor",
        key="problem",
        name="Problem",
        topics=lambda at: {
            "state_topic": at.topics.camera_state(at.camera),
            "json_attributes_topic": at.topics.camera_state(at.camera),
        },
        fields={
            "device_class": "problem",
            "value_template": "{{ 'ON' if value_json.problem else 'OFF' }}",
            "json_attributes_template": "{{ {'reason': value_json.problem} | tojson }}",
        },
        needs=Needs.SERVICE,
        category="diagnostic",
    ),
    Entity(
        platform="sensor",
        key="fps",
        name="Frame rate",
        topics=_state,
        fields={
            "value_template": "{{ value_json.fps }}",
            "unit_of_measurement": "fps",
            "state_class": "measurement",
            "suggested_display_precision": 1,
            "icon": "mdi:speedometer",
        },
        category="diagnostic",
        enabled=False,
    ),
    Entity(
        platform="sensor",
        key="dropped",
        name="Dropped frames",
        topics=_state,
        fields={
            "value_template": "{{ value_json.dropped_total }}",
            "state_class": "total_increasing",
            "icon": "mdi:image-remove",
        },
        needs=Needs.SERVICE,
        category="diagnostic",
        enabled=False,
    ),
    Entity(
        platform="sensor",
        key="upload_latency",
        name="Upload latency",
        topics=_state,
        fields={
            "device_class": "duration",
            "value_template": "{{ value_json.upload_latency_s }}",
            "unit_of_measurement": "s",
            "state_class": "measurement",
            "suggested_display_precision": 2,
        },
        needs=Needs.SERVICE,
        category="diagnostic",
        enabled=False,
    ),
)

PROFILE: Final = Entity(
    platform="select",
    key="profile",
    name="Profile",
    topics=lambda at: {
        "state_topic": at.topics.camera_state(at.camera),
        "json_attributes_topic": at.topics.camera_state(at.camera),
        "command_topic": at.topics.command(at.camera, names.PROFILE),
    },
    fields={
        "options": _words(commands.PROFILES),
        "icon": "mdi:theme-light-dark",
        # There is no profile before the camera is attached: an empty result changes nothing.
        "value_template": "{{ value_json.profile.chosen | capitalize if value_json.profile }}",
        "json_attributes_template": "{{ {'in_force': (value_json.profile or {}).get('in_force')} | tojson }}",
        "command_template": "{{ value | lower }}",
    },
    needs=Needs.SERVICE,
    category="config",
)

PREVIEW: Final = Entity(
    platform="camera",
    key="preview",
    name="Preview",
    topics=lambda at: {"topic": at.topics.preview(at.camera)},
    fields={},
)

ZONE: Final = Entity(
    platform="binary_sensor",
    key="zone_{zone}",
    name="{title} motion",
    topics=lambda at: {"state_topic": at.topics.zone_motion(at.camera, at.zone)},
    fields={"device_class": "motion"},
)

HUB: Final[Sequence[Entity]] = (
    Entity(
        platform="binary_sensor",
        key="status",
        name="Status",
        topics=lambda at: {"state_topic": at.topics.status},
        fields={"device_class": "connectivity", "payload_on": "online", "payload_off": "offline"},
        needs=Needs.NOTHING,
        category="diagnostic",
    ),
    Entity(
        platform="binary_sensor",
        key="storage_problem",
        name="Storage problem",
        topics=lambda at: {"state_topic": at.topics.state, "json_attributes_topic": at.topics.state},
        fields={
            "device_class": "problem",
            "value_template": f"{{{{ 'ON' if {_STORAGE} else 'OFF' }}}}",
            "json_attributes_template": f"{{{{ {{'reason': {_STORAGE}}} | tojson }}}}",
        },
        needs=Needs.SERVICE,
        category="diagnostic",
    ),
    Entity(
        platform="sensor",
        key="upload_queue",
        name="Upload queue",
        topics=_service_state,
        fields={
            "value_template": "{{ value_json.spool.records }}",
            "unit_of_measurement": "frames",
            "state_class": "measurement",
            "icon": "mdi:tray-full",
        },
        needs=Needs.SERVICE,
        category="diagnostic",
    ),
    Entity(
        platform="sensor",
        key="version",
        name="Version",
        topics=_service_state,
        fields={"value_template": "{{ value_json.version }}", "icon": "mdi:package-up"},
        needs=Needs.SERVICE,
        category="diagnostic",
    ),
)

RESTART: Final = Entity(
    platform="button",
    key="restart_capture",
    name="Restart capture",
    topics=lambda at: {"command_topic": at.topics.restart},
    fields={"payload_press": commands.PRESS, "device_class": "restart"},
    needs=Needs.SERVICE,
    category="config",
)

UPDATE: Final = Entity(
    platform="update",
    key="update",
    name="Update",
    topics=_service_state,
    fields={
        "value_template": "{{ {'installed_version': value_json.version} | tojson }}",
        "title": ORIGIN,
    },
    needs=Needs.SERVICE,
    category="diagnostic",
)
"""The owner retains the newest release's number on a topic: this service never asks a server for it."""
