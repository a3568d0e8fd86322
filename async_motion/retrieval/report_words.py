"""The words of a report, shared by the page and the text."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from async_motion.core.day_log import Outage
from async_motion.retrieval.day_logs import Account
from async_motion.retrieval.report import Report

SUPPRESSED: Final = {
    "below_area": "too small",
    "above_area": "too large",
    "masked": "in a mask",
    "debounce": "too brief",
    "scene_change": "whole scene",
}
"""Why frames in which something changed were no motion."""
SCENE_CHANGES: Final = {"moved": "camera moved", "unknown": "of unknown kind"}
LOST: Final = {
    "too_slow": "machine too slow",
    "corrupt": "corrupt in the stream",
    "encode": "not encoded",
    "spool": "not accepted by the spool",
    "full": "spool full",
    "age": "too old in the spool",
    "too_large": "larger than the spool",
    "full_stored": "announcement dropped, spool full",
    "full_aside": "refused, then dropped",
    "age_phase": "start or end too old",
    "unreadable_phase": "start, end or summary unreadable",
    "refused": "refused by the store",
}
"""How frames were lost."""
ENDS: Final = (
    *("quiet again", "cut for length", "camera lost"),
    *("service stopped", "not ended", "not in the bucket"),
)
"""How events ended; the last two are those without an end, and those missing by their numbers."""
_SERVICE: Final = {"store": "store", "broker": "broker", "spool": "spool"}
_CAMERA: Final = {"offline": "offline", "image": "image problem"}


def word(words: dict[str, str], name: str) -> str:
    """Return the words for a reason; an unknown one by its own name."""
    return words.get(name, name.replace("_", " "))


def lasted(seconds: float) -> str:
    """Return a duration for people: `12 s`, `7 min`, `3 h 05 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Return a number of bytes for people: `76 B`, `340 kB`, `61 MB`, `1.2 GB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.{1 if count < 10 * scale else 0}f} {unit}"
    return f"{count / 1e3:.0f} kB" if count >= 1e3 else f"{count:.0f} B"


def subject(of: str, outage: Outage) -> str:
    """Return what did not work: `store`, `porch offline`, `porch image problem`."""
    return f"{of} {word(_CAMERA, outage.kind)}" if of else word(_SERVICE, outage.kind)


def outage_rows(report: Report, max_rows: int) -> tuple[list[tuple[str, str, str, str]], int]:
    """Return (what, when, how long, why) of the longest outages, by their start; and the number of others."""
    outages = report.outages()
    longest = sorted(outages, key=lambda each: each[1].began - each[1].ended)[:max_rows]
    rows = [
        (
            subject(of, outage),
            when(outage.began, report),
            lasted((outage.ended - outage.began).total_seconds()),
            outage.problem,
        )
        for of, outage in outages
        if (of, outage) in longest
    ]
    return rows, len(outages) - len(rows) + report.unlisted


def offline(account: Account) -> str:
    """Return how often a camera was offline, and for how long: `3 × (12 min)`; empty if never."""
    times = sum(outage.kind == "offline" for outage in account.outages) + account.unlisted["offline"]
    return f"{times:,} × ({lasted(account.outage_s('offline'))})" if times else ""


def paused(account: Account) -> str:
    """Return for how long detection was paused; empty if never."""
    return lasted(account.total.paused_s) if account.total.paused_s else ""


def scene_changes(report: Report) -> list[str]:
    """Return a text for each camera whose whole scene changed: `porch: 3 light, 1 camera moved`."""
    return [
        f"{camera}: {counts(SCENE_CHANGES, day.account.total.scene_changes)}"
        for camera, day in report.cameras.items()
        if day.account.total.scene_changes
    ]


def end_rows(report: Report) -> list[tuple[str, ...]]:
    """Return each camera and its counts for `ENDS`; empty for 0."""
    rows = []
    for camera, day in report.cameras.items():
        stopped = day.reasons["interrupted"] + day.reasons["worker_lost"] + day.reasons["stopped"]
        ends = (day.reasons["quiet"], day.reasons["max_length"], day.reasons["camera_lost"], stopped)
        rows.append((camera, *(f"{n:,}" if n else "" for n in (*ends, day.open, day.lost_events))))
    return rows


def when(at: datetime, report: Report) -> str:
    """Return a moment in local time; in a week with its day."""
    local = at.astimezone()
    return f"{local:%H:%M:%S}" if report.is_day else f"{local:%a} {local.day} {local:%H:%M}"


def counts(words: dict[str, str], some: dict[str, int]) -> str:
    """Return counts with their reasons, the largest first: `12 machine too slow, 3 spool full`."""
    ordered = sorted(some.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count:,} {word(words, name)}" for name, count in ordered if count)


def title(report: Report) -> str:
    """Return the title of a report, with its first and last day."""
    first, last = report.marks[0], report.marks[-1] - timedelta(hours=1)
    span = f"{first.day} {first:%B %Y} to {last.day} {last:%B %Y}"
    if report.is_day:
        span = f"{first:%A} {first.day} {first:%B %Y}"
    return f"Motion at {report.instance}, {span}"


def offsets(report: Report) -> str:
    """Return the offset of local time, or both where it changes: `UTC+0200 to UTC+0100`."""
    return " to ".join(dict.fromkeys(f"UTC{mark:%z}" for mark in (report.marks[0], report.marks[-1])))
