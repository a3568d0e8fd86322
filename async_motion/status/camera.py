"""One camera's figures, and its state payload. No loop or clock: times are passed in."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from async_motion.core import payloads
from async_motion.core.model import CameraStatus, Detection, SceneChange

SCHEMA: Final = "async_motion.camera_state/1"

RATE_WINDOW_TICKS = 15
"""The frame rate is a mean over this many ticks."""
LATENCIES = 32
"""The upload latency is the median of this many frames."""
DROPS_EVERY_S = 60.0
"""Lost frames are logged at most this often."""


@dataclass(slots=True, kw_only=True)
class CameraState:
    """One camera's figures. `zones` maps each zone to whether something moves in it."""

    zones: dict[str, bool]
    online: bool = False
    seen: bool = False
    """Whether it has been online, or the service has stopped."""
    detecting: bool = True
    trouble: str | None = None
    """Why it is offline."""
    ailment: str | None = None
    """What is wrong with its image while it is online."""
    motion: bool = False
    frames: int = 0
    motion_frames: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """Judged frames by the reason of their verdict."""
    changes: Counter[str] = field(default_factory=Counter)
    """Changes of the whole scene by kind."""
    last_change: tuple[SceneChange, datetime] | None = None
    noise: float | None = None
    """The noise of the last judged frame, in grey levels."""
    stored: int = 0
    events: int = 0
    day: date | None = None
    events_today: int = 0
    last_motion: datetime | None = None
    """During motion, when it began; afterwards, when it was last seen."""
    latest_motion_frame: datetime | None = None
    peak: float = 0.0
    """Highest score of a moving frame since the last state."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Frames that were lost, by reason; `drops` adds those of the current capture."""
    capture: Callable[[], Mapping[str, int]] = dict
    """Returns the capture's counters."""
    drops_said: int = 0
    drops_said_at: float = float("-inf")
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    rate: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_WINDOW_TICKS + 1))
    """(monotonic, frames) at each tick."""

    @property
    def problem(self) -> str | None:
        return self.ailment if self.online else self.trouble

    @property
    def status(self) -> CameraStatus:
        if not self.online:
            return CameraStatus.OFFLINE if self.seen or self.trouble else CameraStatus.STARTING
        return CameraStatus.WATCHING if self.detecting else CameraStatus.PAUSED

    def goes_online(self, monotonic: float) -> None:
        """Record that the camera delivers frames; the frame rate restarts."""
        self.online, self.seen, self.trouble = True, True, None
        self.rate.clear()
        self.rate.append((monotonic, self.frames))

    def goes_offline(self, problem: str | None) -> None:
        """Record that the camera is offline, and why."""
        self.online, self.seen, self.trouble, self.ailment = False, self.seen or self.online, problem, None

    def judged(self, detection: Detection, now: datetime) -> None:
        """Count one judged frame."""
        self.frames += 1
        self.verdicts[detection.reason.value] += 1
        self.noise = detection.noise
        if detection.motion:
            self.motion_frames += 1
            self.peak = max(self.peak, detection.score)
            self.latest_motion_frame = now

    def scene_changes(self, kind: SceneChange, now: datetime) -> None:
        """Record a change of the whole scene."""
        self.changes[kind.value] += 1
        self.last_change = (kind, now)

    def moves(self, on: bool, now: datetime) -> None:
        """Record that motion began or ended."""
        self.motion = on
        self.last_motion = now if on else self.latest_motion_frame or self.last_motion

    def roll_day(self, today: date) -> None:
        """Restart the day's count on a new day."""
        if self.day != today:
            self.day, self.events_today = today, 0

    def tick(self, monotonic: float) -> None:
        """Take a sample for the frame rate."""
        self.rate.append((monotonic, self.frames))

    def fps(self, monotonic: float) -> float:
        """Return the recent rate of judged frames, in frames per second."""
        if not self.online or not self.rate:
            return 0.0
        since, frames = self.rate[0]
        return (self.frames - frames) / (monotonic - since) if monotonic > since else 0.0

    def follow(self, capture: Callable[[], Mapping[str, int]]) -> None:
        """Count another capture's frames from now on; the losses of the last one stay counted."""
        if capture != self.capture:  # the controls of a running camera may be handed over again
            self.dropped, self.capture = self.drops(), capture

    def drops(self) -> Counter[str]:
        """Return the frames that were lost before the spool accepted them, by reason."""
        capture = self.capture()
        lost = {"too_slow": capture.get("dropped", 0), "corrupt": capture.get("corrupt", 0)}
        return +(self.dropped + Counter(lost))

    def new_drops(self, monotonic: float) -> int:
        """Return how many frames were lost since the last log line; 0 within `DROPS_EVERY_S` of it."""
        total = self.drops().total()
        if total == self.drops_said or monotonic - self.drops_said_at < DROPS_EVERY_S:
            return 0
        new, self.drops_said, self.drops_said_at = total - self.drops_said, total, monotonic
        return new

    def to_json(self, monotonic: float) -> dict[str, Any]:
        """Return the payload of `{base}/{camera}/state`."""
        drops = self.drops()
        return {
            "schema": SCHEMA,
            "status": self.status.value,
            "problem": self.problem,
            "fps": round(self.fps(monotonic), 1),
            "score": round(self.peak, 6),
            "last_motion": payloads.iso(self.last_motion) if self.last_motion else None,
            "events_today": self.events_today,
            "events": self.events,
            "frames": self.frames,
            "motion_frames": self.motion_frames,
            "verdicts": dict(self.verdicts),
            "noise": round(self.noise, 2) if self.noise is not None else None,
            "scene_changes": dict(self.changes),
            "last_scene_change": (
                {"kind": self.last_change[0].value, "at": payloads.iso(self.last_change[1])}
                if self.last_change
                else None
            ),
            "stored": self.stored,
            "dropped": dict(drops),
            "dropped_total": drops.total(),
            "capture": dict(self.capture()),
            "upload_latency_s": round(statistics.median(self.latencies_s), 3) if self.latencies_s else None,
        }

    def day_to_json(self) -> dict[str, Any]:
        """Return the day's figures, to be remembered."""
        return {
            "day": self.day.isoformat() if self.day else None,
            "events": self.events_today,
            "last_motion": payloads.iso(self.last_motion) if self.last_motion else None,
        }

    def recall_day(self, remembered: Mapping[str, Any]) -> None:
        """Restore the figures that `day_to_json` returned in an earlier run; ignore unreadable ones."""
        try:
            if remembered.get("last_motion") is not None:
                self.last_motion = payloads.parse_iso(str(remembered["last_motion"]))
            self.day = date.fromisoformat(str(remembered["day"]))
            self.events_today = max(0, int(remembered["events"]))
        except (KeyError, ValueError, TypeError, OverflowError):
            self.day, self.events_today = None, 0
