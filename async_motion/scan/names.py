"""Derive a recording's start time and its camera from its path alone. Pure.

    20260301_120000.mp4, cam-2026-03-01T12-00-00Z.mkv    date and time in the file's name
    1772366400.mp4                                        Unix time, in seconds or milliseconds
    2026-03-01/12-00-00.mp4, 2026/03/01/12/05.mp4         date in the folders, time in the name
    2026-03-01/12/porch/05.10.mp4                         Frigate: hour and camera in the folders, UTC

A time without an offset is local to the recorder.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import PurePosixPath

from async_motion.core.names import is_name, slug

_STAMP = re.compile(
    r"(?<!\d)(?P<date>(?:19|20)\d{2}(?P<gap>[-_.]?)\d{2}(?P=gap)\d{2})"
    r"(?P<join>[T_ .@-]{0,3}|[ _]?at[ _]?)"
    r"(?P<time>\d{2}(?P<colon>[-_.:h]?)\d{2}[-_.:m]?\d{2})"
    r"(?:[.,]?(?P<ms>\d{3})(?!\d)|-(?P<us>\d{6})(?!\d))?"
    r"(?P<zone>Z|[+-](?:0\d|1[0-4]):?(?:00|15|30|45)(?!\d))?"
    r"(?!\d)"
)
_UNIX = re.compile(r"(?<!\d)(1\d{9})(\d{3})?(?!\d)")
_FRIGATE = re.compile(r"((?:19|20)\d{2}-\d{2}-\d{2})/(\d{2})/[^/]+/(\d{2})\.(\d{2})\.\w+$")
_DAY = r"(?:^|/)(?P<date>(?:19|20)\d{2}[-_./]?\d{2}[-_./]?\d{2})"
_CLOCK = re.compile(_DAY + r"/(?:[^/]*/)*?(?P<time>\d{2}[-_.:h]?\d{2}[-_.:m]?\d{2})(?!\d)[^/]*$")
_HOUR = re.compile(_DAY + r"/(?P<hour>\d{2})/(?P<rest>\d{2}(?:[-_.]\d{2})?)\.\w+$")
_DATE_LIKE = re.compile(r"[\d_.\-T:]+")
_STREAMS = frozenset({"dav", "mp4", "jpg"})
"""Names of folders that recorders put between the camera's folder and the file."""


def start_in_path(path: str, zone: tzinfo | None = None) -> datetime | None:
    """Return when a recording began (UTC); None if its path holds no time.

    `path` is separated by `/`. `zone` is the recorder's time zone; None: this machine's.
    """
    name = PurePosixPath(path).name
    frigate = _FRIGATE.search(path)
    if frigate is not None:
        day, hour, minute, second = frigate.groups()
        if (at := _at(day, hour + minute + second, UTC)) is not None:
            return at
    for match in _STAMP.finditer(name):
        at = _of_stamp(match, zone)
        if at is not None:
            return at
    unix = _UNIX.search(name)
    if unix is not None:
        return datetime.fromtimestamp(int(unix[1]), UTC) + timedelta(milliseconds=int(unix[2] or 0))
    if (clock := _CLOCK.search(path)) is not None and (
        at := _at(clock["date"], clock["time"], zone)
    ) is not None:
        return at
    if (hour := _HOUR.search(path)) is not None:
        return _at(hour["date"], f"{hour['hour']}{hour['rest']}", zone)
    return None


def camera_in_path(path: str, known: Collection[str], root: str = "") -> str:
    """Return the camera of a recording: one of `known`, else a name derived from a folder.

    In order: the innermost folder that is named like a known camera; the longest known name that the file's
    name begins with; the innermost folder that is not a date, first below `root`; `recording`.
    """
    pure = PurePosixPath(path)
    folders = [part for part in reversed(pure.parts[:-1]) if part != "/"]
    for folder in folders:
        if (name := slug(folder)) in known:
            return name
    stem = slug(pure.stem)
    begins = [name for name in known if re.match(rf"{re.escape(name)}(?![a-z0-9])", stem)]
    if begins:
        return max(begins, key=len)
    below = len(PurePosixPath(root).parts) if root else 0
    inner = [part for part in reversed(pure.parts[below:-1]) if part != "/"]
    for name in _camera_folders([*inner, *folders]):
        return name
    return "recording"


def _camera_folders(folders: list[str]) -> Iterator[str]:
    for folder in folders:
        if not _DATE_LIKE.fullmatch(folder) and folder.lower() not in _STREAMS and is_name(slug(folder)):
            yield slug(folder)


def _of_stamp(match: re.Match[str], zone: tzinfo | None) -> datetime | None:
    micros = int(match["us"] or 0) if match["colon"] == "-" else 0
    micros += int(match["ms"] or 0) * 1000
    offset = match["zone"]
    if offset == "Z":
        zone = UTC
    elif offset and match["join"] == "T":
        zone = datetime.strptime(offset.replace(":", ""), "%z").tzinfo
    at = _at(match["date"], match["time"], zone)
    return None if at is None else at + timedelta(microseconds=micros)


def _at(day: str, clock: str, zone: tzinfo | None) -> datetime | None:
    digits = re.sub(r"\D", "", day) + re.sub(r"\D", "", clock)
    try:
        at = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007  # its zone follows
        return at.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
