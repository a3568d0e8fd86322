"""`async-motion get`: fetch events as files: frames, contact sheet, clip, archive; or print links to them.

    {out}/{camera}/{event_id}/000003.jpg …   the frames, byte for byte as stored, checked by SHA-256
    {out}/{camera}/{event_id}/event.json     the summary
    {out}/{camera}/{event_id}/sheet.jpg      --sheet
    {out}/{camera}/{event_id}/clip.mp4       --clip
    {out}/{camera}/{event_id}/annotated/…    --annotate

A frame whose file has the right SHA-256 is not fetched again, so a command that was killed resumes where it
stopped. With `--archive` the files are collected beside the archive, in `FILE.zip.part/`, and packed at the
end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from async_motion.cli.choosing import EventChoice, add_filters, chosen
from async_motion.cli.files import write_whole
from async_motion.cli.tell import tell
from async_motion.core.words import counted
from async_motion.errors import AsyncMotionError, ImageError, UnreadableObject, UsageError

if TYPE_CHECKING:
    from async_motion.cli.events import Parsers
    from async_motion.core.model import FrameInfo, Image
    from async_motion.retrieval import Event, EventReader
    from async_motion.retrieval.images import Polygons
    from async_motion.settings import Settings

EVENTS_AT_ONCE = 8
FRAMES_AT_ONCE = 256
SUMS = "SHA256SUMS"
MAX_LINK_S = 7 * 86400.0


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "get", parents=[config], help="fetch events: frames, contact sheet, clip, archive, links"
    )
    parser.add_argument("events", nargs="*", metavar="EVENT", help="ids of events, as `events` prints them")
    add_filters(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("events"), metavar="DIR", help="the folder (default: events)"
    )
    parser.add_argument("--sheet", action="store_true", help="make a contact sheet of each event")
    parser.add_argument("--clip", action="store_true", help="make a clip of each event: H.264 in MP4")
    parser.add_argument(
        "--annotate", action="store_true", help="draw boxes, zones, score and time into copies of the frames"
    )
    parser.add_argument(
        "--archive", type=Path, metavar="FILE.zip", help="pack everything, with the SHA-256 of each file"
    )
    parser.add_argument(
        "--links", metavar="TIME", help="fetch nothing: print links to the frames, valid this long (1min..7d)"
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each event")
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.cli.loop import run_output
    from async_motion.settings import load
    from async_motion.settings.quantities import duration_of

    choice = chosen(args)
    if not args.events and not choice.narrows:
        raise UsageError("get: expected the id of an event, or filters such as --since 2h")
    expires_s = None
    if args.links is not None:
        expires_s = duration_of(args.links)
        if expires_s is None or not 60 <= expires_s <= MAX_LINK_S:
            raise UsageError(f"--links: {args.links}: expected a duration from 1min to 7d")
        if args.sheet or args.clip or args.annotate or args.archive:
            raise UsageError("--links: expected without --sheet, --clip, --annotate and --archive")
    if args.archive is not None and (not args.archive.name or args.archive.is_dir()):
        raise UsageError(f"--archive: {args.archive}: expected the name of a file")
    settings = load(args.config, os.environ)
    return run_output(get(settings, choice, args, expires_s))


async def get(
    settings: Settings, choice: EventChoice, args: argparse.Namespace, expires_s: float | None
) -> int:
    """Fetch the selected events; return 1 if anything is missing or none matched."""
    import asyncio

    from async_motion.app import buckets

    async with buckets.build_bucket(settings) as bucket:
        reader = buckets.build_events(settings, bucket, args.instance)
        wanted = Wanted(reader, choice, args.events)
        if expires_s is not None:
            return await _links(wanted, expires_s, as_json=args.json)
        part = None if args.archive is None else args.archive.with_name(f"{args.archive.name}.part")
        making = Making(
            out=part or args.out,
            sheet=args.sheet,
            clip=args.clip,
            annotate=args.annotate,
            zones={name: _polygons(camera.detect.zones) for name, camera in settings.cameras.items()},
        )
        result = await fetch_all(wanted, making, as_json=args.json)
    if result.events and args.archive is not None and part is not None:
        digest = await asyncio.to_thread(_pack, part, args.archive, result)
        print(f"{digest}  {args.archive}")
    return result.finish(reader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What to make of each event, and where."""

    out: Path
    sheet: bool = False
    clip: bool = False
    annotate: bool = False
    zones: Mapping[str, Polygons] = field(default_factory=dict)

    @property
    def images(self) -> bool:
        """Whether the frames must be decoded."""
        return self.sheet or self.clip or self.annotate


