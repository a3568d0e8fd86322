"""Frames to events: judge each frame, follow the event, and choose the stills.

- Frames are judged in the order of capture.
- Motion is reported as soon as it is known, before any image is encoded.
- Nothing here waits for the encoder or the disk: chosen frames go into the recorder's backlog.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from async_motion.camera.detector_host import DetectorHost
from async_motion.camera.queues import Job
from async_motion.camera.spec import UnitSettings
from async_motion.core import names
from async_motion.core.events.pre_roll import Judged, PreRoll
from async_motion.core.events.scene_changes import SceneChanges
from async_motion.core.events.selection import Choice, Selection
from async_motion.core.events.tracker import Change, Tracker, ZoneChange
from async_motion.core.model import Detection, EndReason, EventPhase, Frame, MotionEvent, Phase, SceneChange

log = logging.getLogger(__name__)


class EventObserver(Protocol):
    """Receives verdicts and events. Every call is synchronous and must not block."""

    def motion(self, camera: str, on: bool) -> None: ...
    def zone_motion(self, camera: str, zone: str, on: bool) -> None: ...
    def detected(self, camera: str, detection: Detection) -> None: ...
    def scene_changed(self, camera: str, kind: SceneChange) -> None: ...
    def event_started(self, event: MotionEvent) -> None: ...
    def event_ended(self, event: MotionEvent) -> None: ...
    def problem(self, camera: str, problem: str | None) -> None: ...


class Watcher:
    """Turn one camera's frames into events and jobs for its recorder.

    `record` queues a job and never waits. `on_judged` is called with each frame and its verdict. `draw24`
    returns 24 random bits for an event's id. `clock` is the monotonic clock: it matters only while no frames
    come.
    """

    def __init__(
        self,
        settings: UnitSettings,
        *,
        host: DetectorHost,
        observer: EventObserver,
        record: Callable[[Job], None],
        on_judged: Callable[[Frame, Detection], None],
        draw24: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._camera = settings.camera
        self._host = host
        self._observer = observer
        self._record = record
        self._on_judged = on_judged
        self._draw24 = draw24
        self._clock = clock

        self.detecting = settings.detecting
        self._tracker = Tracker(
            settings.tracking,
            instance=settings.instance,
            camera=settings.camera,
            make_id=self.new_id,
            worker=settings.worker,
            epoch=settings.epoch,
        )
        self._scene_changes = SceneChanges()
        self._pre_roll = PreRoll(seconds=settings.pre_s, max_bytes=settings.pre_bytes)
        self._selection: Selection | None = None
        self._motion_on = False
        self._problem: str | None = None
        self._judging = False
        self._judged: Judged | None = None
        self._last_monotonic = math.inf
        """The last judged frame's time; infinite before the first. `_judged_at` is the time by `clock`."""
        self._judged_at = 0.0
        self._resumed = True
        """No frame was judged since the connection began or detection was switched on."""

    def begin(self) -> None:
        """Start a connection. The learned background survives; an open event has ended."""
        self._resumed = True

    async def judge(self, frame: Frame) -> None:
        """Judge the next frame; report what it changes."""
        self._judging = True
        try:
            away_s = frame.monotonic - self._last_monotonic if self._resumed else 0.0
            detection, problem = await self._host.judge(frame, detecting=self.detecting, away_s=away_s)
        finally:
            self._judging = False
        if problem != self._problem:
            self._problem = problem
            self._observer.problem(self._camera, problem)
        if detection is None or not self.detecting:
            return
        self._resumed = False
        self._judged = (frame, detection)
        self._last_monotonic = frame.monotonic
        self._judged_at = self._clock()
        self._on_judged(frame, detection)
        self._observer.detected(self._camera, detection)
        if (kind := self._scene_changes.update(detection)) is not None:
            log.info("%s: the scene has changed (%s): no motion", self._camera, kind)
            self._observer.scene_changed(self._camera, kind)
        self._follow(self._tracker.update(frame.captured_at, frame.monotonic, detection), frame, detection)

    def tick(self) -> None:
        """Let time pass while no frames come: an open event may end."""
        if not (self._judging or self._resumed):
            silent_s = self._clock() - self._judged_at
            self._report(self._tracker.tick(self._last_monotonic + silent_s))

    def end_event(self, reason: EndReason) -> None:
        """End an open event, and reset the tracker."""
        self._report(self._tracker.close(reason))
        self._pre_roll.clear()

    def leave(self) -> None:
        """Release all frames."""
        self._pre_roll.clear()
        self._judged = None

    def reconfigure(self, settings: UnitSettings) -> None:
        """Apply other settings. An open event continues, and keeps the policy that it began with."""
        self._settings = settings
        self._tracker.reconfigure(settings.tracking)
        self._pre_roll.resize(seconds=settings.pre_s, max_bytes=settings.pre_bytes)

    def switch(self, on: bool) -> None:
        """Switch detection; an open event ends at once."""
        if on != self.detecting:
            self.detecting = on
            self._resumed = True
            self.end_event(EndReason.DETECTION_OFF)

    def verdict_on(self, frame: Frame) -> Detection | None:
        """Return the verdict on `frame` if it is the last that was judged."""
        judged = self._judged
        return judged[1] if judged is not None and judged[0] is frame else None

    def new_id(self, started_at: datetime) -> str:
        """Return a new event id."""
        return names.event_id(started_at, self._draw24())

    def _follow(self, changes: list[Change], frame: Frame, detection: Detection) -> None:
        """Act on the tracker's changes for this frame."""
        self._report(changes)
        event = self._tracker.event
        if event is None:
            since = self._tracker.held_since
            self._pre_roll.add(frame, detection, since=frame.monotonic if since is None else since)
        elif self._selection is None:
            self._open(event, [*self._pre_roll.take(), (frame, detection)])
        else:
            choice = self._selection.choose(frame.monotonic, detection.score, motion=detection.motion)
            if choice is not Choice.SKIP:
                hold = choice is Choice.HOLD
                self._record(Job(event=event, stills=[(frame, detection)], hold=hold))

    def _report(self, changes: list[Change]) -> None:
        """Report what changed, motion first: an automation should not wait for an image."""
        on = self._tracker.event is not None
        if on != self._motion_on:
            self._motion_on = on
            self._observer.motion(self._camera, on)
        for change in changes:
            if isinstance(change, ZoneChange):
                self._observer.zone_motion(self._camera, change.zone, change.on)
                continue
            event = change.event
            if change.phase is Phase.START:
                log.info(
                    "%s: motion started, score %.4f, event %s", self._camera, event.peak_score, event.event_id
                )
                self._observer.event_started(event)
            else:
                assert event.ended_at is not None
                length_s = (event.ended_at - event.started_at).total_seconds()
                log.info(
                    "%s: motion ended after %.1f s (%s), event %s",
                    self._camera,
                    length_s,
                    event.end_reason,
                    event.event_id,
                )
                self._observer.event_ended(event)
                self._selection = None
                self._record(Job(event=event, phase=change))

    def _open(self, event: MotionEvent, judged: list[Judged]) -> None:
        """Choose from the frames that led to an event, the newest last, and queue its start."""
        started = self._tracker.started
        assert started is not None
        earliest = started - self._settings.pre_s
        before = [one for one in judged if earliest <= one[0].monotonic < started]
        # The byte limit may have dropped the held frames; the newest has motion and is at hand.
        after = [one for one in judged if one[0].monotonic >= started] or judged[-1:]
        opening = next(frame for frame, detection in after if detection.motion)
        selection = self._selection = Selection(self._settings.policy, opening.monotonic)

        kept = [before[place] for place in selection.pre_roll([frame.monotonic for frame, _ in before])]
        before_phase = len(kept) + 1
        held: Judged | None = None
        for frame, detection in after:
            choice = selection.choose(frame.monotonic, detection.score, motion=detection.motion)
            if choice is Choice.KEEP:
                kept.append((frame, detection))
            elif choice is Choice.HOLD:
                held = (frame, detection)
        phase = EventPhase(phase=Phase.START, event=event)
        self._record(Job(event=event, stills=kept, phase=phase, before_phase=before_phase))
        if held is not None:
            self._record(Job(event=event, stills=[held], hold=True))
