"""Live view: judged frames, scores and events, for the viewers of the pages.

- A frame is encoded only when a viewer requests it, once for each width, in an executor.
- The newest frame wins: a slow viewer skips frames and delays nothing.
- At most `max_viewers` streams of JPEGs are open, and four times as many listeners wait for news.
- News are numbered and the last `KEPT` are kept: a listener asks for those after its cursor. So a stream of
  them and repeated requests are the same to it, and a connection that breaks loses none.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from async_motion.core import payloads
from async_motion.core.model import Detection, Frame, MotionEvent
from async_motion.errors import CameraUnavailable, ImageError

SCORES: Final = 600
"""Scores kept for each camera: two minutes at 5 fps."""
WIDTHS: Final = (320, 640, 960, 1280)
"""Widths in pixels. Requests are rounded up to one of these, to bound the number of encodings."""
DEFAULT_WIDTH: Final = 960
MIN_GAP_S: Final = 0.1
"""Minimum interval between two JPEGs of a stream."""
KEEPALIVE_S: Final = 5.0
"""Interval at which an idle stream checks whether its viewer is still connected."""
KEPT: Final = 64
"""News that are kept for listeners; a slow one loses the oldest."""

_CURSOR: Final = re.compile(r"([0-9a-f]{6})-(\d{1,15})-(\d{1,15})")

Encode = Callable[[Frame, int], bytes]
"""(frame, width) -> JPEG at most that wide. Blocks. Raises ImageError, CameraUnavailable."""


class Layers(Protocol):
    """Renders a camera's detector state as JPEGs."""

    async def __call__(self, camera: str, layer: str) -> bytes | None:
        """Return a JPEG of `layer`: background, noise or unrest; None if there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJpeg:
    """A judged frame as JPEG. `tag` identifies the frame."""

    jpeg: bytes
    tag: str
    captured_at: datetime


@dataclass(slots=True)
class _Camera:
    """The live state of one camera. `number` counts its judged frames."""

    number: int = 0
    newest: tuple[Frame, Detection] | None = None
    motion: bool = False
    scores: deque[tuple[float, float, bool, str]] = field(default_factory=lambda: deque(maxlen=SCORES))
    encoded: dict[int, LiveJpeg] = field(default_factory=dict)
    encoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class TooManyViewers(Exception):
    """All streams are taken."""


class Live:
    """Receives the cameras' frames and events, and serves them to viewers."""

    def __init__(
        self, *, encode: Encode, executor: Executor, max_viewers: int, layers: Layers | None = None
    ) -> None:
        self._encode = encode
        self._executor = executor
        self.max_viewers = max_viewers
        self._layers = layers
        self._cameras: dict[str, _Camera] = {}
        self._run = secrets.token_hex(3)
        """Random part of the tags: a restart counts frames from 1 again."""
        self._streams = 0
        self._listeners = 0
        self._recent: deque[tuple[int, str, dict[str, Any]]] = deque(maxlen=KEPT)
        self._number = 0
        self._news = asyncio.Event()

    # ---- from the cameras: these return at once ----

    def judged(self, camera: str, frame: Frame, detection: Detection) -> None:
        """Keep a judged frame as the newest, and its score."""
        state = self._camera(camera)
        state.number += 1
        state.newest = (frame, detection)
        stamp = frame.captured_at.timestamp()
        state.scores.append((stamp, detection.score, detection.motion, detection.reason.value))
        state.arrived.set()
        state.arrived = asyncio.Event()

    def motion(self, camera: str, on: bool) -> None:
        """Note that motion began or ended."""
        self._camera(camera).motion = on
        self._tell("motion", {"camera": camera, "on": on})

    def offline(self, camera: str) -> None:
        """Release the newest frame of a camera that is offline. The last JPEGs are kept."""
        self._camera(camera).newest = None
        self._tell("status", {"camera": camera})

    def online(self, camera: str) -> None:
        """Note that the camera delivers frames."""
        self._tell("status", {"camera": camera})

    def event_started(self, event: MotionEvent) -> None:
        """Note that an event began."""
        self._tell("event", {"phase": "start", **_event(event)})

    def event_ended(self, event: MotionEvent) -> None:
        """Note that an event ended."""
        self._tell("event", {"phase": "end", **_event(event)})

    def forget(self, camera: str) -> None:
        """Forget a camera that was removed."""
        self._cameras.pop(camera, None)

    # ---- for viewers ----

    def tag(self, camera: str) -> str | None:
        """Return the tag of the newest judged frame; None before the first."""
        state = self._cameras.get(camera)
        return f"{self._run}-{state.number}" if state is not None and state.number else None

    def in_motion(self, camera: str) -> bool:
        """Return whether the camera reports motion now."""
        state = self._cameras.get(camera)
        return state is not None and state.motion

    def scores(self, camera: str) -> list[tuple[float, float, bool, str]]:
        """Return the last scores, oldest first: (seconds since 1970, score, motion, reason)."""
        state = self._cameras.get(camera)
        return list(state.scores) if state is not None else []

    async def jpeg(self, camera: str, width: int = DEFAULT_WIDTH) -> LiveJpeg | None:
        """Return the newest judged frame, at most as wide as `width` rounded up to one of `WIDTHS`.

        None while there is none. Raises ImageError, CameraUnavailable.
        """
        width = next((one for one in WIDTHS if one >= width), WIDTHS[-1])
        state = self._cameras.get(camera)
        if state is None:
            return None
        async with state.encoding:
            newest, tag = state.newest, self.tag(camera)
            kept = state.encoded.get(width)
            if newest is None or tag is None or (kept is not None and kept.tag == tag):
                return kept
            frame, _ = newest
            loop = asyncio.get_running_loop()
            jpeg = await loop.run_in_executor(self._executor, self._encode, frame, width)
            kept = LiveJpeg(jpeg=jpeg, tag=tag, captured_at=frame.captured_at)
            state.encoded[width] = kept
        return kept

    async def layer(self, camera: str, layer: str) -> bytes | None:
        """Return a JPEG of the detector's state, as `Layers` does; None if there is none."""
        return await self._layers(camera, layer) if self._layers is not None else None

    async def jpegs(self, camera: str, width: int = DEFAULT_WIDTH) -> AsyncIterator[LiveJpeg | None]:
        """Yield each new judged frame; a slow consumer skips to the newest. Wrap in `viewer`.

        Yields None after `KEEPALIVE_S` without a new frame.
        """
        shown: str | None = None
        loop = asyncio.get_running_loop()
        while True:
            state = self._camera(camera)
            arrived, began = state.arrived, loop.time()
            try:
                newest = await self.jpeg(camera, width)
            except (ImageError, CameraUnavailable):
                newest = None
            if newest is not None and newest.tag != shown:
                shown = newest.tag
                yield newest
            if arrived is state.arrived:
                try:
                    async with asyncio.timeout(KEEPALIVE_S):
                        await arrived.wait()
                except TimeoutError:
                    yield None
            await asyncio.sleep(max(0.0, MIN_GAP_S - (loop.time() - began)))

    def now(self) -> str:
        """Return the cursor after which everything is new."""
        return f"{self._run}-{self._number}-0"

    async def news(
        self, after: str, camera: str | None, wait_s: float
    ) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        """Return the cursor of now, and the news after another: (name, JSON values), oldest first.

        Waits at most `wait_s` for the first. A cursor that is blank, or of another run, stands for now. With
        `camera`, its newest verdict is one of the news, if it was not returned before. Wrap in `listener`.
        """
        match = _CURSOR.fullmatch(after)
        known = match is not None and match[1] == self._run
        seen, judged = (int(match[2]), int(match[3])) if match is not None and known else (self._number, 0)
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            happened = [self._news]
            news = [(name, values) for number, name, values in self._recent if number > seen]
            if camera is not None:
                state = self._camera(camera)
                happened.append(state.arrived)
                if state.newest is not None and state.number != judged:
                    judged = state.number
                    news.append(("judged", verdict(*state.newest)))
            left = deadline - asyncio.get_running_loop().time()
            if news or left <= 0:
                return f"{self._run}-{self._number}-{judged}", news
            await _any(happened, left)

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Hold one of the streams. Raises TooManyViewers."""
        if self._streams >= self.max_viewers:
            raise TooManyViewers
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextmanager
    def listener(self) -> Iterator[None]:
        """Hold one of the places to wait for news, four for each of `max_viewers`. Raises TooManyViewers."""
        if self._listeners >= 4 * self.max_viewers:
            raise TooManyViewers
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    def _camera(self, camera: str) -> _Camera:
        return self._cameras.setdefault(camera, _Camera())

    def _tell(self, name: str, values: Mapping[str, Any]) -> None:
        self._number += 1
        self._recent.append((self._number, name, dict(values)))
        self._news.set()
        self._news = asyncio.Event()


async def _any(events: Sequence[asyncio.Event], timeout_s: float) -> None:
    """Wait until one of the events is set, at most `timeout_s`."""
    tasks = [asyncio.create_task(event.wait(), name="web[news]") for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def verdict(frame: Frame, detection: Detection) -> dict[str, Any]:
    """Return the overlay of a judged frame as JSON values; boxes are x, y, width, height, 0..1."""
    return {
        "at": payloads.iso(frame.captured_at),
        "score": round(detection.score, 6),
        "motion": detection.motion,
        "reason": detection.reason.value,
        "boxes": [[round(side, 4) for side in box] for box in _boxes(detection)],
        "zones": list(detection.zones),
        "scene_change": detection.scene_change.value if detection.scene_change else None,
        "noise": round(detection.noise, 2),
    }


def _boxes(detection: Detection) -> Iterator[tuple[float, float, float, float]]:
    for box in detection.boxes:
        yield (box.x, box.y, box.width, box.height)


def _event(event: MotionEvent) -> dict[str, Any]:
    return {
        "camera": event.camera,
        "event_id": event.event_id,
        "started_at": payloads.iso(event.started_at),
        "ended_at": payloads.iso(event.ended_at) if event.ended_at else None,
        "peak_score": round(event.peak_score, 6),
        "zones": list(event.zones),
        "reason": event.end_reason.value if event.end_reason else None,
    }
