"""Detections in, event phases out: when motion becomes an event, and when it is over.

    verdicts   . . M . M M M . . . . . . . . . . .
                   │   └ confirmed (2 of 3)      └ quiet for the off-delay
    event          └───────── started_at ──────── ended_at

The rules use `monotonic` only (`captured_at` is a label, and may jump):

- *Debounce.* A frame with motion starts an event when at least M of the last N frames had motion. Of frames
  `gap_s > CONFIRM_STEP_S` apart, only `1 + floor((M - 1) * CONFIRM_STEP_S / gap_s)` are needed. Otherwise a
  camera that is judged every few seconds would never confirm a person who walks past.
- *Hold-back.* Frames that waited for the confirmation belong to the event: it starts at the first of them. A
  scene change, or a detector that learns again, clears them: the apparent motion was its beginning.
- *Off-delay.* The event ends QUIET at the first still frame that comes `off_delay_s` after the last motion.
- *Silence.* A gap without frames is not known to be quiet. Motion before and after a gap longer than both the
  off-delay and SILENCE_S makes two events; `tick` ends the first during the gap.
- *Maximum length.* The event is cut; a cut at a frame with motion starts the next event with that frame.
- *Cool-down.* After an event has ended by itself, no other starts for `cool_down_s`.
- *Zones.* Within an event a zone is ON from its first motion until it has been still for the off-delay.

Invariants, for every input: start and end alternate, every start has its end once `close` was called, a zone
is ON only within an event, and no duration is negative: `ended_at` is `started_at` plus monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from async_motion.core.model import Detection, EndReason, EventPhase, MotionEvent, Phase, Reason
from async_motion.core.options import CONFIRM, COOL_DOWN_S, MAX_LENGTH_S, OFF_DELAY_S

CONFIRM_STEP_S = 0.5
"""Frames up to this far apart are counted; further apart, the time between them counts."""

GAPS = 5
"""Gaps between frames by which a slow camera is told."""

SILENCE_S = 5.0
"""A gap up to this is a slow camera, not a silence: with keyframes only, frames come every few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerSettings:
    """When an event starts and ends. `confirm` is (M, N): motion in M of the last N frames, 1 <= M <= N.

    Raises ValueError for values outside their range.
    """

    confirm: tuple[int, int] = CONFIRM
    off_delay_s: float = OFF_DELAY_S
    max_length_s: float = MAX_LENGTH_S
    cool_down_s: float = COOL_DOWN_S

    def __post_init__(self) -> None:
        needed, of = self.confirm
        if not 1 <= needed <= of:
            raise ValueError(f"confirm: {needed}/{of}: expected M/N with 1 <= M <= N")
        if self.off_delay_s < 0 or self.cool_down_s < 0:
            raise ValueError("off_delay and cool_down: expected 0 or more")
        if self.max_length_s <= 0:
            raise ValueError("max_length: expected more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneChange:
    """Motion in a zone has started or ended."""

    zone: str
    on: bool


Change = EventPhase | ZoneChange


@dataclass(frozen=True, slots=True)
class _Seen:
    """One frame with motion, as the debounce remembers it."""

    captured_at: datetime
    monotonic: float
    detection: Detection


class Tracker:
    """Follow one camera. `make_id` makes a new id, different on each call, from the event's start.

    `worker` and `epoch` are those of its events in a fleet.
    """

    def __init__(
        self,
        settings: TrackerSettings,
        *,
        instance: str,
        camera: str,
        make_id: Callable[[datetime], str],
        worker: str | None = None,
        epoch: int | None = None,
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._worker, self._epoch = worker, epoch
        self._camera = camera
        self._make_id = make_id
        self._now = float("-inf")
        self._newest = float("-inf")
        """The time of the last frame; `_now` also advances between frames."""
        self._window: deque[_Seen | None] = deque(maxlen=settings.confirm[1])
        """The last N frames; None for those without motion."""
        self._gaps: deque[float] = deque(maxlen=GAPS)
        """The seconds before each of the last frames."""
        self._event: MotionEvent | None = None
        self._started = 0.0
        self._last_motion = 0.0
        self._not_before = float("-inf")
        self._moved: dict[str, float] = {}
        """The zones that are ON, with the time of their last motion."""
        self._on: tuple[str, ...] = ()
        """The zones that were reported as ON."""

    def reconfigure(self, settings: TrackerSettings) -> None:
        """Apply other settings; an open event continues, under the new settings."""
        self._settings = settings
        self._window = deque(self._window, maxlen=settings.confirm[1])

    @property
    def event(self) -> MotionEvent | None:
        """The open event so far; None without one."""
        return self._event

    @property
    def started(self) -> float | None:
        """The monotonic time at which the open event began."""
        return self._started if self._event is not None else None

    @property
    def held_since(self) -> float | None:
        """The monotonic time of the first frame of an event if it were confirmed now."""
        held = self._held()
        return held[0].monotonic if held and self._event is None else None

    def update(self, captured_at: datetime, monotonic: float, detection: Detection) -> list[Change]:
        """Take the verdict on the next frame; return what changed, in order.

        A `monotonic` that runs backwards counts as unchanged.
        """
        self._advance(monotonic)
        now = self._now
        self._gaps.append(now - self._newest)
        self._newest = now
        if detection.reason in (Reason.SCENE_CHANGE, Reason.LEARNING):
            self._window.clear()
        seen = _Seen(captured_at, now, detection) if detection.motion else None
        self._window.append(seen)

        changes: list[Change] = []
        cut = False
        if self._event is not None:
            if self._is_over(now - self._last_motion, still=seen is None):
                changes.append(self._end(EndReason.QUIET))
            elif now - self._started >= self._settings.max_length_s:
                changes.append(self._end(EndReason.MAX_LENGTH))
                cut = True
            elif seen is not None:
                self._touch(seen)
        if self._event is None and seen is not None and (cut or self._is_confirmed()):
            held = self._held()
            if held:
                changes.append(self._start(held))
        changes.extend(self._zone_changes(still=True))
        return changes

    def tick(self, monotonic: float) -> list[Change]:
        """Advance the time to `monotonic` without a frame; return what changed."""
        self._advance(monotonic)
        changes: list[Change] = []
        if self._event is not None:
            if self._is_over(self._now - self._last_motion, still=False):
                changes.append(self._end(EndReason.QUIET))
            elif self._now - self._started >= self._settings.max_length_s:
                changes.append(self._end(EndReason.MAX_LENGTH))
        changes.extend(self._zone_changes(still=False))
        return changes

    def close(self, reason: EndReason) -> list[Change]:
        """End an open event for `reason`, at the time of the last frame, and reset the tracker.

        No cool-down follows.
        """
        changes: list[Change] = []
        if self._event is not None:
            changes.append(self._end(reason))
        self._window.clear()
        self._gaps.clear()
        self._now = self._newest = self._not_before = float("-inf")
        changes.extend(self._zone_changes(still=False))
        return changes

    def _advance(self, monotonic: float) -> None:
        self._now = max(self._now, monotonic)

    def _is_over(self, since_s: float, *, still: bool) -> bool:
        """Return whether motion last seen `since_s` ago is over. `still`: a frame without motion has come."""
        off_delay_s = self._settings.off_delay_s
        return since_s >= off_delay_s if still else since_s > max(off_delay_s, SILENCE_S)

    def _is_confirmed(self) -> bool:
        needed = self._settings.confirm[0]
        # The shortest gap but one: a few dropped frames do not make a slow camera, and two keyframes where a
        # stream was joined do not make a fast one. The first frame has no gap.
        gaps = sorted(gap for gap in self._gaps if gap < float("inf"))
        gap_s = gaps[1 if len(gaps) == GAPS else 0] if gaps else 0.0
        if gap_s > CONFIRM_STEP_S:
            needed = 1 + int((needed - 1) * CONFIRM_STEP_S / gap_s)
        return sum(seen is not None for seen in self._window) >= needed

    def _held(self) -> list[_Seen]:
        """Return the frames with motion that belong to an event that starts now.

        Older ones only count as evidence, so that a camera with one frame a minute can confirm an event.
        """
        oldest = max(self._not_before, self._now - max(self._settings.off_delay_s, SILENCE_S))
        return [seen for seen in self._window if seen is not None and seen.monotonic >= oldest]

    def _start(self, held: list[_Seen]) -> EventPhase:
        first = held[0]
        self._started = first.monotonic
        self._event = MotionEvent(
            event_id=self._make_id(first.captured_at),
            instance=self._instance,
            camera=self._camera,
            started_at=first.captured_at,
            worker=self._worker,
            epoch=self._epoch,
        )
        for seen in held:
            self._touch(seen)
        return EventPhase(phase=Phase.START, event=self._event)

    def _touch(self, seen: _Seen) -> None:
        assert self._event is not None
        new = [zone for zone in seen.detection.zones if zone not in self._event.zones]
        self._moved.update(dict.fromkeys(seen.detection.zones, seen.monotonic))
        self._event = replace(
            self._event,
            peak_score=max(self._event.peak_score, seen.detection.score),
            zones=(*self._event.zones, *new),
        )
        self._last_motion = seen.monotonic

    def _end(self, reason: EndReason) -> EventPhase:
        assert self._event is not None
        until = self._now
        if reason is EndReason.QUIET:
            until = min(until, self._last_motion + self._settings.off_delay_s)
        elif reason is EndReason.MAX_LENGTH:
            until = min(until, self._started + self._settings.max_length_s)
        length = timedelta(seconds=until - self._started)
        ended = replace(self._event, ended_at=self._event.started_at + length, end_reason=reason)
        self._event = None
        self._not_before = self._now + self._settings.cool_down_s
        return EventPhase(phase=Phase.END, event=ended)

    def _zone_changes(self, *, still: bool) -> list[Change]:
        """Return the zones that changed; all are OFF without an event."""
        if self._event is None:
            self._moved.clear()
        for zone, last in list(self._moved.items()):
            if last < self._now and self._is_over(self._now - last, still=still):
                del self._moved[zone]
        off: list[Change] = [ZoneChange(zone=zone, on=False) for zone in self._on if zone not in self._moved]
        on: list[Change] = [ZoneChange(zone=zone, on=True) for zone in self._moved if zone not in self._on]
        self._on = tuple(self._moved)
        return off + on
