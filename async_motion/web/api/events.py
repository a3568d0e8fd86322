"""The API of stored events: lists, frames, thumbnails, archives, clips, links, deletion."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from async_motion.core.index import event_started
from async_motion.core.model import FrameInfo
from async_motion.core.names import EVENT_ID, frame_key, is_name
from async_motion.core.payloads import iso
from async_motion.errors import ImageError, StoreRefused, StoreUnavailable, UnreadableObject
from async_motion.retrieval import Event
from async_motion.retrieval.requests import together
from async_motion.web.api import models
from async_motion.web.api.routing import JPEG, ApiError, Call, Route
from async_motion.web.api.writing import CHUNK, download, finish
from async_motion.web.archive import Archive
from async_motion.web.auth import Role
from async_motion.web.site import Site
from async_motion.web.thumbnails import Read
from async_motion.web.zipping import zipped

MAX_DAY: Final = 20_000
"""Maximum events of one day that are read."""
MAX_FRAME: Final = 32 * 2**20
"""Maximum bytes of a stored frame that is served."""
MAX_CLIP_FRAMES: Final = 3_000
CLIPS_AT_ONCE: Final = 1
"""Clips that are made concurrently."""
MAX_CLIPS: Final = 8
"""Clips that wait, are made or are fetched: each takes room on the disk."""
MAX_ARCHIVES: Final = 8
"""Archives that are fetched: each holds a frame in memory, and a connection to the store."""

_EVENT: Final = {"camera": "The camera's name.", "event_id": "The event's id."}
_FRAME: Final = {**_EVENT, "seq": "The frame's place in its event, from 0."}


class Downloads:
    """Bounds how many downloads of a kind are under way: each may last as long as its client reads."""

    def __init__(self, kind: str, max_count: int) -> None:
        self._kind = kind
        self._left = max_count

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one of the places. Raises ApiError (503)."""
        if not self._left:
            raise ApiError(503, f"other {self._kind} are being fetched", headers={"Retry-After": "10"})
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


