"""Build the OpenAPI 3.1 document of the API from its routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from async_motion.web.api.routing import JSON, ErrorDetail, Route
from async_motion.web.auth import Role

_REASONS: Final[Mapping[int, str]] = {
    400: "The request is not valid.",
    401: "No token, or a wrong one.",
    403: "The role does not suffice, or the request comes from another origin.",
    404: "It does not exist.",
    408: "The body did not come in time.",
    409: "It has changed in the meantime, or cannot be done now.",
    410: "It no longer exists.",
    413: "The body is too large.",
    415: "The body has another content type.",
    422: "The settings would not be valid; `problems` says why.",
    429: "Too many wrong tokens, or too many viewers.",
    502: "The store failed.",
    503: "A part that is needed is unavailable; try again later.",
}


def document(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """Return the document. The server's URL is relative, so that it is valid behind any prefix."""
    routes = list(routes)
    models: set[type[BaseModel]] = {ErrorDetail, *(model for route in routes for model in _models(route))}
    ordered: list[type[BaseModel]] = sorted(models, key=lambda model: model.__name__)
    template = "#/components/schemas/{model}"
    _, definitions = models_json_schema(
        [(model, "serialization") for model in ordered], ref_template=template
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "async_motion",
            "version": version,
            "description": "The API of the pages: cameras, events, settings and health.",
        },
        "servers": [{"url": "../v1"}],
        "security": [{"bearer": []}, {"cookie": []}, {}],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "async_motion"},
            },
        },
    }


def _models(route: Route) -> Iterable[type[BaseModel]]:
    if route.body is not None:
        yield route.body
    if isinstance(route.answer, type):
        yield route.answer


def _operation(route: Route) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", route.path)
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": route.path_words.get(name, ""),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in names
    ]
    schema = route.query.model_json_schema(mode="validation")
    for name, words in schema.get("properties", {}).items():
        inner = {key: value for key, value in words.items() if key not in ("title", "description")}
        choices = [one for one in inner.get("anyOf", []) if one.get("type") != "null"]
        if len(choices) == 1:
            # A query parameter can be absent but never null: drop null from its type.
            inner = {**{k: v for k, v in inner.items() if k not in ("anyOf", "default")}, **choices[0]}
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", []),
                "description": words.get("description", ""),
                "schema": inner,
            }
        )
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": [route.path.split("/")[1]],
        "x-role": Role(route.role).name.lower(),
        "parameters": parameters,
        "responses": {**_success(route), **{str(status): _failure(status) for status in statuses(route)}},
    }
    if route.body is not None:
        reference = {"$ref": f"#/components/schemas/{route.body.__name__}"}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": reference}}}
    return operation


def statuses(route: Route) -> list[int]:
    """Return the error statuses that a route may answer with, sorted."""
    body = (408, 413, 415) if route.body is not None else ()
    return sorted({400, 401, 403, 429, *body, *route.errors})


def _success(route: Route) -> dict[str, Any]:
    if route.answer is None:
        return {"204": {"description": "Done."}}
    if isinstance(route.answer, str):
        media = {route.answer: {"schema": {"type": "string"}}}
        found = {"200": {"description": "The content.", "content": media}}
        return {**found, "304": {"description": "Not changed."}} if route.answer == "image/jpeg" else found
    reference = {"$ref": f"#/components/schemas/{route.answer.__name__}"}
    return {"200": {"description": "The answer.", "content": {JSON: {"schema": reference}}}}


def _failure(status: int) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{ErrorDetail.__name__}"}
    return {"description": _REASONS[status], "content": {JSON: {"schema": reference}}}
