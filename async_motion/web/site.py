"""What the pages depend on: the running service, seen through protocols declared here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from async_motion.core.options import HORIZON, MAX_AREA, MIN_AREA
from async_motion.web.archive import Archive
from async_motion.web.editor import SettingsEditor
from async_motion.web.live import Live
from async_motion.web.state import Snapshot
from async_motion.web.upkeep import Upkeep

Polygon = tuple[tuple[float, float], ...]
"""Points (x, y), as shares of width and height, 0..1 from the top left corner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneFacts:
    """A zone of the settings, with its display name. None: the camera's value."""

    polygon: Polygon
    title: str | None = None
    sensitivity: str | None = None
    min_area: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFacts:
    """The settings of a camera that the pages show. Areas are shares of the image, 0..1."""

    title: str
    enabled: bool = True
    min_area: float = MIN_AREA
    min_area_far: float | None = None
    max_area: float = MAX_AREA
    horizon: float = HORIZON
    masks: tuple[Polygon, ...] = ()
    zones: Mapping[str, ZoneFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """All that the pages of one service need. `cameras` returns the cameras in force, by name."""

    instance: str
    version: str
    snapshot: Snapshot
    cameras: Callable[[], Mapping[str, CameraFacts]]
    live: Live
    archive: Archive | None = None
    editor: SettingsEditor | None = None
    upkeep: Upkeep | None = None