class EventsApi:
    """The routes about stored events."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._making = asyncio.Semaphore(CLIPS_AT_ONCE)
        self._clips = Downloads("clips", MAX_CLIPS)
        self._archives = Downloads("archives", MAX_ARCHIVES)

    def routes(self) -> Iterable[Route]:
        """Return the routes."""
        event, frame = "/events/{camera}/{event_id}", "/events/{camera}/{event_id}/frames/{seq}"
        yield Route(
            method="GET", path="/events", summary="Stored events, the newest first, paged by count.",
            handler=self.list_events, answer=models.Events, query=models.EventsQuery, errors=(502, 503),
        )  # fmt: skip
        yield Route(
            method="GET", path=event, summary="One event with its frames.", path_words=_EVENT,
            handler=self.get_event, answer=models.EventFrames, errors=(404, 502, 503),
        )  # fmt: skip
        yield Route(
            method="GET", path=frame, summary="A stored frame, or a small image of it.", path_words=_FRAME,
            handler=self.get_frame, answer=JPEG, query=models.FrameQuery, errors=(404, 502, 503),
        )  # fmt: skip
        yield Route(
            method="GET", path=event + "/archive", path_words=_EVENT,
            summary="The event's frames and summary as a ZIP file, with their SHA-256.",
            handler=self.get_archive, answer="application/zip", errors=(404, 502, 503),
        )  # fmt: skip
        yield Route(
            method="GET", path=event + "/clip", path_words=_EVENT,
            summary="The event as an MP4 clip, each frame at its own time.",
            handler=self.get_clip, answer="video/mp4", errors=(404, 409, 502, 503),
        )  # fmt: skip
        yield Route(
            method="POST", path=event + "/link", path_words=_EVENT, role=Role.ADMIN,
            summary="A presigned link to the event's best frame, for a phone.",
            handler=self.make_link, answer=models.Link, body=models.LinkBody, errors=(404, 409, 502, 503),
        )  # fmt: skip
        yield Route(
            method="DELETE", path=event, summary="Delete the event from the bucket.", path_words=_EVENT,
            role=Role.ADMIN, handler=self.delete_event, answer=models.Deleted, errors=(404, 502, 503),
        )  # fmt: skip

    # ---- values, also for the pages ----

    @property
    def archive(self) -> Archive:
        """The archive. Raises ApiError (503) if there is none."""
        if self._site.archive is None:
            raise ApiError(503, "there is no reader of the bucket")
        return self._site.archive

    async def of_day(self, day: date, query: models.EventsQuery) -> list[Event]:
        """Return the events of a local day that match a query, newest first. Raises ApiError."""
        since, until = day_bounds(day)
        found: list[Event] = []
        try:
            async for event in self._read(query, since, until):
                found.append(event)
                if len(found) >= MAX_DAY:
                    break
        except (StoreRefused, StoreUnavailable) as exc:
            raise unreadable(exc) from exc
        return found

    async def newest(self, query: models.EventsQuery, since: datetime | None = None) -> list[Event]:
        """Return a page of events, newest first, older than `query.before`. Raises ApiError."""
        until = query.until
        if query.before is not None:
            # The id has the start in milliseconds: events of the same one are filtered below.
            try:
                at = started(query.before) + timedelta(milliseconds=1)
            except ApiError:
                raise ApiError(400, "before: expected the id of an event") from None
            until = min(until, at) if until is not None else at
        found: list[Event] = []
        try:
            async for event in self._read(query, query.since or since, until):
                if query.before is not None and event.event_id >= query.before:
                    continue
                found.append(event)
                if len(found) >= query.limit:
                    break
        except (StoreRefused, StoreUnavailable) as exc:
            raise unreadable(exc) from exc
        return found

    async def event(self, camera: str, event_id: str) -> tuple[Event, list[FrameInfo]]:
        """Return an event and its frames. Raises ApiError."""
        event = await self._event(camera, event_id)
        return event, (await self.frames([event]))[0]

    async def frames(self, events: Iterable[Event]) -> list[list[FrameInfo]]:
        """Return the frames of each event. Raises ApiError."""
        try:
            return await together("read frames", (self.archive.reader.frames(event) for event in events))
        except (StoreRefused, StoreUnavailable) as exc:
            raise unreadable(exc) from exc

    def expect(self, events: Iterable[Event], width: int) -> None:
        """Make the thumbnails of the events' best frames, which are about to be requested, in advance."""
        for event in events:
            if event.best is not None:
                key, read = self._frame(event, event.best)
                self.archive.thumbnails.expect(key, width, read)

    def _frame(self, event: Event, seq: int) -> tuple[str, Read]:
        """Return the key of a stored frame, and what reads it."""
        reader = self.archive.reader
        key = frame_key(reader.folder(event), seq)
        return key, partial(reader.requests.read, key, MAX_FRAME)

    def _read(
        self, query: models.EventsQuery, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[Event]:
        return self.archive.reader.events(
            query.camera, since=since, until=until, zone=query.zone, min_score=query.min_score,
            min_duration=query.min_duration, reverse=True,
        )  # fmt: skip

    async def _event(self, camera: str, event_id: str) -> Event:
        if not is_name(camera) or not EVENT_ID.fullmatch(event_id):
            raise ApiError(404, "there is no such event")
        started(event_id)
        try:
            event = await self.archive.reader.event(event_id, camera)
        except (StoreRefused, StoreUnavailable) as exc:
            raise unreadable(exc) from exc
        if event is None:
            raise ApiError(404, "there is no such event")
        return event

    # ---- handlers ----

    async def list_events(self, call: Call[models.EventsQuery]) -> models.Events:
        query = call.query
        if query.day is not None:
            found = [
                event
                for event in await self.of_day(query.day, query)
                if query.before is None or event.event_id < query.before
            ][: query.limit]
        else:
            found = await self.newest(query)
        more = found[-1].event_id if len(found) == query.limit else None
        return models.Events(events=[summary(event) for event in found], before=more)

    async def get_event(self, call: Call[Any]) -> models.EventFrames:
        event, frames = await self.event(call.path["camera"], call.path["event_id"])
        return models.EventFrames(event=summary(event), frames=[frame_facts(frame) for frame in frames])

    async def get_frame(self, call: Call[models.FrameQuery]) -> web.Response:
        camera, event_id, seq = (call.path[key] for key in ("camera", "event_id", "seq"))
        known = is_name(camera) and EVENT_ID.fullmatch(event_id) and re.fullmatch(r"[0-9]{1,6}", seq)
        if not known:
            raise ApiError(404, "there is no such frame")
        begun = Event(
            instance=self._site.instance, camera=camera, event_id=event_id, started_at=started(event_id)
        )
        key, read = self._frame(begun, int(seq))
        try:
            if call.query.width is None:
                jpeg = await read()
            else:
                jpeg = await self.archive.thumbnails.get(key, call.query.width, read)
        except (StoreRefused, StoreUnavailable) as exc:
            raise unreadable(exc) from exc
        except (ImageError, UnreadableObject) as exc:
            raise ApiError(502, f"the stored frame cannot be shown: {exc}") from exc
        if jpeg is None:
            raise ApiError(404, "there is no such frame")
        # A stored frame never changes.
        return web.Response(
            body=jpeg, content_type=JPEG, headers={"Cache-Control": "private, max-age=3600, immutable"}
        )

    async def get_archive(self, call: Call[Any]) -> web.StreamResponse:
        event, frames = await self.event(call.path["camera"], call.path["event_id"])
        name = f"{event.camera}-{event.event_id}"
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/zip",
                "Content-Disposition": f'attachment; filename="{name}.zip"',
            }
        )
        with self._archives.one():
            await response.prepare(call.request)
            async with aclosing(zipped(name, event, frames, self.archive.reader.fetch)) as parts:
                async for part in parts:
                    await download(response, part)
            await finish(response)
        return response

    async def get_clip(self, call: Call[Any]) -> web.StreamResponse:
        event, frames = await self.event(call.path["camera"], call.path["event_id"])
        if len(frames) > MAX_CLIP_FRAMES:
            raise ApiError(
                409, f"more than {MAX_CLIP_FRAMES} frames: async-motion get --clip makes this clip"
            )
        with self._clips.one(), tempfile.TemporaryDirectory(prefix="async-motion-clip-") as folder:
            target = Path(folder) / "clip.mp4"
            # A client that reads slowly must not delay the next clip.
            async with self._making:
                await self._make_clip(frames, target)
            return await _send_clip(call.request, target, f"{event.camera}-{event.event_id}.mp4")

    async def _make_clip(self, frames: list[FrameInfo], target: Path) -> None:
        loop = asyncio.get_running_loop()
        fetch = self.archive.reader.fetch

        def read(frame: FrameInfo) -> bytes | None:
            try:
                return asyncio.run_coroutine_threadsafe(fetch(frame), loop).result()
            except UnreadableObject:
                return None

        try:
            await asyncio.to_thread(self.archive.make_clip, frames, read, target)
        except (StoreRefused, StoreUnavailable) as exc:
            raise unreadable(exc) from exc
        except ImageError as exc:
            raise ApiError(409, "no clip: none of the event's frames can be read") from exc
        except OSError as exc:
            raise ApiError(503, f"no clip: {exc.strerror}") from exc

    async def make_link(self, call: Call[Any]) -> models.Link:
        event = await self._event(call.path["camera"], call.path["event_id"])
        if event.best is None:
            raise ApiError(409, "the event has no frame yet")
        reader = self.archive.reader
        try:
            url = await reader.link(frame_key(reader.folder(event), event.best), call.body.hours * 3600.0)
        except (StoreRefused, StoreUnavailable) as exc:
            raise unreadable(exc) from exc
        if url is None:
            raise ApiError(409, "this store has no links: it is a directory")
        return models.Link(url=url)

    async def delete_event(self, call: Call[Any]) -> models.Deleted:
        event = await self._event(call.path["camera"], call.path["event_id"])
        try:
            count = await self.archive.delete(event)
        except StoreRefused as exc:
            raise ApiError(
                503, f"not deleted: the key may not delete (web.store; s3:DeleteObject, s3:PutObject): {exc}"
            ) from exc
        except StoreUnavailable as exc:
            raise unreadable(exc) from exc
        self.archive.thumbnails.forget(self.archive.reader.folder(event))
        return models.Deleted(objects=count)


