"""Write a clip of each event with an overlay of the detections: boxes, zones, score, time.

An event is known only once it has ended, so the recording is read a second time, at its own frame rate.
Each frame shows the boxes of the latest judged frame before it.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from async_motion.capture import CaptureSpec, open_source
from async_motion.core.model import Detection, Frame, FrameInfo, MotionEvent, Reason
from async_motion.retrieval.clips import ClipWriter
from async_motion.retrieval.images import Polygons, annotate

BEFORE = timedelta(seconds=1)
"""Lead-in before an event."""
VIDEO = "overlay.mp4"
LAST_S = 0.1
_STILL = Detection(motion=False, reason=Reason.STILL)


class OverlayNotes:
    """The detections of a recording by time; runs of frames with nothing seen are stored as one entry."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._seen: list[Detection | None] = []

    def and_then(self, viewer: Callable[[Frame, Detection], None]) -> Callable[[Frame, Detection], None]:
        """Return a viewer that notes each detection, then calls `viewer`."""

        def view(frame: Frame, detection: Detection) -> None:
            self.note(frame.monotonic, detection)
            viewer(frame, detection)

        return view

    def note(self, monotonic: float, detection: Detection) -> None:
        """Add the detection of the next frame; `monotonic` is in seconds."""
        seen = detection if detection.boxes or detection.motion else None
        if seen is not None or (self._seen and self._seen[-1] is not None):
            self._times.append(monotonic)
            self._seen.append(seen)

    def at(self, monotonic: float) -> Detection | None:
        """Return the detection in force at a time; None if nothing was seen."""
        place = bisect_right(self._times, monotonic)
        return self._seen[place - 1] if place else None


async def write_overlays(
    read: CaptureSpec, events: Sequence[MotionEvent], notes: OverlayNotes, *, zones: Polygons, out: Path
) -> None:
    """Write `{out}/{camera}/{event_id}/overlay.mp4` for each event.

    `read` is the spec with which the recording was scanned; `events` have ended and are in order. Raises
    CameraUnavailable, ImageError, OSError.
    """
    # A smooth clip needs every frame, fully decoded.
    spec = replace(read, fps=math.inf, decode="all")
    waiting = deque(events)
    with ExitStack() as open_clip:
        clip: ClipWriter | None = None
        first = 0.0
        async with aclosing(open_source(spec)) as source, aclosing(source.frames()) as frames:
            async for frame in frames:
                while waiting and frame.captured_at > _end_of(waiting[0]):
                    waiting.popleft()
                    if clip is not None:
                        await asyncio.to_thread(clip.finish, LAST_S)
                        open_clip.close()
                        clip = None
                if not waiting:
                    return
                event = waiting[0]
                if frame.captured_at < event.started_at - BEFORE:
                    continue
                if clip is None:
                    folder = out / event.camera / event.event_id
                    folder.mkdir(parents=True, exist_ok=True)
                    clip = open_clip.enter_context(ClipWriter(folder / VIDEO, threads=1))
                    first = frame.monotonic
                seen = notes.at(frame.monotonic)
                await asyncio.to_thread(_add, clip, frame, seen, zones, frame.monotonic - first)
        if clip is not None:
            await asyncio.to_thread(clip.finish, LAST_S)


def _end_of(event: MotionEvent) -> datetime:
    assert event.ended_at is not None
    return event.ended_at


def _add(clip: ClipWriter, frame: Frame, seen: Detection | None, zones: Polygons, at_s: float) -> None:
    """Annotate a frame and add it to the clip, `at_s` from its start. Blocks."""
    detection = seen or _STILL
    info = FrameInfo(
        instance="",
        camera=frame.camera,
        event_id="",
        seq=0,
        captured_at=frame.captured_at,
        object_key="",
        sha256="",
        size=0,
        width=0,
        height=0,
        score=detection.score,
        boxes=detection.boxes,
        zones=detection.zones,
    )
    clip.add(annotate(frame.bgr(), info, zones), at_s)
