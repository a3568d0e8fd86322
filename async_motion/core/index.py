"""The index of events in the bucket: its keys, its lines and their codec.

    {prefix}{instance}/.index/1/{camera}/{YYYY}/{MM}/{DD}.{writer}.jsonl.gz

A file belongs to one camera, one day (UTC, of the events' start) and one writer. `writer` is the id of the
spool that wrote it, six hex digits. A file has exactly one writer for ever, so that writers never overwrite
each other. Three ids are reserved, and no spool draws them: `REBUILT` is the writer of `async-motion events
--rebuild`, `SCANNED` that of `async-motion scan`. `DELETED` lists the events that were deleted on purpose;
its file takes precedence over all others.

A file is gzip over JSON Lines, one line for each ended event. `v` is 1. Equal lines make equal bytes. Readers
ignore unknown fields and skip lines that raise `UnreadableObject`; a damaged file yields the lines before the
damage.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Any

from async_motion.core.names import EVENT_ID, is_name
from async_motion.core.payloads import encode, iso, parse_iso
from async_motion.errors import UnreadableObject

VERSION = 1
INDEX = ".index"
"""The folder of an instance's index; no camera can have this name."""
WRITER = re.compile(r"[0-9a-f]{6}")
REBUILT = "000000"
DELETED = "ffffff"
SCANNED = "5ca9ed"
RESERVED = frozenset({REBUILT, DELETED, SCANNED})
MAX_SCORES = 16
MAX_ZONES = 64
MAX_LINE_BYTES = 64 * 1024
MAX_PACKED_BYTES = 16 * 1024 * 1024
"""The largest file that a reader accepts; a day of 1,500 events has 90 KiB."""
MAX_UNPACKED_BYTES = 64 * 1024 * 1024

_FILE = re.compile(r"(\d{4})/(\d{2})/(\d{2})\.([0-9a-f]{6})\.jsonl\.gz", re.ASCII)
_REASON = re.compile(r"[a-z0-9_]{1,64}")
_MAX_WHOLE = 2**53 - 1  # the largest integer that JSON readers of every language keep exactly
_CHUNK = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLine:
    """One ended event as the index knows it.

    `no` counts the events of a camera within one `writer`, from 1; both are None for events of `scan`, and
    for those stored before numbers existed. `zones` are in the event's order. `frames` and `bytes` count what
    is stored. `best` is the `seq` of the best frame, None without frames. `scores` are at most 16, 0..1, in
    the order of capture (see `thin_scores`).
    """

    event_id: str
    started_at: datetime
    ended_at: datetime
    duration_s: float
    reason: str
    peak_score: float
    zones: tuple[str, ...]
    frames: int
    bytes: int
    best: int | None
    scores: tuple[float, ...]
    no: int | None = None
    writer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFile:
    """The parts of the key of a file that one writer keeps for one day (UTC): `{folder}{name}`."""

    day: date
    writer: str


def index_root(prefix: str, instance: str) -> str:
    """Return the prefix of all index keys of an instance; below it is a folder for each camera."""
    return f"{prefix}{instance}/{INDEX}/{VERSION}/"


def index_folder(prefix: str, instance: str, camera: str) -> str:
    """Return the prefix of the keys of a camera's index files, with its trailing slash."""
    return f"{index_root(prefix, instance)}{camera}/"


def index_key(prefix: str, instance: str, camera: str, day: date, writer: str) -> str:
    """Return the key of the index file of one camera, day (UTC) and writer."""
    return index_folder(prefix, instance, camera) + day_file_name(day, writer)


def day_file_name(day: date, writer: str) -> str:
    """Return the name, below its folder, of the file that a writer keeps for a day (UTC)."""
    return f"{day:%Y/%m/%d}.{writer}.jsonl.gz"


def parse_day_file(key: str, folder: str) -> DayFile | None:
    """Return the parts of `key`, or None if it is no day's file in `folder`."""
    match = _FILE.fullmatch(key, len(folder)) if key.startswith(folder) else None
    if match is None:
        return None
    try:
        day = date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
    return DayFile(day=day, writer=match[4])