async def _send_clip(request: web.Request, target: Path, name: str) -> web.StreamResponse:
    with target.open("rb") as file:
        response = web.StreamResponse(
            headers={
                "Content-Type": "video/mp4",
                "Content-Length": str(os.fstat(file.fileno()).st_size),
                "Content-Disposition": f'inline; filename="{name}"',
            }
        )
        await response.prepare(request)
        while part := file.read(CHUNK):
            await download(response, part)
    await finish(response)
    return response


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """Return the beginning and the end of a local day, aware; 23 or 25 hours apart when clocks change."""
    return tuple(datetime.combine(at, time()).astimezone() for at in (day, day + timedelta(days=1)))  # type: ignore[return-value]


def started(event_id: str) -> datetime:
    """Return when an event began, from its id. Raises ApiError (404)."""
    with suppress(ValueError):
        at = event_started(event_id)
        if models.MIN_YEAR <= at.year <= models.MAX_YEAR:
            return at
    raise ApiError(404, "there is no such event")


def unreadable(exc: StoreRefused | StoreUnavailable) -> ApiError:
    """Return the error for a store that refuses the key (502) or is unavailable (503)."""
    if isinstance(exc, StoreRefused):
        return ApiError(
            502, "the page may not read the bucket: web.store needs a key with s3:GetObject and "
            f"s3:ListBucket ({exc})",
        )  # fmt: skip
    return ApiError(503, f"the store does not answer: {exc}")


def summary(event: Event) -> models.StoredEvent:
    """Return an event as a value of the API."""
    return models.StoredEvent(
        camera=event.camera,
        event_id=event.event_id,
        no=event.no,
        started_at=iso(event.started_at),
        ended_at=iso(event.ended_at) if event.ended_at else None,
        duration_s=event.duration_s,
        reason=event.reason,
        peak_score=event.peak_score,
        zones=list(event.zones),
        frames=event.frames,
        bytes=event.bytes,
        best=event.best,
        scores=list(event.scores),
    )


def frame_facts(frame: FrameInfo) -> models.EventFrame:
    """Return a stored frame as a value of the API."""
    return models.EventFrame(
        seq=frame.seq,
        captured_at=iso(frame.captured_at.astimezone(UTC)),
        score=frame.score,
        boxes=[[box.x, box.y, box.width, box.height] for box in frame.boxes],
        zones=list(frame.zones),
        width=frame.width,
        height=frame.height,
        size=frame.size,
        sha256=frame.sha256,
    )
