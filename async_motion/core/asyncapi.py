"""The AsyncAPI 3 document of what the service publishes and accepts, made from the JSON Schemas and `Topics`.

Channels are named by what they carry. The parameters of an address are those of `names`; `base_topic` may
have several levels. Actions are from the service's point of view: it sends what it publishes, and receives
commands.

Payloads are JSON, JPEG or plain text. A JSON Schema is included as draft-07, which every parser knows; ours
use nothing newer. Its examples become those of the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from async_motion.core import commands, names
from async_motion.core.names import DiscoveryTopics, Topics
from async_motion.core.options import BASE_TOPIC, DISCOVERY_PREFIX, MQTT_PORT

SCHEMAS: Final = ("frame", "event", "state", "camera_state")
"""The JSON Schemas of published payloads. The others describe objects in the bucket."""

_TOPICS: Final = Topics("{base_topic}/{instance}")
_FRIGATE: Final = Topics("{frigate_topic}")
_DISCOVERY: Final = DiscoveryTopics("{discovery_prefix}", "{identity}")
_NAME: Final = names.NAME.pattern

_PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "base_topic": {
        "description": "`mqtt.base_topic`. It may have several levels.",
        "default": BASE_TOPIC,
    },
    "instance": {"description": f"`instance`; by default the host's name. {_NAME}"},
    "camera": {"description": f"The name of a camera. {_NAME}"},
    "zone": {"description": f"The name of a zone of the camera. {_NAME}"},
    "frigate_topic": {"description": "`mqtt.frigate_topic`, where it is set.", "examples": ["frigate"]},
    "discovery_prefix": {"description": "`mqtt.discovery.prefix`.", "default": DISCOVERY_PREFIX},
    "identity": {"description": "The instance; with six hex digits of its base where the name is taken."},
}

_TEXT: Final = "text/plain"
_JSON: Final = "application/json"
_JPEG: Final = "image/jpeg"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """One kind of payload."""

    title: str
    content_type: str
    payload: dict[str, Any]
    examples: Sequence[Any] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channel:
    """One kind of topic. `retained`: the broker keeps its last message. `receives`: it is a command."""

    address: str
    message: str
    about: str
    retained: bool = True
    receives: bool = False


def _choice(title: str, *values: str) -> _Message:
    payload = {"type": "string", "enum": list(values)}
    return _Message(title=title, content_type=_TEXT, payload=payload, examples=values)


def _text(title: str, pattern: str, example: str) -> _Message:
    payload = {"type": "string", "pattern": pattern}
    return _Message(title=title, content_type=_TEXT, payload=payload, examples=(example,))


_NUMBER = r"^\d+(\.\d+)?(e[+-]?\d+)?$"
_LOW, _HIGH = (f"{bound:g}" for bound in commands.THRESHOLD_RANGE)
_PROFILES = tuple(profile for profile in commands.PROFILES if profile != commands.AUTO)

_MESSAGES: Final[Mapping[str, _Message]] = {
    "availability": _choice("Whether it is connected", "online", "offline"),
    "on_off": _choice("Motion", commands.ON, commands.OFF),
    "image": _Message(title="A JPEG", content_type=_JPEG, payload={"type": "string", "format": "binary"}),
    "detection": _choice("Whether the camera is watched", commands.ON, commands.OFF),
    "sensitivity": _choice("The sensitivity", *commands.SENSITIVITIES),
    "threshold": _text(f"Grey levels, {_LOW} to {_HIGH}; 0 is automatic", _NUMBER, "24"),
    "threshold_command": _text(
        f"Grey levels, {_LOW} to {_HIGH}; 0 or auto: automatic", rf"{_NUMBER}|^auto$", commands.AUTO
    ),
    "min_area": _text("Percent of the image, 0 to 100", _NUMBER, "0.5"),
    "profile": _choice("Which settings are in force", *_PROFILES),
    "profile_command": _choice("Which settings to use", *commands.PROFILES),
    "press": _choice("A button", commands.PRESS),
    "memory": _Message(
        title="What a camera's owner remembers, for the next one; not for other readers",
        content_type=_JSON,
        payload={"type": "object"},
    ),
    "discovery": _Message(
        title="A device of Home Assistant, in its format for MQTT discovery",
        content_type=_JSON,
        payload={"type": "object", "required": ["device", "origin", "components"]},
    ),
}

_CHANNELS: Final[Mapping[str, _Channel]] = {
    "status": _Channel(
        address=_TOPICS.status,
        message="availability",
        about="The service. `offline` is also its last will.",
    ),
    "state": _Channel(address=_TOPICS.state, message="state", about="The service's health and counters."),
    "camera_status": _Channel(
        address=_TOPICS.camera_status("{camera}"),
        message="availability",
        about="Whether the camera delivers frames.",
    ),
    "motion": _Channel(
        address=_TOPICS.motion("{camera}"),
        message="on_off",
        about="Whether there is motion, at once, before any frame is stored.",
    ),
    "zone_motion": _Channel(
        address=_TOPICS.zone_motion("{camera}", "{zone}"),
        message="on_off",
        about="Whether there is motion in a zone.",
    ),
    "frame": _Channel(
        address=_TOPICS.frame("{camera}"),
        message="frame",
        about="One stored frame: its key can be fetched at once. Drop repeats by `frame_id`.",
        retained=False,
    ),
    "event": _Channel(
        address=_TOPICS.event("{camera}"),
        message="event",
        about="The phases of an event. `end` comes after its last frame.",
        retained=False,
    ),
    "snapshot": _Channel(
        address=_TOPICS.snapshot("{camera}"),
        message="image",
        about="The best frame so far of the newest event, made smaller.",
    ),
    "snapshot_attributes": _Channel(
        address=_TOPICS.snapshot_attributes("{camera}"),
        message="frame",
        about="The announcement of the frame that `snapshot` shows next.",
    ),
    "snapshot_frame": _Channel(
        address=_TOPICS.snapshot_frame("{camera}"),
        message="frame",
        about="The announcement of the frame that `snapshot` shows.",
    ),
    "camera_state": _Channel(
        address=_TOPICS.camera_state("{camera}"),
        message="camera_state",
        about="The camera's health and counters.",
    ),
    "memory": _Channel(
        address=_TOPICS.memory("{camera}"),
        message="memory",
        about="In a fleet: the commands in force and today's count, for the camera's next owner.",
    ),
    "preview": _Channel(
        address=_TOPICS.preview("{camera}"),
        message="image",
        about="The newest frame, every `mqtt.discovery.preview_every`.",
    ),
    **{
        setting: _Channel(
            address=_TOPICS.setting("{camera}", setting), message=setting, about=f"`{setting}` in force."
        )
        for setting in (*names.SETTINGS, names.PROFILE)
    },
    **{
        f"set_{setting}": _Channel(
            address=_TOPICS.command("{camera}", setting),
            message=message,
            about=f"A command: {about}. One that is retained is ignored.",
            retained=False,
            receives=True,
        )
        for setting, message, about in (
            ("detection", "detection", "watch the camera, or do not"),
            ("sensitivity", "sensitivity", "change the sensitivity"),
            ("threshold", "threshold_command", "change the threshold"),
            ("min_area", "min_area", "change the smallest area that counts"),
            (names.PROFILE, "profile_command", "choose the settings of day or night"),
            (commands.SNAPSHOT, "press", "store and announce a frame now"),
        )
    },
    "restart": _Channel(
        address=_TOPICS.restart,
        message="press",
        about="A command: reconnect every camera.",
        retained=False,
        receives=True,
    ),
    "reload": _Channel(
        address=_TOPICS.reload,
        message="press",
        about="A command: read the settings again.",
        retained=False,
        receives=True,
    ),
    "frigate_motion": _Channel(
        address=_FRIGATE.motion("{camera}"),
        message="on_off",
        about="The same as `motion`, for clients of Frigate; only where `mqtt.frigate_topic` is set.",
    ),
    "discovery_service": _Channel(
        address=_DISCOVERY.hub,
        message="discovery",
        about="The service as a device of Home Assistant.",
    ),
    "discovery_camera": _Channel(
        address=_DISCOVERY.camera("{camera}"),
        message="discovery",
        about="A camera as a device of Home Assistant.",
    ),
    "home_assistant_status": _Channel(
        address="{discovery_prefix}/status",
        message="availability",
        about="Home Assistant has come up: its devices are published again.",
        retained=False,
        receives=True,
    ),
}


def document(schemas: Mapping[str, Mapping[str, Any]], *, version: str) -> dict[str, Any]:
    """Return the document. `schemas` has a JSON Schema for each name in `SCHEMAS`."""
    messages = dict(_MESSAGES) | {name: _of_schema(schemas[name]) for name in SCHEMAS}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:async_motion:mqtt",
        "info": {
            "title": "async_motion",
            "version": version,
            "description": (
                "Turns cameras into motion events over MQTT. QoS 1 throughout: messages may repeat. Readers "
                "ignore fields they do not know; a breaking change raises the number in `schema`. An empty "
                "message on a retained topic removes it: its camera is no longer in the settings."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": _JSON,
        "servers": {
            "broker": {
                "host": "{host}:{port}",
                "protocol": "mqtt",
                "description": "`mqtt` in the settings; `secure-mqtt` where it has TLS. MQTT 3.1.1 or 5.",
                "variables": {"host": {"default": "localhost"}, "port": {"default": str(MQTT_PORT)}},
            }
        },
        "channels": {name: _channel(channel) for name, channel in _CHANNELS.items()},
        "operations": {name: _operation(name, channel) for name, channel in _CHANNELS.items()},
        "components": {
            "messages": {name: _message(name, message) for name, message in sorted(messages.items())},
            "parameters": dict(_PARAMETERS),
        },
    }


def _of_schema(schema: Mapping[str, Any]) -> _Message:
    left_out = ("$schema", "$id", "examples")
    payload = {key: value for key, value in schema.items() if key not in left_out}
    return _Message(
        title=schema["title"], content_type=_JSON, payload=payload, examples=schema.get("examples", ())
    )


def _message(name: str, message: _Message) -> dict[str, Any]:
    item: dict[str, Any] = {
        "name": name,
        "title": message.title,
        "contentType": message.content_type,
        "payload": message.payload,
    }
    if message.examples:
        item["examples"] = [
            {"name": f"{name}-{number}", "payload": example}
            for number, example in enumerate(message.examples, 1)
        ]
    return item


def _channel(channel: _Channel) -> dict[str, Any]:
    item: dict[str, Any] = {
        "address": channel.address,
        "description": channel.about,
        "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
    }
    used = [name for name in _PARAMETERS if f"{{{name}}}" in channel.address]
    return item | {"parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in used}}


def _operation(name: str, channel: _Channel) -> dict[str, Any]:
    return {
        "action": "receive" if channel.receives else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": channel.about.split(". ")[0].removesuffix(".") + ".",
        "messages": [{"$ref": f"#/channels/{name}/messages/{channel.message}"}],
        "bindings": {"mqtt": {"qos": 1, "retain": channel.retained, "bindingVersion": "0.2.0"}},
    }
