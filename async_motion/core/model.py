"""The frozen values that packages hand to each other; they do not depend on their source or destination.

    Frame ──detector──▶ Detection ──tracker──▶ MotionEvent ──policy, encoder──▶ Record ──store──▶ StoredFrame

Areas, boxes and polygons are shares of the image, 0..1, so that they hold at every resolution. `captured_at`
and the other datetimes are aware, in UTC, and only labels; every interval is measured with `monotonic`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Luma: TypeAlias = NDArray[np.uint8]
    """(H, W) uint8, 0..255: the brightness plane."""

    Image: TypeAlias = NDArray[np.uint8]
    """(H, W, 3) uint8, channels in the order blue, green, red."""
else:
    # Commands that read the bucket import this module; numpy would be a fifth of their start.
    Luma = Image = Any


class Box(NamedTuple):
    """A rectangle as shares of the image: left, top, width, height, each 0..1."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One frame from a camera with its two clocks: `captured_at` (UTC) and `monotonic` (seconds).

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
    """The memory in bytes that this frame holds, for the pre-roll."""
    codec: str = ""
    """The codec of the camera's stream; empty if it was not encoded."""
    preview: Callable[[], Image] | None = None
    """Makes the colour image of the watched stream, where `bgr` costs more; None: use `bgr`. Blocks."""


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
    """The kind of a change of the whole image."""

    LIGHT = "light"
    INFRARED = "infrared"
    EXPOSURE = "exposure"
    MOVED = "moved"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The verdict on one frame.

    `score` is the share of the watched image that moved, 0..1; 0 without motion. `boxes` are the connected
    regions, largest first. `zones` are the named zones with motion, in the order of the settings.
    `scene_change` is set when `reason` is SCENE_CHANGE. `changed` is the raw share of pixels that differed
    before any test. `jump` is the share of the image that differs from the frame before, with the shake
    undone. `noise` is the scene's typical deviation in grey levels. Compensated were the light, with
    `frame = gain * background + offset` in grey levels (1.0 and 0.0: nothing), and the `shift` of the scene
    to the right and down, in shares of the image's width and height.
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
    """The phases of an event, in order."""

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
    """A stretch of motion on one camera, as known now.

    `ended_at` and `end_reason` are set from the end on. `zones` are those touched so far, `peak_score` the
    highest score so far. In a fleet, `worker` watched under the lease `epoch`; both are None without a fleet.
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
    """What a camera is doing, as published in its state."""

    STARTING = "starting"
    """It has not delivered a frame yet."""
    WATCHING = "watching"
    PAUSED = "paused"
    """It delivers frames, and detection is switched off."""
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPhase:
    """An event's start or end on its way through the spool.

    It is delivered after every record of the same event that was accepted before it. So an automation that
    is triggered by the start finds the opening frame, and the end comes after the event's last announcement.
    """

    phase: Phase
    event: MotionEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInfo:
    """The metadata of a kept frame. `seq` counts from 0 within its event.

    `size` is the JPEG's length in bytes, `width` and `height` are in pixels, `sha256` is its hex digest. In a
    fleet, `worker` captured it under the lease `epoch`; both are None without a fleet.
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
        """The id by which subscribers drop repeats."""
        return f"{self.event_id}-{self.seq:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A motion frame that the service accepts: once its commit is on the disk, it is never lost."""

    info: FrameInfo
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFrame:
    """A record that the store has confirmed, as it is announced.

    `delayed`: older than `spool.delayed_after`, or accepted in an earlier run. `url` is a presigned GET link.
    `writer` is the id of the spool that accepted it, `no` the number of its event within that writer. Both
    are None if it was stored before numbers existed; `no` is also None for a frame without an event.
    """

    info: FrameInfo
    bucket: str
    etag: str
    stored_at: datetime
    delayed: bool = False
    url: str | None = None
    writer: str | None = None
    no: int | None = None
