"""The day log: what a service did on one day. Time watched, frames suppressed and lost, outages.

    {prefix}{instance}/.days/1/{YYYY}/{MM}/{DD}.{writer}.jsonl.gz

A file belongs to one day (UTC) and one `writer`, the id of the spool beside which the service ran, so that
writers never overwrite each other. It is gzip over JSON Lines, as the index is: a line for the service
(`camera` null) and one for each camera. Counts are kept by the hour, so that a reader can add up the days of
any time zone. No camera can be called `.days`. Readers that do not know the files ignore them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from async_motion.core.index import day_file_name, pack_encoded
from async_motion.core.names import is_name
from async_motion.core.payloads import encode, iso, parse_iso
from async_motion.core.strict_json import parse_object
from async_motion.errors import UnreadableObject

VERSION: Final = 1
DAYS: Final = ".days"
"""The folder of an instance's day logs; no camera can have this name."""
MAX_OUTAGES: Final = 64
"""More outages of one kind, subject and day are counted in `unlisted`."""
MAX_PROBLEM: Final = 200
"""A longer reason of an outage is cut, in characters."""
MAX_LINE_BYTES: Final = 64 * 1024

_WORD = re.compile(r"[a-z0-9_]{1,64}")
_MAX_WORDS = 64
_MAX_COUNT = 2**53 - 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(slots=True, kw_only=True)
class HourLog:
    """One hour of one subject. Seconds, and counts by reason.

    For a camera, `watched_s` is the time in which its frames were judged, `paused_s` that in which detection
    was switched off. For the service, `watched_s` is the time for which it ran. `suppressed` counts frames
    that were no motion, by the reason of the verdict; `stretches` how often such frames began. `lost` counts
    frames that were dropped: of a camera, before the spool accepted them; of the service, afterwards.
    """

    watched_s: float = 0.0
    paused_s: float = 0.0
    frames: int = 0
    suppressed: Counter[str] = field(default_factory=Counter)
    stretches: Counter[str] = field(default_factory=Counter)
    scene_changes: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def add(self, other: HourLog) -> None:
        """Add the figures of another hour."""
        self.watched_s += other.watched_s
        self.paused_s += other.paused_s
        self.frames += other.frames
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))


