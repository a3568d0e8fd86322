"""The files shipped for Home Assistant: the dashboard and the blueprints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from async_motion.core.names import Topics
from async_motion.home_assistant.entities import CameraSite, ServiceInfo
from async_motion.home_assistant.payloads import camera_payload, hub_payload
from tests.unit.home_assistant.test_payloads import PLATFORMS

TOPICS = Topics("async_motion/edge1")
SITE = ServiceInfo(instance="edge1", version="0.1.0", topics=TOPICS, preview=True)

SHIPPED = Path(__file__).parents[3] / "config" / "homeassistant"
BLUEPRINTS = sorted(SHIPPED.glob("blueprints/automation/async_motion/*.yaml"))


class BlueprintLoader(yaml.SafeLoader):
    """Loads `!input name` as ("!input", name)."""


def construct_input(loader: BlueprintLoader, node: yaml.ScalarNode) -> tuple[str, object]:
    return "!input", loader.construct_scalar(node)


BlueprintLoader.add_constructor("!input", construct_input)


def strings_in(node: Any) -> Iterator[Any]:
    """Yield every leaf of a YAML tree."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from strings_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings_in(value)
    else:
        yield node


def test_the_dashboard_names_entities_that_exist_and_built_in_cards() -> None:
    dashboard = yaml.safe_load((SHIPPED / "dashboard.yaml").read_text("utf-8"))
    camera = camera_payload(SITE, CameraSite(name="porch", zones=("drive",)))
    components = [*hub_payload(SITE)["components"].values(), *camera["components"].values()]
    exist = {component.get("default_entity_id") for component in components}
    off = {c.get("default_entity_id") for c in components if c.get("enabled_by_default") is False}
    pattern = re.compile(rf"\b(?:{'|'.join(PLATFORMS)})\.[a-z0-9_]+")
    named = {hit for leaf in strings_in(dashboard) for hit in pattern.findall(str(leaf))}
    assert len(named) > 10
    assert named <= exist - off
    assert not [leaf for leaf in strings_in(dashboard) if str(leaf).startswith("custom:")]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_uses_the_inputs_that_it_asks_for(path: Path) -> None:
    blueprint = yaml.load(path.read_text("utf-8"), BlueprintLoader)
    head = blueprint.pop("blueprint")
    assert head["domain"] == "automation"
    used = {leaf[1] for leaf in strings_in(blueprint) if isinstance(leaf, tuple)}
    assert used == set(head["input"])
    assert {"triggers", "conditions", "actions"} <= set(blueprint)


def test_there_are_blueprints() -> None:
    assert {path.stem for path in BLUEPRINTS} == {"notify_with_picture", "siren_while_armed", "daily_digest"}
