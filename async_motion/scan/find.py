"""Find the recordings: files, folders and `s3://bucket/prefix`, always in the same order."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

from async_motion.app.buckets import build_bucket
from async_motion.capture import SUFFIXES
from async_motion.errors import UsageError
from async_motion.scan.model import Recording
from async_motion.scan.names import camera_in_path, start_in_path
from async_motion.settings import Settings

_URL = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<key>.*)")


async def find_recordings(
    given: Sequence[str],
    settings: Settings,
    *,
    camera: str | None = None,
    zone: tzinfo | None = None,
    start: datetime | None = None,
) -> list[Recording]:
    """Return the recordings among `given`, sorted by place, each once.

    `camera` is the camera of all of them. `zone` is the time zone of the times in their names. `start` is the
    time at which a single recording began. Raises StoreUnavailable, and UsageError with a line for each of
    `given` that names no recording.
    """
    found: dict[str, Recording] = {}
    problems: list[str] = []
    for text in given:
        try:
            some = await _in_bucket(text, settings) if text.startswith("s3://") else _on_disk(text)
        except UsageError as exc:
            problems += exc.problems
            continue
        found |= {each.place: each for each in some}
    if start is not None and len(found) > 1:
        problems.append(f"--start: {len(found)} recordings, expected one: the others begin at other times")
    if problems:
        raise UsageError(*problems)
    return [
        _described(found[place], given, settings.cameras, camera=camera, zone=zone, start=start)
        for place in sorted(found)
    ]


def _described(
    recording: Recording,
    given: Sequence[str],
    cameras: Collection[str],
    *,
    camera: str | None,
    zone: tzinfo | None,
    start: datetime | None,
) -> Recording:
    path = recording.place.removeprefix("s3://")
    at = start or start_in_path(path, zone)
    roots = [os.path.abspath(root) for root in given if Path(root).is_dir()]  # noqa: PTH100  # as in place
    root = max((root for root in roots if path.startswith(f"{root}/")), key=len, default="")
    return replace(
        recording,
        camera=camera or camera_in_path(path, cameras, root),
        started_at=at,
        start_source=None if at is None else "name" if start is None else "option",
    )


def _on_disk(text: str) -> list[Recording]:
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
        if not files:
            raise UsageError(f"{text}: holds no recording, expected files such as .mp4 or .mkv")
        return [_file(each, str(each)) for each in files]
    if not path.is_file():
        raise UsageError(f"{text}: no such file or folder")
    return [_file(path, text)]


def _file(path: Path, name: str) -> Recording:
    # Symbolic links are not resolved: the link's name may be the camera's.
    place = os.path.abspath(path)  # noqa: PTH100
    # A name that is not UTF-8 could not be printed.
    shown = name.encode(errors="backslashreplace").decode()
    return Recording(place=place, name=shown, size=path.stat().st_size, camera="")


async def _in_bucket(text: str, settings: Settings) -> list[Recording]:
    match = _URL.fullmatch(text)
    if match is None:
        raise UsageError(f"{text}: expected s3://bucket/prefix")
    if settings.minio.endpoint is None:
        raise UsageError(f"{text}: the settings name no server, expected minio.endpoint")
    name, prefix = match["bucket"], match["key"]
    found = []
    async with build_bucket(settings, bucket=name) as bucket:
        token: str | None = None
        while True:
            page = await bucket.page(prefix, token=token)
            found += [
                Recording(place=(url := f"s3://{name}/{each.key}"), name=url, size=each.size, camera="")
                for each in page.objects
                if Path(each.key).suffix.lower() in SUFFIXES
            ]
            token = page.next
            if token is None:
                break
    if not found:
        raise UsageError(f"{text}: holds no recording, expected objects such as .mp4 or .mkv")
    return found
