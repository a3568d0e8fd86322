"""Routes of the API: each is declared once, then served and documented from that declaration."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from async_motion.web.auth import Role, Visitor
from async_motion.web.connections import BODY_S

BASE: Final = "/api/v1"
VISITOR: Final = web.RequestKey("visitor", Visitor)

JPEG: Final = "image/jpeg"
JSON: Final = "application/json"

Query = TypeVar("Query", bound=BaseModel)


class Model(BaseModel):
    """A value of the API: frozen, and without keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Nothing(Model):
    """A query or a body that holds nothing."""


class ErrorDetail(Model):
    """Why a request was not carried out; `problems` are the lines of settings that are wrong."""

    error: str
    problems: list[str] = []


class ApiError(Exception):
    """A request failed: its HTTP status, a message for people, and headers of the response."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        problems: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.problem = ErrorDetail(error=error, problems=list(problems))
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Query]):
    """One request that has passed the guard and the schemas of its route."""

    request: web.Request
    visitor: Visitor
    path: Mapping[str, str]
    query: Query
    body: Any


Handler = Callable[[Call[Any]], Awaitable[BaseModel | web.StreamResponse | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation. `path` is below `BASE`; `path_words` describes its parameters.

    `query` and `body` are the models of its input; `body` None: no body is accepted. `answer` is a model or a
    media type; None: 204. `errors` are the statuses besides 400, 401, 403 and 429, and with a body 408, 413
    and 415. `max_body` is in bytes.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: type[BaseModel] | str | None
    role: Role = Role.VIEWER
    query: type[BaseModel] = Nothing
    body: type[BaseModel] | None = None
    path_words: Mapping[str, str] = field(default_factory=dict)
    errors: Sequence[int] = ()
    max_body: int = 64 * 1024

    @property
    def operation_id(self) -> str:
        """The operationId: the handler's name in camel case."""
        words = self.handler.__name__.strip("_").split("_")
        return words[0] + "".join(word.title() for word in words[1:])

    def install(self, app: web.Application) -> None:
        """Add the route to the application."""
        app.router.add_route(self.method, BASE + self.path, self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        query = self._query(request)
        body = await self._body(request)
        call = Call(
            request=request, visitor=request[VISITOR], path=dict(request.match_info), query=query, body=body
        )
        answer = await self.handler(call)
        if answer is None:
            return web.Response(status=204)
        if isinstance(answer, BaseModel):
            return web.Response(text=answer.model_dump_json(), content_type=JSON, charset="utf-8")
        return answer

    def _query(self, request: web.Request) -> BaseModel:
        given: dict[str, str] = {}
        for key, value in request.query.items():
            if key in given:
                raise ApiError(400, f"{key}: given twice, expected once")
            given[key] = value
        try:
            return self.query.model_validate(given)
        except ValidationError as exc:
            raise ApiError(400, _words(exc)) from None

    async def _body(self, request: web.Request) -> BaseModel | None:
        if self.body is None:
            if request.can_read_body:
                raise ApiError(400, "expected no body")
            return None
        if request.content_type != JSON:
            raise ApiError(415, f"expected a body of {JSON}")
        data = await read_body(request, self.max_body)
        try:
            return self.body.model_validate(json.loads(data, parse_constant=_no_number), strict=True)
        except ValidationError as exc:
            raise ApiError(400, _words(exc)) from None
        except (ValueError, RecursionError):
            raise ApiError(400, "the body cannot be read, expected JSON") from None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


async def read_body(request: web.Request, max_body: int) -> bytes:
    """Return a request's body. Raises ApiError: 408 after `BODY_S`, 413 beyond `max_body` bytes."""
    try:
        async with asyncio.timeout(BODY_S):
            return await _read(request, max_body)
    except TimeoutError:
        raise ApiError(408, f"expected the body within {BODY_S:g} s") from None


async def _read(request: web.Request, max_body: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > max_body:
            raise ApiError(413, f"the body is too large, expected at most {max_body} bytes")
        parts.append(part)
    return b"".join(parts)


def _words(exc: ValidationError) -> str:
    """Return the first problem, without the input."""
    first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