def event_day(event_id: str) -> date:
    """Return the day (UTC) under which an event is stored. Raises ValueError for an invalid date."""
    return date(int(event_id[0:4]), int(event_id[4:6]), int(event_id[6:8]))


def event_started(event_id: str) -> datetime:
    """Return the start (UTC, to the millisecond) from an event's id. Raises ValueError for an invalid id."""
    if not EVENT_ID.fullmatch(event_id):
        raise ValueError(f"event_id: {event_id[:64]!r}")
    # This takes a tenth of strptime's time, and runs for each line of an index.
    return datetime.fromisoformat(f"{event_id[:15]}.{event_id[15:19]}")


def thin_scores(scores: Sequence[float]) -> tuple[float, ...]:
    """Return at most 16 scores for a sparkline: the highest of each run of consecutive frames."""
    count = len(scores)
    if count <= MAX_SCORES:
        return tuple(round(score, 4) for score in scores)
    edges = [place * count // MAX_SCORES for place in range(MAX_SCORES + 1)]
    return tuple(round(max(scores[start:end]), 4) for start, end in pairwise(edges))


def line_of(summary: Mapping[str, Any]) -> IndexLine:
    """Return the index line of an event from its `event.json`, so that a rebuild writes what delivery wrote.

    Raises UnreadableObject if `summary` is not the summary of an ended event.
    """
    try:
        frames = sorted(summary["frames"], key=lambda frame: int(frame["seq"]))
        best = next((f["seq"] for f in frames if f.get("object_key") == summary["best_frame"]), None)
        line = {
            **{name: summary[name] for name in ("event_id", "started_at", "ended_at", "duration_s")},
            **{name: summary[name] for name in ("reason", "peak_score", "zones")},
            "frames": len(frames),
            "bytes": sum(int(frame["size"]) for frame in frames),
            "best": best,
            "scores": thin_scores([float(frame["score"]) for frame in frames]),
            "no": summary.get("no"),
            "writer": summary.get("writer"),
            "v": VERSION,
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise UnreadableObject(f"event summary: {_why(exc)}") from exc
    return _checked(line, None)


def encode_line(line: IndexLine, writer: str) -> bytes:
    """Return a line for the file of `writer`, without its newline.

    The line names the event's writer only if it is a different one.
    """
    fields = {
        "no": line.no,
        "event_id": line.event_id,
        "started_at": iso(line.started_at),
        "ended_at": iso(line.ended_at),
        "duration_s": round(line.duration_s, 3),
        "reason": line.reason,
        "peak_score": round(line.peak_score, 6),
        "zones": list(line.zones),
        "frames": line.frames,
        "bytes": line.bytes,
        "best": line.best,
        "scores": [round(score, 4) for score in line.scores],
        "v": VERSION,
    }
    if line.writer != writer:
        fields["writer"] = line.writer
    return encode(fields)


def parse_line(text: bytes | str, writer: str) -> IndexLine:
    """Return the event of one line in the file of `writer`. Raises UnreadableObject."""
    if len(text) > MAX_LINE_BYTES:
        raise UnreadableObject(f"index line: longer than {MAX_LINE_BYTES} bytes")
    try:
        fields = json.loads(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as exc:
        raise UnreadableObject(f"index line: not JSON: {_why(exc)}") from exc
    if not isinstance(fields, dict):
        raise UnreadableObject("index line: expected an object")
    return _checked(fields, writer)


def pack(lines: Iterable[IndexLine], writer: str) -> bytes:
    """Return the whole index file of `writer`: its lines in the order of `event_id`, compressed."""
    return pack_encoded(encode_line(line, writer) for line in sorted(lines, key=lambda line: line.event_id))


def pack_encoded(lines: Iterable[bytes]) -> bytes:
    """Return the index file of `lines` from `encode_line`, already in the order of `event_id`."""
    # zlib writes neither time nor file name into the header: equal lines make equal bytes.
    return zlib.compress(b"".join(line + b"\n" for line in lines), 6, wbits=_GZIP)


def unpack(data: bytes) -> Iterator[bytes]:
    """Yield the lines of an index file, not yet parsed, in bounded memory.

    Raises UnreadableObject where the file is damaged, truncated or too large; the lines before it are good.
    """
    if len(data) > MAX_PACKED_BYTES:
        raise UnreadableObject(f"index file: longer than {MAX_PACKED_BYTES} bytes")
    inflate = zlib.decompressobj(wbits=_GZIP)
    waiting, rest, total = b"", data, 0
    while not inflate.eof:
        try:
            chunk = inflate.decompress(rest, _CHUNK)
        except zlib.error as exc:
            raise UnreadableObject(f"index file: {exc}") from exc
        rest = inflate.unconsumed_tail
        if not chunk and not inflate.eof:
            raise UnreadableObject("index file: it is truncated")
        total += len(chunk)
        if total > MAX_UNPACKED_BYTES:
            raise UnreadableObject(f"index file: unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        *lines, waiting = (waiting + chunk).split(b"\n")
        yield from (line for line in lines if line)
        if len(waiting) > MAX_LINE_BYTES:
            raise UnreadableObject(f"index file: a line of more than {MAX_LINE_BYTES} bytes")
    if waiting:
        yield waiting


def _checked(fields: Mapping[str, Any], default: str | None) -> IndexLine:
    """Return the event from the fields of a line; without a `writer` it is `default`.

    Raises UnreadableObject, with the field at fault.
    """
    try:
        if fields["v"] != VERSION:
            raise ValueError(f"v: expected {VERSION}")
        event_id = _text(fields, "event_id")
        started_at, ended_at = _time(fields, "started_at"), _time(fields, "ended_at")
        event_started(event_id)
        zones = fields["zones"]
        if not isinstance(zones, list) or len(zones) > MAX_ZONES:
            raise ValueError("zones: expected a list of names")
        if not all(isinstance(zone, str) and is_name(zone) for zone in zones):
            raise ValueError("zones: expected names")
        reason, writer = _text(fields, "reason"), fields.get("writer", default)
        if not _REASON.fullmatch(reason):
            raise ValueError("reason: expected a word")
        if writer is not None and not (isinstance(writer, str) and WRITER.fullmatch(writer)):
            raise ValueError("writer: expected six hex digits")
        return IndexLine(
            event_id=event_id,
            started_at=started_at,
            ended_at=ended_at,
            duration_s=_number("duration_s", fields["duration_s"], 1e9),
            reason=reason,
            peak_score=_number("peak_score", fields["peak_score"], 1.0),
            zones=tuple(zones),
            frames=_whole("frames", fields["frames"]),
            bytes=_whole("bytes", fields["bytes"]),
            best=None if fields["best"] is None else _whole("best", fields["best"]),
            scores=_scores(fields["scores"]),
            no=None if fields.get("no") is None else _whole("no", fields["no"], 1),
            writer=writer,
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise UnreadableObject(f"index line: {_why(exc)}") from exc


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text")
    return value


def _time(fields: Mapping[str, Any], name: str) -> datetime:
    try:
        return parse_iso(_text(fields, name))
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"{name}: expected a time with a zone") from exc


def _number(name: str, value: object, maximum: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: expected a number")
    if not 0 <= value <= maximum:  # nor NaN
        raise ValueError(f"{name}: expected 0 to {maximum:g}")
    return float(value)


def _scores(values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or len(values) > MAX_SCORES:
        raise ValueError(f"scores: expected at most {MAX_SCORES}")
    # Check all at once, for speed. The sum detects NaN, which `min` may miss: comparing NaN is false.
    if (
        {float}.issuperset(map(type, values))
        and values
        and min(values) >= 0 <= sum(values)
        and max(values) <= 1
    ):
        return tuple(values)
    return tuple(_number("scores", score, 1.0) for score in values)


def _whole(name: str, value: object, minimum: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= _MAX_WHOLE:
        raise ValueError(f"{name}: expected a whole number, {minimum} or more")
    return value


def _why(exc: Exception) -> str:
    return f"{exc.args[0]}: missing" if isinstance(exc, KeyError) else str(exc)[:200]