_COUNTERS = ("suppressed", "stretches", "scene_changes", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which something did not work.

    `kind` is `offline` or `image` of a camera, `store`, `broker` or `spool` of the service. `problem` is one
    line, without secrets.
    """

    kind: str
    began: datetime
    ended: datetime
    problem: str


@dataclass(slots=True, kw_only=True)
class SubjectLog:
    """One day of a camera, or of the service. `hours` are in UTC, 0..23.

    `unlisted` is the number of outages by kind that are not in `outages`, `unlisted_s` their seconds.
    """

    hours: dict[int, HourLog] = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)
    unlisted: Counter[str] = field(default_factory=Counter)
    unlisted_s: float = 0.0


def day_log_root(prefix: str, instance: str) -> str:
    """Return the prefix of all day logs of an instance, with its closing slash."""
    return f"{prefix}{instance}/{DAYS}/{VERSION}/"


def day_log_key(prefix: str, instance: str, day: date, writer: str) -> str:
    """Return the key of the log of one day (UTC) and writer."""
    return day_log_root(prefix, instance) + day_file_name(day, writer)


def encode_day_line(camera: str | None, log: SubjectLog) -> bytes:
    """Return the line of a camera, or of the service (None), without its newline."""
    return encode(
        {
            "v": VERSION,
            "camera": camera,
            "hours": {f"{hour:02d}": _hour_to_json(log.hours[hour]) for hour in sorted(log.hours)},
            "outages": [
                {
                    "kind": outage.kind,
                    "began_at": iso(outage.began),
                    "ended_at": iso(outage.ended),
                    "problem": outage.problem,
                }
                for outage in log.outages
            ],
            "unlisted": dict(log.unlisted),
            "unlisted_s": round(log.unlisted_s, 1),
        }
    )


def pack_day_log(lines: Iterable[bytes]) -> bytes:
    """Return the file of these lines. Equal lines make equal bytes."""
    return pack_encoded(lines)


def parse_day_line(text: bytes | str) -> tuple[str | None, SubjectLog]:
    """Return the subject of a line (None: the service) and its log. Raises UnreadableObject."""
    try:
        fields = parse_object(text, max_bytes=MAX_LINE_BYTES)
        if fields["v"] != VERSION:
            raise ValueError(f"v: expected {VERSION}")
        camera = fields["camera"]
        if camera is not None and not (isinstance(camera, str) and is_name(camera)):
            raise ValueError("camera: expected a name or null")
        log = SubjectLog(
            hours={_hour_of(hour): _hour(figures) for hour, figures in _object(fields, "hours").items()},
            outages=[_outage(each) for each in fields["outages"]],
            unlisted=_counts(fields, "unlisted"),
            unlisted_s=_seconds(fields, "unlisted_s"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        why = f"{exc.args[0]}: missing" if isinstance(exc, KeyError) else str(exc)[:200]
        raise UnreadableObject(f"day log: {why}") from exc
    if len(log.outages) > MAX_OUTAGES * _MAX_WORDS:
        raise UnreadableObject("day log: too many outages")
    return camera, log


def problem_line(problem: str) -> str:
    """Return a reason as it is logged: one line, cut to `MAX_PROBLEM`."""
    line = _CONTROL.sub(" ", problem).strip()
    return line if len(line) <= MAX_PROBLEM else line[: MAX_PROBLEM - 1] + "…"


def _hour_to_json(hour: HourLog) -> dict[str, Any]:
    counters = {name: dict(sorted(getattr(hour, name).items())) for name in _COUNTERS}
    return {
        "watched_s": round(hour.watched_s, 1),
        "paused_s": round(hour.paused_s, 1),
        "frames": hour.frames,
        **{name: counts for name, counts in counters.items() if counts},
    }


def _hour_of(text: str) -> int:
    if not re.fullmatch(r"[01]\d|2[0-3]", text):
        raise ValueError("hours: expected 00 to 23")
    return int(text)


def _hour(fields: Mapping[str, Any]) -> HourLog:
    if not isinstance(fields, dict):
        raise ValueError("hours: expected objects")
    return HourLog(
        watched_s=_seconds(fields, "watched_s"),
        paused_s=_seconds(fields, "paused_s"),
        frames=_count("frames", fields.get("frames", 0)),
        **{name: _counts(fields, name) for name in _COUNTERS},
    )


def _outage(fields: Mapping[str, Any]) -> Outage:
    kind, problem = fields["kind"], fields["problem"]
    if not (isinstance(kind, str) and _WORD.fullmatch(kind) and isinstance(problem, str)):
        raise ValueError("outages: expected a kind and a problem")
    began, ended = parse_iso(fields["began_at"]), parse_iso(fields["ended_at"])
    if ended < began:
        raise ValueError("outages: ended before it began")
    return Outage(kind=kind, began=began, ended=ended, problem=problem_line(problem))


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name, {})
    if not isinstance(value, dict) or len(value) > _MAX_WORDS:
        raise ValueError(f"{name}: expected an object of at most {_MAX_WORDS} entries")
    return value


def _counts(fields: Mapping[str, Any], name: str) -> Counter[str]:
    counts = _object(fields, name)
    if not all(_WORD.fullmatch(key) for key in counts):
        raise ValueError(f"{name}: expected words")
    return Counter({key: _count(name, value) for key, value in counts.items()})


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"{name}: expected whole numbers, 0 or more")
    return value


def _seconds(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected seconds")
    if not 0 <= value <= 1e6:
        raise ValueError(f"{name}: expected seconds from 0 to 1e6")
    return float(value)
