"""The content of the pages of stored events: a day's timeline, cards, an event's strip, text for figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from async_motion.core.model import FrameInfo
from async_motion.retrieval import Event
from async_motion.web.editor import Current, EditorField

PAGE: Final = 48
EAGER: Final = 20
"""Images of the grid that a browser fetches at once: a desktop's first screen. Others wait for the layout."""
EXPECTED: Final = 24
"""Thumbnails of the grid that are made before the browser requests them: a desktop's first screen."""
THUMBNAIL: Final = 320
"""Width of a thumbnail in pixels."""
ROWS: Final = 8
"""Rows of the timeline that are shown at once; if there are more, the cameras with events come first."""
STRIP: Final = 48
"""Maximum frames in an event's strip, evenly spread."""
MINUTES: Final = 1440

ENDED: Final[Mapping[str, str]] = {
    "quiet": "Nothing moved any more.",
    "max_length": "It was cut at its maximum length; the motion continues in the next event.",
    "camera_lost": "The camera was lost.",
    "detection_off": "Detection was switched off.",
    "stopped": "The service was stopped.",
    "interrupted": "The service was interrupted; the next start closed it.",
    "worker_lost": "The worker that watched was lost; another one closed it.",
}


def ended(event: Event) -> str:
    """Return why an event ended, as a sentence."""
    if event.ended_at is None:
        return (
            "It has not ended."
            if event.ongoing
            else "Its end is not stored: the service was cut off, or has not delivered it yet."
        )
    return ENDED.get(event.reason or "", event.reason or "")


def when(at: datetime) -> str:
    """Return the local time of day as HH:MM:SS."""
    return f"{at.astimezone():%H:%M:%S}"


def day_words(day: date, today: date) -> str:
    """Return a day as text: Today, Yesterday, or weekday and date, with the year unless it is this one."""
    if day == today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return f"{day:%a} {day.day} {day:%b}" + ("" if day.year == today.year else f" {day.year}")


def lasted(event: Event) -> str:
    """Return an event's duration as text; `ongoing` or `no end` for one without."""
    seconds = event.duration_s
    if seconds is None:
        return event.open_word
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def spark(scores: Sequence[float], width: int = 64, height: int = 16) -> str:
    """Return the points of an SVG polyline through the scores, in pixels; empty for fewer than two."""
    if len(scores) < 2:
        return ""
    top = max(*scores, 1e-6)
    step = width / (len(scores) - 1)
    return " ".join(
        f"{place * step:.1f},{height - 1 - (height - 2) * score / top:.1f}"
        for place, score in enumerate(scores)
    )


def timeline(events: Iterable[Event], titles: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a row for each camera of a local day: name, title, count, and one SVG path of its events.

    x is the time of day in minutes, as the hours below it are, also where clocks change.
    """
    rows: dict[str, list[str]] = {name: [] for name in titles}
    for event in events:
        began = event.started_at.astimezone()
        at = began.hour * 60 + began.minute + began.second / 60
        width = min(max(1.5, (event.duration_s or 0.0) / 60), MINUTES - at)
        rows.setdefault(event.camera, []).append(f"M{at:.1f} 0h{width:.1f}v16h-{width:.1f}z")
    if len(rows) > ROWS:
        rows = dict(sorted(rows.items(), key=lambda row: not row[1]))
    return [
        {"camera": name, "title": titles.get(name, name), "path": "".join(path), "count": str(len(path))}
        for name, path in rows.items()
    ]


def in_hour(events: Iterable[Event], hour: int) -> list[Event]:
    """Return the events that began in an hour (0..23) of the local day."""
    return [event for event in events if event.started_at.astimezone().hour == hour]


def card(event: Event, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of an event's card in the grid."""
    return {
        "camera": event.camera,
        "title": titles.get(event.camera, event.camera),
        "id": event.event_id,
        "best": event.best,
        "time": when(event.started_at),
        "lasted": lasted(event),
        "score": event.peak_score,
        "zones": event.zones,
        "spark": spark(event.scores),
        "open": event.ongoing,
    }


def spread(frames: Sequence[FrameInfo], count: int = STRIP) -> list[FrameInfo]:
    """Return at most `count` frames, evenly spread, including the first and the last."""
    if len(frames) <= count:
        return list(frames)
    return [frames[round(place * (len(frames) - 1) / (count - 1))] for place in range(count)]


def grouped(fields: Sequence[EditorField], current: Current, camera: str) -> list[dict[str, Any]]:
    """Return the settings by section, without secrets and shapes, for the page without script.

    `camera`: the settings of this camera; blank: those of the service.
    """
    groups: dict[str, list[dict[str, str]]] = {}
    for field in fields:
        ours = field.place[0] == "cameras"
        if ours != bool(camera) or field.kind in ("secret", "shape"):
            continue
        place = field.place[2:] if ours else field.place
        key = ".".join(("cameras", camera, *place) if ours else place)
        group = place[0] if len(place) > 1 else "general"
        groups.setdefault(group, []).append(
            {"label": ".".join(place), "value": current.values.get(key, ""), "default": field.default}
        )
    return [{"title": title, "fields": found} for title, found in groups.items()]


def address(page: str, **values: object) -> str:
    """Return the relative URL of a page with its query; None and blank values are omitted."""
    given = {key: str(value) for key, value in values.items() if value not in (None, "")}
    return f"{page}?{urlencode(given)}" if given else page
