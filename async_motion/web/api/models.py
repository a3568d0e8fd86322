"""The values of the API. Times are ISO 8601 in UTC; areas and scores are shares, 0..1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from async_motion.web.api.routing import Model

Share = Annotated[float, Field(ge=0, le=1)]
Point = Annotated[list[Share], Field(min_length=2, max_length=2)]
Shape = list[Point]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]

# ---- session ----


class Session(Model):
    """Who asks, and whom."""

    instance: str
    version: str
    role: Literal["viewer", "admin"]
    how: str
    name: str


class Document(Model):
    """A JSON document with a contract of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)


# ---- cameras ----


class Zone(Model):
    polygon: Shape
    sensitivity: Literal["low", "medium", "high"] | None = None
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
    zones: dict[str, Zone]


class Cameras(Model):
    cameras: list[Camera]


class PictureQuery(Model):
    width: int = Field(default=960, ge=16, le=8192, description="Pixels, rounded up to a width that is made.")


class LayerQuery(Model):
    layer: Literal["background", "noise", "unrest"] = Field(description="What the detector knows.")


class Score(Model):
    at: float
    score: float
    motion: bool
    reason: str


class Scores(Model):
    """The scores of the last minutes, oldest first; `at` in seconds since 1970."""

    min_area: float
    scores: list[Score]


class NewsQuery(Model):
    camera: str | None = Field(default=None, max_length=64, description="Whose verdicts come too.")


Anything = dict[str, Any]