class Wanted:
    """The events that a command selects: by their ids, or by filters."""

    def __init__(self, reader: EventReader, choice: EventChoice, ids: Collection[str]) -> None:
        self.reader = reader
        self.unknown: list[str] = []
        self._choice = choice
        self._ids = list(dict.fromkeys(ids))

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events; collect the ids without an event in `unknown`."""
        if not self._ids:
            async for event in self._choice.events(self.reader):
                yield event
            return
        self.unknown.clear()
        for event_id in self._ids:
            cameras = self._choice.cameras or (None,)
            found = [await self.reader.event(event_id, camera) for camera in cameras]
            known = [event for event in found if event is not None]
            if known:
                yield known[0]
            else:
                self.unknown.append(event_id)


@dataclass(slots=True)
class Result:
    """The outcome of a command: the folders of its events, and counts.

    `missing` has a line for each frame or output that could not be made.
    """

    folders: list[Path] = field(default_factory=list)
    frames: int = 0
    kept: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def events(self) -> int:
        """The number of events."""
        return len(self.folders)

    def finish(self, reader: EventReader) -> int:
        """Print the outcome on standard error; return the exit code."""
        from async_motion.cli.events import tell_skipped

        took = max(1e-6, time.monotonic() - self.began)
        there = f", {self.kept} were there already" if self.kept else ""
        rate = f" ({self.bytes / took / 1e6:.1f} MB/s)" if self.frames else ""
        fetched = f"{counted(self.frames, 'frame')} fetched, {self.bytes / 1e6:.1f} MB in {took:.1f} s"
        tell(f"{counted(self.events, 'event')}, {fetched}{rate}{there}")
        for line in self.missing[:20]:
            tell(f"missing: {line}")
        if len(self.missing) > 20:
            tell(f"… and {len(self.missing) - 20} more are missing")
        tell_skipped(reader)
        return 1 if self.missing or not self.events else 0


async def fetch_all(wanted: Wanted, making: Making, *, as_json: bool) -> Result:
    """Fetch all events, `EVENTS_AT_ONCE` concurrently, with progress on a terminal."""
    import asyncio

    from async_motion.retrieval.requests import together

    result = Result()
    progress = Progress(result)
    async for event in wanted.events():
        progress.expect(event)
    events = wanted.events()
    turn = asyncio.Lock()  # two tasks cannot advance one generator

    async def work() -> None:
        while True:
            async with turn:
                event = await anext(events, None)
            if event is None:
                return
            await _fetch_event(wanted.reader, event, making, result, progress)
            if as_json:
                folder = making.out / event.camera / event.event_id
                print(json.dumps({**event.payload(), "path": str(folder)}, ensure_ascii=False), flush=True)

    try:
        await together("get events", (work() for _ in range(EVENTS_AT_ONCE)))
    finally:
        progress.clear()
    result.missing += [f"{event_id}: no such event" for event_id in wanted.unknown]
    return result


async def _fetch_event(
    reader: EventReader, event: Event, making: Making, result: Result, progress: Progress
) -> None:
    import asyncio

    folder = making.out / event.camera / event.event_id
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    frames = await reader.frames(event)
    there: list[FrameInfo] = []
    for at in range(0, len(frames), FRAMES_AT_ONCE):
        some = frames[at : at + FRAMES_AT_ONCE]
        kept = await asyncio.to_thread(_already, folder, some)
        result.kept += len(kept)
        there += kept
        progress.step(len(kept), 0)
        there += await _fetch_some(reader, folder, [f for f in some if f not in kept], result, progress)
    if len(frames) < event.frames:
        result.missing.append(f"{event.event_id}: {event.frames - len(frames)} frames have no metadata")
    summary = await reader.requests.read(f"{reader.folder(event)}event.json", 64 * 1024 * 1024)
    if summary is not None:
        await asyncio.to_thread(write_whole, folder / "event.json", summary)
    there.sort(key=lambda frame: frame.seq)
    if making.images:
        zones = making.zones.get(event.camera)
        result.missing += await asyncio.to_thread(_make, event, there, folder, making, zones)
    result.folders.append(folder)


async def _fetch_some(
    reader: EventReader, folder: Path, frames: Collection[FrameInfo], result: Result, progress: Progress
) -> list[FrameInfo]:
    from async_motion.retrieval.requests import together

    async def one(frame: FrameInfo) -> FrameInfo | None:
        try:
            data = await reader.fetch(frame)
        except UnreadableObject as exc:
            result.missing.append(str(exc))
            return None
        write_whole(_file(folder, frame), data)
        result.frames += 1
        result.bytes += len(data)
        progress.step(1, len(data))
        return frame

    return [frame for frame in await together("get frames", map(one, frames)) if frame is not None]


def _already(folder: Path, frames: Collection[FrameInfo]) -> list[FrameInfo]:
    """Return the frames whose files exist with the right size and SHA-256."""
    found = []
    for frame in frames:
        file = _file(folder, frame)
        try:
            if file.stat().st_size == frame.size and _digest(file) == frame.sha256:
                found.append(frame)
        except FileNotFoundError:
            continue
    return found


def _make(
    event: Event, frames: list[FrameInfo], folder: Path, making: Making, zones: Polygons | None
) -> list[str]:
    """Make the annotated frames, sheet and clip of one event; return a line for each failure."""
    from async_motion.retrieval.clips import make_clip
    from async_motion.retrieval.images import annotate, image_of, jpeg_of, sheet, used_zones

    problems: dict[str, None] = {}
    touched = used_zones(frames, zones)

    def read(frame: FrameInfo, at_least_width: int | None = None) -> Image | None:
        try:
            image = image_of(_file(folder, frame).read_bytes(), at_least_width)
        except ImageError as exc:
            problems[f"{frame.object_key}: {exc}"] = None
            return None
        return annotate(image, frame, touched) if making.annotate else image

    def make(what: str, work: Callable[[], object]) -> None:
        try:
            work()
        except ImageError as exc:
            problems[f"{event.event_id}: {what}: {exc}"] = None

    if making.annotate:
        (folder / "annotated").mkdir(exist_ok=True)
        for frame in frames:
            image = read(frame)
            if image is not None:
                write_whole(folder / "annotated" / f"{frame.seq:06d}.jpg", jpeg_of(image))
    if making.sheet:
        drawn = sheet(event, frames, lambda frame: read(frame, 320))
        make("sheet", lambda: write_whole(folder / "sheet.jpg", jpeg_of(drawn, 88)))
    if making.clip:
        make("clip", lambda: make_clip(frames, read, folder / "clip.mp4"))
    return list(problems)


async def _links(wanted: Wanted, expires_s: float, *, as_json: bool) -> int:
    """Print a link to each frame, valid for `expires_s`; return the exit code.

    Raises AsyncMotionError if the store is a directory.
    """
    reader = wanted.reader
    count = 0
    until = datetime.fromtimestamp(time.time() + expires_s, UTC)
    async for event in wanted.events():
        frames = await reader.frames(event)
        links = []
        for frame in frames:
            link = await reader.link(frame.object_key, expires_s)
            if link is None:
                raise AsyncMotionError("--links: the store is a directory, which has no links")
            links.append(link)
        count += 1
        if as_json:
            lines = [{"seq": f.seq, "url": link} for f, link in zip(frames, links, strict=True)]
            print(
                json.dumps({**event.payload(), "valid_until": until.isoformat(), "links": lines}), flush=True
            )
        else:
            for link in links:
                print(link, flush=True)
    for event_id in wanted.unknown:
        tell(f"missing: {event_id}: no such event")
    if not count and not wanted.unknown:
        tell("no events")
    return 0 if count and not wanted.unknown else 1


def _pack(part: Path, target: Path, result: Result) -> str:
    """Pack the collected files with a list of their SHA-256; return the SHA-256 of the archive.

    The archive appears whole or not at all. MISSING.txt in it lists what could not be fetched or made. What
    an earlier run with other filters has left in `part` is not packed.
    """
    waiting, missing = target.with_name(f".{target.name}.{os.getpid()}"), result.missing
    files = sorted(
        path
        for folder in result.folders
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    sums = "".join(f"{_digest(path)}  {path.relative_to(part).as_posix()}\n" for path in files)
    try:
        with zipfile.ZipFile(waiting, "w", zipfile.ZIP_STORED) as archive:
            for path in files:
                archive.write(path, path.relative_to(part).as_posix())
            archive.writestr(SUMS, sums)
            if missing:
                archive.writestr("MISSING.txt", "".join(f"{line}\n" for line in missing))
        waiting.replace(target)
    finally:
        waiting.unlink(missing_ok=True)
    if not missing:
        shutil.rmtree(part)  # kept otherwise: the next run resumes from it
    return _digest(target)


class Progress:
    """A progress line on the terminal: frames done, rate, time left."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._shows = sys.stderr.isatty()
        self._expected = self._done = 0
        self._done_bytes = 0
        self._last = 0.0

    def expect(self, event: Event) -> None:
        """Add the frames of an event to the expected total."""
        self._expected += event.frames

    def step(self, frames: int, size: int) -> None:
        """Count frames as done, with the bytes fetched; redraw at most every 0.2 s."""
        self._done += frames
        self._done_bytes += size
        now = time.monotonic()
        if self._shows and now - self._last >= 0.2:
            self._last = now
            print(f"\r\x1b[K{self.line(now - self._result.began)}", end="", file=sys.stderr, flush=True)

    def line(self, took_s: float) -> str:
        """Return the line, `took_s` seconds after the start."""
        fetched, rate = self._result.frames, self._result.frames / max(1e-6, took_s)
        left = max(0, self._expected - self._done)
        until = f"{left / rate / 60:.0f}:{left / rate % 60:02.0f} left" if fetched else "…"
        speed = self._done_bytes / max(1e-6, took_s) / 1e6
        return f"{self._done} of {self._expected} frames  {rate:.0f}/s  {speed:.1f} MB/s  {until}"

    def clear(self) -> None:
        """Remove the line."""
        if self._shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _polygons(zones: Mapping[str, object]) -> Polygons:
    return {name: zone.polygon for name, zone in zones.items()}  # type: ignore[attr-defined]


def _file(folder: Path, frame: FrameInfo) -> Path:
    return folder / f"{frame.seq:06d}.jpg"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
