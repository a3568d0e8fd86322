"""`async-motion listen`: print announcements as they arrive; with `--save` fetch each frame by its key.

It is also the shortest example of a subscriber: drop repeats by `frame_id`, fetch `object_key` from
`bucket` (or fetch `url`), and verify `sha256`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
from collections import OrderedDict
from contextlib import AsyncExitStack
from pathlib import Path, PurePosixPath
from typing import Protocol

from async_motion.app import build
from async_motion.cli.log_setup import log_as_set
from async_motion.cli.loop import run_async
from async_motion.cli.tell import printable, tell
from async_motion.core import payloads, strict_json
from async_motion.core.model import StoredFrame
from async_motion.core.names import is_name
from async_motion.errors import AsyncMotionError, UsageError
from async_motion.settings import Settings, load

REMEMBERED = 10_000
"""Frame ids that are kept to recognise a repeat."""


MAX_WAITING = 10_000
"""Announcements that may wait to be printed; further ones are dropped."""


class Arrivals:
    """A bounded queue of announcements to print: a terminal may be paused. `lost` counts those dropped."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self.lost = 0

    def put(self, payload: bytes) -> None:
        """Add an announcement, or drop it if the queue is full; the first drop is reported."""
        try:
            self._queue.put_nowait(payload)
        except asyncio.QueueFull:
            self.lost += 1
            if self.lost == 1:
                tell("announcements come faster than they can be shown: some are left out")

    async def get(self) -> bytes:
        """Wait for the oldest announcement and remove it."""
        return await self._queue.get()


class FrameReader(Protocol):
    """The part of a store that `fetch` needs."""

    async def get(self, key: str) -> bytes: ...


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    if args.camera is not None and not is_name(args.camera):
        raise UsageError(f"--camera: {args.camera}: expected a name (a-z 0-9 _ -)")
    settings = load(args.config, os.environ)
    log_as_set(settings, "warning")
    return run_async(
        listen(
            settings,
            as_json=args.json,
            save=args.save,
            camera=args.camera,
            all_instances=args.all_instances,
            count=args.count,
        )
    )


async def listen(
    settings: Settings,
    *,
    as_json: bool,
    save: Path | None,
    camera: str | None,
    all_instances: bool,
    count: int | None,
) -> int:
    """Print announcements until `count` are printed or the command is stopped; return the exit code.

    With `save`, each frame is fetched into `save/{object_key}`. One that cannot be fetched, or whose SHA-256
    differs, is reported on standard error, and the exit code is 1.
    """
    host, port = await build.find_broker(settings, tell)
    arrived = Arrivals()
    client = build.build_client(settings, host, port, role="listen")
    instance = "+" if all_instances else settings.instance
    topic = f"{settings.mqtt.base_topic}/{instance}/{camera or '+'}/frame"
    client.subscribe(topic, lambda _topic, payload, _retained: arrived.put(payload))
    client.on_connect(lambda: tell(f"listening to {topic} on {host}:{port}"))

    failed = 0
    left: BrokenPipeError | None = None
    async with AsyncExitStack() as stack:
        reader = None
        if save is not None:
            reader = build.build_store(settings, reading=True)
            await stack.enter_async_context(reader)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        connection = tasks.create_task(client.run(), name="broker")
        try:
            failed = await _show(arrived, as_json=as_json, save=save, reader=reader, count=count)
        except BrokenPipeError as exc:
            # The reader has closed the pipe (`listen | head`). Raised below: the group would wrap it.
            left = exc
        finally:
            connection.cancel()
    if left is not None:
        raise left
    return 1 if failed else 0


async def _show(
    arrived: Arrivals,
    *,
    as_json: bool,
    save: Path | None,
    reader: FrameReader | None,
    count: int | None,
) -> int:
    """Print announcements as they arrive; return the number of frames that could not be fetched."""
    seen: OrderedDict[str, None] = OrderedDict()
    failed = shown = refused = 0
    while count is None or shown < count:
        payload = await arrived.get()
        try:
            stored = payloads.parse_frame(payload)
        except ValueError as exc:
            refused += 1
            if refused.bit_count() == 1:  # the 1st, 2nd, 4th, 8th …
                tell(f"not an announcement: {exc} ({refused} so far)")
            continue
        frame_id = stored.info.frame_id
        if frame_id in seen:
            continue
        seen[frame_id] = None
        if len(seen) > REMEMBERED:
            seen.popitem(last=False)
        if not as_json and shown == 0:
            print(f"{'captured (UTC)':<23}  {'camera':<12}  {'score':>6}  {'KiB':>5}  object key", flush=True)
        print(_as_json(payload) if as_json else _row(stored), flush=True)
        shown += 1
        if save is not None and reader is not None:
            try:
                await fetch(stored, reader, save)
            except (AsyncMotionError, OSError) as exc:
                failed += 1
                tell(f"{stored.info.object_key}: {exc}")
    return failed


async def fetch(stored: StoredFrame, reader: FrameReader, folder: Path) -> Path:
    """Fetch one frame to `folder/{object_key}`; return the file.

    Raises the store's errors, OSError from the disk, and FetchError for a key that leaves the folder or
    bytes whose SHA-256 is not the announced one. The file appears whole or not at all.
    """
    key = PurePosixPath(stored.info.object_key)
    if key.is_absolute() or ".." in key.parts or not key.parts:
        # The key comes over the network: it must not choose a path outside the folder.
        raise FetchError("this key leads out of the folder, not saved")
    data = await reader.get(stored.info.object_key)
    digest = hashlib.sha256(data).hexdigest()
    if digest != stored.info.sha256:
        raise FetchError(f"sha256 is {digest}, announced was {stored.info.sha256}, not saved")
    target = folder.joinpath(*key.parts)
    await asyncio.to_thread(_write, target, data)
    return target


class FetchError(AsyncMotionError):
    """An announced frame has an unsafe key, or its bytes do not match the announced SHA-256."""


def _write(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(target)


def _as_json(payload: bytes) -> str:
    """Return an announcement as one line of ASCII: nothing in it can break the line or move the cursor."""
    return json.dumps(strict_json.parse(payload), separators=(",", ":"))


def _row(stored: StoredFrame) -> str:
    info = stored.info
    notes = [*info.zones, *(["delayed"] if stored.delayed else [])]
    return (
        f"{info.captured_at:%Y-%m-%d %H:%M:%S}.{info.captured_at.microsecond // 1000:03d}"
        f"  {info.camera:<12}  {info.score:>6.1%}  {info.size / 1024:>5.0f}  {printable(info.object_key)}"
        + (f"  [{', '.join(notes)}]" if notes else "")
    )
