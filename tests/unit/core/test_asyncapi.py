"""The AsyncAPI document, and the JSON Schemas from which it is built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from async_motion.cli.schema import NAMES
from async_motion.core import commands
from async_motion.core.asyncapi import SCHEMAS, document
from async_motion.core.names import SETTINGS, Topics
from tests.support.service import ROOT

FILES = {name: json.loads((ROOT / f"async_motion/schemas/{name}-1.json").read_text()) for name in NAMES}
NEWER_THAN_DRAFT_7 = {
    "$defs",
    "prefixItems",
    "dependentSchemas",
    "dependentRequired",
    "unevaluatedProperties",
}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document({name: FILES[name] for name in SCHEMAS}, version="1.2.3")


def walk(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for each in schema:
            yield from walk(each, where)
    elif isinstance(schema, dict):
        yield where, schema
        for name, value in schema.get("properties", {}).items():
            yield from walk(value, f"{where}.{name}")
        for key in ("items", "anyOf", "additionalProperties", "propertyNames"):
            yield from walk(schema.get(key), where)


@pytest.mark.parametrize("name", NAMES)
def test_every_property_is_described(name: str) -> None:
    for where, schema in walk(FILES[name], name):
        for key, value in schema.get("properties", {}).items():
            assert value.get("description", "").endswith((".", "`.")), f"{where}.{key}"


@pytest.mark.parametrize("name", NAMES)
def test_each_example_follows_its_schema(name: str) -> None:
    schema = FILES[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["examples"]
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for example in schema["examples"]:
        validator.validate(example)
        assert set(example) <= set(schema["properties"])


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_of_2020_says_the_same_in_draft_7(name: str, made: dict[str, Any]) -> None:
    for where, schema in walk(FILES[name], name):
        assert not NEWER_THAN_DRAFT_7 & set(schema), where
    payload = made["components"]["messages"][name]["payload"]
    jsonschema.Draft7Validator.check_schema(payload)
    for example in FILES[name]["examples"]:
        jsonschema.Draft7Validator(payload).validate(example)
        for required in FILES[name]["required"]:
            less = {key: value for key, value in example.items() if key != required}
            assert not jsonschema.Draft7Validator(payload).is_valid(less)


def test_every_reference_leads_somewhere(made: dict[str, Any]) -> None:
    def refs(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            for each in node.values():
                yield from refs(each)
        elif isinstance(node, list):
            for each in node:
                yield from refs(each)

    found = list(refs(made))
    assert found
    for ref in found:
        at: Any = made
        for part in ref.removeprefix("#/").split("/"):
            at = at[part]


def test_the_settings_are_those_that_can_be_changed(made: dict[str, Any]) -> None:
    topics = Topics("{base_topic}/{instance}")
    received = {
        made["channels"][name]["address"]: made["channels"][name]["messages"]
        for name, operation in made["operations"].items()
        if operation["action"] == "receive"
    }
    for setting in (*SETTINGS, "profile", "snapshot"):
        (message,) = received[topics.command("{camera}", setting)]
        for example in made["components"]["messages"][message]["examples"]:
            commands.parse(setting, example["payload"].encode())
    assert topics.restart in received
    assert topics.reload in received


def test_payloads_of_text_are_distinguished(made: dict[str, Any]) -> None:
    messages = made["components"]["messages"]
    threshold = messages["threshold_command"]["payload"]
    for good in ("0", "24", "12.5", "auto"):
        jsonschema.validate(good, threshold)
    for wrong in ("", "high", "24 ", "autopilot"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, threshold)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("maybe", messages["availability"]["payload"])
