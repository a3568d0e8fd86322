"""The API: every route is documented, and its answers match the document."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from async_motion.web.api import Api
from async_motion.web.api.openapi import document
from async_motion.web.api.routing import BASE
from tests.unit.web.kit import Stage, detection, frame, get, serving
from tests.unit.web.test_settings import FakeEditor
from tests.unit.web.test_upkeep import FakeUpkeep


def described() -> dict[str, Any]:
    return document(Api(Stage().site()).routes, version="0.1.0")


def test_every_route_stands_in_the_document() -> None:
    paths = described()["paths"]
    for route in Api(Stage().site()).routes:
        operation = paths[route.path][route.method.lower()]
        assert operation["summary"].endswith(".")
        assert operation["x-role"] in ("viewer", "admin")
        for parameter in operation["parameters"]:
            assert parameter["description"], (route.path, parameter["name"])
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_the_schemas_are_schemas() -> None:
    for schema in described()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_answers_are_as_documented() -> None:
    stage = Stage()
    stage.editor, stage.upkeep = FakeEditor(), FakeUpkeep()
    api = described()
    async with serving(stage) as session:
        stage.live.judged("porch", frame(), detection())
        for route in Api(stage.site()).routes:
            if (
                route.method != "GET"
                or not isinstance(route.answer, type)
                or "{event" in route.path
                or "{number" in route.path
            ):
                continue
            status, text = await get(session, BASE + route.path.replace("{camera}", "porch"))
            assert status == 200, route.path
            schema = {
                "$ref": f"#/components/schemas/{route.answer.__name__}",
                "components": api["components"],
            }
            jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    "query", ["width=0", "width=x", "width=1&width=2", "nix=1", "width=99999999999999999999"]
)
async def test_a_wrong_query_is_reported(query: str) -> None:
    async with serving() as session:
        status, text = await get(session, f"/api/v1/cameras/porch/picture?{query}")
        assert status == 400
        assert json.loads(text)["error"]


async def test_methods_that_are_not_there_are_405_with_what_is() -> None:
    async with serving() as session, session.delete("/api/v1/cameras") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
