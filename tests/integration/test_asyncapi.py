"""The AsyncAPI document: valid for the official parser, and correct for the running service."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from tests.support import mqtt
from tests.support.asyncapi import judge
from tests.support.ports import free_port
from tests.support.service import ROOT, Service, clean_environment
from tests.support.wait import eventually

TOPICS = {"base_topic": "site/async_motion", "frigate_topic": "frigate", "discovery_prefix": "homeassistant"}


@pytest.fixture(scope="module")
def text() -> str:
    command = [sys.executable, "-m", "async_motion", "schema", "--asyncapi"]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.fixture(scope="module")
def document(text: str) -> dict[str, Any]:
    said: dict[str, Any] = json.load(io.StringIO(text))
    return said


def test_the_official_parser_takes_it(text: str) -> None:
    said = judge(text)
    assert said["valid"], said
    # Ignore the hint that a newer version of AsyncAPI exists.
    others = [each for each in said["diagnostics"] if each["code"] != "asyncapi-latest-version"]
    assert not others


def test_the_parser_would_refuse_what_is_wrong(document: dict[str, Any]) -> None:
    wrong = json.loads(json.dumps(document))
    wrong["operations"]["frame"]["action"] = "shout"
    assert any(each["severity"] == 0 for each in judge(json.dumps(wrong))["diagnostics"])


@dataclass(frozen=True)
class Channel:
    """One channel of the document, and a pattern for its topics."""

    name: str
    pattern: re.Pattern[str]
    message: dict[str, Any]
    retained: bool

    def check(self, payload: bytes) -> None:
        kind = self.message["contentType"]
        if kind == "image/jpeg":
            assert cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR) is not None
        elif kind == "application/json":
            jsonschema.validate(json.loads(payload), closed(self.message["payload"]))
        else:
            assert kind == "text/plain"
            jsonschema.validate(payload.decode(), self.message["payload"])


def closed(schema: Any) -> Any:
    """Return a schema that allows only the properties that it names: payloads hold nothing undocumented."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("required") != ["device", "origin", "components"]:
        made.setdefault("additionalProperties", False)
    return made


OF_A_FLEET = {"memory"}
"""Channels that one host alone does not use; `tests/fleet` reads them."""


def channels(document: dict[str, Any], action: str) -> Iterator[Channel]:
    for name, operation in document["operations"].items():
        if operation["action"] != action:
            continue
        channel = document["channels"][name]
        (message,) = channel["messages"]
        parts = re.split(r"\{(\w+)\}", channel["address"])
        parts[1::2] = [re.escape(TOPICS[name]) if name in TOPICS else "[^/]+" for name in parts[1::2]]
        yield Channel(
            name=name,
            pattern=re.compile("".join(parts)),
            message=document["components"]["messages"][message],
            retained=operation["bindings"]["mqtt"]["retain"],
        )


def settings(broker_port: int) -> dict[str, Any]:
    return {
        "instance": "edge1",
        "mqtt": {
            "host": "127.0.0.1",
            "port": broker_port,
            "base_topic": TOPICS["base_topic"],
            "frigate_topic": TOPICS["frigate_topic"],
            "state_every": "2s",
            "discovery": {"preview_every": "2s"},
        },
        "web": {"port": free_port()},
        "cameras": {
            "porch": {
                "source": "demo:",
                "detect": {"zones": {"left": {"polygon": [[0, 0], [0.6, 0], [0.6, 1], [0, 1]]}}},
                "profiles": {"night": {"sensitivity": "low"}},
                "event": {"off_delay": "1s"},
            }
        },
    }


@pytest.mark.timeout(240)
def test_everything_that_is_published_is_in_it(document: dict[str, Any], tmp_path: Path) -> None:
    sent, received = list(channels(document, "send")), list(channels(document, "receive"))
    with (
        mqtt.Mosquitto(tmp_path / "broker") as broker,
        mqtt.Recorder(broker.port, ("#",)) as recorder,
        Service(settings(broker.port), tmp_path / "service") as service,
    ):
        recorder.wait(lambda m: m.topic.endswith("/event") and m.json()["type"] == "end", within_s=120)
        seen = {channel.name: 0 for channel in sent if channel.name not in OF_A_FLEET}

        def matched() -> bool:
            for message in list(recorder.messages):
                for channel in sent:
                    if channel.name in seen:
                        seen[channel.name] += channel.pattern.fullmatch(message.topic) is not None
            return all(seen.values())

        eventually(matched, within_s=60, what="a message on every channel")
        # Send each command as in the document's example.
        for channel in received:
            address = document["channels"][channel.name]["address"]
            if address.endswith("/set"):
                topic = address.format(**TOPICS, instance="edge1", camera="porch")
                for example in channel.message["examples"]:
                    recorder.publish(topic, example["payload"])
        recorder.wait(lambda m: m.topic.endswith("/threshold") and m.text == "0")
        retained = mqtt.retained(broker.port)
        assert not [line for line in service.messages() if "ignored" in line or "refused" in line]
    marks = ("recorder/",)  # of `mqtt.retained`
    ours = [m for m in recorder.messages if not m.topic.endswith("/set") and not m.topic.startswith(marks)]
    for message in ours:
        fitting = [channel for channel in sent if channel.pattern.fullmatch(message.topic)]
        assert len(fitting) == 1, f"{message.topic}: {[channel.name for channel in fitting]}"
        assert message.qos == 1
        fitting[0].check(message.payload)
        if message.topic in retained:
            assert fitting[0].retained, message.topic
        else:
            assert not fitting[0].retained, message.topic
