"""The values of the API. Times are ISO 8601 in UTC; areas and scores are shares, 0..1."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field

from async_motion.core.options import HORIZON, MIN_AREA, Role, Sensitivity
from async_motion.web.api.routing import Model

MIN_YEAR: Final = 1970
MAX_YEAR: Final = 9000


def _iso(value: object) -> object:
    """Refuse text that pydantic would parse as seconds since 1970. Raises ValueError."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError("expected ISO 8601")
    return value


AnyDate = TypeVar("AnyDate", bound=date)


def _in_range(value: AnyDate) -> AnyDate:
    """Refuse the ends of the calendar, where another time zone or the next day fails. Raises ValueError."""
    if not MIN_YEAR <= value.year <= MAX_YEAR:
        raise ValueError(f"expected a year from {MIN_YEAR} to {MAX_YEAR}")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_iso), AfterValidator(_in_range)]
Day = Annotated[date, BeforeValidator(_iso), AfterValidator(_in_range)]
Share = Annotated[float, Field(ge=0, le=1)]
Point = Annotated[list[Share], Field(min_length=2, max_length=2)]
Shape = Annotated[list[Point], Field(min_length=3)]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]

# ---- session ----


class Session(Model):
    """Who asks, and whom."""

    instance: str
    version: str
    role: Role
    how: str
    name: str


class JsonDocument(Model):
    """A JSON document with a contract of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)


# ---- cameras ----


class ZoneShape(Model):
    """A zone. `title` is its display name; null: its name."""

    polygon: Shape
    title: str | None = None
    sensitivity: Sensitivity | None = None
    min_area: Share | None = None


class Camera(Model):
    """A camera, as it is now. `picture` changes with each judged picture."""

    name: str
    title: str
    enabled: bool
    status: str
    problem: str | None
    motion: bool
    detecting: bool
    picture: str | None
    fps: float
    score: float
    events_today: int
    last_motion: str | None
    min_area: float
    min_area_far: float | None
    max_area: float
    horizon: float
    masks: list[Shape]
    zones: dict[str, ZoneShape]


class CameraList(Model):
    cameras: list[Camera]


class ImageQuery(Model):
    width: int = Field(default=960, ge=16, le=8192, description="Pixels, rounded up to a width in use.")


class LayerQuery(Model):
    layer: Literal["background", "noise", "unrest"] = Field(
        description="Which part of what the detector has learned."
    )


class ScorePoint(Model):
    at: float
    score: float
    motion: bool
    reason: str


class Scores(Model):
    """The scores of the last minutes, oldest first; `at` in seconds since 1970."""

    min_area: float
    scores: list[ScorePoint]


class NewsQuery(Model):
    camera: str | None = Field(
        default=None, max_length=64, description="The camera whose verdicts are sent too."
    )


class NewsAfterQuery(NewsQuery):
    cursor: str = Field(
        default="", max_length=64, description="From the answer before; blank: begin now, without waiting."
    )


class NewsItem(Model):
    """One of the news: motion, status, event or judged."""

    name: str
    values: dict[str, Any]


class NewsPage(Model):
    """The news since a cursor, oldest first, and the cursor for the next request."""

    cursor: str
    news: list[NewsItem]


# ---- stored events ----


class EventsQuery(Model):
    camera: str | None = Field(default=None, max_length=64, description="Of one camera.")
    day: Day | None = Field(default=None, description="A day of the service's own time zone.")
    since: Moment | None = Field(default=None, description="Begun at this time or later.")
    until: Moment | None = Field(default=None, description="Begun before this time.")
    zone: str | None = Field(default=None, max_length=64, description="That touched this zone.")
    min_score: float = Field(default=0.0, ge=0, le=1, description="That peaked at this score or higher.")
    min_duration: float = Field(
        default=0.0, ge=0, le=1e9, description="That lasted this long or longer, in s."
    )
    before: str | None = Field(
        default=None, pattern=r"^\d{8}T\d{9}Z-[0-9a-f]{6}$", description="Older than this event."
    )
    limit: int = Field(default=48, ge=1, le=500, description="How many at most.")


class StoredEvent(Model):
    """A stored event. `best` is the `seq` of its best frame."""

    camera: str
    event_id: str
    no: int | None
    started_at: str
    ended_at: str | None
    duration_s: float | None
    reason: str | None
    peak_score: float
    zones: list[str]
    frames: int
    bytes: int
    best: int | None
    scores: list[float]


class Events(Model):
    """A page of events, the newest first. `before` asks for the next page, where there may be one."""

    events: list[StoredEvent]
    before: str | None


class EventFrame(Model):
    """A stored frame. A box is left, top, width, height, as shares of the picture."""

    seq: int
    captured_at: str
    score: float
    boxes: list[Box]
    zones: list[str]
    width: int
    height: int
    size: int
    sha256: str


class EventFrames(Model):
    event: StoredEvent
    frames: list[EventFrame]


class FrameQuery(Model):
    width: int | None = Field(default=None, ge=16, le=8192, description="Pixels. Blank: as it is stored.")


class LinkBody(Model):
    hours: float = Field(default=24, gt=0, le=168)


class Link(Model):
    url: str


class Deleted(Model):
    objects: int


# ---- settings ----

Kind = Literal["flag", "choice", "secret", "text", "shape"]


class SettingsField(Model):
    """One key. In `place`, `*` stands for a camera's name. A shape is drawn, not typed."""

    place: list[str]
    kind: Kind
    choices: list[str]
    default: str
    hint: str
    help: str
    required: bool


class SettingsContent(Model):
    """The settings as the file has them, by dotted key; of `secrets` only what may be shown."""

    version: str
    file: str
    fields: list[SettingsField]
    values: dict[str, str]
    secrets: dict[str, str]
    environment: dict[str, str]
    cameras: list[str]
    problem: str | None


class SettingsChange(Model):
    place: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(min_length=1, max_length=8)
    value: Any = None


class SettingsBody(Model):
    version: str = Field(max_length=64)
    changes: list[SettingsChange] = Field(min_length=1, max_length=500)
    dry_run: bool = False


class Done(Model):
    """What was done, a line each."""

    done: list[str]


class Saved(Done):
    """What was done, a line each, and the version of the file that holds it."""

    version: str


class ProbeBody(Model):
    source: str = Field(min_length=1, max_length=2048)


class ShapesBody(Model):
    """Masks, zones and areas, as they would be."""

    masks: list[Shape] = Field(default=[], max_length=64)
    zones: dict[str, ZoneShape] = Field(default={}, max_length=64)
    min_area: Share = MIN_AREA
    min_area_far: Share | None = None
    horizon: float = Field(default=HORIZON, ge=0, le=0.9)


class JudgedEvent(Model):
    event: StoredEvent
    reported: bool
    zones: list[str]


class Judged(Model):
    """The camera's last events, the newest first, as they would have been."""

    events: list[JudgedEvent]


# ---- upkeep ----


class AsideFrame(Model):
    number: int
    camera: str
    event_id: str
    captured_at: str
    object_key: str
    size: int
    reason: str


class AsideFrames(Model):
    """Frames that the store refused for good, the oldest first."""

    frames: list[AsideFrame]


class RetryBody(Model):
    """Which frames; null: all."""

    numbers: list[Annotated[int, Field(strict=True, ge=0, le=2**53)]] | None = Field(
        default=None, max_length=1000
    )


class Retried(Model):
    count: int


class LogEntry(Model):
    at: str
    level: str
    logger: str
    text: str


class Log(Model):
    """The oldest first."""

    lines: list[LogEntry]
