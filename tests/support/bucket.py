"""A bucket in memory that implements retrieval's protocol, and events to fill it or a real bucket.

bucket = MemoryBucket()
made = make_event(camera="porch", at=AT, frames=3)
for key, data, about in made.objects: bucket.objects[key] = (data, about)
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from async_motion.core import names, payloads
from async_motion.core.index import IndexLine, index_key, line_of, pack
from async_motion.core.listing import Listed, Page
from async_motion.core.model import Box, EndReason, FrameInfo, Phase
from async_motion.errors import StoreUnavailable, UnreadableObject
from async_motion.store.directory_reader import DirectoryReader
from tests.support import records
from tests.support.records import make_record, stored_of

INSTANCE = "edge1"
WRITER = "a41c07"


class MemoryBucket:
    """Objects in a dictionary: key -> (bytes, user metadata). `requests` records the requests.

    The next `failures` requests raise StoreUnavailable.
    """

    bucket = "motion"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, Mapping[str, str]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.failures = 0

    async def page(
        self, prefix: str, *, folders: bool = False, start_after: str = "", token: str | None = None
    ) -> Page:
        self._asked("list", prefix)
        after = start_after if token is None else token
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        found: list[Listed | str] = []
        for key in keys[bisect_right(keys, after) :]:
            rest = key[len(prefix) :]
            if folders and "/" in rest:
                folder = prefix + rest.partition("/")[0] + "/"
                if found[-1:] != [folder] and folder > after:
                    found.append(folder)
            else:
                found.append(Listed(key, len(self.objects[key][0])))
            if len(found) > 1000:
                break
        page, more = found[:1000], len(found) > 1000
        last = page[-1] if page else ""
        return Page(
            objects=tuple(each for each in page if isinstance(each, Listed)),
            folders=tuple(each for each in page if isinstance(each, str)),
            next=(last.key if isinstance(last, Listed) else last) if more else None,
        )

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        self._asked("read", key)
        data = self.objects.get(key, (None, {}))[0]
        if data is not None and len(data) > max_bytes:
            raise UnreadableObject(f"{key}: longer than {max_bytes} bytes")
        return data

    async def about(self, key: str) -> Mapping[str, str] | None:
        self._asked("about", key)
        return self.objects[key][1] if key in self.objects else None

    async def link(self, key: str, expires_s: float) -> str | None:
        return f"https://bucket.example/{key}?expires={expires_s:g}"

    async def write(self, key: str, data: bytes, content_type: str) -> None:  # noqa: ARG002
        self._asked("write", key)
        self.objects[key] = (data, {})

    async def remove(self, keys: Sequence[str]) -> None:
        self._asked("remove", f"{len(keys)}")
        for key in keys:
            self.objects.pop(key, None)

    def add(self, *events: MadeEvent) -> None:
        """Store events with their frames."""
        for event in events:
            self.objects |= event.objects

    def index(self, events: Iterable[MadeEvent], *, writer: str = WRITER, prefix: str = "") -> None:
        """Write the index of ended events, as delivery does."""
        self.objects |= index_objects(events, writer=writer, prefix=prefix)

    def asked(self, kind: str) -> list[str]:
        """Return the arguments of the requests of one kind."""
        return [what for each, what in self.requests if each == kind]

    def _asked(self, kind: str, what: str) -> None:
        self.requests.append((kind, what))
        if self.failures > 0:
            self.failures -= 1
            raise StoreUnavailable("the bucket is away")


@dataclass(frozen=True, kw_only=True)
class MadeEvent:
    """An event as the service stores it. `summary` is None for an open event."""

    camera: str
    event_id: str
    folder: str
    frames: tuple[FrameInfo, ...]
    objects: Mapping[str, tuple[bytes, Mapping[str, str]]] = field(repr=False)
    summary: dict[str, Any] | None = field(repr=False)

    @property
    def line(self) -> IndexLine:
        """The event's line in the index."""
        assert self.summary is not None
        return line_of(self.summary)

    @property
    def day(self) -> date:
        return date(int(self.event_id[:4]), int(self.event_id[4:6]), int(self.event_id[6:8]))


