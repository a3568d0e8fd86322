"""The API of live cameras: state, frames, streams, scores, news."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiohttp import web

from async_motion.errors import CameraUnavailable, ImageError
from async_motion.web.api import models
from async_motion.web.api.routing import JPEG, ApiError, Call, Route
from async_motion.web.api.writing import write
from async_motion.web.live import KEEPALIVE_S, TooManyViewers
from async_motion.web.site import CameraFacts, Polygon, Site

POLL_S: Final = 10.0
"""A request for news is answered after this many seconds at the latest."""
BOUNDARY: Final = "async-motion-picture"

_PART: Final = f"--{BOUNDARY}\r\nContent-Type: {JPEG}\r\n\r\n".encode()
"""The boundary and the head of the next part of a stream."""

_UNBUFFERED: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Ask proxies to pass a stream on as it comes."""

_NAME: Final = {"camera": "The camera's name."}


class CamerasApi:
    """The routes about cameras."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> Iterable[Route]:
        """Return the routes."""
        yield Route(
            method="GET", path="/cameras", summary="All cameras, as they are now.",
            handler=self.list_cameras, answer=models.CameraList,
        )  # fmt: skip
        yield Route(
            method="GET", path="/cameras/{camera}", summary="One camera, as it is now.", path_words=_NAME,
            handler=self.get_camera, answer=models.Camera, errors=(404,),
        )  # fmt: skip
        yield Route(
            method="GET", path="/cameras/{camera}/picture", path_words=_NAME,
            summary="The newest judged frame, with its ETag.",
            handler=self.get_picture, answer=JPEG, query=models.ImageQuery, errors=(404, 503),
        )  # fmt: skip
        yield Route(
            method="GET", path="/cameras/{camera}/layer", path_words=_NAME,
            summary="What the detector has learned, as an image.",
            handler=self.get_layer, answer=JPEG, query=models.LayerQuery, errors=(404, 503),
        )  # fmt: skip
        yield Route(
            method="GET", path="/cameras/{camera}/stream", path_words=_NAME,
            summary="The judged frames as MJPEG.",
            handler=self.get_stream, answer="multipart/x-mixed-replace", query=models.ImageQuery,
            errors=(404, 429),
        )  # fmt: skip
        yield Route(
            method="GET", path="/cameras/{camera}/scores", path_words=_NAME,
            summary="The scores of the last minutes.",
            handler=self.get_scores, answer=models.Scores, errors=(404,),
        )  # fmt: skip
        yield Route(
            method="GET", path="/news",
            summary="Live updates as server-sent events: motion, status, event, and one camera's judged.",
            handler=self.get_news, answer="text/event-stream",
            query=models.NewsQuery, errors=(404, 429),
        )  # fmt: skip
        yield Route(
            method="GET", path="/news/after",
            summary="The same updates, for a proxy that holds streams back: those after a cursor, "
            f"or none after {POLL_S:.0f} s.",
            handler=self.get_news_after, answer=models.NewsPage,
            query=models.NewsAfterQuery, errors=(404, 429),
        )  # fmt: skip

    # ---- values, also for the pages ----

    def cameras(self) -> list[models.Camera]:
        """Return all cameras in their current state."""
        states = self._site.snapshot().get("cameras") or {}
        return [
            self._camera(name, facts, states.get(name) or {}) for name, facts in self._site.cameras().items()
        ]

    def camera(self, name: str) -> models.Camera:
        """Return one camera in its current state. Raises ApiError (404)."""
        facts = self._facts(name)
        states = self._site.snapshot().get("cameras") or {}
        return self._camera(name, facts, states.get(name) or {})

    def _facts(self, name: str) -> CameraFacts:
        facts = self._site.cameras().get(name)
        if facts is None:
            raise ApiError(404, "there is no such camera")
        return facts

    def _camera(self, name: str, facts: CameraFacts, state: dict[str, Any]) -> models.Camera:
        live = self._site.live
        status = str(state.get("status") or ("off" if not facts.enabled else "starting"))
        return models.Camera(
            name=name,
            title=facts.title,
            enabled=facts.enabled,
            status=status,
            problem=state.get("problem"),
            motion=live.in_motion(name),
            detecting=status != "paused",
            picture=live.tag(name),
            fps=state.get("fps") or 0.0,
            score=state.get("score") or 0.0,
            events_today=state.get("events_today") or 0,
            last_motion=state.get("last_motion"),
            min_area=facts.min_area,
            min_area_far=facts.min_area_far,
            max_area=facts.max_area,
            horizon=facts.horizon,
            masks=[_shape(mask) for mask in facts.masks],
            zones={
                zone: models.ZoneShape.model_validate(
                    {
                        "polygon": _shape(values.polygon),
                        "title": values.title,
                        "sensitivity": values.sensitivity,
                        "min_area": values.min_area,
                    }
                )
                for zone, values in facts.zones.items()
            },
        )

    # ---- handlers ----

    async def list_cameras(self, call: Call[Any]) -> models.CameraList:
        del call
        return models.CameraList(cameras=self.cameras())

    async def get_camera(self, call: Call[Any]) -> models.Camera:
        return self.camera(call.path["camera"])

    async def get_picture(self, call: Call[models.ImageQuery]) -> web.Response:
        name = call.path["camera"]
        self._facts(name)
        tag = self._site.live.tag(name)
        etag = f'"{tag}-{call.query.width}"'
        if tag is not None and call.request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag, "Cache-Control": "private, no-cache"})
        try:
            newest = await self._site.live.jpeg(name, call.query.width)
        except (ImageError, CameraUnavailable) as exc:
            raise ApiError(503, f"no image: {exc}") from exc
        if newest is None:
            raise ApiError(404, "there is no image yet")
        headers = {"ETag": f'"{newest.tag}-{call.query.width}"', "Cache-Control": "private, no-cache"}
        return web.Response(body=newest.jpeg, content_type=JPEG, headers=headers)

    async def get_layer(self, call: Call[models.LayerQuery]) -> web.Response:
        name = call.path["camera"]
        self._facts(name)
        try:
            jpeg = await self._site.live.layer(name, call.query.layer)
        except (ImageError, CameraUnavailable) as exc:
            raise ApiError(503, f"no image: {exc}") from exc
        if jpeg is None:
            raise ApiError(404, "there is no such image yet")
        return web.Response(body=jpeg, content_type=JPEG)

    async def get_scores(self, call: Call[Any]) -> models.Scores:
        name = call.path["camera"]
        facts = self._facts(name)
        return models.Scores(
            min_area=facts.min_area,
            scores=[
                models.ScorePoint(at=at, score=score, motion=motion, reason=reason)
                for at, score, motion, reason in self._site.live.scores(name)
            ],
        )

    async def get_stream(self, call: Call[models.ImageQuery]) -> web.StreamResponse:
        name = call.path["camera"]
        self._facts(name)
        try:
            with self._site.live.viewer():
                response = web.StreamResponse(
                    headers={"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}", **_UNBUFFERED}
                )
                await response.prepare(call.request)
                await write(response, _PART)
                async for newest in self._site.live.jpegs(name, call.query.width):
                    if newest is None:
                        if call.request.transport is None or call.request.transport.is_closing():
                            break
                        continue
                    # Chromium shows a part when it has read the head of the next one: sent with the next
                    # image, it would hold each back by one. So a part has no length; the boundary ends it.
                    await write(response, newest.jpeg + b"\r\n" + _PART)
                return response
        except TooManyViewers:
            raise ApiError(
                429, "all streams are taken (web.max_viewers)", headers={"Retry-After": "10"}
            ) from None

    async def get_news(self, call: Call[models.NewsQuery]) -> web.StreamResponse:
        camera = call.query.camera
        if camera is not None:
            self._facts(camera)
        live = self._site.live
        with self._listener():
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_UNBUFFERED})
            await response.prepare(call.request)
            cursor = call.request.headers.get("Last-Event-ID") or live.now()
            # A browser that does not receive the first event soon asks for `news/after` instead.
            await write(response, b"retry: 3000\nevent: hello\ndata: {}\n\n")
            while True:
                cursor, news = await live.news(cursor, camera, KEEPALIVE_S)
                for name, values in news[:-1]:
                    await write(response, _event(name, values))
                for name, values in news[-1:]:
                    # The last one carries the cursor: a connection that breaks before it repeats them.
                    await write(response, f"id: {cursor}\n".encode() + _event(name, values))
                if not news:
                    # This detects a listener that has left.
                    await write(response, b": still here\n\n")

    async def get_news_after(self, call: Call[models.NewsAfterQuery]) -> models.NewsPage:
        camera = call.query.camera
        if camera is not None:
            self._facts(camera)
        wait_s = POLL_S if call.query.cursor else 0.0
        with self._listener():
            cursor, news = await self._site.live.news(call.query.cursor, camera, wait_s)
        return models.NewsPage(
            cursor=cursor, news=[models.NewsItem(name=name, values=values) for name, values in news]
        )

    @contextmanager
    def _listener(self) -> Iterator[None]:
        """Hold a listener's place. Raises ApiError (429)."""
        try:
            with self._site.live.listener():
                yield
        except TooManyViewers:
            raise ApiError(
                429, "all streams are taken (web.max_viewers)", headers={"Retry-After": "10"}
            ) from None


def _event(name: str, values: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()


def _shape(polygon: Polygon) -> list[list[float]]:
    return [[x, y] for x, y in polygon]
