"""The API of upkeep: records that were set aside and may be retried, and the log's last warnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from async_motion.errors import SpoolError
from async_motion.web import upkeep as upkeeps
from async_motion.web.api import models
from async_motion.web.api.routing import JPEG, ApiError, Call, Route
from async_motion.web.auth import Role
from async_motion.web.site import Site


class UpkeepApi:
    """The routes about records that were set aside, and about the log; for admins alone."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> Iterable[Route]:
        """Return the routes."""
        yield Route(
            method="GET", path="/spool/aside", role=Role.ADMIN,
            summary="Frames that were set aside, and why.",
            handler=self.list_aside, answer=models.AsideFrames, errors=(503,),
        )  # fmt: skip
        yield Route(
            method="GET", path="/spool/aside/{number}", role=Role.ADMIN,
            summary="The image of such a frame.", path_words={"number": "Its number."},
            handler=self.get_aside, answer=JPEG, errors=(404, 503),
        )  # fmt: skip
        yield Route(
            method="POST", path="/spool/retry", summary="Retry frames that were set aside.",
            role=Role.ADMIN, handler=self.retry_aside, answer=models.Retried, body=models.RetryBody,
            errors=(503,),
        )  # fmt: skip
        yield Route(
            method="GET", path="/log", summary="The last 200 lines of the log at warning and above.",
            role=Role.ADMIN, handler=self.get_log, answer=models.Log, errors=(503,),
        )  # fmt: skip

    @property
    def upkeep(self) -> upkeeps.Upkeep:
        """The upkeep. Raises ApiError (503) if there is none."""
        if self._site.upkeep is None:
            raise ApiError(503, "there is no spool to look at")
        return self._site.upkeep

    async def aside(self) -> list[upkeeps.SetAside]:
        """Return the records that were set aside. Raises ApiError (503)."""
        try:
            return await self.upkeep.set_aside()
        except SpoolError as exc:
            raise ApiError(503, f"the spool cannot be looked at: {exc}") from exc

    async def list_aside(self, call: Call[Any]) -> models.AsideFrames:
        del call
        return models.AsideFrames(
            frames=[
                models.AsideFrame(
                    number=one.number, camera=one.camera, event_id=one.event_id, captured_at=one.captured_at,
                    object_key=one.object_key, size=one.size, reason=one.reason,
                )
                for one in await self.aside()
            ]
        )  # fmt: skip

    async def get_aside(self, call: Call[Any]) -> web.Response:
        number = call.path["number"]
        if not (number.isascii() and number.isdigit() and len(number) < 16):
            raise ApiError(404, "there is no such frame")
        try:
            jpeg = await self.upkeep.read_jpeg(int(number))
        except SpoolError as exc:
            raise ApiError(503, f"the spool cannot be looked at: {exc}") from exc
        if jpeg is None:
            raise ApiError(404, "there is no such frame")
        return web.Response(body=jpeg, content_type=JPEG)

    async def retry_aside(self, call: Call[Any]) -> models.Retried:
        try:
            return models.Retried(count=await self.upkeep.retry(call.body.numbers))
        except SpoolError as exc:
            raise ApiError(503, f"the spool cannot be changed: {exc}") from exc

    async def get_log(self, call: Call[Any]) -> models.Log:
        del call
        return models.Log(
            lines=[
                models.LogEntry(at=line.at, level=line.level, logger=line.logger, text=line.text)
                for line in self.upkeep.warnings()
            ]
        )