def make_event(
    *,
    camera: str = "porch",
    at: datetime,
    salt: int = 0,
    frames: int = 2,
    jpegs: Sequence[bytes] | None = None,
    every_s: float = 1.0,
    scores: Sequence[float] | None = None,
    zones: Sequence[str] = (),
    boxes: Sequence[Box] = (),
    no: int | None = None,
    writer: str | None = WRITER,
    ended: bool = True,
    reason: EndReason = EndReason.QUIET,
    size: tuple[int, int] = (64, 48),
    instance: str = INSTANCE,
    prefix: str = "",
) -> MadeEvent:
    """Make an event at `at` with `frames` frames, `every_s` apart; without `jpegs`, with dummy JPEGs."""
    event_id = names.event_id(at, salt)
    event = records.make_event(camera, event_id=event_id, instance=instance, started_at=at)
    folder = names.event_folder(prefix, instance, camera, event_id)
    objects: dict[str, tuple[bytes, Mapping[str, str]]] = {}
    infos, stored = [], []
    for seq in range(frames if jpegs is None else len(jpegs)):
        jpeg = jpegs[seq] if jpegs is not None else f"{event_id} {seq}".encode()
        info = replace(
            make_record(event, seq, jpeg=jpeg).info,
            captured_at=at + timedelta(seconds=every_s * seq),
            object_key=names.frame_key(folder, seq),
            width=size[0],
            height=size[1],
            score=scores[seq] if scores else min(1.0, round(0.01 * (seq + 1), 6)),
            boxes=tuple(boxes),
            zones=tuple(zones),
        )
        infos.append(info)
        stored.append(stored_of(info, stored_at=info.captured_at))
        objects[info.object_key] = (jpeg, payloads.object_metadata(info))
    summary = None
    if ended:
        best = max(infos, key=lambda info: info.score, default=None)
        event = replace(
            event,
            peak_score=best.score if best else 0.0,
            zones=tuple(zones),
            ended_at=at + timedelta(seconds=every_s * max(1, len(infos))),
            end_reason=reason,
        )
        end = payloads.event_payload(
            Phase.END, event, now=at, frames_stored=len(infos), best_frame=best.object_key if best else None
        )
        numbers = {} if no is None else {"no": no, "writer": writer}
        lines = [payloads.frame_payload(each) for each in stored]
        summary = payloads.summary_payload({**end, **numbers}, lines)
        objects[names.event_key(folder)] = (json.dumps(summary).encode(), {})
    return MadeEvent(
        camera=camera,
        event_id=event_id,
        folder=folder,
        frames=tuple(infos),
        objects=objects,
        summary=summary,
    )


def index_objects(
    events: Iterable[MadeEvent], *, writer: str = WRITER, prefix: str = ""
) -> dict[str, tuple[bytes, Mapping[str, str]]]:
    """Return the index files of ended events, as delivery writes them."""
    days: dict[tuple[str, date], list[IndexLine]] = {}
    for event in events:
        days.setdefault((event.camera, event.day), []).append(event.line)
    return {
        index_key(prefix, INSTANCE, camera, day, writer): (pack(lines, writer), {})
        for (camera, day), lines in days.items()
    }


def fill(path: Path, *events: MadeEvent, index: Sequence[MadeEvent] = ()) -> None:
    """Store `events` in a directory store, and write the index of those in `index`."""

    async def put() -> None:
        async with DirectoryReader(path) as store:
            objects = {key: each for event in events for key, each in event.objects.items()}
            for key, (data, about) in (objects | index_objects(index)).items():
                await store.put(key, data, content_type="x", metadata=about, tags={})

    asyncio.run(put())
