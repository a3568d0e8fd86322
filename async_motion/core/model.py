"""The frozen values that packages hand to each other; none knows where it came from or goes to.

    Frame ──detector──▶ Detection ──tracker──▶ MotionEvent ──policy, encoder──▶ Record ──store──▶ StoredFrame

Areas, boxes and polygons are shares of the image, 0..1, so that they hold at every resolution.
`captured_at` and its kin are aware UTC datetimes and only labels; every interval is taken from `monotonic`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]
"""(H, W) uint8, 0..255: the brightness plane."""

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, channels in the order blue, green, red."""


class Box(NamedTuple):
    """A rectangle as shares of the image: left, top, width, height, each 0..1."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One frame from a camera with its two clocks.

    `luma` may be a view into a decoder's buffer: it is read, never written, and lives as long as the frame.
    `bgr` makes the (H, W, 3) uint8 colour image from the data already decoded, at the best resolution that
    the camera has, which may be larger than `luma`. It blocks: call it in an executor, only for frames kept.
    """

    camera: str
    captured_at: datetime
    monotonic: float
    luma: Luma
    bgr: Callable[[], Image]
    nbytes: int
    """What keeping this frame costs in memory, for the ring of pre-roll frames."""
    codec: str = ""
    """How the camera had encoded it; empty where nothing was."""
    preview: Callable[[], Image] | None = None
    """The watched stream's own colours, where `bgr` costs more; None: `bgr` are these. Blocks."""


class Reason(StrEnum):
    """Why a frame got its verdict."""

    MOTION = "motion"
    STILL = "still"
    LEARNING = "learning"
    BELOW_AREA = "below_area"
    ABOVE_AREA = "above_area"
    MASKED = "masked"
    SCENE_CHANGE = "scene_change"
    DEBOUNCE = "debounce"
    """Large enough, but not yet seen in enough frames."""


class SceneChange(StrEnum):
    """What kind of change met the whole image at once."""

    LIGHT = "light"
    INFRARED = "infrared"
    EXPOSURE = "exposure"
    MOVED = "moved"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The verdict on one frame.

    `score` is the share of the watched image that moved, 0..1, and 0 where `motion` is False and nothing
    was seen at all. `boxes` are the connected regions, largest first. `zones` are the named zones in which
    something moved, in the order of the settings. `scene_change` is set when `reason` is SCENE_CHANGE.
    `changed` is the raw share of pixels that differed before any test; `jump` the share of the image that,
    a shake apart, is not as in the frame before; `noise` the scene's typical deviation in grey levels. What
    was compensated: frame = `gain` * background + `offset` in grey levels (1.0 and 0.0: nothing), and
    `shift`, by which the scene lay right of and below its place, in shares of the image's width and height.
    """

    motion: bool
    reason: Reason
    score: float = 0.0
    boxes: tuple[Box, ...] = ()
    zones: tuple[str, ...] = ()
    scene_change: SceneChange | None = None
    changed: float = 0.0
    jump: float = 0.0
    noise: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)


class Phase(StrEnum):
    """The phases of an event, in their order."""

    START = "start"
    UPDATE = "update"
    END = "end"


class EndReason(StrEnum):
    """Why an event ended."""

    QUIET = "quiet"
    """Nothing moved for the off-delay."""
    MAX_LENGTH = "max_length"
    """The event was cut; if motion goes on, the next one begins."""
    CAMERA_LOST = "camera_lost"
    DETECTION_OFF = "detection_off"
    STOPPED = "stopped"
    """The service was stopped on purpose, or the video file has ended."""
    INTERRUPTED = "interrupted"
    """The service died during the event; the next start closed it."""
    WORKER_LOST = "worker_lost"
    """The worker of a fleet that watched the camera was lost during the event; the next owner closed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionEvent:
    """A stretch of motion on one camera, as far as it is known now.

    `ended_at` and `end_reason` are set from the end on. `zones` are those touched so far, `peak_score` the
    highest score so far. In a fleet `worker` watched, with the lease `epoch`; both are None without one.
    """

    event_id: str
    instance: str
    camera: str
    started_at: datetime
    peak_score: float = 0.0
    zones: tuple[str, ...] = ()
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    worker: str | None = None
    epoch: int | None = None


class CameraStatus(StrEnum):
    """What a camera is doing, as its state says it."""

    STARTING = "starting"
    """It has not given a frame yet."""
    WATCHING = "watching"
    PAUSED = "paused"
    """It gives frames, and detection is switched off."""
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPhase:
    """An event's start or end on its way through the spool.

    It is delivered after every record of the same event that was accepted before it, so that an automation
    on the start finds the opening frame, and the end comes after the event's last announcement.
    """

    phase: Phase
    event: MotionEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInfo:
    """All that is said of a kept frame but its bytes. `seq` counts from 0 within its event.

    `size` is the JPEG's length in bytes, `width` and `height` are its pixels, `sha256` its hex digest. In a
    fleet `worker` captured it, with the lease `epoch`; both are None without one.
    """

    instance: str
    camera: str
    event_id: str
    seq: int
    captured_at: datetime
    object_key: str
    sha256: str
    size: int
    width: int
    height: int
    score: float = 0.0
    boxes: tuple[Box, ...] = ()
    zones: tuple[str, ...] = ()
    worker: str | None = None
    epoch: int | None = None

    @property
    def frame_id(self) -> str:
        """The identity by which subscribers drop repeats."""
        return f"{self.event_id}-{self.seq:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A motion frame that the service accepts: it is never lost from the moment its commit is on the disk."""

    info: FrameInfo
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFrame:
    """A record that the store has confirmed, as it is announced.

    `delayed`: the announcement comes late, because a peer was away. `url` is a presigned GET link. `writer`
    is the id of the spool that accepted it, `no` the number of its event within that writer; both are None
    for what was stored before there were numbers, `no` also for a frame without an event.
    """

    info: FrameInfo
    bucket: str
    etag: str
    stored_at: datetime
    delayed: bool = False
    url: str | None = None
    writer: str | None = None
    no: int | None = None
